"""Server-sent events: what a listener is told, how a stream ends, and clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec import Struct

from tests.unit.api.fake_engine import FakeEngine, serving
from tests.unit.api.test_bad_requests import read_reply
from weft.api import sse
from weft.api.client import Client, Listening
from weft.api.v0 import node as node_api
from weft.api.v0.observe import EVENTS, Watch
from weft.engine.status import Event
from weft.errors import Broken, PeerError, UsageError, WeftError

GET = b"GET /v0/events HTTP/1.1\r\nHost: weft\r\n\r\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


class Tale:
    """An iterator in the place of the node's events: tells what is put in, and notes how it ended."""

    def __init__(self, *items: Struct | Exception) -> None:
        self.items = asyncio.Queue[Struct | Exception | None]()
        for item in items:
            self.items.put_nowait(item)
        self.closed = asyncio.Event()

    async def events(self, kinds: frozenset[str] = frozenset()) -> AsyncIterator[Struct]:
        try:
            while (item := await self.items.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed.set()


def telling(*items: Struct | Exception) -> tuple[FakeEngine, Tale]:
    engine, tale = FakeEngine(), Tale(*items)
    engine.events = tale.events
    return engine, tale


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.001)


async def listen(path: Path, watch: Watch | None = None) -> Listening[Event]:
    return await asyncio.to_thread(Client(path).stream, EVENTS, watch)


async def upcoming(listening: Listening[Event]) -> Event:
    return await asyncio.wait_for(asyncio.to_thread(next, listening, None), 5)


def event(text: str = "") -> Event:
    return Event(at=1.5, kind="peer-up", text=text)


async def begin(path: Path, raw: bytes = GET, limit: int = 65536) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path, limit=limit)
    writer.write(raw)
    return reader, writer


async def test_what_happens_after_the_call_is_told_in_order(path: Path) -> None:
    engine = FakeEngine()
    async with serving(engine, path):
        engine.happened.publish("peer-up", "before")
        with await listen(path) as listening:
            engine.happened.publish("peer-up", "first", peer="12D3")
            engine.happened.publish("task-died", "second\nline")
            first, second = await upcoming(listening), await upcoming(listening)
    assert (first.kind, first.text, first.peer) == ("peer-up", "first", "12D3")
    assert (second.kind, second.text, second.schema) == ("task-died", "second\nline", 1)


async def test_event_on_the_wire_is_its_kind_and_one_line_of_json(path: Path) -> None:
    engine, _ = telling(event("a\nb"))
    async with serving(engine, path):
        reader, writer = await begin(path)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head
        assert b"Content-Type: text/event-stream" in head
        assert b"Cache-Control: no-store" in head
        await reader.readline()  # The length of the chunk.
        assert await reader.readuntil(b"\n\n") == (
            b'event: peer-up\ndata: {"schema":1,"at":1.5,"kind":"peer-up","peer":null,"text":"a\\nb","level":null}\n\n'
        )
        writer.close()


async def test_only_the_asked_kinds_are_told(path: Path) -> None:
    engine = FakeEngine()
    async with serving(engine, path):
        with await listen(path, Watch(kinds=["peer-down", "missed"])) as listening:
            engine.happened.publish("peer-up")
            engine.happened.publish("peer-down")
            assert (await upcoming(listening)).kind == "peer-down"
    assert engine.calls == [("events", frozenset({"peer-down", "missed"}))]


async def test_silence_is_filled_with_comments(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse.Streams.__init__, "__defaults__", (0.01,))
    engine, tale = telling()
    async with serving(engine, path):
        reader, writer = await begin(path)
        for _ in range(3):
            await asyncio.wait_for(reader.readuntil(b": alive\n\n"), 5)
        tale.items.put_nowait(event("after"))
        assert b"after" in await reader.readuntil(b"}\n\n")
        writer.close()


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("kinds=nonsense", 422, "Invalid enum value 'nonsense'"),
        ("kind=peer-up", 422, "unknown field `kind`"),
        ("kinds", 400, "name=value"),
        ("kinds=%ff", 400, "name=value"),
        ("kinds=%ed%b3%bf", 400, "name=value"),
        ("kinds=\u00e4", 400, "no HTTP request"),
        ("%c3%a4=1", 422, "unknown field `\u00e4`"),
        ("kinds=%c3%a4", 422, "Invalid enum value '\u00e4'"),
        ("a=1&a=2", 422, "`a` is given 2 times"),
        ("&".join(["kinds=peer-up"] * 33), 422, "length <= 32"),
        ("&".join(["kinds=peer-up"] * 99), 400, "name=value"),
    ],
)
async def test_bad_query_is_a_problem_and_no_stream(path: Path, query: str, status: int, says: str) -> None:
    engine = FakeEngine()
    async with serving(engine, path):
        reader, writer = await begin(path, GET.replace(b"/events", b"/events?" + query.encode()))
        got, headers, problem = await read_reply(reader)
        writer.close()
    assert (got, headers["content-type"]) == (status, "application/problem+json")
    assert says in problem["detail"]
    assert engine.calls == []


