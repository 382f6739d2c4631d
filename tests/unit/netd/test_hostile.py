"""Clients that send garbage, flood, stall, or die; and many of them. Others do not notice, and nothing grows."""

from __future__ import annotations

import asyncio
import struct
from contextlib import AsyncExitStack
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.api.streams.joined import Node, joined
from tests.unit.netd.served import FakeNetwork, Served, on_kernel, raw
from weft import netd
from weft.engine.stack_backend import StackBackend
from weft.netd import messages, questions, server, session, sockets
from weft.netd.frames import Frames, decode_reply, encode_request
from weft.netd.layout import NOWHERE
from weft.netd.messages import FOREVER, WAIT, Code, Ready, code_of_reply
from weft.netd.questions import Lookup
from weft.netd.room import Room
from weft.netd.session import Session
from weft.netd.status import Status
from weft.stack.endpoint import Endpoint

NUMBERS = st.integers(0, 5) | st.integers(0, 2**32 - 1)


def words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def some_address() -> st.SearchStrategy[bytes]:
    ours = st.sampled_from((bytes.fromhex("fc" + "00" * 14 + "01"), bytes((10, 7, 0, 1)).ljust(16, b"\0"), bytes(16)))
    family = st.sampled_from((0, 2, 10, 10, 7))
    port = st.sampled_from((0, 80, 81)) | st.integers(0, 65_535)
    return st.builds(lambda a, b, c: struct.pack("<HH", a, b) + c, family, port, ours | st.binary(max_size=16))


BODIES = st.one_of(
    st.binary(max_size=60),
    st.lists(NUMBERS, max_size=6).map(lambda numbers: words(*numbers)),
    st.builds(lambda numbers, place, rest: words(*numbers) + place + rest, st.lists(NUMBERS, min_size=1, max_size=2),
              some_address(), st.binary(max_size=8)),
    st.sampled_from((bytes.fromhex("0000010000000000"), bytes.fromhex("0000020000000000"))),
)  # fmt: skip
REQUESTS = st.builds(encode_request, st.sampled_from([int(code) for code in Code]) | NUMBERS, NUMBERS, BODIES)
SAID = st.lists(REQUESTS | st.binary(max_size=20), max_size=20).map(b"".join)


@given(said=SAID, pieces=st.integers(1, 40))
@settings(deadline=None)
def test_any_bytes_are_answered_or_end_it(said: bytes, pieces: int) -> None:
    async def run() -> None:
        async with joined() as (left, _):
            room = Room()
            one = Session(FakeNetwork(StackBackend(left.driver), left), room, left.driver.clock, lambda: None)
            frames, answered = Frames(), []
            for at in range(0, len(said), pieces):
                one.receive(said[at : at + pieces])
                await asyncio.sleep(0)
                for lookup in list(one.questions.lookups):
                    one.questions.lookups.remove(lookup)
                    one.questions.handle_resolved(lookup, [], Status.NO_NAME)
                frames.feed(b"".join(one.take_output()))
                answered += [(code, decode_reply(rest)[0]) for code, _, rest in frames]
            known = {code_of_reply(code) for code in Code} | {messages.EVENT}
            assert {code for code, _ in answered} <= known
            assert {status for _, status in answered} <= {*Status}
            one.close()
            assert room.__dict__ == Room().__dict__
            assert left.host.tcp.listeners == []
            assert left.host.udp.sockets == []

    asyncio.run(run())


@on_kernel
async def test_any_bytes_leave_no_socket_of_the_kernel(served: Served) -> None:
    @given(said=SAID)
    @settings(deadline=None)
    def say(said: bytes) -> None:
        room = Room()
        one = Session(served.network, room, served.backend.clock, lambda: None)
        one.receive(said)
        frames = Frames()
        frames.feed(b"".join(one.take_output()))
        assert {decode_reply(rest)[0] for _, _, rest in frames} <= {*Status}
        one.close()
        assert room.__dict__ == Room().__dict__
        assert served.backend.counts()[5:] == (0, 0, 0)

    say()


async def test_garbage_is_told_and_let_go(served: Served, client: netd.Client) -> None:
    async with raw(served) as bad:
        bad.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await bad.hear() == (0x80, 0, Status.INVALID, b"")
        assert await bad.is_let_go()
    async with raw(served) as bad:
        bad.writer.write(encode_request(99, 5, b"") + encode_request(Code.CLOSE, 6, b"x"))
        assert await bad.hear() == (0x80, 5, Status.NOT_SUPPORTED, b"")
        assert await bad.hear() == (0x88, 6, Status.INVALID, b"")
    assert (await client.stats()).own_sockets == 0


