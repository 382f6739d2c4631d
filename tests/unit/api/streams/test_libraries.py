"""Libraries that take any asyncio transport, over two hosts: aiohttp as server and client, with TLS and WebSockets."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.unit.api.streams.certificates import client_context, server_context
from tests.unit.api.streams.joined import Node


class Connector(aiohttp.TCPConnector):
    """Connects by a node."""

    def __init__(self, node: Node, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._node = node

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> Any:
        infos = await self._node.streams.getaddrinfo(host, port, proto=6)
        return [
            {"hostname": host, "host": info[4][0], "port": port, "family": info[0], "proto": info[2], "flags": 0}
            for info in infos
        ]

    async def _wrap_create_connection(self, protocol_factory: Any, *_: Any, addr_infos: Any, **arguments: Any) -> Any:
        host, port = addr_infos[0][4][:2]
        chosen = {name: arguments[name] for name in ("ssl", "server_hostname") if arguments.get(name)}
        key = arguments["req"].connection_key
        try:
            return await self._node.streams.create_connection(protocol_factory, host, port, **chosen)
        except ssl.SSLCertVerificationError as error:
            raise aiohttp.ClientConnectorCertificateError(key, error) from error
        except OSError as error:
            raise aiohttp.ClientConnectorError(key, error) from error


def application() -> web.Application:
    async def hello(request: web.Request) -> web.Response:
        return web.json_response({"peer": str(request.transport and request.transport.get_extra_info("peer"))})

    async def upload(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for chunk in request.content.iter_any():
            await response.write(chunk)
        return response

    async def chat(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"you said {message.data}")
        return socket

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.3)
        return web.Response()

    served = web.Application(client_max_size=2**26)
    served.router.add_get("/hello", hello)
    served.router.add_post("/upload", upload)
    served.router.add_get("/chat", chat)
    served.router.add_get("/slow", slow)
    return served


@asynccontextmanager
async def serving(left: Node, right: Node, context: ssl.SSLContext | None = None) -> AsyncIterator[Any]:
    """A session of a client of such a server."""
    runner = web.AppRunner(application())
    await runner.setup()
    assert runner.server is not None
    server = await right.streams.create_server(runner.server, None, 80, ssl=context)
    async with aiohttp.ClientSession(connector=Connector(left)) as session:
        yield session
    server.close()
    await runner.cleanup()
    await server.wait_closed()


@pytest.mark.parametrize("with_tls", [False, True])
class TestAiohttp:
    async def test_requests_and_websockets(self, left: Node, right: Node, with_tls: bool) -> None:
        scheme, context, trust = ("https", server_context(), client_context()) if with_tls else ("http", None, True)
        async with serving(left, right, context) as session:
            for _ in range(3):
                async with session.get(f"{scheme}://right:80/hello", ssl=trust) as response:
                    assert await response.json() == {"peer": f"peer at {left.ipv6}"}
            data = bytes(range(256)) * 8000
            async with session.post(f"{scheme}://right:80/upload", data=io.BytesIO(data), ssl=trust) as response:
                assert await response.read() == data
            async with session.ws_connect(f"{scheme}://right:80/chat", ssl=trust) as socket:
                await socket.send_str("hello")
                assert await socket.receive_str() == "you said hello"
            # All of it over one connection, and the WebSocket's.
            assert len(right.host.tcp.connections) <= 2

    async def test_many_requests_at_once(self, left: Node, right: Node, with_tls: bool) -> None:
        scheme, context, trust = ("https", server_context(), client_context()) if with_tls else ("http", None, True)
        async with serving(left, right, context) as session:

            async def ask() -> int:
                async with session.get(f"{scheme}://right:80/hello", ssl=trust) as response:
                    await response.read()
                    return int(response.status)

            assert await asyncio.gather(*(ask() for _ in range(30))) == [200] * 30


class TestFailures:
    async def test_refused(self, left: Node, right: Node) -> None:
        async with aiohttp.ClientSession(connector=Connector(left)) as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get("http://right:81/")

    async def test_unknown_name(self, left: Node) -> None:
        async with aiohttp.ClientSession(connector=Connector(left)) as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get("http://nobody/")

    async def test_certificate_of_an_unknown_authority(self, left: Node, right: Node) -> None:
        async with serving(left, right, server_context()) as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get("https://right:80/hello")

    async def test_time_out_of_a_request_closes_its_connection(self, left: Node, right: Node) -> None:
        async with serving(left, right) as session:
            with pytest.raises(TimeoutError):
                await session.get("http://right:80/slow", timeout=aiohttp.ClientTimeout(total=0.1))
            async with session.get("http://right:80/hello") as response:
                assert response.status == 200
