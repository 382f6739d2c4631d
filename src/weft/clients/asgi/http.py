"""A request of HTTP as an ASGI application sees it.

| what happens                                   | what the application receives                                     |
|------------------------------------------------|-------------------------------------------------------------------|
| a part of the request's body came              | `http.request`; a client that waits to be told to go on is told so |
| the answer is complete, or the client has gone | `http.disconnect`                                                 |

`scope["extensions"]["weft"]["peer"]` is the participant who asks, as far as the node knows.

Source: ASGI 3.0, "HTTP & WebSocket ASGI Message Format" 2.5; RFC 9110 section 10.1.1 (100-continue).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NoReturn
from urllib.parse import unquote

from aiohttp import web

from weft.clients.asgi.answer import Answer, Message

_VERSIONS: Final = {"version": "3.0", "spec_version": "2.5"}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange:
    """One request and its answer.

    Args:
        request: as aiohttp took it.
        state: what the application made at its start for all requests.

    Attributes:
        scope: of the application.
        answer: what it answered so far.
    """

    __slots__ = ("_is_read", "_over", "_request", "_wants_continue", "answer", "scope")

    def __init__(self, request: web.BaseRequest, state: dict[str, Any]) -> None:
        self.scope = {"type": "http", "method": request.method, **scope_of(request, state)}
        self.answer = Answer(request)
        self._request = request
        self._is_read = False
        self._over = asyncio.Event()
        self._wants_continue = request.headers.get("Expect", "").lower() == "100-continue"

    def disconnect(self) -> None:
        """The client has gone."""
        self._over.set()

    async def receive(self) -> Message:
        """What the application is to know next."""
        if not self._is_read:
            try:
                return await self._read()
            except (OSError, web.RequestPayloadError, web.PayloadAccessError):
                # The client has gone, or makes no sense.
                self._is_read = True
                self._over.set()
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """What the application says.

        Raises:
            OSError: the client has gone.
            RuntimeError: it does not fit what it said before.
        """
        match message["type"]:
            case "http.response.start":
                self.answer.start(message)
            case "http.response.body":
                await self.answer.body(message)
                if self.answer.is_complete:
                    self._over.set()
            case other:
                refuse(other)

    def response(self) -> web.StreamResponse:
        """What was answered, once the application has ended.

        Raises:
            RuntimeError: it has not answered, or not all.
        """
        if not self.answer.is_complete or self.answer.response is None:
            raise RuntimeError("the application ended before its answer was complete")
        return self.answer.response

    async def _read(self) -> Message:
        writer, content = self._request.writer, self._request.content
        if self._wants_continue and not self.answer.is_begun:
            await writer.write(_CONTINUE)
            writer.output_size = 0  # the head is still to come, as aiohttp counts
        self._wants_continue = False
        body = await content.readany()
        self._is_read = content.at_eof()
        return {"type": "http.request", "body": body, "more_body": not self._is_read}


def scope_of(request: web.BaseRequest, state: dict[str, Any]) -> dict[str, Any]:
    """What the scopes of requests and of WebSockets have in common."""
    target = request.raw_path
    if not target.startswith(("/", "*")):
        # The form with scheme and host, which proxies get.
        target = request.rel_url.raw_path_qs
    path, _, query = target.partition("?")
    version = request.version
    peer = request.get_extra_info("peer")
    return {
        "asgi": _VERSIONS,
        "http_version": f"{version.major}.{version.minor}",
        "scheme": request.scheme,
        "path": unquote(path),
        "raw_path": path.encode("utf-8", "surrogateescape"),
        "query_string": query.encode("utf-8", "surrogateescape"),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": _end(request.get_extra_info("peername")),
        "server": _end(request.get_extra_info("sockname")),
        "state": state.copy(),
        "extensions": {"weft": {"peer": peer}} if peer is not None else {},
    }


def refuse(kind: str) -> NoReturn:
    """An application says what can't be said there."""
    raise RuntimeError(f"{kind!r} is nothing that can be sent here")


def _end(address: Any) -> tuple[str, int] | None:
    return None if address is None else (address[0], address[1])
