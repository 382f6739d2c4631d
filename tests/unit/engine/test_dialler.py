"""How peers that are not up are called: at all known endpoints, and by names that have no address yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tests.unit.engine import packets
from tests.unit.engine.pair import FakeSocket, Net, Node
from weft.engine.dial import RESOLVE_DELAYS_S, SIGN_S, STEP_S, Dialler
from weft.engine.endpoints import Endpoints
from weft.engine.peer import Endpoint, Peer
from weft.engine.report import describe
from weft.errors import PeerError
from weft.multiaddr import Multiaddr, decode_multiaddr
from weft.noise.timers import REKEY_ATTEMPT_TIME_NS, REKEY_TIMEOUT_NS

NAME = decode_multiaddr("/dns/bob.example/udp/1312")


def at(number: int) -> Multiaddr:
    """Where nobody is."""
    return Multiaddr.from_endpoint(f"10.66.0.{number}", 1312)


class Caller:
    """A node with a dialler, and names that are resolved as the test wants."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.node = net.node("alice")
        self.names: dict[Multiaddr, Multiaddr | list[Multiaddr]] = {}
        self.unreachable: set[str] = set()
        self.asked: list[Multiaddr] = []
        self.dialler = Dialler(self.find, self.node.terms.clock, self.has_route)
        self.node.session._when_unanswered = self.dialler.handle_unanswered
        self.task: asyncio.Task[None] | None = None

    def has_route(self, endpoint: Endpoint) -> bool:
        return endpoint.address[0] not in self.unreachable

    async def find(self, address: Multiaddr) -> list[Endpoint]:
        self.asked.append(address)
        if address == NAME and address not in self.names:
            raise PeerError("can't resolve bob.example: Name or service not known")
        found = self.names.get(address, address)
        several = found if isinstance(found, list) else [found]
        return [Endpoint(self.node.socket, each.endpoint()) for each in several]  # type: ignore[arg-type]

    def knows(self, other: Node, known: Iterable[Multiaddr], *, configured: Iterable[Multiaddr] = ()) -> Peer:
        peer = self.node.session.contacts.add_weft(other.identity.noise_public, other.identity.peer_id, is_wanted=True)
        peer.endpoints = Endpoints(known, configured)
        return peer

    def run(self, seconds: float) -> None:
        """Let time pass; the dialler begins with the first call."""
        if self.task is None:
            self.task = self.net.loop.create_task(self.dialler.run(self.node.session))
        self.net.run(seconds)
        assert not self.task.done()

    def end(self) -> None:
        assert self.task is not None
        self.task.cancel()
        self.net.run(0.01)
        assert self.task.cancelled()

    def initiations(self) -> list[str]:
        """Where initiations went."""
        calls = self.node.socket.calls
        return [call.address[0] for call in calls if call.datagrams[0][0] == 1]


def where(socket: FakeSocket) -> Multiaddr:
    return Multiaddr.from_endpoint(*socket.address)


def test_peer_is_called_at_its_known_endpoints_in_turn_until_it_answers() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        peer = caller.knows(bob, [at(1), at(2), where(bob.socket), at(4)])
        caller.run(4 * STEP_S)
        assert caller.initiations() == ["10.66.0.1", "10.66.0.2", bob.socket.source[0]]
        assert peer.tunnel.is_up(net.now)
        assert peer.endpoints.known == [where(bob.socket), at(1), at(2), at(4)]
        caller.end()


def test_eight_endpoints_are_called_within_four_seconds_and_then_one_whenever_the_tunnel_repeats_itself() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        caller.knows(bob, [at(number) for number in range(8)])
        caller.run(8 * STEP_S - 0.1)
        assert caller.initiations() == [f"10.66.0.{number}" for number in range(8)]
        caller.run(REKEY_ATTEMPT_TIME_NS / 1e9 - 2)
        later = caller.initiations()[8:]
        assert len(later) <= REKEY_ATTEMPT_TIME_NS // REKEY_TIMEOUT_NS
        # The one that shows the silence still goes where the last call went.
        assert later[:10] == [f"10.66.0.{number}" for number in (7, 0, 1, 2, 3, 4, 5, 6, 7, 0)]
        caller.end()


