"""Sessions over long times and under load: handshakes, cookies, timers, and what a fault leaves behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from ipaddress import ip_network
from random import Random

import pytest
from msgspec.structs import replace

from tests.unit.engine import forge, packets
from tests.unit.engine.pair import WALL_NS, Datagram, FakeSocket, Net, Node, S, add_device, identity
from weft.engine.record import new_record
from weft.engine.report import describe
from weft.engine.stage import Stage
from weft.identity import encode_wireguard_key
from weft.noise.keypair import KeypairTable
from weft.noise.primitives import StaticKey
from weft.noise.timers import REJECT_AFTER_MESSAGES
from weft.noise.tunnel import Tunnel
from weft.packet.icmpv6 import DESTINATION_UNREACHABLE


def kinds(datagrams: list[Datagram]) -> Counter[int]:
    return Counter(datagram.data[0] for datagram in datagrams)


def initiations(net: Net, bob: Node, count: int) -> list[Datagram]:
    """Of one stranger each time anew, from many addresses."""
    random = Random(7)
    own = StaticKey(identity("flooder").noise_private)
    made = []
    for number in range(count):
        tunnel = Tunnel(
            own, bob.identity.noise_public, table=KeypairTable(random.randbytes), random_bytes=random.randbytes
        )
        tunnel.initiate(net.now, 1_760_000_000 * S + number * S)
        made.append(Datagram(tunnel.datagrams_to_send()[0], (f"10.77.{number % 256}.1", number), bob.socket.source))
    return made


# Handshakes.


def test_idle_nodes_stay_connected_for_hours_and_say_little() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        before = len(net.wire)
        net.run(2 * 3600)
        sent = net.wire[before:]
        assert alice.peer(bob).tunnel.is_up(net.now)
        assert bob.peer(alice).tunnel.is_up(net.now)
        assert set(kinds(sent)) <= {1, 2, 4}
        assert len(sent) < 7200 / 25 * 2 + 7200 / 120 * 8
        assert not alice.drops
        assert not bob.drops


def test_traffic_for_hours_loses_nothing_over_rekeys_and_uses_each_counter_once() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        sent: dict[str, list[bytes]] = {"alice": [], "bob": []}
        for number in range(1500):
            for here, there in ((alice, bob), (bob, alice)):
                packet = packets.udp(here.address, there.address, number.to_bytes(2, "big"))
                here.tun.program_sends(packet)
                sent[here.name].append(packet)
            net.run(0.7)
        assert bob.tun.received == sent["alice"]
        assert alice.tun.received == sent["bob"]
        assert len({key for key, _ in net.sealed}) >= 2 * 1500 * 0.7 / 125


def test_keypair_without_counters_left_is_replaced_and_nothing_is_lost() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        net.run(6)
        forge.keypair_of(alice, bob).counter = REJECT_AFTER_MESSAGES - 2
        sent = [packets.udp(alice.address, bob.address, bytes((number,))) for number in range(6)]
        for packet in sent:
            alice.tun.program_sends(packet)
            net.run(0.0001)
        net.run(1)
        assert bob.tun.received == sent
        assert forge.keypair_of(alice, bob).counter < 100


def test_both_that_call_at_once_are_up_at_once() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        alice.call(bob)
        bob.call(alice)
        net.run(1)
        for one, other in ((alice, bob), (bob, alice)):
            assert one.peer(other).tunnel.is_up(net.now)
            packet = packets.udp(one.address, other.address, b"x")
            one.tun.program_sends(packet)
            net.run(0.01)
            assert other.tun.received == [packet]


def test_lost_handshake_is_tried_again() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.faults.loss = 1
        alice.call(bob)
        net.run(12)
        assert 3 <= kinds(net.wire)[1] <= 4
        net.faults.loss = 0
        net.run(6)
        assert alice.peer(bob).tunnel.is_up(net.now)


@pytest.mark.parametrize("after_s", [0.5, 4, 30, 88, 89.9, 91])
@pytest.mark.parametrize("packet", [False, True])
def test_peer_that_is_called_elsewhere_is_called_at_once(after_s: float, packet: bool) -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        nowhere = FakeSocket(net, bob, "10.99.99.99")
        del net.sockets[nowhere.source]
        alice.call(bob, nowhere)
        net.run(after_s)
        if packet:
            alice.tun.program_sends(packets.udp(alice.address, bob.address, b"x"))
        alice.call(bob)
        net.run(0.1)
        assert alice.peer(bob).is_known
        assert len(bob.tun.received) == packet


def test_peer_that_is_called_again_gets_another_90_seconds_to_answer() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.faults.loss = 1
        alice.call(bob)
        net.run(88)
        alice.call(bob)
        net.run(80)
        net.faults.loss = 0
        net.run(5.5)
        assert alice.peer(bob).tunnel.is_up(net.now)
        assert kinds(net.wire)[1] <= 180 / 5


def test_peer_that_started_anew_is_back_as_soon_as_it_calls() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        alice.task.cancel()
        again = net.node("alice", "10.0.0.1")
        again.call(bob)
        net.run(0.1)
        packet = packets.tcp(bob.address, again.address, bytes(20_000))
        bob.tun.program_sends(packet, segment=1000)
        net.run(0.01)
        assert again.tun.received == packets.segments(packet, 1000)


def test_peer_that_forgot_the_session_is_called_again_when_it_stays_silent() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        bob.task.cancel()
        again = net.node("bob", "10.0.0.2")
        for number in range(25):
            alice.tun.program_sends(packets.udp(alice.address, again.address, bytes((number,))))
            net.run(1)
        assert again.drops["unknown index"]
        assert packets.udp(alice.address, again.address, bytes((24,))) in again.tun.received


def test_other_network_secret_keeps_out() -> None:
    with Net() as net:
        alice, bob = net.node("alice", network_psk=b"\1" * 32), net.node("bob", network_psk=b"\2" * 32)
        alice.call(bob)
        net.run(20)
        assert not alice.peer(bob).tunnel.is_up(net.now)
        assert not bob.tun.written


def test_node_that_only_knows_its_own_answers_no_stranger() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob", accepts_unknown=False)
        alice.call(bob)
        net.run(20)
        assert len(bob.session.contacts) == 0
        assert kinds(net.wire) == {1: kinds(net.wire)[1]}
        assert bob.session.gate.drops["initiation: peer refused"] >= 3


# Load.


def test_flood_of_initiations_gets_cookies_and_a_real_peer_gets_in() -> None:
    with Net() as net:
        bob, carol = net.node("bob"), net.node("carol")
        flood = initiations(net, bob, 300)
        for number in range(0, 300, 10):
            net.deliver(*flood[number : number + 10])
            net.run(0.02)
        assert bob.session.gate.is_under_load(net.now)
        cookies = [each for each in net.wire if each.data[0] == 3]
        assert len(cookies) > 100
        assert {len(cookie.data) for cookie in cookies} == {64}
        assert {cookie.destination for cookie in cookies} <= {each.source for each in flood}
        carol.call(bob)
        for number in range(300):
            net.deliver(flood[number]._replace(data=flood[number].data))
            net.run(0.02)
        assert carol.peer(bob).tunnel.is_up(net.now)
        assert len(bob.session.contacts) == 2


def test_open_session_goes_on_under_a_flood() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        flood = initiations(net, bob, 200)
        packet = packets.tcp(alice.address, bob.address, bytes(20_000))
        for number in range(200):
            net.deliver(flood[number])
            if number % 20 == 0:
                alice.tun.program_sends(packet, segment=1000)
            net.run(0.001)
        assert len(bob.tun.received) == 10 * 20


def test_strangers_do_not_accumulate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.engine.contacts.MAX_STRANGERS", 4)
    with Net() as net:
        bob = net.node("bob")
        callers = [net.node(f"caller {number}", tun=False) for number in range(6)]
        for caller in callers:
            caller.call(bob)
            net.run(0.1)
        assert len(bob.session.contacts) == 4
        net.run(0.1)
        assert sum(caller.peer(bob).tunnel.is_up(net.now) for caller in callers) == 4


def test_stranger_that_went_is_forgotten_and_whoever_was_asked_for_is_not() -> None:
    with Net() as net:
        alice, bob, carol = net.node("alice"), net.node("bob"), net.node("carol")
        net.connect(bob, carol)
        alice.call(bob)
        net.run(1)
        for node in (alice, carol):
            node.task.cancel()
            del net.sockets[node.socket.source]
        net.run(600)
        assert [peer.peer_id for peer in bob.session.contacts] == [carol.identity.peer_id]


def test_packet_for_a_peer_that_is_not_called_is_answered_and_does_not_wait() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        peer = alice.peer(bob)
        record = alice.session.contacts.record(bob.identity.noise_public)
        assert record is not None
        alice.session.contacts.put(bob.identity.noise_public, replace(record, standing="known"))
        bob.session.contacts.put(alice.identity.noise_public, None)
        alice.session.end(peer)
        sent = len(alice.socket.calls)
        for _ in range(3):
            alice.tun.program_sends(packets.udp(alice.address, bob.address, b"is anybody there?"))
            net.run(200)
        assert len(alice.socket.calls) == sent
        assert not peer.queue
        assert alice.drops["peer is not called"] == 3
        assert [packet[40] for packet in alice.tun.received] == [DESTINATION_UNREACHABLE] * 3
        bob.call(alice)
        net.run(1)
        packet = packets.udp(alice.address, bob.address, b"now")
        alice.tun.program_sends(packet)
        net.run(1)
        assert bob.tun.received == [packet]


def test_peer_that_began_a_session_and_went_is_not_called() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        record = new_record(bob.identity.noise_public, bob.identity.peer_id, is_weft=True)
        alice.session.contacts.put(bob.identity.noise_public, replace(record, standing="known"))
        bob.call(alice)
        net.run(1)
        assert alice.peer(bob).tunnel.is_up(net.now)
        bob.task.cancel()
        del net.sockets[bob.socket.source]
        net.run(1000)
        sent = len(alice.socket.calls)
        net.run(1000)
        assert len(alice.socket.calls) == sent
        assert alice.peer(bob).tunnel.is_resting


@pytest.mark.parametrize("kind", ["datagram", "handshake"])
def test_peer_is_not_followed_into_the_overlay(kind: str) -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        record = alice.session.contacts.record(bob.identity.noise_public)
        assert record is not None
        alice.session.contacts.put(bob.identity.noise_public, replace(record, allowed_ips=["10.77.0.0/16"]))
        before = alice.peer(bob).path.endpoint
        bob.socket.move("10.77.0.7")
        if kind == "datagram":
            bob.tun.program_sends(packets.udp(bob.address, alice.address, b"from inside"))
        else:
            bob.peer(alice).tunnel.initiate(net.now, WALL_NS + net.now, elsewhere=True)
            bob.session.attend(bob.peer(alice))
        net.run(0.5)
        assert alice.peer(bob).path.endpoint == before
        assert alice.drops["source is of the overlay"] > 0


# Faults.


def test_fault_of_one_peer_ends_the_task_and_no_other_peer_is_forgotten_by_it() -> None:
    with Net() as net:
        alice, bob, carol = net.node("alice"), net.node("bob"), net.node("carol")
        net.connect(bob, alice, carol)
        bob.task.cancel()
        net.run(0.01)
        drain = bob.session._drain
        faults = [bob.peer(alice)]

        def fail(peer: object, now: int) -> None:
            if peer in faults:
                faults.clear()
                raise RuntimeError("a fault")
            drain(peer, now)  # type: ignore[arg-type]

        bob.session._drain = fail  # type: ignore[method-assign,assignment]

        async def main() -> None:
            stage = Stage()
            stage.start("peers", bob.session.run)
            await asyncio.sleep(400)
            assert stage.tasks()[0].restarts == 1
            await stage.close()

        net.loop.run_until_complete(main())
        assert not faults
        for other in (alice, carol):
            assert bob.peer(other).tunnel.is_up(net.now)
            assert other.peer(bob).tunnel.is_up(net.now)


def test_session_that_is_closed_forgets_all_and_tells_whoever_waits() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)

        async def wait() -> list[asyncio.Future[object]]:
            peer = alice.peer(bob)
            return [alice.session.wait_until_up(peer), alice.session.proving.ping(peer, 118)]  # type: ignore[list-item]

        waiters = net.loop.run_until_complete(wait())
        alice.session.close()
        assert len(alice.session.contacts) == 0
        assert not alice.session.gate.keypairs
        assert all(waiter.cancelled() for waiter in waiters)
        forge.deliver(net, Datagram(b"\4\0\0\0" + bytes(60), bob.socket.source, alice.socket.source))
        net.run(100)


def test_waiter_that_gave_up_does_no_harm() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.faults.loss = 1
        peer = alice.call(bob)

        async def wait() -> None:
            for _ in range(50):
                alice.session.wait_until_up(peer).cancel()
            ping = alice.session.proving.ping(peer, 118)
            ping.cancel()

        net.loop.run_until_complete(wait())
        net.faults.loss = 0
        net.run(12)
        assert peer.tunnel.is_up(net.now)


# Status.


def test_status_of_a_peer_tells_how_it_is() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        networks = (ip_network("10.5.0.1/32"), ip_network("10.6.0.0/24"))
        phone = add_device(alice.session.contacts, bytes(31) + b"\7", "phone", networks)
        net.connect(alice, bob)
        told = describe(alice.peer(bob), net.now)
        assert (told.id, told.kind, told.state) == (str(bob.identity.peer_id), "weft", "up")
        assert (told.endpoint, told.path, told.path_mtu) == ("10.0.0.2:1312", "direct", 1500)
        assert (told.mode, told.burst_pieces, told.loss) == ("burst", 64, 0)
        assert told.rtt_ms == pytest.approx(2)
        assert told.handshake_age_s == pytest.approx(0.5, abs=0.01)
        assert told.tx_bytes > 0
        assert told.rx_bytes > 0
        told = describe(phone, net.now)
        assert (told.id, told.kind, told.state, told.mode) == (None, "wireguard", "idle", "packet")
        assert told.addresses == ["10.5.0.1", "10.6.0.0/24"]
        assert told.wireguard_public_key == encode_wireguard_key(bytes(31) + b"\7")
        assert (told.endpoint, told.path, told.handshake_age_s, told.rtt_ms) == (None, "none", None, None)
        net.faults.loss = 1
        alice.session.call(phone, alice.endpoint(bob.socket))
        assert describe(phone, net.now).state == "connecting"


def test_bytes_of_both_directions_are_counted() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        alice.tun.program_sends(packets.tcp(alice.address, bob.address, bytes(30_000)), segment=1000)
        net.run(0.1)
        sent = {
            node.name: sum(len(each.data) for each in net.wire if each.source == node.socket.source)
            for node in net.nodes
        }
        assert alice.peer(bob).path.tx_bytes == sent["alice"]
        assert alice.peer(bob).path.rx_bytes == sent["bob"]
        assert bob.peer(alice).path.tx_bytes == sent["bob"]
        assert bob.peer(alice).path.rx_bytes == sent["alice"]
