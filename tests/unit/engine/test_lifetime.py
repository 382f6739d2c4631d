"""Whole nodes on the loopback interface, without a TUN: tasks that die, sessions that are built anew, ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.unit.engine import packets
from tests.unit.engine.nodes import LISTEN, Nodes, Test, multiaddr_of, ping
from tests.unit.engine.pair import FakeTun
from weft.engine import lifetime as lifetime_module
from weft.engine import memory as memory_module
from weft.engine import underlay as underlay_module
from weft.engine import world as world_module
from weft.engine.config import Config
from weft.engine.dial import STEP_S
from weft.engine.lifetime import Lifetime
from weft.engine.readers import read_socket
from weft.engine.stage import MAX_DEATHS
from weft.engine.underlay import Underlay
from weft.errors import ConfigError, TransportError
from weft.io.changes import Change
from weft.io.routes import Route
from weft.multiaddr import decode_multiaddr


def test_each_task_that_is_killed_by_name_comes_back_and_the_tunnel_stays(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await nodes.connect(alice, bob)
        assert await ping(alice, bob)
        assert alice.stage is not None
        names = [task.name for task in alice.stage.tasks()]
        watches = {"network", "clocks", "resolver", "addresses"}
        assert {name.split("/")[0] for name in names} == {"peers", "dial", "udp", "store", "housekeeping", *watches}
        session = alice.running
        for name in names:
            alice.stage.kill(name)
            await asyncio.sleep(1)
            assert await ping(alice, bob), name
            assert await ping(bob, alice), name
        assert [(task.state, task.restarts) for task in alice.stage.tasks()] == [("running", 1)] * len(names)
        assert alice.running is session
        assert alice.session_restarts == 0

    run(test)


def test_packets_that_came_while_their_task_was_dead_are_taken_later(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await nodes.connect(alice, bob)
        assert bob.stage is not None
        tun = FakeTun(None)  # type: ignore[arg-type]
        bob.running.delivery.device = tun  # type: ignore[assignment]
        bob.firewall.allow(memory_module.decode_rule("/udp/0"))
        bob.stage.kill(next(task.name for task in bob.stage.tasks() if task.name.startswith("udp")))
        await asyncio.sleep(0)
        packet = packets.udp(alice.identity.address, bob.identity.address, b"while you were away")
        peer = alice.running.contacts.by_key(bob.identity.noise_public)
        assert peer is not None
        alice.running.transmitter.send_packet(peer, packet, lifetime_module.monotonic_ns())
        await asyncio.sleep(1)
        assert tun.received == [packet]

    run(test)


def test_task_that_can_not_be_helped_gives_a_new_session_with_the_old_peers(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = 0

    async def read_badly(*arguments: Any) -> None:
        nonlocal deaths
        if 0 < deaths <= MAX_DEATHS:
            deaths += 1
            raise OSError("the socket is cursed")
        await read_socket(*arguments)

    async def test(nodes: Nodes) -> None:
        nonlocal deaths
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await nodes.connect(alice, bob)
        assert alice.stage is not None
        old = alice.running
        deaths = 1
        alice.stage.kill(next(task.name for task in alice.stage.tasks() if task.name.startswith("udp")))
        await asyncio.sleep(7)
        assert alice.session is None or alice.session is not old
        await asyncio.sleep(10)
        assert alice.session_restarts == 1
        assert alice.running is not old
        assert len(old.contacts) == 0
        assert await ping(alice, bob)
        assert await ping(bob, alice)

    monkeypatch.setattr(lifetime_module, "read_socket", read_badly)
    run(test)


def test_session_that_can_not_be_built_is_tried_again(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        build = alice._build_session
        failures = 3

        def fail() -> None:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise RuntimeError("not now")
            build()

        monkeypatch.setattr(alice, "_build_session", fail)
        assert alice.stage is not None
        alice.stage.handle_hopeless("peers")
        await asyncio.sleep(60)
        assert alice.running is not None
        assert alice.session_restarts == 1

    run(test)


def test_node_that_has_no_session_for_long_is_not_healthy_until_it_has_one_again(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        assert alice.is_healthy
        with monkeypatch.context() as broken:
            broken.setattr(alice, "_build_session", lambda: 1 / 0)
            assert alice.stage is not None
            alice.stage.handle_hopeless("peers")
            await asyncio.sleep(15)
            assert alice.session is None
            assert alice.is_healthy
            await asyncio.sleep(10)
            assert not alice.is_healthy
        await asyncio.sleep(5)
        assert alice.is_healthy

    run(test)


def test_peers_are_stored_and_called_again_at_the_next_start(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await nodes.connect(alice, bob)
        await alice.stop()
        nodes.running.remove(alice)
        again = await nodes.start("alice")
        await asyncio.sleep(1)
        assert await ping(again, bob)

    run(test)


def test_peer_that_is_not_where_it_was_last_is_found_where_it_was_before(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await nodes.connect(alice, bob)
        peer = alice.running.contacts.by_key(bob.identity.noise_public)
        assert peer is not None
        nowhere = [f"/ip4/127.0.0.{number}/udp/9" for number in range(2, 9)]
        for text in nowhere:
            peer.endpoints.prove(decode_multiaddr(text))
        await alice.stop()
        nodes.running.remove(alice)
        again = await nodes.start("alice")
        await asyncio.sleep(8 * STEP_S)
        assert await ping(again, bob)
        (stored,) = again.running.contacts.stored()
        assert stored.endpoints == [str(multiaddr_of(bob)), *reversed(nowhere)]

    run(test)


def test_change_of_addresses_is_told_to_peers_and_seen_in_what_the_node_says(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[Callable[[Change], Coroutine[Any, Any, None]]] = []

    async def watch(handle_change: Callable[[Change], Coroutine[Any, Any, None]], _: Callable[[str], bool]) -> None:
        changes.append(handle_change)
        await asyncio.get_running_loop().create_future()

    async def addresses() -> list[str]:
        return ["192.0.2.77"]

    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await nodes.connect(alice, bob)
        peer = bob.running.contacts.by_key(alice.identity.noise_public)
        assert peer is not None
        await asyncio.sleep(1)
        before = peer.path.rx_bytes
        monkeypatch.setattr(world_module, "local_addresses", addresses)
        monkeypatch.setattr(Underlay, "route_to", lambda *_: Route(7, b"", b""))
        await changes[0](Change.UNDERLAY)
        await asyncio.sleep(0.1)
        assert peer.path.rx_bytes > before
        assert alice.underlay.addresses == ["192.0.2.77"]

    monkeypatch.setattr(world_module, "watch_changes", watch)
    run(test)


def test_stopping_leaves_no_task_and_gives_directory_and_port_back(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        port = alice.underlay.sockets[0].address[1]
        with pytest.raises(ConfigError, match="alice"):
            Lifetime(nodes.path / "alice", Config())
        await alice.stop()
        nodes.running.clear()
        assert alice.session is None
        assert alice.stage is None
        await nodes.start("alice", f"/ip4/127.0.0.1/udp/{port}")

    run(test)


def test_busy_port_is_told_and_nothing_is_left_open(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        busy = f"/ip4/127.0.0.1/udp/{alice.underlay.sockets[0].address[1]}"
        with pytest.raises(TransportError, match=r"can't listen on UDP 127\.0\.0\.1:\d+: Address already in use") as no:
            await nodes.start("bob", LISTEN, busy)
        other = f"/ip4/127.0.0.1/udp/{alice.underlay.sockets[0].address[1] % 0xFFFF + 1}"
        assert str(no.value).endswith(f"weft --dir DIR config set peer.listen /ip4/127.0.0.1/udp/1,{other}")
        await nodes.start("bob")

    run(test)


def test_machine_without_one_family_listens_on_the_other(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = underlay_module.UdpSocket

    def without_ipv6(host: str, port: int, **options: bool) -> Any:
        if ":" in host:
            raise TransportError("can't listen on UDP [::]:0") from OSError(97, "Address family not supported")
        return make(host, port, **options)

    monkeypatch.setattr(underlay_module, "UdpSocket", without_ipv6)

    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice", "/ip6/::/udp/0", LISTEN)
        assert [socket.is_ipv6 for socket in alice.underlay.sockets] == [False]
        with pytest.raises(TransportError):
            await nodes.start("bob", "/ip6/::/udp/0")

    run(test)
