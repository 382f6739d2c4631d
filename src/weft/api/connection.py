"""The clients of the API, as connections: how many there may be, how they end, and what is said to what is no HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from weft.api.problem import CONTENT_TYPE, Problem
from weft.api.request import FAILED, refuse
from weft.io.clock import monotonic_ns
from weft.rates import Rate

MAX_CONNECTIONS: Final = 64
"""To one listener, so that whoever fills one leaves the others free."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


def json_response(status: int, value: msgspec.Struct, content_type: str = "application/json") -> web.Response:
    """A reply that is one JSON object."""
    return web.Response(status=status, body=msgspec.json.encode(value), content_type=content_type)


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> web.Response:
    """A reply that is a problem document."""
    response = json_response(problem.status, problem, CONTENT_TYPE)
    response.headers.update(headers or {})
    return response


class Connection(web.RequestHandler):
    """One client: aiohttp's, but for what is said when the bytes are no HTTP, and for streams.

    Attributes:
        when_lost: called when the client of a stream has gone, or speaks where it should listen; None outside streams.
    """

    __slots__ = ("when_lost",)

    def __init__(self, manager: web.Server, **options: Any) -> None:
        self.when_lost: Callable[[], None] | None = None
        super().__init__(manager, **options)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are no HTTP request, and what the server itself did wrong."""
        if status == 500:
            log.error("the API failed with %s", type(exc).__name__)
            response = problem_response(FAILED)
        else:
            log.debug("a client sent what is no HTTP request")
            response = problem_response(refuse(400, "this is no HTTP request").problem)
        response.force_close()
        return response

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a client, unless there are too many."""
        super().connection_made(transport)
        assert self._manager is not None
        if len(self._manager.connections) > MAX_CONNECTIONS:
            assert isinstance(self._manager, Connections)
            self._manager.handle_refused()
            self.force_close()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a stream's client has nothing more to say, and buffered bytes would hide that it goes."""
        if self.when_lost is not None:
            assert self.transport is not None
            self.transport.abort()
            return
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client went; a stream ends at once, while a request under way is carried through."""
        if self.when_lost is not None:
            self.when_lost()
        super().connection_lost(exc)


class Connections(web.Server):
    """Makes a `Connection` for each client of one listener."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        super().__init__(handler, **options)
        self._warnings = Rate(1, burst=1)

    def handle_refused(self) -> None:
        """One client too many was turned away; said once a second, however many there are."""
        if self._warnings.allows(monotonic_ns()):
            log.warning("more than %d clients of the API at once; who comes is turned away", MAX_CONNECTIONS)

    def __call__(self) -> web.RequestHandler:
        """Make it."""
        return Connection(self, loop=self._loop, **self._kwargs)
