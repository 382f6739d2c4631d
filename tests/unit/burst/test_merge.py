"""Merge: each condition by a test, and nothing is lost, changed or out of order whatever comes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

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
from weft.burst.merge import Merged, Merger
from weft.burst.records import KIND_TCP, super_packet_fault
from weft.burst.split import split
from weft.packet.checksum import complete, write_ipv4_header_checksum


def merge(packets: list[bytes]) -> list[Merged]:
    """What one wake-up gives; the merger may write into the packets, so it gets copies."""
    merger = Merger()
    return [merged for packet in packets for merged in merger.add(memoryview(bytearray(packet)))] + merger.flush()


def joined(merged: Merged) -> bytes:
    return b"".join(merged.parts)


def expand(outputs: list[Merged]) -> list[bytes]:
    """What a kernel makes of the writes: the packets that pass unchanged, and the segments of the super-packets."""
    packets = []
    for merged in outputs:
        data = joined(merged)
        if merged.segment:
            assert merged.transport == transport_offset(data)
            assert super_packet_fault(memoryview(data), KIND_TCP, merged.segment) is None or merged.segment < 256
            packets += [bytes(run) for run in split(memoryview(data), merged.transport, merged.segment, 1)]
        else:
            packets.append(data)
    return packets


MERGEABLE = st.sampled_from(["A", "PA", "FA", "FPA", "CA", "CPA"])


@given(super_packets(tcp_only=True, plain=True, flags=MERGEABLE))
def test_split_then_merge_gives_the_same_bytes(drawn: tuple[bytes, int]) -> None:
    data, segment = drawn
    (merged,) = merge(reference(data, segment))
    assert merged.segment == segment
    assert merged.transport == transport_offset(data)
    whole = bytearray(joined(merged))
    at = merged.transport + 16
    whole[at : at + 2] = data[at : at + 2]
    assert whole == data


def segment_of(
    base: Packet,
    seq: int = 1000,
    payload: int = 1000,
    flags: str = "A",
    ack: int = 7,
    window: int = 500,
    options: list[tuple[str, object]] | None = None,
) -> bytes:
    transport = TCP(sport=1, dport=2, seq=seq, ack=ack, window=window, flags=flags, options=options or [])
    return bytes(base / transport / Raw(plain_text(payload, seq)))


def v4(number: int = 0, **fields: object) -> Packet:
    return IP(**{**V4, "id": 100 + number, **fields})


def v6(**fields: object) -> Packet:
    return IPv6(**{**V6, **fields})


def test_two_segments_that_follow_each_other_become_one() -> None:
    for first, second in (
        (segment_of(v4()), segment_of(v4(1), 2000)),
        (segment_of(v6()), segment_of(v6(), 2000)),
        (segment_of(v4(flags="DF", id=9)), segment_of(v4(flags="DF", id=9), 2000)),
        (segment_of(v4(flags="DF", id=0)), segment_of(v4(flags="DF", id=1), 2000)),
        (segment_of(v4(65_535 - 100)), segment_of(v4(id=0), 2000)),
        (segment_of(v6(), 2**32 - 1000), segment_of(v6(), 0)),
        (segment_of(v6(), options=TIMESTAMPS), segment_of(v6(), 2000, options=TIMESTAMPS)),
    ):
        (merged,) = merge([first, second])
        assert merged.segment == 1000
        assert len(joined(merged)) == len(first) + 1000


BEFORE = segment_of(v4())
BEFORE6 = segment_of(v6())
BEFORE_DF = segment_of(v4(flags="DF"))
DIFFERENT: dict[str, tuple[bytes, bytes]] = {
    "source": (BEFORE, segment_of(v4(1, src="10.1.2.4"), 2000)),
    "destination": (BEFORE, segment_of(v4(1, dst="10.1.2.4"), 2000)),
    "source port": (
        BEFORE,
        bytes(v4(1) / TCP(sport=3, dport=2, seq=2000, ack=7, window=500, flags="A") / Raw(b"x" * 1000)),
    ),
    "destination port": (
        BEFORE,
        bytes(v4(1) / TCP(sport=1, dport=3, seq=2000, ack=7, window=500, flags="A") / Raw(b"x" * 1000)),
    ),
    "reserved bits of tcp": (
        BEFORE,
        bytes(v4(1) / TCP(sport=1, dport=2, seq=2000, ack=7, window=500, flags="A", reserved=1) / Raw(b"x" * 1000)),
    ),
    "urgent pointer": (
        BEFORE,
        bytes(v4(1) / TCP(sport=1, dport=2, seq=2000, ack=7, window=500, flags="A", urgptr=1) / Raw(b"x" * 1000)),
    ),
    "acknowledgement": (BEFORE, segment_of(v4(1), 2000, ack=8)),
    "window": (BEFORE, segment_of(v4(1), 2000, window=501)),
    "options": (BEFORE, segment_of(v4(1), 2000, options=TIMESTAMPS)),
    "timestamps": (
        segment_of(v6(), options=[("Timestamp", (1, 2))]),
        segment_of(v6(), 2000, options=[("Timestamp", (2, 2))]),
    ),
    "gap": (BEFORE, segment_of(v4(1), 2001)),
    "overlap": (BEFORE, segment_of(v4(1), 1999)),
    "the same again": (BEFORE, segment_of(v4(1), 1000)),
    "longer": (BEFORE, segment_of(v4(1), 2000, payload=1001)),
    "no payload": (BEFORE, segment_of(v4(1), 2000, payload=0)),
    "syn": (BEFORE, segment_of(v4(1), 2000, flags="SA")),
    "rst": (BEFORE, segment_of(v4(1), 2000, flags="RA")),
    "urg": (BEFORE, segment_of(v4(1), 2000, flags="UA")),
    "ece": (BEFORE, segment_of(v4(1), 2000, flags="EA")),
    "cwr": (BEFORE, segment_of(v4(1), 2000, flags="CA")),
    "no ack": (BEFORE, segment_of(v4(1), 2000, flags="P")),
    "tos": (BEFORE, segment_of(v4(1, tos=4), 2000)),
    "ecn": (BEFORE, segment_of(v4(1, tos=3), 2000)),
    "ttl": (BEFORE, segment_of(v4(1, ttl=63), 2000)),
    "ip options": (BEFORE, segment_of(v4(1, options=[IPOption_NOP()] * 4), 2000)),
    "don't fragment": (BEFORE, segment_of(v4(1, flags="DF"), 2000)),
    "identification stays, without don't fragment": (BEFORE, segment_of(v4(0), 2000)),
    "identification leaps": (BEFORE, segment_of(v4(2), 2000)),
    "identification goes back": (BEFORE, segment_of(v4(-1), 2000)),
    "identification leaps, with don't fragment": (BEFORE_DF, segment_of(v4(2, flags="DF"), 2000)),
    "first fragment": (BEFORE, segment_of(v4(1, flags="MF"), 2000)),
    "later fragment": (BEFORE, segment_of(v4(1, frag=4), 2000)),
    "two first fragments": (segment_of(v4(flags="MF")), segment_of(v4(1, flags="MF"), 2000)),
    "version of ip": (BEFORE, segment_of(v6(), 2000)),
    "ipv6 hop limit": (BEFORE6, segment_of(v6(hlim=63), 2000)),
    "ipv6 flow label": (BEFORE6, segment_of(v6(fl=1), 2000)),
    "ipv6 traffic class": (BEFORE6, segment_of(v6(tc=1), 2000)),
    "ipv6 source": (BEFORE6, segment_of(v6(src="fc00::1"), 2000)),
    "ipv6 destination": (BEFORE6, segment_of(v6(dst="fc00::1"), 2000)),
    "ipv6 extension header": (BEFORE6, segment_of(v6() / IPv6ExtHdrDestOpt(), 2000)),
    "two ipv6 extension headers": (
        segment_of(v6() / IPv6ExtHdrDestOpt()),
        segment_of(v6() / IPv6ExtHdrDestOpt(), 2000),
    ),
    "ipv6 fragment": (BEFORE6, segment_of(v6() / IPv6ExtHdrFragment(m=1), 2000)),
    "udp": (BEFORE, bytes(v4(1) / UDP(sport=1, dport=2) / Raw(b"x" * 1000))),
    "two of udp": (bytes(v4() / UDP() / Raw(b"x" * 1000)), bytes(v4(1) / UDP() / Raw(b"x" * 1000))),
    "icmp": (BEFORE, bytes(v4(1) / ICMP() / Raw(b"x" * 1000))),
    "first with less than 256 bytes": (segment_of(v4(), payload=255), segment_of(v4(1), 1255, payload=255)),
    "first with psh": (segment_of(v4(), flags="PA"), segment_of(v4(1), 2000)),
    "first with fin": (segment_of(v4(), flags="FA"), segment_of(v4(1), 2000)),
    "first with syn": (segment_of(v4(), flags="SA"), segment_of(v4(1), 2001)),
    "first with urg": (segment_of(v4(), flags="UA"), segment_of(v4(1), 2000)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_packets_that_differ_in_more_than_a_segmentation_pass_unchanged(name: str) -> None:
    first, second = DIFFERENT[name]
    outputs = merge([first, second])
    assert [joined(merged) for merged in outputs] == [first, second]
    assert [merged.segment for merged in outputs] == [0, 0]


def flipped(packet: bytes, at: int) -> bytes:
    data = bytearray(packet)
    data[at] ^= 0x10
    return bytes(data)


@pytest.mark.parametrize("at", [36, 37, 50, -1])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_wrong_tcp_checksum_is_not_hidden(at: int, which: int) -> None:
    packets = [segment_of(v4(number), 1000 * (1 + number)) for number in range(3)]
    packets[which] = flipped(packets[which], at)
    outputs = merge(packets)
    assert expand(outputs) == packets
    assert packets[which] in [joined(merged) for merged in outputs if not merged.segment]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_wrong_ip_header_checksum_is_not_hidden(which: int) -> None:
    packets = [segment_of(v4(number), 1000 * (1 + number)) for number in range(3)]
    packets[which] = flipped(packets[which], 11)
    outputs = merge(packets)
    assert expand(outputs) == packets
    assert packets[which] in [joined(merged) for merged in outputs if not merged.segment]


@pytest.mark.parametrize("base", [v4, lambda _: v6()])
@pytest.mark.parametrize("last", [("A", 999), ("PA", 1000), ("FA", 1000), ("FPA", 1), ("A", 1)])
def test_psh_fin_or_a_shorter_segment_ends_its_super_packet(
    base: Callable[[int], Packet], last: tuple[str, int]
) -> None:
    flags, payload = last
    third = 3000 + payload
    packets = [
        segment_of(base(0), 1000),
        segment_of(base(1), 2000),
        segment_of(base(2), 3000, payload, flags),
        segment_of(base(3), third, min(payload, 1000)),
    ]
    outputs = merge(packets)
    assert [len(merged.parts) for merged in outputs] == [3, 1]
    assert str(parse(joined(outputs[0]))[TCP].flags) == flags
    assert expand(outputs) == packets


@pytest.mark.parametrize("base", [v4, lambda _: v6()])
def test_a_super_packet_stays_below_64_kib(base: Callable[[int], Packet]) -> None:
    packets = [segment_of(base(number), 1000 + 1448 * number, 1448) for number in range(100)]
    outputs = merge(packets)
    sizes = [len(joined(merged)) for merged in outputs]
    assert max(sizes) <= 65_535
    assert sizes[0] + 1448 > 65_535
    assert expand(outputs) == packets


def test_headers_of_a_super_packet_are_right_in_scapys_eyes() -> None:
    packets = [segment_of(v4(number, options=[IPOption_NOP()] * 4), 1000 + 1000 * number) for number in range(5)]
    (merged,) = merge(packets)
    data = joined(merged)
    packet = parse(data)
    assert packet.len == len(data)
    header_checksum = packet.chksum
    del packet.chksum
    assert parse(bytes(packet)).chksum == header_checksum
    assert (packet.id, packet[TCP].seq) == (100, 1000)
    (merged,) = merge([segment_of(v6(), 1000), segment_of(v6(), 2000)])
    assert parse(joined(merged)).plen == 2020


def test_cwr_on_the_first_segment_is_kept() -> None:
    packets = [segment_of(v6(), 1000, flags="CA"), segment_of(v6(), 2000)]
    (merged,) = merge(packets)
    assert expand([merged]) == packets


@pytest.mark.parametrize("data", [b"", b"\x45", b"\x60", b"\x45" * 39, b"\x60" * 59, bytes(60), b"\x45" + bytes(59)])
def test_what_is_no_packet_passes_unchanged(data: bytes) -> None:
    assert [joined(merged) for merged in merge([BEFORE, data])] == [BEFORE, data]


@given(st.binary(max_size=80))
def test_random_bytes_raise_nothing_and_pass_unchanged(data: bytes) -> None:
    for packet in (data, b"\x45" + data, b"\x60" + data):
        assert [joined(merged) for merged in merge([packet, packet])] == [packet, packet]


def test_nothing_is_left_after_a_flush() -> None:
    merger = Merger()
    assert merger.flush() == []
    assert merger.add(memoryview(bytearray(BEFORE))) == []
    assert [joined(merged) for merged in merger.flush()] == [BEFORE]
    assert merger.flush() == []
    assert merger.add(memoryview(bytearray(segment_of(v4(1), 2000)))) == []
    assert len(merger.flush()) == 1


class Flow:
    """A sender that does what TCP stacks do, and now and then something odd."""

    def __init__(self, number: int, *, is_ipv6: bool, has_df: bool) -> None:
        base = v6() if is_ipv6 else v4(flags="DF" if has_df else 0)
        template = base / TCP(
            sport=1000 + number, dport=80, flags="A", seq=2**32 - 1 - 5000 * number, options=TIMESTAMPS
        )
        self.header = bytearray(bytes(template))
        self.start = transport_offset(bytes(self.header))
        self.is_ipv6 = is_ipv6
        self.seq = int(template[TCP].seq) % 2**32
        self.identification = 65_530

    def packet(self, event: str, payload: int) -> bytes:
        self.identification += {"same identification": 0, "identification leaps": 5}.get(event, 1)
        self.seq += {"gap": 1000, "again": -payload}.get(event, 0)
        if event == "acknowledges more":
            self.header[self.start + 8] ^= 1
        if event == "pure ack":
            payload = 0
        packet = bytearray(self.header + plain_text(payload, self.seq))
        packet[self.start + 4 : self.start + 8] = (self.seq % 2**32).to_bytes(4, "big")
        packet[self.start + 13] |= {"psh": 8, "fin": 1, "urg": 32, "cwr": 0x80, "ece": 0x40}.get(event, 0)
        if self.is_ipv6:
            packet[4:6] = (len(packet) - 40).to_bytes(2, "big")
        else:
            packet[2:4] = len(packet).to_bytes(2, "big")
            packet[4:6] = (self.identification % 2**16).to_bytes(2, "big")
            write_ipv4_header_checksum(packet)
        complete(packet, self.start, 6)
        if event == "broken":
            packet[-1] ^= 1
        self.seq += payload
        return bytes(packet)


EVENTS = st.one_of(
    st.just("next"),
    st.just("next"),
    st.sampled_from(["psh", "fin", "urg", "cwr", "ece", "gap", "again", "broken"]),
    st.sampled_from(["pure ack", "same identification", "identification leaps", "acknowledges more"]),
)
STEPS = st.lists(
    st.tuples(st.integers(0, 3), EVENTS, st.sampled_from([1200, 1200, 1200, 1200, 300, 100, 1])),
    min_size=1,
    max_size=50,
)


def without_identification(packet: bytes) -> bytes:
    """A packet with don't fragment: a kernel that segments it counts the identification, where the sender may not."""
    if packet[0] >> 4 == 6 or not packet[6] & 0x40:
        return packet
    return packet[:4] + bytes(2) + packet[6:10] + bytes(2) + packet[12:]