async def test_slow_calls_hold_nothing_up(served: Served, client: netd.Client) -> None:
    """The seed stood still for all while one client connected, looked up a name or waited for a ping."""
    served.network.hang = asyncio.Event()
    served.left.is_cut = True
    socket, listener = await client.socket(), await client.socket()
    await listener.listen()
    slow: list[Any] = [
        asyncio.create_task(waiting)
        for waiting in (
            client.resolve("right"),
            socket.connect(served.right.ipv6, 80),
            client.ping(served.right.ipv6),
            listener.accept(),
            client.poll({listener: Ready.READABLE}),
        )
    ]
    await asyncio.sleep(0.01)
    assert (await asyncio.wait_for(client.stats(), 1)).waiting == 5
    async with netd.Client(served.path) as other:
        assert (await asyncio.wait_for(other.stats(), 1)).waiting == 0
    assert not any(each.done() for each in slow)
    client.close()
    assert {type(each) for each in await asyncio.gather(*slow, return_exceptions=True)} == {ConnectionResetError}


async def test_client_that_dies_leaves_nothing(served: Served) -> None:
    async with raw(served) as dying:
        await dying.ask(Code.SOCKET_CREATE, messages.Create(0, 1, 0))
        port = (await dying.ask(Code.LISTEN, messages.Listen(1, 8))).local.port
        reader, writer = await served.right.streams.open_connection(served.left.ipv6, port)
        accepted = await dying.ask(Code.ACCEPT, messages.Accept(1, WAIT))
        await dying.ask(Code.SOCKET_CREATE, messages.Create(0, 2, 0))
        await dying.ask(Code.BIND, messages.Bind(3, NOWHERE))
        dying.say(Code.POLL, 9, messages.Poll(0, FOREVER, (messages.Wanted(1, 1),)))
        dying.say(Code.SEND, 9, messages.Send(accepted.socket, WAIT, NOWHERE, b"last words"))
        dying.writer.write(b"\xff\xff")
        await dying.writer.drain()
        await asyncio.sleep(0.01)
        dying.writer.transport.abort()
    assert await reader.read() == b"last words"
    assert (served.backend.counts().listeners, served.backend.counts().datagrams) == (0, 0)
    assert not served.server.clients
    assert served.server.room.__dict__ == Room().__dict__
    writer.close()


async def test_client_cannot_name_another_s_socket(served: Served, client: netd.Client) -> None:
    socket = await client.socket("datagram")
    await socket.bind()
    async with raw(served) as other:
        for code, asked in (
            (Code.STATUS, messages.OfSocket(socket.number)),
            (Code.CLOSE, messages.Close(socket.number, 0)),
            (Code.RECV, messages.Receive(socket.number, 10, 0)),
        ):
            assert await other.ask(code, asked) == Status.INVALID_HANDLE
    assert (await socket.status()).local.port


async def test_flood_of_requests_does_not_keep_others_waiting(served: Served, client: netd.Client) -> None:
    async with raw(served) as flooding:
        flood = encode_request(Code.INFO, 1, b"") * 50_000

        async def say() -> None:
            flooding.writer.write(flood)
            await flooding.writer.drain()

        saying = asyncio.create_task(say())
        loop, waits = asyncio.get_running_loop(), []
        for _ in range(20):
            begin = loop.time()
            await client.stats()
            waits.append(loop.time() - begin)
        assert sorted(waits)[10] < 0.5
        held: list[Session] = []
        for _ in range(500):
            await asyncio.sleep(0.01)
            held = [each.session for each in served.server.clients if each.session.is_held]
            if held:
                break
        (one,) = held
        assert one._output_bytes <= session.MAX_OUTPUT_BYTES
        assert one.frames.size < 1 << 20
        saying.cancel()
        # It would wait for the daemon otherwise, which waits for it.
        flooding.writer.transport.abort()


async def test_client_that_does_not_read_gets_all_once_it_does(served: Served, client: netd.Client) -> None:
    listener = await client.socket()
    port = (await listener.listen()).port
    _, writer = await served.right.streams.open_connection(served.left.ipv6, port)
    assert client._transport is not None
    socket = await listener.accept()
    client._transport.pause_reading()
    whole = Random(1).randbytes(24 << 20)
    writer.write(whole)
    asks = [asyncio.create_task(socket.receive(1 << 19)) for _ in range(40)]
    await asyncio.sleep(0.3)
    (conversation,) = served.server.clients
    kept = conversation.session._output_bytes + conversation._transport.get_write_buffer_size()
    assert kept < 4 << 20
    assert writer.transport.get_write_buffer_size()
    client._transport.resume_reading()
    writer.close()
    parts = await asyncio.gather(*asks)
    parts.append(await socket.receive_all())
    assert b"".join(parts) == whole


