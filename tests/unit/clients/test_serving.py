"""Serving an application: the server object, and an end in good order."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import httpx2
import pytest
from aiohttp import WSCloseCode, web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.unit.api.streams.joined import Node
from tests.unit.clients.frames import ask
from weft.clients import serving
from weft.clients.http.client import http_client
from weft.clients.serving import serve_app


class Slow:
    """An application whose answers are waited for, in both manners."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.events: list[str] = []

    async def work(self) -> str:
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        self.events.append("answered")
        return "done"

    def app(self, kind: str) -> Any:
        if kind == "asgi":

            async def answer(request: Request) -> PlainTextResponse:
                return PlainTextResponse(await self.work())

            return Starlette(routes=[Route("/", answer)])

        async def handle(request: web.Request) -> web.Response:
            return web.Response(text=await self.work())

        async def clean(app: web.Application) -> None:
            self.events.append("cleaned up")

        app = web.Application()
        app.router.add_get("/", handle)
        app.on_cleanup.append(clean)
        return app


@pytest.mark.parametrize("kind", ["asgi", "aiohttp"])
class TestEnd:
    async def test_request_that_is_being_answered_is_answered(self, left: Node, right: Node, kind: str) -> None:
        slow = Slow()
        server = await serve_app(right.streams, slow.app(kind), 80)
        async with http_client(left.streams) as client:
            asked = asyncio.create_task(client.get("http://right/"))
            await slow.begun.wait()
            server.close()
            await asyncio.sleep(0.05)
            assert not server.is_closed
            slow.may_end.set()
            assert (await asked).text == "done"
            await server.wait_closed()
        assert server.is_closed
        assert slow.events[0] == "answered"

    async def test_one_that_takes_too_long_is_cancelled(
        self, left: Node, right: Node, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serving, "PATIENCE_S", 0.1)
        slow = Slow()
        server = await serve_app(right.streams, slow.app(kind), 80)
        async with http_client(left.streams) as client:
            asked = asyncio.create_task(client.get("http://right/"))
            await slow.begun.wait()
            server.close()
            await asyncio.wait_for(server.wait_closed(), 5)
            with pytest.raises(httpx2.TransportError):
                await asked
        assert slow.events[0] == "cancelled"

    async def test_connections_that_wait_are_closed_at_once(self, left: Node, right: Node, kind: str) -> None:
        slow = Slow()
        slow.may_end.set()
        server = await serve_app(right.streams, slow.app(kind), 80)
        async with http_client(left.streams) as client:
            await client.get("http://right/")
            server.close()
            await asyncio.wait_for(server.wait_closed(), 1)
            with pytest.raises(httpx2.ConnectError, match="refused"):
                await client.get("http://[fc00::2]/")

    async def test_port_is_free_at_once(self, left: Node, right: Node, kind: str) -> None:
        slow = Slow()
        slow.may_end.set()
        for _ in range(3):
            async with await serve_app(right.streams, slow.app(kind), 80), http_client(left.streams) as client:
                assert (await client.get("http://right/")).text == "done"

    async def test_port_that_is_in_use(self, right: Node, kind: str) -> None:
        slow = Slow()
        async with await serve_app(right.streams, slow.app(kind), 80):
            with pytest.raises(OSError, match="in use") as raised:
                await serve_app(right.streams, Slow().app(kind), 80)
        assert raised.value.errno == errno.EADDRINUSE

    async def test_a_second_close_is_nothing(self, right: Node, kind: str) -> None:
        server = await serve_app(right.streams, Slow().app(kind), 80)
        for _ in range(2):
            server.close()
            await server.wait_closed()
        assert server.sockets == ()
        assert not server.is_serving()

    async def test_host_that_goes_away_first(
        self, left: Node, right: Node, kind: str, complaints: list[dict[str, object]]
    ) -> None:
        slow = Slow()
        server = await serve_app(right.streams, slow.app(kind), 80)
        async with http_client(left.streams) as client:
            asked = asyncio.create_task(client.get("http://right/"))
            await slow.begun.wait()
            right.streams.close()
            slow.may_end.set()
            server.close()
            await asyncio.wait_for(server.wait_closed(), 5)
            asked.cancel()
        assert complaints == []


class TestServer:
    async def test_port_that_is_picked(self, left: Node, right: Node) -> None:
        slow = Slow()
        slow.may_end.set()
        async with await serve_app(right.streams, slow.app("asgi"), 0) as server, http_client(left.streams) as client:
            assert server.is_serving()
            assert server.port > 0
            assert (await client.get(f"http://right:{server.port}/")).text == "done"
            assert str(server.port) in repr(server)

    async def test_one_address_only(self, left: Node, right: Node) -> None:
        slow = Slow()
        slow.may_end.set()
        async with (
            await serve_app(right.streams, slow.app("aiohttp"), 80, "10.7.0.2"),
            http_client(left.streams) as client,
        ):
            assert (await client.get("http://10.7.0.2/")).text == "done"
            with pytest.raises(httpx2.ConnectError, match="refused"):
                await client.get("http://[fc00::2]/")

    async def test_forever_until_cancelled(self, right: Node) -> None:
        server = await serve_app(right.streams, Slow().app("aiohttp"), 80)
        forever = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0.01)
        forever.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forever
        assert server.is_closed

    async def test_application_of_aiohttp_that_can_not_start(self, right: Node) -> None:
        async def fail(app: web.Application) -> None:
            raise ValueError("no database")

        app = web.Application()
        app.on_startup.append(fail)
        with pytest.raises(ValueError, match="no database"):
            await serve_app(right.streams, app, 80)
        async with await serve_app(right.streams, web.Application(), 80):
            pass

    async def test_websockets_of_aiohttp_are_closed_by_the_application(self, left: Node, right: Node) -> None:
        sockets: set[web.WebSocketResponse] = set()

        async def chat(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            sockets.add(socket)
            async for _ in socket:
                pass
            return socket

        async def close_all(app: web.Application) -> None:
            for socket in sockets:
                await socket.close(code=WSCloseCode.GOING_AWAY)

        app = web.Application()
        app.router.add_get("/chat", chat)
        app.on_shutdown.append(close_all)
        async with await serve_app(right.streams, app, 80) as server:
            asked = await ask(left)
            server.close()
            assert await asyncio.wait_for(asked.code(), 5) == WSCloseCode.GOING_AWAY
            asked.writer.close()
            await asyncio.wait_for(server.wait_closed(), 5)
