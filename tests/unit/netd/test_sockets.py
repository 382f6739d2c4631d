"""What clients do with sockets: TCP, UDP, names, pings, information."""

from __future__ import annotations

import asyncio
import hashlib
from ipaddress import ip_address

import pytest

from tests.unit.netd.served import Served, on_stack
from weft import netd
from weft.netd.messages import Ready
from weft.netd.status import Status
from weft.stack.endpoint import Endpoint

BIG = bytes(range(256)) * 16_384


async def refused(awaitable) -> Status:
    with pytest.raises(netd.NetdError) as caught:
        await awaitable
    assert isinstance(caught.value.status, Status)
    return caught.value.status


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


class TestStream:
    @pytest.mark.parametrize("version", [4, 6])
    async def test_data_comes_back_from_an_echo(self, served: Served, client: netd.Client, version) -> None:
        host = served.right.ipv4 if version == 4 else served.right.ipv6
        await served.right.streams.start_server(echo, None, 80)
        socket = await client.socket()
        local = await socket.connect(host, 80)
        assert local.address == ip_address(served.left.ipv4 if version == 4 else served.left.ipv6).packed
        assert await socket.send(b"hello") == 5
        assert await socket.receive() == b"hello"
        await socket.shutdown()
        assert await refused(socket.send(b"more")) is Status.CLOSED
        assert await refused(socket.send(bytes(1_000_000))) is Status.CLOSED
        assert await socket.receive() == b""
        assert (await socket.status()).flags & Ready.END

    async def test_data_of_any_size_crosses_both_ways(self, served: Served, client: netd.Client) -> None:
        await served.right.streams.start_server(echo, None, 80)
        socket = await client.socket()
        await socket.connect(served.right.ipv6, 80)

        async def send() -> None:
            assert await socket.send(BIG) == len(BIG)
            await socket.shutdown()

        _, heard = await asyncio.gather(send(), socket.receive_all())
        assert hashlib.sha256(heard).digest() == hashlib.sha256(BIG).digest()

    async def test_listener_gives_one_connection_after_the_other(self, served: Served, client: netd.Client) -> None:
        listener = await client.socket()
        local = await listener.listen()
        assert await refused(listener.accept(wait=False)) is Status.WOULD_BLOCK
        accepting = asyncio.create_task(listener.accept())
        reader, writer = await served.right.streams.open_connection(served.left.ipv6, local.port)
        first = await accepting
        assert first.remote == Endpoint(ip_address(served.right.ipv6).packed, writer.get_extra_info("sockname")[1])
        await first.send(b"one")
        assert await reader.read(3) == b"one"
        _, second_writer = await served.right.streams.open_connection(served.left.ipv4, local.port)
        second = await listener.accept()
        second_writer.write(b"two")
        assert await second.receive() == b"two"
        await first.close()
        assert await reader.read() == b""
        writer.close()
        second_writer.close()

    async def test_each_failure_has_its_number(self, served: Served, client: netd.Client) -> None:
        socket = await client.socket()
        assert await refused(socket.connect(served.right.ipv6, 9)) is Status.REFUSED
        socket = await client.socket()
        assert await refused(socket.connect("192.0.2.1", 9)) is Status.NO_ROUTE
        assert await refused(socket.send(b"x")) is Status.NOT_CONNECTED
        assert await refused(socket.receive()) is Status.NOT_CONNECTED
        assert await refused(socket.bind("192.0.2.1", 0)) is Status.NOT_OURS
        assert await refused(socket.accept()) is Status.NOT_SUPPORTED
        await socket.listen()
        assert await refused(socket.send(b"x")) is Status.NOT_SUPPORTED
        assert await refused(socket.listen()) is Status.NOT_SUPPORTED
        await socket.close()
        assert await refused(socket.status()) is Status.INVALID_HANDLE

    @on_stack
    @pytest.mark.parametrize(("asked", "given"), [(0, 1), (2, 2), (2**32 - 1, 1024)])
    async def test_backlog_counts(self, served: Served, client: netd.Client, asked: int, given: int) -> None:
        """The seed ignored it."""
        await (await client.socket()).listen(asked)
        assert [each.backlog for each in served.left.host.tcp.listeners] == [given]

    async def test_port_that_is_taken(self, client: netd.Client) -> None:
        first, second = await client.socket(), await client.socket()
        assert (await first.bind(port=80)).port == 80
        await first.listen()
        await second.bind(port=80)
        assert await refused(second.listen()) is Status.IN_USE

    async def test_socket_of_one_family_takes_no_address_of_the_other(
        self, served: Served, client: netd.Client
    ) -> None:
        socket = await client.socket(version=4)
        assert await refused(socket.connect(served.right.ipv6, 80)) is Status.INVALID
        assert (await socket.listen()).address == bytes(4)

    async def test_reset_is_told_behind_the_data_before_it(self, served: Served, client: netd.Client) -> None:
        listener = await client.socket()
        port = (await listener.listen()).port
        _, writer = await served.right.streams.open_connection(served.left.ipv6, port)
        socket = await listener.accept()
        writer.write(b"last")
        assert await client.poll({socket: Ready.READABLE}) == {socket.number: Ready.READABLE}
        served.right.host.tcp.connections[0].abort(served.right.driver.clock())
        served.right.driver.wake()
        waiting = await client.poll({socket: Ready(0)})
        assert waiting[socket.number] & Ready.ERROR
        assert await socket.receive() == b"last"
        assert await refused(socket.receive()) is Status.RESET
        assert (await socket.status()).error == Status.RESET

    async def test_send_that_does_not_wait_tells_how_much_was_taken(self, served: Served, client: netd.Client) -> None:
        listener = await client.socket()
        port = (await listener.listen()).port
        reader, writer = await served.right.streams.open_connection(served.left.ipv6, port)
        writer.transport.pause_reading()
        socket = await listener.accept()
        taken = []
        while (await socket.status()).flags & Ready.WRITABLE:
            taken.append(await socket.send(bytes(300_000), wait=False))
        assert await refused(socket.send(b"x", wait=False)) is Status.WOULD_BLOCK
        sent = sum(taken)
        assert min(taken) < 300_000
        rest = asyncio.create_task(socket.send(bytes(1000)))
        reading = asyncio.create_task(reader.read())
        writer.transport.resume_reading()
        assert await rest == 1000
        await socket.close()
        assert len(await reading) == sent + 1000
        writer.close()

    async def test_close_answers_what_waits(self, served: Served, client: netd.Client) -> None:
        listener = await client.socket()
        await listener.listen()
        accepting = asyncio.create_task(listener.accept())
        polling = asyncio.create_task(client.poll({listener: Ready.READABLE}))
        await asyncio.sleep(0.01)
        await listener.close()
        assert await refused(accepting) is Status.ABORTED
        assert await polling == {listener.number: Ready.INVALID}

    async def test_abort_resets(self, served: Served, client: netd.Client) -> None:
        listener = await client.socket()
        port = (await listener.listen()).port
        reader, writer = await served.right.streams.open_connection(served.left.ipv6, port)
        await (await listener.accept()).close(abort=True)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


