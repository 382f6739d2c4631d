"""Neither side waits for a timer, or for a round trip, where it need not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.unit.api.streams.joined import Node
from tests.unit.api.streams.recorders import turns, until
from weft.api.streams import transport

MUCH = 1 << 20

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest_asyncio.fixture
async def ends(left: Node, right: Node) -> AsyncIterator[tuple[Streams, Streams]]:
    """A connection from left to right, without anybody who reads."""
    accepted: asyncio.Queue[Streams] = asyncio.Queue()
    await right.streams.start_server(lambda *streams: accepted.put_nowait(streams), None, 80)
    both = await left.streams.open_connection(right.ipv6, 80), await accepted.get()
    yield both
    for _, writer in both:
        writer.transport.abort()
    await turns(5)


async def test_writer_goes_on_when_all_has_left_though_nothing_is_acknowledged(
    left: Node, ends: tuple[Streams, Streams], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SEND_BUFFER_BYTES", 0)
    (_, writer), _ = ends
    writer.transport.set_write_buffer_limits(high=0)
    left.is_cut = True
    writer.write(bytes(1000))
    assert writer.transport.get_write_buffer_size() == 1000
    drained = asyncio.ensure_future(writer.drain())
    await turns(5)
    assert drained.done()


async def test_reader_that_opens_a_closed_window_says_so_at_once(
    left: Node, right: Node, ends: tuple[Streams, Streams]
) -> None:
    (_, writer), (reader, _) = ends
    (connection,) = left.host.tcp.connections
    writer.write(bytes(MUCH))
    await until(lambda: not connection.sender.window)
    await reader.read(MUCH)
    await turns(5)
    assert connection.sender.window
