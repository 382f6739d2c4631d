"""`create_connection`: the cases of CPython's `test_base_events` and `test_events`, over two hosts."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import re
import socket
import ssl
from typing import Any

import pytest

from tests.unit.api.streams.joined import Node
from tests.unit.api.streams.recorders import Recorder, turns, until


async def serve(node: Node, host: Any = None, port: int = 80, **arguments: Any) -> list[Recorder]:
    """Listen; returns the protocols of the connections, as they come."""
    protocols: list[Recorder] = []

    def make() -> Recorder:
        protocols.append(Recorder())
        return protocols[-1]

    await node.streams.create_server(make, host, port, **arguments)
    return protocols


class TestSuccess:
    async def test_gives_transport_and_protocol(self, left: Node, right: Node) -> None:
        served = await serve(right)
        transport, protocol = await left.streams.create_connection(Recorder, right.ipv6, 80)
        assert isinstance(protocol, Recorder)
        assert protocol.transport is transport
        assert protocol.events == ["made"]
        transport.write(b"data")
        await until(lambda: served and served[0].data == b"data")
        transport.close()
        await protocol.lost
        await served[0].lost
        assert served[0].events == ["made", "eof", "lost"]

    async def test_name_is_looked_up(self, left: Node, right: Node) -> None:
        await serve(right)
        transport, _ = await left.streams.create_connection(Recorder, "right", 80)
        assert transport.get_extra_info("peername") == (right.ipv6, 80, 0, 0)
        transport.close()

    async def test_family_chooses_the_address(self, left: Node, right: Node) -> None:
        await serve(right)
        transport, _ = await left.streams.create_connection(Recorder, "right", 80, family=socket.AF_INET)
        assert transport.get_extra_info("peername") == (right.ipv4, 80)
        transport.close()

    @pytest.mark.parametrize("port", ["80", "http", b"80"])
    async def test_port_may_be_digits_or_a_service(self, left: Node, right: Node, port: Any) -> None:
        await serve(right)
        transport, _ = await left.streams.create_connection(Recorder, right.ipv6, port)
        assert transport.get_extra_info("peername")[1] == 80
        transport.close()

    async def test_second_address_is_tried_if_the_first_refuses(self, left: Node, right: Node) -> None:
        await serve(right, right.ipv4)
        transport, _ = await left.streams.create_connection(Recorder, "right", 80)
        assert transport.get_extra_info("peername") == (right.ipv4, 80)
        transport.close()

    async def test_local_address_is_used(self, left: Node, right: Node) -> None:
        await serve(right)
        transport, _ = await left.streams.create_connection(Recorder, right.ipv6, 80, local_addr=(left.ipv6, 5000))
        assert transport.get_extra_info("sockname") == (left.ipv6, 5000, 0, 0)
        transport.close()

    async def test_local_address_of_another_family_is_passed_over(self, left: Node, right: Node) -> None:
        await serve(right)
        left.names["left"] = [left.ipv4, left.ipv6]
        transport, _ = await left.streams.create_connection(Recorder, right.ipv6, 80, local_addr=("left", 0))
        assert transport.get_extra_info("sockname")[0] == left.ipv6
        transport.close()

    async def test_end_of_the_server_right_after_the_handshake(self, left: Node, right: Node) -> None:
        class Rude(Recorder):
            def connection_made(self, transport: Any) -> None:
                transport.write(b"go away")
                transport.close()

        await right.streams.create_server(Rude, None, 80)
        _, protocol = await left.streams.create_connection(Recorder, right.ipv6, 80)
        assert isinstance(protocol, Recorder)
        assert await protocol.lost is None
        assert protocol.data == b"go away"

    async def test_protocol_runs_in_the_context_of_the_caller(self, left: Node, right: Node) -> None:
        who = contextvars.ContextVar("who", default="nobody")
        seen: dict[str, list[str]] = {"server": [], "client": []}

        class Curious(Recorder):
            def __init__(self, side: str) -> None:
                super().__init__()
                self.side = side

            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                seen[self.side].append(who.get())

            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                seen[self.side].append(who.get())
                if self.side == "server":
                    self.transport.write(data)

        who.set("server's maker")
        await right.streams.create_server(lambda: Curious("server"), None, 80)
        who.set("client")
        transport, protocol = await left.streams.create_connection(lambda: Curious("client"), right.ipv6, 80)
        assert isinstance(protocol, Recorder)
        who.set("somebody else")
        transport.write(b"data")
        await until(lambda: protocol.data)
        transport.close()
        assert seen == {"server": ["server's maker"] * 2, "client": ["client"] * 2}


class TestFailure:
    async def test_port_without_listener_refuses(self, left: Node, right: Node) -> None:
        with pytest.raises(ConnectionRefusedError) as caught:
            await left.streams.create_connection(Recorder, right.ipv6, 81)
        assert caught.value.errno == errno.ECONNREFUSED
        assert caught.value.strerror == f"Connect call failed ('{right.ipv6}', 81, 0, 0)"

    async def test_address_without_route_is_unreachable(self, left: Node) -> None:
        with pytest.raises(OSError, match=re.escape("Connect call failed ('192.0.2.1', 80)")) as caught:
            await left.streams.create_connection(Recorder, "192.0.2.1", 80)
        assert caught.value.errno == errno.ENETUNREACH

    async def test_all_that_went_wrong_is_told(self, left: Node, right: Node) -> None:
        left.names["both"] = [right.ipv6, "192.0.2.1"]
        with pytest.raises(OSError, match="Multiple exceptions: ") as caught:
            await left.streams.create_connection(Recorder, "both", 81)
        assert right.ipv6 in str(caught.value)
        assert "192.0.2.1" in str(caught.value)

    async def test_all_that_went_wrong_is_raised_on_demand(self, left: Node, right: Node) -> None:
        left.names["both"] = [right.ipv6, "192.0.2.1"]
        with pytest.raises(ExceptionGroup) as caught:
            await left.streams.create_connection(Recorder, "both", 81, all_errors=True)
        assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError, OSError]

    async def test_same_error_again_and_again_is_one(self, left: Node, right: Node) -> None:
        left.names["twice"] = [right.ipv6, right.ipv6]
        with pytest.raises(ConnectionRefusedError):
            await left.streams.create_connection(Recorder, "twice", 81)

    async def test_unknown_name_raises_as_getaddrinfo_does(self, left: Node) -> None:
        with pytest.raises(socket.gaierror) as caught:
            await left.streams.create_connection(Recorder, "nobody", 80)
        assert caught.value.errno == socket.EAI_NONAME

    async def test_local_address_in_use(self, left: Node, right: Node) -> None:
        await serve(right)
        local = (left.ipv6, 5000)
        transport, _ = await left.streams.create_connection(Recorder, right.ipv6, 80, local_addr=local)
        with pytest.raises(
            OSError, match=r"error while attempting to bind on address .*: address already in use"
        ) as caught:
            await left.streams.create_connection(Recorder, right.ipv6, 80, local_addr=local)
        assert caught.value.errno == errno.EADDRINUSE
        transport.close()

    async def test_local_address_of_somebody_else(self, left: Node, right: Node) -> None:
        with pytest.raises(OSError, match="error while attempting to bind on address") as caught:
            await left.streams.create_connection(Recorder, right.ipv6, 80, local_addr=(right.ipv6, 0))
        assert caught.value.errno == errno.EADDRNOTAVAIL

    async def test_no_local_address_of_that_family(self, left: Node, right: Node) -> None:
        with pytest.raises(OSError, match=r"no matching local address with family=.*AF_INET6.* found"):
            await left.streams.create_connection(Recorder, right.ipv6, 80, local_addr=(left.ipv4, 0))

    async def test_fault_of_the_factory_leaves_no_connection(self, left: Node, right: Node) -> None:
        await serve(right)

        def fail() -> Recorder:
            raise LookupError("fault")

        with pytest.raises(LookupError):
            await left.streams.create_connection(fail, right.ipv6, 80)
        await until(lambda: not left.host.tcp.connections and not right.host.tcp.connections)

    async def test_cancelled_attempt_leaves_no_connection(self, left: Node, right: Node) -> None:
        right.is_cut = True
        task = asyncio.create_task(left.streams.create_connection(Recorder, right.ipv6, 80))
        await turns()
        assert len(left.host.tcp.connections) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left.host.tcp.connections == []

    async def test_time_out_of_the_caller_leaves_no_connection(self, left: Node, right: Node) -> None:
        right.is_cut = True
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(left.streams.open_connection(right.ipv6, 80), 0.05)
        assert left.host.tcp.connections == []

    async def test_cancelled_while_the_protocol_is_made_closes(self, left: Node, right: Node) -> None:
        served = await serve(right)
        protocols: list[Recorder] = []

        def make() -> Recorder:
            protocols.append(Recorder())
            asyncio.get_running_loop().call_soon(task.cancel)
            return protocols[-1]

        task = asyncio.create_task(left.streams.create_connection(make, right.ipv6, 80))
        with pytest.raises(asyncio.CancelledError):
            await task
        await protocols[0].lost
        await served[0].lost

    async def test_node_that_closes_ends_the_attempt(self, left: Node, right: Node) -> None:
        right.is_cut = True
        task = asyncio.create_task(left.streams.create_connection(Recorder, right.ipv6, 80))
        await turns()
        left.streams.close()
        with pytest.raises(ConnectionAbortedError):
            await task
        with pytest.raises(RuntimeError, match="closed"):
            await left.streams.create_connection(Recorder, right.ipv6, 80)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({}, ValueError, "host and port was not specified"),
            ({"host": "fc00::2", "port": 80, "sock": object()}, ValueError, "socket of the kernel"),
            ({"host": "fc00::2", "port": 80, "server_hostname": "a"}, ValueError, "only meaningful with ssl"),
            ({"host": "fc00::2", "port": 80, "ssl_handshake_timeout": 1}, ValueError, "only meaningful with ssl"),
            ({"host": "fc00::2", "port": 80, "ssl_shutdown_timeout": 1}, ValueError, "only meaningful with ssl"),
            ({"host": "", "port": 80, "ssl": True}, ValueError, "server_hostname"),
            ({"host": None, "port": 80, "ssl": True}, ValueError, "server_hostname"),
            ({"host": "fc00::2", "port": 80, "family": 77}, socket.gaierror, "ai_family"),
            ({"host": "fc00::2", "port": 80, "proto": socket.IPPROTO_UDP}, socket.gaierror, "ai_socktype"),
            ({"host": "fc00::2", "port": 65536}, socket.gaierror, "Servname"),
            ({"host": "fc00::2", "port": "no such service"}, socket.gaierror, "Servname"),
            ({"host": "fc00::2", "port": 80, "no_such": 1}, TypeError, "no_such"),
        ],
    )
    async def test_arguments_that_do_not_fit_are_refused(
        self, left: Node, arguments: Any, error: type[Exception], text: str
    ) -> None:
        with pytest.raises(error, match=text):
            await left.streams.create_connection(Recorder, **arguments)

    @pytest.mark.parametrize("timeouts", [{"ssl_handshake_timeout": 0}, {"ssl_shutdown_timeout": -1}])
    async def test_time_out_of_tls_must_be_positive(self, left: Node, right: Node, timeouts: Any) -> None:
        await serve(right)
        with pytest.raises(ValueError, match="should be a positive number"):
            await left.streams.create_connection(
                Recorder, right.ipv6, 80, ssl=ssl.create_default_context(), server_hostname="", **timeouts
            )
        await until(lambda: not left.host.tcp.connections)


class TestHappyEyeballs:
    async def test_next_address_is_tried_beside_one_that_is_silent(self, left: Node, right: Node) -> None:
        await serve(right)
        left.names["slow"] = ["fc00::99", right.ipv4]
        transport, _ = await left.streams.create_connection(Recorder, "slow", 80, happy_eyeballs_delay=0.05)
        assert transport.get_extra_info("peername") == (right.ipv4, 80)
        # The silent one was given up.
        assert len(left.host.tcp.connections) == 1
        transport.close()

    async def test_next_address_is_tried_at_once_after_one_that_refuses(self, left: Node, right: Node) -> None:
        await serve(right, right.ipv4)
        transport, _ = await left.streams.create_connection(Recorder, "right", 80, happy_eyeballs_delay=60)
        assert transport.get_extra_info("peername") == (right.ipv4, 80)
        transport.close()

    async def test_first_address_has_its_start(self, left: Node, right: Node) -> None:
        served = await serve(right)
        transport, _ = await left.streams.create_connection(Recorder, "right", 80, happy_eyeballs_delay=0.25)
        assert transport.get_extra_info("peername") == (right.ipv6, 80, 0, 0)
        assert len(served) == 1
        transport.close()

    async def test_all_refuse(self, left: Node, right: Node) -> None:
        with pytest.raises(OSError, match="Multiple exceptions"):
            await left.streams.create_connection(Recorder, "right", 81, happy_eyeballs_delay=0.01)

    async def test_cancelled_race_leaves_no_connection(self, left: Node, right: Node) -> None:
        right.is_cut = True
        task = asyncio.create_task(left.streams.create_connection(Recorder, "right", 80, happy_eyeballs_delay=0))
        await until(lambda: len(left.host.tcp.connections) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left.host.tcp.connections == []

    async def test_two_that_answer_at_once_leave_one(self, left: Node, right: Node) -> None:
        await serve(right)
        left.is_cut = True
        task = asyncio.create_task(left.streams.create_connection(Recorder, "right", 80, happy_eyeballs_delay=0))
        await until(lambda: len(left.host.tcp.connections) == 2)
        await asyncio.sleep(0.01)
        left.is_cut = False
        transport, _ = await task
        await until(lambda: len(left.host.tcp.connections) == 1)
        transport.close()
        await until(lambda: not right.host.tcp.connections)

    async def test_families_take_turns(self, left: Node, right: Node) -> None:
        tried: list[str] = []
        connect = left.host.tcp.connect

        def note(remote: Any, now: int, **arguments: Any) -> Any:
            tried.append(str(remote))
            return connect(remote, now, **arguments)

        left.host.tcp.connect = note  # type: ignore[method-assign]
        left.names["many"] = [right.ipv6, "2001:db8::1", "2001:db8::2", right.ipv4, "192.0.2.1"]
        with pytest.raises(OSError, match="Multiple"):
            await left.streams.create_connection(Recorder, "many", 81, interleave=1)
        assert tried == [
            f"[{right.ipv6}]:81", f"{right.ipv4}:81", "[2001:db8::1]:81", "192.0.2.1:81", "[2001:db8::2]:81",
        ]  # fmt: skip
        tried.clear()
        with pytest.raises(OSError, match="Multiple"):
            await left.streams.create_connection(Recorder, "many", 81, interleave=2)
        assert tried[:3] == [f"[{right.ipv6}]:81", "[2001:db8::1]:81", f"{right.ipv4}:81"]