class TestDatagrams:
    async def test_datagrams_cross_and_say_who_sent_them(self, served: Served, client: netd.Client) -> None:
        socket = await client.socket("datagram")
        local = await socket.bind()
        heard: asyncio.Queue[tuple[bytes, tuple]] = asyncio.Queue()

        class Other(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: tuple) -> None:
                heard.put_nowait((data, addr))

        transport, _ = await served.right.streams.create_datagram_endpoint(Other, (served.right.ipv6, 53))
        await socket.send(b"question", (served.right.ipv6, 53))
        data, address = await heard.get()
        assert (data, address[:2]) == (b"question", (served.left.ipv6, local.port))
        transport.sendto(b"a long answer", address)
        assert await socket.receive_from() == (b"a long answer", Endpoint(ip_address(served.right.ipv6).packed, 53))
        assert await refused(socket.receive_from(wait=False)) is Status.WOULD_BLOCK
        transport.sendto(b"a long answer", address)
        assert (await socket.receive_from(6))[0] == b"a long"
        await socket.connect(served.right.ipv6, 53)
        assert (await socket.status()).local.port == local.port
        await socket.send(b"again")
        assert (await heard.get())[0] == b"again"
        transport.close()

    async def test_datagrams_that_wait_keep_their_order(self, served: Served, client: netd.Client) -> None:
        """The seed had room for one, which the next one replaced."""
        socket, other = await client.socket("datagram"), await client.socket("datagram")
        port = (await socket.bind()).port
        for number in range(10):
            await other.send(b"%d" % number, (served.left.ipv4, port))
        assert [await socket.receive() for _ in range(10)] == [b"%d" % number for number in range(10)]

    async def test_failures_of_datagrams(self, served: Served, client: netd.Client) -> None:
        socket = await client.socket("datagram")
        assert await refused(socket.send(b"x")) is Status.NOT_CONNECTED
        assert await refused(socket.send(bytes(70_000), (served.right.ipv6, 9))) is Status.TOO_LONG
        await socket.connect(served.right.ipv6, 9)
        await socket.send(b"x")
        assert await refused(socket.receive()) is Status.REFUSED
        assert await refused(socket.listen()) is Status.NOT_SUPPORTED
        assert await refused(socket.shutdown()) is Status.NOT_SUPPORTED
        other = await client.socket("datagram")
        assert await refused(other.bind(port=(await socket.status()).local.port)) is Status.IN_USE


