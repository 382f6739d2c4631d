"""What an ASGI application answers, as a response of aiohttp's server.

| message                | what is sent                                                                           |
|------------------------|----------------------------------------------------------------------------------------|
| `http.response.start`  | nothing yet: with the first part of the body it is known whether there is more of it   |
| `http.response.body`   | the head if it was not sent, and the part; without `more_body` that is the end         |

A body that is whole at once gets its length, others are chunked (HTTP/1.0: up to the end of the connection) unless the
application says the length. One that turns out longer or shorter than said breaks the connection, so that nobody takes
it for whole. How the connection goes on is not the application's to say: of `connection` only `close` is heard, and
`transfer-encoding` not at all.

Source: ASGI 3.0, "HTTP & WebSocket ASGI Message Format" 2.5; RFC 9110 sections 6.4.1 (no body), 8.6.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any, Final

from aiohttp import web
from multidict import CIMultiDict

Message = MutableMapping[str, Any]

_OF_THE_CONNECTION: Final = frozenset({"connection", "transfer-encoding", "keep-alive", "upgrade"})
_WITHOUT_BODY: Final = frozenset({204, 304})


class Answer:
    """One response.

    Args:
        request: that it answers.

    Attributes:
        response: what is being sent; None before the head is.
        is_complete: whether all of it was sent.
    """

    __slots__ = ("_has_body", "_left", "_request", "_start", "is_complete", "response")

    def __init__(self, request: web.BaseRequest) -> None:
        self.response: web.StreamResponse | None = None
        self.is_complete = False
        self._request = request
        self._start: Message | None = None
        self._left: int | None = None
        self._has_body = True

    @property
    def is_begun(self) -> bool:
        """Whether the application has said anything."""
        return self._start is not None

    def start(self, message: Message) -> None:
        """The application says status and headers.

        Raises:
            RuntimeError: it did that before.
        """
        if self._start is not None:
            raise RuntimeError("http.response.start was sent already")
        self._start = message

    async def body(self, message: Message) -> None:
        """The application gives a part of the body.

        Raises:
            RuntimeError: not after the head, after the end, or it is not as long as was said.
            OSError: the client has gone.
        """
        if self._start is None or self.is_complete:
            raise RuntimeError("http.response.body is for after http.response.start and before the end")
        data, has_more = message.get("body", b""), message.get("more_body", False)
        if self.response is None:
            await self._begin(self._start, len(data), has_more=has_more)
        assert self.response is not None
        if self._left is not None and self._has_body:
            self._left -= len(data)
            if self._left < 0 or (self._left and not has_more):
                self.response.force_close()
                raise RuntimeError("the body is not as long as content-length says")
        if data and self._has_body:
            await self.response.write(data)
        if not has_more:
            await self.response.write_eof()
            self.is_complete = True

    async def _begin(self, start: Message, size: int, *, has_more: bool) -> None:
        headers, is_last = headers_of(start.get("headers", ()))
        status = start["status"]
        self._has_body = self._request.method != "HEAD" and status not in _WITHOUT_BODY
        response = web.StreamResponse(status=status, headers=headers)
        if "content-length" in headers:
            self._left = int(headers["content-length"])
        elif not has_more and self._has_body:
            response.content_length = size
        if is_last:
            response.force_close()
        self.response = response
        await response.prepare(self._request)


def headers_of(pairs: Iterable[tuple[bytes, bytes]]) -> tuple[CIMultiDict[str], bool]:
    """The headers that an application may say, and whether it wants the connection to end."""
    headers: CIMultiDict[str] = CIMultiDict()
    is_last = False
    for name, value in pairs:
        key, text = name.decode("ascii"), _text(value)
        if key.lower() not in _OF_THE_CONNECTION:
            headers.add(key, text)
        elif key.lower() == "connection" and "close" in text.lower():
            is_last = True
    return headers, is_last


def _text(value: bytes) -> str:
    # aiohttp sends text as UTF-8.
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