@given(STEPS, st.lists(st.integers(0, 50), max_size=3))
def test_packets_of_interleaved_flows_keep_their_bytes_and_order(
    steps: list[tuple[int, str, int]], flushes: list[int]
) -> None:
    flows = [Flow(number, is_ipv6=number % 2 == 1, has_df=number == 2) for number in range(4)]
    packets = [flows[flow].packet(event, payload) for flow, event, payload in steps]
    merger = Merger()
    outputs = []
    for number, packet in enumerate(packets):
        outputs += merger.add(memoryview(bytearray(packet)))
        if number in flushes:
            outputs += merger.flush()
    outputs += merger.flush()
    assert [*map(without_identification, expand(outputs))] == [*map(without_identification, packets)]


@given(STEPS, st.lists(st.integers(0, 50), max_size=3), st.sampled_from([b"", bytes(5), bytes(15), b"junk"]))
def test_the_quick_way_gives_what_the_slow_one_gives(
    steps: list[tuple[int, str, int]], flushes: list[int], padding: bytes
) -> None:
    flows = [Flow(number, is_ipv6=number != 2, has_df=False) for number in range(4)]
    packets = [flows[flow].packet(event, payload) for flow, event, payload in steps]
    quick, slow = Merger(), Merger()
    outputs: list[list[Merged]] = [[], []]
    for number, packet in enumerate(packets):
        plain = memoryview(bytearray(packet + padding))
        taken = quick.extend(plain)
        assert taken in {0, len(packet)}
        if not taken:
            outputs[0] += quick.add(plain[: len(packet)])
        outputs[1] += slow.add(memoryview(bytearray(packet)))
        if number in flushes:
            outputs[0] += quick.flush()
            outputs[1] += slow.flush()
    outputs[0] += quick.flush()
    outputs[1] += slow.flush()
    written = [[(joined(merged), merged.segment, merged.transport) for merged in way] for way in outputs]
    assert written[0] == written[1]


