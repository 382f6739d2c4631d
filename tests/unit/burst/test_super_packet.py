"""Which super-packets are delivered: each rule of the wire format by a packet that scapy built."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Packet, Raw

from weft.burst.records import KIND_TCP, KIND_UDP, super_packet_fault, transport_of

V4 = IP(src="10.1.2.3", dst="10.250.251.252")
V6 = IPv6(src="fc00:1::ffff", dst="fcff:2:3:4:5:6:7:8")
BULK = TCP(sport=1, dport=2, flags="A", options=[("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)])
DATA = Raw(bytes(4000))


def fault(packet: Packet | bytes, kind: int, segment: int = 1000) -> str | None:
    return super_packet_fault(memoryview(bytes(packet)), kind, segment)


GOOD: dict[str, tuple[Packet, int]] = {
    "tcp over ipv4": (V4 / TCP(flags="A") / DATA, KIND_TCP),
    "tcp over ipv6": (V6 / TCP(flags="A") / DATA, KIND_TCP),
    "tcp with options": (V6 / BULK / DATA, KIND_TCP),
    "tcp over ipv4 with options": (IP(options=[IPOption_NOP()] * 12) / BULK / DATA, KIND_TCP),
    "tcp with psh, fin, ece and cwr": (V4 / TCP(flags="FPAEC") / DATA, KIND_TCP),
    "don't fragment": (IP(flags="DF", id=7) / TCP(flags="A") / DATA, KIND_TCP),
    "udp over ipv4": (V4 / UDP() / DATA, KIND_UDP),
    "udp over ipv6": (V6 / UDP() / DATA, KIND_UDP),
    "udp over ipv4 with options": (IP(options=[IPOption_NOP()] * 4) / UDP() / DATA, KIND_UDP),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_super_packet_of_a_plain_stream_is_delivered(name: str) -> None:
    assert fault(*GOOD[name]) is None


def with_bytes(packet: Packet, change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(bytes(packet))
    change(data)
    return bytes(data)


def longer(data: bytearray) -> None:
    data.append(0)


def shorter(data: bytearray) -> None:
    data.pop()


def set_byte(at: int, value: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at] = value

    return change


TCP4, TCP6, UDP4, UDP6 = (
    GOOD[name][0] for name in ("tcp over ipv4", "tcp over ipv6", "udp over ipv4", "udp over ipv6")
)

BAD: dict[str, tuple[Packet | bytes, int]] = {
    "nothing": (b"", KIND_TCP),
    "one byte": (b"\x45", KIND_TCP),
    "ip version 5": (with_bytes(TCP4, set_byte(0, 0x55)), KIND_TCP),
    "ipv4 shorter than its length": (with_bytes(TCP4, shorter), KIND_TCP),
    "ipv4 longer than its length": (with_bytes(TCP4, longer), KIND_TCP),
    "ipv6 shorter than its length": (with_bytes(TCP6, shorter), KIND_TCP),
    "ipv6 longer than its length": (with_bytes(TCP6, longer), KIND_TCP),
    "udp shorter than its ip length": (with_bytes(UDP4, shorter), KIND_UDP),
    "ipv4 header of 16 bytes": (with_bytes(TCP4, set_byte(0, 0x44)), KIND_TCP),
    "first fragment": (IP(flags="MF") / BULK / DATA, KIND_TCP),
    "later fragment": (IP(frag=100) / BULK / DATA, KIND_TCP),
    "fragment at offset 1": (IP(frag=1) / BULK / DATA, KIND_TCP),
    "fragment of udp": (IP(flags="MF") / UDP() / DATA, KIND_UDP),
    "ipv6 fragment": (V6 / IPv6ExtHdrFragment(m=1, id=3) / BULK / DATA, KIND_TCP),
    "ipv6 atomic fragment": (V6 / IPv6ExtHdrFragment(id=3) / BULK / DATA, KIND_TCP),
    "ipv6 hop-by-hop options": (V6 / IPv6ExtHdrHopByHop() / BULK / DATA, KIND_TCP),
    "ipv6 destination options": (V6 / IPv6ExtHdrDestOpt() / BULK / DATA, KIND_TCP),
    "ipv6 routing header": (V6 / IPv6ExtHdrRouting(addresses=["fc00::2"]) / BULK / DATA, KIND_TCP),
    "ipv6 destination options before udp": (V6 / IPv6ExtHdrDestOpt() / UDP() / DATA, KIND_UDP),
    "syn": (V4 / TCP(flags="S") / DATA, KIND_TCP),
    "syn and ack": (V6 / TCP(flags="SA") / DATA, KIND_TCP),
    "rst": (V4 / TCP(flags="R") / DATA, KIND_TCP),
    "rst and ack": (V6 / TCP(flags="RA") / DATA, KIND_TCP),
    "urg": (V4 / TCP(flags="UA", urgptr=1) / DATA, KIND_TCP),
    "tcp header of 16 bytes": (V4 / TCP(flags="A", dataofs=4) / DATA, KIND_TCP),
    "tcp header beyond the packet": (V4 / TCP(flags="A", dataofs=15) / Raw(bytes(39)), KIND_TCP),
    "udp where tcp is said": (UDP4, KIND_TCP),
    "tcp where udp is said": (TCP6, KIND_UDP),
    "icmp where udp is said": (V4 / ICMP() / DATA, KIND_UDP),
    "icmpv6 where tcp is said": (V6 / ICMPv6EchoRequest() / DATA, KIND_TCP),
    "udp length too small": (V4 / UDP(len=3000) / DATA, KIND_UDP),
    "udp length too large": (V6 / UDP(len=5000) / DATA, KIND_UDP),
    "udp length zero": (V6 / UDP(len=0) / DATA, KIND_UDP),
}


@pytest.mark.parametrize("name", BAD)
def test_whatever_is_no_plain_stream_is_not_delivered(name: str) -> None:
    assert fault(*BAD[name])


@pytest.mark.parametrize("kind", [KIND_TCP, KIND_UDP])
@pytest.mark.parametrize("base", [V4, V6])
@pytest.mark.parametrize(
    ("segment", "payload", "good"),
    [
        (255, 4000, False),
        (256, 4000, True),
        (256, 257, True),
        (256, 256, False),
        (256, 255, False),
        (3999, 4000, True),
        (4000, 4000, False),
        (4001, 4000, False),
        (0, 4000, False),
        (65_535, 4000, False),
        (1000, 0, False),
    ],
)
def test_the_segment_size_is_256_or_more_and_less_than_the_payload(
    kind: int, base: Packet, segment: int, payload: int, *, good: bool
) -> None:
    header = TCP(flags="A") if kind == KIND_TCP else UDP()
    assert (fault(base / header / Raw(bytes(payload)), kind, segment) is None) is good


@pytest.mark.parametrize(("payload", "good"), [(64 * 300, True), (64 * 300 + 1, False), (63 * 300 + 1, True)])
def test_udp_has_at_most_64_segments(payload: int, *, good: bool) -> None:
    assert (fault(V6 / UDP() / Raw(bytes(payload)), KIND_UDP, 300) is None) is good


def test_tcp_may_have_more_than_64_segments() -> None:
    assert fault(V6 / TCP(flags="A") / Raw(bytes(65_000)), KIND_TCP, 256) is None


@given(
    st.sampled_from([KIND_TCP, KIND_UDP]),
    st.booleans(),
    st.sampled_from([6, 17, 1, 58]),
    st.integers(0, 255),
    st.sampled_from([0, 0, 0, 0x4000, 0x2000, 1, 0x1FFF, 0x8000]),
    st.integers(0, 15),
    st.sampled_from([-1, 0, 0, 0, 1]),
    st.integers(0, 1200),
    st.integers(0, 1200),
)
def test_random_headers_are_delivered_only_by_the_rules(
    kind: int,
    is_ipv6: bool,
    protocol: int,
    flags: int,
    fragment: int,
    offset: int,
    excess: int,
    payload: int,
    segment: int,
) -> None:
    is_tcp = protocol == 6
    header = bytearray(20 if is_tcp else 8)
    if is_tcp:
        header[12], header[13] = offset << 4, flags
    else:
        header[4:6] = (8 + payload).to_bytes(2, "big")
    body = bytes(header) + bytes(payload)
    if is_ipv6:
        packet = bytes(IPv6(nh=protocol, plen=len(body) + excess)) + body
    else:
        packet = bytes(IP(proto=protocol, len=20 + len(body) + excess, flags=fragment >> 13, frag=fragment & 0x1FFF))
        packet += body
    tcp_payload = len(body) - 4 * offset
    fits = 256 <= segment < (tcp_payload if is_tcp else payload)
    good = (
        protocol == {KIND_TCP: 6, KIND_UDP: 17}[kind]
        and excess == 0
        and (is_ipv6 or fragment in {0, 0x4000, 0x8000})
        and fits
        and (not is_tcp or (offset >= 5 and not flags & 0b100110))
    )
    assert (fault(packet, kind, segment) is None) is good


@pytest.mark.parametrize("length", range(20))
def test_a_transport_header_that_is_cut_off_is_not_delivered(length: int) -> None:
    for base in (IP(proto=6), IPv6(nh=6)):
        assert fault(base / Raw(b"\x50" * length), KIND_TCP)
    for base in (IP(proto=17), IPv6(nh=17)):
        assert fault(base / Raw(b"x" * min(length, 7)), KIND_UDP)


@given(st.binary(max_size=120), st.sampled_from([KIND_TCP, KIND_UDP]), st.integers(0, 65_535))
def test_random_bytes_raise_nothing(data: bytes, kind: int, segment: int) -> None:
    for packet in (data, b"\x45" + data, b"\x60" + data):
        verdict = super_packet_fault(memoryview(packet), kind, segment)
        assert verdict is None or isinstance(verdict, str)


@pytest.mark.parametrize("name", [name for name in BAD if "fragment" in name or name.startswith("ipv6")])
def test_of_a_packet_that_is_not_plain_nothing_is_known(name: str) -> None:
    assert transport_of(memoryview(bytes(BAD[name][0]))) is None


@pytest.mark.parametrize("first", [0x44, 0x40, 0x46, 0x4F])
def test_an_ipv4_header_that_is_too_short_or_longer_than_its_packet_is_not_plain(first: int) -> None:
    data = bytearray(bytes(IP(proto=6)))
    assert transport_of(memoryview(data)) == (6, 20)
    data[0] = first
    assert transport_of(memoryview(data)) is None


@pytest.mark.parametrize(("header", "length"), [(IP(proto=17), 20), (IPv6(nh=17), 40)])
def test_a_header_alone_is_plain_but_no_byte_less(header: Packet, length: int) -> None:
    data = bytes(header)
    assert transport_of(memoryview(data)) == (17, length)
    assert transport_of(memoryview(data[:-1])) is None


def test_the_transport_header_is_behind_the_options() -> None:
    assert transport_of(memoryview(bytes(IP(options=[IPOption_NOP()] * 12) / UDP()))) == (17, 32)
    assert transport_of(memoryview(bytes(V6 / UDP()))) == (17, 40)
