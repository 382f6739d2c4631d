"""A node without any right, in a process of its own, which does in the network what it is told.

    python -m tests.interop.rootless MULTIADDR [ADDRESS…]

It calls the node there `bob`, and asks the servers of DNS at the addresses for names. Each line on its standard input
is one wish, `{"do": …}`, each answer is one line.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import weft
from weft.clients.failures import reason_of
from weft.clients.http.fetch import fetch
from weft.clients.http.partial import Partial
from weft.clients.serving import AppServer
from weft.clients.tls.connect import client_context, server_context
from weft.clients.tls.handshake import look

BIG = bytes(range(256)) * 40_000


class Rootless:
    """The wishes, by name."""

    def __init__(self, node: weft.Node) -> None:
        self._node = node
        self._servers: dict[int, AppServer] = {}
        self._contexts: dict[str, Any] = {}
        self._client = node.http()

    async def info(self) -> Any:
        return {"address": str(self._node.address), "id": str(self._node.identity)}

    async def get(
        self, *urls: str, roots: str | None = None, http2: bool = False, certificate: str | None = None
    ) -> Any:
        """Ask for several things with one client."""
        context = client_context(roots=roots, certificate=certificate, verify=roots is not None)
        answers = []
        async with self._node.http(verify=context, http2=http2, timeout=20) as client:
            for url in urls:
                answer = await client.get(url)
                answers.append(
                    {
                        "status": answer.status_code,
                        "version": answer.http_version,
                        "sha256": hashlib.sha256(answer.content).hexdigest(),
                        "headers": dict(answer.headers),
                    }
                )
        return answers

    async def fetch(self, url: str, file: str) -> Any:
        async with self._node.http() as client:
            with Partial(Path(file), url) as sink:
                before = sink.size_bytes
                await fetch(client, url, sink)
                sink.finish()
        return {"resumed_from": before}

    async def resolve(self, host: str) -> Any:
        """The addresses of a name, or why there are none."""
        try:
            infos = await self._node.getaddrinfo(host, 80, type=int(socket.SOCK_STREAM))
        except OSError as error:
            return reason_of(error)
        return sorted({info[4][0] for info in infos})

    async def look(self, host: str, port: int, *, roots: str, alpn: tuple[str, ...] = (), **options: Any) -> Any:
        """What a TLS server shows, as in `weft tls`."""

        def make_context(verify: bool) -> Any:
            certificate = options.get("certificate")
            return client_context(verify=verify, roots=roots if verify else None, alpn=alpn, certificate=certificate)

        return msgspec.to_builtins(await look(self._node, host, port, make_context, name=options.get("name")))

    async def say(self, host: str, port: int, text: str, *, roots: str, times: int = 1) -> Any:
        """Say a line over TLS, in some connections one after the other; whether each resumed."""
        context = self._contexts.setdefault(roots, client_context(roots=roots))
        reused = []
        for _ in range(times):
            reader, writer = await self._node.open_connection(host, port, ssl=context)
            writer.write(f"{text}\n".encode())
            heard = await asyncio.wait_for(reader.readline(), 10)
            reused.append((heard.decode().strip(), writer.get_extra_info("ssl_object").session_reused))
            writer.close()
        return reused

    async def serve(
        self, kind: str, port: int, *, certificate: str | None = None, clients: str | None = None, alpn: Any = ()
    ) -> Any:
        context = server_context(certificate, clients=clients, alpn=alpn) if certificate is not None else None
        app = of_asgi() if kind == "asgi" else of_aiohttp()
        self._servers[port] = await self._node.serve_app(app, port, ssl=context)
        return {}

    async def close(self, port: int) -> Any:
        server = self._servers.pop(port)
        server.close()
        await server.wait_closed()
        return {}


def of_asgi() -> Starlette:
    async def hello(request: Request) -> Response:
        return PlainTextResponse(f"hello {request.method}\n")

    async def big(request: Request) -> Response:
        return Response(BIG)

    async def digest(request: Request) -> Response:
        sha256 = hashlib.sha256()
        async for part in request.stream():
            sha256.update(part)
        return PlainTextResponse(sha256.hexdigest())

    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(f"you said {text}")

    routes = [Route("/", hello), Route("/big", big), Route("/digest", digest, methods=["POST", "PUT"])]
    return Starlette(routes=[*routes, WebSocketRoute("/chat", chat)])


def of_aiohttp() -> web.Application:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=f"hello {request.method}\n")

    async def big(request: web.Request) -> web.Response:
        return web.Response(body=BIG)

    async def digest(request: web.Request) -> web.Response:
        sha256 = hashlib.sha256()
        async for part in request.content.iter_any():
            sha256.update(part)
        return web.Response(text=sha256.hexdigest())

    async def chat(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(f"you said {message.data}")
        return socket

    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get("/big", big)
    app.router.add_route("*", "/digest", digest)
    app.router.add_get("/chat", chat)
    return app


async def main(multiaddr: str, *servers: str) -> None:
    async with weft.Node(dns=servers) as node:
        await node.connect_peer(multiaddr, name="bob")
        rootless = Rootless(node)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        print("ready", flush=True)
        while line := await reader.readline():
            wish = json.loads(line)
            try:
                answer = await getattr(rootless, wish.pop("do"))(*wish.pop("words", ()), **wish)
            except Exception as error:
                answer = {"error": str(error) or reason_of(error), "kind": type(error).__name__}
            print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
