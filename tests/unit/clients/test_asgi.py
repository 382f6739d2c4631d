"""ASGI applications: what they are told, what becomes of what they say, and how they begin and end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from tests.unit.api.streams.joined import Node
from weft.clients.http.client import http_client
from weft.clients.serving import AppServer, serve_app
from weft.errors import UsageError

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Serve = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


def app_of(serve: Serve) -> Serve:
    """An application that knows no lifespan."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] != "lifespan"
        await serve(scope, receive, send)

    return app


def saying(*messages: dict[str, Any], status: int = 200, headers: Any = ()) -> Serve:
    """An application that answers the same to everybody."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for message in messages:
            await send({"type": "http.response.body", **message})

    return app_of(app)


async def ask(node: Node, request: bytes) -> bytes:
    """What comes until the server closes."""
    reader, writer = await node.streams.open_connection("fc00::2", 80)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def body_of(receive: Receive) -> bytes:
    body, has_more = b"", True
    while has_more:
        message = await receive()
        assert message["type"] == "http.request"
        body, has_more = body + message["body"], message["more_body"]
    return body


GET = b"GET / HTTP/1.1\r\nHost: right\r\nConnection: close\r\n\r\n"


class TestScope:
    async def test_of_a_request(self, left: Node, right: Node) -> None:
        scopes = []

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            scopes.append(scope)
            await saying({})(scope, receive, send)

        async with await serve_app(right.streams, app_of(app), 80):
            await ask(
                left,
                b"PUT /a%20b/%C3%A9/c%2Fd?x=1%202&y HTTP/1.1\r\nHost: right\r\nContent-Length: 0\r\n"
                b"X-Odd: \xff\r\nX-TWICE: 1\r\nx-twice: 2\r\nConnection: close\r\n\r\n",
            )
        (scope,) = scopes
        assert scope["asgi"]["version"] == "3.0"
        assert (scope["type"], scope["http_version"], scope["method"], scope["scheme"]) == (
            "http",
            "1.1",
            "PUT",
            "http",
        )
        assert (scope["path"], scope["root_path"]) == ("/a b/é/c/d", "")
        assert scope["raw_path"] == b"/a%20b/%C3%A9/c%2Fd"
        assert scope["query_string"] == b"x=1%202&y"
        assert (b"x-odd", b"\xff") in scope["headers"]
        assert [value for name, value in scope["headers"] if name == b"x-twice"] == [b"1", b"2"]
        assert scope["client"][0] == left.ipv6
        assert scope["server"] == (right.ipv6, 80)
        assert str(scope["extensions"]["weft"]["peer"]) == f"peer at {left.ipv6}"

    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            (b"/", "/", b""),
            (b"/?", "/", b""),
            (b"/a?b?c", "/a", b"b?c"),
            (b"http://other/a?b", "/a", b"b"),
            (b"/%zz", "/%zz", b""),
            (b"//a//b", "//a//b", b""),
        ],
    )
    async def test_of_odd_targets(self, left: Node, right: Node, target: bytes, path: str, query: bytes) -> None:
        scopes = []

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            scopes.append(scope)
            await saying({})(scope, receive, send)

        async with await serve_app(right.streams, app_of(app), 80):
            await ask(left, b"GET " + target + b" HTTP/1.1\r\nHost: right\r\nConnection: close\r\n\r\n")
        assert [(scope["path"], scope["query_string"]) for scope in scopes] == [(path, query)]

    async def test_of_tls(self, left: Node, right: Node, files: Any) -> None:
        scopes = []

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            scopes.append(scope)
            await saying({})(scope, receive, send)

        async with (
            await serve_app(right.streams, app_of(app), 443, ssl=files.server()),
            http_client(left.streams, verify=False) as client,
        ):
            await client.get("https://right/")
        assert scopes[0]["scheme"] == "https"
        assert str(scopes[0]["extensions"]["weft"]["peer"]) == f"peer at {left.ipv6}"


class TestAnswers:
    async def test_whole_body_gets_its_length(self, left: Node, right: Node) -> None:
        async with await serve_app(right.streams, saying({"body": b"hello"}, headers=[(b"X-A", b"b")]), 80):
            head, _, body = (await ask(left, GET)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nX-A: b\r\n" in head
        assert b"\r\nContent-Length: 5" in head
        assert body == b"hello"

    async def test_parts_are_chunks(self, left: Node, right: Node) -> None:
        parts = [{"body": b"one", "more_body": True}, {"more_body": True}, {"body": b"two", "more_body": True}, {}]
        async with await serve_app(right.streams, saying(*parts), 80):
            head, _, body = (await ask(left, GET)).partition(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in head
        assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"

    async def test_client_of_http_10_gets_all_up_to_the_end(self, left: Node, right: Node) -> None:
        parts = [{"body": b"one", "more_body": True}, {"body": b"two"}]
        async with await serve_app(right.streams, saying(*parts), 80):
            answer = await ask(left, b"GET / HTTP/1.0\r\n\r\n")
        assert answer.endswith(b"\r\n\r\nonetwo")

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    async def test_answers_that_have_no_body(self, left: Node, right: Node, method: str, status: int) -> None:
        headers = [(b"content-length", b"5")] if status != 204 else []
        async with await serve_app(right.streams, saying({"body": b"hello"}, status=status, headers=headers), 80):
            answer = await ask(left, GET.replace(b"GET", method.encode()))
        assert answer.startswith(b"HTTP/1.1 %d" % status)
        assert answer.endswith(b"\r\n\r\n")

    async def test_headers_twice_and_odd_ones(self, left: Node, right: Node) -> None:
        headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-utf8", "é".encode()), (b"x-odd", b"\xe9")]
        async with await serve_app(right.streams, saying({}, headers=headers), 80):
            answer = await ask(left, GET)
        assert b"set-cookie: a=1\r\nset-cookie: b=2\r\n" in answer
        assert "x-utf8: é\r\n".encode() in answer
        assert "x-odd: é\r\n".encode() in answer

    async def test_header_that_would_be_two_is_not_sent(self, left: Node, right: Node) -> None:
        async with await serve_app(right.streams, saying({}, headers=[(b"x", b"1\r\nset-cookie: a=b")]), 80):
            answer = await ask(left, GET)
        assert b"set-cookie" not in answer
        assert answer.startswith(b"HTTP/1.1 500")

    async def test_connection_goes_on_unless_the_application_wants_its_end(self, left: Node, right: Node) -> None:
        keeping = [(b"connection", b"keep-alive, x"), (b"transfer-encoding", b"chunked")]
        async with (
            await serve_app(right.streams, saying({"body": b"a"}, headers=keeping), 80),
            await serve_app(right.streams, saying({}, headers=[(b"Connection", b"close")]), 81),
            http_client(left.streams) as client,
        ):
            for _ in range(3):
                answer = await client.get("http://right/")
                assert "transfer-encoding" not in answer.headers
            assert len(left.host.tcp.connections) == 1
            assert (await client.get("http://right:81/")).headers["connection"] == "close"

    async def test_pipelined_requests_are_answered_in_order(self, left: Node, right: Node) -> None:
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await asyncio.sleep(0.01 if scope["path"] == "/0" else 0)
            await saying({"body": scope["raw_path"]})(scope, receive, send)

        requests = [b"GET /%d HTTP/1.1\r\nHost: right\r\n\r\n" % number for number in range(4)]
        async with await serve_app(right.streams, app_of(app), 80):
            answer = await ask(left, b"".join(requests) + GET)
        places = [answer.index(b"\r\n\r\n/%d" % number) for number in range(4)]
        assert places == sorted(places)


class TestFaultsOfApplications:
    async def status_of(self, left: Node, right: Node, app: Serve) -> bytes:
        async with await serve_app(right.streams, app, 80):
            return await ask(left, GET)

    async def test_that_fails(self, left: Node, right: Node, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            raise ValueError("a secret")

        answer = await self.status_of(left, right, app_of(app))
        assert answer.startswith(b"HTTP/1.1 500")
        assert b"secret" not in answer
        assert "a secret" in caplog.text

    async def test_that_says_nothing(self, left: Node, right: Node) -> None:
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            pass

        assert (await self.status_of(left, right, app_of(app))).startswith(b"HTTP/1.1 500")

    async def test_that_is_cancelled_by_itself(self, left: Node, right: Node) -> None:
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            raise asyncio.CancelledError

        assert (await self.status_of(left, right, app_of(app))).startswith(b"HTTP/1.1 500")

    @pytest.mark.parametrize(
        "messages",
        [
            [{"type": "http.response.body", "body": b"x"}],
            [{"type": "http.response.start", "status": 200}] * 2,
            [{"type": "websocket.accept"}],
            [{"type": "http.response.trailers"}],
        ],
    )
    async def test_that_says_what_does_not_fit(self, left: Node, right: Node, messages: Any) -> None:
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            for message in messages:
                await send(message)

        assert (await self.status_of(left, right, app_of(app))).startswith(b"HTTP/1.1 500")

    async def test_that_goes_on_after_the_end(self, left: Node, right: Node) -> None:
        raised = []

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await saying({"body": b"ok"})(scope, receive, send)
            try:
                await send({"type": "http.response.body", "body": b"more"})
            except RuntimeError as error:
                raised.append(error)

        assert (await self.status_of(left, right, app_of(app))).endswith(b"ok")
        assert len(raised) == 1

    @pytest.mark.parametrize("length", [b"4", b"6"])
    async def test_whose_body_is_not_as_long_as_it_says(self, left: Node, right: Node, length: bytes) -> None:
        app = saying({"body": b"hello"}, headers=[(b"content-length", length)])
        async with await serve_app(right.streams, app, 80), http_client(left.streams) as client:
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get("http://right/")

    async def test_that_fails_in_the_middle_of_its_answer(self, left: Node, right: Node) -> None:
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await saying({"body": b"hello", "more_body": True})(scope, receive, send)
            raise ValueError

        async with await serve_app(right.streams, app_of(app), 80), http_client(left.streams) as client:
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get("http://right/")


class TestBodies:
    @pytest.mark.parametrize("size", [0, 1, 300_000])
    @pytest.mark.parametrize("is_chunked", [False, True])
    async def test_request_comes_as_it_was_sent(self, left: Node, right: Node, size: int, is_chunked: bool) -> None:
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await saying({"body": await body_of(receive)})(scope, receive, send)

        data = Random(size).randbytes(size)

        async def parts() -> AsyncIterator[bytes]:
            for start in range(0, size, 50_000):
                yield data[start : start + 50_000]

        async with await serve_app(right.streams, app_of(app), 80), http_client(left.streams) as client:
            answer = await client.post("http://right/", content=parts() if is_chunked else data)
        assert answer.content == data

    async def test_compressed_request_is_not_unpacked(self, left: Node, right: Node) -> None:
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await saying({"body": await body_of(receive)})(scope, receive, send)

        async with await serve_app(right.streams, app_of(app), 80), http_client(left.streams) as client:
            answer = await client.post("http://right/", content=b"no gzip", headers={"Content-Encoding": "gzip"})
        assert answer.content == b"no gzip"

    async def test_client_that_waits_to_be_told_to_go_on(self, left: Node, right: Node) -> None:
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await saying({"body": await body_of(receive)})(scope, receive, send)

        async with await serve_app(right.streams, app_of(app), 80):
            reader, writer = await left.streams.open_connection("fc00::2", 80)
            writer.write(b"POST / HTTP/1.1\r\nHost: right\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hi")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(2) == b"hi"
            writer.close()

    async def test_request_that_nobody_reads(self, left: Node, right: Node) -> None:
        app = saying({"body": b"no"}, status=403)
        async with await serve_app(right.streams, app, 80), http_client(left.streams) as client:
            for _ in range(3):
                answer = await client.post("http://right/", content=bytes(100_000))
                assert (answer.status_code, answer.text) == (403, "no")


class TestDisconnection:
    async def test_is_told_while_the_answer_is_awaited(self, left: Node, right: Node) -> None:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            assert (await receive())["type"] == "http.request"
            told.set_result(await receive())

        async with await serve_app(right.streams, app_of(app), 80):
            _, writer = await left.streams.open_connection("fc00::2", 80)
            writer.write(GET)
            await asyncio.sleep(0.05)
            writer.transport.abort()
            assert await asyncio.wait_for(told, 5) == {"type": "http.disconnect"}

    async def test_is_told_while_the_request_comes(self, left: Node, right: Node) -> None:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            while (message := await receive())["type"] == "http.request":
                pass
            told.set_result(message)

        async with await serve_app(right.streams, app_of(app), 80):
            _, writer = await left.streams.open_connection("fc00::2", 80)
            writer.write(b"POST / HTTP/1.1\r\nHost: right\r\nContent-Length: 9\r\n\r\nhalf")
            await asyncio.sleep(0.05)
            writer.transport.abort()
            assert await asyncio.wait_for(told, 5) == {"type": "http.disconnect"}

    async def test_is_told_after_the_answer(self, left: Node, right: Node) -> None:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await receive()
            await saying({"body": b"ok"})(scope, receive, send)
            told.set_result(await receive())

        async with await serve_app(right.streams, app_of(app), 80):
            await ask(left, GET)
        assert await told == {"type": "http.disconnect"}

    async def test_client_that_goes_stops_who_sends_to_it(self, left: Node, right: Node) -> None:
        ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})
            try:
                while True:
                    await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            except OSError as error:
                ended.set_result(error)
                raise

        async with await serve_app(right.streams, app_of(app), 80), http_client(left.streams) as client:
            async with client.stream("GET", "http://right/") as answer:
                await anext(answer.aiter_raw())
            assert isinstance(await asyncio.wait_for(ended, 5), OSError)

    @pytest.mark.parametrize("error", [None, OSError("gone"), ValueError("a bug")])
    async def test_what_the_application_does_then_is_its_own_affair(
        self,
        left: Node,
        right: Node,
        error: Exception | None,
        caplog: pytest.LogCaptureFixture,
        complaints: list[dict[str, object]],
    ) -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            begun.set()
            while (await receive())["type"] == "http.request":
                pass
            ended.set()
            if error is not None:
                raise error

        async with await serve_app(right.streams, app_of(app), 80):
            _, writer = await left.streams.open_connection("fc00::2", 80)
            writer.write(GET)
            await begun.wait()
            writer.transport.abort()
            await asyncio.wait_for(ended.wait(), 5)
        assert ("a bug" in caplog.text) == isinstance(error, ValueError)
        assert "gone" not in caplog.text.replace("its client had gone", "")
        assert complaints == []

    async def test_garbage_in_the_request_is_no_part_of_it(self, left: Node, right: Node) -> None:
        told: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            messages = [await receive()]
            while messages[-1]["type"] == "http.request":
                messages.append(await receive())
            told.set_result(messages)

        async with await serve_app(right.streams, app_of(app), 80):
            _, writer = await left.streams.open_connection("fc00::2", 80)
            writer.write(b"POST / HTTP/1.1\r\nHost: right\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
            await asyncio.sleep(0.05)
            writer.write(b"no number\r\n")
            await asyncio.sleep(0.05)
            writer.transport.abort()
            assert await asyncio.wait_for(told, 5) == [
                {"type": "http.request", "body": b"hi", "more_body": True},
                {"type": "http.disconnect"},
            ]

    async def test_no_http_at_all(self, left: Node, right: Node) -> None:
        async with await serve_app(right.streams, saying({}), 80):
            assert (await ask(left, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")).startswith(
                b"HTTP/1.0 400"
            )


class TestLifespan:
    async def test_begins_before_and_ends_after_all_requests(self, left: Node, right: Node) -> None:
        events = []

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
            events.append("begin")
            yield {"kept": "for all"}
            events.append("end")

        async def hello(request: Request) -> PlainTextResponse:
            events.append("request")
            return PlainTextResponse(request.state.kept)

        app = Starlette(routes=[Route("/", hello)], lifespan=lifespan)
        async with await serve_app(right.streams, app, 80), http_client(left.streams) as client:
            assert (await client.get("http://right/")).text == "for all"
            assert events == ["begin", "request"]
        assert events == ["begin", "request", "end"]

    async def test_that_fails_at_the_beginning(self, right: Node) -> None:
        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            raise ValueError("no database")
            yield

        with pytest.raises(RuntimeError, match="no database"):
            await serve_app(right.streams, Starlette(lifespan=lifespan), 80)
        # And the port is free.
        async with await serve_app(right.streams, Starlette(), 80):
            pass

    async def test_that_fails_at_the_end_is_logged(self, right: Node, caplog: pytest.LogCaptureFixture) -> None:
        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            yield
            raise ValueError("no database")

        async with await serve_app(right.streams, Starlette(lifespan=lifespan), 80):
            pass
        assert "did not end well" in caplog.text
        assert "no database" in caplog.text

    async def test_that_is_not_known(self, left: Node, right: Node) -> None:
        async with await serve_app(right.streams, saying({"body": b"ok"}), 80):
            assert (await ask(left, GET)).endswith(b"ok")

    async def test_that_fails_between(self, left: Node, right: Node, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            if scope["type"] != "lifespan":
                await saying({"body": b"ok"})(scope, receive, send)
                return
            await receive()
            await send({"type": "lifespan.startup.complete"})
            raise ValueError("a bug")

        async with await serve_app(right.streams, app, 80):
            assert (await ask(left, GET)).endswith(b"ok")
        assert "a bug" in caplog.text


class TestKinds:
    @pytest.mark.parametrize("app", [None, "app", lambda environ, start_response: []])
    async def test_what_is_no_application_is_refused(self, right: Node, app: Any) -> None:
        with pytest.raises(UsageError, match="no application of ASGI 3"):
            await serve_app(right.streams, app, 80)

    async def test_real_application(self, left: Node, right: Node) -> None:
        async def stream(request: Request) -> StreamingResponse:
            async def parts() -> AsyncIterator[str]:
                for number in range(100):
                    yield f"{number}\n"

            return StreamingResponse(parts())

        async with await serve_app(right.streams, Starlette(routes=[Route("/", stream)]), 80) as server:
            assert isinstance(server, AppServer)
            async with http_client(left.streams) as client:
                assert (await client.get("http://right/")).text.split() == [str(number) for number in range(100)]
                assert (await client.get("http://right/other")).status_code == 404
                assert (await client.post("http://right/")).status_code == 405
