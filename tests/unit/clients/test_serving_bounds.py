"""What others may take of an application that is served: connections, and time, which here is virtual."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.unit.clients.certificates import Files
from tests.unit.clients.frames import TEXT, Frame, Socket, request
from weft.clients.bounded import CONNECTIONS, HANDSHAKE_S, PER_ADDRESS
from weft.clients.serving import IDLE_S
from weft.clients.sparing import LINES_AT_ONCE
from weft.testing import SimulatedNetwork, SimulatedNode

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

GET: Final = b"GET / HTTP/1.1\r\nHost: bob\r\n\r\n"
TOGETHER: Final = 100
STEPS: Final = 5
STEP_S: Final = 2 * IDLE_S
NEARLY_S: Final = 0.1
"""A way there and back, of 20 ms, and what TCP and the timers of aiohttp add."""


async def _slowly() -> AsyncIterator[bytes]:
    for _ in range(STEPS):
        await asyncio.sleep(STEP_S)
        yield b"."


def of_asgi() -> Any:
    async def hello(request: Request) -> Response:
        return PlainTextResponse("hello")

    async def count(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    async def slow(request: Request) -> Response:
        return StreamingResponse(_slowly())

    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    return Starlette(
        routes=[
            Route("/", hello),
            Route("/count", count, methods=["POST"]),
            Route("/slow", slow),
            WebSocketRoute("/chat", chat),
        ]
    )


def of_aiohttp() -> Any:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def count(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for part in _slowly():
            await response.write(part)
        return response

    async def chat(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    app = web.Application()
    app.add_routes([web.get("/", hello), web.post("/count", count), web.get("/slow", slow), web.get("/chat", chat)])
    return app


@pytest.fixture(params=[of_asgi, of_aiohttp], ids=["asgi", "aiohttp"])
def app(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest_asyncio.fixture
async def alice(simulated_network: SimulatedNetwork) -> SimulatedNode:
    return simulated_network.node("alice")


@pytest_asyncio.fixture
async def bob(simulated_network: SimulatedNetwork) -> SimulatedNode:
    return simulated_network.node("bob")


def now() -> float:
    return asyncio.get_running_loop().time()


async def ended(reader: asyncio.StreamReader) -> float:
    """When the other side has ended a connection, orderly or not."""
    with suppress(ConnectionError):
        while await reader.read(1 << 16):
            pass
    return now()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The body of an answer that says its length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return await reader.readexactly(length)


@asynccontextmanager
async def connected(node: SimulatedNode, port: int = 80) -> AsyncIterator[Streams]:
    """A connection to bob."""
    reader, writer = await node.open_connection("bob", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def is_served(node: SimulatedNode) -> bool:
    async with connected(node) as (reader, writer):
        writer.write(GET)
        try:
            return await answer(reader) == b"hello"
        except (ConnectionError, asyncio.IncompleteReadError):
            return False


async def idle(node: SimulatedNode, number: int) -> list[asyncio.Transport]:
    """Connections on which nothing is asked."""
    made: list[asyncio.Transport] = []
    while len(made) < number:
        some = range(min(TOGETHER, number - len(made)))
        both = await asyncio.gather(*(node.create_connection(asyncio.Protocol, "bob", 80) for _ in some))
        made += [transport for transport, _ in both]
    await asyncio.sleep(1)  # for bob to know of the last ones
    return made


class TestNumber:
    @pytest.mark.parametrize("number", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
    async def test_all_of_one_peer_leave_room_for_others(
        self, simulated_network: SimulatedNetwork, alice: SimulatedNode, bob: SimulatedNode, app: Any, number: int
    ) -> None:
        async with await bob.serve_app(app, 80) as server:
            await idle(alice, number)
            assert not await is_served(alice)
            assert await is_served(simulated_network.node("carol"))
            assert server.turned_away == {"connections of one address": number - PER_ADDRESS + 1}

    async def test_all_that_there_may_be_are_free_again_after_a_while(
        self, simulated_network: SimulatedNetwork, bob: SimulatedNode, app: Any
    ) -> None:
        async with await bob.serve_app(app, 80) as server:
            for name in ("alice", "eve"):
                await idle(simulated_network.node(name), CONNECTIONS // 2)
            carol = simulated_network.node("carol")
            assert not await is_served(carol)
            assert server.turned_away == {"connections": 1}
            await asyncio.sleep(IDLE_S)
            assert await is_served(carol)

    async def test_other_numbers(self, alice: SimulatedNode, bob: SimulatedNode, app: Any) -> None:
        async with await bob.serve_app(app, 80, connections=3, per_address=2) as server:
            (first, _) = await idle(alice, 2)
            assert not await is_served(alice)
            first.close()
            await asyncio.sleep(1)
            assert await is_served(alice)
            assert server.turned_away.total() == 1

    async def test_it_is_logged_sparingly(
        self, alice: SimulatedNode, bob: SimulatedNode, app: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "weft.clients"):
            async with await bob.serve_app(app, 80, per_address=0):
                await idle(alice, 3 * LINES_AT_ONCE)
        line = f"0 connections of {alice.address} are open; one more is turned away"
        assert caplog.messages[0] == line
        assert LINES_AT_ONCE <= len(caplog.messages) < 2 * LINES_AT_ONCE


class TestTime:
    async def test_who_asks_nothing(self, alice: SimulatedNode, bob: SimulatedNode, app: Any) -> None:
        async with await bob.serve_app(app, 80), connected(alice) as (reader, _):
            began = now()
            assert await ended(reader) - began == pytest.approx(IDLE_S, abs=NEARLY_S)

    async def test_who_asks_letter_by_letter(self, alice: SimulatedNode, bob: SimulatedNode, app: Any) -> None:
        async def trickle(writer: asyncio.StreamWriter) -> None:
            writer.write(b"GET / HTTP/1.1\r\nHost: bob\r\n")
            while True:
                await asyncio.sleep(1)
                writer.write(b"X: y\r\n")

        async with await bob.serve_app(app, 80), connected(alice) as (reader, writer):
            began = now()
            trickling = asyncio.create_task(trickle(writer))
            assert await ended(reader) - began == pytest.approx(IDLE_S, abs=NEARLY_S)
            trickling.cancel()

    async def test_who_asks_in_time_is_answered_again_and_again(
        self, alice: SimulatedNode, bob: SimulatedNode, app: Any
    ) -> None:
        async with await bob.serve_app(app, 80), connected(alice) as (reader, writer):
            for _ in range(STEPS):
                await asyncio.sleep(IDLE_S - 1)
                writer.write(GET)
                assert await answer(reader) == b"hello"
            began = now()
            assert await ended(reader) - began == pytest.approx(IDLE_S, abs=NEARLY_S)

    async def test_second_head_has_no_more_time_than_the_first(
        self, alice: SimulatedNode, bob: SimulatedNode, app: Any
    ) -> None:
        async with await bob.serve_app(app, 80), connected(alice) as (reader, writer):
            writer.write(GET + GET[:-2])
            assert await answer(reader) == b"hello"
            began = now()
            assert await ended(reader) - began == pytest.approx(IDLE_S, abs=NEARLY_S)

    async def test_body_that_comes_slowly(self, alice: SimulatedNode, bob: SimulatedNode, app: Any) -> None:
        async with await bob.serve_app(app, 80), connected(alice) as (reader, writer):
            writer.write(b"POST /count HTTP/1.1\r\nHost: bob\r\nContent-Length: %d\r\n\r\n" % STEPS)
            for _ in range(STEPS):
                await asyncio.sleep(STEP_S)
                writer.write(b".")
            assert await answer(reader) == b"%d" % STEPS

    async def test_answer_that_goes_slowly(self, alice: SimulatedNode, bob: SimulatedNode, app: Any) -> None:
        async with await bob.serve_app(app, 80), connected(alice) as (reader, writer):
            writer.write(b"GET /slow HTTP/1.1\r\nHost: bob\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).count(b"\r\n.\r\n") == STEPS

    async def test_websocket_that_is_silent(self, alice: SimulatedNode, bob: SimulatedNode, app: Any) -> None:
        async with await bob.serve_app(app, 80), connected(alice) as (reader, writer):
            writer.write(request())
            socket = Socket(await reader.readuntil(b"\r\n\r\n"), reader, writer)
            for _ in range(STEPS):
                await asyncio.sleep(STEP_S)
                await socket.send(Frame(TEXT, b"still there"))
                assert await socket.receive() == Frame(TEXT, b"still there")

    async def test_who_does_not_agree_on_tls(
        self, alice: SimulatedNode, bob: SimulatedNode, app: Any, files: Files
    ) -> None:
        context: ssl.SSLContext = files.server()
        async with await bob.serve_app(app, 443, ssl=context), connected(alice, 443) as (reader, _):
            began = now()
            assert await ended(reader) - began == pytest.approx(HANDSHAKE_S, abs=NEARLY_S)
