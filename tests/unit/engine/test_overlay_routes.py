"""Routes of whole nodes: they follow the peers that come and go, a few at a time, and the configuration at once."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Any

import pytest

from tests.unit.engine.nodes import Nodes, Run, peer_of
from tests.unit.engine.pair import identity
from tests.unit.engine.test_interface import Kernel
from weft.engine import contacts as contacts_module
from weft.engine import interface as interface_module
from weft.engine import lifetime as lifetime_module
from weft.engine.lifetime import ROUTES_AT_ONCE, ROUTES_PAUSE_S, Lifetime
from weft.engine.verbs.settings import Settings
from weft.errors import UsageError
from weft.io.netlink import OVERLAY

SOON_S = 2 * ROUTES_PAUSE_S
STRANGERS = 8


class Machine(Kernel):
    """A TUN that gives nothing, and routes as the kernel would have them."""

    def __init__(self) -> None:
        super().__init__()
        self._ends = socket.socketpair()
        self.takes_udp = False
        self.drops: Counter[str] = Counter()

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def remove(self) -> None:
        for end in self._ends:
            end.close()

    @property
    def routes(self) -> set[str]:
        there: set[str] = set()
        for verb, network, *_ in self.asked:
            if verb == "add":
                there.add(network)
            if verb == "remove":
                there.remove(network)
        return there


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine()
    monkeypatch.setattr(interface_module, "Netlink", lambda: made)
    monkeypatch.setattr(interface_module, "Tun", made.make_tun)
    yield made
    made.remove()


def route_of(name: str) -> str:
    return f"{IPv6Address(identity(name).address)}/128"


async def begin(nodes: Nodes, **keys: Any) -> tuple[Lifetime, Settings]:
    """Alice, whose interface is up."""
    alice = await nodes.start("alice")
    (alice.directory / "weft.toml").write_text(f'peer.listen = ["{alice.config.peer.listen[0]}"]\n')
    settings = Settings(alice)
    for key, value in keys.items():
        await settings.set(key.replace("_", ".", 1), value)
    await alice.open_interface("weft0")
    return alice, settings


def test_strangers_have_a_route_while_they_are_peers(run: Run, machine: Machine) -> None:
    async def test(nodes: Nodes) -> None:
        alice, _ = await begin(nodes, fc00_routes="peers")
        assert machine.routes == set()
        bob = await nodes.start("bob")
        await nodes.connect(bob, alice)
        assert peer_of(alice, bob).standing == "stranger"
        assert machine.routes == {route_of("bob")}
        alice.running.remove(peer_of(alice, bob))
        await asyncio.sleep(SOON_S)
        assert machine.routes == set()

    run(test)


def test_peers_that_were_there_before_have_their_routes_when_the_interface_is_up(run: Run, machine: Machine) -> None:
    async def test(nodes: Nodes) -> None:
        alice, _ = await begin(nodes, fc00_routes="peers")
        await alice.close_interface()
        machine.asked.clear()
        for name in ("bob", "carol"):
            other = identity(name)
            alice.running.contacts.add_weft(other.noise_public, other.peer_id, is_wanted=True)
        await alice.open_interface("weft0")
        assert machine.routes == {route_of("bob"), route_of("carol")}

    run(test)


def test_key_counts_at_once_and_what_is_refused_changes_nothing(run: Run, machine: Machine) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes)
        bob = await nodes.start("bob")
        await nodes.connect(bob, alice)
        assert machine.routes == {str(OVERLAY)}
        assert (await settings.set("fc00.routes", "peers")).applied == ["fc00.routes"]
        assert machine.routes == {route_of("bob")}
        machine.taken = {OVERLAY}
        with pytest.raises(UsageError, match="of another node"):
            await settings.set("fc00.routes", None)
        assert alice.config.fc00.routes == "peers"
        assert 'routes = "peers"' in (alice.directory / "weft.toml").read_text()
        assert machine.routes == {route_of("bob")}

    run(test)


def test_change_that_can_not_be_written_leaves_the_routes(
    run: Run, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    async def test(nodes: Nodes) -> None:
        _, settings = await begin(nodes)
        with monkeypatch.context() as patch:
            patch.setattr("weft.engine.verbs.settings.replace_file", fail)
            with pytest.raises(OSError, match="no space"):
                await settings.set("fc00.routes", "peers")
        assert machine.routes == {str(OVERLAY)}

    run(test)


def test_flood_of_strangers_changes_a_few_routes_at_a_time_and_never_has_more_than_peers(
    run: Run, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contacts_module, "MAX_STRANGERS", STRANGERS)
    monkeypatch.setattr(lifetime_module, "ROUTES_AT_ONCE", 3)

    async def test(nodes: Nodes) -> None:
        alice, _ = await begin(nodes, fc00_routes="peers")
        session = alice.running
        for wave in range(3):
            for number in range(STRANGERS):
                assert session._tunnel_for(identity(f"stranger {wave} {number}").noise_public) is not None
            before = len(machine.asked)
            await asyncio.sleep(ROUTES_PAUSE_S)
            assert 0 < len(machine.asked) - before <= 2 * 3
            assert len(machine.routes) <= STRANGERS
        await asyncio.sleep(2 * STRANGERS * ROUTES_PAUSE_S)
        assert machine.routes == {route_of(f"stranger 2 {number}") for number in range(STRANGERS)}

    run(test)


def test_who_calls_one_by_one_is_routed_at_once(run: Run, machine: Machine) -> None:
    async def test(nodes: Nodes) -> None:
        alice, _ = await begin(nodes, fc00_routes="peers")
        await asyncio.sleep(1)
        alice.running._tunnel_for(identity("bob").noise_public)
        await asyncio.sleep(0.001)
        assert machine.routes == {route_of("bob")}
        assert ROUTES_AT_ONCE / ROUTES_PAUSE_S * 0.2e-3 < 0.15

    run(test)
