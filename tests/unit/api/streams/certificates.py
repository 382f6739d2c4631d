"""Certificates of a CA of our own, for both sides."""

from __future__ import annotations

import ssl
from functools import cache

import trustme

SERVER = "right"
CLIENT = "client@example.org"


@cache
def authority() -> trustme.CA:
    """Whom both sides trust."""
    return trustme.CA()


@cache
def _issued(*names: str) -> trustme.LeafCert:
    return authority().issue_cert(*names)


def server_context(*names: str, asks: bool = False) -> ssl.SSLContext:
    """What a server with a certificate for these names uses.

    Args:
        *names: none for that of `SERVER` and its addresses.
        asks: whether clients need a certificate too.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _issued(*(names or (SERVER, "fc00::2", "10.7.0.2"))).configure_cert(context)
    if asks:
        authority().configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(*, has_certificate: bool = False) -> ssl.SSLContext:
    """What a client uses that trusts the CA."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    if has_certificate:
        _issued(CLIENT).configure_cert(context)
    return context


def old(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same for TLS 1.2, whose client knows at the end of the handshake whether its certificate was taken."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
