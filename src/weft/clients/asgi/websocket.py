"""A WebSocket as an ASGI application sees it.

    asked for ──accept──> open ──close, of either side, or the client has gone──> over
        └──close, or an answer of HTTP──> refused

| what happens                                       | what the application receives               |
|----------------------------------------------------|---------------------------------------------|
| it is asked for                                    | `websocket.connect`                         |
| a message came, as text or binary                  | `websocket.receive`                         |
| it was closed, by whomever, or the client has gone | `websocket.disconnect`, with the code       |

What is refused is answered by 403, or by what the application says with `websocket.http.response`. Pings are answered
by aiohttp, which also takes care of fragments, compression and text that is none.

An application that ends without closing closes with 1000; one that fails, with 1011; one that is still there when the
server ends, with 1001.

Source: ASGI 3.0, "HTTP & WebSocket ASGI Message Format" 2.5; RFC 6455 section 7.4.1 (codes).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from weft.clients.asgi.answer import Answer, Message, headers_of
from weft.clients.asgi.http import refuse, scope_of

MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""The longest that is taken."""

_NO_CODE: Final = 1005
_SCHEMES: Final = {"http": "ws", "https": "wss"}
_HTTP: Final = "websocket.http.response"
_FORBIDDEN: Final[Message] = {"status": 403}


class Conversation:
    """One WebSocket.

    Args:
        request: that asks for it.
        state: what the application made at its start for all requests.

    Attributes:
        scope: of the application.
    """

    __slots__ = ("_answer", "_decided", "_disconnect", "_is_told", "_request", "_socket", "scope")

    def __init__(self, request: web.BaseRequest, state: dict[str, Any]) -> None:
        common = scope_of(request, state)
        self.scope = {
            **common,
            "type": "websocket",
            "scheme": _SCHEMES.get(request.scheme, "ws"),
            "subprotocols": offered(request),
            "extensions": {**common["extensions"], _HTTP: {}},
        }
        self._request = request
        self._answer = Answer(request)
        self._socket: web.WebSocketResponse | None = None
        self._is_told = False
        self._decided = asyncio.Event()
        self._disconnect: Message | None = None

    def disconnect(self) -> None:
        """The client has gone."""
        self._decided.set()

    async def receive(self) -> Message:
        """What the application is to know next."""
        if not self._is_told:
            self._is_told = True
            return {"type": "websocket.connect"}
        await self._decided.wait()
        if self._socket is None:
            return {"type": "websocket.disconnect", "code": WSCloseCode.ABNORMAL_CLOSURE}
        if self._disconnect is not None:
            return self._disconnect
        message = await self._socket.receive()
        match message.type:
            case WSMsgType.TEXT:
                return {"type": "websocket.receive", "text": message.data}
            case WSMsgType.BINARY:
                return {"type": "websocket.receive", "bytes": message.data}
        # What the client says counts, even if it does not wait for the answer.
        is_said = message.type is WSMsgType.CLOSE
        code = message.data if is_said else self._socket.close_code
        self._disconnect = {
            "type": "websocket.disconnect",
            "code": int(code or _NO_CODE),
            "reason": (message.extra or "") if is_said else "",
        }
        return self._disconnect

    async def send(self, message: Message) -> None:
        """What the application says.

        Raises:
            OSError: the client has gone.
            RuntimeError: it does not fit what it said before.
        """
        match message["type"]:
            case "websocket.accept" if self._is_open_to_decide():
                await self._accept(message)
            case "websocket.close" if self._is_open_to_decide():
                self._answer.start(_FORBIDDEN)
                await self._answer.body({})
                self._decided.set()
            case "websocket.http.response.start" if self._is_open_to_decide():
                self._answer.start(message)
            case "websocket.http.response.body" if self._socket is None:
                await self._answer.body(message)
                self._decided.set()
            case "websocket.send" if self._socket is not None:
                await self._say(self._socket, message)
            case "websocket.close" if self._socket is not None:
                reason = (message.get("reason") or "").encode()
                await self._socket.close(code=message.get("code", WSCloseCode.OK), message=reason)
            case other:
                refuse(other)

    async def end(self, code: int = WSCloseCode.OK) -> None:
        """Close it if it is open."""
        if self._socket is not None:
            await self._socket.close(code=code)

    def response(self) -> web.StreamResponse:
        """What was answered, once the application has ended.

        Raises:
            RuntimeError: it has neither accepted nor refused.
        """
        if self._socket is not None:
            return self._socket
        if not self._answer.is_complete or self._answer.response is None:
            raise RuntimeError("the application neither accepted the WebSocket nor refused it")
        return self._answer.response

    def _is_open_to_decide(self) -> bool:
        return self._socket is None and not self._answer.is_begun

    async def _accept(self, message: Message) -> None:
        protocol = message.get("subprotocol")
        socket = web.WebSocketResponse(protocols=[protocol] if protocol else (), max_msg_size=MESSAGE_BYTES)
        socket.headers.extend(headers_of(message.get("headers", ()))[0])
        await socket.prepare(self._request)
        self._socket = socket
        self._decided.set()

    async def _say(self, socket: web.WebSocketResponse, message: Message) -> None:
        text = message.get("text")
        if text is not None:
            await socket.send_str(text)
        else:
            await socket.send_bytes(message["bytes"])


def is_wanted(request: web.BaseRequest) -> bool:
    """Whether a request asks for a WebSocket."""
    return request.method == "GET" and request.headers.get("Upgrade", "").strip().lower() == "websocket"


def can_be(request: web.BaseRequest) -> bool:
    """Whether it asks for it as one has to ask."""
    return bool(web.WebSocketResponse(protocols=offered(request)).can_prepare(request))


def offered(request: web.BaseRequest) -> list[str]:
    """The protocols that a client offers, the best first."""
    lines = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [each.strip() for each in ",".join(lines).split(",") if each.strip()]
