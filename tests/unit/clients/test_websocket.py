"""WebSockets of served applications, of ASGI and of aiohttp: what comes and goes, and every fault of a client.

The cases are those of the Autobahn test suite, by its chapters: 1 framing, 2 pings, 3 reserved bits, 4 opcodes, 5
fragments, 6 UTF-8, 7 closing, 9 large messages, 12 compression.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.unit.api.streams.joined import Node
from tests.unit.api.streams.test_libraries import Connector
from tests.unit.clients.frames import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    Socket,
    ask,
    encode,
    request,
)
from weft.clients.http.client import http_client
from weft.clients.serving import serve_app

Serve = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_CODE, ABNORMAL, NO_TEXT, TOO_BIG, FAILED = (
    1000,
    1001,
    1002,
    1005,
    1006,
    1007,
    1009,
    1011,
)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An application of ASGI that says what it heard."""
    if scope["type"] != "websocket":
        raise ValueError
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def echo_of_aiohttp() -> web.Application:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=2**24)
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/chat", handle)
    return app


@pytest_asyncio.fixture(params=["asgi", "aiohttp"])
async def socket(request: pytest.FixtureRequest, left: Node, right: Node) -> AsyncIterator[Socket]:
    """A WebSocket to who says what it heard."""
    app = echo if request.param == "asgi" else echo_of_aiohttp()
    async with await serve_app(right.streams, app, 80):
        asked = await ask(left)
        yield asked
        asked.writer.close()


async def closing_code(socket: Socket) -> int:
    return await asyncio.wait_for(socket.code(), 5)


class TestFrames:
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65535, 65536, 1_000_000])
    async def test_message_of_any_size_comes_back(self, socket: Socket, opcode: int, size: int) -> None:
        await socket.send(Frame(opcode, b"x" * size))
        assert await socket.receive() == Frame(opcode, b"x" * size)

    async def test_message_in_single_bytes(self, socket: Socket) -> None:
        for byte in encode(Frame(TEXT, b"hello")):
            socket.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await socket.receive() == Frame(TEXT, b"hello")

    async def test_many_messages_at_once(self, socket: Socket) -> None:
        frames = [Frame(TEXT, b"%d" % number) for number in range(200)]
        await socket.send(*frames)
        assert [await socket.receive() for _ in frames] == frames

    async def test_ones_that_are_not_masked_are_taken_as_they_are(self, socket: Socket) -> None:
        """By aiohttp, against RFC 6455 section 5.1: the mask is for proxies on the way, of which a tunnel has none."""
        await socket.send(Frame(TEXT, b"x"), is_masked=False)
        assert await socket.receive() == Frame(TEXT, b"x")

    @pytest.mark.parametrize("rsv", range(1, 8))
    async def test_reserved_bits_are_a_fault(self, socket: Socket, rsv: int) -> None:
        await socket.send(Frame(TEXT, b"x", rsv=rsv))
        assert await closing_code(socket) == PROTOCOL_ERROR

    @pytest.mark.parametrize("opcode", [3, 7, 11, 15])
    async def test_reserved_opcodes_are_a_fault(self, socket: Socket, opcode: int) -> None:
        await socket.send(Frame(opcode, b"x"))
        assert await closing_code(socket) == PROTOCOL_ERROR


class TestPings:
    @pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(125))])
    async def test_ping_is_answered_with_its_payload(self, socket: Socket, payload: bytes) -> None:
        await socket.send(Frame(PING, payload))
        assert await socket.receive() == Frame(PONG, payload)

    async def test_pings_are_answered_in_order(self, socket: Socket) -> None:
        await socket.send(*(Frame(PING, b"%d" % number) for number in range(10)))
        assert [await socket.receive() for _ in range(10)] == [Frame(PONG, b"%d" % number) for number in range(10)]

    async def test_pong_that_nobody_asked_for_is_nothing(self, socket: Socket) -> None:
        await socket.send(Frame(PONG, b"x"), Frame(TEXT, b"hello"))
        assert await socket.receive() == Frame(TEXT, b"hello")

    async def test_ping_that_is_too_long_is_a_fault(self, socket: Socket) -> None:
        await socket.send(Frame(PING, bytes(126)))
        assert await closing_code(socket) == PROTOCOL_ERROR

    async def test_ping_in_fragments_is_a_fault(self, socket: Socket) -> None:
        await socket.send(Frame(PING, b"x", fin=False))
        assert await closing_code(socket) == PROTOCOL_ERROR


