"""TLS: contexts for either side, with the standard library's `ssl`; a connection takes one by `ssl=`.

| side   | versions | trusts                                                | has a certificate |
|--------|----------|-------------------------------------------------------|-------------------|
| client | 1.2, 1.3 | the system's roots, or those that are given; or anyone | if given          |
| server | 1.3      | anyone; or clients of the roots that are given        | yes               |

The suites of 1.3 are those of OpenSSL, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256 and TLS_AES_128_GCM_SHA256;
X25519 is its first offer for the key. A client sends the name that it expects (SNI), unless that is an address.

A client resumes: the next connection to a name begins with the ticket of the one before and needs no certificate then.
A ticket is good for one context, one name, and the kind of verification under which it was got.

Inside the network TLS adds nothing to who the other side is, which the tunnel has made sure of. It is for programs that
insist on it, and for what lies behind a peer.

Source: RFC 8446 sections 2.2, 4.6.1 (tickets), 9.1 (suites); RFC 6066 section 3 (SNI).
"""

from __future__ import annotations

import os
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from weft.clients.extras import extra
from weft.errors import UsageError

NAMES_KEPT: Final = 64
"""To so many names a client can resume."""

File = str | os.PathLike[str]


class Resuming(ssl.SSLContext):
    """A client's context that begins each connection with the ticket of the one before to that name."""

    _latest: OrderedDict[tuple[object, ...], ssl.SSLObject]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As `ssl.SSLContext` does it, with a session if there is one."""
        latest = self.__dict__.setdefault("_latest", OrderedDict())
        key = server_hostname, self.verify_mode, self.check_hostname
        if session is None and (before := latest.pop(key, None)) is not None:
            # Tickets come after the handshake, so what there is of them is known now at the earliest.
            session = _ticket_of(before)
        made = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        latest[key] = made
        if len(latest) > NAMES_KEPT:
            latest.popitem(last=False)
        return made


def _ticket_of(connection: ssl.SSLObject) -> ssl.SSLSession | None:
    try:
        session = connection.session
    except ValueError:
        # How OpenSSL says that the handshake broke off.
        return None
    return session if session is not None and session.has_ticket else None


def client_context(
    *,
    verify: bool = True,
    roots: File | None = None,
    certificate: File | None = None,
    key: File | None = None,
    alpn: Sequence[str] = (),
) -> ssl.SSLContext:
    """What a client uses.

    Args:
        verify: whether the server has to prove who it is.
        roots: file or directory of certificates (PEM) whom it trusts, in place of the system's.
        certificate: file with its own (PEM) and what lies between that and a root, for servers that ask for one.
        key: file with the certificate's private key; None if it is in the same file.
        alpn: protocols that it offers, the best first, such as `h2` and `http/1.1`.

    Raises:
        UsageError: a file holds something else, or truststore is not installed.
        OSError: a file can't be read.
    """
    context: ssl.SSLContext
    if verify and roots is None:
        with extra("http"):
            from weft.clients.tls.system_roots import SystemRoots
        context = SystemRoots(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = Resuming(ssl.PROTOCOL_TLS_CLIENT)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif roots is not None:
        _load_roots(context, roots)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        _load_certificate(context, certificate, key)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def server_context(
    certificate: File, key: File | None = None, *, clients: File | None = None, alpn: Sequence[str] = ()
) -> ssl.SSLContext:
    """What a server uses, which speaks TLS 1.3 and nothing older.

    Args:
        certificate: file with its own (PEM) and what lies between that and a root.
        key: file with the certificate's private key; None if it is in the same file.
        clients: file or directory of certificates (PEM) that clients' have to be issued by; None asks for none.
        alpn: protocols that it speaks, the best first.

    Raises:
        UsageError: a file holds something else.
        OSError: a file can't be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load_certificate(context, certificate, key)
    if clients is not None:
        _load_roots(context, clients)
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def _load_roots(context: ssl.SSLContext, roots: File) -> None:
    is_directory = Path(roots).is_dir()
    try:
        context.load_verify_locations(**{"capath" if is_directory else "cafile": str(roots)})
    except ssl.SSLError:
        raise UsageError(f"{roots}: holds no certificates (PEM)") from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(roots)) from None


def _load_certificate(context: ssl.SSLContext, certificate: File, key: File | None) -> None:
    for file in (certificate, key or certificate):
        # `ssl` does not say which of them it can't read.
        Path(file).open("rb").close()
    try:
        context.load_cert_chain(certificate, key, password=_refuse)
    except ssl.SSLError:
        where = f"{certificate} and {key}: are" if key is not None else f"{certificate}: is"
        raise UsageError(f"{where} no certificate with its private key (PEM)") from None


def _refuse() -> NoReturn:
    # OpenSSL would ask at the terminal.
    raise UsageError("the private key is encrypted; `openssl pkey -in KEY -out NEW` decrypts it")
