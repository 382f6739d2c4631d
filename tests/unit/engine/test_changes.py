"""Changes of state that meet: each is kept as it was acknowledged, or leaves nothing, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.unit.engine.nodes import Nodes, Run, multiaddr_of, of, stored, target
from tests.unit.engine.pair import identity
from tests.unit.engine.test_contacts import device
from tests.unit.engine.test_reload import free_port, write
from weft.engine import memory
from weft.engine.change import Change
from weft.engine.config import load_config
from weft.engine.device import PeerSettings
from weft.engine.verbs.fc00 import Fc00
from weft.engine.verbs.listeners import Listeners
from weft.engine.verbs.peers import Peers
from weft.engine.verbs.settings import Settings
from weft.engine.verbs.wireguard import Wireguard
from weft.errors import ConfigError, PeerError, UsageError
from weft.identity import encode_wireguard_key
from weft.io.store import State, Store

PHONE, TABLET = (encode_wireguard_key(device(number)) for number in (1, 2))
NOWHERE = "/ip4/127.0.0.1/udp/9"
FULL = ConfigError("can't be written: No space left on device", file="state.json")


class Disk:
    """The disk of all nodes: a save can be held up, and then fail or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._save = Store.save_state
        self._reached, self._goes_on = threading.Event(), threading.Event()
        self._is_slow = self.is_full = False
        self.written: list[State] = []

        def save(store: Store, state: State) -> None:
            self._write(store, state)

        monkeypatch.setattr(Store, "save_state", save)

    def _write(self, store: Store, state: State) -> None:
        if self._is_slow:
            self._is_slow = False
            self._reached.set()
            self._goes_on.wait(10)
        if self.is_full:
            raise FULL
        self._save(store, state)
        self.written.append(state)

    def hold_up(self) -> None:
        """The next save waits for `go_on`."""
        self._is_slow = True

    async def reached(self) -> None:
        await asyncio.to_thread(self._reached.wait, 10)

    def go_on(self, *, is_full: bool = False) -> None:
        self.is_full = is_full
        self._goes_on.set()

    @property
    def names(self) -> set[str | None]:
        """Of all peers that were ever written."""
        return {peer.name for state in self.written for peer in state.peers}


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(monkeypatch)
    yield made
    made.go_on()


