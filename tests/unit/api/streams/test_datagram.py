"""Datagram endpoints: the cases of CPython's `test_selector_events` and `test_base_events`, over two hosts."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import ipaddress
import logging
import socket
from typing import Any

import pytest

from tests.unit.api.streams.joined import Node
from tests.unit.api.streams.recorders import DatagramRecorder, turns, until
from weft.stack.ip import QUEUE_PACKETS


async def bound(node: Node, host: str, port: int = 53, **arguments: Any) -> tuple[Any, DatagramRecorder]:
    return await node.streams.create_datagram_endpoint(DatagramRecorder, local_addr=(host, port), **arguments)


async def connected(node: Node, host: str, port: int = 53, **arguments: Any) -> tuple[Any, DatagramRecorder]:
    return await node.streams.create_datagram_endpoint(DatagramRecorder, remote_addr=(host, port), **arguments)


class TestConversation:
    @pytest.mark.parametrize("version", ["ipv4", "ipv6"])
    async def test_datagrams_go_there_and_back(self, left: Node, right: Node, version: str) -> None:
        address = getattr(right, version)
        there, heard = await bound(right, address)
        here, answered = await connected(left, address)
        here.sendto(b"question")
        await until(lambda: heard.datagrams)
        data, source = heard.datagrams[0]
        assert data == b"question"
        assert source == here.get_extra_info("sockname")
        there.sendto(b"answer", source)
        await until(lambda: answered.datagrams)
        assert answered.datagrams == [(b"answer", there.get_extra_info("sockname"))]
        for transport in (here, there):
            transport.close()

    async def test_is_made_before_the_call_returns(self, left: Node) -> None:
        transport, protocol = await bound(left, left.ipv6)
        assert protocol.events == ["made"]
        assert protocol.transport is transport
        assert isinstance(transport, asyncio.DatagramTransport)
        assert transport.get_protocol() is protocol
        assert not transport.is_closing()
        transport.close()

    @pytest.mark.parametrize("data", [b"data", bytearray(b"data"), memoryview(b"data"), b""])
    async def test_buffers_of_all_kinds_are_sent(self, left: Node, right: Node, data: Any) -> None:
        _, heard = await bound(right, right.ipv6)
        transport, _ = await connected(left, right.ipv6)
        transport.sendto(data)
        await until(lambda: heard.datagrams)
        assert heard.datagrams[0][0] == bytes(data)
        transport.close()

    @pytest.mark.parametrize("data", ["text", 1, None])
    async def test_what_is_no_buffer_is_refused(self, left: Node, right: Node, data: Any) -> None:
        transport, _ = await connected(left, right.ipv6)
        with pytest.raises(TypeError, match="bytes-like"):
            transport.sendto(data)
        transport.close()

    async def test_large_datagram_is_fragmented_and_put_together(self, left: Node, right: Node) -> None:
        _, heard = await bound(right, right.ipv6)
        transport, _ = await connected(left, right.ipv6)
        data = bytes(range(256)) * 80
        transport.sendto(data)
        await until(lambda: heard.datagrams)
        assert heard.datagrams[0][0] == data
        transport.close()

    async def test_order_and_limits_of_datagrams_stay(self, left: Node, right: Node) -> None:
        _, heard = await bound(right, right.ipv6)
        transport, _ = await connected(left, right.ipv6)
        sent = [b"%04d" % number * (1 + number % 50) for number in range(300)]
        for data in sent:
            transport.sendto(data)
        await until(lambda: len(heard.datagrams) == len(sent))
        assert [data for data, _ in heard.datagrams] == sent
        transport.close()

    async def test_one_socket_talks_to_many(self, left: Node, right: Node) -> None:
        first, heard_first = await bound(right, right.ipv6, 1000)
        second, heard_second = await bound(right, right.ipv4, 1001)
        transport, _ = await left.streams.create_datagram_endpoint(DatagramRecorder, local_addr=("::", 0))
        transport.sendto(b"one", (right.ipv6, 1000))
        transport.sendto(b"two", (right.ipv4, 1001))
        await until(lambda: heard_first.datagrams and heard_second.datagrams)
        assert heard_first.datagrams[0][0] == b"one"
        assert heard_second.datagrams[0] == (b"two", (left.ipv4, transport.get_extra_info("sockname")[1]))
        for each in (first, second, transport):
            each.close()

    async def test_connected_one_hears_nobody_else(self, left: Node, right: Node) -> None:
        transport, heard = await connected(left, right.ipv6)
        _, port = transport.get_extra_info("sockname")[:2]
        stranger, _ = await bound(right, right.ipv6, 54)
        friend, _ = await bound(right, right.ipv6, 53)
        stranger.sendto(b"stranger", (left.ipv6, port))
        friend.sendto(b"friend", (left.ipv6, port))
        await until(lambda: heard.datagrams)
        assert [data for data, _ in heard.datagrams] == [b"friend"]
        for each in (stranger, friend, transport):
            each.close()

    async def test_extra_info(self, left: Node, right: Node) -> None:
        transport, _ = await connected(left, right.ipv6)
        assert transport.get_extra_info("peername") == (right.ipv6, 53, 0, 0)
        assert transport.get_extra_info("sockname")[0] == left.ipv6
        assert transport.get_extra_info("peer") == f"peer at {right.ipv6}"
        sock = transport.get_extra_info("socket")
        assert (sock.type, sock.proto, sock.fileno()) == (socket.SOCK_DGRAM, socket.IPPROTO_UDP, -1)
        assert "UdpTransport" in repr(transport)
        transport.close()
        transport, _ = await bound(left, left.ipv6)
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("peer", "nobody") == "nobody"
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number says it
            transport.get_extra_info("socket").getpeername()
        assert caught.value.errno == errno.ENOTCONN
        transport.close()

    async def test_protocol_runs_where_its_endpoint_was_made(self, left: Node, right: Node) -> None:
        who = contextvars.ContextVar("who", default="nobody")
        seen: list[str] = []

        class Curious(DatagramRecorder):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                seen.append(who.get())

        who.set("maker")
        await right.streams.create_datagram_endpoint(Curious, local_addr=(right.ipv6, 53))
        who.set("sender")
        transport, _ = await connected(left, right.ipv6)
        transport.sendto(b"data")
        await until(lambda: seen)
        assert seen == ["maker"]
        transport.close()


class TestErrors:
    async def test_port_without_a_socket_refuses(self, left: Node, right: Node) -> None:
        transport, protocol = await connected(left, right.ipv6)
        transport.sendto(b"data")
        await until(lambda: protocol.errors)
        assert isinstance(protocol.errors[0], ConnectionRefusedError)
        assert not transport.is_closing()
        transport.close()

    async def test_datagram_that_is_too_long(self, left: Node, right: Node) -> None:
        transport, protocol = await connected(left, right.ipv6)
        transport.sendto(bytes(65_536))
        assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]  # type: ignore[attr-defined]
        transport.close()

    async def test_address_without_a_route(self, left: Node) -> None:
        transport, protocol = await bound(left, left.ipv6)
        transport.sendto(b"data", ("2001:db8::1", 53))
        assert [error.errno for error in protocol.errors] == [errno.ENETUNREACH]  # type: ignore[attr-defined]
        transport.close()

    async def test_address_of_the_other_version(self, left: Node) -> None:
        transport, protocol = await bound(left, left.ipv4)
        transport.sendto(b"data", ("fc00::2", 53))
        assert len(protocol.errors) == 1
        transport.close()

    async def test_name_is_not_looked_up(self, left: Node) -> None:
        transport, protocol = await bound(left, left.ipv6)
        transport.sendto(b"data", ("right", 53))
        assert isinstance(protocol.errors[0], socket.gaierror)
        transport.close()

    async def test_port_zero_is_no_destination(self, left: Node, right: Node) -> None:
        transport, protocol = await bound(left, left.ipv6)
        transport.sendto(b"data", (right.ipv6, 0))
        assert [error.errno for error in protocol.errors] == [errno.EINVAL]  # type: ignore[attr-defined]
        transport.close()

    async def test_destination_must_be_said(self, left: Node) -> None:
        transport, protocol = await bound(left, left.ipv6)
        transport.sendto(b"data")
        assert [error.errno for error in protocol.errors] == [errno.EDESTADDRREQ]  # type: ignore[attr-defined]
        transport.close()

    async def test_destination_of_a_connected_one_is_fixed(self, left: Node, right: Node) -> None:
        _, heard = await bound(right, right.ipv6)
        transport, _ = await connected(left, right.ipv6)
        transport.sendto(b"data", (right.ipv6, 53, 0, 0))
        transport.sendto(b"data", (right.ipv6, 53))
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            transport.sendto(b"data", (right.ipv6, 54))
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            transport.sendto(b"data", (right.ipv4, 53))
        await until(lambda: len(heard.datagrams) == 2)
        transport.close()

    @pytest.mark.parametrize("address", ["text", 53, ("fc00::2",), (1, 2)])
    async def test_what_is_no_address_is_refused(self, left: Node, address: Any) -> None:
        transport, _ = await bound(left, left.ipv6)
        with pytest.raises(TypeError):
            transport.sendto(b"data", address)
        transport.close()

    @pytest.mark.parametrize("what", ["datagram_received", "error_received"])
    async def test_fault_of_the_protocol_ends_the_transport(
        self, left: Node, right: Node, complaints: list[dict[str, Any]], what: str
    ) -> None:
        def fail(*_: object) -> None:
            raise LookupError("fault")

        transport, protocol = await bound(right, right.ipv6)
        setattr(protocol, what, fail)
        if what == "error_received":
            transport.sendto(bytes(70_000), (left.ipv6, 53))
        else:
            sender, _ = await connected(left, right.ipv6)
            sender.sendto(b"data")
        assert isinstance(await protocol.lost, LookupError)
        assert complaints[0]["message"] == f"Fatal error: protocol.{what}() call failed."


class TestEndpoints:
    async def test_nothing_said_but_the_family(self, left: Node) -> None:
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            transport, _ = await left.streams.create_datagram_endpoint(DatagramRecorder, family=family)
            assert transport.get_extra_info("sockname")[0] == address
            assert transport.get_extra_info("sockname")[1] > 0
            transport.close()

    async def test_names_are_looked_up(self, left: Node, right: Node) -> None:
        left.names["me"] = [left.ipv4, left.ipv6]
        transport, _ = await left.streams.create_datagram_endpoint(
            DatagramRecorder, local_addr=("me", 0), remote_addr=("right", 53)
        )
        names = transport.get_extra_info("sockname")[0], transport.get_extra_info("peername")[0]
        assert names in {(left.ipv4, right.ipv4), (left.ipv6, right.ipv6)}
        transport.close()

    async def test_ends_of_different_versions(self, left: Node, right: Node) -> None:
        with pytest.raises(ValueError, match="can not get address information"):
            await left.streams.create_datagram_endpoint(
                DatagramRecorder, local_addr=(left.ipv4, 0), remote_addr=(right.ipv6, 53)
            )

    async def test_port_that_is_taken(self, left: Node) -> None:
        await bound(left, left.ipv6)
        with pytest.raises(OSError, match="address already in use") as caught:
            await bound(left, left.ipv6)
        assert caught.value.errno == errno.EADDRINUSE

    async def test_port_may_be_shared(self, left: Node) -> None:
        for _ in range(2):
            await bound(left, left.ipv6, reuse_port=True)

    async def test_port_is_free_after_close(self, left: Node) -> None:
        for _ in range(3):
            transport, protocol = await bound(left, left.ipv6)
            transport.close()
            await protocol.lost

    async def test_address_of_somebody_else(self, left: Node) -> None:
        with pytest.raises(OSError, match="cannot assign requested address") as caught:
            await bound(left, "192.0.2.1")
        assert caught.value.errno == errno.EADDRNOTAVAIL

    async def test_remote_without_a_route(self, left: Node) -> None:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number says it
            await connected(left, "192.0.2.1")
        assert caught.value.errno == errno.ENETUNREACH

    async def test_fault_of_the_factory_gives_the_port_back(self, left: Node) -> None:
        def fail() -> DatagramRecorder:
            raise LookupError("fault")

        with pytest.raises(LookupError):
            await left.streams.create_datagram_endpoint(fail, local_addr=(left.ipv6, 53))
        await bound(left, left.ipv6)

    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({}, ValueError, "unexpected address family"),
            ({"family": 77}, ValueError, "unexpected address family"),
            ({"sock": object()}, ValueError, "socket of the kernel"),
            ({"local_addr": "fc00::1"}, TypeError, "2-tuple is expected"),
            ({"local_addr": ("fc00::1", 1, 0, 0)}, TypeError, "2-tuple is expected"),
            ({"remote_addr": ("nobody", 1)}, socket.gaierror, "Name or service"),
            ({"local_addr": ("fc00::1", 1), "proto": socket.IPPROTO_TCP}, socket.gaierror, "socktype"),
        ],
    )
    async def test_arguments_that_do_not_fit_are_refused(
        self, left: Node, arguments: Any, error: type[Exception], text: str
    ) -> None:
        with pytest.raises(error, match=text):
            await left.streams.create_datagram_endpoint(DatagramRecorder, **arguments)

    async def test_closed_node(self, left: Node) -> None:
        transport, protocol = await bound(left, left.ipv6)
        left.streams.close()
        assert isinstance(await protocol.lost, ConnectionAbortedError)
        assert transport.is_closing()
        with pytest.raises(RuntimeError, match="closed"):
            await bound(left, left.ipv6)


class TestFlowControl:
    async def test_full_queue_pauses_and_loses_nothing(self, left: Node, right: Node) -> None:
        _, heard = await bound(right, right.ipv6)
        transport, protocol = await connected(left, right.ipv6)
        count = QUEUE_PACKETS + 2000
        for number in range(count):
            # Of different lengths, so that they do not share a packet.
            transport.sendto(bytes(1 + number % 7))
        assert protocol.events == ["made", "pause"]
        assert transport.get_write_buffer_size() > 64 * 1024
        assert left.host.drops["ip: queue full"] == 0
        transport.close()
        assert transport.is_closing()
        assert await protocol.lost is None
        assert protocol.events == ["made", "pause", "resume", "lost"]
        await turns(100)
        assert right.host.drops["udp: receive queue full"] + len(heard.datagrams) == count

    async def test_abort_forgets_what_waits(self, left: Node, right: Node) -> None:
        transport, protocol = await connected(left, right.ipv6)
        for number in range(QUEUE_PACKETS + 2000):
            transport.sendto(bytes(1 + number % 7))
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        assert await protocol.lost is None
        await asyncio.sleep(0.01)

    async def test_limits_can_be_set(self, left: Node, right: Node) -> None:
        transport, _ = await connected(left, right.ipv6)
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.set_write_buffer_limits(high=0)
        assert transport.get_write_buffer_limits() == (0, 0)
        transport.close()

    async def test_flood_leaves_others_their_turn(self, left: Node, right: Node) -> None:
        spans: list[int] = []

        class Counting(DatagramRecorder):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, addr)
                spans[-1] += 1

        transport, _ = await right.streams.create_datagram_endpoint(Counting, local_addr=(right.ipv6, 53))
        sender, _ = await connected(left, right.ipv6)
        for _ in range(700):
            sender.sendto(b"x" * 40)
        while sum(spans) < 700:
            spans.append(0)
            await asyncio.sleep(0)
        assert 0 < max(spans) <= 2 * 256
        transport.close()


class TestEnd:
    async def test_close_ends_in_a_later_turn_once(self, left: Node) -> None:
        transport, protocol = await bound(left, left.ipv6)
        transport.close()
        transport.close()
        transport.abort()
        assert protocol.events == ["made"]
        await turns()
        assert protocol.events == ["made", "lost"]
        assert transport.get_protocol() is None

    async def test_nothing_comes_after_close(self, left: Node, right: Node) -> None:
        transport, heard = await bound(right, right.ipv6)
        sender, _ = await connected(left, right.ipv6)
        sender.sendto(b"data")
        transport.close()
        await turns(20)
        assert heard.datagrams == []

    async def test_paused_holds_datagrams_back(self, left: Node, right: Node) -> None:
        transport, heard = await bound(right, right.ipv6)
        sender, _ = await connected(left, right.ipv6)
        transport.pause_reading()
        sender.sendto(b"data")
        await turns(20)
        assert heard.datagrams == []
        transport.resume_reading()
        await until(lambda: heard.datagrams)

    async def test_write_after_the_end_warns_in_the_end(self, left: Node, right: Node, caplog: Any) -> None:
        transport, protocol = await connected(left, right.ipv6)
        transport.close()
        await protocol.lost
        with caplog.at_level(logging.WARNING, "weft.api"):
            for _ in range(6):
                transport.sendto(b"data")
        assert len(caplog.records) == 2


class TestMany:
    async def test_broadcast_has_to_be_asked_for(self, left: Node, right: Node) -> None:
        _, heard = await bound(right, "0.0.0.0")
        transport, protocol = await bound(left, left.ipv4, 0)
        transport.sendto(b"data", ("10.7.0.255", 53))
        assert isinstance(protocol.errors[0], PermissionError)
        transport.close()
        transport, _ = await left.streams.create_datagram_endpoint(
            DatagramRecorder, remote_addr=("10.7.0.255", 53), allow_broadcast=True
        )
        assert transport.get_extra_info("peername") is None
        transport.sendto(b"to all")
        await until(lambda: heard.datagrams)
        assert heard.datagrams[0][0] == b"to all"
        transport.close()

    async def test_broadcast_can_be_asked_for_later(self, left: Node, right: Node) -> None:
        _, heard = await bound(right, "0.0.0.0")
        transport, _ = await bound(left, left.ipv4, 0)
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 0
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
        transport.sendto(b"to all", ("10.7.0.255", 53))
        await until(lambda: heard.datagrams)
        transport.close()

    @pytest.mark.parametrize("group", ["239.1.2.3", "ff08::1234"])
    async def test_group_is_joined_and_left_by_options(self, left: Node, right: Node, group: str) -> None:
        packed = ipaddress.ip_address(group).packed
        is_ipv4 = len(packed) == 4
        any_address, own = ("0.0.0.0", left.ipv4) if is_ipv4 else ("::", left.ipv6)
        level = socket.IPPROTO_IP if is_ipv4 else socket.IPPROTO_IPV6
        join = socket.IP_ADD_MEMBERSHIP if is_ipv4 else socket.IPV6_JOIN_GROUP
        leave = socket.IP_DROP_MEMBERSHIP if is_ipv4 else socket.IPV6_LEAVE_GROUP
        receiver, heard = await bound(right, any_address)
        sender, _ = await bound(left, own, 0)
        sock = receiver.get_extra_info("socket")
        sender.sendto(b"early", (group, 53))
        await turns()
        sock.setsockopt(level, join, packed + bytes(4))
        sender.sendto(b"joined", (group, 53))
        await until(lambda: heard.datagrams)
        sock.setsockopt(level, leave, packed + bytes(4))
        sender.sendto(b"late", (group, 53))
        await turns(20)
        assert [data for data, _ in heard.datagrams] == [b"joined"]

    @pytest.mark.parametrize("value", [1, b"\x01", ipaddress.ip_address("10.7.0.2").packed + bytes(4)])
    async def test_what_is_no_group_is_refused(self, right: Node, value: Any) -> None:
        transport, _ = await bound(right, "0.0.0.0")
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number says it
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, value)
        assert caught.value.errno == errno.EINVAL
        transport.close()
