"""Applications that are served in the network: those of aiohttp, and those of ASGI.

    async with await node.serve_app(app, 80) as server: …

The end is orderly: no more connections are taken, those that wait for a request are closed, WebSockets are closed with
1001 (of aiohttp's applications: by their `on_shutdown`), requests get `PATIENCE_S` to be answered and are cancelled
then, and at last the application is told to end.
"""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from typing import Any, Final

from aiohttp import web

from weft.clients.asgi.runner import Application, AsgiRunner
from weft.clients.network import Network

PATIENCE_S: Final = 10.0


class AppServer(asyncio.AbstractServer):
    """A server with an application behind it; `serve_app` makes it.

    Args:
        runner: is set up.
        server: takes its connections.
    """

    def __init__(self, runner: web.BaseRunner, server: asyncio.AbstractServer) -> None:
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
) -> AppServer:
    """Start an application and take connections for it.

    Args:
        network: where.
        app: of aiohttp, or of ASGI 3.
        port: TCP; 0 for a free one.
        host: where it listens; None for all addresses that this node has in the network.
        ssl: speak TLS with it.

    Raises:
        OSError: the port can't be had.
        RuntimeError: the application says that it can't start.
        UsageError: it is no application.
    """
    runner: web.BaseRunner
    timeout_s = PATIENCE_S / 2  # aiohttp waits for so long twice
    if isinstance(app, web.Application):
        runner = web.AppRunner(app, shutdown_timeout=timeout_s)
    else:
        runner = AsgiRunner(app, shutdown_timeout=timeout_s)
    try:
        await runner.setup()
        assert runner.server is not None
        return AppServer(runner, await network.create_server(runner.server, host, port, ssl=ssl))
    except BaseException:
        await runner.cleanup()
        raise
