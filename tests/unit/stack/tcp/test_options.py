"""Headers, checksums, options and segment sizes (RFC 9293 sections 3.1, 3.2, 3.7.1; RFC 7323 section 2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stack.tcp.script import Script
from weft.errors import DecodeError
from weft.stack.tcp.options import MAX_SHIFT, NO_OPTIONS, Options, decode_options, encode_options
from weft.stack.tcp.states import State

U32 = st.integers(0, 0xFFFFFFFF)
PAIRS = st.tuples(U32, U32)


def test_3_1_must_2_what_leaves_has_a_checksum(script: Script) -> None:
    """It is left open for whoever sends it on, who completes it; the harness does, and verifies it."""
    script.accepted()
    script.send(b"odd")
    sent = script.expect("P.", seq=1, ack=1, data=b"odd")
    assert sent.packet[36:38] != bytes(2)


def test_3_1_must_3_wrong_checksum_is_dropped(script: Script) -> None:
    script.accepted()
    packet = bytearray(script.packet("P.", seq=1, ack=1, data=b"hello"))
    packet[-1] ^= 1
    script.deliver(bytes(packet))
    script.flush()
    assert script.drops("ip: bad transport checksum") == 1
    assert script.connection.readable_bytes == 0


def test_3_1_must_1_window_is_unsigned(script: Script) -> None:
    script.accepted(window=0xFFFF)
    for number in range(10):
        script.inject(".", seq=1, ack=1 + 5000 * number, window=0xFFFF)
        script.send(5000)
        script.take_all()
    assert script.connection.unacknowledged_bytes == 5000
    assert script.connection.sender.window == 0xFFFF


def test_3_1_must_69_options_are_padded_with_zeros(script: Script) -> None:
    """Ours need no padding: each is aligned by no-operations."""
    script.connect()
    sent = script.expect("S", seq=0)
    assert sent.packet[40:60] == bytes.fromhex("020403e8 01010402 0101080a") + sent.packet[52:60]
    assert sent.packet[60:] == bytes.fromhex("01030308")


def test_3_1_must_69_what_stands_behind_the_end_of_options_is_nothing(script: Script) -> None:
    script.listen()
    script.inject("S", seq=0, options=bytes.fromhex("0204 0200 00 030307"))
    script.expect("S.", seq=0, ack=1, options=Options(maximum_segment=1000))


def test_3_1_must_4_end_nothing_and_maximum_segment_are_known(script: Script) -> None:
    script.listen()
    script.inject("S", seq=0, options=bytes.fromhex("01 0204 0200 01 00 ff"))
    script.expect("S.", seq=0, ack=1)
    script.inject(".", seq=1, ack=1)
    assert script.accept().maximum_segment == 512


def test_3_1_must_5_options_may_come_in_any_segment(script: Script) -> None:
    script.accepted()
    script.inject("P.", seq=1, ack=1, data=b"abc", options=bytes.fromhex("01010101"))
    script.expect(".", seq=1, ack=4, after=40)
    script.inject("FP.", seq=4, ack=1, data=b"def", mss=100)
    script.expect(".", seq=1, ack=8)
    assert script.receive() == b"abcdef"


def test_3_1_must_6_unknown_options_are_ignored(script: Script) -> None:
    script.listen()
    script.inject("S", seq=0, options=bytes.fromhex("fd06 01020304 0204 0200 2212 00000000000000000000000000000000"))
    script.expect("S.", seq=0, ack=1)
    script.inject(".", seq=1, ack=1, options=bytes.fromhex("fe020000"))
    assert script.accept().maximum_segment == 512


@pytest.mark.parametrize("bad", ["0201 03e8", "0200 03e8", "0205 03e8", "01010102", "fd01 0000", "0109 0104"])
def test_3_1_must_7_bad_option_lengths_are_survived(script: Script, bad: str) -> None:
    script.accepted()
    script.inject("P.", seq=1, ack=1, data=b"abc", options=bytes.fromhex(bad))
    assert script.drops("tcp: bad header") == 1
    assert script.connection.readable_bytes == 0
    assert script.state is State.ESTABLISHED


@pytest.mark.parametrize(
    "odd", ["0206 02000000", "0304 0300", "0403 00", "0509 00000000000000", "0804 0000", "0503 00", "0302", "0402"]
)
def test_3_1_must_68_known_options_of_another_length_are_skipped_by_it(odd: str) -> None:
    data = bytes.fromhex(odd) + bytes.fromhex("02040200")
    expected = Options(maximum_segment=512, sack_permitted=odd == "0402")
    assert decode_options(memoryview(data), 0, len(data)) == expected


@pytest.mark.parametrize(
    "odd",
    ["0203 05", "0206 05050505", "0304 0505", "0403 05", "0509 05050505050505", "0804 0505", "fd02"]
    + [f"fd{length:02x} " + "05" * (length - 2) for length in (2, 3, 4, 10)],
)
def test_option_that_is_skipped_changes_nothing(odd: str) -> None:
    options = Options(512, 7, False, ((1, 2),), (3, 4))
    data = encode_options(options) + bytes.fromhex(odd)
    assert decode_options(memoryview(data), 0, len(data)) == options


def test_3_2_must_64_options_need_no_alignment(script: Script) -> None:
    script.listen()
    script.inject("S", seq=0, options=bytes.fromhex("01 030307 0402 02040200 080a 00000064 00000000"))
    script.expect("S.", seq=0, ack=1, mss=1000, ws=8, sack=True, ts=(0, 100))


def test_3_7_1_must_14_maximum_segment_is_sent_and_received(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0, mss=1000)
    script.inject("S.", seq=0, ack=1, mss=700)
    script.expect(".", seq=1, ack=1)
    script.send(700)
    script.expect("P.", seq=1, ack=1, length=700)


@pytest.mark.parametrize(("version", "mtu", "size"), [(4, 1500, 536), (6, 1500, 1220)])
def test_3_7_1_must_15_peer_that_does_not_say(version: int, mtu: int, size: int) -> None:
    with Script(version=version, mtu=mtu) as script:
        script.accepted(mss=None)
        assert script.connection.maximum_segment == size
        script.send(size * 2)
        script.expect("P.", seq=1, ack=1, length=size * 2, segment=size)


@pytest.mark.parametrize(("mtu", "mss", "size"), [(1040, 1460, 1000), (1500, 900, 900), (1500, 1460, 1460)])
def test_3_7_1_must_16_the_smaller_of_what_peer_and_path_take(mtu: int, mss: int, size: int) -> None:
    with Script(mtu=mtu) as script:
        script.accepted(mss=mss)
        assert script.connection.maximum_segment == size


def test_3_7_1_must_16_options_of_each_segment_are_taken_off(script: Script) -> None:
    script.accepted(ts=100, sack=True)
    assert script.connection.maximum_segment == 988
    script.send(988)
    script.expect("P.", seq=1, ack=1, length=988)
    script.inject("P.", seq=11, ack=1, data=b"x", ts=(100, 0))
    script.expect(".", seq=989, ack=1, blocks=((11, 12),))
    script.inject(".", seq=1, ack=989, ts=(100, 0))
    script.send(988)
    # 12 bytes for one block: a full segment does not fit any more.
    script.expect(".", seq=989, ack=1, length=976)
    script.inject(".", seq=1, ack=1965, ts=(100, 0))
    script.expect("P.", seq=1965, ack=1, length=12)


@pytest.mark.parametrize(("version", "mtu", "size"), [(4, 1352, 1312), (6, 1352, 1292), (4, 576, 536), (6, 1280, 1220)])
def test_3_7_1_must_67_what_we_take_is_what_the_network_takes(version: int, mtu: int, size: int) -> None:
    with Script(version=version, mtu=mtu) as script:
        script.connect()
        script.expect("S", seq=0, mss=size)


@pytest.mark.parametrize(("version", "mtu", "size"), [(4, 1352, 1312), (6, 1352, 1292)])
def test_3_7_1_must_67_of_an_answer(version: int, mtu: int, size: int) -> None:
    with Script(version=version, mtu=mtu) as script:
        script.listen()
        script.inject("S", seq=0)
        script.expect("S.", seq=0, ack=1, mss=size)


def test_3_7_1_must_65_maximum_segment_only_in_syns(script: Script) -> None:
    script.accepted(ts=1, sack=True, ws=7)
    script.send(b"x")
    assert script.expect("P.", seq=1, ack=1, data=b"x").options.maximum_segment is None
    script.shutdown()
    assert script.expect("F.", seq=2, ack=1).options.maximum_segment is None


@pytest.mark.parametrize("mss", [0, 1, 47])
def test_peer_cannot_make_segments_of_headers_only(script: Script, mss: int) -> None:
    script.accepted(mss=mss)
    # 0 is as if it said nothing.
    assert script.connection.maximum_segment == (48 if mss else 536)


def test_smallest_segment_is_not_below_48_with_timestamps(script: Script) -> None:
    script.accepted(mss=50, ts=1)
    assert script.connection.maximum_segment == 48


@pytest.mark.parametrize(("ws", "shift"), [(0, 0), (1, 1), (14, 14), (15, 14), (255, 14)])
def test_rfc_7323_2_3_shift_is_at_most_14(script: Script, ws: int, shift: int) -> None:
    script.listen()
    script.inject("S", seq=0, window=1000, options=bytes((3, 3, ws)))
    script.expect("S.", seq=0, ack=1, ws=8)
    script.inject(".", seq=1, ack=1, window=3)
    assert script.accept().sender.window == 3 << shift


def test_rfc_7323_2_2_window_of_a_syn_is_not_scaled(script: Script) -> None:
    script.listen()
    script.inject("S", seq=0, window=1000, ws=4, mss=1000)
    script.expect("S.", seq=0, ack=1, window=65535)
    assert script.host.tcp.connections[0].sender.window == 1000


def test_rfc_7323_2_2_no_scaling_without_both(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0, ws=8)
    script.inject("S.", seq=0, ack=1, window=2000, mss=1000)
    script.expect(".", seq=1, ack=1, window=65535)
    assert script.connection.sender.window == 2000


def test_rfc_7323_2_2_our_window_is_scaled(script: Script) -> None:
    script.accepted(ws=0)
    script.send(b"x")
    script.expect("P.", seq=1, ack=1, data=b"x", window=1024)


def test_segment_size_does_not_change_with_options_of_later_segments(script: Script) -> None:
    script.accepted(mss=500)
    script.inject("P.", seq=1, ack=1, data=b"x", mss=100, ws=3, sack=True)
    script.expect(".", seq=1, ack=2, after=40)
    assert script.connection.maximum_segment == 500
    assert script.connection.shift == 0


@given(
    st.builds(
        Options,
        st.none() | st.integers(0, 0xFFFF),
        st.none() | st.integers(0, MAX_SHIFT),
        st.booleans(),
        st.just(()),
        st.none() | PAIRS,
    )
)
def test_options_of_a_syn_are_decoded_as_they_were_encoded(options: Options) -> None:
    encoded = encode_options(options)
    assert len(encoded) % 4 == 0
    assert len(encoded) <= 40
    assert decode_options(memoryview(encoded), 0, len(encoded)) == options


@given(st.lists(PAIRS, max_size=3).map(tuple), st.none() | PAIRS, st.integers(0, 9))
def test_options_of_other_segments_are_decoded_as_they_were_encoded(
    blocks: tuple[tuple[int, int], ...], timestamps: tuple[int, int] | None, at: int
) -> None:
    options = Options(blocks=blocks, timestamps=timestamps)
    encoded = encode_options(options)
    assert len(encoded) % 4 == 0
    assert len(encoded) <= 40
    assert decode_options(memoryview(bytes(at) + encoded), at, at + len(encoded)) == options


def test_four_blocks_fit_without_timestamps() -> None:
    options = Options(blocks=((1, 2), (3, 4), (5, 6), (7, 8)))
    encoded = encode_options(options)
    assert len(encoded) == 36
    assert decode_options(memoryview(encoded), 0, 36) == options


def test_no_options_are_no_bytes() -> None:
    assert encode_options(NO_OPTIONS) == b""
    assert decode_options(memoryview(b""), 0, 0) is NO_OPTIONS


@given(st.binary(max_size=40))
def test_any_bytes_are_options_or_refused(data: bytes) -> None:
    try:
        options = decode_options(memoryview(data), 0, len(data))
    except DecodeError:
        return
    assert options.shift is None or options.shift <= MAX_SHIFT
    assert len(options.blocks) <= 4


def test_fault_is_told_with_its_offset() -> None:
    with pytest.raises(DecodeError) as cut_off:
        decode_options(memoryview(bytes.fromhex("00 0101 0204 02")), 1, 6)
    assert cut_off.value.offset == 3
    with pytest.raises(DecodeError) as lengthless:
        decode_options(memoryview(bytes.fromhex("01 01 02 04")), 0, 3)
    assert lengthless.value.offset == 2
