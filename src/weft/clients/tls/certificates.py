"""Certificates in words, and why one is not trusted.

| OpenSSL's code                          | in words                                                             |
|-----------------------------------------|----------------------------------------------------------------------|
| 62, 64 name, address                    | which names it is for, and which was expected                        |
| 10 expired, 9 not yet valid             | which certificate of the chain, and since or until when              |
| 18 self-signed                          | nobody vouches for it but itself                                     |
| 19 self-signed in chain                 | the root that vouches for it, which nobody here knows                |
| 2, 20, 21 issuer not found              | the issuer, which nobody here knows, or whose certificate is missing |
| 24, 79 invalid CA                       | whose issuer may issue none                                          |
| 26 purpose                              | that it is not for servers                                           |
| 66, 67 key too small, 68 hash too weak  | just that                                                            |
| any other                               | OpenSSL's words                                                      |

A certificate comes from the other side, and one that can't be read is shown as such.

Source: RFC 5280; openssl-verify(1), "Diagnostics".
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256, Hash

from weft.clients.tls.shaken import Certificate, short_name

_SHOWN_NAMES: Final = 5
"""Of those that a certificate is for; a large site has hundreds."""


def chain_of(tls: ssl.SSLObject, *, verified: bool) -> list[bytes]:
    """The certificates of the other side, the own one first.

    Args:
        tls: after its handshake.
        verified: the chain that was found to a root, and not the one that was sent.

    Returns:
        Each as DER; none if it showed none.
    """
    name = f"get_{'' if verified else 'un'}verified_chain"
    if (public := getattr(tls, name, None)) is not None:  # from Python 3.13 on
        return list(public())
    inner: Any = tls._sslobj  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in getattr(inner, name)() or ()]


def decode_certificate(der: bytes) -> Certificate:
    """What a certificate says.

    Args:
        der: X.509.
    """
    digest = Hash(SHA256())
    digest.update(der)
    sha256 = digest.finalize().hex(":").upper()
    try:
        read = x509.load_der_x509_certificate(der)
        return Certificate(
            subject=read.subject.rfc4514_string(),
            issuer=read.issuer.rfc4514_string(),
            names=_names(read),
            not_before=read.not_valid_before_utc,
            not_after=read.not_valid_after_utc,
            key=_key(read),
            sha256=sha256,
        )
    except Exception:
        # The parser raises what it likes on what others made up.
        return Certificate(
            subject="(unreadable)", issuer="", names=[], not_before=None, not_after=None, key="", sha256=sha256
        )


def why_not_trusted(error: ssl.SSLCertVerificationError, chain: Sequence[Certificate], name: str) -> str:
    """Why a certificate was not trusted, in one line.

    Args:
        error: what the handshake said.
        chain: that was sent.
        name: that was expected.
    """
    code = getattr(error, "verify_code", None)
    words = getattr(error, "verify_message", None) or getattr(error, "reason", None) or "it could not be verified"
    explain = _REASONS.get(code) if code is not None and chain else None
    return explain(chain, name) if explain is not None else words.replace("_", " ").lower()


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
        *names.get_values_for_type(x509.RFC822Name),
        *names.get_values_for_type(x509.UniformResourceIdentifier),
    ]


def _key(certificate: x509.Certificate) -> str:
    match certificate.public_key():
        case ec.EllipticCurvePublicKey() as key:
            return f"EC {key.curve.name}"
        case rsa.RSAPublicKey() as key:
            return f"RSA {key.key_size}"
        case dsa.DSAPublicKey() as key:
            return f"DSA {key.key_size}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
        case other:
            return type(other).__name__


def _other_name(chain: Sequence[Certificate], name: str) -> str:
    names = chain[0].names
    if not names:
        return f"it names nobody whom it is for, and {name} was expected"
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return f"it is for {', '.join(names[:_SHOWN_NAMES])}{more}, and not for {name}"


def _expired(chain: Sequence[Certificate], _: str) -> str:
    now = datetime.now(UTC)
    for certificate in chain:
        if certificate.not_after is not None and certificate.not_after < now:
            return f"{_which(chain, certificate)} expired on {certificate.not_after:%Y-%m-%d %H:%M} UTC"
    return "the root that it leads to has expired"


def _not_yet(chain: Sequence[Certificate], _: str) -> str:
    now = datetime.now(UTC)
    for certificate in chain:
        if certificate.not_before is not None and certificate.not_before > now:
            which = _which(chain, certificate)
            return f"{which} is not valid before {certificate.not_before:%Y-%m-%d %H:%M} UTC; is the clock right?"
    return "the root that it leads to is not valid yet; is the clock right?"


def _which(chain: Sequence[Certificate], certificate: Certificate) -> str:
    return "it" if certificate is chain[0] else f"{certificate.title}, which vouches for it,"


def _self_signed(_: Sequence[Certificate], __: str) -> str:
    return "it is self-signed: nobody vouches for it but itself"


def _unknown_root(chain: Sequence[Certificate], _: str) -> str:
    return f"its root is not known here: {chain[-1].title}"


def _unknown_issuer(chain: Sequence[Certificate], _: str) -> str:
    return f"its issuer is not known here, or does not show its own certificate: {_issuer(chain[-1])}"


def _no_authority(chain: Sequence[Certificate], _: str) -> str:
    return f"who issued it may issue no certificates: {_issuer(chain[0])}"


def _issuer(certificate: Certificate) -> str:
    return short_name(certificate.issuer) or "without a name"


def _other_purpose(_: Sequence[Certificate], __: str) -> str:
    return "it is not for servers"


_REASONS: Final[dict[int, Callable[[Sequence[Certificate], str], str]]] = {
    **dict.fromkeys((62, 64), _other_name),
    10: _expired,
    9: _not_yet,
    18: _self_signed,
    19: _unknown_root,
    **dict.fromkeys((2, 20, 21), _unknown_issuer),
    **dict.fromkeys((24, 79), _no_authority),
    26: _other_purpose,
}
