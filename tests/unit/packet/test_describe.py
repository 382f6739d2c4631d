"""A packet in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt
from scapy.packet import Packet

from weft.packet.describe import describe

V4 = IP(src="10.0.0.1", dst="10.0.0.2")
V6 = IPv6(src="fc00:1::1", dst="fc00:2::2")


@pytest.mark.parametrize(
    ("packet", "line"),
    [
        (V4 / TCP(sport=40000, dport=22, flags="S"), "10.0.0.1.40000 > 10.0.0.2.22: tcp [S], length 0"),
        (V6 / TCP(sport=1, dport=2, flags="FPA") / b"abc", "fc00:1::1.1 > fc00:2::2.2: tcp [FP.], length 3"),
        (
            V6 / TCP(sport=1, dport=2, flags=0, options=[("NOP", None)] * 4),
            "fc00:1::1.1 > fc00:2::2.2: tcp [none], length 0",
        ),
        (V4 / UDP(sport=53, dport=9) / b"1234", "10.0.0.1.53 > 10.0.0.2.9: udp, length 4"),
        (V6 / IPv6ExtHdrDestOpt() / UDP(sport=53, dport=9), "fc00:1::1.53 > fc00:2::2.9: udp, length 0"),
        (V4 / ICMP(id=7, seq=2) / (b"x" * 8), "10.0.0.1 > 10.0.0.2: icmp echo request, id 7, seq 2, length 16"),
        (V4 / ICMP(type=0, id=7, seq=2), "10.0.0.1 > 10.0.0.2: icmp echo reply, id 7, seq 2, length 8"),
        (V6 / ICMPv6EchoRequest(id=1, seq=9), "fc00:1::1 > fc00:2::2: icmp echo request, id 1, seq 9, length 8"),
        (
            V6 / ICMPv6DestUnreach(code=4),
            "fc00:1::1 > fc00:2::2: icmp destination unreachable, port unreachable, length 8",
        ),
        (V6 / ICMPv6PacketTooBig(), "fc00:1::1 > fc00:2::2: icmp packet too big, code 0, length 8"),
        (V4 / ICMP(type=13), "10.0.0.1 > 10.0.0.2: icmp type 13, code 0, length 20"),
        (IP(src="10.0.0.1", dst="10.0.0.2", proto=47) / b"gre!", "10.0.0.1 > 10.0.0.2: protocol 47, length 4"),
        (
            IP(src="10.0.0.1", dst="10.0.0.2", proto=17, frag=2, flags="MF") / b"12345678",
            "10.0.0.1 > 10.0.0.2: fragment at 16+, length 8",
        ),
        (b"\x60", "malformed"),
        (b"", "malformed"),
    ],
)
def test_line_says_who_what_and_how_much(packet: Packet | bytes, line: str) -> None:
    assert describe(bytes(packet)) == line


def test_super_packet_tells_its_segments() -> None:
    packet = bytes(V6 / TCP(sport=1, dport=2, flags="A") / bytes(5000))
    assert describe(packet, 1448) == "fc00:1::1.1 > fc00:2::2.2: tcp [.], length 5000 in segments of 1448"


def test_packet_that_is_cut_off_tells_its_length_still() -> None:
    packet = bytes(V6 / TCP(sport=1, dport=2, flags="A") / bytes(5000))
    assert describe(packet[:60]) == "fc00:1::1.1 > fc00:2::2.2: tcp [.], length 5000"
    assert describe(packet[:44]) == "fc00:1::1.1 > fc00:2::2.2: tcp"
    assert describe(packet[:41]) == "fc00:1::1 > fc00:2::2: tcp"
    assert describe(bytes(V4 / ICMP() / b"x")[:22]) == "10.0.0.1 > 10.0.0.2: icmp, length 9"


@given(
    st.binary(max_size=120) | st.binary(max_size=80).map(lambda rest: b"\x60" + bytes(5) + rest), st.integers(0, 100)
)
def test_any_bytes_give_one_line(packet: bytes, cut: int) -> None:
    assert "\n" not in describe(packet)
    assert describe(bytes(V4 / TCP())[:cut])
