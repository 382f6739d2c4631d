"""Nodes in one process, over the loopback interface: who they are, whom they know, what passes between them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.unit.api.node.conftest import LISTEN
from tests.unit.engine.pair import identity
from tests.unit.stack.dns.server import Server
from weft.engine.status import PeerStatus
from weft.errors import ConfigError, TransportError, UsageError
from weft.identity import PeerId
from weft.multiaddr import decode_multiaddr


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def answer_to(node: weft.Node, host: Any, port: int = 7) -> bytes:
    """What an echo server says."""
    reader, writer = await node.open_connection(host, port)
    writer.write(b"is anybody there?")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def until(condition: Callable[[], object]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it is not so")


async def test_node_says_who_it_is_and_where_and_nothing_secret(alice: weft.Node) -> None:
    assert isinstance(alice.identity, PeerId)
    assert alice.address == IPv6Address(alice.identity.address)
    (multiaddr,) = alice.multiaddrs
    assert decode_multiaddr(multiaddr).peer_id == alice.identity
    assert decode_multiaddr(multiaddr).endpoint()[0] == "127.0.0.1"
    assert repr(alice) == f"<weft.Node {alice.identity}>"
    status = await alice.status()
    assert (status.info.id, status.info.dir) == (str(alice.identity), "")
    assert (status.interface.device, status.interface.ifname) == ("stack", None)
    assert alice.peers == []


async def test_connected_peer_is_reached_by_whatever_names_it(alice: weft.Node, bob: weft.Node) -> None:
    peer = await alice.connect_peer(bob.multiaddrs[0], name="Bob")
    assert (peer.state, peer.name, peer.id) == ("up", "Bob", str(bob.identity))
    await bob.start_server(echo, port=7)
    names: list[Any] = [
        peer,
        bob,
        bob.identity,
        bob.address,
        str(bob.address),
        str(bob.identity),
        bob.multiaddrs[0],
        f"{bob.identity.to_dns_label()}.weft",
        bob.identity.to_dns_label().upper(),
        "bob",
        "Bob",
        "bob.weft",
        b"bob.weft",
    ]
    for name in names:
        assert await answer_to(alice, name) == b"is anybody there?", name
        infos = await alice.getaddrinfo(name, 7, type=socket.SOCK_STREAM)
        assert infos[0][4][:2] == (str(bob.address), 7)
    for name in (peer, bob, bob.identity, "bob.weft", bob.identity.to_dns_label()):
        assert (await alice.ping(name)).address == str(bob.address)


async def test_other_side_sees_who_calls(alice: weft.Node, bob: weft.Node) -> None:
    seen: list[PeerStatus] = []

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peer"))
        writer.close()

    await bob.start_server(look, port=80)
    await alice.connect_peer(bob.multiaddrs[0])
    reader, writer = await alice.open_connection(bob, 80)
    assert await reader.read() == b""
    writer.close()
    assert seen[0].addresses == [str(alice.address)]
    assert writer.get_extra_info("peername")[0] == str(bob.address)


async def test_what_can_not_be_reached_is_told_as_the_system_tells_it(alice: weft.Node, bob: weft.Node) -> None:
    await alice.connect_peer(bob.multiaddrs[0])
    with pytest.raises(ConnectionRefusedError):
        await alice.open_connection(bob, 81)
    with pytest.raises(OSError, match=r".") as raised:
        await alice.open_connection("10.1.2.3", 80)
    assert raised.value.errno == errno.ENETUNREACH
    with pytest.raises(OSError, match=r".") as raised:
        await alice.open_connection("fc99::1", 80)
    assert raised.value.errno == errno.EHOSTUNREACH
    with pytest.raises(socket.gaierror):
        await alice.open_connection("nobody.weft", 80)


async def test_port_that_is_closed_again_refuses_again(alice: weft.Node, bob: weft.Node) -> None:
    await alice.connect_peer(bob.multiaddrs[0])
    server = await bob.start_server(echo, port=7)
    assert await answer_to(alice, bob)
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await alice.open_connection(bob, 7)


async def test_added_peer_is_called_without_waiting(alice: weft.Node, bob: weft.Node) -> None:
    added = await alice.add_peer(bob.multiaddrs[0], name="bob")
    assert (added.id, added.standing) == (str(bob.identity), "wanted")
    await bob.start_server(echo, port=7)
    assert await answer_to(alice, "bob") == b"is anybody there?"
    assert [peer.name for peer in alice.peers] == ["bob"]
    # It has no other endpoint, and has been called.
    again = await alice.add_peer(bob.identity, name="robert")
    assert again.name == "robert"
    await alice.remove_peer("robert")
    assert alice.peers == []


async def test_peer_without_an_endpoint_calls(alice: weft.Node, bob: weft.Node) -> None:
    await alice.add_peer(str(bob.identity), name="bob")
    await bob.connect_peer(alice.multiaddrs[0])
    await bob.start_server(echo, port=7)
    assert await answer_to(alice, "bob") == b"is anybody there?"


@pytest.mark.parametrize("text", ["/ip4/192.0.2.1/udp/1312", "12D3KooWnonsense", "/nonsense", "bob"])
async def test_peer_that_is_none_is_refused(alice: weft.Node, text: str) -> None:
    with pytest.raises(UsageError):
        await alice.add_peer(text)
    with pytest.raises(UsageError):
        await alice.connect_peer(text)


async def test_events_tell_who_comes(alice: weft.Node, bob: weft.Node) -> None:
    events = bob.events("peer-up")
    coming = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    await alice.connect_peer(bob.multiaddrs[0])
    event = await asyncio.wait_for(coming, 10)
    assert event.kind == "peer-up"
    assert isinstance(events, AsyncIterator)
    await events.aclose()  # type: ignore[attr-defined]


async def test_datagrams_pass(alice: weft.Node, bob: weft.Node) -> None:
    class Protocol(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.received: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.received.put_nowait((data, addr))

    await alice.connect_peer(bob.multiaddrs[0], name="bob")
    there, server = await bob.create_datagram_endpoint(Protocol, local_addr=(bob, 53))
    here, client = await alice.create_datagram_endpoint(Protocol, remote_addr=("bob", 53))
    here.sendto(b"a question")
    data, source = await asyncio.wait_for(server.received.get(), 10)  # type: ignore[attr-defined]
    assert (data, source[0]) == (b"a question", str(alice.address))
    there.sendto(b"an answer", source)
    data, source = await asyncio.wait_for(client.received.get(), 10)  # type: ignore[attr-defined]
    assert (data, source[:2]) == (b"an answer", (str(bob.address), 53))
    here.close()
    there.close()


async def test_bulk_is_carried_unharmed(alice: weft.Node, bob: weft.Node) -> None:
    data = os.urandom(1 << 20) * 4
    await alice.connect_peer(bob.multiaddrs[0])
    await bob.start_server(echo, port=7)
    reader, writer = await alice.open_connection(bob, 7)

    async def write() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    came, _ = await asyncio.gather(reader.read(), write())
    assert came == data
    writer.close()
    await writer.wait_closed()


async def test_connections_outlive_a_session_that_is_built_anew(
    alice: weft.Node, bob: weft.Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weft.engine.lifetime.SESSION_RETRY_S", 0.1)
    await alice.connect_peer(bob.multiaddrs[0])
    await bob.start_server(echo, port=7)
    reader, writer = await alice.open_connection(bob, 7)
    life = alice._engine._life
    assert life.stage is not None
    life.stage.handle_hopeless("peers")
    await until(lambda: life.session is None)
    writer.write(b"meanwhile")
    assert await asyncio.wait_for(reader.readexactly(9), 30) == b"meanwhile"
    assert (await alice.status()).session_restarts == 1
    writer.close()


async def test_other_side_is_told_when_a_node_goes(alice: weft.Node) -> None:
    accepted: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
    await alice.start_server(lambda reader, _: accepted.put_nowait(reader), port=80)
    async with weft.Node(listen=LISTEN) as carol:
        await carol.connect_peer(alice.multiaddrs[0])
        reader, writer = await carol.open_connection(alice, 80)
        writer.write(b"last words")
        theirs = await accepted.get()
        assert await theirs.readexactly(10) == b"last words"
    with pytest.raises(ConnectionAbortedError):
        await reader.read()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(theirs.read(), 10)


async def test_what_was_written_and_closed_before_the_end_arrives(alice: weft.Node) -> None:
    data = bytes(1_000_000)
    came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set_result(await reader.read())
        writer.close()

    await alice.start_server(take, port=80)
    async with weft.Node(listen=LISTEN) as carol:
        await carol.connect_peer(alice.multiaddrs[0])
        _, writer = await carol.open_connection(alice, 80)
        writer.write(data)
        writer.close()
        await writer.wait_closed()
    assert await asyncio.wait_for(came, 10) == data


async def test_servers_in_the_network_know_names_that_the_node_does_not(bob: weft.Node) -> None:
    server = Server(f"www.example. 60 IN AAAA {bob.address}")

    class Serving(asyncio.DatagramProtocol):
        asked = 0

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.asked += 1
            self.transport.sendto(server.answer(data), addr)

    _, serving = await bob.create_datagram_endpoint(Serving, local_addr=(bob, 53))
    await bob.start_server(echo, port=7)
    async with weft.Node(listen=LISTEN, dns=[bob.identity]) as carol:
        await carol.connect_peer(bob.multiaddrs[0], name="bob")
        assert await answer_to(carol, "www.example") == b"is anybody there?"
        with pytest.raises(socket.gaierror):
            await carol.getaddrinfo("nobody.example", 7)
        asked = serving.asked  # type: ignore[attr-defined]
        assert asked
        # Who is asked for below `weft` is nobody's business.
        assert await answer_to(carol, "bob.weft") == b"is anybody there?"
        with pytest.raises(socket.gaierror):
            await carol.getaddrinfo("nobody.weft", 7)
        assert serving.asked == asked  # type: ignore[attr-defined]


async def test_servers_that_can_not_be_asked_are_refused() -> None:
    with pytest.raises(UsageError, match="nobody"):
        async with weft.Node(listen=LISTEN, dns=["nobody"]):
            pass


async def test_secret_of_a_network_keeps_others_out() -> None:
    async with AsyncExitStack() as stack:
        secrets: list[str | bytes | None] = [
            "one sixteen letters",
            b"one sixteen letters",
            "other sixteen letters",
            None,
        ]
        one, same, other, none = [
            await stack.enter_async_context(weft.Node(listen=LISTEN, network_secret=secret)) for secret in secrets
        ]
        assert (await one.connect_peer(same.multiaddrs[0])).state == "up"
        for stranger in (other, none):
            with pytest.raises(TimeoutError):
                await one.connect_peer(stranger.multiaddrs[0], timeout_s=0.5)


async def test_node_that_accepts_known_peers_only_answers_nobody_else(alice: weft.Node) -> None:
    async with weft.Node(listen=LISTEN, accept="known") as carol:
        with pytest.raises(TimeoutError):
            await alice.connect_peer(carol.multiaddrs[0], timeout_s=0.5)
        await carol.add_peer(str(alice.identity))
        assert (await alice.connect_peer(carol.multiaddrs[0])).state == "up"


async def test_further_addresses_are_reached_by_peers_that_route_them(alice: weft.Node) -> None:
    async with weft.Node(listen=LISTEN, addresses=["10.7.0.1/24"]) as carol:
        await alice.connect_peer(carol.multiaddrs[0], name="carol")
        assert (await carol.status()).interface.addresses == ["10.7.0.1/24"]
        await carol.start_server(echo, port=7)
        with pytest.raises(OSError, match=r".") as raised:
            await alice.open_connection("10.7.0.1", 7)
        assert raised.value.errno == errno.ENETUNREACH


async def test_directory_keeps_who_a_node_is_and_whom_it_knows(tmp_path: Path, bob: weft.Node) -> None:
    home = tmp_path / "node"
    async with weft.Node(home, listen=LISTEN) as first:
        identity_before = first.identity
        await first.connect_peer(bob.multiaddrs[0], name="bob")
        with pytest.raises(ConfigError, match="another weft uses this directory"):
            async with weft.Node(home, listen=LISTEN):
                pass
    assert {"key", "weft.toml", "state.json", "lock"} == {path.name for path in home.iterdir()}
    async with weft.Node(str(home), listen=LISTEN) as second:
        assert second.identity == identity_before
        assert [peer.name for peer in second.peers] == ["bob"]
        # At once, and not only when the tunnel repeats what was not answered, after five seconds.
        await asyncio.wait_for(until(lambda: second.peers[0].state == "up"), 4)
        assert (await second.status()).info.dir == str(home)


async def test_identity_may_be_given() -> None:
    async with weft.Node(listen=LISTEN, identity=identity("dave")) as dave:
        assert dave.identity == identity("dave").peer_id
    async with weft.Node(listen=LISTEN) as one, weft.Node(listen=LISTEN) as other:
        assert one.identity != other.identity


async def test_node_runs_inside_its_block_only_and_once_at_a_time() -> None:
    node = weft.Node(listen=LISTEN)
    assert repr(node) == "<weft.Node that does not run>"
    for use in (lambda: node.identity, lambda: node.peers, node.events):
        with pytest.raises(UsageError, match="async with"):
            use()
    with pytest.raises(UsageError, match="async with"):
        await node.open_connection("fc00::1", 80)
    async with node:
        first = node.identity
        with pytest.raises(UsageError, match="runs already"):
            await node.__aenter__()
        assert node.identity == first
    with pytest.raises(UsageError, match="async with"):
        _ = node.identity
    async with node:
        assert node.identity == first


async def test_node_whose_port_is_taken_leaves_nothing_behind(alice: weft.Node) -> None:
    port = decode_multiaddr(alice.multiaddrs[0]).endpoint()[1]
    before = len(asyncio.all_tasks())
    with pytest.raises(TransportError):
        async with weft.Node(listen=[f"/ip4/127.0.0.1/udp/{port}"]):
            pass
    assert len(asyncio.all_tasks()) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"device": "tap"}, "'stack' or 'tun'"),
        ({"listen": ["/ip4/127.0.0.1/tcp/80"]}, "peer.listen"),
        ({"listen": []}, "peer.listen"),
        ({"addresses": ["10.7.0.0/24"]}, "fc00.addresses"),
        ({"addresses": ["fc00::5/8"]}, "fc00.addresses"),
        ({"dir": "x", "network_secret": "sixteen characters"}, "there"),
        ({"dir": "x", "identity": identity("dave")}, "there"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        weft.Node(**arguments)


async def test_secret_that_is_too_short_is_refused() -> None:
    with pytest.raises(UsageError, match="16 characters"):
        async with weft.Node(network_secret="short"):
            pass


async def test_nobody_but_a_node_listens_on_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with weft.Node() as node:
        ports = {decode_multiaddr(each).endpoint()[1] for each in node.multiaddrs}
        assert len(ports) in {1, 2}
        assert 1312 not in ports
        monkeypatch.setattr(node._engine._life.underlay, "addresses", [])
        hosts = {decode_multiaddr(each).endpoint()[0] for each in node.multiaddrs}
        assert hosts <= {"127.0.0.1", "::1"}
        assert "127.0.0.1" in hosts


async def test_ten_nodes_talk_to_each_other() -> None:
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(weft.Node(listen=LISTEN)) for _ in range(10)]
        for node in nodes:
            await node.start_server(echo, port=7)
        for number, node in enumerate(nodes):
            await asyncio.gather(*(node.connect_peer(other.multiaddrs[0]) for other in nodes[:number]))
        answers = await asyncio.gather(*(answer_to(one, other) for one in nodes for other in nodes))
        assert answers == [b"is anybody there?"] * 100