async def test_thousand_sockets_of_one_client(served: Served, client: netd.Client) -> None:
    listener = await client.socket()
    port = (await listener.listen(1024)).port
    ends = [await served.right.streams.open_connection(served.left.ipv6, port) for _ in range(500)]
    sockets = [await listener.accept() for _ in ends]
    more = await asyncio.gather(*(client.socket() for _ in range(499)))
    assert (await client.stats()).own_sockets == 1000
    for number, (_, writer) in enumerate(ends):
        writer.write(b"%d" % number)
    heard = await asyncio.gather(*(socket.receive() for socket in sockets))
    assert sorted(map(int, heard)) == list(range(500))
    await asyncio.gather(*(socket.close() for socket in (*sockets, *more)))
    assert (await client.stats()).own_sockets == 1
    assert all(await asyncio.gather(*(reader.read() for reader, _ in ends))) is False
    for _, writer in ends:
        writer.close()


async def test_sockets_of_a_client_have_a_bound(
    served: Served, client: netd.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "MAX_SOCKETS", 3)
    listener = await client.socket()
    port = (await listener.listen()).port
    first, _ = await client.socket(), await client.socket()
    with pytest.raises(netd.NetdError) as caught:
        await client.socket()
    assert caught.value.status is Status.NO_RESOURCE
    _, writer = await served.right.streams.open_connection(served.left.ipv6, port)
    with pytest.raises(netd.NetdError):
        await listener.accept()
    await first.close()
    assert (await listener.accept()).number == 4
    served.server.room.sockets = 0
    async with netd.Client(served.path) as other:
        with pytest.raises(netd.NetdError):
            await other.socket()
    served.server.room.sockets = 1
    writer.close()


@pytest.mark.parametrize(
    ("bound", "code", "asked"),
    [
        ("MAX_WAITING", Code.RECV, messages.Receive(1, 10, WAIT)),
        ("MAX_LOOKUPS", Code.DNS_RESOLVE, messages.Resolve(0, 0, b"right")),
        ("MAX_PINGS", Code.PING, messages.Ping(Endpoint(bytes.fromhex("fc" + "00" * 14 + "02"), 0), 60_000)),
    ],
)
async def test_what_waits_has_a_bound(
    served: Served, monkeypatch: pytest.MonkeyPatch, bound: str, code: Code, asked: Any
) -> None:
    served.network.hang = asyncio.Event()
    served.left.is_cut = True
    monkeypatch.setattr(session if bound == "MAX_WAITING" else questions, bound, 3)
    async with raw(served) as one:
        await one.ask(Code.SOCKET_CREATE, messages.Create(0, 2, 0))
        await one.ask(Code.BIND, messages.Bind(1, NOWHERE))
        for request in range(4):
            one.say(code, request, asked)
        assert await one.hear() == (code_of_reply(code), 3, Status.NO_RESOURCE, b"")
        (conversation,) = served.server.clients
        assert conversation.session.waiting == 3


async def test_polls_have_a_bound_and_leave_no_timers(served: Served) -> None:
    async with raw(served) as one:
        await one.ask(Code.SOCKET_CREATE, messages.Create(0, 1, 0))
        rows = (messages.Wanted(1, 0),)
        assert await one.ask(Code.POLL, messages.Poll(0, 0, rows * 4097)) == Status.INVALID
        await one.ask(Code.BIND, messages.Bind(1, NOWHERE))
        # Each waits for an hour, and is answered at once by the end of its socket.
        for number in range(2, 6002):
            one.say(Code.SOCKET_CREATE, 2, messages.Create(0, 1, 0))
            one.say(Code.POLL, 3, messages.Poll(0, 3_600_000, (messages.Wanted(number, 0),)))
            one.say(Code.CLOSE, 4, messages.Close(number, 0))
            if number % 50 == 1:
                await one.writer.drain()
                assert {(await one.hear())[2] for _ in range(150)} == {Status.OK}
        (conversation,) = served.server.clients
        assert len(conversation.session.polling._timers) < 5000
        assert conversation.session.waiting == 0