class TestFragments:
    async def test_become_one_message(self, socket: Socket) -> None:
        await socket.send(
            Frame(TEXT, b"he", fin=False), Frame(CONTINUATION, b"", fin=False), Frame(CONTINUATION, b"llo")
        )
        assert await socket.receive() == Frame(TEXT, b"hello")

    async def test_ping_between_them_is_answered_at_once(self, socket: Socket) -> None:
        await socket.send(Frame(TEXT, b"he", fin=False), Frame(PING, b"?"))
        assert await socket.receive() == Frame(PONG, b"?")
        await socket.send(Frame(CONTINUATION, b"llo"))
        assert await socket.receive() == Frame(TEXT, b"hello")

    async def test_continuation_of_nothing_is_a_fault(self, socket: Socket) -> None:
        await socket.send(Frame(CONTINUATION, b"x"))
        assert await closing_code(socket) == PROTOCOL_ERROR

    async def test_message_within_a_message_is_a_fault(self, socket: Socket) -> None:
        await socket.send(Frame(TEXT, b"x", fin=False), Frame(TEXT, b"y"))
        assert await closing_code(socket) == PROTOCOL_ERROR

    async def test_message_that_grows_too_large(self, socket: Socket) -> None:
        # What is on the way when the server closes is answered by a reset, which may overtake the reason.
        with suppress(OSError):
            await socket.send(Frame(BINARY, bytes(9_000_000), fin=False), Frame(CONTINUATION, bytes(9_000_000)))
            assert await closing_code(socket) == TOO_BIG
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await socket.receive()


class TestText:
    async def test_of_any_script_also_cut_within_a_letter(self, socket: Socket) -> None:
        text = "Hello-µ@ßöäüàá-UTF-8!! \U0001f4a9".encode()
        for cut in range(len(text)):
            await socket.send(Frame(TEXT, text[:cut], fin=False), Frame(CONTINUATION, text[cut:]))
            assert await socket.receive() == Frame(TEXT, text)

    @pytest.mark.parametrize("text", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"abc\xc3"])
    @pytest.mark.parametrize("cut", range(4))
    async def test_that_is_none_is_a_fault_wherever_it_is_cut(self, socket: Socket, text: bytes, cut: int) -> None:
        await socket.send(Frame(TEXT, text[:cut], fin=False), Frame(CONTINUATION, text[cut:]))
        assert await closing_code(socket) == NO_TEXT


class TestClosing:
    @pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 3000, 4999])
    async def test_is_answered(self, socket: Socket, code: int) -> None:
        await socket.send(Frame(CLOSE, code.to_bytes(2, "big") + b"why"))
        assert await closing_code(socket) in {code, NORMAL}
        assert await socket.reader.read() == b""

    async def test_without_a_code(self, socket: Socket) -> None:
        await socket.send(Frame(CLOSE, b""))
        assert await closing_code(socket) in {0, NORMAL}

    # Of 1006, and of 5000 and above, aiohttp thinks nothing.
    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1016, 1100, 2000, 2999])
    async def test_with_a_code_that_nobody_may_say_is_a_fault(self, socket: Socket, code: int) -> None:
        await socket.send(Frame(CLOSE, code.to_bytes(2, "big")))
        assert await closing_code(socket) == PROTOCOL_ERROR

    async def test_with_half_a_code_is_a_fault(self, socket: Socket) -> None:
        await socket.send(Frame(CLOSE, b"\x03"))
        assert await closing_code(socket) == PROTOCOL_ERROR

    async def test_with_a_reason_that_is_no_text_is_a_fault(self, socket: Socket) -> None:
        await socket.send(Frame(CLOSE, b"\x03\xe8\xff"))
        assert await closing_code(socket) == NO_TEXT

    async def test_what_comes_behind_is_not_heard(self, socket: Socket) -> None:
        await socket.send(Frame(CLOSE, b"\x03\xe8"), Frame(TEXT, b"and another thing"), Frame(PING, b""))
        frames = []
        while not socket.reader.at_eof():
            try:
                frames.append((await socket.receive()).opcode)
            except asyncio.IncompleteReadError:
                break
        assert frames == [CLOSE]