def opened() -> Merger:
    """A merger with an open super-packet of one IPv6 segment."""
    merger = Merger()
    merger.add(memoryview(bytearray(segment_of(v6(), 1000, options=TIMESTAMPS))))
    return merger


def test_the_next_full_segment_is_taken_quickly() -> None:
    merger = opened()
    packets = [segment_of(v6(), seq, options=TIMESTAMPS) for seq in (2000, 3000)]
    assert [merger.extend(memoryview(bytearray(packet + bytes(8)))) for packet in packets] == [1072, 1072]
    (merged,) = merger.flush()
    assert expand([merged]) == [segment_of(v6(), 1000, options=TIMESTAMPS), *packets]
    assert merger.extend(memoryview(bytearray(segment_of(v6(), 4000, options=TIMESTAMPS)))) == 0


def test_a_segment_with_any_byte_altered_is_not_taken_quickly() -> None:
    merger = opened()
    packet = segment_of(v6(), 2000, options=TIMESTAMPS)
    assert [merger.extend(memoryview(bytearray(flipped(packet, at)))) for at in range(1072)] == [0] * 1072
    assert merger.extend(memoryview(bytearray(packet))) == 1072


@pytest.mark.parametrize("at", [0, 6, 43, 47, 51, 52, 53, 55, 59, 62, 71])
def test_another_header_with_a_right_checksum_is_not_taken_quickly(at: int) -> None:
    packet = bytearray(flipped(segment_of(v6(), 2000, options=TIMESTAMPS), at))
    complete(packet, 40, 6)
    assert opened().extend(memoryview(packet)) == 0


