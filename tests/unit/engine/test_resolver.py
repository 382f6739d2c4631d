"""Names to addresses: through the system, and through a server on another host of the stack, in virtual time."""

from __future__ import annotations

import asyncio
import selectors
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.stack.dns.server import Server
from tests.unit.stack.wire import Wire, make_host, v4, v6
from weft.engine.resolver import NO_DATA, ServerResolver, SystemResolver
from weft.engine.stack_backend import StackBackend
from weft.packet.protocols import UDP
from weft.stack.dns.names import Names
from weft.stack.endpoint import Endpoint
from weft.stack.host import Host
from weft.testing import MS, Faults, VirtualClock

RECORDS = Server(
    "\n".join(
        [
            "a.example. 60 IN A 192.0.2.1",
            "a.example. 60 IN AAAA fc00::1",
            "only4.example. 60 IN A 192.0.2.4",
            "brief.example. 0 IN A 192.0.2.5",
            "www.example. 60 IN CNAME a.example.",
            *(f"many.example. 60 IN A 10.0.0.{number}" for number in range(200)),
        ]
    )
)
A4, A6 = bytes([192, 0, 2, 1]), b"\xfc" + bytes(14) + b"\x01"
BOB = b"\xfc" + bytes(range(15))


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on which time passes as soon as nothing is left to do now."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(_Selector(clock))
        self._virtual = clock

    def time(self) -> float:
        return self._virtual.now / 1e9


class _Selector(selectors.SelectSelector):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            due = self._clock.next_at()
            end = None if timeout is None else self._clock.now + int(timeout * 1e9) + 1
            assert due is not None or end is not None, "nothing is left that could happen"
            if end is None or (due is not None and due <= end):
                self._clock.run_next()
            else:
                self._clock.advance_to(end)
        return ready


class Serving:
    """A server of DNS on a host of the stack."""

    def __init__(self, host: Host, clock: VirtualClock) -> None:
        self._clock = clock
        self._datagrams = host.udp.open(Endpoint(bytes(16), 53))
        self._listener = host.tcp.listen(Endpoint(bytes(16), 53))
        self._datagrams.user = self._listener.user = self
        self.asked = 0

    def handle_event(self) -> None:
        while (received := self._datagrams.receive()) is not None:
            data, source = received
            self.asked += 1
            self._datagrams.send(RECORDS.answer(data), source, self._clock.now)
        while (connection := self._listener.accept()) is not None:
            connection.user = _Asked(connection, self._clock)
            connection.user.handle_event()


class _Asked:
    def __init__(self, connection: Any, clock: VirtualClock) -> None:
        self._connection, self._clock = connection, clock
        self._data = b""

    def handle_event(self) -> None:
        self._data += b"".join(self._connection.receive())
        if len(self._data) > 2 and len(self._data) >= 2 + int.from_bytes(self._data[:2], "big"):
            reply = RECORDS.answer(self._data[2:], is_stream=True)
            self._connection.send(len(reply).to_bytes(2, "big") + reply)
            self._data = b""
        if self._connection.is_at_end:
            self._connection.close(self._clock.now)


