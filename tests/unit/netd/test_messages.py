"""The table of messages: bytes by hand, bytes by property, and the page that describes them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import DecodeError
from weft.netd import messages
from weft.netd.frames import EVENTS, FIRST_BYTES, REPLIES, Frames, decode_reply, encode_request, encode_status
from weft.netd.layout import NOWHERE, Layout
from weft.netd.messages import HAPPENED, MAX_MESSAGE_BYTES, MESSAGES, Code, code_of_reply
from weft.netd.reference import filled
from weft.netd.session import _OWN, _SERVED, _VERBS
from weft.netd.status import OF_FAILURE, Status
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure

PAGE = Path(__file__).parents[3] / "docs" / "netd.md"
LAYOUTS = [HAPPENED, *(layout for message in MESSAGES.values() for layout in (message.request, message.reply))]
SIZES = {"u16": 2, "u32": 4, "u64": 8}


def values(kind: str) -> st.SearchStrategy[Any]:
    if kind in SIZES:
        return st.integers(0, 2 ** (8 * SIZES[kind]) - 1)
    made: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "i32": lambda: st.integers(-(2**31), 2**31 - 1),
        "6 bytes": lambda: st.binary(min_size=6, max_size=6),
        "bytes": lambda: st.binary(max_size=100),
        "address": lambda: st.sampled_from((0, 4, 16)).flatmap(
            lambda size: st.builds(Endpoint, st.binary(min_size=size, max_size=size), st.integers(0, 65_535))
        ),
    }
    return made[kind]()


def of(layout: Layout[Any]) -> st.SearchStrategy[Any]:
    parts = [
        st.lists(of(layout.row), max_size=5).map(tuple) if field.kind == "rows" and layout.row else values(field.kind)
        for field in layout.fields
    ]
    return st.tuples(*parts).map(layout.shape._make)  # type: ignore[attr-defined]


@given(st.sampled_from(LAYOUTS).flatmap(lambda layout: st.tuples(st.just(layout), of(layout))))
def test_decode_of_encode_is_the_same(made: tuple[Layout[Any], Any]) -> None:
    layout, message = made
    assert layout.decode(layout.encode(message)) == message


@given(st.sampled_from(LAYOUTS), st.binary(max_size=200))
def test_decoders_raise_nothing_else(layout: Layout[Any], body: bytes) -> None:
    with suppress(DecodeError):
        layout.decode(body)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.shape.__name__)
def test_decoder_takes_no_byte_less_and_none_more(layout: Layout[Any]) -> None:
    has_rest = bool(layout.fields) and layout.fields[-1].kind in {"bytes", "rows"}
    made = layout.decode(bytes(layout.size))
    assert type(made) is layout.shape
    if layout.size:
        with pytest.raises(DecodeError):
            layout.decode(bytes(layout.size - 1))
    if layout.row is not None or not has_rest:
        with pytest.raises(DecodeError):
            layout.decode(bytes(layout.size + 1))


def test_bytes_of_messages_are_those_of_the_page() -> None:
    to = Endpoint(bytes((10, 7, 0, 2)), 80)
    address = struct.pack("<HH4B12x", 2, 80, 10, 7, 0, 2)
    assert encode_request(Code.CONNECT, 7, MESSAGES[Code.CONNECT].request.encode(messages.Connect(3, to))) == (
        struct.pack("<IIII", 32, 2, 7, 3) + address
    )
    data = messages.Send(3, 1, NOWHERE, b"hello")
    assert encode_request(6, 8, MESSAGES[Code.SEND].request.encode(data)) == (
        struct.pack("<IIIIIHH16x", 41, 6, 8, 3, 1, 0, 0) + b"hello"
    )
    assert REPLIES[Code.SEND](messages.Sent(5), 8) == (struct.pack("<IIIiI", 16, 0x86, 8, 0, 5), b"")
    received = messages.Received(1, to, b"hello")
    message, data = REPLIES[Code.RECV](received, 9)
    assert message == struct.pack("<IIIiI", 41, 0x87, 9, 0, 1) + address
    assert data is received.data
    assert REPLIES[Code.CLOSE](messages.Nothing(), 1) == (struct.pack("<IIIi", 12, 0x88, 1, 0), b"")
    polled = messages.Polled((messages.Happened(3, 2), messages.Happened(4, 1)))
    assert REPLIES[Code.POLL](polled, 2) == (struct.pack("<IIIi", 28, 0x89, 2, 0), struct.pack("<IIII", 3, 2, 4, 1))
    assert EVENTS(messages.Happened(3, 2), 4) == (struct.pack("<IIIiII", 20, 0xE0, 4, 0, 3, 2), b"")
    assert encode_status(0x87, 9, Status.WOULD_BLOCK) == struct.pack("<IIIi", 12, 0x87, 9, -300)


@given(st.sampled_from(sorted(MESSAGES)).flatmap(lambda code: st.tuples(st.just(code), of(MESSAGES[code].reply))))
def test_reply_is_its_head_and_its_fields(made: tuple[int, Any]) -> None:
    code, fields = made
    frames = Frames()
    frames.feed(b"".join(REPLIES[code](fields, 7)))
    ((told, request, rest),) = frames
    status, body = decode_reply(rest)
    assert (told, request, status, frames.size) == (code_of_reply(code), 7, Status.OK, 0)
    assert MESSAGES[code].reply.decode(body) == fields


def test_family_that_there_is_not_is_refused_however_often() -> None:
    body = struct.pack("<IHH16x", 3, 3, 80)
    for _ in range(3):
        with pytest.raises(DecodeError):
            MESSAGES[Code.CONNECT].request.decode(body)


def test_codes_of_the_seed() -> None:
    assert {code.value: code_of_reply(code) for code in Code} == {
        0: 0x80, 1: 0x81, 2: 0x82, 3: 0x83, 4: 0x84, 5: 0x85, 6: 0x86, 7: 0x87, 8: 0x88, 9: 0x89, 10: 0x8A, 11: 0x8B,
        20: 0xA0, 40: 0xC0, 41: 0xC1, 42: 0xC2, 43: 0xC3, 44: 0xC4,
    }  # fmt: skip
    numbers = {Status.NO_RESOURCE: -12, Status.INVALID: -22, Status.NOT_SUPPORTED: -38, Status.INVALID_HANDLE: -100}
    numbers |= {Status.TIMED_OUT: -110, Status.REFUSED: -111, Status.WOULD_BLOCK: -300}
    assert {status: int(status) for status in numbers} == numbers


def test_every_message_is_served_and_every_failure_has_a_number() -> None:
    assert {*_VERBS, *_OWN} == {*_SERVED} == {*MESSAGES} == {*Code} - {Code.NONE}
    assert {*OF_FAILURE} == {*Failure}


def test_page_has_the_tables_of_the_code() -> None:
    page = PAGE.read_text("utf-8")
    assert filled(page) == page, "python -m weft.netd.reference docs/netd.md"


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=50))), st.data())
def test_messages_are_cut_wherever_bytes_break(said: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(encode_request(*each) for each in said)
    frames, heard = Frames(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        frames.feed(stream[:size])
        stream = stream[size:]
        heard += [(code, request, bytes(rest)) for code, request, rest in frames]
    assert heard == said


@pytest.mark.parametrize("length", [0, 7, MAX_MESSAGE_BYTES + 1, 2**32 - 1])
def test_length_that_none_can_have(length: int) -> None:
    frames = Frames()
    frames.feed(struct.pack("<III", length, 1, 1))
    with pytest.raises(DecodeError):
        frames.take()


def test_reply_without_status() -> None:
    with pytest.raises(DecodeError):
        decode_reply(memoryview(b"\0\0\0"))


def test_room_is_as_large_as_what_comes_and_no_larger() -> None:
    frames = Frames()
    large = encode_request(6, 1, bytes(range(256)) * 4000)
    for message in (large, encode_request(1, 2, b"small"), large):
        rest = message
        while rest:
            room = frames.room()
            size = min(len(room), 100_000, len(rest))
            room[:size] = rest[:size]
            frames.fill(size)
            rest = rest[size:]
        (heard,) = [encode_request(code, request, bytes(body)) for code, request, body in frames]
        assert heard == message
    assert len(frames.room()) == FIRST_BYTES
    frames.feed(large[:4])
    assert len(large) - 4 <= len(frames.room()) <= 2 * len(large)
