"""The HTTP client: names, keep-alive, TLS, HTTP/2, WebSockets, and what goes wrong."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from random import Random
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx2
import pytest
from aiohttp import web

from tests.unit.api.streams.joined import Node
from tests.unit.clients.certificates import Files, other_authority
from weft.api.kernel import KernelSockets
from weft.clients.http.client import http_client, url_in_network
from weft.clients.http.stream import KEPT_BYTES
from weft.clients.serving import serve_app
from weft.clients.tls.connect import client_context, server_context
from weft.identity import generate

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def serve(node: Node, speak: Speak, port: int = 80, context: ssl.SSLContext | None = None) -> Any:
    """A server that speaks as it likes, and then closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await speak(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    return await node.streams.start_server(handle, None, port, ssl=context)


async def hear(reader: asyncio.StreamReader) -> bytes:
    """The head of a request."""
    return await reader.readuntil(b"\r\n\r\n")


def application() -> web.Application:
    async def hello(request: web.Request) -> web.Response:
        return web.json_response({"peer": str(request.get_extra_info("peer")), "host": request.host})

    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for part in request.content.iter_any():
            await response.write(part)
        return response

    async def move(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.query["to"])

    async def chat(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["chat"])
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"you said {message.data}")
        return socket

    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_post("/echo", echo)
    app.router.add_get("/move", move)
    app.router.add_get("/chat", chat)
    return app


class TestRequests:
    @pytest.mark.parametrize("host", ["right", "[fc00::2]", "10.7.0.2"])
    async def test_by_name_and_by_address(self, left: Node, right: Node, host: str) -> None:
        async with await serve_app(right.streams, application(), 80), http_client(left.streams) as client:
            answer = (await client.get(f"http://{host}/")).json()
        assert answer["host"] == host

    async def test_server_knows_the_peer(self, left: Node, right: Node) -> None:
        async with await serve_app(right.streams, application(), 80), http_client(left.streams) as client:
            assert (await client.get("http://right/")).json()["peer"] == f"peer at {left.ipv6}"

    @pytest.mark.parametrize("size", [0, 1, 100_000, 2_000_000])
    async def test_bodies_both_ways(self, left: Node, right: Node, size: int) -> None:
        data = Random(size).randbytes(size)
        async with await serve_app(right.streams, application(), 80), http_client(left.streams) as client:
            assert (await client.post("http://right/echo", content=data)).content == data

    async def test_redirect(self, left: Node, right: Node) -> None:
        async with await serve_app(right.streams, application(), 80), http_client(left.streams) as client:
            answer = await client.get("http://right/move?to=http://10.7.0.2/", follow_redirects=True)
        assert str(answer.url) == "http://10.7.0.2/"
        assert answer.json()["host"] == "10.7.0.2"

    async def test_one_connection_serves_many_requests(self, left: Node, right: Node) -> None:
        connections = 0

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while True:
                await hear(reader)
                writer.write(OK)

        await serve(right, speak)
        async with http_client(left.streams) as client:
            for _ in range(20):
                assert (await client.get("http://right/")).text == "ok"
        assert connections == 1

    async def test_requests_at_once_have_connections_of_their_own(self, left: Node, right: Node) -> None:
        async with await serve_app(right.streams, application(), 80), http_client(left.streams) as client:
            answers = await asyncio.gather(*(client.get("http://right/") for _ in range(30)))
        assert [answer.status_code for answer in answers] == [200] * 30

    async def test_connection_that_the_server_closed_in_the_meantime_is_not_used(self, left: Node, right: Node) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hear(reader)
            writer.write(OK)  # and says nothing of closing

        await serve(right, speak)
        async with http_client(left.streams) as client:
            for _ in range(5):
                assert (await client.get("http://right/")).text == "ok"
                await asyncio.sleep(0.02)

    async def test_connection_that_the_server_closes_is_closed_here_too(self, left: Node, right: Node) -> None:
        async with await serve_app(right.streams, application(), 80) as server, http_client(left.streams) as client:
            await client.get("http://right/")
            server.close()
            await asyncio.sleep(0.05)
            # Of this side nothing is left, of the other what it keeps for a while by the rules of TCP.
            assert len(left.host.tcp.connections) == 0
            assert len(right.host.tcp.connections) <= 1

    async def test_server_that_closes_after_each_answer_and_says_so(self, left: Node, right: Node) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hear(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end")

        await serve(right, speak)
        async with http_client(left.streams) as client:
            assert [(await client.get("http://right/")).text for _ in range(3)] == ["to the end"] * 3

    async def test_answer_in_single_bytes(self, left: Node, right: Node) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hear(reader)
            for byte in OK:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)

        await serve(right, speak)
        async with http_client(left.streams) as client:
            assert (await client.get("http://right/")).text == "ok"

    async def test_reader_that_is_slow_stops_the_server(self, left: Node, right: Node) -> None:
        size = 20 * KEPT_BYTES
        sent = 0

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await hear(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            while sent < size:
                writer.write(bytes(KEPT_BYTES))
                await writer.drain()
                sent += KEPT_BYTES

        await serve(right, speak)
        async with http_client(left.streams) as client, client.stream("GET", "http://right/") as answer:
            await asyncio.sleep(0.1)
            stalled = sent
            got = sum([len(part) async for part in answer.aiter_raw()])
        assert stalled < size
        assert got == size

    async def test_arguments_of_httpx2_are_its_own(self, left: Node, right: Node) -> None:
        seen = []

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await hear(reader))
            writer.write(OK)

        await serve(right, speak)
        async with http_client(left.streams, base_url="http://right", headers={"X-Own": "yes"}) as client:
            await client.get("/path", params={"a": "b"})
        assert seen[0].startswith(b"GET /path?a=b HTTP/1.1\r\n")
        assert b"X-Own: yes\r\n" in seen[0]


