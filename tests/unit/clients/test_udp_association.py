"""UDP through a proxy: what goes there and comes back, what is dropped, and when it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.unit.api.streams.joined import Node
from tests.unit.api.streams.recorders import until
from tests.unit.clients.proxied import HERE, Client, client_of, proxying, target
from weft.clients.proxy import proxy as proxy_module
from weft.clients.proxy import udp_association
from weft.clients.proxy.proxy import Proxy
from weft.clients.proxy.socks import decode_datagram

UDP = 3


class Datagrams(asyncio.DatagramProtocol):
    """A UDP socket that keeps what comes."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.received.put_nowait(data)

    def send(self, host: str, port: int, payload: bytes, fragment: int = 0) -> None:
        self.transport.sendto(bytes((0, 0, fragment)) + target(host, port) + payload)

    async def receive(self) -> tuple[str, int, bytes]:
        """Where the next one came from, and its payload."""
        fragment, host, port, payload = decode_datagram(await asyncio.wait_for(self.received.get(), 5))
        assert fragment == 0
        return host, port, payload


class Echo(asyncio.DatagramProtocol):
    """Answers each datagram, and counts from how many ports they came."""

    def __init__(self) -> None:
        self.ports: set[int] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.ports.add(addr[1])
        self.transport.sendto(data + b"!", addr)


@asynccontextmanager
async def echoing(right: Node, *ports: int) -> AsyncIterator[Echo]:
    """Servers at both addresses of the right host."""
    echo = Echo()
    made = []
    for port in ports or (53,):
        for host in (right.ipv4, right.ipv6):
            transport, _ = await right.streams.create_datagram_endpoint(_shared(echo), local_addr=(host, port))
            made.append(transport)
    try:
        yield echo
    finally:
        for transport in made:
            transport.close()


def _shared(echo: Echo) -> type[asyncio.DatagramProtocol]:
    class Server(Echo):
        def __init__(self) -> None:
            self.ports = echo.ports

    return Server


@asynccontextmanager
async def socket_to(port: int) -> AsyncIterator[Datagrams]:
    transport, datagrams = await asyncio.get_running_loop().create_datagram_endpoint(
        Datagrams, remote_addr=(HERE, port)
    )
    try:
        yield datagrams
    finally:
        transport.close()


@asynccontextmanager
async def associated(proxy: Proxy) -> AsyncIterator[tuple[Client, Datagrams, int]]:
    """A client's connection, its datagrams, and the port that they go to."""
    async with client_of(proxy) as client:
        code, host, port = await client.ask("0.0.0.0", 0, UDP)
        assert (code, host) == (0, HERE)
        async with socket_to(port) as datagrams:
            yield client, datagrams, port


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
        sock.bind((HERE, port))
        return True
    return False


class TestThrough:
    @pytest.mark.parametrize("host", ["right", "fc00::2", "10.7.0.2"])
    async def test_datagrams_go_there_and_back(self, left: Node, right: Node, host: str) -> None:
        async with echoing(right), proxying(left) as proxy, associated(proxy) as (_, datagrams, _):
            for size in (0, 1, 1200, 20_000):
                datagrams.send(host, 53, bytes(size))
                address = right.ipv4 if "." in host else right.ipv6
                assert await datagrams.receive() == (address, 53, bytes(size) + b"!")
        assert not proxy.dropped

    async def test_what_comes_while_a_name_is_looked_up_waits_in_order(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left) as proxy, associated(proxy) as (_, datagrams, _):
            for number in range(5):
                datagrams.send("right", 53, b"%d" % number)
            assert [(await datagrams.receive())[2] for _ in range(5)] == [b"%d!" % number for number in range(5)]

    async def test_each_destination_answers_for_itself(self, left: Node, right: Node) -> None:
        async with echoing(right, 53, 54), proxying(left) as proxy, associated(proxy) as (_, datagrams, _):
            for port in (53, 54, 53):
                datagrams.send("right", port, b"%d" % port)
                assert await datagrams.receive() == (right.ipv6, port, b"%d!" % port)

    async def test_nobody_else_is_heard(self, left: Node, right: Node) -> None:
        async with echoing(right) as echo, proxying(left) as proxy, associated(proxy) as (_, datagrams, _):
            datagrams.send("right", 53, b"a")
            await datagrams.receive()
            (port,) = echo.ports
            stranger, _ = await right.streams.create_datagram_endpoint(Datagrams, local_addr=(right.ipv6, 5353))
            stranger.sendto(b"forged", (left.ipv6, port))
            datagrams.send("right", 53, b"b")
            assert (await datagrams.receive())[2] == b"b!"
            stranger.close()


