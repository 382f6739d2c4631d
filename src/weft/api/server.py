"""The HTTP server of the daemon: one dispatch function over the route table.

HTTP itself is aiohttp's; what is here is the way from a request to a row of the table and back, and how long a client
may stall. Beside it: parameters (request.py), connections and their number (connection.py), streams (sse.py), who may
ask over TCP (loopback.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket as socket_module
from collections import Counter
from functools import partial
from itertools import chain
from typing import Any

import msgspec
from aiohttp import web

from weft.api import metrics
from weft.api.connection import Connections, json_response, problem_response
from weft.api.facade import Facade
from weft.api.lent.lending import Lending
from weft.api.loopback import Loopback
from weft.api.openapi import document
from weft.api.request import Refused, Row, explain, find_row, read_parameters
from weft.api.sse import Streams
from weft.api.unix_socket import ApiSocket
from weft.api.v0 import observe
from weft.api.v0.route import Channel, Document, Stream

PATIENCE_S = 10.0
"""How long a client may take for a request, for reading a reply, or between two requests."""
GRACE_S = 2.0
"""How long requests under way may take when the server closes."""

log = logging.getLogger(__name__)


class Server:
    """Serves a node on a Unix socket, and on a TCP port if it is given one.

    A request that is not as it should be gets a problem document and changes nothing; an error in a handler that no
    node raises on purpose is logged and answered with 500.

    Args:
        node: what the requests are for.
        socket: where to listen; stays the caller's, who closes it.
        loopback: where else to listen; stays the caller's too.
        patience_s: how long a client may stall.
    """

    def __init__(
        self, node: Facade, socket: ApiSocket, loopback: Loopback | None = None, *, patience_s: float = PATIENCE_S
    ) -> None:
        self._node = node
        self._socket = socket
        self._loopback = loopback
        self._patience_s = patience_s
        self._streams = Streams(patience_s)
        self._lending = Lending()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._runners: list[web.ServerRunner] = []

    async def start(self) -> None:
        """Begin to answer."""
        await self._listen(self._socket.socket, None)
        if self._loopback is not None:
            await self._listen(self._loopback.socket, self._loopback)

    async def stop(self) -> None:
        """End the streams and the sockets that are lent, answer what is under way, then drop all clients."""
        self._streams.close()
        self._lending.close()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        self._runners.clear()

    async def _listen(self, socket: socket_module.socket, guard: Loopback | None) -> None:
        connections = Connections(
            partial(self._handle, guard),
            keepalive_timeout=self._patience_s,
            lingering_time=self._patience_s,
            access_log=None,
            auto_decompress=False,
        )
        runner = web.ServerRunner(connections, shutdown_timeout=GRACE_S)
        self._runners.append(runner)
        await runner.setup()
        await web.SockSite(runner, socket).start()

    async def _handle(self, guard: Loopback | None, request: web.BaseRequest) -> web.StreamResponse:
        path = "other"
        try:
            if guard is not None:
                guard.check(request)
            row = find_row(request)
            path = row.path
            response = await self._answer(row, request)
        except Refused as refused:
            response = problem_response(refused.problem, refused.headers)
        self._requests[path, response.status] += 1
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

    async def _answer(self, row: Row, request: web.BaseRequest) -> web.StreamResponse:
        parameters: Any = await read_parameters(row, request, self._patience_s)
        try:
            if isinstance(row, Stream):
                return await self._streams.serve(row, request, row.handler(self._node, parameters))
            if isinstance(row, Channel):
                return await self._lending.serve(row, request, self._node)
            if isinstance(row, Document):
                return await self._write(row, request)
            result: msgspec.Struct = await row.handler(self._node, parameters)
        except Refused:
            raise
        except Exception as error:
            raise Refused(explain(row, error)) from error
        return json_response(200, result)

    async def _write(self, row: Document, request: web.BaseRequest) -> web.Response:
        if row is observe.OPENAPI:
            return web.Response(body=document(), content_type=row.content_types[0])
        open_metrics = row.content_types[1] in request.headers.get("Accept", "")
        families = chain(self._node.metrics(), metrics.own(self._requests, len(self._streams)))
        body = await metrics.encode(families, open_metrics=open_metrics)
        return web.Response(body=body, headers={"Content-Type": metrics.OPEN_METRICS if open_metrics else metrics.TEXT})