class TestNetwork:
    async def test_names(self, served: Served, client: netd.Client) -> None:
        assert await client.resolve("right") == [ip_address(served.right.ipv6), ip_address(served.right.ipv4)]
        assert await client.resolve("right", version=4) == [ip_address(served.right.ipv4)]
        assert await refused(client.resolve("nobody")) is Status.NO_NAME

    async def test_ping(self, served: Served, client: netd.Client) -> None:
        assert 0 < await client.ping(served.right.ipv6) < 1
        served.left.is_cut = True
        assert await refused(client.ping(served.right.ipv6, timeout_s=0.02)) is Status.TIMED_OUT
        assert await refused(client.ping("192.0.2.1")) is Status.NO_ROUTE

    async def test_info(self, client: netd.Client) -> None:
        info = await client.info()
        assert info.mtu == 1352
        assert [(str(ip_address(row.address.address)), row.prefix) for row in info.addresses] == [
            ("fc00::1", 128),
            ("10.7.0.1", 24),
        ]

    @on_stack
    async def test_stats_count_what_passes_and_what_is_dropped(self, served: Served, client: netd.Client) -> None:
        before = await client.stats()
        await client.ping(served.right.ipv6)
        served.left.receive(b"\x60garbage", 0, is_partial=False)
        socket = await client.socket()
        await socket.listen()
        after = await client.stats()
        assert (after.tx_packets - before.tx_packets, after.rx_packets - before.rx_packets) == (1, 2)
        assert after.tx_bytes - before.tx_bytes >= 48
        assert (after.drops, after.listeners, after.own_sockets, after.waiting) == (before.drops + 1, 1, 1, 0)

    async def test_node_without_interface_says_so(self, served: Served, client: netd.Client) -> None:
        served.network.backend = None
        for asked in (client.socket(), client.ping("fc00::2"), client.stats()):
            assert await refused(asked) is Status.NO_INTERFACE
        assert (await client.resolve("right"))[0] == ip_address(served.right.ipv6)

    async def test_host_that_goes_takes_its_sockets_along(self, served: Served, client: netd.Client) -> None:
        listener = await client.socket()
        await listener.listen()
        accepting = asyncio.create_task(listener.accept())
        await asyncio.sleep(0.01)
        await served.end()
        assert await refused(accepting) is Status.ABORTED
        assert await refused(listener.status()) is Status.INVALID_HANDLE