class TestDropped:
    async def test_other_sockets_of_the_machine(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left) as proxy, associated(proxy) as (_, datagrams, port):
            datagrams.send("right", 53, b"a")
            await datagrams.receive()
            async with socket_to(port) as stranger:
                stranger.send("right", 53, b"b")
                await until(lambda: proxy.dropped == {"stranger": 1})
                datagrams.send("right", 53, b"c")
                assert (await datagrams.receive())[2] == b"c!"
                assert stranger.received.empty()

    async def test_other_ports_than_the_one_that_was_told(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left) as proxy, client_of(proxy) as client:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as told:
                told.bind((HERE, 0))
                _, _, port = await client.ask("0.0.0.0", told.getsockname()[1], UDP)
                async with socket_to(port) as stranger:
                    stranger.send("right", 53, b"a")
                    await until(lambda: proxy.dropped == {"stranger": 1})
                told.connect((HERE, port))
                told.send(bytes(3) + target("right", 53) + b"b")
                told.setblocking(False)
                loop = asyncio.get_running_loop()
                assert (await asyncio.wait_for(loop.sock_recv(told, 100), 5)).endswith(b"b!")

    async def test_fragments_and_what_is_none_of_it(self, left: Node, right: Node) -> None:
        async with echoing(right) as echo, proxying(left) as proxy, associated(proxy) as (_, datagrams, _):
            datagrams.send("right", 53, b"a", fragment=1)
            datagrams.send("right", 53, b"a", fragment=0x81)
            datagrams.transport.sendto(b"\0\0\0\2")
            datagrams.transport.sendto(b"hello")
            await until(lambda: proxy.dropped == {"fragment": 2, "malformed": 2})
            assert not echo.ports

    @pytest.mark.parametrize("host", ["192.0.2.1", "127.0.0.1", "nobody", "10.9.0.1"])
    async def test_what_is_not_in_the_network(self, left: Node, right: Node, host: str) -> None:
        async with echoing(right), proxying(left) as proxy, associated(proxy) as (_, datagrams, _):
            datagrams.send(host, 53, b"a")
            await until(lambda: proxy.dropped["unreachable"] == 1)
            datagrams.send(host, 53, b"a")
            await until(lambda: proxy.dropped["unreachable"] == 2)
            datagrams.send("right", 53, b"b")
            assert (await datagrams.receive())[2] == b"b!"
            assert proxy.dropped == {"unreachable": 2}

    async def test_port_that_is_closed(self, left: Node, right: Node) -> None:
        async with proxying(left) as proxy, associated(proxy) as (_, datagrams, _):
            datagrams.send("right", 53, b"a")
            await until(lambda: proxy.dropped == {"unreachable": 1})

    async def test_more_than_may_wait_for_a_name(
        self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer = asyncio.Event()
        look_up = left.streams.getaddrinfo

        async def slowly(*words: object, **arguments: int) -> object:
            await answer.wait()
            return await look_up(*words, **arguments)

        monkeypatch.setattr(left.streams, "getaddrinfo", slowly)
        monkeypatch.setattr(udp_association, "WAITING", 2)
        async with echoing(right), proxying(left) as proxy, associated(proxy) as (_, datagrams, _):
            for number in range(3):
                datagrams.send("right", 53, b"%d" % number)
            await until(lambda: proxy.dropped == {"waiting": 1})
            answer.set()
            assert [(await datagrams.receive())[2] for _ in range(2)] == [b"0!", b"1!"]


class TestBounds:
    async def test_it_ends_with_its_connection(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left) as proxy, associated(proxy) as (client, datagrams, port):
            datagrams.send("right", 53, b"a")
            await datagrams.receive()
            client.close()
            await until(lambda: not proxy.associations)
            await until(lambda: is_free(port) and not left.streams._ground.open)

    async def test_it_lasts_whatever_its_connection_says(self, left: Node, right: Node) -> None:
        async with echoing(right), proxying(left) as proxy, associated(proxy) as (client, datagrams, _):
            client.writer.write(bytes(100_000))
            await client.writer.drain()
            datagrams.send("right", 53, b"a")
            assert (await datagrams.receive())[2] == b"a!"
            client.writer.write_eof()
            assert await client.rest() == b""

    async def test_one_too_many_is_refused(self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(proxy_module, "ASSOCIATIONS", 1)
        async with proxying(left) as proxy:
            async with associated(proxy), client_of(proxy) as client:
                assert await client.ask("0.0.0.0", 0, UDP) == (1, "0.0.0.0", 0)
                assert await client.rest() == b""
            await until(lambda: not proxy.associations)
            async with associated(proxy):
                assert proxy.associations == 1

    async def test_of_too_many_destinations_the_idlest_goes(
        self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(udp_association, "DESTINATIONS", 2)
        async with echoing(right, 1, 2, 3) as echo, proxying(left) as proxy, associated(proxy) as (_, datagrams, _):
            for port in (1, 2, 1, 3, 1):
                datagrams.send("right", port, b"a")
                await datagrams.receive()
            assert len(echo.ports) == 3
            assert len(left.streams._ground.open) == 2
            datagrams.send("right", 2, b"a")
            await datagrams.receive()
            assert len(echo.ports) == 4