async def soon() -> None:
    """Everybody who can has had a turn."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_rule_that_is_refused_does_not_bring_back_those_of_a_peer_that_was_removed_meanwhile(
    run: Run, disk: Disk
) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        peers, fc00 = Peers(alice), Fc00(alice)
        await peers.add_wireguard(PHONE, name="phone", allowed_ips=["10.7.0.1"])
        await fc00.allow(["/tcp/22/from/phone"])
        disk.hold_up()
        allowing = asyncio.create_task(fc00.allow(["/tcp/80"]))
        await disk.reached()
        removing = asyncio.create_task(peers.remove("phone"))
        await soon()
        disk.go_on(is_full=True)
        with pytest.raises(ConfigError, match="nothing was changed"):
            await allowing
        disk.is_full = False
        with suppress(ConfigError):
            await removing
            assert fc00.ports().allow == []
        assert bool(fc00.ports().allow) == bool(peers.list().peers)

    run(test)


def test_connect_that_is_refused_leaves_what_somebody_else_changed_meanwhile(run: Run, disk: Disk) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        peers = Peers(alice)
        await peers.connect(target(bob))
        await peers.disconnect(str(bob.identity.peer_id))
        port = multiaddr_of(bob)
        await bob.ignore(bob.underlay.sockets[0])
        connecting = asyncio.create_task(peers.connect(f"{port}/p2p/{bob.identity.peer_id}", 30))
        await asyncio.sleep(1)
        await peers.set(str(bob.identity.peer_id), Change(name="loom"))
        disk.is_full = True
        bob.listen(bob.underlay.sockets[0])
        with pytest.raises(ConfigError, match="nothing was changed"):
            await connecting
        disk.is_full = False
        assert of(peers, "loom").name == "loom"
        await alice.save()
        assert [peer.name for peer in stored(alice)] == ["loom"]

    run(test)


def test_connect_without_an_answer_leaves_a_peer_that_somebody_persisted_meanwhile(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), identity("bob")
        peers, who = Peers(alice), str(bob.peer_id)
        connecting = asyncio.create_task(peers.connect(f"{NOWHERE}/p2p/{who}", 10))
        await asyncio.sleep(1)
        await peers.persist(who)
        with pytest.raises(TimeoutError):
            await connecting
        assert of(peers, who).standing == "wanted"
        assert [peer.standing for peer in stored(alice)] == ["wanted"]

    run(test)


def test_peer_is_what_it_was_when_the_last_of_two_who_wait_for_it_gives_up(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        peers = Peers(alice)
        await peers.add_wireguard(PHONE, name="phone", allowed_ips=["10.7.0.1"], endpoint="127.0.0.1:9")
        await peers.disconnect("phone")
        first = asyncio.create_task(peers.connect("phone", 5))
        await asyncio.sleep(1)
        second = asyncio.create_task(peers.connect("phone", 10))
        with pytest.raises(TimeoutError):
            await first
        assert of(peers, "phone").standing == "wanted"
        with pytest.raises((TimeoutError, PeerError)):
            await second
        assert of(peers, "phone").standing == "known"
        await alice.save()
        assert [peer.standing for peer in stored(alice)] == ["known"]

    run(test)


def test_peer_that_has_not_come_yet_is_never_on_disk(run: Run, disk: Disk) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        peers, bob = Peers(alice), identity("bob")
        connecting = asyncio.create_task(peers.connect(f"{NOWHERE}/p2p/{bob.peer_id}", 5, name="loom"))
        await asyncio.sleep(1)
        await Fc00(alice).allow(["/tcp/80"])
        alice.memory.handle_change()
        with pytest.raises(TimeoutError):
            await connecting
        assert peers.list().peers == []
        await asyncio.sleep(1)
        assert len(disk.written) > 1
        assert "loom" not in disk.names

    run(test)


def test_change_that_is_refused_is_never_on_disk(run: Run, disk: Disk) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")

        async def route_slowly() -> None:
            await asyncio.sleep(1)
            disk.is_full = True

        alice.set_routes = route_slowly  # type: ignore[method-assign]
        adding = asyncio.create_task(Peers(alice).add_wireguard(PHONE, name="phone", allowed_ips=["10.7.0.1"]))
        await asyncio.sleep(0.1)
        alice.memory.handle_change()
        with pytest.raises(ConfigError, match="nothing was changed"):
            await adding
        disk.is_full = False
        await asyncio.sleep(20)
        assert disk.written
        assert "phone" not in disk.names

    run(test)


def test_change_that_was_acknowledged_is_there_though_the_session_ended_meanwhile(run: Run, disk: Disk) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        disk.hold_up()
        saving = asyncio.create_task(alice.save())
        await disk.reached()
        peers = Peers(alice)
        adding = asyncio.create_task(peers.add_wireguard(PHONE, name="phone", allowed_ips=["10.7.0.1"]))
        await soon()
        rebuilding = asyncio.create_task(alice._rebuild_session())
        await soon()
        disk.go_on()
        await saving
        assert (await adding).name == "phone"
        await rebuilding
        assert [peer.name for peer in stored(alice)] == ["phone"]
        assert [peer.name for peer in peers.list().peers] == ["phone"]

    run(test)


def test_what_could_not_be_saved_in_the_background_is_saved_later(run: Run, disk: Disk) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        Peers(alice)
        alice.firewall.allow(memory.decode_rule("/tcp/80"))
        disk.is_full = True
        alice.memory.handle_change()
        await asyncio.sleep(1)
        assert alice.memory.state.allow == []
        disk.is_full = False
        await asyncio.sleep(memory.RETRY_S + 1)
        assert alice.memory.state.allow == ["/tcp/80"]
        assert [state.allow for state in disk.written][-1] == ["/tcp/80"]

    run(test)


def test_session_is_built_anew_with_what_is_on_disk_and_not_with_what_could_not_be_saved(run: Run, disk: Disk) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        peers = Peers(alice)
        disk.is_full = True
        with pytest.raises(ConfigError):
            await peers.add_wireguard(PHONE, name="phone", allowed_ips=["10.7.0.1"])
        await alice._rebuild_session()
        assert peers.list().peers == []

    run(test)


def test_listeners_that_are_started_at_once_are_all_there(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        write(alice)
        listeners = Listeners(alice, Settings(alice))
        await asyncio.gather(*(listeners.start(f"/ip4/127.0.0.{host}/udp/{free_port()}") for host in (2, 3)))
        assert [each.multiaddr.split("/")[2] for each in listeners.list().listeners] == [
            "127.0.0.1",
            "127.0.0.2",
            "127.0.0.3",
        ]
        assert len(load_config(alice.directory / "weft.toml").peer.listen) == 3
        stops = (listeners.stop(each.multiaddr) for each in listeners.list().listeners)
        told = await asyncio.gather(*stops, return_exceptions=True)
        assert [type(each) for each in told].count(UsageError) == 1
        assert len(alice.underlay.sockets) == 1

    run(test)


def test_addresses_that_are_imported_at_once_are_all_there_but_for_those_of_whoever_failed(
    run: Run, disk: Disk
) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        write(alice)
        settings = Settings(alice)
        wireguard = Wireguard(alice, Peers(alice), settings)
        await asyncio.gather(*(wireguard.add([], [f"10.{net}.0.1/24"]) for net in (1, 2)))
        assert list(alice.config.fc00.addresses) == ["10.1.0.1/24", "10.2.0.1/24"]
        disk.is_full = True
        with pytest.raises(ConfigError, match="nothing was changed"):
            await wireguard.add(
                [PeerSettings(public_key=PHONE, name="phone", allowed_ips=["10.7.0.1"])], ["10.3.0.1/24"]
            )
        assert list(alice.config.fc00.addresses) == ["10.1.0.1/24", "10.2.0.1/24"]

    run(test)
