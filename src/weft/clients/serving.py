"""Applications that are served in the network: those of aiohttp, and those of ASGI.

    async with await node.serve_app(app, 80) as server: …

What others may take of a server, whoever they are:

| of                                                    | no more than                      | then                |
|-------------------------------------------------------|-----------------------------------|---------------------|
| connections                                           | 256 (`connections`)               | one more is reset   |
| connections with one address, but for this machine's  | 128 (`per_address`)               | one more is reset   |
| the time for TLS to be agreed on                      | 10 s (`bounded.HANDSHAKE_S`)      | it is closed        |
| the time for a request's head to be whole, after the  | 60 s (`IDLE_S`)                   | it is closed        |
| connection was made or the answer before it was given |                                   |                     |
| silence of the other side's TCP                       | 2 min (`bounded.KEEPALIVE`)       | it is closed        |

A body may take as long as it likes, and so may an answer and a WebSocket: it is the application's to say what is too
long. What is turned away is counted, and told in a line.

The end is orderly: no more connections are taken, those that wait for a request are closed, WebSockets are closed with
1001 (of aiohttp's applications: by their `on_shutdown`), requests get `PATIENCE_S` to be answered and are cancelled
then, and at last the application is told to end.
"""

from __future__ import annotations

import asyncio
import logging
import ssl as ssl_module
from collections import Counter
from typing import Any, Final

from aiohttp import web

from weft.clients.asgi.runner import Application, AsgiRunner
from weft.clients.bounded import CONNECTIONS, PER_ADDRESS, Bounded
from weft.clients.network import Network
from weft.clients.sparing import Sparing, Told

PATIENCE_S: Final = 10.0
IDLE_S: Final = 60.0
"""Longer than clients keep what they do not use, for a request that meets the end of its connection is lost."""

log = logging.getLogger("weft.clients")


class AppServer(asyncio.AbstractServer):
    """A server with an application behind it; `serve_app` makes it.

    Args:
        runner: is set up.
        server: takes its connections.
        turned_away: as the attribute.

    Attributes:
        turned_away: how many connections, by reason.
    """

    def __init__(self, runner: web.BaseRunner, server: asyncio.AbstractServer, turned_away: Counter[str]) -> None:
        self.turned_away = turned_away
        self._runner = runner
        self._server: Any = server
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Task[None] | None = None
        self._is_over = asyncio.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    @property
    def sockets(self) -> tuple[Any, ...]:
        """What it listens on; nothing once it is closed."""
        return tuple(self._server.sockets)

    @property
    def port(self) -> int:
        """That it listens on.

        Raises:
            IndexError: it is closed.
        """
        return int(self.sockets[0].getsockname()[1])

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop on which it runs."""
        return self._loop

    @property
    def is_closed(self) -> bool:
        """Whether it is over."""
        return self._is_over.is_set()

    def is_serving(self) -> bool:
        """Whether it takes connections."""
        return bool(self._server.is_serving())

    async def start_serving(self) -> None:
        """Nothing: it does from the beginning."""

    async def serve_forever(self) -> None:
        """Return when it is over; if cancelled, end it first."""
        try:
            await self._is_over.wait()
        finally:
            self.close()
            await self.wait_closed()

    def close(self) -> None:
        """Begin to end it, as the head of this file says."""
        if self._ending is None:
            self._server.close()
            self._ending = self._loop.create_task(self._end())

    async def wait_closed(self) -> None:
        """Return when it is over."""
        await self._is_over.wait()

    async def _end(self) -> None:
        try:
            await self._runner.cleanup()
        finally:
            self._is_over.set()


async def serve_app(
    network: Network,
    app: web.Application | Application,
    port: int,
    host: Any = None,
    *,
    ssl: ssl_module.SSLContext | None = None,
    connections: int = CONNECTIONS,
    per_address: int = PER_ADDRESS,
    told: Told = log.warning,
) -> AppServer:
    """Start an application and take connections for it.

    Args:
        network: where.
        app: of aiohttp, or of ASGI 3.
        port: TCP; 0 for a free one.
        host: where it listens; None for all addresses that this node has in the network.
        ssl: speak TLS with it.
        connections: how many there may be at a time.
        per_address: how many of those with one address.
        told: is told in a line what is turned away, and not too often.

    Raises:
        OSError: the port can't be had.
        RuntimeError: the application says that it can't start.
        UsageError: it is no application.
    """
    runner: web.BaseRunner
    timeout_s = PATIENCE_S / 2  # aiohttp waits for so long twice
    if isinstance(app, web.Application):
        runner = web.AppRunner(app, shutdown_timeout=timeout_s, keepalive_timeout=IDLE_S)
    else:
        runner = AsgiRunner(app, shutdown_timeout=timeout_s, keepalive_timeout=IDLE_S)
    bounded = Bounded(network, Sparing(told), connections, per_address)
    try:
        await runner.setup()
        assert runner.server is not None
        server = await bounded.create_server(runner.server, host, port, ssl=ssl)
        return AppServer(runner, server, bounded.turned_away)
    except BaseException:
        await runner.cleanup()
        raise
