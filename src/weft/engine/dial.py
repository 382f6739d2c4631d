"""From what a person writes to an endpoint that can be dialled."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv6Address

from weft.errors import DecodeError, PeerError, UsageError
from weft.identity import PeerId
from weft.io.netlink import OVERLAY
from weft.multiaddr import Multiaddr, decode_multiaddr


def decode_target(text: str) -> tuple[Multiaddr, PeerId]:
    """Decode a multiaddr that names a weft node.

    Args:
        text: such as `/ip4/192.0.2.1/udp/1312/p2p/12D3KooW…`.

    Raises:
        UsageError: it is none, has no /p2p, or a transport other than UDP.
    """
    try:
        address = decode_multiaddr(text)
    except DecodeError as error:
        raise UsageError(f"{text}: {error}") from error
    if address.peer_id is None:
        raise UsageError(f"{text}: has no /p2p/ID at its end; `weft info` on the other machine shows the whole of it")
    if address.transport != "udp":
        raise UsageError(f"{text}: can't be dialled; this version dials UDP only")
    return address, address.peer_id


def check_underlay(address: Multiaddr) -> None:
    """Refuse an endpoint inside the overlay: a tunnel to it would carry itself.

    Raises:
        UsageError: the address is in fc00::/8.
    """
    host, _ = address.endpoint()
    if ":" in host and IPv6Address(host.partition("%")[0]) in OVERLAY:
        raise UsageError(f"{host} is an address of the overlay itself; give the one that the machine has outside")


def decode_endpoint(text: str) -> Multiaddr:
    """Decode an endpoint as `wg` writes it (`192.0.2.1:51820`, `[2001:db8::1]:51820`), or as a multiaddr.

    Raises:
        UsageError: it is neither.
    """
    try:
        if text.startswith("/"):
            address = decode_multiaddr(text)
            address.endpoint()
            if address.transport != "udp":
                raise DecodeError("UDP, which is all that WireGuard speaks")
            return address
        host, _, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise DecodeError("an IPv6 address in brackets, such as [2001:db8::1]:51820")
        if not host or not (port.isascii() and port.isdigit()):
            raise DecodeError("an address and a port, such as 192.0.2.1:51820")
        return Multiaddr.from_endpoint(host, int(port))
    except DecodeError as error:
        raise UsageError(f"{text}: {error}") from error


async def resolve(address: Multiaddr, families: list[bool]) -> Multiaddr:
    """Replace a name by an address that a listener can reach.

    Args:
        address: with /ip4, /ip6 or /dns.
        families: whether each listener is IPv6.

    Raises:
        PeerError: the name has no address, in one line.
    """
    if address.components[0].protocol != "dns":
        return address
    host, port = address.host, address.port
    assert host is not None
    assert port is not None
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise PeerError(f"can't resolve {host}: {error.strerror}") from error
    for family, *_, resolved in found:
        if (family == socket.AF_INET6) in families:
            return Multiaddr.from_endpoint(str(resolved[0]), port)
    raise PeerError(f"{host} has no address that a listener of this node can reach")
