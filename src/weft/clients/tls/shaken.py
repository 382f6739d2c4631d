"""What a TLS handshake tells: the values that `weft tls` prints. It loads nothing else.

Not done here: the handshake (handshake.py), and reading certificates (certificates.py).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from msgspec import Struct

_COMMON_NAME: Final = re.compile(r"(?:^|,)CN=((?:\\.|[^,+\\])+)")


class Certificate(Struct, frozen=True, kw_only=True):
    """What a certificate says."""

    subject: str
    """In the spelling of RFC 4514; empty if it has none, `(unreadable)` if nothing could be read."""
    issuer: str
    names: list[str]
    """What it is for: names, and addresses."""
    not_before: datetime | None
    not_after: datetime | None
    """From when until when it is valid; null if that can't be read."""
    key: str
    """`EC secp256r1`, `RSA 2048`, `Ed25519` …"""
    sha256: str
    """Fingerprint, as `openssl x509 -fingerprint -sha256` prints it."""

    @property
    def title(self) -> str:
        """What people call it."""
        return short_name(self.subject) or ", ".join(self.names) or "a certificate without a name"


class Handshake(Struct, frozen=True, kw_only=True):
    """What a TLS handshake told."""

    schema: int = 1
    host: str
    """As it was asked for."""
    port: int
    address: str
    """Where that led."""
    name: str
    """That its certificate has to be for."""
    version: str
    """`TLSv1.3` or `TLSv1.2`."""
    cipher: str
    """The suite, such as `TLS_AES_256_GCM_SHA384`."""
    alpn: str | None
    """The protocol that was agreed on, of those that were offered."""
    trusted: bool
    reason: str
    """Why it is trusted or not, in one line."""
    refusal: str | None = None
    """Why the server ended the connection after the handshake, if it did: perhaps it wants a certificate."""
    chain: list[Certificate]
    """Its certificate and those that vouch for it: up to a root if it is trusted, else as they were sent."""


def short_name(name: str) -> str:
    """What people call somebody: the common name out of a name in the spelling of RFC 4514, or all of it."""
    common = _COMMON_NAME.search(name)
    return re.sub(r"\\(.)", r"\1", common[1]) if common is not None else name
