"""The handshake messages: layouts, round trips, and anything that a network may bring."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import DecodeError
from weft.noise.messages import (
    CookieReply,
    Initiation,
    Response,
    decode_cookie_reply,
    decode_initiation,
    decode_response,
    encode_initiation,
    encode_response,
)

INDICES = st.integers(0, (1 << 32) - 1)
DECODERS: list[tuple[Callable[[bytes | memoryview], object], int, int]] = [
    (decode_initiation, 1, 148),
    (decode_response, 2, 92),
    (decode_cookie_reply, 3, 64),
]


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


@given(INDICES, exactly(108))
def test_an_initiation_survives_the_wire(index: int, noise: bytes) -> None:
    message = Initiation(index, noise)
    assert decode_initiation(encode_initiation(message) + bytes(32)) == message


@given(INDICES, INDICES, exactly(48))
def test_a_response_survives_the_wire(sender: int, receiver: int, noise: bytes) -> None:
    message = Response(sender, receiver, noise)
    assert decode_response(encode_response(message) + bytes(32)) == message


def test_the_layouts_are_those_of_the_paper() -> None:
    assert encode_initiation(Initiation(0x04030201, b"n" * 108)) == b"\x01\0\0\0\x01\x02\x03\x04" + b"n" * 108
    assert encode_response(Response(1, 2, b"n" * 48)) == b"\x02\0\0\0\x01\0\0\0\x02\0\0\0" + b"n" * 48
    reply = b"\x03\0\0\0\x01\0\0\0" + b"n" * 24 + b"s" * 32
    assert decode_cookie_reply(memoryview(reply)) == CookieReply(1, b"n" * 24, b"s" * 32)


@pytest.mark.parametrize(("decode", "kind", "size"), DECODERS)
@pytest.mark.parametrize("change", [-1, 1])
def test_another_size_is_refused(
    decode: Callable[[bytes | memoryview], object], kind: int, size: int, change: int
) -> None:
    with pytest.raises(DecodeError, match=f"a message of {size} bytes"):
        decode(kind.to_bytes(4, "little") + bytes(size - 4 + change))


@pytest.mark.parametrize(("decode", "kind", "size"), DECODERS)
@pytest.mark.parametrize("first", [b"\0\0\0\0", b"\4\0\0\0", b"\1\2\3\0", b"\0\0\0\1", b"\3\0\1\0"])
def test_another_type_is_refused(
    decode: Callable[[bytes | memoryview], object], kind: int, size: int, first: bytes
) -> None:
    with pytest.raises(DecodeError, match=f"type {kind} and three zero bytes"):
        decode(first + bytes(size - 4))


@given(st.data())
def test_decoders_raise_decode_errors_only(data: st.DataObject) -> None:
    decode, kind, size = data.draw(st.sampled_from(DECODERS))
    head = data.draw(st.one_of(st.just(kind.to_bytes(4, "little")), exactly(4)))
    body = data.draw(st.one_of(exactly(size - 4), st.binary(max_size=200)))
    with suppress(DecodeError):
        message = decode(head + body)
        assert head == kind.to_bytes(4, "little")
        assert len(body) == size - 4
        assert message == decode(memoryview(head + body))