def test_peer_that_comes_back_at_an_older_endpoint_is_found() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        home = where(bob.socket)
        peer = caller.knows(bob, [at(1), home, at(3)])
        bob.socket.move("10.0.0.99")
        caller.run(10)
        assert not peer.tunnel.is_up(net.now)
        bob.socket.move(str(home.host))
        caller.run(25)
        assert peer.tunnel.is_up(net.now)
        assert peer.endpoints.known[0] == home
        caller.end()


def test_name_that_has_no_address_yet_is_looked_up_less_and_less_often_and_not_forever() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob", keepalive_ns=0)
        peer = caller.knows(bob, [NAME], configured=[NAME])
        peer.tunnel.set_persistent_keepalive(0)
        caller.run(8)
        assert len(caller.asked) == 4
        caller.run(4000)
        assert len(caller.asked) == 1 + len(RESOLVE_DELAYS_S)
        assert describe(peer, net.now).endpoint == "bob.example:1312"
        assert not caller.initiations()
        caller.end()


def test_peer_is_called_as_soon_as_its_name_has_an_address_and_the_name_is_kept_and_shown() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        peer = caller.knows(bob, [NAME], configured=[NAME])
        caller.run(20)
        caller.names[NAME] = where(bob.socket)
        caller.run(20)
        assert peer.tunnel.is_up(net.now)
        assert peer.endpoints.known == [NAME]
        assert describe(peer, net.now).endpoint == "bob.example:1312"
        assert caller.node.session.contacts.stored()[0].endpoints == [str(NAME)]
        caller.end()


def test_name_is_looked_up_anew_when_the_peer_does_not_answer_for_a_while() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        caller.names[NAME] = where(bob.socket)
        peer = caller.knows(bob, [NAME], configured=[NAME])
        caller.run(1)
        assert caller.asked == [NAME]
        bob.socket.move("10.0.0.99")
        caller.names[NAME] = Multiaddr.from_endpoint("10.0.0.99", 1312)
        # Or Bob's own messages would tell where he is.
        net.faults.drops = lambda datagram: datagram.source == bob.socket.source and len(caller.asked) == 1
        caller.run(200)
        assert peer.path.endpoint == Endpoint(caller.node.socket, ("10.0.0.99", 1312))  # type: ignore[arg-type]
        assert peer.tunnel.is_up(net.now)
        assert peer.endpoints.known == [NAME]
        caller.end()


def test_lost_message_of_a_peer_that_is_heard_sends_nothing_elsewhere() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        peer = caller.knows(bob, [where(bob.socket), at(2)], configured=[at(2)])
        caller.run(1)
        assert peer.tunnel.is_up(net.now)
        net.faults.drops = lambda datagram: datagram.data[0] in {1, 2}
        caller.node.session.call(peer, None)
        for _ in range(6):
            caller.run(5)
            bob.tun.program_sends(packets.udp(bob.address, caller.node.address, b"still here"))
        assert set(caller.initiations()) == {bob.socket.source[0]}
        net.faults.drops = lambda datagram: False
        caller.run(10)
        caller.end()


def test_each_address_of_a_name_is_called_until_one_answers() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        caller.names[NAME] = [at(1), at(2), where(bob.socket), at(4)]
        peer = caller.knows(bob, [NAME], configured=[NAME])
        caller.run(4 * STEP_S)
        assert caller.initiations() == ["10.66.0.1", "10.66.0.2", bob.socket.source[0]]
        assert caller.asked == [NAME]
        assert peer.tunnel.is_up(net.now)
        assert peer.endpoints.known == [NAME]
        caller.end()


def test_peer_that_fell_silent_is_looked_for_at_all_addresses_of_its_name() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        caller.names[NAME] = [at(1), at(2), at(3)]
        peer = caller.knows(bob, [NAME], configured=[NAME])
        caller.run(3 * STEP_S)
        bob.socket.move("10.66.0.2")
        caller.run(30)
        assert peer.tunnel.is_up(net.now)
        assert peer.path.endpoint == Endpoint(caller.node.socket, ("10.66.0.2", 1312))  # type: ignore[arg-type]
        caller.end()


