"""An ASGI application on aiohttp's server: its lifespan, and a task for each request.

The server parses and writes HTTP, and bounds what it takes ahead; here is only what makes its requests messages of ASGI
and messages of ASGI its responses. The application is told when its client goes, and goes on until it ends by itself;
only what is left when the server ends is cancelled.

Lifespan: an application that knows none is served all the same; one whose start fails is not.

Source: ASGI 3.0, "Lifespan Protocol" 2.0.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import WSCloseCode, web

from weft.clients.asgi.answer import Message
from weft.clients.asgi.http import Exchange
from weft.clients.asgi.websocket import Conversation, can_be, is_wanted
from weft.errors import UsageError

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

LIFESPAN: Final = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}

log = logging.getLogger("weft.clients")


class AsgiRunner(web.BaseRunner):
    """Runs an application, as aiohttp's `AppRunner` runs one of aiohttp's.

    Args:
        app: a callable with the three arguments of ASGI 3.
        shutdown_timeout: s; as of aiohttp.
        keepalive_timeout: s; as of aiohttp.

    Raises:
        UsageError: it can't be such an application.
    """

    __slots__ = ("_app", "_conversations", "_keepalive_timeout", "_lifespan", "_tasks")

    def __init__(self, app: Application, *, shutdown_timeout: float, keepalive_timeout: float) -> None:
        super().__init__(shutdown_timeout=shutdown_timeout)
        self._keepalive_timeout = keepalive_timeout
        try:
            inspect.signature(app).bind({}, None, None)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{app!r} is no application of ASGI 3, and none of aiohttp") from error
        self._app = app
        self._lifespan = _Lifespan(app)
        self._conversations: set[Conversation] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def shutdown(self) -> None:
        """Tell those who talk over WebSockets that this is the end."""
        await asyncio.gather(*(each.end(WSCloseCode.GOING_AWAY) for each in self._conversations))

    async def _make_server(self) -> web.Server:
        await self._lifespan.start()
        return web.Server(
            self._handle, handler_cancellation=True, auto_decompress=False, keepalive_timeout=self._keepalive_timeout
        )

    async def _cleanup_server(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._lifespan.end()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if not is_wanted(request):
            exchange = Exchange(request, self._lifespan.state)
            await self._run(exchange)
            return exchange.response()
        if not can_be(request):
            return web.Response(status=400, text="this is no handshake of a WebSocket")
        conversation = Conversation(request, self._lifespan.state)
        self._conversations.add(conversation)
        try:
            await self._run(conversation)
        except Exception:
            await conversation.end(WSCloseCode.INTERNAL_ERROR)
            raise
        else:
            await conversation.end()
        finally:
            self._conversations.discard(conversation)
        return conversation.response()

    async def _run(self, served: Exchange | Conversation) -> None:
        """Let the application answer, to its end, even if the client goes before."""
        task = asyncio.ensure_future(self._app(served.scope, served.receive, served.send))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            served.disconnect()
            await asyncio.wait([task])
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, OSError):
                log.error("an application failed after its client had gone", exc_info=error)
            raise
        if task.cancelled():
            raise RuntimeError("the application was cancelled")
        task.result()


class _Lifespan:
    """What an application does before the first request and after the last."""

    __slots__ = ("_app", "_ended", "_inbox", "_is_known", "_started", "_task", "state")

    def __init__(self, app: Application) -> None:
        self._app = app
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._is_known = True
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}

    async def start(self) -> None:
        """Let it start.

        Raises:
            RuntimeError: it says that it can't.
        """
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[str | None] = loop.create_future()
        self._ended: asyncio.Future[str | None] = loop.create_future()
        self._task = asyncio.create_task(self._run())
        self._inbox.put_nowait({"type": "lifespan.startup"})
        failure = await self._started
        if failure is not None:
            await asyncio.wait([self._task])
            raise RuntimeError(f"the application did not start: {failure or 'it does not say why'}")

    async def end(self) -> None:
        """Let it end."""
        if self._task is None or self._task.done():
            return
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        failure = await self._ended
        if failure is not None:
            log.error("the application did not end well: %s", failure or "it does not say why")
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            await self._app({**LIFESPAN, "state": self.state}, self._inbox.get, self._send)
        except Exception as error:
            if self._started.done():
                log.exception("the lifespan of the application failed")
            else:
                # Whether it knows no lifespan or its start failed: it has not said that it did.
                log.debug("the application knows no lifespan: %r", error)
        finally:
            for future in (self._started, self._ended):
                if not future.done():
                    future.set_result(None)

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._started.set_result(None)
            case "lifespan.startup.failed":
                self._started.set_result(message.get("message", ""))
            case "lifespan.shutdown.complete":
                self._ended.set_result(None)
            case "lifespan.shutdown.failed":
                self._ended.set_result(message.get("message", ""))
