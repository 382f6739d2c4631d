"""The HTTP server of the daemon: one dispatch function over the route table.

HTTP itself is aiohttp's; what is here is the way from a request to a row of the table and back, and the bounds: how
large a request may be, how long a client may stall, how many may be connected.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

import msgspec
from aiohttp import web

from weft.api.facade import Facade
from weft.api.problem import CONTENT_TYPE, Problem, problem_of
from weft.api.unix_socket import ApiSocket
from weft.api.v0.route import Route
from weft.api.v0.table import ROUTES
from weft.errors import WeftError

MAX_BODY_BYTES = 64 * 1024
MAX_CONNECTIONS = 64
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
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Begin to answer."""
        connections = _Connections(
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
        """Answer what is under way, then drop all clients."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = _json(200, await self._answer(request))
        except _Refused as refused:
            response = _problem(refused.problem, refused.headers)
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

    async def _answer(self, request: web.BaseRequest) -> msgspec.Struct:
        route = _route_of(request)
        parameters = _parameters_of(route, request, await self._body_of(request))
        try:
            result: msgspec.Struct = await route.handler(self._node, parameters)
        except Exception as error:
            problem = problem_of(error)
            if problem is None or type(error) is WeftError:
                _log_failure(route, error)
            raise _Refused(problem or _FAILED) from error
        return result

    async def _body_of(self, request: web.BaseRequest) -> bytes:
        if not request.body_exists:
            return b""
        body = bytearray()
        try:
            async with asyncio.timeout(self._patience_s):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise _refuse(413, f"the body may have {MAX_BODY_BYTES} bytes")
        except TimeoutError:
            raise _refuse(408, f"the rest of the body did not come within {self._patience_s:g} s") from None
        except (web.RequestPayloadError, ConnectionError):
            raise _refuse(400, "the body is not framed as its header says") from None
        return bytes(body)


class _Refused(Exception):  # noqa: N818 - an answer on its way, not a fault
    """A request ends here, with this document."""

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = headers


_TITLES = {
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    500: "Internal Server Error",
}


def _refuse(status: int, detail: str, headers: dict[str, str] | None = None) -> _Refused:
    return _Refused(Problem(type="about:blank", title=_TITLES[status], status=status, detail=detail), headers)


_FAILED = _refuse(500, "the daemon failed at this; its log says where").problem

_BY_PATH: dict[str, dict[str, Route[Any, Any]]] = {}
for _route in ROUTES:
    _BY_PATH.setdefault(_route.path, {})[_route.method] = _route


def _route_of(request: web.BaseRequest) -> Route[Any, Any]:
    path, question_mark, _ = request.raw_path.partition("?")
    methods = _BY_PATH.get(path)
    if methods is None:
        raise _refuse(404, "there is nothing at this path; see the API's documentation for what there is")
    route = methods.get(request.method)
    if route is None:
        allowed = ", ".join(methods)
        raise _refuse(405, f"{path} takes {allowed}", {"Allow": allowed})
    if question_mark:
        raise _refuse(400, f"{path} takes no query; parameters go into the body as a JSON object")
    return route


def _parameters_of(route: Route[Any, Any], request: web.BaseRequest, body: bytes) -> msgspec.Struct:
    if not body:
        body = b"{}"
    elif request.content_type != "application/json":
        raise _refuse(415, f"{route.path} takes a body of type application/json")
    try:
        parameters: msgspec.Struct = msgspec.json.decode(body, type=route.parameters)
    except msgspec.ValidationError as error:
        raise _refuse(422, f"{route.path}: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refuse(400, f"the body is not JSON: {error}") from None
    return parameters


def _log_failure(route: Route[Any, Any], error: Exception) -> None:
    # The message of a foreign exception may quote a key, so only its class and the places are logged.
    places = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    log.error("%s %s failed with %s\n%s", route.method, route.path, type(error).__name__, places)


def _json(status: int, value: msgspec.Struct, content_type: str = "application/json") -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type=content_type)


def _problem(problem: Problem, headers: dict[str, str] | None = None) -> web.Response:
    response = _json(problem.status, problem, CONTENT_TYPE)
    response.headers.update(headers or {})
    return response


class _Connection(web.RequestHandler):
    """One client: aiohttp's, but for what is said when the bytes are no HTTP."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are no HTTP request, and what `Server` itself did wrong."""
        if status == 500:
            log.error("the API failed with %s", type(exc).__name__)
            response = _problem(_FAILED)
        else:
            log.debug("a client sent what is no HTTP request")
            response = _problem(_refuse(400, "this is no HTTP request").problem)
        response.force_close()
        return response

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a client, unless there are too many."""
        super().connection_made(transport)
        assert self._manager is not None
        if len(self._manager.connections) > MAX_CONNECTIONS:
            log.warning("more than %d clients of the API at once; one was turned away", MAX_CONNECTIONS)
            self.force_close()


class _Connections(web.Server):
    """Makes a `_Connection` for each client."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)
