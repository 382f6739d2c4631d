"""Replies that go on: the items of a stream as server-sent events.

    event: peer-up              where the item has a kind
    data: {"schema":1,…}        one item, one line of JSON

    : alive                     each 15 s in which nothing happened

An error after the first item is an event of its own, `problem`, with a problem document; then the stream ends. A stream
that ends without one was ended by the daemon or by its handler.

A client that does not read is dropped after the patience of the server, with at most what the kernel and aiohttp hold
(some 100 KB) on its way; one that goes ends its handler at once.

Source: WHATWG HTML, section 9.2 "Server-sent events".
Not done here: ids of events and going on after a lost connection; what was missed is asked for as a whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from weft.api.connection import Connection
from weft.api.request import Row, explain, refuse

CONTENT_TYPE: Final = "text/event-stream"
PROBLEM: Final = "problem"
"""The kind of the event that says why a stream failed."""
HEARTBEAT_S: Final = 15.0
MAX_STREAMS: Final = 32
"""At once, so that requests find a connection."""

_HEARTBEAT: Final = b": alive\n\n"

log = logging.getLogger(__name__)


class Streams:
    """All streams of a server.

    Args:
        patience_s: how long a client may not read.
        heartbeat_s: after how much silence it is told that the stream is alive.
    """

    def __init__(self, patience_s: float, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._patience_s = patience_s
        self._heartbeat_s = heartbeat_s
        self._open: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """End all streams, soon and cleanly."""
        for over in self._open:
            _finish(over)

    async def serve(
        self, row: Row, request: web.BaseRequest, items: AsyncIterator[msgspec.Struct]
    ) -> web.StreamResponse:
        """Tell one client what an iterator gives, until either ends.

        Args:
            row: for the log.
            request: of the client.
            items: closed at the end, whatever happens, if it can be.

        Raises:
            Refused: there are too many streams.
            Exception: what `items` raised before it waited for something; the client was told nothing then.
        """
        if len(self._open) >= MAX_STREAMS:
            raise refuse(503, f"{MAX_STREAMS} programs listen already, which is the most")
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.when_lost = partial(_finish, over)
        self._open.add(over)
        if request.transport is None:
            _finish(over)
        feed = _Feed(items, over)
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})
        response.force_close()
        try:
            await feed.begin()
            await self._tell(row, request, response, feed)
        finally:
            connection.when_lost = None
            self._open.discard(over)
            await feed.close()
        return response

    async def _tell(self, row: Row, request: web.BaseRequest, response: web.StreamResponse, feed: _Feed) -> None:
        try:
            await self._in_time(response.prepare(request))
            async with aclosing(feed.events(row, self._heartbeat_s)) as events:
                async for event in events:
                    await self._in_time(response.write(event))
            await self._in_time(response.write_eof())
        except TimeoutError:
            log.info("a client of %s does not read; it was dropped", row.path)
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            log.debug("a client of %s went", row.path)

    async def _in_time(self, writing: Awaitable[object]) -> None:
        async with asyncio.timeout(self._patience_s):
            await writing


class _Feed:
    """The items of one stream, each asked for when the one before is on its way."""

    def __init__(self, items: AsyncIterator[msgspec.Struct], over: asyncio.Future[None]) -> None:
        self._items = items
        self._over = over
        self._upcoming: asyncio.Future[msgspec.Struct | None] = asyncio.ensure_future(anext(items, None))

    async def begin(self) -> None:
        """Let the iterator run until it waits, so that it listens, and that what is wrong at once is raised here."""
        await asyncio.sleep(0)
        if self._upcoming.done():
            self._upcoming.result()

    async def events(self, row: Row, heartbeat_s: float) -> AsyncGenerator[bytes, None]:
        """What is written, until the iterator ends or the stream is over."""
        while True:
            either: list[asyncio.Future[Any]] = [self._upcoming, self._over]
            await asyncio.wait(either, timeout=heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
            if self._over.done():
                return
            if not self._upcoming.done():
                yield _HEARTBEAT
                continue
            try:
                item = self._upcoming.result()
            except Exception as error:
                yield _event(explain(row, error), PROBLEM)
                return
            if item is None:
                return
            yield _event(item, getattr(item, "kind", None))
            self._upcoming = asyncio.ensure_future(anext(self._items, None))

    async def close(self) -> None:
        """End the iterator; returns when what it holds is let go."""
        self._upcoming.cancel()
        await asyncio.gather(self._upcoming, return_exceptions=True)
        if isinstance(self._items, AsyncGenerator):
            await self._items.aclose()


def _event(item: msgspec.Struct, kind: object) -> bytes:
    data = b"data: " + msgspec.json.encode(item) + b"\n\n"
    return b"event: " + kind.encode() + b"\n" + data if isinstance(kind, str) else data


def _finish(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
