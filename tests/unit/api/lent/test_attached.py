"""A program that uses the network by a daemon with the stack."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.unit.api.node.conftest import LISTEN
from tests.unit.api.node.test_node import answer_to, echo, until
from tests.unit.api.streams.certificates import client_context, server_context
from weft.api.attached import AttachedNode
from weft.api.client import NoDaemon
from weft.api.lent.lender import Lender
from weft.errors import UsageError

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected(one: Any, other: Any, host: Any = None, port: int = 80) -> tuple[Pair, Pair]:
    """The two ends of a connection."""
    accepted: asyncio.Queue[Pair] = asyncio.Queue()
    server = await other.start_server(lambda *pair: accepted.put_nowait(pair), port=port)
    ours = await one.open_connection(host or other, port)
    theirs = await asyncio.wait_for(accepted.get(), 10)
    server.close()
    return ours, theirs


async def fill(writer: asyncio.StreamWriter) -> int:
    """Write until nobody takes anything for half a second; how many bytes that were."""
    chunk, written = bytes(65_536), 0
    while True:
        writer.write(chunk)
        written += len(chunk)
        try:
            await asyncio.wait_for(writer.drain(), 0.5)
        except TimeoutError:
            return written


def sockets_of(daemon: weft.Node) -> int:
    """How many sockets its host has."""
    driver = daemon._engine.driver
    assert driver is not None
    return len(driver.host.tcp.connections) + len(driver.host.tcp.listeners) + len(driver.host.udp.sockets)


async def test_it_is_who_the_daemon_is(daemon: weft.Node, attached: AttachedNode, bob: weft.Node) -> None:
    assert attached.identity == daemon.identity
    assert attached.address == daemon.address
    assert attached.multiaddrs == daemon.multiaddrs
    assert [peer.name for peer in attached.peers] == ["bob"]
    assert (await attached.status()).info.id == str(daemon.identity)
    assert (await attached.ping("bob")).address == str(bob.address)
    assert str(daemon.identity) in repr(attached)


@pytest.mark.parametrize("kind", ["name", "weft", "address", "id", "status"])
async def test_peers_are_reached_by_whatever_names_them(attached: AttachedNode, bob: weft.Node, kind: str) -> None:
    await bob.start_server(echo, port=7)
    status = attached.peers[0]
    names = {"name": "Bob", "weft": "bob.weft", "address": bob.address, "id": str(bob.identity), "status": status}
    assert await answer_to(attached, names[kind]) == b"is anybody there?"


async def test_both_sides_know_who_they_talk_to(attached: AttachedNode, bob: weft.Node) -> None:
    (_, ours), (_, theirs) = await connected(attached, bob)
    assert ours.get_extra_info("peername") == theirs.get_extra_info("sockname")
    assert ours.get_extra_info("sockname") == theirs.get_extra_info("peername")
    assert ours.get_extra_info("peer").name == "bob"
    assert theirs.get_extra_info("peer").addresses == [str(attached.address)]
    ours.close()
    theirs.close()


async def test_others_reach_what_it_listens_on(daemon: weft.Node, attached: AttachedNode, bob: weft.Node) -> None:
    server = await attached.start_server(echo, port=9)
    assert server.sockets[0].getsockname()[:2] == ("::", 9)
    assert await answer_to(bob, daemon, 9) == b"is anybody there?"
    assert await answer_to(attached, attached, 9) == b"is anybody there?"
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await bob.open_connection(daemon, 9)


async def test_what_can_not_be_is_told_as_the_system_tells_it(attached: AttachedNode, bob: weft.Node) -> None:
    with pytest.raises(ConnectionRefusedError):
        await attached.open_connection(bob, 81)
    for host, number in (("10.1.2.3", errno.ENETUNREACH), ("fc99::1", errno.EHOSTUNREACH)):
        with pytest.raises(OSError, match=r".") as raised:
            await attached.open_connection(host, 80)
        assert raised.value.errno == number
    with pytest.raises(socket.gaierror):
        await attached.open_connection("nobody.weft", 80)
    first = await attached.start_server(echo, port=9)
    with pytest.raises(OSError, match=r".") as raised:
        await attached.start_server(echo, port=9)
    assert raised.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match=r".") as raised:
        await attached.start_server(echo, "fc99::1", 10)
    assert raised.value.errno == errno.EADDRNOTAVAIL
    first.close()


async def test_each_direction_ends_by_itself(attached: AttachedNode, bob: weft.Node) -> None:
    for one, other, host in ((attached, bob, None), (bob, attached, attached.address)):
        (reader, writer), (their_reader, their_writer) = await connected(one, other, host)
        writer.write(b"a question")
        writer.write_eof()
        assert await their_reader.read() == b"a question"
        their_writer.write(b"an answer")
        await their_writer.drain()
        assert await reader.readexactly(9) == b"an answer"
        their_writer.write(b", and more")
        their_writer.close()
        assert await reader.read() == b", and more"
        writer.close()
        await writer.wait_closed()


async def test_bulk_is_carried_unharmed_both_ways(attached: AttachedNode, bob: weft.Node) -> None:
    data = os.urandom(1 << 20) * 6
    await bob.start_server(echo, port=7)
    await attached.start_server(echo, port=8)
    for one, host, port in ((attached, "bob", 7), (bob, attached.address, 8)):
        reader, writer = await one.open_connection(host, port)

        async def write(writer: asyncio.StreamWriter = writer) -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        came, _ = await asyncio.gather(reader.read(), write())
        assert came == data
        writer.close()


@pytest.mark.parametrize("direction", ["to the network", "from the network"])
async def test_who_does_not_read_stops_who_writes(attached: AttachedNode, bob: weft.Node, direction: str) -> None:
    (our_reader, ours), (their_reader, theirs) = await connected(attached, bob)
    writer, reader = (ours, their_reader) if direction == "to the network" else (theirs, our_reader)
    written = await fill(writer)
    # What the two ends, the stack and the pair between them hold, and no more.
    assert written < 16 << 20
    writer.write_eof()
    assert len(await asyncio.wait_for(reader.read(), 30)) == written
    ours.close()
    theirs.close()


async def test_reset_of_the_other_side_reaches_the_program(attached: AttachedNode, bob: weft.Node) -> None:
    (reader, writer), (_, theirs) = await connected(attached, bob)
    theirs.write(b"before it")
    await theirs.drain()
    assert await reader.readexactly(9) == b"before it"
    connection = theirs.transport._connection  # type: ignore[attr-defined]
    connection.abort(0)
    bob._engine.driver.wake()  # type: ignore[union-attr]
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 10)
    writer.close()
    with contextlib.suppress(ConnectionResetError):
        await writer.wait_closed()


async def test_abort_of_the_program_reaches_the_other_side(attached: AttachedNode, bob: weft.Node) -> None:
    (_, writer), (their_reader, theirs) = await connected(attached, bob)
    # As long as something has not left, the other side must not take a part for the whole.
    await fill(writer)
    writer.transport.abort()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(their_reader.read(), 30)
    theirs.close()


async def test_tls_goes_over_it(attached: AttachedNode, bob: weft.Node) -> None:
    await bob.start_server(echo, port=443, ssl=server_context("bob"))
    reader, writer = await attached.open_connection("bob", 443, ssl=client_context())
    writer.write(b"in private")
    assert await reader.readexactly(10) == b"in private"
    writer.close()
    await writer.wait_closed()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)


async def test_datagrams_pass_and_are_refused(attached: AttachedNode, bob: weft.Node) -> None:
    there, server = await bob.create_datagram_endpoint(Datagrams, local_addr=(bob, 53))
    here, client = await attached.create_datagram_endpoint(Datagrams, remote_addr=("bob", 53))
    assert isinstance(server, Datagrams)
    assert isinstance(client, Datagrams)
    for data in (b"a question", b"", bytes(5000)):
        here.sendto(data)
        came, source = await asyncio.wait_for(server.received.get(), 10)
        assert (came, source[0]) == (data, str(attached.address))
        there.sendto(data[::-1], source)
        came, source = await asyncio.wait_for(client.received.get(), 10)
        assert (came, source[:2]) == (data[::-1], (str(bob.address), 53))
    there.close()
    await asyncio.sleep(0.05)
    here.sendto(b"is anybody there?")
    assert isinstance(await asyncio.wait_for(client.errors.get(), 10), ConnectionRefusedError)
    here.sendto(bytes(65_528))
    assert (await asyncio.wait_for(client.errors.get(), 10)).errno == errno.EMSGSIZE  # type: ignore[attr-defined]
    here.close()


async def test_what_a_program_leaves_open_ends_with_it(daemon: weft.Node, bob: weft.Node, tmp_path: Path) -> None:
    async with weft.Node.attach(tmp_path / "api.sock") as program:
        (reader, _), (their_reader, theirs) = await connected(program, bob)
        await program.start_server(echo, port=9)
        await program.create_datagram_endpoint(Datagrams, local_addr=(program, 53))
        assert sockets_of(daemon) == 3
    with pytest.raises(ConnectionAbortedError):
        await reader.read()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(their_reader.read(), 10)
    await until(lambda: sockets_of(daemon) == 0)
    with pytest.raises(ConnectionRefusedError):
        await bob.open_connection(daemon, 9)
    theirs.close()


@pytest.mark.parametrize("is_last", [False, True])
async def test_what_a_program_has_closed_goes_its_way_without_it(
    daemon: weft.Node, bob: weft.Node, tmp_path: Path, is_last: bool
) -> None:
    async with weft.Node.attach(tmp_path / "api.sock") as program:
        (reader, ours), (their_reader, theirs) = await connected(program, bob)
        if is_last:
            theirs.write_eof()
            assert await reader.read() == b""
        written = await fill(ours)
        ours.close()
        # Room for what the program has still, but not for what the daemon has.
        came = len(await their_reader.readexactly(1_400_000))
        await asyncio.wait_for(ours.wait_closed(), 10)
    came += len(await asyncio.wait_for(their_reader.read(), 10))
    assert came == written
    theirs.close()
    await until(lambda: sockets_of(daemon) == 0)


async def test_sockets_are_closed_one_by_one(daemon: weft.Node, attached: AttachedNode, bob: weft.Node) -> None:
    await bob.start_server(echo, port=7)
    for _ in range(30):
        assert await answer_to(attached, bob) == b"is anybody there?"
    (_, ours), (_, theirs) = await connected(bob, attached, attached.address, 90)
    ours.close()
    theirs.close()
    transport, _ = await attached.create_datagram_endpoint(Datagrams, local_addr=(attached, 53))
    transport.close()
    await until(lambda: sockets_of(daemon) == 0)
    streams: Any = attached._sockets
    assert streams._ground._borrower._sockets == {}


async def test_daemon_that_goes_ends_what_is_open(attached: AttachedNode, daemon: weft.Node, bob: weft.Node) -> None:
    (reader, writer), _ = await connected(attached, bob)
    await daemon._engine.fc00.stop()
    with pytest.raises((ConnectionAbortedError, ConnectionResetError)):
        await asyncio.wait_for(reader.read(), 10)
    with pytest.raises(OSError, match=r".") as raised:
        await asyncio.wait_for(attached.open_connection("bob", 7), 10)
    assert raised.value.errno == errno.ECONNABORTED
    with pytest.raises(OSError, match=r".") as raised:
        await asyncio.wait_for(attached.start_server(echo, port=7), 10)
    assert raised.value.errno == errno.ECONNABORTED
    writer.close()


async def test_what_a_daemon_leaves_without_a_word_is_not_taken_for_the_whole(
    attached: AttachedNode, daemon: weft.Node, bob: weft.Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lender, "say_end", lambda self, number: None)
    (reader, writer), (_, theirs) = await connected(attached, bob)
    theirs.write(b"a part")
    theirs.write_eof()
    assert await reader.readexactly(6) == b"a part"
    rest = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0.1)
    assert not rest.done()
    await daemon._engine.fc00.stop()
    with pytest.raises(ConnectionAbortedError):
        await asyncio.wait_for(rest, 10)
    writer.close()
    theirs.close()


async def test_attempt_that_is_given_up_leaves_nothing(daemon: weft.Node, attached: AttachedNode) -> None:
    # Nobody has the address, and nobody says so.
    daemon._engine._life.running.handle_unroutable = lambda packet, now: None  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await attached.open_connection("fc99::7", 80)
    await until(lambda: sockets_of(daemon) == 0)


async def test_peers_are_followed(attached: AttachedNode, daemon: weft.Node) -> None:
    async with weft.Node(listen=LISTEN) as carol:
        added = await attached.add_peer(carol.multiaddrs[0], name="carol")
        assert added.id == str(carol.identity)
        await carol.start_server(echo, port=7)
        assert await answer_to(attached, "carol") == b"is anybody there?"
        await daemon.remove_peer("carol")
        await until(lambda: [peer.name for peer in attached.peers] == ["bob"])
        assert (await attached.connect_peer(carol.multiaddrs[0], name="caroline")).state == "up"
        assert {peer.name for peer in attached.peers} == {"bob", "caroline"}
        await attached.remove_peer("caroline")
        assert [peer.name for peer in attached.peers] == ["bob"]


async def test_events_of_the_daemon_are_told(attached: AttachedNode, daemon: weft.Node) -> None:
    events = attached.events("peer-added")
    coming = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.1)
    await daemon.add_peer("12D3KooWC4MkHjdS3uG42bYDPJwRz8muAs4TAACUUqsPANG319MR", name="dave")
    event = await asyncio.wait_for(coming, 10)
    assert "dave" in event.text
    await events.aclose()  # type: ignore[attr-defined]


async def test_two_hundred_connections_are_open_at_once(attached: AttachedNode, bob: weft.Node) -> None:
    await bob.start_server(echo, port=7, backlog=1000)
    pairs = await asyncio.gather(*(attached.open_connection(bob, 7) for _ in range(200)))
    for number, (_, writer) in enumerate(pairs):
        writer.write(b"%3d" % number)
    answers = [await asyncio.wait_for(reader.readexactly(3), 10) for reader, _ in pairs]
    assert answers == [b"%3d" % number for number in range(200)]
    for _, writer in pairs:
        writer.close()


async def test_nobody_to_attach_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoDaemon, match="weft up"):
        async with weft.Node.attach(tmp_path / "nothing.sock"):
            pass
    monkeypatch.setenv("WEFT_SOCKET", str(tmp_path / "elsewhere.sock"))
    with pytest.raises(NoDaemon, match=r"elsewhere\.sock"):
        async with weft.Node.attach():
            pass
    monkeypatch.delenv("WEFT_SOCKET")
    monkeypatch.setenv("WEFT_DIR", str(tmp_path / "home"))
    with pytest.raises(NoDaemon, match=r"home/api\.sock"):
        async with weft.Node.attach():
            pass


async def test_daemon_without_an_interface_is_told(daemon: weft.Node, tmp_path: Path) -> None:
    await daemon._engine.fc00.stop()
    with pytest.raises(UsageError, match="weft fc00 start"):
        async with weft.Node.attach(tmp_path / "api.sock"):
            pass


@pytest.mark.parametrize(
    "use", [lambda node: node.identity, lambda node: node.multiaddrs, lambda node: node.events("peer-up")]
)
async def test_it_is_attached_inside_its_block_only(tmp_path: Path, use: Callable[[AttachedNode], object]) -> None:
    node = weft.Node.attach(tmp_path / "api.sock")
    with pytest.raises(UsageError, match="async with"):
        use(node)
    with pytest.raises(UsageError, match="async with"):
        await node.open_connection("bob", 80)