def test_nobody_waits_for_an_answer_from_where_no_route_leads() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        caller.unreachable = {f"10.66.0.{number}" for number in range(6)}
        peer = caller.knows(bob, [*map(at, range(6)), where(bob.socket)])
        caller.run(0.1)
        assert peer.tunnel.is_up(net.now)
        caller.end()


def test_peer_is_called_again_at_once_when_the_way_has_changed() -> None:
    """And not when the handshake that is under way would be repeated, 5 s after its last message."""
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        peer = caller.knows(bob, [where(bob.socket)])
        net.faults.drops = lambda datagram: True
        caller.run(1)
        net.faults.drops = lambda datagram: False
        caller.dialler.call_again(peer)
        caller.run(0.1)
        assert peer.tunnel.is_up(net.now)
        caller.end()


def test_peer_whose_first_call_after_a_change_is_lost_is_called_again_within_a_second() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        peer = caller.knows(bob, [where(bob.socket)])
        net.faults.drops = lambda datagram: True
        caller.run(1)
        caller.dialler.call_again(peer)
        caller.run(0.4)
        net.faults.drops = lambda datagram: False
        caller.run(0.6)
        assert peer.tunnel.is_up(net.now)
        assert len(caller.initiations()) == 3
        caller.end()


def test_name_without_an_address_is_looked_up_at_once_when_the_way_has_changed() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        peer = caller.knows(bob, [NAME], configured=[NAME])
        caller.run(100)
        caller.names[NAME] = where(bob.socket)
        caller.dialler.call_again(peer)
        caller.run(0.1)
        assert peer.tunnel.is_up(net.now)
        asked = len(caller.asked)
        caller.run(1000)
        assert len(caller.asked) == asked, "what was begun before goes on"
        caller.end()


def test_doubted_peer_that_gives_a_sign_is_left_in_peace() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        peer = caller.knows(bob, [where(bob.socket), at(2)], configured=[at(2)])
        caller.run(1)
        calls = len(caller.initiations())
        caller.node.session.ask_for_sign(peer)
        caller.dialler.doubt(peer)
        caller.run(5)
        assert len(caller.initiations()) == calls
        caller.end()


def test_doubted_peer_that_gives_none_is_found_elsewhere_within_two_seconds() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        home, other = where(bob.socket), at(2)
        peer = caller.knows(bob, [home, other], configured=[other])
        caller.run(1)
        net.faults.drops = lambda datagram: datagram.source == bob.socket.source and not caller.initiations()[2:]
        bob.socket.move("10.66.0.2")
        caller.node.session.ask_for_sign(peer)
        caller.dialler.doubt(peer)
        caller.run(SIGN_S + 2 * STEP_S)
        assert caller.initiations()[1:] == [str(home.host), "10.66.0.2"]
        assert peer.path.endpoint == Endpoint(caller.node.socket, ("10.66.0.2", 1312))  # type: ignore[arg-type]
        assert peer.tunnel.is_up(net.now)
        caller.end()


def test_doubted_peer_is_called_only_where_the_data_of_its_session_may_go() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        peer = caller.knows(bob, [where(bob.socket), at(2), at(3)], configured=[at(3)])
        caller.run(1)
        bob.socket.move("10.0.0.99")
        net.faults.drops = lambda datagram: datagram.source == bob.socket.source
        caller.dialler.doubt(peer)
        caller.run(SIGN_S + 3.5 * STEP_S)
        assert "10.66.0.2" not in caller.initiations()
        assert caller.initiations()[-1] == "10.66.0.3"
        caller.end()


def test_stranger_that_does_not_answer_is_called_in_turn_once_and_forgotten() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        peer = caller.knows(bob, [at(1), at(2)])
        peer.standing = "stranger"
        caller.run(200)
        assert len(caller.node.session.contacts) == 0
        assert caller.initiations()[:2] == ["10.66.0.1", "10.66.0.2"]
        assert set(caller.initiations()[2:]) == {"10.66.0.2"}
        caller.end()


def test_peer_that_is_removed_is_not_called_any_more() -> None:
    with Net() as net:
        caller, bob = Caller(net), net.node("bob")
        peer = caller.knows(bob, [NAME], configured=[NAME])
        caller.run(2)
        caller.node.session.remove(peer)
        caller.names[NAME] = where(bob.socket)
        caller.run(1000)
        assert not caller.initiations()
        caller.end()