class Net:
    """A resolver on the left, a server on the right."""

    def __init__(self, *servers: bytes, faults: Faults | None = None, seed: int = 0) -> None:
        self.wire = Wire(make_host(1), make_host(2), faults=faults or Faults(latency_ns=10 * MS), seed=seed)
        self.serving = Serving(self.wire.right, self.wire.clock)
        self.servers = [Endpoint(address, 53) for address in servers or (v6(2),)]

    def run(self, work: Callable[[ServerResolver], Awaitable[object]]) -> None:
        """Run some work, and see that no socket is left."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            driver = SimpleNamespace(
                host=self.wire.left,
                users=set(),
                clock=lambda: self.wire.now,
                wake=lambda: loop.call_soon(self.wire.flush),
                run=self.wire.flush,
            )
            names = Names(lambda name: (BOB,) if name == "bob" else ())
            resolver = ServerResolver(names, self.servers, StackBackend(cast("Any", driver)))
            await work(resolver)
            resolver.close()
            assert not resolver._sockets
            assert self.wire.left.udp._count == 0

        with asyncio.Runner(loop_factory=lambda: VirtualLoop(self.wire.clock)) as runner:
            runner.run(main())

    def error(self, host: str, family: int = socket.AF_UNSPEC) -> tuple[int, int]:
        """The code with which a look-up fails, and how long it took, ms."""
        start, code = self.wire.now, 0

        async def work(resolver: ServerResolver) -> None:
            nonlocal code
            with pytest.raises(socket.gaierror) as caught:
                await resolver.resolve(host, family)
            code = caught.value.errno or 0

        self.run(work)
        return code, (self.wire.now - start) // MS


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.mark.parametrize("server", [v4(2), v6(2)])
def test_addresses_come_from_a_server_over_the_stack(server: bytes) -> None:
    net = Net(server)

    async def work(resolver: ServerResolver) -> None:
        assert await resolver.resolve("www.example") == [A6, A4]
        assert await resolver.resolve("a.example", socket.AF_INET) == [A4]
        assert await resolver.resolve("a.example", socket.AF_INET6) == [A6]
        assert await resolver.resolve("only4.example") == [bytes([192, 0, 2, 4])]

    net.run(work)


def test_what_was_found_is_not_asked_again(net: Net) -> None:
    async def work(resolver: ServerResolver) -> None:
        for _ in range(3):
            assert await resolver.resolve("a.example") == [A6, A4]
        assert net.serving.asked == 2

    net.run(work)


def test_answer_that_is_too_long_for_a_datagram_comes_by_tcp(net: Net) -> None:
    async def work(resolver: ServerResolver) -> None:
        assert len(await resolver.resolve("many.example", socket.AF_INET)) == 64

    net.run(work)


def test_each_question_leaves_from_a_port_of_its_own(net: Net) -> None:
    async def work(resolver: ServerResolver) -> None:
        for _ in range(20):
            await resolver.resolve("brief.example", socket.AF_INET)

    net.run(work)
    asked = [packet for packet, *_ in net.wire.to_right.sent if packet[6] == UDP]
    assert len(asked) == 20
    assert len({packet[40:42] for packet in asked}) > 15
    assert len({packet[48:50] for packet in asked}) > 15


def test_callers_who_want_the_same_share_a_question_and_may_leave(net: Net) -> None:
    async def work(resolver: ServerResolver) -> None:
        tasks = [asyncio.ensure_future(resolver.resolve("a.example", socket.AF_INET)) for _ in range(10)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert await asyncio.gather(*tasks[1:]) == [[A4]] * 9
        assert tasks[0].cancelled()
        assert net.serving.asked == 1

    net.run(work)


def test_names_and_families_that_have_no_address(net: Net) -> None:
    assert Net().error("nothing.example")[0] == socket.EAI_NONAME
    assert Net().error("no host name")[0] == socket.EAI_NONAME
    assert Net().error("only4.example", socket.AF_INET6)[0] == NO_DATA
    assert Net().error("a.example", socket.AF_UNIX)[0] == socket.EAI_FAMILY


def test_no_server_is_asked_for_names_of_the_network(net: Net) -> None:
    async def work(resolver: ServerResolver) -> None:
        assert await resolver.resolve("bob.weft") == [BOB]
        assert await resolver.resolve("192.0.2.7") == [bytes([192, 0, 2, 7])]
        for host, family, code in (
            ("alice.weft", socket.AF_UNSPEC, socket.EAI_NONAME),
            ("bob.weft", socket.AF_INET, NO_DATA),
        ):
            with pytest.raises(socket.gaierror) as caught:
                await resolver.resolve(host, family)
            assert caught.value.errno == code

    net.run(work)
    assert not net.wire.to_right.sent


def test_host_without_a_server_says_so_at_once() -> None:
    net = Net()
    net.serving._datagrams.close()
    code, took = net.error("a.example")
    assert code == socket.EAI_AGAIN
    assert took < 200


def test_server_without_route_is_passed_over() -> None:
    net = Net(bytes([203, 0, 113, 1]), v4(2))

    async def work(resolver: ServerResolver) -> None:
        assert await resolver.resolve("a.example", socket.AF_INET) == [A4]

    net.run(work)


def test_network_that_loses_everything_is_given_up() -> None:
    assert Net(faults=Faults(loss=1)).error("a.example") == (socket.EAI_AGAIN, 7000)


@pytest.mark.parametrize("listens", [True, False])
def test_truncated_answers_without_tcp_fail(listens: bool) -> None:
    net = Net()
    if listens:
        net.wire.to_right.loses = lambda packet: packet[6] != UDP
    else:
        net.serving._listener.close(net.wire.now)
    assert net.error("many.example", socket.AF_INET)[0] == socket.EAI_AGAIN


def test_closing_tells_those_who_wait(net: Net) -> None:
    async def work(resolver: ServerResolver) -> None:
        task = asyncio.ensure_future(resolver.resolve("a.example"))
        await asyncio.sleep(0.001)
        resolver.close()
        with pytest.raises(socket.gaierror, match="Temporary"):
            await task

    net.run(work)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.4), st.floats(0, 0.3), st.sampled_from(["a.example", "many.example"]))
def test_whatever_the_network_does_an_answer_is_right_or_there_is_none(
    seed: int, loss: float, duplicate: float, name: str
) -> None:
    faults = Faults(latency_ns=30 * MS, loss=loss, duplication=duplicate, reordering=0.2)
    net = Net(v6(2), v4(2), faults=faults, seed=seed)

    async def work(resolver: ServerResolver) -> None:
        try:
            addresses = await resolver.resolve(name, socket.AF_INET)
        except socket.gaierror as error:
            addresses = []
            assert error.errno == socket.EAI_AGAIN  # noqa: PT017 - it may fail, but not otherwise
        assert not addresses or len(addresses) == (1 if name == "a.example" else 64)

    net.run(work)


async def test_system_is_asked_for_what_the_network_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def getaddrinfo(host: str, port: object, **arguments: object) -> list[object]:
        asked.append((host, port, arguments["family"]))
        return [(2, 1, 6, "", ("192.0.2.1", 0)), (10, 1, 6, "", ("fc00::1", 0, 0, 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    resolver = SystemResolver(Names(lambda name: (BOB,) if name == "bob" else ()))
    assert await resolver.resolve("bob.weft") == [BOB]
    with pytest.raises(socket.gaierror):
        await resolver.resolve("alice.weft")
    assert asked == []
    assert await resolver.resolve("example.com", socket.AF_UNSPEC) == [A4, A6]
    assert asked == [("example.com", None, socket.AF_UNSPEC)]


@pytest.mark.parametrize("host", ["x" * 64 + ".example", "a\0b", "\udcff.example", "a..b"])
async def test_system_refuses_what_is_no_name(host: str) -> None:
    with pytest.raises(socket.gaierror):
        await SystemResolver(Names()).resolve(host)


def test_dnspython_is_not_imported_unless_servers_are_asked() -> None:
    program = "import sys, weft.engine.resolver; raise SystemExit('dns' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
