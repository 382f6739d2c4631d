"""The codec in front of a multigram."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weft.errors import DecodeError
from weft.mesh.multigram import (
    CODEC_BYTES,
    FIRST_BYTE,
    NOTICE,
    PROBE,
    decode_multigram,
    encode_codec,
    encode_multigram,
)


@pytest.mark.parametrize(
    ("codec", "bytes_"), [(0x12345, "c5c68400"), (0x42005, "85c09000"), (0x42006, "86c09000"), (0x42007, "87c09000")]
)
def test_codecs_are_those_of_the_table(codec: int, bytes_: str) -> None:
    assert encode_codec(codec).hex() == bytes_
    assert decode_multigram(bytes.fromhex(bytes_) + b"body") == (codec, b"body")


def test_a_multigram_begins_with_its_codec() -> None:
    assert encode_multigram(PROBE, b"body") == bytes.fromhex("85c09000") + b"body"
    assert encode_multigram(NOTICE, b"body") == bytes.fromhex("87c09000") + b"body"


@given(st.integers(0, 2**28 - 1), st.binary(max_size=50))
@example(0, b"")
@example(2**28 - 1, b"")
def test_what_is_encoded_is_decoded(codec: int, body: bytes) -> None:
    data = encode_codec(codec) + body
    assert len(encode_codec(codec)) == CODEC_BYTES
    assert data[0] >= FIRST_BYTE == 0x80
    assert decode_multigram(data) == decode_multigram(memoryview(data)) == (codec, body)


@pytest.mark.parametrize("codec", [PROBE, NOTICE])
def test_a_body_is_never_padded(codec: int) -> None:
    assert encode_multigram(codec, b"x") == encode_codec(codec) + b"x"


@given(st.binary(max_size=12))
@example(b"")
@example(b"\x85\xc0\x90")
@example(b"\x05\xc0\x90\0")
@example(b"\x85\x40\x90\0")
@example(b"\x85\xc0\x10\0")
@example(b"\x85\xc0\x90\x80")
def test_random_bytes_decode_to_themselves_or_raise_a_decode_error(data: bytes) -> None:
    padded = len(data) >= 4 and all(byte >= 0x80 for byte in data[:3]) and data[3] < 0x80
    try:
        codec, body = decode_multigram(data)
    except DecodeError:
        assert not padded
    else:
        assert padded
        assert encode_codec(codec) + body == data
