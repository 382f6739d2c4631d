"""The HTTP server of the daemon: one dispatch function over the route table.

HTTP itself is aiohttp's; what is here is the way from a request to a row of the table and back, and how long a client
may stall. Beside it: parameters (request.py), connections and their number (connection.py), streams (sse.py).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
from aiohttp import web

from weft.api.connection import Connections, json_response, problem_response
from weft.api.facade import Facade
from weft.api.request import Refused, explain, find_row, read_parameters
from weft.api.sse import Streams
from weft.api.unix_socket import ApiSocket
from weft.api.v0.route import Stream

PATIENCE_S = 10.0
"""How long a client may take for a request, for reading a reply, or between two requests."""
GRACE_S = 2.0
"""How long requests under way may take when the server closes."""

log = logging.getLogger(__name__)


class Server:
    """Serves a node on a Unix socket.

    A request that is not as it should be gets a problem document and changes nothing; an error in a handler that no
    node raises on purpose is logged and answered with 500.

    Args:
        node: what the requests are for.
        socket: where to listen; stays the caller's, who closes it.
        patience_s: how long a client may stall.
    """

    def __init__(self, node: Facade, socket: ApiSocket, *, patience_s: float = PATIENCE_S) -> None:
        self._node = node
        self._socket = socket
        self._patience_s = patience_s
        self._streams = Streams(patience_s)
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Begin to answer."""
        connections = Connections(
            self._handle,
            keepalive_timeout=self._patience_s,
            lingering_time=self._patience_s,
            access_log=None,
            auto_decompress=False,
        )
        self._runner = web.ServerRunner(connections, shutdown_timeout=GRACE_S)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket.socket).start()

    async def stop(self) -> None:
        """End the streams, answer what is under way, then drop all clients."""
        self._streams.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except Refused as refused:
            response = problem_response(refused.problem, refused.headers)
        if response.prepared:
            return response
        try:
            # Sent here and not by aiohttp, so that a client that does not read can't hold a connection for ever.
            async with asyncio.timeout(self._patience_s):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            log.debug("a client went before its reply came")
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        row = find_row(request)
        parameters: Any = await read_parameters(row, request, self._patience_s)
        try:
            if isinstance(row, Stream):
                return await self._streams.serve(row, request, row.handler(self._node, parameters))
            result: msgspec.Struct = await row.handler(self._node, parameters)
        except Refused:
            raise
        except Exception as error:
            raise Refused(explain(row, error)) from error
        return json_response(200, result)
