"""What a node does about changes around it, in virtual time: routes, addresses, sleep, clocks, names."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.engine import packets
from tests.unit.engine.pair import WALL_NS, FakeSocket, Net, Node, S
from weft.engine import proving as proving_module
from weft.engine import underlay as underlay_module
from weft.engine import world as world_module
from weft.engine.dial import SIGN_S, STEP_S, Dialler
from weft.engine.endpoints import Endpoints
from weft.engine.events import Events
from weft.engine.peer import Endpoint, Peer
from weft.engine.status import Event
from weft.engine.underlay import Underlay
from weft.engine.world import CLOCK_S, LEAP_S, RESOLVER_S, World, lost_time_s
from weft.errors import UsageError
from weft.io.changes import Change
from weft.io.routes import Route
from weft.multiaddr import Multiaddr, decode_multiaddr
from weft.noise.timers import REJECT_AFTER_TIME_NS, REKEY_AFTER_TIME_NS

ETH, WEFT = 2, 7
NAME = decode_multiaddr("/dns/bob.example/udp/1312")
OLDEST = bytes(12)


class Surroundings:
    """A node with a world around it: routes, addresses and clocks are as the test wants."""

    def __init__(self, net: Net, monkeypatch: pytest.MonkeyPatch, **terms: Any) -> None:
        self.net = net
        self.node = net.node("alice", **terms)
        self.routes: dict[str, Route | None] = {}
        self.default: Route | None = Route(ETH, b"", b"")
        self.addresses = ["10.0.0.1"]
        self.names: dict[str, list[tuple[bool, str]]] = {}
        self.asked = 0
        self.opened = 0
        self.slept_ns = 0
        self.events: list[Event] = []
        session = self.node.session
        self.underlay = Underlay(lambda host: None)
        self.underlay.overlay = "weft0"
        self.underlay._sockets = {decode_multiaddr("/ip4/0.0.0.0/udp/1312"): self.node.socket}  # type: ignore[dict-item]
        self.dialler = Dialler(self.underlay.find_all, self.node.terms.clock, self.underlay.has_route)
        session._when_unanswered = self.dialler.handle_unanswered
        events = Events()
        monkeypatch.setattr(events, "publish", lambda kind, text="", **_: self.events.append((kind, text)))
        self.drops = self.node.drops
        self.world = World(session, self.dialler, self.underlay, events, self._open, self.node.terms.clock)
        session.proving._leads_inward = self.underlay.leads_inward
        for module in (underlay_module, world_module):
            monkeypatch.setattr(module, "route_to", self.route_to)
        monkeypatch.setattr(underlay_module, "interface_index", lambda ifname: WEFT if ifname == "weft0" else 0)
        monkeypatch.setattr(world_module, "link_mtu", lambda host, port, mark: net.link_mtu)
        monkeypatch.setattr(world_module, "local_addresses", self.local_addresses)
        monkeypatch.setattr("weft.engine.dial._addresses_of", self.resolve)
        self.tasks = [net.loop.create_task(self.dialler.run(session))]

    def route_to(self, host: str, mark: int = 0) -> Route | None:
        return self.routes.get(host, self.default)

    async def local_addresses(self) -> list[str]:
        return list(self.addresses)

    async def resolve(self, host: str, port: int) -> list[tuple[bool, str]]:
        self.asked += 1
        if host not in self.names:
            raise OSError(-2, "Name or service not known")
        return self.names[host]

    def _open(self) -> None:
        self.opened += 1

    def knows(self, other: Node, *known: Multiaddr) -> Peer:
        """A wanted peer, with the endpoints that a person named; called already."""
        peer = self.node.session.contacts.add_weft(other.identity.noise_public, other.identity.peer_id, is_wanted=True)
        known = known or (where(other.socket),)
        peer.endpoints = Endpoints(known, known)
        self.dialler.call(peer)
        return peer

    def start(self, watch: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.tasks.append(self.net.loop.create_task(watch()))

    def look(self) -> None:
        """What the task `clocks` does each half second."""
        self.world._note_new_ways()

    def change(self, change: Change = Change.UNDERLAY) -> None:
        """The kernel tells of a change, which is acted upon."""
        self.net.loop.run_until_complete(self.world.handle_change(change))

    def initiations(self) -> list[str]:
        return [call.address[0] for call in self.node.socket.calls if call.datagrams[0][0] == 1]

    def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.net.loop.run_until_complete(asyncio.gather(*self.tasks, return_exceptions=True))


def where(socket: FakeSocket) -> Multiaddr:
    return Multiaddr.from_endpoint(*socket.address)


def at(number: int) -> Multiaddr:
    return Multiaddr.from_endpoint(f"10.66.0.{number}", 1312)


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as net:
        yield net


@pytest.fixture
def alice(net: Net, monkeypatch: pytest.MonkeyPatch) -> Iterator[Surroundings]:
    surroundings = Surroundings(net, monkeypatch)
    yield surroundings
    surroundings.end()


def sent_to(alice: Surroundings, other: Node) -> list[bytes]:
    """What went to another node."""
    return [datagram for call in alice.node.calls_to(other.socket) for datagram in call.datagrams]


def other_route(number: int = 9) -> Route:
    return Route(ETH, bytes([10, 0, 0, number]), b"")


# Routes.


def test_peer_with_a_session_is_asked_and_its_path_probed_anew_when_its_route_is_another(
    net: Net, alice: Surroundings
) -> None:
    bob = net.node("bob")
    peer = alice.knows(bob)
    net.run(1)
    alice.change()
    net.run(1)
    assert peer.path.mtu.mtu == 1500
    heard, calls = peer.path.rx_bytes, len(alice.node.socket.calls)
    net.link_mtu = 1400
    alice.default = other_route()
    alice.change()
    assert (peer.path.mtu.mtu, peer.path.mtu.ceiling) == (1280, 1400)
    net.run(0.1)
    assert peer.path.rx_bytes > heard
    assert len(alice.node.socket.calls) > calls
    assert peer.path.mtu.mtu == 1400
    assert len(alice.initiations()) == 1


@pytest.mark.parametrize("is_gone", [True, False])
def test_own_address_that_may_be_gone_is_looked_at_when_the_way_is_another(
    net: Net, alice: Surroundings, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    bob = net.node("bob")
    peer = alice.knows(bob)
    net.run(1)
    endpoint = peer.path.endpoint
    assert isinstance(endpoint, Endpoint)
    arrival = ETH.to_bytes(4, sys.byteorder) + bytes([10, 0, 0, 7]) + bytes(4)
    alice.look()
    heard = peer.path.endpoint = Endpoint.heard(endpoint.socket, endpoint.address, arrival)
    monkeypatch.setattr(proving_module, "route_to", lambda *_: None if is_gone else Route(ETH, b"", b""))
    alice.default = other_route()
    alice.change()
    assert peer.path.endpoint == endpoint
    assert isinstance(peer.path.endpoint, Endpoint)
    assert peer.path.endpoint.local == (b"" if is_gone else heard.local)


@pytest.mark.parametrize(
    ("route", "is_kept"),
    [(Route(ETH, b"", b""), True), (Route(ETH + 1, b"", b""), False), (None, False)],
    ids=["the interface that it came by", "another interface", "no route from there"],
)
@pytest.mark.parametrize("how", ["handshake", "data"])
def test_answers_leave_from_the_address_that_was_asked_while_they_go_back_the_way_it_came(
    net: Net, alice: Surroundings, monkeypatch: pytest.MonkeyPatch, route: Route | None, is_kept: bool, how: str
) -> None:
    ours = ETH.to_bytes(4, sys.byteorder) + bytes([10, 0, 0, 7]) + bytes(4)
    asked = []

    def route_to(host: str, mark: int, source: bytes) -> Route | None:
        asked.append((host, source))
        return route

    monkeypatch.setattr(proving_module, "route_to", route_to)
    bob = net.node("bob")
    if how == "data":
        alice.knows(bob)
        net.run(1)
    else:
        bob.call(alice.node)
    receive = alice.node.socket.receive
    monkeypatch.setattr(alice.node.socket, "receive", lambda: [run._replace(local=ours) for run in receive()])
    locals_of: list[bytes] = []
    send = alice.node.socket.send

    def note(*arguments: Any, local: bytes = b"") -> bool:
        locals_of.append(arguments[4] if len(arguments) > 4 else local)
        return send(*arguments[:4])

    monkeypatch.setattr(alice.node.socket, "send", note)
    for _ in range(20):
        bob.tun.program_sends(packets.udp(bob.address, alice.node.address, b"to your other address"))
        net.run(0.1)
    peer = alice.node.peer(bob)
    assert isinstance(peer.path.endpoint, Endpoint)
    assert peer.path.endpoint.local == (bytes(4) + ours[4:] if is_kept else b"")
    assert locals_of[-1] == peer.path.endpoint.local
    assert set(asked) == {(bob.socket.source[0], bytes([10, 0, 0, 7]))}
    assert len(asked) <= 3, "once, and not with each datagram"


def test_address_that_was_of_no_use_is_looked_at_again_with_the_next_handshake(
    net: Net, alice: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ETH.to_bytes(4, sys.byteorder) + bytes([10, 0, 0, 7]) + bytes(4)
    receive = alice.node.socket.receive
    monkeypatch.setattr(alice.node.socket, "receive", lambda: [run._replace(local=ours) for run in receive()])
    bob = net.node("bob")
    for route, local in ((None, b""), (Route(ETH, b"", b""), bytes(4) + ours[4:])):
        monkeypatch.setattr(proving_module, "route_to", lambda *_, route=route: route)
        peer = bob.call(alice.node)
        bob.session.call(peer, None, afresh=True)
        net.run(6)
        endpoint = alice.node.peer(bob).path.endpoint
        assert isinstance(endpoint, Endpoint)
        assert endpoint.local == local


def test_peer_whose_way_is_as_it_was_is_left_in_peace(net: Net, alice: Surroundings) -> None:
    bob, carol = net.node("bob"), net.node("carol")
    alice.knows(bob)
    alice.knows(carol, at(1))
    net.run(1)
    alice.change()
    net.run(2)
    sent, initiations = len(sent_to(alice, bob)), len(alice.initiations())
    alice.routes["192.0.2.200"] = None
    for _ in range(20):
        alice.change()
        net.run(0.02)
    assert len(sent_to(alice, bob)) == sent
    # The tunnel to where Carol is not may just have repeated itself.
    assert len(alice.initiations()) <= initiations + 1


def test_peer_without_a_session_is_called_within_a_second_of_the_network_being_back(
    net: Net, alice: Surroundings
) -> None:
    bob = net.node("bob")
    peer = alice.knows(bob)
    net.faults.drops = lambda datagram: True
    alice.default = None
    net.run(33)
    assert not peer.tunnel.is_up(net.now)
    alice.change()
    net.faults.drops = lambda datagram: False
    alice.default = Route(ETH, b"", b"")
    alice.change()
    net.run(0.9)
    assert peer.tunnel.is_up(net.now)


def test_handshake_of_a_session_that_is_under_way_begins_again_when_the_network_is_back(
    net: Net, alice: Surroundings
) -> None:
    bob = net.node("bob")
    peer = alice.knows(bob)
    net.run(1)
    alice.change()
    net.faults.drops = lambda datagram: True
    alice.node.tun.program_sends(packets.udp(alice.node.address, bob.address, b"unheard"))
    net.run(17)
    assert peer.tunnel.is_handshaking
    net.faults.drops = lambda datagram: False
    alice.default = other_route()
    alice.change()
    net.run(0.1)
    assert not peer.tunnel.is_handshaking


def test_endpoint_without_a_route_is_left_for_one_of_the_other_family(net: Net, alice: Surroundings) -> None:
    bob = net.node("bob")
    home = where(bob.socket)
    peer = alice.knows(bob, home, at(2))
    net.run(1)
    alice.change()
    bob.socket.move("10.66.0.2")
    alice.routes[str(home.host)] = None
    alice.change()
    net.run(SIGN_S + STEP_S / 2)
    assert peer.path.endpoint == Endpoint(alice.node.socket, ("10.66.0.2", 1312))  # type: ignore[arg-type]
    assert peer.tunnel.is_up(net.now)


def test_storm_of_changes_costs_a_peer_a_datagram_each_and_no_memory(net: Net, alice: Surroundings) -> None:
    bob, carol = net.node("bob"), net.node("carol")
    peer = alice.knows(bob)
    alice.knows(carol, at(1))
    net.run(1)
    alice.change()
    net.run(3)
    calls = len(alice.node.socket.calls)
    for number in range(50):
        alice.default = other_route(number)
        alice.change()
        net.run(0.02)
    # To Bob a ping and a probe of the path; to where Carol is not an initiation.
    assert len(alice.node.socket.calls) - calls <= 3 * 50 + 10
    assert len(alice.initiations()) <= 60
    net.run(5)
    assert peer.tunnel.is_up(net.now)
    assert not alice.dialler._asked
    assert len(alice.dialler._running) <= 2


def test_peer_that_is_new_or_has_moved_is_asked_once_and_then_only_when_its_way_has_changed(
    net: Net, alice: Surroundings
) -> None:
    bob = net.node("bob")
    peer = alice.knows(bob)
    net.run(2)
    for step in ("new", "moved"):
        if step == "moved":
            bob.socket.move("10.66.0.2")
            bob.tun.program_sends(packets.udp(bob.address, alice.node.address, b"from elsewhere"))
            net.run(2)
            assert peer.path.endpoint == Endpoint(alice.node.socket, ("10.66.0.2", 1312))  # type: ignore[arg-type]
        sent = len(sent_to(alice, bob))
        alice.change()
        net.run(0.1)
        asked = len(sent_to(alice, bob))
        assert asked > sent, step
        alice.change(Change.OVERLAY)
        net.run(0.1)
        assert len(sent_to(alice, bob)) == asked, step
        alice.default = other_route(len(step))
        alice.change()
        net.run(0.1)
        assert len(sent_to(alice, bob)) > asked, step


def test_ways_to_many_new_peers_are_noted_a_few_at_a_time(
    net: Net, alice: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world_module, "AT_ONCE", 2)
    for name in ("bob", "carol", "dave"):
        alice.knows(net.node(name))
    net.run(1)
    noted = []
    for _ in range(3):
        alice.look()
        noted.append(len(alice.world._ways))
    assert noted == [2, 3, 3]


def test_forgotten_peers_are_not_remembered(net: Net, alice: Surroundings) -> None:
    peer = alice.knows(net.node("bob"))
    alice.change()
    assert set(alice.world._ways) == {peer}
    alice.node.session.remove(peer)
    alice.change()
    assert not alice.world._ways


# Into the tunnel itself.


@pytest.mark.parametrize("change", [Change.UNDERLAY, Change.OVERLAY])
def test_endpoint_whose_route_leads_into_the_tunnel_is_left_and_counted_and_used_again_later(
    net: Net, alice: Surroundings, change: Change
) -> None:
    bob = net.node("bob")
    peer = alice.knows(bob)
    net.run(1)
    alice.change()
    alice.default = Route(WEFT, b"", b"")
    alice.change(change)
    assert peer.path.endpoint is None
    calls = len(alice.node.socket.calls)
    alice.node.tun.program_sends(packets.udp(alice.node.address, bob.address, b"nowhere"))
    bob.tun.program_sends(packets.udp(bob.address, alice.node.address, b"heard all the same"))
    net.run(3)
    assert alice.node.tun.received[-1].endswith(b"heard all the same")
    assert peer.path.endpoint is None
    assert alice.drops["endpoint behind the tunnel itself"] >= 2
    assert len(alice.node.socket.calls) == calls
    assert alice.drops["no endpoint"] >= 1
    alice.default = Route(ETH, b"", b"")
    alice.change()
    net.run(SIGN_S + 0.1)
    assert peer.path.endpoint == Endpoint(alice.node.socket, bob.socket.source)  # type: ignore[arg-type]
    alice.node.tun.program_sends(packets.udp(alice.node.address, bob.address, b"there again"))
    net.run(0.1)
    assert bob.tun.received[-1].endswith(b"there again")


def test_endpoint_whose_route_leads_into_the_tunnel_is_refused_with_the_reason(net: Net, alice: Surroundings) -> None:
    alice.default = Route(WEFT, b"", b"")
    with pytest.raises(UsageError, match=r"the route to 10\.66\.0\.1 leads into weft0: .*fwmark"):
        net.loop.run_until_complete(alice.underlay.find_all(at(1)))


# Addresses.


def test_addresses_that_are_others_are_told_and_missing_listeners_tried(net: Net, alice: Surroundings) -> None:
    alice.change()
    assert alice.events == [("addresses-changed", "this machine has 10.0.0.1")]
    assert alice.opened == 1
    alice.change()
    assert (len(alice.events), alice.opened) == (1, 1)
    alice.addresses = []
    alice.change()
    assert alice.events[1:] == [("addresses-changed", "this machine has no address")]
    alice.addresses = ["10.0.0.1", "10.0.0.7"]
    alice.change(Change.OVERLAY)
    assert len(alice.events) == 2
    alice.change()
    assert alice.underlay.addresses == ["10.0.0.1", "10.0.0.7"]
    assert alice.opened == 3


# Sleep.


@pytest.mark.parametrize(
    ("awake_s", "boot_s", "wall_s", "lost_s"),
    [
        (0.5, 0.5, 0.5, None),
        (1.4, 1.4, 1.4, None),
        (0.5, 3600.5, 3600.5, 3600.0),
        (0.5, 3600.5, 0.5, 3600.0),
        (7.5, 7.5, 7.5, 7.0),
        (0.5, 0.5, 86_400, None),
        (0.5, 0.5, -86_400, None),
    ],
    ids=["as ever", "busy", "slept", "slept, wall clock set", "stood still", "wall clock forward", "wall clock back"],
)
def test_time_is_lost_when_the_clock_that_goes_on_leaps(
    awake_s: float, boot_s: float, wall_s: float, lost_s: float | None
) -> None:
    found = lost_time_s(*(round(seconds * S) for seconds in (awake_s, boot_s, wall_s)), has_boot_clock=True)
    assert found == (None if lost_s is None else pytest.approx(lost_s))


def test_where_no_clock_goes_on_in_sleep_the_one_on_the_wall_stands_in() -> None:
    assert lost_time_s(S // 2, S // 2, 3600 * S, has_boot_clock=False) == pytest.approx(3600 - CLOCK_S)
    assert lost_time_s(S // 2, S // 2, -3600 * S, has_boot_clock=False) is None
    assert lost_time_s(7 * S, 7 * S, 0, has_boot_clock=False) == pytest.approx(7 - CLOCK_S)


class Sleep:
    """Clocks of a machine that sleeps: timers of the loop stand still, keys grow older."""

    def __init__(self, net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
        self.net = net
        self.ns = 0
        monkeypatch.setattr(time, "monotonic_ns", lambda: net.now)
        monkeypatch.setattr(time, "time_ns", lambda: WALL_NS + net.now + self.ns)

    def clock(self) -> int:
        return self.net.now + self.ns


@pytest.mark.parametrize("slept_ns", [REKEY_AFTER_TIME_NS, REJECT_AFTER_TIME_NS, 8 * 3600 * S])
def test_sleep_is_seen_within_a_second_and_old_keys_renewed_at_once(
    net: Net, monkeypatch: pytest.MonkeyPatch, slept_ns: int
) -> None:
    sleep = Sleep(net, monkeypatch)
    alice = Surroundings(net, monkeypatch, clock=sleep.clock)
    bob = net.node("bob")
    peer = alice.knows(bob)
    alice.start(alice.world.watch_clocks)
    net.run(5)
    assert peer.tunnel.is_up(sleep.clock())
    before = peer.tunnel.last_handshake_at
    sleep.ns += slept_ns
    net.run(1)
    assert [kind for kind, _ in alice.events if kind == "resumed"] == ["resumed"]
    assert peer.tunnel.is_up(sleep.clock())
    assert peer.tunnel.last_handshake_at != before
    assert peer.tunnel.last_handshake_at is not None
    assert sleep.clock() - peer.tunnel.last_handshake_at < S
    alice.end()


def test_short_sleep_asks_everybody_for_a_sign_and_renews_no_keys(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = Sleep(net, monkeypatch)
    alice = Surroundings(net, monkeypatch, clock=sleep.clock)
    bob = net.node("bob")
    peer = alice.knows(bob)
    alice.start(alice.world.watch_clocks)
    net.run(5)
    heard = peer.path.rx_bytes
    sleep.ns += round((LEAP_S + 0.1) * S)
    net.run(0.6)
    assert peer.path.rx_bytes > heard
    assert len(alice.initiations()) == 1
    net.run(60)
    assert [kind for kind, _ in alice.events if kind == "resumed"] == ["resumed"]
    alice.end()


# Clocks that are set.


@pytest.mark.parametrize("leap_s", [-86_400 * 365, -1, 3600, 86_400 * 365])
def test_wall_clock_that_is_set_changes_no_session_and_timestamps_go_on_forward(
    net: Net, monkeypatch: pytest.MonkeyPatch, leap_s: int
) -> None:
    wall = [WALL_NS]
    alice = Surroundings(net, monkeypatch, wall_clock=lambda: wall[0] + net.now)
    bob = net.node("bob")
    peer = alice.knows(bob)
    timestamps = [OLDEST]
    net.run(1)
    for offset_s in (leap_s, 0, leap_s, 0):
        wall[0] = WALL_NS + offset_s * S
        assert peer.tunnel.is_up(net.now)
        timestamps.append(peer.tunnel.last_timestamp_sent)
        alice.node.session.call(peer, None, afresh=True)
        net.run(6)
        assert not peer.tunnel.is_handshaking, "the peer takes timestamps that go forward only"
        alice.node.tun.program_sends(packets.udp(alice.node.address, bob.address, b"%d" % offset_s))
        net.run(0.1)
        assert bob.tun.received[-1].endswith(b"%d" % offset_s)
    timestamps.append(peer.tunnel.last_timestamp_sent)
    assert timestamps == sorted(set(timestamps))
    alice.end()


def test_wall_clock_of_the_one_who_is_called_is_of_no_account(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = [WALL_NS]
    alice = Surroundings(net, monkeypatch)
    bob = net.node("bob", wall_clock=lambda: wall[0] + net.now)
    peer = alice.knows(bob)
    for offset_s in (-86_400 * 365, 86_400 * 365, 0):
        wall[0] = WALL_NS + offset_s * S
        net.run(150)
        alice.node.tun.program_sends(packets.udp(alice.node.address, bob.address, b"%d" % offset_s))
        net.run(0.1)
        assert bob.tun.received[-1].endswith(b"%d" % offset_s)
        assert peer.tunnel.is_up(net.now)
    alice.end()


# Names.


def test_another_resolver_is_seen_within_a_second_and_missed_peers_called_by_their_names(
    net: Net, alice: Surroundings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bob, carol = net.node("bob"), net.node("carol")
    peer = alice.knows(bob, NAME)
    up = alice.knows(carol)
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 192.0.2.53\n")
    monkeypatch.setattr(world_module, "RESOLVER", resolver)
    alice.start(alice.world.watch_resolver)
    net.run(100)
    assert not peer.tunnel.is_up(net.now)
    asked, sent = alice.asked, len(sent_to(alice, carol))
    net.run(10)
    assert alice.asked == asked
    alice.names["bob.example"] = [(False, bob.socket.source[0])]
    other = tmp_path / "new"
    other.write_text("nameserver 192.0.2.54\n")
    os.replace(other, resolver)
    net.run(RESOLVER_S + 0.1)
    assert peer.tunnel.is_up(net.now)
    assert peer.endpoints.known == [NAME]
    assert up.tunnel.is_up(net.now)
    assert len(sent_to(alice, carol)) <= sent + 1, "a peer without a name has nothing to do with it"


def test_resolver_whose_file_is_gone_is_no_fault(
    net: Net, alice: Surroundings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    resolver = tmp_path / "resolv.conf"
    monkeypatch.setattr(world_module, "RESOLVER", resolver)
    alice.start(alice.world.watch_resolver)
    net.run(3)
    resolver.write_text("nameserver 192.0.2.53\n")
    net.run(3)
    resolver.unlink()
    net.run(3)
    assert not alice.tasks[-1].done()


def test_peer_that_fell_silent_is_found_where_its_name_leads_now(net: Net, alice: Surroundings) -> None:
    """As when a laptop leaves the house, in which the name led to an address of the house."""
    bob = net.node("bob")
    alice.names["bob.example"] = [(False, bob.socket.source[0])]
    peer = alice.knows(bob, NAME)
    net.run(1)
    alice.change()
    net.faults.drops = lambda datagram: datagram.source == bob.socket.source and datagram.data[0] == 4
    bob.socket.move("10.66.0.2")
    alice.names["bob.example"] = [(False, "10.66.0.1"), (False, "10.66.0.2")]
    alice.world.handle_resolver_changed()
    net.run(SIGN_S + 2 * STEP_S)
    assert peer.path.endpoint == Endpoint(alice.node.socket, ("10.66.0.2", 1312))  # type: ignore[arg-type]
    net.faults.drops = lambda datagram: False
    net.run(0.1)
    assert peer.tunnel.is_up(net.now)
