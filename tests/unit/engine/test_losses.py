"""Pieces that are lost, doubled, late, and of several peers mixed up in what one receive gives."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine import forge, packets
from tests.unit.engine.pair import Datagram, Net, Node


def joined(net: Net, count: int = 2) -> list[Node]:
    nodes = [net.node(name) for name in ("alice", "bob", "carol", "dave")[:count]]
    net.connect(*nodes)
    return nodes


def held(net: Net, *sends: Callable[[], None]) -> list[Datagram]:
    """What was sent, in its order, undelivered."""
    net.hold()
    for send in sends:
        send()
        net.run(0.0001)
    return net.release()


def numbered(sender: Node, receiver: Node, number: int, size: int = 10_000) -> bytes:
    return packets.tcp(sender.address, receiver.address, bytes((number % 256,)) * size, ports=(1000 + number, 7))


def sending(sender: Node, receiver: Node, number: int, size: int = 10_000) -> Callable[[], None]:
    return lambda: sender.tun.program_sends(numbered(sender, receiver, number, size), segment=1000)


def ports(received: list[bytes]) -> set[int]:
    return {int.from_bytes(packet[40:42], "big") - 1000 for packet in received}


@pytest.mark.parametrize("gro", [True, False])
def test_lost_piece_loses_its_burst_and_no_other(gro: bool) -> None:
    with Net() as net:
        alice, bob = joined(net)
        bob.socket.gro = gro
        datagrams = held(net, *(sending(alice, bob, number) for number in range(8)))
        assert len(datagrams) == 8 * 7
        forge.deliver(net, *(each for place, each in enumerate(datagrams) if place not in {0, 10, 20, 28}))
        assert ports(bob.tun.received) == {3, 5, 6, 7}
        net.run(1)
        meter = bob.peer(alice).meter.report()
        assert (meter.opened, meter.given_up, meter.expected - meter.got, meter.bad_tags) == (4, 4, 4, 0)


@given(st.integers(0, 2**32), st.integers(0, 40), st.booleans())
@settings(max_examples=40)
def test_pieces_that_come_doubled_and_in_any_order_within_eight_bursts_lose_nothing(
    seed: int, doubled: int, gro: bool
) -> None:
    random = Random(seed)
    with Net() as net:
        alice, bob = joined(net)
        bob.socket.gro = gro
        datagrams = held(net, *(sending(alice, bob, number, random.randrange(1, 15_000)) for number in range(8)))
        datagrams += random.choices(datagrams, k=doubled)
        random.shuffle(datagrams)
        forge.deliver(net, *datagrams)
        assert ports(bob.tun.received) == set(range(8))
        assert set(bob.drops) <= {"join: twice", "replayed"}


@pytest.mark.parametrize("seed", range(4))
def test_lossy_path_delivers_only_what_was_sent_and_each_at_most_once(seed: int) -> None:
    with Net(seed=seed) as net:
        alice, bob = joined(net)
        net.faults.loss, net.faults.double, net.faults.late = 0.02, 0.05, 0.1
        sent: list[bytes] = []
        random = Random(seed)
        for number in range(150):
            packet = numbered(alice, bob, number, random.choice([10, 900, 5000, 20_000]))
            sent += packets.segments(packet, 1000)
            alice.tun.program_sends(packet, segment=1000)
            net.run(0.003)
        net.run(3)
        received = bob.tun.received
        assert len(received) == len(set(received))
        assert set(received) <= set(sent)
        assert len(received) > 0.5 * len(sent)
        assert set(bob.drops) <= {"join: twice", "join: no room", "replayed"}


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.booleans())
def test_three_peers_flows_and_types_mixed_in_one_receive_order_all_arrive(seed: int, gro: bool) -> None:
    random = Random(seed)
    with Net() as net:
        alice, *others = joined(net, 4)
        alice.socket.gro = gro
        queues = []
        sent: list[bytes] = []
        for other in others:
            sends = []
            for number in range(random.randrange(1, 5)):
                packet = numbered(other, alice, number, random.choice([5, 700, 4000, 30_000]))
                sent += packets.segments(packet, 1000)
                sends.append(lambda other=other, packet=packet: other.tun.program_sends(packet, segment=1000))
            queues.append(held(net, *sends))
        mixed = []
        while queues:
            queue = random.choice(queues)
            mixed += [queue.pop(0) for _ in range(min(len(queue), random.choice([1, 1, 2, 5, 30])))]
            queues = [each for each in queues if each]
        forge.deliver(net, *mixed)
        assert packets.by_flow(alice.tun.received) == packets.by_flow(sent)
        assert not alice.drops


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_everything_mixed_behind_one_address_in_one_gro_buffer_is_told_apart(seed: int) -> None:
    random = Random(seed)
    with Net() as net:
        alice, bob, carol = joined(net, 3)
        size = random.choice([1472, 800])
        sent, mixed = [], []
        for number in range(random.randrange(3, 20)):
            sender = random.choice([bob, carol])
            shape = random.choice(["single", "burst", "noise", "stun", "unknown index", "short burst"])
            packet = packets.udp(sender.address, alice.address, bytes(size - 32 - 48), ports=(1000 + number, 7))
            if shape == "single":
                mixed.append(forge.data(sender, alice, packet))
                sent.append(packet)
            elif shape == "short burst":
                filled = packets.udp(sender.address, alice.address, bytes(size - 44 - 48), ports=(1000 + number, 7))
                plain = forge.record(filled)
                if len(plain) % 16 == 0 and size - 20 - 16 == len(plain):
                    mixed += forge.burst(sender, alice, plain, piece=size - 20)
                    sent.append(filled)
            elif shape == "burst":
                large = packets.udp(
                    sender.address, alice.address, bytes(random.randrange(3000)), ports=(1000 + number, 7)
                )
                pieces = forge.burst(sender, alice, forge.padded(forge.record(large)), piece=size - 20)
                mixed += pieces
                sent.append(large)
            elif shape == "unknown index":
                mixed.append(Datagram(b"\5\0\0\0" + random.randbytes(size - 4), ("", 0), alice.socket.source))
            else:
                head = {"noise": b"\x99\1\2\3", "stun": b"\0\1\0\0\x21\x12\xa4\x42"}[shape]
                mixed.append(Datagram(head.ljust(size, b"\7"), ("", 0), alice.socket.source))
        forge.deliver(net, *(each._replace(source=bob.socket.source) for each in mixed))
        assert sorted(alice.tun.received) == sorted(sent)
        assert set(alice.drops) <= {"unknown", "unknown index", "burst: undecodable"}


def test_late_piece_of_a_burst_that_was_given_up_revives_nothing() -> None:
    with Net() as net:
        alice, bob = joined(net)
        *pieces, last = held(net, sending(alice, bob, 1))
        forge.deliver(net, *pieces)
        net.run(0.3)
        forge.deliver(net, last)
        assert bob.tun.received == []
        assert bob.peer(alice).meter.report().given_up == 1
        net.run(0.3)
        assert bob.peer(alice).joiner.unfinished == 0


def test_more_than_eight_bursts_at_once_cost_the_oldest_ones() -> None:
    with Net() as net:
        alice, bob = joined(net)
        bursts = [held(net, sending(alice, bob, number)) for number in range(10)]
        forge.deliver(net, *(burst[0] for burst in bursts))
        assert bob.peer(alice).joiner.unfinished == 8
        forge.deliver(net, *(piece for burst in bursts[2:] for piece in burst[1:]))
        assert ports(bob.tun.received) == set(range(2, 10))
        assert bob.peer(alice).meter.report().given_up == 2


@pytest.mark.parametrize("pieces", [None, 3, 0])
def test_replies_and_rekeys_never_use_a_counter_twice(pieces: int | None) -> None:
    with Net(seed=5) as net:
        alice, bob = (net.node(name, fixed_pieces=pieces) for name in ("alice", "bob"))
        net.connect(alice, bob)
        net.faults.loss = 0.01
        for number in range(130):
            alice.tun.program_sends(numbered(alice, bob, number, 30_000), segment=1000)
            bob.tun.program_sends(numbered(bob, alice, number, 3000), segment=1000)
            bob.tun.program_sends(numbered(bob, alice, number, 30))
            net.run(2)
        assert len({key for key, _ in net.sealed}) >= 6
        assert sum(net.sealed.values()) > 130 * 3
        assert set(net.sealed.values()) == {1}


def test_counter_of_a_send_that_failed_is_not_used_again() -> None:
    with Net() as net:
        alice, bob = joined(net)
        keypair = forge.keypair_of(alice, bob)
        alice.socket.link_mtu = 1300
        before = keypair.counter
        alice.tun.program_sends(numbered(alice, bob, 1), segment=1000)
        net.run(0.0001)
        alice.socket.link_mtu = 1500
        assert keypair.counter > before
        alice.tun.program_sends(numbered(alice, bob, 2), segment=1000)
        net.run(0.01)
        assert ports(bob.tun.received) == {2}
        assert set(net.sealed.values()) == {1}


def test_restarted_session_never_seals_with_an_old_key() -> None:
    with Net() as net:
        alice, bob = joined(net)
        alice.tun.program_sends(numbered(alice, bob, 1), segment=1000)
        net.run()
        old = {key for key, _ in net.sealed}
        alice.session.close()
        alice.task.cancel()
        again = net.node("alice", "10.0.0.1")
        net.connect(again, bob)
        before = set(net.sealed)
        again.tun.program_sends(numbered(again, bob, 2), segment=1000)
        net.run()
        assert {key for key, nonce in net.sealed if (key, nonce) not in before}.isdisjoint(old)
        assert ports(bob.tun.received) == {1, 2}