async def test_body_of_a_stream_request_is_refused(path: Path) -> None:
    async with serving(FakeEngine(), path):
        reader, writer = await begin(path, GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n{}"))
        assert (await read_reply(reader))[0] == 400
        writer.close()


@pytest.mark.parametrize("raised", [UsageError("no such thing"), PeerError("refused"), TimeoutError("too late")])
async def test_error_before_the_first_wait_is_the_reply(path: Path, raised: Exception) -> None:
    engine, tale = telling(raised)
    async with serving(engine, path):
        with pytest.raises(type(raised), match=str(raised)):
            await listen(path)
    assert tale.closed.is_set()


async def test_error_in_the_middle_is_raised_after_what_was_told(path: Path) -> None:
    engine, tale = telling(event("told"))
    async with serving(engine, path):
        listening = await listen(path)
        assert (await upcoming(listening)).text == "told"
        tale.items.put_nowait(PeerError("it broke"))
        with pytest.raises(PeerError, match="it broke"):
            await upcoming(listening)
        listening.close()


async def test_foreign_error_in_the_middle_is_logged_without_its_message(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, tale = telling(event())
    async with serving(engine, path):
        listening = await listen(path)
        await upcoming(listening)
        tale.items.put_nowait(ValueError("s3cr3t"))
        with pytest.raises(WeftError, match="its log says where"):
            await upcoming(listening)
        listening.close()
    assert "GET /v0/events failed with ValueError" in caplog.text
    assert "s3cr3t" not in caplog.text


async def test_stream_that_its_handler_ends_stops_the_iteration(path: Path) -> None:
    engine, tale = telling(event("only"))
    tale.items.put_nowait(None)
    async with serving(engine, path):
        told = await asyncio.to_thread(list, await listen(path))
    assert [item.text for item in told] == ["only"]


async def test_stop_of_the_server_ends_streams_cleanly_and_at_once(path: Path) -> None:
    engine, tale = telling()
    async with serving(engine, path) as server:
        listening = await listen(path)
        rest = asyncio.create_task(asyncio.to_thread(list, listening))
        await asyncio.sleep(0)
        started = time.monotonic()
        await server.stop()
        assert await asyncio.wait_for(rest, 5) == []
        assert time.monotonic() - started < 1
    assert tale.closed.is_set()


@pytest.mark.parametrize("way", ["close", "abort", "speak", "speak twice"])
async def test_client_that_goes_or_speaks_ends_the_handler_at_once(path: Path, way: str) -> None:
    engine, tale = telling(event())
    async with serving(engine, path):
        reader, writer = await begin(path)
        await reader.readuntil(b"}\n\n")
        if way.startswith("speak"):
            writer.write(GET * (500 if way.endswith("twice") else 1))
        elif way == "abort":
            writer.transport.abort()
        else:
            writer.close()
        await asyncio.wait_for(tale.closed.wait(), 1)
        writer.close()


async def test_client_that_went_before_its_stream_began_leaves_nothing(path: Path) -> None:
    engine = FakeEngine()
    async with serving(engine, path):
        for _ in range(20):
            _, writer = await begin(path)
            writer.transport.abort()
        await until(lambda: not engine.happened._listeners)
        engine.happened.publish("peer-up")
        with await listen(path) as listening:
            engine.happened.publish("peer-down")
            assert (await upcoming(listening)).kind == "peer-down"


async def test_client_that_does_not_read_is_dropped_and_little_is_kept_for_it(path: Path) -> None:
    engine, tale = telling()
    told = 0

    async def flood(kinds: frozenset[str]) -> AsyncIterator[Event]:
        nonlocal told
        try:
            while True:
                told += 1
                yield event("x" * 1000)
        finally:
            tale.closed.set()

    engine.events = flood
    async with serving(engine, path, patience_s=0.05):
        reader, writer = await begin(path, limit=1024)
        await asyncio.wait_for(tale.closed.wait(), 5)
        assert told < 1500
        await reader.read(10)
        writer.close()
        assert (await asyncio.to_thread(Client(path).fetch, node_api.INFO)).startswith(b"{")


async def test_slow_listener_is_told_how_much_it_missed(path: Path) -> None:
    engine = FakeEngine()
    async with serving(engine, path):
        with await listen(path) as listening:
            for number in range(3000):
                engine.happened.publish("log", str(number))
            assert (await upcoming(listening)).kind == "missed"
            kept = await upcoming(listening)
    assert kept.text == str(3000 - 1024)


async def test_one_too_many_listeners_is_told_so_and_the_others_go_on(path: Path) -> None:
    engine = FakeEngine()
    async with serving(engine, path):
        async with contextlib.AsyncExitStack() as stack:
            first = await listen(path)
            stack.callback(first.close)
            for _ in range(sse.MAX_STREAMS - 1):
                stack.callback((await listen(path)).close)
            with pytest.raises(WeftError, match="32 programs listen already"):
                await listen(path)
            engine.happened.publish("peer-up")
            assert (await upcoming(first)).kind == "peer-up"
        await until(lambda: not engine.happened._listeners)
        (await listen(path)).close()


async def test_daemon_that_dies_under_a_stream_is_one_clear_error(path: Path) -> None:
    async def vanish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n: x\n\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(vanish, path):
        listening = await listen(path)
        with pytest.raises(Broken, match="went away"):
            await upcoming(listening)
        listening.close()


def test_ctrl_c_leaves_the_loop_and_closes_the_stream(path: Path) -> None:
    begun, closed, over = threading.Event(), threading.Event(), threading.Event()

    async def main() -> None:
        engine, tale = telling(event())
        async with serving(engine, path):
            begun.set()
            await asyncio.wait_for(tale.closed.wait(), 10)
            closed.set()
            await asyncio.to_thread(over.wait, 10)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert begun.wait(10)
    try:
        with Client(path).stream(EVENTS) as listening:
            assert next(listening) == event()
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                next(listening)
        assert closed.wait(5)
    finally:
        over.set()
        thread.join(10)