class TestProxies:
    async def test_those_of_the_environment_are_not_asked(
        self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        async with await serve_app(right.streams, application(), 80), http_client(left.streams) as client:
            assert (await client.get("http://right/")).status_code == 200

    @pytest.mark.parametrize("name", ["proxy", "transport", "trust_env"])
    async def test_other_ways_can_not_be_chosen(self, left: Node, name: str) -> None:
        with pytest.raises(TypeError, match=name):
            http_client(left.streams, **{name: None})


class TestTls:
    async def test_https_over_one_connection(self, left: Node, right: Node, files: Files) -> None:
        async with (
            await serve_app(right.streams, application(), 443, ssl=files.server()),
            http_client(left.streams, verify=client_context(roots=files.roots)) as client,
        ):
            for _ in range(3):
                assert (await client.get("https://right/")).json()["peer"] == f"peer at {left.ipv6}"
            assert len(left.host.tcp.connections) == 1
            data = bytes(range(256)) * 8000
            assert (await client.post("https://right/echo", content=data)).content == data

    async def test_next_client_with_that_context_resumes(self, left: Node, right: Node, files: Files) -> None:
        context = client_context(roots=files.roots)
        reused = []
        async with await serve_app(right.streams, application(), 443, ssl=files.server()):
            for _ in range(2):
                async with http_client(left.streams, verify=context) as client:
                    answer = await client.get("https://right/")
                    tls = answer.extensions["network_stream"].get_extra_info("ssl_object")
                    reused.append(tls.session_reused)
        assert reused == [False, True]

    @pytest.mark.parametrize("fault", ["unknown", "expired", "name", "self-signed"])
    async def test_certificate_that_is_not_to_be_trusted(
        self, left: Node, right: Node, files: Files, fault: str
    ) -> None:
        certificate, words = {
            "unknown": (lambda: files.certificate(issuer=other_authority()), "unable to get local issuer certificate"),
            "expired": (lambda: files.certificate(valid_days=(-9, -8)), "certificate has expired"),
            "name": (lambda: files.certificate("www.example.org"), "Hostname mismatch"),
            "self-signed": (files.self_signed, "self-signed certificate"),
        }[fault]
        context = client_context(roots=files.roots)
        async with (
            await serve_app(right.streams, application(), 443, ssl=server_context(certificate())),
            http_client(left.streams, verify=context) as client,
            http_client(left.streams, verify=False) as careless,
        ):
            with pytest.raises(httpx2.ConnectError, match=rf"right: its certificate is not trusted: {words}"):
                await client.get("https://right/")
            assert (await careless.get("https://right/")).status_code == 200

    async def test_server_without_tls(self, left: Node, right: Node) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()

        await serve(right, speak, 443)
        async with http_client(left.streams, verify=False) as client:
            with pytest.raises(httpx2.ConnectError, match="what answers there does not speak TLS"):
                await client.get("https://right/")

    async def test_what_comes_before_tls_is_no_part_of_it(self, left: Node, right: Node) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(OK)
            await reader.read(100)

        await serve(right, speak, 443)
        async with http_client(left.streams, verify=False) as client:
            with pytest.raises(httpx2.ConnectError):
                await client.get("https://right/")

    async def test_client_with_a_certificate(self, left: Node, right: Node, files: Files) -> None:
        asking = server_context(files.certificate(), clients=files.roots)
        own = client_context(roots=files.roots, certificate=files.certificate("me@example.org"))
        async with await serve_app(right.streams, application(), 443, ssl=asking):
            async with http_client(left.streams, verify=own) as client:
                assert (await client.get("https://right/")).status_code == 200
            async with http_client(left.streams, verify=client_context(roots=files.roots)) as client:
                with pytest.raises(httpx2.TransportError, match="the other side refused: certificate required"):
                    await client.get("https://right/")


class TestHttp2:
    async def test_requests_share_a_connection(self, left: Node, right: Node, files: Files) -> None:
        connections = []

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            connections.append(state)
            state.initiate_connection()
            while True:
                writer.write(state.data_to_send())
                data = await reader.read(65536)
                if not data:
                    return
                for event in state.receive_data(data):
                    if isinstance(event, h2.events.StreamEnded):
                        state.send_headers(event.stream_id, [(":status", "200")])
                        state.send_data(event.stream_id, b"two", end_stream=True)

        await serve(right, speak, 443, server_context(files.certificate(), alpn=["h2"]))
        context = client_context(roots=files.roots)
        async with http_client(left.streams, verify=context, http2=True) as client:
            answers = await asyncio.gather(*(client.get("https://right/") for _ in range(10)))
        assert [(answer.http_version, answer.text) for answer in answers] == [("HTTP/2", "two")] * 10
        assert len(connections) == 1

    async def test_server_that_has_none_is_spoken_to_in_11(self, left: Node, right: Node, files: Files) -> None:
        context = client_context(roots=files.roots)
        async with (
            await serve_app(right.streams, application(), 443, ssl=files.server()),
            http_client(left.streams, verify=context, http2=True) as client,
        ):
            assert (await client.get("https://right/")).http_version == "HTTP/1.1"


class TestWebSockets:
    @pytest.mark.parametrize("with_tls", [False, True])
    async def test_conversation(self, left: Node, right: Node, files: Files, with_tls: bool) -> None:
        context, scheme, port = (files.server(), "wss", 443) if with_tls else (None, "ws", 80)
        async with (
            await serve_app(right.streams, application(), port, ssl=context),
            http_client(left.streams, verify=client_context(roots=files.roots)) as client,
            client.websocket(f"{scheme}://right/chat", subprotocols=["chat"]) as socket,
        ):
            assert socket.subprotocol == "chat"
            for text in ("hello", "x" * 60_000):
                await socket.send_text(text)
                assert await socket.receive_text() == f"you said {text}"


class TestFailures:
    async def test_refused(self, left: Node) -> None:
        async with http_client(left.streams) as client:
            with pytest.raises(httpx2.ConnectError, match=r"^right: connection refused$"):
                await client.get("http://right/")

    async def test_unknown_name(self, left: Node) -> None:
        async with http_client(left.streams) as client:
            with pytest.raises(httpx2.ConnectError, match=r"^nobody: name or service not known$"):
                await client.get("http://nobody/")

    async def test_nobody_answers(self, left: Node, right: Node) -> None:
        left.is_cut = True
        async with http_client(left.streams, timeout=0.05) as client:
            with pytest.raises(httpx2.ConnectTimeout, match=r"^right: no answer$"):
                await client.get("http://right/")

    async def test_server_falls_silent(self, left: Node, right: Node) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hear(reader)
            writer.write(OK[:-1])
            await reader.read()

        await serve(right, speak)
        async with http_client(left.streams, timeout=0.05) as client:
            with pytest.raises(httpx2.ReadTimeout):
                await client.get("http://right/")

    async def test_server_takes_nothing(self, left: Node, right: Node) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(60)

        server = await serve(right, speak)
        async with http_client(left.streams, timeout=0.1) as client:
            with pytest.raises(httpx2.TimeoutException):
                await client.post("http://right/", content=bytes(30_000_000))
        server.close()

    @pytest.mark.parametrize("answer", [b"", OK[:-1], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"])
    async def test_server_ends_in_the_middle(self, left: Node, right: Node, answer: bytes) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hear(reader)
            writer.write(answer)

        await serve(right, speak)
        async with http_client(left.streams) as client:
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get("http://right/")

    async def test_connection_is_reset_in_the_middle(self, left: Node, right: Node) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hear(reader)
            writer.write(OK[:-1])
            await asyncio.sleep(0.02)
            writer.write(bytes(30_000_000))
            writer.transport.abort()

        await serve(right, speak)
        async with http_client(left.streams) as client:
            with pytest.raises(httpx2.TransportError):
                await client.get("http://right/", headers={"X": "y"})

    async def test_what_is_no_http(self, left: Node, right: Node) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hear(reader)
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

        await serve(right, speak)
        async with http_client(left.streams) as client:
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get("http://right/")

    async def test_head_without_end_is_bounded(self, left: Node, right: Node) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                writer.write(b"x" * 10_000)
                await writer.drain()

        await serve(right, speak)
        async with http_client(left.streams) as client:
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get("http://right/")

    async def test_early_answer_to_a_long_request_is_heard(self, left: Node, right: Node) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hear(reader)
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            await reader.read()

        await serve(right, speak)
        async with http_client(left.streams) as client:
            assert (await client.post("http://right/", content=bytes(3_000_000))).status_code == 413

    async def test_node_that_ends_breaks_what_is_under_way(self, left: Node, right: Node) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hear(reader)
            left.close()

        await serve(right, speak)
        async with http_client(left.streams) as client:
            with pytest.raises(httpx2.ReadError, match="closed"):
                await client.get("http://right/")


class TestKernelSockets:
    """As with a TUN: the sockets of the loop."""

    @pytest.mark.parametrize("with_tls", [False, True])
    async def test_requests_and_websockets(self, files: Files, with_tls: bool) -> None:
        async def resolve(host: str, family: int) -> list[bytes]:
            return [ip_address("127.0.0.1").packed]

        network = KernelSockets(resolve, lambda: ["127.0.0.1"])
        context, scheme = (server_context(files.certificate("right")), "https") if with_tls else (None, "http")
        async with (
            await serve_app(network, application(), 0, ssl=context) as server,
            http_client(network, verify=client_context(roots=files.roots)) as client,
        ):
            for _ in range(2):
                answer = await client.get(f"{scheme}://right:{server.port}/")
                assert answer.json() == {"peer": "None", "host": f"right:{server.port}"}
            data = bytes(range(256)) * 8000
            assert (await client.post(f"{scheme}://right:{server.port}/echo", content=data)).content == data
            async with client.websocket(f"ws{scheme[4:]}://right:{server.port}/chat") as socket:
                await socket.send_text("hello")
                assert await socket.receive_text() == "you said hello"
        assert server.sockets == ()


class TestPeerIds:
    ID = generate(Random(1).randbytes).peer_id

    @pytest.mark.parametrize("around", ["http://{}", "https://{}:8443/a?b#c", "http://me:secret@{}/", "ws://{}/x"])
    def test_id_is_put_into_the_spelling_of_hosts(self, around: str) -> None:
        assert url_in_network(around.format(self.ID)) == around.format(f"{self.ID.to_dns_label()}.weft")

    @pytest.mark.parametrize(
        "url",
        [
            "http://loom/12D3KooWabc",
            f"http://{ID}.example.org/",
            f"http://{str(ID)[:-1]}/",
            f"http://x{ID}/",
            "/relative",
            "",
        ],
    )
    def test_everything_else_stays_as_it_is(self, url: str) -> None:
        assert url_in_network(url) == url

    async def test_client_takes_an_id_for_a_host(self, left: Node, right: Node) -> None:
        left.names[f"{self.ID.to_dns_label()}.weft"] = [right.ipv6]
        async with await serve_app(right.streams, application(), 80):
            async with http_client(left.streams) as client:
                assert (await client.get(f"http://{self.ID}/")).status_code == 200
            async with http_client(left.streams, base_url=f"http://{self.ID}") as client:
                assert (await client.get("/")).status_code == 200