class TestHandshake:
    async def test_key_is_answered(self, left: Node, right: Node) -> None:
        async with await serve_app(right.streams, echo, 80):
            socket = await ask(left)
            socket.writer.close()
        assert socket.head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"Sec-Websocket-Accept: " + ACCEPT in socket.head.title().replace(ACCEPT.title(), ACCEPT)

    @pytest.mark.parametrize(
        "wrong", [{"version": b"12"}, {"key": b"short"}, {"key": b""}, {"version": b""}, {"key": b"a" * 100}]
    )
    async def test_that_is_none_is_refused(self, left: Node, right: Node, wrong: dict[str, bytes]) -> None:
        async with await serve_app(right.streams, echo, 80):
            socket = await ask(left, **wrong)
            socket.writer.close()
        assert socket.head.startswith(b"HTTP/1.1 400 ")

    async def test_protocols_and_headers(self, left: Node, right: Node) -> None:
        scopes = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            assert scope["type"] == "websocket"
            assert await receive() == {"type": "websocket.connect"}
            headers = [(b"x-own", b"yes"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
            await send({"type": "websocket.accept", "subprotocol": "two", "headers": headers})
            await send({"type": "websocket.close"})

        async with await serve_app(right.streams, app, 80):
            offered = b"Sec-WebSocket-Protocol: one, two\r\nSec-WebSocket-Protocol: three\r\n"
            socket = await ask(left, headers=offered)
            socket.writer.close()
        scope = scopes[-1]
        assert (scope["scheme"], scope["path"], scope["subprotocols"]) == ("ws", "/chat", ["one", "two", "three"])
        assert str(scope["extensions"]["weft"]["peer"]) == f"peer at {left.ipv6}"
        head = socket.head.lower()
        assert b"sec-websocket-protocol: two\r\n" in head
        assert b"x-own: yes\r\n" in head
        assert b"set-cookie: a=1\r\nset-cookie: b=2\r\n" in head


class TestApplications:
    @asynccontextmanager
    async def talking(self, left: Node, right: Node, serve: Serve) -> AsyncIterator[Socket]:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "websocket"
            await receive()
            await serve(scope, receive, send)

        async with await serve_app(right.streams, app, 80):
            socket = await ask(left)
            yield socket
            socket.writer.close()

    async def test_that_refuses(self, left: Node, right: Node) -> None:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.close", "code": 4000})
            assert (await receive())["type"] == "websocket.disconnect"

        async with self.talking(left, right, serve) as socket:
            assert socket.head.startswith(b"HTTP/1.1 403 ")

    async def test_that_refuses_in_words(self, left: Node, right: Node) -> None:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            assert "websocket.http.response" in scope["extensions"]
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
            await send({"type": "websocket.http.response.body", "body": b"are you?"})

        async with self.talking(left, right, serve) as socket:
            assert socket.head.startswith(b"HTTP/1.1 401 ")
            assert b"content-type: text/plain\r\n" in socket.head
            assert await socket.reader.readuntil(b"0\r\n\r\n") == b"4\r\nwho \r\n8\r\nare you?\r\n0\r\n\r\n"

    @pytest.mark.parametrize("fails", [False, True])
    async def test_that_ends_before_it_has_decided(self, left: Node, right: Node, fails: bool) -> None:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            if fails:
                raise ValueError

        async with self.talking(left, right, serve) as socket:
            assert socket.head.startswith(b"HTTP/1.1 500 ")

    async def test_that_ends_closes(self, left: Node, right: Node) -> None:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})

        async with self.talking(left, right, serve) as socket:
            assert await closing_code(socket) == NORMAL

    async def test_that_fails_closes_and_says_so(self, left: Node, right: Node) -> None:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            raise ValueError

        async with self.talking(left, right, serve) as socket:
            assert await closing_code(socket) == FAILED

    async def test_that_closes_with_code_and_reason(self, left: Node, right: Node) -> None:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 4001, "reason": "tired"})

        async with self.talking(left, right, serve) as socket:
            assert await socket.receive() == Frame(CLOSE, (4001).to_bytes(2, "big") + b"tired")

    @pytest.mark.parametrize(
        "message",
        [
            {"type": "websocket.send", "text": "too early"},
            {"type": "http.response.start", "status": 200},
            {"type": "nonsense"},
        ],
    )
    async def test_that_says_what_does_not_fit(self, left: Node, right: Node, message: Any) -> None:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await send(message)

        async with self.talking(left, right, serve) as socket:
            assert socket.head.startswith(b"HTTP/1.1 500 ")

    @pytest.mark.parametrize("code", [NORMAL, 4321])
    async def test_is_told_code_and_reason_of_the_client(self, left: Node, right: Node, code: int) -> None:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            first = await receive()
            assert first == await receive()
            told.set_result(first)

        async with self.talking(left, right, serve) as socket:
            await socket.send(Frame(CLOSE, code.to_bytes(2, "big") + "grüß".encode()))
            assert await asyncio.wait_for(told, 5) == {"type": "websocket.disconnect", "code": code, "reason": "grüß"}

    @pytest.mark.parametrize(("how", "code"), [("close", NO_CODE), ("abort", ABNORMAL)])
    async def test_is_told_that_the_client_has_gone(self, left: Node, right: Node, how: str, code: int) -> None:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            told.set_result(await receive())

        async with self.talking(left, right, serve) as socket:
            if how == "abort":
                socket.writer.transport.abort()
            else:
                await socket.send(Frame(CLOSE, b""))
            message = await asyncio.wait_for(told, 5)
        assert (message["type"], message["code"]) == ("websocket.disconnect", code)

    async def test_is_told_while_it_decides(self, left: Node, right: Node) -> None:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                await receive()
                told.set_result(await receive())

        async with await serve_app(right.streams, app, 80):
            _, writer = await left.streams.open_connection("fc00::2", 80)
            writer.write(request())
            await asyncio.sleep(0.05)
            writer.transport.abort()
            assert (await asyncio.wait_for(told, 5))["type"] == "websocket.disconnect"

    async def test_end_of_the_server_closes_with_going_away(self, left: Node, right: Node) -> None:
        async with await serve_app(right.streams, echo, 80) as server:
            socket = await ask(left)
            server.close()
            assert await closing_code(socket) == GOING_AWAY
            await socket.send(Frame(CLOSE, GOING_AWAY.to_bytes(2, "big")))
            await asyncio.wait_for(server.wait_closed(), 5)
            socket.writer.close()


