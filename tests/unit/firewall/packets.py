"""Packets between this node and a peer, as the tests of the firewall write them."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.packet import Packet

S = 1_000_000_000
HERE_V6, PEER_V6, OTHER_V6 = "fc00:1::1", "fc00:2::2", "fc00:3::3"
HERE_V4, PEER_V4 = "10.0.0.1", "10.0.0.2"


def leaving(*layers: Packet | bytes, v4: bool = False, **fields: object) -> bytes:
    """A packet from here to the peer."""
    head = IP(src=HERE_V4, dst=PEER_V4, **fields) if v4 else IPv6(src=HERE_V6, dst=PEER_V6, **fields)
    return stacked(head, layers)


def arriving(*layers: Packet | bytes, v4: bool = False, **fields: object) -> bytes:
    """A packet from the peer to here."""
    head = IP(src=PEER_V4, dst=HERE_V4, **fields) if v4 else IPv6(src=PEER_V6, dst=HERE_V6, **fields)
    return stacked(head, layers)


def stacked(head: Packet, layers: tuple[Packet | bytes, ...]) -> bytes:
    for layer in layers:
        head /= layer
    return bytes(head)


def tcp_out(flags: str, here: int = 40000, peer: int = 443, *, payload: bytes = b"", v4: bool = False) -> bytes:
    return leaving(TCP(sport=here, dport=peer, flags=flags), payload, v4=v4)


def tcp_in(flags: str, here: int = 40000, peer: int = 443, *, payload: bytes = b"", v4: bool = False) -> bytes:
    return arriving(TCP(sport=peer, dport=here, flags=flags), payload, v4=v4)


def udp_out(here: int = 40000, peer: int = 53, *, payload: bytes = b"data", v4: bool = False) -> bytes:
    return leaving(UDP(sport=here, dport=peer), payload, v4=v4)


def udp_in(here: int = 40000, peer: int = 53, *, payload: bytes = b"data", v4: bool = False) -> bytes:
    return arriving(UDP(sport=peer, dport=here), payload, v4=v4)


def echo_out(ident: int = 7, *, reply: bool = False, v4: bool = False) -> bytes:
    if v4:
        return leaving(ICMP(type=0 if reply else 8, id=ident), b"ping", v4=True)
    return leaving((ICMPv6EchoReply if reply else ICMPv6EchoRequest)(id=ident, data=b"ping"))


def echo_in(ident: int = 7, *, reply: bool = False, v4: bool = False) -> bytes:
    if v4:
        return arriving(ICMP(type=0 if reply else 8, id=ident), b"ping", v4=True)
    return arriving((ICMPv6EchoReply if reply else ICMPv6EchoRequest)(id=ident, data=b"ping"))
