"""`create_server` and `Server`: the cases of CPython's `test_server`, `test_events` and `test_base_events`."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
from typing import Any

import pytest

from tests.unit.api.streams.joined import Node
from tests.unit.api.streams.recorders import Recorder, turns, until


def port_of(server: Any, number: int = 0) -> int:
    port: int = server.sockets[number].getsockname()[1]
    return port


class TestAddresses:
    @pytest.mark.parametrize("host", [None, "", "::"])
    async def test_all_addresses_are_one_socket(self, left: Node, right: Node, host: Any) -> None:
        server = await right.streams.create_server(Recorder, host, 0)
        assert len(server.sockets) == 1
        (sock,) = server.sockets
        assert sock.family == socket.AF_INET6
        assert sock.type == socket.SOCK_STREAM
        assert sock.getsockname()[0] == "::"
        assert port_of(server) > 0
        for address in (right.ipv4, right.ipv6):
            transport, _ = await left.streams.create_connection(Recorder, address, port_of(server))
            transport.close()

    async def test_all_addresses_of_ipv4_leave_ipv6_alone(self, left: Node, right: Node) -> None:
        server = await right.streams.create_server(Recorder, "0.0.0.0", 80)
        assert server.sockets[0].getsockname() == ("0.0.0.0", 80)
        transport, _ = await left.streams.create_connection(Recorder, right.ipv4, 80)
        transport.close()
        with pytest.raises(ConnectionRefusedError):
            await left.streams.create_connection(Recorder, right.ipv6, 80)

    @pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
    async def test_family_chooses_all_addresses(self, right: Node, family: int, address: str) -> None:
        server = await right.streams.create_server(Recorder, None, 80, family=family)
        assert [sock.getsockname()[0] for sock in server.sockets] == [address]

    async def test_several_hosts_are_several_sockets(self, left: Node, right: Node) -> None:
        server = await right.streams.create_server(Recorder, [right.ipv4, right.ipv6, right.ipv4], 80)
        assert {sock.getsockname()[0] for sock in server.sockets} == {right.ipv4, right.ipv6}
        for address in (right.ipv4, right.ipv6):
            transport, _ = await left.streams.create_connection(Recorder, address, 80)
            transport.close()

    async def test_name_is_looked_up(self, right: Node) -> None:
        right.names["me"] = [right.ipv6, right.ipv4]
        server = await right.streams.create_server(Recorder, "me", 80)
        assert [sock.getsockname()[0] for sock in server.sockets] == [right.ipv6, right.ipv4]

    async def test_both_wildcards_are_one(self, right: Node) -> None:
        server = await right.streams.create_server(Recorder, ["0.0.0.0", "::"], 80)
        assert [sock.getsockname()[0] for sock in server.sockets] == ["::"]

    async def test_port_that_is_taken(self, right: Node) -> None:
        await right.streams.create_server(Recorder, right.ipv6, 80)
        with pytest.raises(
            OSError, match=r"error while attempting to bind on address .*: address already in use"
        ) as caught:
            await right.streams.create_server(Recorder, right.ipv6, 80)
        assert caught.value.errno == errno.EADDRINUSE

    async def test_failure_of_one_address_gives_the_others_back(self, right: Node) -> None:
        taken = await right.streams.create_server(Recorder, right.ipv6, 80)
        with pytest.raises(OSError, match="already in use"):
            await right.streams.create_server(Recorder, [right.ipv4, right.ipv6], 80)
        taken.close()
        await right.streams.create_server(Recorder, [right.ipv4, right.ipv6], 80)

    async def test_address_of_somebody_else(self, right: Node) -> None:
        with pytest.raises(OSError, match="error while attempting to bind on address") as caught:
            await right.streams.create_server(Recorder, "192.0.2.1", 80)
        assert caught.value.errno == errno.EADDRNOTAVAIL

    async def test_port_is_free_after_close(self, right: Node) -> None:
        for _ in range(3):
            server = await right.streams.create_server(Recorder, None, 80)
            server.close()
            await server.wait_closed()

    @pytest.mark.parametrize("keep_alive", [None, True])
    async def test_silent_clients_are_asked_on_demand(self, left: Node, right: Node, keep_alive: Any) -> None:
        server = await right.streams.create_server(Recorder, None, 80, keep_alive=keep_alive)
        transport, _ = await left.streams.create_connection(Recorder, right.ipv6, 80)
        await until(lambda: server._connections)
        (served,) = server._connections
        sock = served.get_extra_info("socket")
        assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is bool(keep_alive)
        transport.close()

    async def test_reuse_flags_are_taken(self, right: Node) -> None:
        await right.streams.create_server(Recorder, None, 80, reuse_address=True, reuse_port=True)

    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({}, ValueError, "Neither host/port nor sock were specified"),
            ({"port": 80, "sock": object()}, ValueError, "socket of the kernel"),
            ({"port": 80, "ssl": True}, TypeError, "SSLContext"),
            ({"port": 80, "ssl_handshake_timeout": 1}, ValueError, "only meaningful with ssl"),
            ({"port": 80, "ssl_shutdown_timeout": 1}, ValueError, "only meaningful with ssl"),
            ({"host": "nobody", "port": 80}, socket.gaierror, "Name or service not known"),
        ],
    )
    async def test_arguments_that_do_not_fit_are_refused(
        self, right: Node, arguments: Any, error: type[Exception], text: str
    ) -> None:
        with pytest.raises(error, match=text):
            await right.streams.create_server(Recorder, **arguments)


class TestServing:
    async def test_is_a_server(self, right: Node) -> None:
        server = await right.streams.create_server(Recorder, None, 80)
        assert isinstance(server, asyncio.AbstractServer)
        assert server.get_loop() is asyncio.get_running_loop()
        assert server.is_serving()
        assert repr(server).startswith("<Server sockets=(<weft socket SOCK_STREAM, laddr=('::', 80, 0, 0)>,)>")
        server.close()
        assert not server.is_serving()
        assert server.sockets == ()

    async def test_connects_wait_until_it_serves(self, left: Node, right: Node) -> None:
        protocols: list[Recorder] = []

        def make() -> Recorder:
            protocols.append(Recorder())
            return protocols[-1]

        server = await right.streams.create_server(make, None, 80, start_serving=False)
        assert not server.is_serving()
        transport, _ = await left.streams.create_connection(Recorder, right.ipv6, 80)
        transport.write(b"waiting")
        await turns()
        assert protocols == []
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        await until(lambda: protocols and protocols[0].data == b"waiting")
        transport.close()

    async def test_serve_forever_ends_with_its_task(self, left: Node, right: Node) -> None:
        server = await right.streams.create_server(Recorder, None, 80, start_serving=False)
        task = asyncio.create_task(server.serve_forever())
        await turns()
        assert server.is_serving()
        with pytest.raises(RuntimeError, match="already being awaited"):
            await server.serve_forever()
        transport, _ = await left.streams.create_connection(Recorder, right.ipv6, 80)
        transport.close()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving()
        with pytest.raises(RuntimeError, match="is closed"):
            await server.serve_forever()
        with pytest.raises(ConnectionRefusedError):
            await left.streams.create_connection(Recorder, right.ipv6, 80)

    async def test_serve_forever_closes_its_connections_too(self, left: Node, right: Node) -> None:
        server = await right.streams.create_server(Recorder, None, 80)
        task = asyncio.create_task(server.serve_forever())
        _, protocol = await left.streams.create_connection(Recorder, right.ipv6, 80)
        await until(lambda: server._connections)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(protocol, Recorder)
        assert await protocol.lost is None

    async def test_close_ends_serve_forever(self, right: Node) -> None:
        server = await right.streams.create_server(Recorder, None, 80)
        task = asyncio.create_task(server.serve_forever())
        await turns()
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_context_manager_closes(self, left: Node, right: Node) -> None:
        async with await right.streams.create_server(Recorder, None, 80) as server:
            assert server.is_serving()
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await left.streams.create_connection(Recorder, right.ipv6, 80)

    async def test_connections_outlive_close(self, left: Node, right: Node) -> None:
        protocols: list[Recorder] = []

        def make() -> Recorder:
            protocols.append(Recorder())
            return protocols[-1]

        server = await right.streams.create_server(make, None, 80)
        transport, _ = await left.streams.create_connection(Recorder, right.ipv6, 80)
        await until(lambda: protocols)
        server.close()
        server.close()
        transport.write(b"still here")
        await until(lambda: protocols[0].data == b"still here")
        waiter = asyncio.create_task(server.wait_closed())
        await turns()
        assert not waiter.done()
        transport.close()
        await waiter
        await server.wait_closed()

    async def test_wait_closed_waits_for_close(self, right: Node) -> None:
        server = await right.streams.create_server(Recorder, None, 80)
        waiter = asyncio.create_task(server.wait_closed())
        await turns()
        assert not waiter.done()
        server.close()
        await waiter

    @pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
    async def test_clients_can_be_ended(self, left: Node, right: Node, how: str) -> None:
        server = await right.streams.create_server(Recorder, None, 80)
        ends = [await left.streams.create_connection(Recorder, right.ipv6, 80) for _ in range(3)]
        await until(lambda: len(server._connections) == 3)
        server.close()
        getattr(server, how)()
        await server.wait_closed()
        for _, protocol in ends:
            assert isinstance(protocol, Recorder)
            assert await protocol.lost is None

    async def test_connection_that_waits_is_reset_by_close(self, left: Node, right: Node) -> None:
        server = await right.streams.create_server(Recorder, None, 80, start_serving=False)
        _, protocol = await left.streams.create_connection(Recorder, right.ipv6, 80)
        assert isinstance(protocol, Recorder)
        server.close()
        assert isinstance(await protocol.lost, ConnectionResetError)
        await server.wait_closed()

    async def test_fault_of_the_factory_is_reported_and_resets(
        self, left: Node, right: Node, complaints: list[dict[str, Any]]
    ) -> None:
        def fail() -> Recorder:
            raise LookupError("fault")

        await right.streams.create_server(fail, None, 80)
        _, protocol = await left.streams.create_connection(Recorder, right.ipv6, 80)
        assert isinstance(protocol, Recorder)
        assert isinstance(await protocol.lost, ConnectionResetError)
        assert complaints[0]["message"] == "Error on transport creation for incoming connection"

    async def test_backlog_bounds_who_waits(self, left: Node, right: Node) -> None:
        await right.streams.create_server(Recorder, None, 80, backlog=2, start_serving=False)
        attempts = [asyncio.create_task(left.streams.create_connection(Recorder, right.ipv6, 80)) for _ in range(5)]
        await asyncio.sleep(0.1)
        # The others may believe to be connected, as on Linux, but the server has no more.
        assert len(right.host.tcp.connections) <= 5
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)

    async def test_many_at_once_are_all_served(self, left: Node, right: Node) -> None:
        server = await right.streams.create_server(Recorder, None, 80)
        ends = await asyncio.gather(*(left.streams.create_connection(Recorder, right.ipv6, 80) for _ in range(200)))
        await until(lambda: len(server._connections) == 200)
        for transport, _ in ends:
            transport.close()
        await until(lambda: not server._connections)

    async def test_port_is_used_again_at_once_while_old_connections_linger(self, left: Node, right: Node) -> None:
        server = await right.streams.create_server(Recorder, None, 80)
        transport, _ = await left.streams.create_connection(Recorder, right.ipv6, 80)
        await until(lambda: server._connections)
        server.close_clients()
        server.close()
        await server.wait_closed()
        await right.streams.create_server(Recorder, None, 80)
        transport.close()

    async def test_nothing_of_a_connection_is_left(self, left: Node, right: Node) -> None:
        server = await right.streams.create_server(Recorder, None, 80)
        transport, protocol = await left.streams.create_connection(Recorder, right.ipv6, 80)
        assert isinstance(protocol, Recorder)
        transport.close()
        await protocol.lost
        await until(lambda: not server._connections)
        del transport, protocol
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each).__name__ in {"TcpTransport", "Attempt"}]
        await until(lambda: not left.host.tcp.connections and not right.host.tcp.connections)
