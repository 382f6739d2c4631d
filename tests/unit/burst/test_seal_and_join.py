"""Sealed, cut, shuffled, doubled, joined and opened, a burst is what it was."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.burst.keys import INDEX, Key, cut, plain_text
from weft.burst.header import MAX_TOTAL_BYTES, PIECE_HEADER, decode_piece_header
from weft.burst.join import Budget, Joiner, Whole, whole_in_buffer
from weft.burst.seal import BurstSealer, PacketSealer, open_burst, padding_of, seal_packet
from weft.burst.size import LossMeter
from weft.errors import DecodeError

MAX_PLAIN = MAX_TOTAL_BYTES - 16
KEY = Key()
SEALER = BurstSealer()


def new_joiner() -> Joiner:
    return Joiner(Budget(), LossMeter(), Counter())


def join(joiner: Joiner, datagrams: list[bytes], now: int = 0) -> list[Whole]:
    """Give datagrams to a joiner as the datapath does."""
    wholes = []
    for datagram in datagrams:
        try:
            header = decode_piece_header(datagram)
        except DecodeError:
            continue
        whole = joiner.receive(header, memoryview(datagram), "source", now, proven=True)
        if whole is not None:
            wholes.append(whole)
    return wholes


def open_whole(whole: Whole, key: Key = KEY) -> bytes | None:
    plain = memoryview(bytearray(MAX_TOTAL_BYTES))
    length = open_burst(key.sealer, whole.counter, whole.prefix, whole.sealed, plain)
    return None if length < 0 else bytes(plain[:length])


def least_piece(length: int) -> int:
    """The smallest piece that a burst of that plain text may be cut into."""
    return max(512, -(-(length + 16) // 64))


SIZES = st.one_of(
    st.integers(1, MAX_PLAIN), st.integers(1, 4000), st.sampled_from([1, 496, 497, 32_768 - 16, MAX_PLAIN])
)
PIECES = st.one_of(
    st.integers(0, 2000),
    st.sampled_from([0, 1232 - 512, 1212 - 512, 1452 - 512, MAX_TOTAL_BYTES - 512, 65_000 - 512]),
)
"""Bytes above the smallest piece that is possible."""


@given(SIZES, PIECES, st.integers(0, 2**64 - 2**13 - 1), st.randoms(use_true_random=False))
@example(1, 0, 0, Random(0))
@example(MAX_PLAIN, 0, 2**64 - 2**13 - 1, Random(0))
@example(MAX_PLAIN, 1212 - 1007, 1, Random(0))
@example(MAX_PLAIN, MAX_TOTAL_BYTES, 1, Random(0))
@example(64 * 512 - 16, 0, 1, Random(0))
@example(2 * 512 - 16, 0, 1, Random(0))
@example(2 * 512 - 15, 0, 1, Random(0))
def test_a_shuffled_burst_with_duplicates_is_joined_and_opened(
    length: int, above: int, counter: int, random: Random
) -> None:
    plain = plain_text(length, counter)
    piece = least_piece(length) + above
    datagrams = cut(SEALER, KEY, counter, plain, piece)
    assert [len(datagram) for datagram in datagrams[:-1]] == [piece + 20] * (len(datagrams) - 1)
    assert sum(len(datagram) - 20 for datagram in datagrams) == length + 16
    last, *others = random.sample(datagrams, len(datagrams))
    before = others + random.choices(others, k=3) if others else []
    random.shuffle(before)
    joiner = new_joiner()
    assert join(joiner, before) == []
    (whole,) = join(joiner, [last])
    assert (whole.receiver_index, whole.counter, whole.pieces) == (INDEX, counter, len(datagrams))
    assert open_whole(whole) == plain
    assert joiner.unfinished == 0
    assert joiner.drops["join: twice"] == len(before) - len(others)


@given(SIZES, PIECES, st.integers(0, 600), st.booleans())
@example(1, 0, 0, False)
@example(MAX_PLAIN, 0, 0, False)
@example(2 * 512 - 16, 0, 0, True)
def test_a_burst_that_lies_whole_in_a_buffer_is_the_same_as_joined(
    length: int, above: int, offset: int, another: bool
) -> None:
    piece = least_piece(length) + above
    datagrams = cut(SEALER, KEY, 7, plain_text(length), piece)
    is_full = len(datagrams[-1]) == len(datagrams[0])
    behind = cut(SEALER, KEY, 8, plain_text(100), piece)[0] if another and is_full else b""
    buffer = bytes(offset) + b"".join(datagrams) + behind
    whole = whole_in_buffer(memoryview(buffer), offset, len(buffer), len(datagrams[0]))
    (joined,) = join(new_joiner(), datagrams)
    assert whole == joined
    assert open_whole(joined) == plain_text(length)
    taken = len(joined.sealed) + 20 * joined.pieces
    assert buffer[offset + taken :] == behind


FIELDS = st.tuples(
    st.sampled_from([INDEX, INDEX, INDEX, 1]),
    st.sampled_from([7, 7, 7, 8, 7 + 256]),
    st.sampled_from([600, 1024, 1536, 1500, 1200, 16, 64_400, 65_535]),
    st.integers(0, 3),
    st.sampled_from([1, 2, 3, 3, 64, 65, 0, 255]),
)


@given(st.lists(FIELDS, min_size=1, max_size=5), st.integers(21, 640), st.integers(0, 640))
@example([(INDEX, 7, 1124, n, 2) for n in range(3)], 632, 632)
@example([(INDEX, 7, 1124, n, 2) for n in range(2)], 632, 532)
@example([(INDEX, 7, 16, 0, 1)] * 2, 36, 36)
def test_forged_buffers_give_no_burst_but_what_their_datagrams_would_give(
    fields: list[tuple[int, int, int, int, int]], segment: int, last: int
) -> None:
    rest = segment - 20
    datagrams = [
        PIECE_HEADER.pack(5, *head) + plain_text(rest if at < len(fields) - 1 else min(last, rest), at)
        for at, head in enumerate(fields)
    ]
    buffer = b"".join(datagrams)
    whole = whole_in_buffer(memoryview(buffer), 0, len(buffer), segment)
    joined = join(new_joiner(), datagrams[: fields[0][4]])
    if joined and fields[0][3] == 0 and [head[3] for head in fields[: joined[0].pieces]] == [*range(joined[0].pieces)]:
        assert whole == joined[0]
    if whole is not None:
        # What a tag would tell apart later is not compared; the cut into datagrams must be right.
        honest = [
            PIECE_HEADER.pack(5, *fields[0][:3], number, fields[0][4]) + datagram[20:]
            for number, datagram in enumerate(datagrams[: whole.pieces])
        ]
        assert join(new_joiner(), honest) == [whole]


@given(st.binary(max_size=300), st.integers(1, 300), st.integers(0, 20))
def test_random_buffers_raise_nothing(data: bytes, segment: int, start: int) -> None:
    buffer = b"\5\0\0\0" + data
    whole = whole_in_buffer(memoryview(buffer), min(start, len(buffer)), len(buffer), segment)
    assert whole is None or len(whole.sealed) + 20 * whole.pieces <= len(buffer)


def test_more_than_64_pieces_in_a_buffer_are_no_burst() -> None:
    count, size = 70, 512
    buffer = b"".join(PIECE_HEADER.pack(5, INDEX, 1, count * size, n, count) + bytes(size) for n in range(count))
    assert whole_in_buffer(memoryview(buffer), 0, len(buffer), size + 20) is None


def test_a_piece_that_is_longer_than_its_place_is_not_cut() -> None:
    """Else the next datagram would be looked for in the middle of this one."""
    datagrams = cut(SEALER, KEY, 1, plain_text(1000), 800)
    buffer = b"".join(datagrams).ljust(3 * 820, b"x")
    assert whole_in_buffer(memoryview(buffer), 0, len(buffer), 820) is None
    single = cut(SEALER, KEY, 1, plain_text(500), 800)[0].ljust(820, b"x")
    assert whole_in_buffer(memoryview(single), 0, 820, 820) is None


@pytest.mark.parametrize("at", [4, 7, 8, 15])
def test_a_changed_index_or_counter_in_all_pieces_opens_nothing(at: int) -> None:
    datagrams = [bytearray(datagram) for datagram in cut(SEALER, KEY, 5, plain_text(1600), 540)]
    for datagram in datagrams:
        datagram[at] ^= 1
    (whole,) = join(new_joiner(), [bytes(datagram) for datagram in datagrams])
    assert open_whole(whole) is None


def test_a_changed_total_opens_nothing() -> None:
    datagram = bytearray(cut(SEALER, KEY, 5, plain_text(400), 540)[0] + b"x")
    datagram[16:18] = (417).to_bytes(2, "little")
    (whole,) = join(new_joiner(), [bytes(datagram)])
    assert open_whole(whole) is None


@pytest.mark.parametrize(("piece", "at"), [(0, 20), (1, 300), (3, -1)])
def test_a_changed_byte_of_a_piece_opens_nothing(piece: int, at: int) -> None:
    datagrams = [bytearray(datagram) for datagram in cut(SEALER, KEY, 5, plain_text(1700), 540)]
    datagrams[piece][at] ^= 1
    (whole,) = join(new_joiner(), [bytes(datagram) for datagram in datagrams])
    assert open_whole(whole) is None


def test_a_burst_is_sealed_by_its_counter_and_its_prefix() -> None:
    """As the wire format has it: nonce of type 4, associated data header[0:18]."""
    plain = plain_text(2000)
    datagrams = cut(SEALER, KEY, 0x0102030405060708, plain, 700)
    sealed = b"".join(datagram[20:] for datagram in datagrams)
    nonce = bytes(4) + (0x0102030405060708).to_bytes(8, "little")
    prefix = b"\5\0\0\0" + INDEX.to_bytes(4, "little") + nonce[4:] + (2016).to_bytes(2, "little")
    assert ChaCha20Poly1305(b"k" * 32).decrypt(nonce, sealed, prefix) == plain
    for number, datagram in enumerate(datagrams):
        assert datagram[:20] == prefix + bytes((number, 3))


def test_many_sizes_of_pieces_in_turn_do_not_mix() -> None:
    sealer = BurstSealer()
    for counter in range(200):
        plain = plain_text(3000, counter)
        (whole,) = join(new_joiner(), cut(sealer, KEY, counter, plain, 512 + counter))
        assert open_whole(whole) == plain


def test_pieces_of_two_bursts_and_two_sources_do_not_mix() -> None:
    first = cut(SEALER, KEY, 1, plain_text(1500, 1), 600)
    second = cut(SEALER, KEY, 2, plain_text(1500, 2), 600)
    joiner = new_joiner()
    wholes = join(joiner, [datagram for pair in zip(first, second, strict=True) for datagram in pair])
    assert [open_whole(whole) for whole in wholes] == [plain_text(1500, 1), plain_text(1500, 2)]
    for datagram, source in zip(first, ("a", "b", "a"), strict=True):
        header = decode_piece_header(datagram)
        assert joiner.receive(header, memoryview(datagram), source, 0, proven=True) is None


@given(st.lists(st.integers(0, 1500), min_size=1, max_size=20))
def test_packets_that_are_sealed_behind_each_other_open_one_by_one(lengths: list[int]) -> None:
    sealer = PacketSealer()
    plains = [plain_text(length, counter) for counter, length in enumerate(lengths)]
    sizes = [sealer.add(KEY, counter, plain) for counter, plain in enumerate(plains)]
    assert sizes == [length + 32 for length in lengths]
    data = bytes(sealer.take())
    for counter, (plain, size) in enumerate(zip(plains, sizes, strict=True)):
        datagram, data = data[:size], data[size:]
        nonce = bytes(4) + counter.to_bytes(8, "little")
        assert datagram[:16] == b"\4\0\0\0" + INDEX.to_bytes(4, "little") + nonce[4:]
        assert KEY.sealer.decrypt(nonce, datagram[16:], None) == plain
        assert seal_packet(KEY, counter, plain) == datagram
    assert data == b""


def test_a_cleared_sealer_begins_anew() -> None:
    sealer = PacketSealer()
    sealer.add(KEY, 1, b"x" * 16)
    sealer.clear()
    assert bytes(sealer.take()) == b""
    sealer.add(KEY, 2, b"y" * 16)
    assert bytes(sealer.take()) == seal_packet(KEY, 2, b"y" * 16)


@given(st.integers(1, 1500), st.integers(1, 1500), st.integers(1, 40), st.integers(0, 2**60))
def test_segments_are_sealed_with_counters_that_follow_each_other(size: int, last: int, count: int, first: int) -> None:
    segments = [plain_text(size, number) for number in range(count - 1)] + [plain_text(min(size, last), 99)]
    sealer = PacketSealer()
    sealer.add(KEY, 5, b"before")
    sealed = sealer.seal_segments(KEY, first, segments)
    assert bytes(sealed) == b"".join(
        seal_packet(KEY, first + number, segment) for number, segment in enumerate(segments)
    )
    assert sealer.take() == sealed
    sealer.add(KEY, 6, b"behind")
    assert bytes(sealer.take()) == bytes(sealed) + seal_packet(KEY, 6, b"behind")


def test_what_leaves_in_one_call_has_at_most_65000_bytes() -> None:
    sealer = PacketSealer()
    assert sealer.takes(65_000)
    assert not sealer.takes(65_001)
    sealer.add(KEY, 1, bytes(1000 - 32))
    assert sealer.takes(64_000)
    assert not sealer.takes(64_001)


def test_a_probe_of_the_largest_datagram_can_be_sealed() -> None:
    """65,507 bytes of UDP payload over IPv4."""
    sealer = PacketSealer()
    assert sealer.add(KEY, 1, bytes(65_507 - 32)) == 65_507


@pytest.mark.parametrize(
    ("length", "limit", "zeros"),
    [(0, 1400, 0), (1, 1400, 15), (16, 1400, 0), (1390, 1400, 2), (1393, 1400, 7), (1400, 1400, 0), (1408, 1400, 0)],
)
def test_padding_fills_to_16_but_not_beyond_the_path(length: int, limit: int, zeros: int) -> None:
    assert padding_of(length, limit) == bytes(zeros)
