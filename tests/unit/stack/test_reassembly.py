"""Fragments that scapy makes, and what is said of bad ones."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption_RR, fragment
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    fragment6,
)
from scapy.packet import Packet, Raw

from tests.unit.stack.packets import PORT, Target, error_v4, ip4, ip6, parameter_problem
from weft.packet.checksum import verify
from weft.stack.fragmenting import fragment as fragment_of_weft
from weft.testing import S

PAYLOAD = bytes(range(256)) * 20


def fragments_v4(payload: bytes = PAYLOAD, **fields: Any) -> list[Packet]:
    return fragment(ip4(id=7, **fields) / UDP(dport=PORT) / payload, 1000)


def fragments_v6(payload: bytes = PAYLOAD, before: Packet | None = None, behind: Packet | None = None) -> list[Packet]:
    packet = ip6()
    if before is not None:
        packet /= before
    packet /= IPv6ExtHdrFragment(id=7)
    if behind is not None:
        packet /= behind
    return fragment6(packet / UDP(dport=PORT) / payload, 1280)


@pytest.mark.parametrize(
    "packets",
    [
        fragments_v4(),
        fragments_v4(options=[IPOption_RR(routers=["0.0.0.0"])]),
        fragments_v6(),
        fragments_v6(before=IPv6ExtHdrHopByHop()),
        fragments_v6(before=IPv6ExtHdrRouting(), behind=IPv6ExtHdrDestOpt()),
    ],
)
def test_datagram_that_scapy_fragmented_arrives_in_any_order(packets: list[Packet]) -> None:
    for seed in range(4):
        target = Target()
        Random(seed).shuffle(packets)
        for packet in packets[:-1]:
            assert target.receive(packet) == []
            assert target.data is None
        assert target.receive(packets[-1]) == []
        assert target.data == PAYLOAD
        assert target.host.next_timer() is None
        assert not target.host.drops


@given(st.binary(min_size=1, max_size=300), st.integers(68, 200), st.integers(0, 0xFFFF))
def test_scapy_puts_together_what_is_fragmented_here(data: bytes, mtu: int, number: int) -> None:
    message = bytes(UDP(sport=1, dport=2, chksum=0xABCD) / data)
    source, destination = bytes((10, 7, 0, 1)), bytes((10, 7, 0, 2))
    pieces = [IP(packet) for packet in fragment_of_weft(source, destination, 17, message, mtu, number, 64)]
    assert all(piece.id == number and len(piece) <= mtu for piece in pieces)
    assert b"".join(bytes(piece.payload) for piece in pieces) == message
    assert [piece.frag * 8 for piece in pieces] == [
        sum(len(piece.payload) for piece in pieces[:at]) for at in range(len(pieces))
    ]
    assert [bool(piece.flags.MF) for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    source, destination = b"\xfc" + bytes(14) + b"\1", b"\xfc" + bytes(14) + b"\2"
    whole = b""
    for packet in fragment_of_weft(source, destination, 17, message, mtu, number, 64):
        piece = IPv6(packet)
        assert (piece.plen + 40, piece.nh) == (len(packet), 44)
        extension = piece[IPv6ExtHdrFragment]
        assert (extension.id, extension.nh, extension.offset * 8) == (number, 17, len(whole))
        whole += packet[48:]
        assert extension.m == (len(whole) < len(message))
    assert whole == message


def test_packet_put_together_has_sound_headers() -> None:
    target = Target()
    taken: list[bytes] = []
    target.host.udp.receive = lambda packet, *_: taken.append(bytes(packet))  # type: ignore[method-assign]
    for packets in (fragments_v4(), fragments_v6(before=IPv6ExtHdrHopByHop())):
        for packet in packets:
            target.receive(packet)
    four, six = taken
    assert bytes(IP(four)) == four
    assert IP(four).chksum == IP(bytes(IP(four).copy())).chksum
    assert (IP(four).len, IP(four).flags, IP(four).frag) == (20 + 8 + len(PAYLOAD), 0, 0)
    assert (IPv6(six).plen, IPv6(six).nh) == (8 + len(PAYLOAD), 17)
    assert verify(four, 20, 17)
    assert verify(six, 40, 17)


@pytest.mark.parametrize(("packets", "seconds"), [(fragments_v4(), 30), (fragments_v6(), 60)])
def test_time_exceeded_quotes_the_first_fragment_if_that_came(packets: list[Packet], seconds: int) -> None:
    target = Target()
    for packet in packets[:-1]:
        target.receive(packet)
    assert target.host.next_timer() == 1 + seconds * S
    target.host.handle_timer(1 + seconds * S)
    (answer,) = target.answers()
    message = bytes(answer.payload)
    assert message[:2] == (b"\x0b\x01" if seconds == 30 else b"\x03\x01")
    assert message[8:] == bytes(packets[0])[: len(message) - 8]
    assert len(answer) <= (576 if seconds == 30 else 1280)
    target.receive(packets[-1], 1 + seconds * S)
    assert target.data is None


@pytest.mark.parametrize(("packets", "seconds"), [(fragments_v4(), 30), (fragments_v6(), 60)])
def test_nothing_is_said_where_the_first_fragment_is_missing(packets: list[Packet], seconds: int) -> None:
    target = Target()
    for packet in packets[1:]:
        target.receive(packet)
    target.host.handle_timer(1 + seconds * S)
    assert target.answers() == []
    assert target.host.drops == {"ip: fragments that never came": 1}


def fragment_v6(offset: int, more: int, data: bytes, next_header: int = 17, number: int = 9) -> Packet:
    return ip6() / IPv6ExtHdrFragment(nh=next_header, id=number, offset=offset, m=more) / Raw(data)


@pytest.mark.parametrize(
    ("packet", "told"),
    [
        (fragment_v6(0, 1, bytes(15)), (0, 4)),  # RFC 8200 section 4.5: no multiple of 8
        (fragment_v6(8191, 0, bytes(16)), (0, 42)),  # beyond the longest packet
        (fragment_v6(5, 0, b""), None),
        (fragment_v6(0, 1, bytes(16), 6), (3, 0)),  # RFC 7112: the TCP header is not whole
        (fragment_v6(0, 1, b"\x11\x02" + bytes(6), 60), (3, 0)),  # the chain is not whole
        (fragment_v6(0, 1, b"", 17), None),
        (fragment_v6(0, 1, b"\x11\0\0\x09\0\0\0\x01" + bytes(16), 44), None),  # a fragment in a fragment
        (fragment_v6(0, 1, b"\x11\0\x9e\0\0\0\0\0" + bytes(16), 60), (2, 50)),  # an option that is not known
    ],
)
def test_bad_fragment_of_ipv6_is_dropped_and_told_where_the_rfc_says_so(
    packet: Packet, told: tuple[int, int] | None
) -> None:
    target = Target()
    assert parameter_problem(target.receive(packet)) == told
    assert sum(target.host.drops.values()) == 1
    assert target.host.next_timer() is None


@pytest.mark.parametrize(
    "packet",
    [
        ip4(flags="MF", proto=17) / Raw(bytes(15)),
        ip4(frag=8191, proto=17) / Raw(bytes(16)),
        ip4(frag=1, proto=17),
        ip4(flags="MF", proto=6) / Raw(bytes(16)),
    ],
)
def test_bad_fragment_of_ipv4_is_dropped_without_a_word(packet: Packet) -> None:
    target = Target()
    assert target.receive(packet) == []
    assert sum(target.host.drops.values()) == 1
    assert target.host.next_timer() is None


def test_packet_that_would_be_too_long_for_its_own_header_is_dropped() -> None:
    # The header of the first fragment is longer than those of the others.
    target = Target()
    target.receive(ip4(flags="MF", proto=17, options=[IPOption_RR(routers=["0.0.0.0"] * 9)]) / Raw(bytes(65_472)))
    target.receive(ip4(frag=65_472 // 8, proto=17) / Raw(bytes(43)))
    assert target.host.drops == {"ip: bad fragment": 1}
    assert target.host.next_timer() is None


def test_later_fragments_are_believed_about_nothing_but_their_bytes() -> None:
    # RFC 8200 section 4.5: the next header of the first fragment counts.
    target = Target()
    message = bytes(ip6() / UDP(dport=PORT) / bytes(24))[40:]
    target.receive(fragment_v6(2, 0, message[16:], next_header=6))
    target.receive(fragment_v6(0, 1, message[:16]))
    assert target.data == bytes(24)


def test_fragments_of_different_packets_are_not_mixed() -> None:
    target = Target()
    message = bytes(ip6() / UDP(dport=PORT) / bytes(24))[40:]
    target.receive(fragment_v6(0, 1, message[:16], number=1))
    target.receive(fragment_v6(2, 0, message[16:], number=2))
    other = fragment_v6(2, 0, message[16:], number=1)
    other.src = "fc00::3"
    target.receive(other)
    assert target.data is None


def test_checksum_of_the_whole_is_verified_though_fragments_came_partial() -> None:
    target = Target()
    packets = fragments_v4()
    changed = bytearray(bytes(packets[1]))
    changed[-1] ^= 1
    for packet in (packets[0], bytes(changed), *packets[2:]):
        target.receive(packet, is_partial=True)
    assert target.data is None
    assert target.host.drops == {"ip: bad transport checksum": 1}


def test_error_about_a_datagram_that_came_in_fragments_quotes_it_whole() -> None:
    target = Target()
    answers = [target.receive(packet) for packet in fragment(ip4(id=7) / UDP(dport=PORT + 1) / PAYLOAD, 1000)]
    assert error_v4(answers[-1]) == (3, 3)
    quoted = IP(bytes(answers[-1][0].payload)[8:])
    assert (quoted.len, quoted.frag, quoted[UDP].dport) == (28 + len(PAYLOAD), 0, PORT + 1)
    assert TCP not in quoted