class TestClients:
    """Real clients: that of aiohttp, with compression, and that of httpx2."""

    async def chat(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            async for text in websocket.iter_text():
                await websocket.send_text(f"you said {text}")
        except WebSocketDisconnect:
            pass

    @pytest.mark.parametrize("compress", [0, 9, 15])
    async def test_aiohttp(self, left: Node, right: Node, compress: int) -> None:
        app = Starlette(routes=[WebSocketRoute("/chat", self.chat)])
        async with (
            await serve_app(right.streams, app, 80),
            aiohttp.ClientSession(connector=Connector(left)) as session,
            session.ws_connect("http://right:80/chat", compress=compress, max_msg_size=0) as socket,
        ):
            assert bool(socket.compress) == bool(compress)
            for text in ("hello", "", "x" * 2_000_000, "hello"):
                await socket.send_str(text)
                assert await socket.receive_str() == f"you said {text}"
            await socket.ping(b"?")
            await socket.close(code=4000)
            assert socket.close_code in {4000, NORMAL}

    async def test_httpx2(self, left: Node, right: Node) -> None:
        app = Starlette(routes=[WebSocketRoute("/chat", self.chat)])
        async with (
            await serve_app(right.streams, app, 80),
            http_client(left.streams) as client,
            client.websocket("ws://right/chat") as socket,
        ):
            await socket.send_text("hello")
            assert await socket.receive_text() == "you said hello"
            await socket.ping(b"?")

    async def test_a_hundred_at_once(self, left: Node, right: Node) -> None:
        app = Starlette(routes=[WebSocketRoute("/chat", self.chat)])
        async with (
            await serve_app(right.streams, app, 80),
            aiohttp.ClientSession(connector=Connector(left, limit=0)) as session,
        ):

            async def talk(number: int) -> str:
                async with session.ws_connect("http://right:80/chat") as socket:
                    await socket.send_str(str(number))
                    return str(await socket.receive_str())

            assert await asyncio.gather(*map(talk, range(100))) == [f"you said {number}" for number in range(100)]