@pytest.mark.parametrize("payload", [999, 1001, 1])
def test_a_segment_of_another_length_is_not_taken_quickly(payload: int) -> None:
    packet = segment_of(v6(), 2000, payload, options=TIMESTAMPS)
    assert opened().extend(memoryview(bytearray(packet))) == 0


def test_a_segment_that_is_cut_off_is_not_taken_quickly() -> None:
    packet = segment_of(v6(), 2000, options=TIMESTAMPS)
    for length in (0, 1, 55, 60, 72, 1071):
        assert opened().extend(memoryview(bytearray(packet[:length]))) == 0


def test_the_quick_way_too_stays_below_64_kib() -> None:
    merger = Merger()
    packets = [segment_of(v6(), 1000 + 1448 * number, 1448) for number in range(60)]
    merger.add(memoryview(bytearray(packets[0])))
    taken = [merger.extend(memoryview(bytearray(packet))) for packet in packets[1:]]
    assert taken == [1508] * 44 + [0] * 15
    (merged,) = merger.flush()
    assert len(joined(merged)) == 60 + 45 * 1448 <= 65_535


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_runs_of_several_flows_are_merged_run_by_run(runs: list[int]) -> None:
    flows = [Flow(number, is_ipv6=number % 2 == 1, has_df=False) for number in range(2)]
    packets: list[list[bytes]] = [[], []]
    outputs = []
    merger = Merger()
    for at, run in enumerate(runs):
        for _ in range(run):
            packets[at % 2].append(flows[at % 2].packet("next", 1200))
            outputs += merger.add(memoryview(bytearray(packets[at % 2][-1])))
    outputs += merger.flush()
    assert [len(merged.parts) for merged in outputs] == runs
    for flow, sent in zip((4, 6), packets, strict=True):
        received = [joined(merged) for merged in outputs if joined(merged)[0] >> 4 == flow]
        assert b"".join(data[payload_offset(data) :] for data in received) == b"".join(
            packet[payload_offset(packet) :] for packet in sent
        )
