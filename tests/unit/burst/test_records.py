"""Records: what is written comes back, and nothing but exact lengths is taken."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.burst.records import (
    FLAG_CHECKSUM_PARTIAL,
    KIND_MULTIGRAM,
    KIND_PACKET,
    KIND_TCP,
    KIND_UDP,
    Record,
    decode_records,
)
from weft.errors import DecodeError

Written = tuple[int, int, int, bytes]

WRITTEN = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 65_535), st.binary(min_size=1, max_size=60)),
    min_size=1,
    max_size=8,
)


def encode(records: list[Written]) -> bytes:
    """Records as the wire format has them, padded to a multiple of 16."""
    plain = b"".join(pack("<IBBH", len(data), kind, flags, segment) + data for kind, flags, segment, data in records)
    return plain + bytes(-len(plain) % 16)


def read(plain: bytes) -> list[Written]:
    return [
        (record.kind, record.flags, record.segment, plain[record.start : record.end])
        for record in decode_records(memoryview(plain))
    ]


@given(WRITTEN)
def test_what_is_encoded_is_decoded(records: list[Written]) -> None:
    assert read(encode(records)) == records


def test_the_kinds_and_flags_are_those_of_the_table() -> None:
    assert (KIND_PACKET, KIND_TCP, KIND_UDP, KIND_MULTIGRAM) == (0, 1, 2, 3)
    assert FLAG_CHECKSUM_PARTIAL == 1


def test_the_layout_is_that_of_the_table() -> None:
    plain = bytes.fromhex("03000000 01 02 b405 616263 0000000000")
    assert decode_records(memoryview(plain)) == [Record(kind=1, flags=2, segment=1460, start=8, end=11)]


@given(
    st.one_of(
        st.binary(max_size=200), st.integers(0, 12).flatmap(lambda n: st.binary(min_size=16 * n, max_size=16 * n))
    )
)
def test_random_bytes_decode_to_themselves_or_raise_a_decode_error(plain: bytes) -> None:
    try:
        records = read(plain)
    except DecodeError:
        return
    assert encode(records) == plain


@given(WRITTEN, st.data())
def test_mutated_records_decode_to_themselves_or_raise_a_decode_error(
    records: list[Written], data: st.DataObject
) -> None:
    plain = bytearray(encode(records))
    for _ in range(data.draw(st.integers(1, 3))):
        # Most of what matters is in the headers, so small values and the first bytes are drawn often.
        at = data.draw(st.one_of(st.integers(0, len(plain) - 1), st.integers(0, min(16, len(plain)) - 1)))
        plain[at] = data.draw(st.one_of(st.integers(0, 255), st.integers(0, 20)))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 8, 15, 16]))
    mutated = bytes(plain[: len(plain) - cut])
    try:
        decoded = read(mutated)
    except DecodeError:
        return
    assert encode(decoded) == mutated


ONE = encode([(0, 0, 0, b"x" * 24)])

BAD = {
    "nothing": b"",
    "zeros alone": bytes(16),
    "length zero at the beginning": bytes(8) + ONE[8:],
    "record one byte too long": pack("<IBBH", 25, 0, 0, 0) + b"x" * 24,
    "record of 4 GiB": pack("<IBBH", 2**32 - 1, 0, 0, 0) + b"x" * 24,
    "no multiple of 16": pack("<IBBH", 9, 0, 0, 0) + b"x" * 9,
    "half a header behind the last record": pack("<IBBH", 4, 0, 0, 0) + b"xxxx" + b"\0\0\0\1",
    "padding that is not zero": pack("<IBBH", 7, 0, 0, 0) + b"x" * 7 + b"\1",
    "kind in the header that ends the list": pack("<IBBH", 8, 0, 0, 0)
    + b"x" * 8
    + pack("<IBBH", 0, 1, 0, 0)
    + bytes(8),
    "16 bytes of padding": ONE + bytes(16),
    "a second list behind the end": pack("<IBBH", 8, 0, 0, 0) + b"x" * 8 + bytes(16) + ONE,
    "header without its bytes": ONE + pack("<IBBH", 9, 0, 0, 0) + bytes(8),
}


@pytest.mark.parametrize("name", BAD)
def test_lengths_that_do_not_end_exactly_deliver_nothing(name: str) -> None:
    with pytest.raises(DecodeError):
        decode_records(memoryview(BAD[name]))


@pytest.mark.parametrize("length", range(1, 33))
def test_each_amount_of_padding_below_16_is_taken(length: int) -> None:
    assert read(encode([(0, 0, 0, b"x" * length)])) == [(0, 0, 0, b"x" * length)]


def test_a_burst_has_at_most_256_records() -> None:
    assert len(read(encode([(0, 0, 0, b"x")] * 256))) == 256
    with pytest.raises(DecodeError):
        read(encode([(0, 0, 0, b"x")] * 257))


def test_unknown_kinds_and_flags_are_decoded_for_the_caller_to_skip() -> None:
    records = [(200, 0, 0, b"a"), (0, 0x80, 0, b"b"), (0, 0, 0, b"c")]
    assert read(encode(records)) == records
