"""What of a host inside this program others can reach: the ports that programs listen on, and who takes a packet.

Nothing changes by being asked here.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from weft.errors import DecodeError
from weft.packet import tcp, udp
from weft.packet.ip import addresses, decode_upper_layer
from weft.packet.protocols import TCP, UDP
from weft.stack.addresses import ANY_V4, ANY_V6, is_any, is_loopback
from weft.stack.endpoint import Endpoint
from weft.stack.host import Host

PING: Final = "/icmp"
"""A host always answers echo requests."""


def listening(host: Host) -> list[str]:
    """What others reach: `/tcp/80`, or `/tcp/80/at/10.7.0.1` where that is one address of several, and `/icmp`."""
    places = [("tcp", listener.local) for listener in host.tcp.listeners]
    places += [("udp", socket.local) for socket in host.udp.sockets if socket.remote is None]
    return [*dict.fromkeys(_name(*place) for place in sorted(places) if not is_loopback(place[1].address)), PING]


def taker(host: Host, packet: bytes) -> str | None:
    """Who takes a packet that comes from the network, in words; None if nobody does, so that it is refused.

    Args:
        host: whose it is.
        packet: an IP packet for one of its addresses.
    """
    source, destination = addresses(packet)
    try:
        upper = decode_upper_layer(packet)
        if upper.protocol == TCP:
            header = tcp.decode_tcp(packet, upper.start)
            ends = Endpoint(destination, header.destination_port), Endpoint(source, header.source_port)
            if any((each.local, each.remote) == ends for each in host.tcp.connections):
                return "a program has this connection open"
            is_syn = header.flags & (tcp.SYN | tcp.ACK | tcp.RST) == tcp.SYN
            found = [each.local for each in host.tcp.listeners if is_syn and _suits(each.local, ends[0])]
            return f"a program listens on {_name('tcp', found[0])}" if found else None
        if upper.protocol == UDP:
            port = udp.decode_udp(packet, upper.start).destination_port
            place = Endpoint(destination, port)
            found = [each.local for each in host.udp.sockets if each.remote is None and _suits(each.local, place)]
            return f"a program listens on {_name('udp', found[0])}" if found else None
    except DecodeError:
        return None
    return "it answers by itself"


def _suits(local: Endpoint, place: Endpoint) -> bool:
    """Whether what is bound to a place hears what is for another."""
    takes_all = local.address == ANY_V6 or (local.address == ANY_V4 and place.is_ipv4)
    return local.port == place.port and (takes_all or local.address == place.address)


def _name(protocol: str, local: Endpoint) -> str:
    at = "" if is_any(local.address) else f"/at/{ip_address(local.address)}"
    return f"/{protocol}/{local.port}{at}"
