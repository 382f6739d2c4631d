"""Who a peer says that it is: notices between two sessions, over the real path."""

from __future__ import annotations

import pytest

from tests.unit.engine import packets
from tests.unit.engine.pair import Net, Node, S, identity
from weft.burst.header import MAX_TOTAL_BYTES
from weft.mesh.notices import Hello, Notice, encode_notice


def say(speaker: Node, listener: Node, *notices: Notice) -> None:
    """Let a node send notices that it would not send by itself, all at once."""
    for notice in notices:
        speaker.session.transmitter.send_message(speaker.peer(listener), encode_notice(notice), speaker.net.now)


def lie(boot: bytes = b"another!", number: int = 1) -> Notice:
    return Notice(b=boot, n=number, id=identity("somebody else").peer_id.public_key, v=[1], burst=64_400)


def test_session_that_comes_up_tells_both_sides_who_the_other_one_is() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        for one, other in ((alice, bob), (bob, alice)):
            peer = one.peer(other)
            assert peer.peer_id == other.identity.peer_id
            assert peer.is_known
            assert peer.burst_limit == MAX_TOTAL_BYTES
            assert peer.takes_udp


def test_bursts_are_possible_within_two_round_trips_of_the_first_message() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        alice.call(bob)
        net.run(0.0061)
        assert alice.peer(bob).burst_limit > 0
        assert bob.peer(alice).burst_limit > 0


def test_notices_that_are_lost_are_repeated() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        alice.call(bob)
        net.run(0.0029)
        net.faults.loss = 1
        net.run(0.5)
        assert alice.peer(bob).burst_limit == 0
        net.faults.loss = 0
        net.run(2)
        assert alice.peer(bob).burst_limit == MAX_TOTAL_BYTES
        assert bob.peer(alice).burst_limit == MAX_TOTAL_BYTES


def test_peer_that_never_says_who_it_is_gets_type_4_only_and_costs_nothing() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.faults.drops = lambda datagram: datagram.data[0] == 4 and len(datagram.data) > 60
        alice.call(bob)
        net.run(20)
        assert alice.peer(bob).tunnel.is_up(net.now)
        assert bob.peer(alice).burst_limit == alice.peer(bob).burst_limit == 0
        assert {datagram.data[0] for datagram in net.wire} <= {1, 2, 4}


@pytest.mark.parametrize("times", [1, 2, 5])
def test_peer_that_says_the_key_of_another_one_is_forgotten(times: int) -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        lies = [lie(number=number) for number in range(1, times + 1)]
        say(alice, bob, *lies)
        net.run(1)
        assert alice.identity.noise_public not in {peer.tunnel.peer_public for peer in bob.session.contacts}
        assert bob.drops["notice: id of another key"] == 1
        assert bob.session.contacts.routes.lookup(alice.address) is None
        assert not bob.session.gate.keypairs
        net.run(30)


def test_peer_that_was_asked_for_and_lies_stays_in_the_list_and_is_not_called() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        bob.call(alice)
        net.run(1)
        say(alice, bob, lie(number=1))
        net.run(0.1)
        peer = bob.peer(alice)
        assert (peer.peer_id, peer.standing) == (alice.identity.peer_id, "wanted")
        assert peer.tunnel.is_resting
        assert not bob.session.gate.keypairs


def test_peer_whose_key_is_no_key_is_forgotten() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        say(alice, bob, Notice(b=b"another!", n=1, id=b"\xff" * 32, v=[1], burst=64_400))
        net.run(1)
        assert len(bob.session.contacts) == 0


def test_whoever_waits_for_a_peer_that_is_forgotten_is_told() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        net.faults.drops = lambda datagram: datagram.source == bob.socket.source
        pong = net.loop.run_until_complete(_ping(bob, alice))
        say(alice, bob, lie())
        net.run(0.5)
        assert pong.cancelled()


async def _ping(node: Node, other: Node) -> object:
    return node.session.proving.ping(node.peer(other), 118)


