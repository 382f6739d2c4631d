"""A proxy between sockets of this machine and a server in the network: who gets through, and what others are told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random

import pytest

from tests.unit.api.streams.joined import Node
from tests.unit.api.streams.recorders import until
from tests.unit.clients.proxied import HERE, Client, client_of, proxying, request
from weft.clients.proxy import proxy as proxy_module
from weft.clients.proxy.request import Refusal, refusal_of
from weft.clients.proxy.users import Users
from weft.clients.relay import reset
from weft.errors import UsageError

DATA = Random("proxy").randbytes(3_000_000)
ANNA = Users({b"anna": b"s3cret"})


@asynccontextmanager
async def echoing(right: Node, host: str | None = None) -> AsyncIterator[None]:
    """A server on port 80 that says what it hears, and ends when it has heard all."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await right.streams.start_server(echo, host, 80)
    try:
        yield
    finally:
        server.close()


class TestSocks:
    @pytest.mark.parametrize("host", ["right", "fc00::2", "10.7.0.2"])
    async def test_connects_and_says_from_where(self, left: Node, right: Node, host: str) -> None:
        async with echoing(right), proxying(left) as proxy, client_of(proxy) as client:
            code, address, port = await client.ask(host, 80)
            assert (code, address) == (0, left.ipv4 if "." in host else left.ipv6)
            assert port
            assert await client.say(b"hello", 5) == b"hello"

    async def test_much_both_ways_and_the_end_of_each(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left) as proxy, client_of(proxy) as client:
            await client.ask("right", 80)
            client.writer.write(DATA)
            client.writer.write_eof()
            assert await client.rest() == DATA

    async def test_what_stands_behind_the_request_goes_on(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left) as proxy, client_of(proxy) as client:
            assert (await client.ask("right", 80, behind=DATA[:100_000]))[0] == 0
            assert await client.say(b"", 100_000) == DATA[:100_000]

    async def test_end_that_stands_behind_it_too(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left) as proxy, client_of(proxy) as client:
            client.writer.write(b"\5\1\0" + request("right", 80) + b"hello")
            client.writer.write_eof()
            assert (await client.rest()).endswith(b"hello")

    async def test_reset_of_the_server_reaches_the_client(self, left: Node, right: Node) -> None:
        async def abort(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            reset(writer.transport)

        server = await right.streams.start_server(abort, None, 80)
        async with proxying(left) as proxy, client_of(proxy) as client:
            await client.ask("right", 80)
            with pytest.raises(ConnectionResetError):
                await client.say(b"hello", 1)
        server.close()

    @pytest.mark.parametrize(
        ("host", "port", "code"),
        [
            ("right", 81, 5),
            ("10.7.0.2", 81, 5),
            ("nobody", 80, 4),
            ("10.9.0.1", 80, 3),  # inside, and no way leads there
            ("192.0.2.1", 80, 3),
            ("127.0.0.1", 80, 3),
            ("::", 80, 3),
            ("::ffff:127.0.0.1", 80, 3),
            ("fe80::1", 80, 3),
        ],
    )
    async def test_failure_has_its_code(self, left: Node, right: Node, host: str, port: int, code: int) -> None:
        async with proxying(left) as proxy, client_of(proxy) as client:
            assert await client.ask(host, port) == (code, "0.0.0.0", 0)
            assert await client.rest() == b""
        assert proxy.refused.total() == 1

    async def test_silence_is_an_expired_time(self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(proxy_module, "CONNECT_S", 0.05)
        left.is_cut = True
        async with proxying(left) as proxy, client_of(proxy) as client:
            assert (await client.ask("right", 80))[0] == 6

    async def test_nothing_is_sent_to_what_is_not_inside(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left, inside=["10.7.0.2"]) as proxy:
            for host in ("fc00::2", "fc00::3", "127.0.0.1"):
                async with client_of(proxy) as client:
                    assert (await client.ask(host, 80))[0] == 3
            assert not left.sent
            # Of the addresses of a name, those that are count.
            async with client_of(proxy) as client:
                assert (await client.ask("right", 80))[:2] == (0, left.ipv4)

    async def test_next_address_of_a_name_is_tried(self, left: Node, right: Node) -> None:
        async with echoing(right, right.ipv4), proxying(left) as proxy, client_of(proxy) as client:
            assert (await client.ask("right", 80))[:2] == (0, left.ipv4)

    async def test_commands_that_are_not_done_here(self, left: Node, right: Node) -> None:
        async with proxying(left) as proxy, client_of(proxy) as client:
            assert (await client.ask("right", 80, command=2))[0] == 7
            assert await client.rest() == b""

    @pytest.mark.parametrize("said", [b"\4\1\0\x50\x0a\7\0\2\0", b"\5\0", b"\5\1\0\4\1\0\1"])
    async def test_what_is_not_socks5_ends(self, left: Node, right: Node, said: bytes) -> None:
        async with proxying(left) as proxy, client_of(proxy) as client:
            client.writer.write(said)
            assert not (await client.rest()).startswith(b"\5\0\0")

    async def test_only_who_knows_the_password(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left, users=ANNA) as proxy:
            for login in (b"\5\1\0", b"\5\1\2\1\4anna\6secret"):
                async with client_of(proxy) as client:
                    client.writer.write(login + request("right", 80))
                    assert await client.rest() in {b"\5\xff", b"\5\2\1\1"}
            async with client_of(proxy) as client:
                assert await client.say(b"\5\1\2\1\4anna\6s3cret", 4) == b"\5\2\1\0"
                assert (await client.say(request("right", 80), 22))[:2] == b"\5\0"


class TestHttp:
    async def test_connect(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left) as proxy, client_of(proxy) as client:
            client.writer.write(b"CONNECT right:80 HTTP/1.1\r\nHost: right:80\r\n\r\nhel")
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
            assert await client.say(b"lo", 5) == b"hello"

    async def test_request_is_passed_on(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left) as proxy, client_of(proxy) as client:
            client.writer.write(b"PUT http://right/x HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
            client.writer.write(b"hello")
            client.writer.write_eof()
            assert await client.rest() == (
                b"PUT /x HTTP/1.1\r\nHost: right\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
            )

    @pytest.mark.parametrize(
        ("said", "status"),
        [
            ("CONNECT right:81 HTTP/1.1", "502 Bad Gateway"),
            ("CONNECT nobody:80 HTTP/1.1", "502 Bad Gateway"),
            ("GET http://127.0.0.1/ HTTP/1.1", "502 Bad Gateway"),
            ("GET / HTTP/1.1", "400 Bad Request"),
            ("CONNECT right HTTP/1.1", "400 Bad Request"),
            ("GET https://right/ HTTP/1.1", "400 Bad Request"),
        ],
    )
    async def test_failure_is_a_response(self, left: Node, right: Node, said: str, status: str) -> None:
        async with proxying(left) as proxy, client_of(proxy) as client:
            client.writer.write(f"{said}\r\n\r\n".encode())
            answer = (await client.rest()).decode()
            assert answer.startswith(f"HTTP/1.1 {status}\r\n")
            assert "\r\n\r\nweft proxy: " in answer

    async def test_response_is_heard_by_who_is_still_sending(self, left: Node, right: Node) -> None:
        async with proxying(left) as proxy, client_of(proxy) as client:
            client.writer.write(b"POST / HTTP/1.1\r\n\r\n" + DATA)
            assert (await client.rest()).startswith(b"HTTP/1.1 400 ")

    async def test_only_who_knows_the_password(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left, users=ANNA) as proxy:
            for credentials, status in ((b"", b"407"), (b"Proxy-Authorization: Basic YW5uYTpzM2NyZXQ=\r\n", b"200")):
                async with client_of(proxy) as client:
                    client.writer.write(b"CONNECT right:80 HTTP/1.1\r\n" + credentials + b"\r\n")
                    assert (await client.reader.readuntil(b"\r\n")).split()[1] == status


class TestBounds:
    async def test_who_says_nothing_is_ended(self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(proxy_module, "HANDSHAKE_S", 0.1)
        async with proxying(left) as proxy:
            for said in (b"", b"\5", b"GET http://right/ HTTP/1.1\r\n"):
                async with client_of(proxy) as client:
                    client.writer.write(said)
                    assert await client.rest() == b""

    async def test_who_does_not_go_when_refused_is_ended(
        self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(proxy_module, "HANDSHAKE_S", 0.1)
        async with proxying(left) as proxy, client_of(proxy) as client:
            await client.ask("right", 81)
            await until(lambda: not proxy._clients)

    async def test_one_too_many_is_ended_and_the_others_stay(
        self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(proxy_module, "CONNECTIONS", 2)
        async with echoing(right), proxying(left) as proxy, client_of(proxy) as first, client_of(proxy) as second:
            await first.ask("right", 80)
            await second.ask("right", 80)
            async with client_of(proxy) as third:
                assert await third.rest() == b""
            assert await first.say(b"hello", 5) == b"hello"
            first.close()
            await until(lambda: len(proxy._clients) == 1)
            async with client_of(proxy) as third:
                assert (await third.ask("right", 80))[0] == 0

    async def test_client_that_goes_while_it_waits_leaves_nothing(self, left: Node, right: Node) -> None:
        async with proxying(left) as proxy:
            left.is_cut = True
            client = await Client.connect(proxy)
            client.writer.write(b"\5\1\0" + request("right", 80))
            assert await client.say(b"", 2) == b"\5\0"
            client.writer.transport.abort()
        assert not proxy._clients

    async def test_end_of_the_proxy_resets_everybody(self, left: Node, right: Node) -> None:
        async with echoing(right), AsyncExitStack() as stack:
            async with proxying(left) as proxy:
                idle, connected = [await stack.enter_async_context(client_of(proxy)) for _ in range(2)]
                await connected.ask("right", 80)
                port = proxy.port
            assert await idle.rest() == b""
            with pytest.raises(ConnectionResetError):
                await connected.rest()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(HERE, port)

    async def test_whatever_is_said_nothing_breaks(
        self, left: Node, right: Node, complaints: list[dict[str, object]]
    ) -> None:
        chance = Random("garbage")
        begins = [b"", b"\5\1\0", b"\5\1\0\5\1\0\3\5right", b"CONNECT right:80 HTTP/1.1\r\n", b"GET http://right/"]
        async with echoing(right), proxying(left) as proxy:
            for number in range(60):
                async with client_of(proxy) as client:
                    client.writer.write(begins[number % len(begins)] + chance.randbytes(chance.randrange(1, 600)))
                    client.writer.write_eof()
                    await client.rest()
            await until(lambda: not proxy._clients)
        assert not complaints

    async def test_port_that_is_taken(self, left: Node, right: Node) -> None:
        async with proxying(left) as proxy:
            with pytest.raises(OSError, match="address already in use"):
                await proxy_module.serve_proxy(left.streams, list, host=HERE, port=proxy.port)


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (ConnectionRefusedError(111, ""), Refusal.REFUSED),
        (socket.gaierror(socket.EAI_NONAME, ""), Refusal.HOST_UNREACHABLE),
        (OSError(113, ""), Refusal.HOST_UNREACHABLE),
        (OSError(101, ""), Refusal.NETWORK_UNREACHABLE),
        (TimeoutError(), Refusal.TIMED_OUT),
        (TimeoutError(110, ""), Refusal.TIMED_OUT),
        (PermissionError(13, ""), Refusal.NOT_ALLOWED),
        (OSError(24, ""), Refusal.FAILED),
        (OSError("Multiple exceptions"), Refusal.FAILED),
        (RuntimeError("the node is closed"), Refusal.FAILED),
        (UsageError(""), Refusal.FAILED),
    ],
)
def test_errors_are_refusals(error: Exception, refusal: Refusal) -> None:
    assert refusal_of(error) is refusal
