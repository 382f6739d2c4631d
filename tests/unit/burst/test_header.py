"""The headers of the fast path against the table of the wire format, and the rules of their sizes."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from weft.burst.header import (
    BURST_PREFIX,
    DATA_HEADER,
    DATA_OVERHEAD_BYTES,
    MAX_TOTAL_BYTES,
    NONCE,
    PieceHeader,
    decode_piece_header,
    piece_size,
)
from weft.errors import DecodeError

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)


def header_of(index: int, counter: int, total: int, number: int, count: int, kind: bytes = b"\5\0\0\0") -> bytes:
    return kind + pack("<IQHBB", index, counter, total, number, count)


def fitting(total: int, number: int, count: int, length: int) -> list[int]:
    """Every size s that gives a piece of this length in this place, found by trying all."""
    if not 0 <= number < count:
        return []
    if count == 1:
        return [length] if length == total else []
    sizes = range(512, total) if number == count - 1 else [length] if length >= 512 else []
    return [
        size
        for size in sizes
        if -(-total // size) == count and length == (size if number < count - 1 else total - (count - 1) * size)
    ]


def test_the_formats_are_those_of_the_table() -> None:
    assert DATA_HEADER.pack(4, 0x01020304, 5) == bytes.fromhex("04000000 04030201 0500000000000000")
    assert BURST_PREFIX.pack(5, 0x01020304, 5, 0xFB90) == bytes.fromhex("05000000 04030201 0500000000000000 90fb")
    assert NONCE.pack(0x0102) == bytes.fromhex("00000000 0201000000000000")
    assert DATA_OVERHEAD_BYTES == 32
    assert MAX_TOTAL_BYTES == 64_400


@given(U32, U64, st.integers(512, 65_000), st.integers(16, MAX_TOTAL_BYTES), st.data())
@example(0, 0, 512, 64 * 512, None)
@example(0, 0, 1212, MAX_TOTAL_BYTES, None)
def test_every_piece_that_a_sender_makes_decodes(
    index: int, counter: int, size: int, total: int, data: st.DataObject | None
) -> None:
    count = -(-total // size)
    assume(count <= 64)
    numbers = range(count) if data is None else [data.draw(st.integers(0, count - 1))]
    for number in numbers:
        length = min(size, total - number * size)
        datagram = header_of(index, counter, total, number, count) + bytes(length)
        assert decode_piece_header(datagram) == PieceHeader(index, counter, total, number, count)
        assert decode_piece_header(memoryview(datagram)) == decode_piece_header(bytearray(datagram))
        assert piece_size(total, number, count, length) == (size if count > 1 else total)


@given(st.integers(16, 6000), st.integers(0, 8), st.integers(1, 8), st.integers(1, 3000))
@example(1024, 0, 2, 512)
@example(1024, 1, 2, 512)
@example(1023, 0, 2, 511)
@example(1537, 2, 3, 513)
@example(1535, 2, 3, 511)
@example(2000, 1, 2, 1488)
def test_the_size_told_from_a_piece_is_the_only_one_that_fits(total: int, number: int, count: int, length: int) -> None:
    assume(number < count)
    sizes = fitting(total, number, count, length)
    assert len(sizes) <= 1
    assert piece_size(total, number, count, length) == (sizes[0] if sizes else 0)


@given(st.integers(16, 6000), st.integers(1, 8), st.data())
def test_the_size_told_from_a_last_piece_is_the_only_one_that_fits(total: int, count: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, max(1, total // count + 2)))
    sizes = fitting(total, count - 1, count, length)
    assert piece_size(total, count - 1, count, length) == (sizes[0] if sizes else 0)


BAD = {
    "empty": b"",
    "header without a piece": header_of(1, 1, 16, 0, 1),
    "type 4": header_of(1, 1, 32, 0, 1, b"\4\0\0\0") + bytes(32),
    "second byte of the type": header_of(1, 1, 32, 0, 1, b"\5\1\0\0") + bytes(32),
    "last byte of the type": header_of(1, 1, 32, 0, 1, b"\5\0\0\1") + bytes(32),
    "total without room for a tag": header_of(1, 1, 15, 0, 1) + bytes(15),
    "total above the largest": header_of(1, 1, 64_401, 0, 1) + bytes(64_401),
    "no pieces": header_of(1, 1, 32, 0, 0) + bytes(32),
    "65 pieces": header_of(1, 1, 65 * 512, 0, 65) + bytes(512),
    "number beyond the count": header_of(1, 1, 1024, 2, 2) + bytes(512),
    "single piece that is shorter": header_of(1, 1, 32, 0, 1) + bytes(31),
    "single piece that is longer": header_of(1, 1, 32, 0, 1) + bytes(33),
    "pieces of 511": header_of(1, 1, 1022, 0, 2) + bytes(511),
    "last of pieces of 511": header_of(1, 1, 1022, 1, 2) + bytes(511),
    "size of another count": header_of(1, 1, 1600, 0, 2) + bytes(512),
    "last piece longer than the others": header_of(1, 1, 1600, 1, 2) + bytes(801),
    "last piece that leaves a fraction": header_of(1, 1, 2001, 2, 3) + bytes(600),
}


@pytest.mark.parametrize("name", BAD)
def test_a_header_that_no_sender_makes_is_refused(name: str) -> None:
    with pytest.raises(DecodeError):
        decode_piece_header(BAD[name])


@given(st.binary(max_size=600))
def test_random_bytes_raise_nothing_but_a_decode_error(data: bytes) -> None:
    for datagram in (data, b"\5\0\0\0" + data):
        try:
            header = decode_piece_header(datagram)
        except DecodeError:
            continue
        assert fitting(header.total, header.number, header.pieces, len(datagram) - 20)


@given(U32, U64, st.integers(0, 65_535), st.integers(0, 255), st.integers(0, 255), st.integers(1, 1600))
@example(0, 0, 16, 0, 1, 16)
def test_a_forged_header_is_taken_only_if_its_piece_fits(
    index: int, counter: int, total: int, number: int, count: int, length: int
) -> None:
    fits = 16 <= total <= MAX_TOTAL_BYTES and 1 <= count <= 64 and bool(fitting(total, number, count, length))
    try:
        decode_piece_header(header_of(index, counter, total, number, count) + bytes(length))
    except DecodeError:
        assert not fits
    else:
        assert fits
