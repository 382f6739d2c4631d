"""Split against what Linux' own segmentation does, written down in scapy's terms."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from tests.unit.burst.keys import plain_text
from tests.unit.burst.packets import (
    TIMESTAMPS,
    V4,
    V6,
    parse,
    payload_offset,
    reference,
    super_packets,
    transport_offset,
)
from weft.burst.seal import padding_of
from weft.burst.split import segments_in_run, split


def split_all(data: bytes, segment: int, per_run: int = 1) -> list[bytes]:
    return [bytes(run) for run in split(memoryview(data), transport_offset(data), segment, per_run)]


@given(super_packets())
def test_segments_are_those_of_the_reference(drawn: tuple[bytes, int]) -> None:
    data, segment = drawn
    assert split_all(data, segment) == reference(data, segment)


@given(super_packets(), st.integers(1, 3), st.integers(0, 2000))
def test_zeros_fill_each_run_to_a_multiple_of_16_as_far_as_there_is_room(
    drawn: tuple[bytes, int], per_run: int, room: int
) -> None:
    data, segment = drawn
    runs = split_all(data, segment, per_run)
    padded = split(memoryview(data), transport_offset(data), segment, per_run, room)
    assert padded == [run + padding_of(len(run), room) for run in runs]


@given(super_packets(), st.integers(1, 12))
def test_runs_that_are_split_again_are_the_segments(drawn: tuple[bytes, int], per_run: int) -> None:
    data, segment = drawn
    runs = split_all(data, segment, per_run)
    offset = transport_offset(data)
    if per_run > 1:
        for run in runs:
            at = offset + (16 if TCP in parse(data) else 6)
            assert run[at : at + 2] == b"\xde\xad"
    assert [piece for run in runs for piece in split_all(run, segment)] == reference(data, segment)


@given(super_packets(), st.integers(2, 12))
def test_each_run_is_a_packet_with_right_lengths_and_header(drawn: tuple[bytes, int], per_run: int) -> None:
    data, segment = drawn
    offset = transport_offset(data)
    runs = split_all(data, segment, per_run)
    assert b"".join(run[payload_offset(run) :] for run in runs) == data[payload_offset(data) :]
    for run in runs:
        packet = parse(run)
        assert len(run) - payload_offset(run) <= segment * per_run
        if packet.version == 4:
            assert packet.len == len(run)
            header_checksum = packet.chksum
            del packet.chksum
            assert parse(bytes(packet)).chksum == header_checksum
        else:
            assert packet.plen == len(run) - 40
        if UDP in packet:
            assert packet[UDP].len == len(run) - offset


@given(super_packets(tcp_only=True), st.integers(12, 64))
def test_one_run_with_all_segments_is_the_packet_itself(drawn: tuple[bytes, int], per_run: int) -> None:
    data, segment = drawn
    assert split_all(data, segment, per_run) == [data]


def test_sequence_and_identification_wrap_around() -> None:
    data = bytes(IP(**V4, id=65_535) / TCP(seq=2**32 - 1000, flags="A", options=TIMESTAMPS) / Raw(bytes(3000)))
    packets = [parse(packet) for packet in split_all(data, 1000)]
    assert [packet.id for packet in packets] == [65_535, 0, 1]
    assert [packet[TCP].seq for packet in packets] == [2**32 - 1000, 0, 1000]


def test_fin_and_psh_are_on_the_last_segment_and_cwr_on_the_first() -> None:
    data = bytes(IPv6(**V6) / TCP(flags="FPACE") / Raw(bytes(3000)))
    assert [str(parse(packet)[TCP].flags) for packet in split_all(data, 1000)] == ["AEC", "AE", "FPAE"]
    assert [str(parse(run)[TCP].flags) for run in split_all(data, 1000, 2)] == ["AEC", "FPAE"]


@pytest.mark.parametrize("base", [IP(**V4), IPv6(**V6)])
def test_a_udp_checksum_of_zero_is_sent_as_ffff(base: IP | IPv6) -> None:
    """The first two bytes of the payload take what the checksum would be, which makes it zero."""
    plain = base / UDP(sport=5, dport=6) / Raw(bytes(600))
    sought = parse(bytes(plain))[UDP].chksum
    payload = sought.to_bytes(2, "big") + bytes(598)
    first, second = split_all(bytes(base / UDP(sport=5, dport=6, chksum=0xDEAD) / Raw(payload + payload)), 600)
    assert parse(first)[UDP].chksum == parse(second)[UDP].chksum == 0xFFFF
    assert first == bytes(base / UDP(sport=5, dport=6) / Raw(payload))


@pytest.mark.parametrize("base", [IP(**V4), IPv6(**V6)])
def test_a_tcp_checksum_of_zero_stays_zero(base: IP | IPv6) -> None:
    plain = base / TCP(sport=5, dport=6, flags="A") / Raw(bytes(600))
    payload = parse(bytes(plain))[TCP].chksum.to_bytes(2, "big") + bytes(598)
    first, *_ = split_all(bytes(base / TCP(sport=5, dport=6, flags="A") / Raw(payload + payload)), 600)
    assert parse(first)[TCP].chksum == 0
    assert first == bytes(base / TCP(sport=5, dport=6, flags="A", chksum=0) / Raw(payload))


def test_the_packet_that_is_split_stays_as_it_was() -> None:
    data = bytearray(bytes(IP(**V4) / TCP(flags="PA") / Raw(bytes(3000))))
    before = bytes(data)
    split(memoryview(data), 20, 1000, 1)
    split(memoryview(data), 20, 1000, 2)
    assert data == before


@pytest.mark.parametrize(("segment", "count"), [(256, 256), (1448, 46), (1460, 45)])
def test_the_largest_packets_are_split_as_the_reference_does(segment: int, count: int) -> None:
    data = bytes(IP(**V4, id=1) / TCP(flags="PA", seq=2**32 - 30_000) / Raw(plain_text(65_535 - 40)))
    packets = split_all(data, segment)
    assert len(packets) == count
    assert packets == reference(data, segment)


@given(st.integers(0, 65_000), st.integers(40, 120), st.integers(256, 1460))
@example(0, 40, 1460)
@example(1500, 40, 1460)
@example(2959, 40, 1460)
@example(2960, 40, 1460)
def test_a_run_has_as_many_segments_as_fit_and_at_least_one(room: int, headers: int, segment: int) -> None:
    count = segments_in_run(room, headers, segment)
    assert count >= 1
    assert count == 1 or headers + count * segment <= room
    assert headers + (count + 1) * segment > room
