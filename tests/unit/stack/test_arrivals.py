"""Which packets get to their transport, and why the others do not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, TCP, UDP, IPOption, IPOption_LSRR, IPOption_NOP, IPOption_RR, IPOption_SSRR
from scapy.layers.inet6 import (
    HBHOptUnknown,
    ICMPv6EchoRequest,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.packet import Packet, Raw

from tests.unit.stack.packets import PORT, Target, error_v4, ip4, ip6, parameter_problem
from weft.burst.split import split

UDP_DATA = UDP(sport=1111, dport=PORT) / b"data"
BOTH = pytest.mark.parametrize("ip", [ip4, ip6])


@BOTH
def test_plain_datagram_arrives_and_nothing_is_counted(ip: Any) -> None:
    target = Target()
    assert target.receive(ip() / UDP_DATA) == []
    assert target.data == b"data"
    assert not target.host.drops


@BOTH
def test_bytes_behind_the_packet_are_not_looked_at(ip: Any) -> None:
    target = Target()
    target.receive(bytes(ip() / UDP_DATA) + b"padding")
    assert target.data == b"data"


@BOTH
@pytest.mark.parametrize("cut", [1, 12, 16])
def test_packet_cut_off_is_dropped(ip: Any, cut: int) -> None:
    target = Target()
    target.receive(bytes(ip() / UDP_DATA)[:-cut])
    assert target.data is None
    assert sum(target.host.drops.values()) == 1


@pytest.mark.parametrize("packet", [b"", b"\x45", b"\x60" + bytes(38), b"\x50" + bytes(60), bytes(60)])
def test_what_is_no_ip_packet_is_dropped(packet: bytes) -> None:
    target = Target()
    assert target.receive(packet) == []
    assert target.host.drops == {"ip: no IP packet": 1}


@pytest.mark.parametrize("fields", [{"ihl": 4}, {"len": 19}, {"ihl": 15, "len": 32}])
def test_ipv4_lengths_that_contradict_each_other_are_dropped(fields: dict[str, int]) -> None:
    target = Target()
    target.receive(ip4(**fields) / UDP_DATA)
    assert target.host.drops == {"ip: bad length": 1}


def test_wrong_header_checksum_is_dropped() -> None:
    target = Target()
    for packet in (ip4(chksum=1) / UDP_DATA, ip4(chksum=1) / TCP(dport=1)):
        target.receive(packet)
    assert target.host.drops == {"ip: bad checksum": 2}


@BOTH
@pytest.mark.parametrize("transport", [UDP(dport=PORT, chksum=1) / b"data", TCP(dport=1, chksum=1)])
def test_wrong_transport_checksum_is_dropped_but_not_looked_at_where_it_was_never_computed(
    ip: Any, transport: Packet
) -> None:
    target = Target()
    assert target.receive(ip() / transport) == []
    assert target.host.drops == {"ip: bad transport checksum": 1}
    target.receive(ip() / transport, is_partial=True)
    assert target.host.drops["ip: bad transport checksum"] == 1
    assert target.data == (b"data" if UDP in transport else None)


def test_wrong_checksum_of_icmp_is_dropped() -> None:
    target = Target()
    assert target.receive(ip4() / ICMP(type=8, chksum=1)) == []
    assert target.receive(ip6() / ICMPv6EchoRequest(cksum=1)) == []
    assert target.host.drops == {"ip: bad transport checksum": 2}


def test_udp_checksum_of_zero_is_right_over_ipv4_only() -> None:
    target = Target()
    target.receive(ip4() / UDP(dport=PORT, chksum=0) / b"four")
    target.receive(ip6() / UDP(dport=PORT, chksum=0) / b"six")
    assert target.data == b"four"
    assert target.data is None
    assert target.host.drops == {"ip: bad transport checksum": 1}


@pytest.mark.parametrize("hops", [0, 1, 255])
def test_hop_limit_is_not_looked_at(hops: int) -> None:
    target = Target()
    target.receive(ip4(ttl=hops) / UDP_DATA)
    target.receive(ip6(hlim=hops) / UDP_DATA)
    assert [target.data, target.data] == [b"data"] * 2


@pytest.mark.parametrize("transport", [UDP_DATA, TCP(dport=1)])
@pytest.mark.parametrize(
    ("ip", "source", "reason"),
    [
        (ip4, "0.0.0.0", "source is no host"),
        (ip4, "0.1.2.3", "source is no host"),
        (ip4, "127.0.0.1", "source is no host"),
        (ip4, "224.0.0.1", "source is no host"),
        (ip4, "240.0.0.1", "source is no host"),
        (ip4, "255.255.255.255", "source is no host"),
        (ip4, "10.7.0.255", "source is no host"),
        (ip4, "10.7.0.1", "source is ours"),
        (ip6, "::", "source is no host"),
        (ip6, "::1", "source is no host"),
        (ip6, "ff02::1", "source is no host"),
        (ip6, "::ffff:10.7.0.2", "source is no host"),
        (ip6, "fc00::1", "source is ours"),
    ],
)
def test_source_that_can_not_be_is_dropped(ip: Any, source: str, reason: str, transport: Packet) -> None:
    target = Target()
    assert target.receive(ip(src=source) / transport) == []
    assert target.data is None
    assert target.host.drops == {f"ip: {reason}": 1}


@pytest.mark.parametrize("transport", [UDP_DATA, TCP(dport=1)])
@pytest.mark.parametrize(
    ("ip", "destination"),
    [(ip4, "10.7.0.3"), (ip4, "127.0.0.1"), (ip4, "239.1.1.1"), (ip4, "0.0.0.0"), (ip6, "fc00::3"), (ip6, "::1"),
     (ip6, "ff02::2"), (ip6, "::")],
)  # fmt: skip
def test_packet_for_others_is_dropped_without_a_word(ip: Any, destination: str, transport: Packet) -> None:
    target = Target()
    assert target.receive(ip(dst=destination) / transport) == []
    assert target.data is None
    assert target.host.drops == {"ip: not for us": 1}


@pytest.mark.parametrize(("ip", "destination"), [(ip4, "224.0.0.1"), (ip4, "10.7.0.255"), (ip6, "ff02::1")])
def test_tcp_and_pings_to_many_are_dropped_without_a_word(ip: Any, destination: str) -> None:
    target = Target()
    assert target.receive(ip(dst=destination) / TCP(dport=1)) == []
    echo = ICMP(type=8) if ip is ip4 else ICMPv6EchoRequest()
    assert target.receive(ip(dst=destination) / echo) == []
    assert target.receive(ip(dst=destination) / UDP(dport=PORT + 1)) == []
    assert target.host.drops == {"tcp: to many": 1, "icmp: echo request to many": 1, "udp: no such port": 1}


# IPv4 options.


@pytest.mark.parametrize("options", [[IPOption_NOP()], [IPOption_RR(routers=["0.0.0.0"])], [IPOption(b"\x94\x04\0\0")]])
def test_ipv4_options_are_passed_over(options: list[Packet]) -> None:
    target = Target()
    target.receive(ip4(options=options) / UDP_DATA)
    assert target.data == b"data"


@pytest.mark.parametrize(
    "options",
    [
        [IPOption_NOP(), IPOption_LSRR(routers=["10.7.0.9"])],
        [IPOption_SSRR(routers=["10.7.0.9"])],
        b"\x94\x01\0\0",
        b"\x01\x01\x01\x94",
        b"\x94\x09\0\0",
    ],
)
def test_ipv4_source_route_and_options_that_can_not_be_read_are_dropped(options: Any) -> None:
    target = Target()
    packet = ip4(options=options) if isinstance(options, list) else ip4(options=[IPOption(options)])
    assert target.receive(packet / UDP_DATA) == []
    assert target.host.drops == {"ip: bad options": 1}


# Extension headers of IPv6, RFC 8200 section 4.

UNKNOWN = HBHOptUnknown(optdata=b"xy")


@pytest.mark.parametrize("kind", [IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt])
@pytest.mark.parametrize("destination", ["fc00::1", "ff02::1"])
@pytest.mark.parametrize(
    ("otype", "arrives", "is_told", "is_told_to_many"),
    [(0x1E, True, False, False), (0x5E, False, False, False), (0x9E, False, True, True), (0xDE, False, True, False)],
)
def test_section_4_2_unknown_option_is_treated_as_its_highest_bits_say(
    kind: Any, destination: str, otype: int, arrives: bool, is_told: bool, is_told_to_many: bool
) -> None:
    target = Target()
    is_many = destination == "ff02::1"
    if is_many:
        target.socket.join(bytes.fromhex("ff020000000000000000000000000001"))
    packet = ip6(dst=destination) / kind(options=[PadN(optdata=b"\0"), HBHOptUnknown(otype=otype, optdata=b"x")])
    answers = target.receive(packet / UDP_DATA)
    told = is_told_to_many if is_many else is_told
    assert (target.data == b"data") == arrives
    assert parameter_problem(answers) == ((2, 40 + 2 + 3) if told else None)
    for answer in answers:
        assert (answer.src, answer.dst) == ("fc00::1", "fc00::2")


@pytest.mark.parametrize(("segments", "arrives"), [(0, True), (1, False)])
def test_section_4_4_routing_header_is_passed_over_without_segments_left(segments: int, arrives: bool) -> None:
    target = Target()
    answers = target.receive(ip6() / IPv6ExtHdrRouting(type=77, segleft=segments) / UDP_DATA)
    assert (target.data == b"data") == arrives
    assert parameter_problem(answers) == (None if arrives else (0, 42))


def test_section_4_1_unknown_next_header_is_told_with_its_place() -> None:
    target = Target()
    assert parameter_problem(target.receive(ip6(nh=200) / Raw(b"12345678"))) == (1, 6)
    packet = ip6() / IPv6ExtHdrDestOpt(nh=200) / Raw(b"12345678")
    assert parameter_problem(target.receive(packet)) == (1, 40)
    # A hop-by-hop header is one only behind the IPv6 header; authentication is not known here.
    packet = ip6() / IPv6ExtHdrDestOpt(nh=0) / IPv6ExtHdrHopByHop() / UDP_DATA
    assert parameter_problem(target.receive(packet)) == (1, 40)
    assert parameter_problem(target.receive(ip6(nh=51) / Raw(bytes(24)))) == (1, 6)


def test_unknown_protocol_of_ipv4_is_unreachable() -> None:
    target = Target()
    assert error_v4(target.receive(ip4(proto=200) / Raw(b"12345678"))) == (3, 2)
    assert error_v4(target.receive(ip4(proto=58) / Raw(b"12345678"))) == (3, 2)
    assert target.receive(ip4(dst="10.7.0.255", proto=200) / Raw(b"12345678")) == []


def test_section_4_7_no_next_header_is_dropped_without_a_word() -> None:
    target = Target()
    assert target.receive(ip6(nh=59) / Raw(b"ignored")) == []
    assert target.host.drops == {"ip: unknown protocol": 1}


def test_rfc_6946_atomic_fragment_is_a_whole_packet() -> None:
    target = Target()
    target.receive(ip6() / IPv6ExtHdrFragment(id=7, offset=0, m=0) / UDP_DATA)
    assert target.data == b"data"
    assert target.host.next_timer() is None


def test_extension_header_cut_off_and_too_many_of_them_are_dropped_without_a_word() -> None:
    target = Target()
    assert target.receive(ip6(nh=60) / Raw(b"\x11\x01" + bytes(6))) == []
    assert target.receive(ip6(nh=60) / Raw(b"\x11")) == []
    packet = ip6()
    for _ in range(9):
        packet /= IPv6ExtHdrDestOpt()
    assert target.receive(packet / UDP_DATA) == []
    assert target.host.drops == {"ip: cut off extension header": 2, "ip: too many extension headers": 1}


def test_section_4_2_padding_is_passed_over() -> None:
    target = Target()
    target.receive(ip6(nh=60) / Raw(b"\x11\0\0\0\0\x01\x01\0") / UDP_DATA, is_partial=True)
    assert target.data == b"data"


def test_option_beyond_its_header_is_told() -> None:
    target = Target()
    assert parameter_problem(target.receive(ip6(nh=60) / Raw(b"\x11\0\x01\x09" + bytes(4)) / UDP_DATA)) == (0, 42)


# Transports.


@BOTH
@pytest.mark.parametrize(("protocol", "length"), [(6, 19), (17, 7)])
def test_transport_header_cut_off_is_dropped(ip: Any, protocol: int, length: int) -> None:
    target = Target()
    field = {"proto": protocol} if ip is ip4 else {"nh": protocol}
    assert target.receive(ip(**field) / Raw(bytes(length)), is_partial=True) == []
    assert target.host.drops == {"ip: cut off transport header": 1}


@BOTH
def test_udp_ends_where_its_own_length_says(ip: Any) -> None:
    target = Target()
    datagram = bytes(ip() / UDP_DATA)[20 if ip is ip4 else 40 :]
    target.receive(ip(**({"proto": 17} if ip is ip4 else {"nh": 17})) / Raw(datagram + b"behind"))
    assert target.data == b"data"
    for length in (7, 100):
        target.receive(ip() / UDP(dport=PORT, len=length) / b"data", is_partial=True)
    assert target.data is None
    assert target.host.drops == {"udp: bad length": 2}


@BOTH
def test_super_packet_of_udp_is_cut_into_its_datagrams(ip: Any) -> None:
    target = Target()
    payload = bytes(range(256)) * 10
    target.receive(ip() / UDP(dport=PORT, chksum=0) / payload, segment=1000, is_partial=True)
    whole = memoryview(bytes(ip() / UDP(dport=PORT, chksum=0) / payload))
    together = [target.data, target.data, target.data, target.data]
    for single in split(whole, 20 if ip is ip4 else 40, 1000, 1):
        target.receive(single)
    assert together == [target.data, target.data, target.data, target.data]
    assert together == [payload[:1000], payload[1000:2000], payload[2000:], None]


# Anything.


@given(st.binary(max_size=200), st.sampled_from([4, 6]), st.booleans(), st.sampled_from([0, 300]))
def test_random_bytes_raise_nothing(data: bytes, version: int, is_partial: bool, segment: int) -> None:
    target = Target()
    target.receive(data, is_partial=is_partial, segment=segment)
    header = (
        bytes(ip4(len=20 + len(data), proto=data[0] if data else 0))
        if version == 4
        else bytes(ip6(plen=len(data), nh=data[0] if data else 0))
    )
    target.receive(header + data, is_partial=is_partial, segment=segment)


@given(
    st.sampled_from(
        [
            ip4() / UDP_DATA,
            ip4(flags="MF") / UDP(dport=PORT) / bytes(24),
            ip4(options=[IPOption_RR(routers=["0.0.0.0"])]) / UDP_DATA,
            ip4() / ICMP(type=3, code=3) / ip4(src="10.7.0.1", dst="10.7.0.2") / UDP_DATA,
            ip6() / IPv6ExtHdrHopByHop(options=[UNKNOWN]) / IPv6ExtHdrDestOpt(options=[UNKNOWN]) / UDP_DATA,
            ip6() / IPv6ExtHdrFragment(m=1) / IPv6ExtHdrDestOpt() / UDP(dport=PORT) / bytes(16),
            ip6() / IPv6ExtHdrRouting() / TCP(dport=1),
        ]
    ),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=4),
    st.booleans(),
)
def test_packet_with_random_changes_raises_nothing(
    packet: Packet, changes: list[tuple[int, int]], is_partial: bool
) -> None:
    target = Target()
    changed = bytearray(bytes(packet))
    for at, value in changes:
        changed[at % len(changed)] = value
    target.receive(bytes(changed), is_partial=is_partial)
    target.host.handle_timer(61_000_000_000)
    target.answers(61_000_000_000)
