"""Addresses as Python's sockets have them, and as the stack does.

| version | socket address |
|---|---|
| 4 | `("192.0.2.1", 80)` |
| 6 | `("fc00::1", 80, 0, 0)`: flow label and scope are always 0, for the overlay has neither |
"""

from __future__ import annotations

import socket
from typing import Final

from weft.stack.endpoint import Endpoint

SocketAddress = tuple[str, int] | tuple[str, int, int, int]

ANY_IPV4: Final = bytes(4)
ANY_IPV6: Final = bytes(16)

MAX_PORT: Final = 65_535


def family_of(address: bytes) -> socket.AddressFamily:
    """The family of an address of 4 or 16 bytes."""
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def sockaddr_of(endpoint: Endpoint) -> SocketAddress:
    """An endpoint as the kernel would give it."""
    address, port = endpoint
    if len(address) == 4:
        return socket.inet_ntop(socket.AF_INET, address), port
    return socket.inet_ntop(socket.AF_INET6, address), port, 0, 0


def address_in(text: str) -> bytes | None:
    """The address that a text is, 4 or 16 bytes; None if it is none."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
    return None


def endpoint_of(address: object) -> Endpoint:
    """The endpoint that a socket address means, as it is given where no name is looked up any more.

    Raises:
        TypeError: it is no socket address.
        socket.gaierror: its host is no address.
        OverflowError: its port is none.
    """
    if not isinstance(address, tuple) or len(address) < 2:
        raise TypeError(f"a tuple of host and port is expected, not {address!r}")
    host, port = address[:2]
    if not isinstance(host, str) or not isinstance(port, int):
        raise TypeError(f"a tuple of host and port is expected, not {address!r}")
    if not 0 <= port <= MAX_PORT:
        raise OverflowError(f"port must be 0-{MAX_PORT}.")
    literal = address_in(host)
    if literal is None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return Endpoint(literal, port)