@pytest.mark.parametrize("versions", [[], [2], [2, 3]])
def test_peer_that_speaks_no_version_of_ours_gets_type_4_only(versions: list[int]) -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        key = alice.identity.peer_id.public_key
        say(alice, bob, Notice(b=b"another!", n=1, id=key, v=versions, burst=64_400, mtu=1352))
        net.run(0.1)
        assert bob.peer(alice).burst_limit == 0
        packet = packets.tcp(bob.address, alice.address, bytes(20_000))
        bob.tun.program_sends(packet, segment=1000)
        net.run()
        assert alice.tun.received == packets.segments(packet, 1000)
        assert {len(call.datagrams[0]) for call in bob.calls_to(alice.socket)[-2:]} != {1472}
        assert {datagram.data[0] for datagram in net.wire[-20:]} == {4}


@pytest.mark.parametrize("burst", [1, 15, 40, 300, 2000, 10_000, 65_535])
def test_bursts_are_never_larger_than_the_peer_says_that_it_takes(burst: int) -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        say(
            alice,
            bob,
            Notice(b=b"another!", n=1, id=alice.identity.peer_id.public_key, v=[1], burst=burst, mtu=1352),
        )
        net.run(0.1)
        packet = packets.tcp(bob.address, alice.address, bytes(60_000))
        bob.tun.program_sends(packet, segment=1200)
        net.run()
        assert alice.tun.received == packets.segments(packet, 1200)
        totals = {int.from_bytes(datagram.data[16:18], "little") for datagram in net.wire if datagram.data[0] == 5}
        assert all(total <= min(burst, MAX_TOTAL_BYTES) for total in totals)


def test_abilities_that_change_are_told_to_every_peer() -> None:
    with Net() as net:
        alice, bob = net.node("alice", tun=False), net.node("bob")
        net.connect(bob, alice)
        assert not bob.peer(alice).takes_udp
        alice.attach(alice.tun)
        net.run(0.1)
        assert bob.peer(alice).takes_udp


def test_what_a_peer_said_holds_through_a_rekey() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        before = bob.peer(alice).tunnel.last_handshake_at
        for _ in range(130):
            alice.tun.program_sends(packets.udp(alice.address, bob.address, b"x"))
            bob.tun.program_sends(packets.udp(bob.address, alice.address, b"y"))
            net.run(1)
            assert alice.peer(bob).burst_limit == bob.peer(alice).burst_limit == MAX_TOTAL_BYTES
        assert bob.peer(alice).tunnel.last_handshake_at != before
        assert len(bob.tun.received) == len(alice.tun.received) == 130


def test_node_that_starts_anew_is_told_again_who_the_other_one_is() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        alice.task.cancel()
        again = net.node("alice", "10.0.0.1")
        net.connect(again, bob)
        assert again.peer(bob).peer_id == bob.identity.peer_id
        assert again.peer(bob).takes_udp


@pytest.mark.parametrize("forgetful", ["the one that calls", "both"])
def test_peer_that_is_disconnected_and_connected_again_is_known_again(forgetful: str) -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        alice.session.remove(alice.peer(bob))
        if forgetful == "both":
            bob.session.remove(bob.peer(alice))
        net.run(1)
        net.connect(alice, bob)
        assert alice.peer(bob).is_known
        assert bob.peer(alice).is_known
        assert alice.peer(bob).path.rtt_ns is not None


def test_hello_that_says_nothing_of_bursts_asks_for_type_4_only() -> None:
    hello = Hello(bytes(32), 0, 1352)
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        key = alice.identity.peer_id.public_key
        say(alice, bob, Notice(b=b"another!", n=1, id=key, v=[1], burst=hello.burst))
        net.run(0.1)
        assert bob.peer(alice).burst_limit == 0
        assert bob.peer(alice).path.size.pieces == 1


def test_clock_of_the_fixture_is_virtual() -> None:
    with Net() as net:
        before = net.now
        net.run(3600)
        assert net.now - before == 3600 * S
