"""The reader gives what came, in its order, whoever reads it how; and says when it has enough."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.api.streams.reader import JOINED_BYTES, OverlayStreamReader

LIMIT = 1000
SIZES = st.sampled_from([1, 2, 63, LIMIT, 2 * LIMIT, 2 * LIMIT + 1, JOINED_BYTES, 3 * JOINED_BYTES])
STEPS = st.lists(
    st.tuples(st.sampled_from(["feed", "feed", "feed view", "read", "exactly", "line", "until"]), SIZES), max_size=30
)


class Transport(asyncio.ReadTransport):
    def __init__(self) -> None:
        super().__init__()
        self.is_paused = False

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused
        self.is_paused = False


def reader_on(transport: asyncio.ReadTransport | None = None) -> OverlayStreamReader:
    reader = OverlayStreamReader(LIMIT, asyncio.get_running_loop())
    if transport is not None:
        reader.set_transport(transport)
    return reader


def numbered() -> Iterator[bytes]:
    """Bytes of which none is like those around it, with the end of a line now and then."""
    number = 0
    while True:
        yield bytes(((number * 7 + number // 251) % 251,)) if number % 89 else b"\n"
        number += 1


@settings(deadline=None)
@given(STEPS)
def test_whoever_reads_how_gets_what_came(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        transport = Transport()
        reader, source, there = reader_on(transport), numbered(), b""
        for what, size in steps:
            if what.startswith("feed"):
                data = b"".join(next(source) for _ in range(size))
                reader.feed_data(data if what == "feed" else memoryview(data))
                there += data
                assert transport.is_paused or len(there) <= 2 * LIMIT
                continue
            try:
                # Nothing else runs, so what is not there does not come.
                match what:
                    case "read":
                        got = await asyncio.wait_for(reader.read(size), 0.001)
                        assert 0 < len(got) <= size
                    case "exactly":
                        got = await asyncio.wait_for(reader.readexactly(size), 0.001)
                        assert len(got) == size
                    case "line":
                        got = await asyncio.wait_for(reader.readline(), 0.001)
                        assert got == there[: there.index(b"\n") + 1]
                    case _:
                        got = await asyncio.wait_for(reader.readuntil(b"\n"), 0.001)
                        assert got == there[: there.index(b"\n") + 1]
            except TimeoutError:
                assert not there if what == "read" else len(there) < size or b"\n" not in there
                continue
            except ValueError:
                # Of a line without an end that came asyncio's own reader keeps nothing.
                assert what == "line"
                there = bytes(reader._buffer)
                continue
            except asyncio.LimitOverrunError:
                assert what == "until"
                continue
            assert there.startswith(got)
            there = there[len(got) :]
            assert not (transport.is_paused and len(there) <= LIMIT)
        reader.feed_eof()
        assert reader.at_eof() == (not there)
        assert await reader.read() == there
        assert reader.at_eof()
        assert await reader.read(1) == b""

    asyncio.run(run())


async def test_chunk_is_handed_over_and_not_copied() -> None:
    reader = reader_on()
    chunk = bytes(3 * JOINED_BYTES)
    waiting = asyncio.create_task(reader.read(len(chunk)))
    await asyncio.sleep(0)
    reader.feed_data(chunk)
    reader.feed_data(chunk)
    assert await waiting is chunk
    assert await reader.read(len(chunk)) is chunk


async def test_short_chunks_are_read_together_up_to_what_was_asked_for() -> None:
    reader = reader_on()
    for part in (b"one", b"two", b"three"):
        reader.feed_data(part)
    assert await reader.read(7) == b"onetwo"
    assert await reader.read(4) == b"thre"
    assert await reader.read(4) == b"e"


async def test_many_short_chunks_take_little_more_room_than_what_is_in_them() -> None:
    reader, transport = OverlayStreamReader(64 * 1024, asyncio.get_running_loop()), Transport()
    reader.set_transport(transport)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        count = 0
        while not transport.is_paused:
            reader.feed_data(count.to_bytes(2, "big"))
            count = (count + 1) % 65_536
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4 * 64 * 1024
    assert await reader.readexactly(6) == bytes((0, 0, 0, 1, 0, 2))


async def test_what_came_stays_when_who_waits_for_it_is_cancelled() -> None:
    reader = reader_on()
    waiting = asyncio.create_task(reader.read(10))
    await asyncio.sleep(0)
    reader.feed_data(b"x")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await reader.read(10) == b"x"


async def test_failure_is_told_to_whoever_reads() -> None:
    reader = reader_on()
    waiting = asyncio.create_task(reader.read(10))
    await asyncio.sleep(0)
    reader.set_exception(ConnectionResetError("gone"))
    for reading in (waiting, reader.read(10), reader.readexactly(1), reader.readline()):
        with pytest.raises(ConnectionResetError, match="gone"):
            await reading


async def test_two_can_not_wait_at_a_time() -> None:
    reader = reader_on()
    waiting = asyncio.create_task(reader.read(10))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another coroutine"):
        await reader.read(10)
    reader.feed_data(b"x")
    assert await waiting == b"x"


async def test_nothing_comes_behind_the_end() -> None:
    reader = reader_on()
    reader.feed_data(b"")
    reader.feed_eof()
    with pytest.raises(AssertionError):
        reader.feed_data(b"x")
