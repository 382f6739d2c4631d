"""What a user wrote, against a plain string."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weft.stack.tcp.send_buffer import SendBuffer

CHUNKS = st.lists(st.binary(max_size=8), max_size=12)


@given(CHUNKS, st.integers(0, 2**40), st.data())
def test_bytes_stay_where_they_were_written(chunks: list[bytes], start: int, data: st.DataObject) -> None:
    buffer, whole = SendBuffer(start), b"".join(chunks)
    for chunk in chunks:
        buffer.append(chunk)
    assert (buffer.start, buffer.end) == (start, start + len(whole))
    released = 0
    for _ in range(3):
        released = data.draw(st.integers(released, len(whole)))
        buffer.release(start + released)
        assert buffer.start == start + released
        first = data.draw(st.integers(released, len(whole)))
        last = data.draw(st.integers(first, len(whole)))
        found = buffer.slices(start + first, start + last)
        assert b"".join(found) == whole[first:last]
        assert all(len(view) for view in found)
        more = data.draw(st.binary(max_size=5))
        buffer.append(more)
        whole += more
        assert buffer.end == start + len(whole)
    kept = sum(map(len, buffer._chunks))
    assert len(whole) - released <= kept <= len(whole) - released + 8


def test_release_never_goes_back_or_past_the_end() -> None:
    buffer = SendBuffer(100)
    buffer.append(b"abcdef")
    buffer.release(103)
    buffer.release(102)
    assert buffer.start == 103
    buffer.release(1000)
    assert (buffer.start, buffer.end) == (106, 106)
    assert buffer._chunks == []


def test_what_is_done_with_is_let_go_of() -> None:
    buffer = SendBuffer(0)
    for number in range(200):
        buffer.append(bytes((number,)) * 10)
    for number in range(1, 200):
        buffer.release(10 * number)
        assert b"".join(buffer.slices(10 * number, 10 * number + 10)) == bytes((number,)) * 10
        assert sum(map(len, buffer._chunks)) == 2000 - 10 * number
        # The lists are cut when more than half of them is done with, and 64 are.
        assert buffer._done <= 100
    assert len(buffer._chunks) < 100
    assert buffer._done <= 64


def test_nothing_written_is_nothing() -> None:
    buffer = SendBuffer(5)
    buffer.append(b"")
    assert buffer.slices(5, 5) == []
    assert buffer.end == 5
    assert buffer._chunks == []


def test_lists_are_cut_when_more_than_half_is_done_with() -> None:
    buffer = SendBuffer(0)
    for _ in range(130):
        buffer.append(b"x")
    kept = []
    for until in (64, 65, 66, 67):
        buffer.release(until)
        kept.append(len(buffer._chunks))
    assert kept == [130, 130, 64, 64]