async def test_data_that_waits_has_a_bound(served: Served, client: netd.Client) -> None:
    listener = await client.socket()
    port = (await listener.listen()).port
    _, writer = await served.right.streams.open_connection(served.left.ipv6, port)
    writer.transport.pause_reading()
    socket = await listener.accept()
    sends = [asyncio.create_task(socket.send(bytes(1_000_000))) for _ in range(24)]
    refused = await asyncio.gather(*sends[-4:], return_exceptions=True)
    assert {getattr(each, "status", None) for each in refused} == {Status.NO_RESOURCE}
    await socket.close()
    ended = await asyncio.gather(*sends, return_exceptions=True)
    assert {each.status for each in ended if isinstance(each, netd.NetdError)} == {Status.ABORTED, Status.NO_RESOURCE}
    assert served.server.room.reserved_bytes == Room().reserved_bytes
    writer.transport.abort()


async def test_clients_have_a_bound(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CLIENTS", 5)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(netd.Client(served.path)) for _ in range(5)]
        for each in clients:
            await each.stats()
        for _ in range(30):
            async with raw(served) as other:
                assert await other.hear() == (0x80, 0, Status.NO_RESOURCE, b"")
                assert await other.is_let_go()
        clients[0].close()
        await asyncio.sleep(0.01)
        await (await stack.enter_async_context(netd.Client(served.path))).stats()


async def test_fault_of_the_daemon_costs_one_client(
    served: Served, client: netd.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with netd.Client(served.path) as other:
        await other.stats()
        stats = session._SERVED[Code.STATS]
        monkeypatch.setitem(session._SERVED, Code.STATS, stats._replace(verb=lambda *_: 1 / 0))
        with pytest.raises(ConnectionResetError):
            await client.stats()
        assert "a client of netd is let go" in caplog.text
        await other.info()


def test_lookup_that_gives_only_the_other_family_is_no_name() -> None:
    async def run() -> None:
        async with joined() as (left, _):
            one = Session(FakeNetwork(StackBackend(Node(7).driver), left), Room(), left.driver.clock, lambda: None)
            one.receive(encode_request(Code.DNS_RESOLVE, 4, struct.pack("<HH", 2, 0) + b"name"))
            assert one.questions.lookups == one.questions.lookups.__class__([Lookup(4, "name", 4)])
            one.questions.handle_resolved(one.questions.lookups.popleft(), [bytes(16)])
            assert b"".join(one.take_output()) == words(12, 0xA0, 4) + struct.pack("<i", Status.NO_NAME)

    asyncio.run(run())


class TestTurn:
    """What one client has done before others get their turn: each part has a bound, and the rest of it waits."""

    UNKNOWN = encode_request(99, 1, b"")
    ANSWER = words(12, 0x80, 1) + struct.pack("<i", Status.NOT_SUPPORTED)

    @pytest.fixture
    def one(self) -> Session:
        return Session(SimpleNamespace(backend=None), Room(), lambda: 0, lambda: None)  # type: ignore[arg-type]

    def test_requests(self, one: Session) -> None:
        assert one.receive(self.UNKNOWN * (2 * session.REQUESTS_IN_A_TURN + 1)) is True
        assert one.take_output() == [self.ANSWER] * session.REQUESTS_IN_A_TURN
        assert [one.go_on(), one.go_on(), one.go_on()] == [True, False, False]
        assert one.take_output() == [self.ANSWER] * (session.REQUESTS_IN_A_TURN + 1)

    def test_bytes_that_come(self, one: Session) -> None:
        assert one.receive(encode_request(99, 1, bytes(session.BYTES_IN_A_TURN)) + self.UNKNOWN) is True
        assert one.take_output() == [self.ANSWER]
        assert one.go_on() is False
        assert one.take_output() == [self.ANSWER]

    def test_bytes_that_go(self, one: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(session, "MAX_OUTPUT_BYTES", 2 * len(self.ANSWER))
        assert [one.receive(self.UNKNOWN * 3), one.go_on()] == [True, True]
        assert one.take_output() == [self.ANSWER] * 2
        assert one.go_on() is False
        assert one.take_output() == [self.ANSWER]

    def test_what_can_not_be_a_message_is_told_behind_what_came_before(self, one: Session) -> None:
        assert one.receive(self.UNKNOWN + words(0, 1, 1) + self.UNKNOWN) is False
        assert one.is_over
        assert one.take_output() == [self.ANSWER, words(12, 0x80, 0) + struct.pack("<i", Status.INVALID)]
        assert one.go_on() is False
        assert one.take_output() == []
