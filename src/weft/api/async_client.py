"""A client of the daemon's API for programs on asyncio; client.py is the one for commands."""

from __future__ import annotations

import asyncio
import http
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
import msgspec

from weft.api.client import PATIENCE_S, SILENCE_S, NoDaemon
from weft.api.problem import CONTENT_TYPE, Problem, error_of
from weft.api.v0.route import Channel, Route, Stream
from weft.errors import Broken, TransportError, UsageError

P = TypeVar("P", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

MAX_HEAD_BYTES: Final = 16_384


class AsyncClient:
    """Asks the daemon that listens on a Unix socket; an asynchronous context manager.

    Args:
        path: of the socket's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if not hasattr(socket, "AF_UNIX"):
            raise UsageError("this system has no Unix sockets, on which the daemon listens")
        connector = aiohttp.UnixConnector(os.fspath(self._path))
        self._session = aiohttp.ClientSession("http://localhost", connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, route: Route[P, R], parameters: P | None = None, *, patience_s: float = PATIENCE_S) -> R:
        """Ask for something.

        Args:
            route: what, one of `weft.api.v0.table`.
            parameters: of the route.
            patience_s: how long to wait for the reply.

        Raises:
            NoDaemon: nobody listens there.
            TransportError: the connection failed, or no reply came in time.
            WeftError, TimeoutError, PermissionError: what the node raised.
        """
        limits = aiohttp.ClientTimeout(total=patience_s)
        async with self._asked(route, parameters, limits) as response:
            status, kind, reply = response.status, response.content_type, await response.read()
        if status != http.HTTPStatus.OK:
            raise self._error_of(status, kind, reply)
        return self._decode(reply, route.result)

    async def stream(self, stream: Stream[P, R], parameters: P | None = None) -> AsyncIterator[R]:
        """The items of a stream from the first `anext` on, until the iterator is closed or the daemon ends it.

        Raises:
            As `call`.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_S)
        error: Exception | None = None
        async with self._asked(stream, parameters, limits) as response:
            if response.status != http.HTTPStatus.OK:
                error = self._error_of(response.status, response.content_type, await response.read())
            else:
                async with aclosing(_events(response)) as events:
                    async for kind, data in events:
                        if kind == b"problem":
                            error = error_of(self._decode(data, Problem))
                            break
                        yield self._decode(data, stream.item)
        # Not inside, where a time-out is that of the connection.
        if error is not None:
            raise error

    async def leave(self, channel: Channel) -> socket.socket:
        """Leave HTTP for another protocol.

        Returns:
            A socket that is connected with the daemon, and the caller's from now on.

        Raises:
            As `call`.
        """
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        asked = (
            f"{channel.method} {channel.path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Connection: Upgrade\r\nUpgrade: {channel.protocol}\r\n\r\n"
        )
        try:
            sock.setblocking(False)
            async with asyncio.timeout(PATIENCE_S):
                await loop.sock_connect(sock, os.fspath(self._path))
                await loop.sock_sendall(sock, asked.encode())
                head = await _read_head(loop, sock)
            if not head.startswith(b"HTTP/1.1 101 "):
                raise self._refusal(head)
        except BaseException as error:
            sock.close()
            if isinstance(error, FileNotFoundError | ConnectionRefusedError):
                raise self._no_daemon() from None
            raise
        return sock

    @asynccontextmanager
    async def _asked(
        self, row: Route[Any, Any] | Stream[Any, Any], parameters: msgspec.Struct | None, limits: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        arguments: dict[str, Any] = {"timeout": limits}
        if parameters is not None and row.method == "GET":
            arguments["params"] = _query(parameters)
        elif parameters is not None:
            arguments |= {"data": msgspec.json.encode(parameters), "headers": {"Content-Type": "application/json"}}
        try:
            async with self._session.request(row.method, row.path, **arguments) as response:
                yield response
        except aiohttp.ClientConnectorError:
            raise self._no_daemon() from None
        except TimeoutError:
            raise TransportError(f"{self._path}: the daemon did not answer in time") from None
        except aiohttp.ClientError as error:
            raise Broken(f"{self._path}: the daemon went away under the request ({type(error).__name__})") from None

    def _decode(self, data: bytes, kind: type[R]) -> R:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise Broken(f"{self._path}: the daemon is of another version: {error}; restart it") from None

    def _error_of(self, status: int, kind: str, reply: bytes) -> Exception:
        if kind == CONTENT_TYPE:
            return error_of(self._decode(reply, Problem))
        return Broken(f"{self._path}: what answers there is no weft daemon (HTTP status {status})")

    def _refusal(self, head: bytes) -> Exception:
        """Why a daemon does not leave HTTP."""
        _, _, body = head.partition(b"\r\n\r\n")
        return self._error_of(0, CONTENT_TYPE if body.startswith(b"{") else "", body)

    def _no_daemon(self) -> NoDaemon:
        return NoDaemon(f"no daemon answers at {self._path}; start it with `weft up`")


async def _read_head(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bytes:
    """The head of a reply, and what came with it."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_HEAD_BYTES:
        more = await loop.sock_recv(sock, 4096)
        if not more:
            break
        head += more
    return head


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[tuple[bytes, bytes], None]:
    """Kind and data of each server-sent event."""
    received = b""
    async for more in response.content.iter_any():
        *events, received = (received + more).split(b"\n\n")
        for event in events:
            fields = dict(line.split(b": ", 1) for line in event.split(b"\n"))
            if b"data" in fields:
                yield fields.get(b"event", b""), fields[b"data"]


def _query(parameters: msgspec.Struct) -> list[tuple[str, str]]:
    values = {name: value for name, value in msgspec.to_builtins(parameters).items() if value is not None}
    pairs = [(name, each) for name, value in values.items() for each in (value if isinstance(value, list) else [value])]
    return [(name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in pairs]
