"""Who may send what to whom: inner sources, the firewall, packets that nobody can take, packets that wait."""

from __future__ import annotations

import struct
from ipaddress import ip_network

import pytest

from tests.unit.engine import forge, packets
from tests.unit.engine.packets import ACK, RST, SYN
from tests.unit.engine.pair import FakeTun, Net, Node, add_device
from weft.burst.records import KIND_PACKET
from weft.engine.peer import MAX_QUEUED_PACKETS
from weft.io.device import Read

LOCAL = {"alice": b"\x0a\x63\0\1", "bob": b"\x0a\x63\0\2"}


def joined(net: Net, count: int = 2, **terms: object) -> list[Node]:
    nodes = [net.node(name, **terms) for name in ("alice", "bob", "carol")[:count]]
    net.connect(*nodes)
    for other in nodes[1:]:
        net.connect(nodes[1], *(each for each in nodes[2:] if each is not other))
        break
    return nodes


def stock(net: Net, sender: Node, receiver: Node, *more: str) -> None:
    """Join two nodes that take each other for WireGuard devices."""
    for one, other in ((sender, receiver), (receiver, sender)):
        prefixes = (str(ip_network(other.address)), *(more if one is receiver else ()))
        networks = tuple(map(ip_network, prefixes))
        add_device(one.session.contacts, other.identity.noise_public, other.name, networks, bytes(32), 0)
    sender.session.call(sender.peer(receiver), sender.endpoint(receiver.socket))
    net.run(0.1)


# Sources.


def test_source_is_checked_for_each_record_of_a_burst() -> None:
    with Net() as net:
        alice, bob, carol = joined(net, 3)
        good = [packets.udp(alice.address, bob.address, bytes((number,))) for number in range(3)]
        bad = packets.udp(carol.address, bob.address, b"forged")
        own = packets.udp(bob.address, bob.address, b"forged")
        nobody = packets.udp(b"\xfc" + bytes(15), bob.address, b"forged")
        each = [good[0], bad, good[1], own, nobody, good[2]]
        forge.deliver(net, *forge.records(alice, bob, *map(forge.record, each)))
        assert bob.tun.received == good
        assert bob.drops == {"source is not the peer's": 3}


def test_source_of_another_peer_is_refused_in_type_4_and_super_packets_too() -> None:
    with Net() as net:
        alice, bob, carol = joined(net, 3)
        large = packets.tcp(carol.address, bob.address, bytes(5000))
        forge.deliver(net, forge.data(alice, bob, packets.udp(carol.address, bob.address, b"forged")))
        forge.deliver(net, *forge.records(alice, bob, forge.record(large, 1, 1, 1000)))
        assert bob.tun.written == []
        assert bob.drops == {"source is not the peer's": 2}


@pytest.mark.parametrize(
    ("source", "enters"),
    [
        ("10.1.0.1", True),
        ("10.1.255.254", True),
        ("10.1.0.0", True),
        ("10.1.7.7", False),
        ("10.1.8.0", False),
        ("10.2.0.1", False),
    ],
)
def test_stock_device_may_use_its_networks_but_not_what_is_given_to_a_closer_one(source: str, enters: bool) -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        stock(net, alice, bob, "10.1.0.0/16")
        closer = tuple(map(ip_network, ("10.1.7.7/32", "10.1.8.0/24")))
        add_device(bob.session.contacts, bytes(31) + b"\7", "closer", closer, bytes(32), 0)
        sent = packets.udp(bytes(map(int, source.split("."))), b"\x0a\x63\0\2", b"x")
        forge.deliver(net, forge.data(alice, bob, sent))
        assert bob.tun.received == ([sent] if enters else [])


def test_base_address_of_a_network_belongs_to_whom_it_is_given() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        for one, other in ((alice, bob), (bob, alice)):
            networks = tuple(map(ip_network, ("10.1.0.0/16",)))
            add_device(one.session.contacts, other.identity.noise_public, other.name, networks, bytes(32), 0)
        alice.session.call(alice.peer(bob), alice.endpoint(bob.socket))
        net.run(0.1)
        add_device(bob.session.contacts, bytes(31) + b"\7", "closer", (ip_network("10.1.0.0/32"),), bytes(32), 0)
        forge.deliver(net, forge.data(alice, bob, packets.udp(b"\x0a\1\0\0", b"\x0a\x63\0\2", b"x")))
        assert bob.tun.received == []


# The firewall.


def test_firewall_judges_each_record_and_its_rejections_go_back_to_that_peer() -> None:
    with Net() as net:
        alice, bob, carol = (net.node(name, rules=("/udp/5",)) for name in ("alice", "bob", "carol"))
        net.connect(bob, alice, carol)
        net.run(61)
        before = len(net.wire)
        each = [
            packets.udp(alice.address, bob.address, b"in", ports=(1, 5)),
            packets.udp(alice.address, bob.address, b"out", ports=(1, 6)),
            packets.tcp(alice.address, bob.address, ports=(1, 5), flags=SYN),
            packets.udp(alice.address, bob.address, b"in too", ports=(2, 5)),
        ]
        alice.tun.program_sends(*each)
        net.run(0.01)
        assert bob.tun.received == [each[0], each[3]]
        assert bob.firewall.drops == {"not_allowed": 2}
        refused, reset = alice.tun.received
        assert packets.upper(refused)[0] == packets.ICMPV6
        assert refused[40:42] == b"\1\4"
        assert refused[48:88] == each[1][:40]
        assert packets.upper(reset)[0] == packets.TCP
        assert reset[53] == RST | ACK
        assert all(map(packets.is_sound, alice.tun.received))
        assert carol.tun.received == []
        assert {each.destination for each in net.wire[before:] if each.source == bob.socket.source} == {
            alice.socket.source
        }


def test_super_packet_of_no_known_flow_is_refused_as_a_whole() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob", rules=())
        net.connect(alice, bob)
        net.run(61)
        alice.tun.program_sends(packets.tcp(alice.address, bob.address, bytes(30_000)), segment=1000)
        net.run(0.01)
        assert bob.tun.written == []
        assert bob.firewall.drops == {"no_flow": 1}


def test_replies_to_what_was_asked_come_in_without_a_rule() -> None:
    with Net() as net:
        alice, bob = net.node("alice", rules=()), net.node("bob")
        net.connect(alice, bob)
        net.run(61)
        alice.tun.program_sends(packets.tcp(alice.address, bob.address, ports=(5000, 80), flags=SYN))
        net.run(0.01)
        bob.tun.program_sends(packets.tcp(bob.address, alice.address, ports=(80, 5000), flags=SYN | ACK))
        net.run(0.01)
        alice.tun.program_sends(packets.tcp(alice.address, bob.address, ports=(5000, 80), flags=ACK))
        net.run(0.01)
        large = packets.tcp(bob.address, alice.address, bytes(50_000), ports=(80, 5000))
        bob.tun.program_sends(large, segment=1000)
        bob.tun.program_sends(packets.tcp(bob.address, alice.address, b"x", ports=(81, 5000)))
        net.run(0.01)
        assert alice.tun.received[1:] == packets.segments(large, 1000)


def test_rejection_to_a_peer_whose_session_is_gone_waits_for_the_next_one() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        bob.session.handle_refused(
            bob.peer(alice), memoryview(packets.tcp(alice.address, bob.address, flags=SYN)), net.now
        )
        net.run(0.01)
        assert len(alice.tun.received) == 1


# What nobody can take.


def quoted(answer: bytes) -> bytes:
    return answer[48:] if answer[0] >> 4 == 6 else answer[28:]


def test_destination_of_nobody_is_answered_with_unreachable() -> None:
    with Net() as net:
        alice, _ = joined(net)
        lost = packets.udp(alice.address, b"\xfc\1" + bytes(14), b"x")
        alice.tun.program_sends(lost)
        net.run(0.001)
        (answer,) = alice.tun.received
        assert packets.is_sound(answer)
        assert answer[40:42] == b"\1\3"
        assert (answer[8:24], answer[24:40]) == (alice.address, alice.address)
        assert quoted(answer)[:46] == lost[:46]
        assert alice.drops == {"no peer has the destination": 1}


def test_ipv4_destination_of_nobody_is_answered_with_unreachable() -> None:
    with Net() as net:
        alice, _ = joined(net)
        lost = packets.udp(LOCAL["alice"], b"\x0a\x63\0\x63", b"x")
        alice.tun.program_sends(lost)
        net.run(0.001)
        (answer,) = alice.tun.received
        assert packets.is_sound(answer)
        assert answer[20:22] == b"\3\1"
        assert quoted(answer)[:8] == lost[:8]


@pytest.mark.parametrize(
    "destination", [b"\xff\2" + bytes(13) + b"\1", b"\xff\2" + bytes(13) + b"\x16", b"\xe0\0\0\xfb", b"\xff" * 4]
)
def test_multicast_and_broadcast_are_not_answered(destination: bytes) -> None:
    with Net() as net:
        alice, _ = joined(net)
        source = alice.address if len(destination) == 16 else LOCAL["alice"]
        for _ in range(200):
            alice.tun.program_sends(packets.udp(source, destination, b"x"))
        net.run(0.001)
        assert alice.tun.received == []
        alice.tun.program_sends(packets.udp(alice.address, b"\xfc\1" + bytes(14), b"x"))
        net.run(0.001)
        assert len(alice.tun.received) == 1


def test_errors_are_not_answered_with_errors() -> None:
    with Net() as net:
        alice, _ = joined(net)
        error = packets.complete(packets.ip(alice.address, b"\xfc\1" + bytes(14), packets.ICMPV6, b"\1\3" + bytes(60)))
        alice.tun.program_sends(error)
        net.run(0.001)
        assert alice.tun.received == []


def test_answers_about_unreachable_destinations_are_limited() -> None:
    with Net() as net:
        alice, _ = joined(net)
        for number in range(1000):
            alice.tun.program_sends(packets.udp(alice.address, b"\xfc\1" + bytes(14), b"x", ports=(number, 1)))
        net.run(0.001)
        assert 100 <= len(alice.tun.received) <= 102
        net.run(1)
        alice.tun.received.clear()
        alice.tun.program_sends(packets.udp(alice.address, b"\xfc\1" + bytes(14), b"x"))
        net.run(0.001)
        assert len(alice.tun.received) == 1


@pytest.mark.parametrize(("length", "fits"), [(1440, True), (1441, False), (9000, False)])
def test_packet_too_big_for_a_stock_device_is_answered_with_what_fits(length: int, fits: bool) -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        stock(net, alice, bob)
        sent = packets.udp(alice.address, bob.address, bytes(length - 48))
        alice.tun.program_sends(sent)
        net.run(0.01)
        assert bob.tun.received == ([sent] if fits else [])
        if fits:
            assert alice.tun.received == []
            return
        (answer,) = alice.tun.received
        assert packets.is_sound(answer)
        assert struct.unpack("!BB2xI", answer[40:48]) == (2, 0, 1440)
        assert len(answer) <= 1280
        assert alice.drops == {"too big for the path": 1}


@pytest.mark.parametrize("length", [1220, 1221, 1279, 1280])
def test_stock_device_behind_a_small_link_gets_every_packet_that_ipv6_must_carry(length: int) -> None:
    with Net(link_mtu=1280) as net:
        alice, bob = net.node("alice"), net.node("bob")
        stock(net, alice, bob)
        sent = [packets.udp(alice.address, bob.address, bytes((number,)) * (length - 48)) for number in range(3)]
        alice.tun.program_sends(*sent)
        net.run(0.01)
        assert bob.tun.received == sent
        assert alice.tun.received == []


@pytest.mark.parametrize("length", [1281, 1352])
def test_ipv6_packet_is_never_said_to_need_less_than_1280_bytes(length: int) -> None:
    with Net(link_mtu=1280) as net:
        alice, bob = net.node("alice"), net.node("bob")
        stock(net, alice, bob)
        alice.tun.program_sends(packets.udp(alice.address, bob.address, bytes(length - 48)))
        net.run(0.01)
        assert bob.tun.received == []
        assert struct.unpack("!BB2xI", alice.tun.received[0][40:48]) == (2, 0, 1280)


def test_ipv4_packet_too_big_for_a_stock_device_is_answered_with_what_fits() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        stock(net, bob, alice, "10.99.0.2/32")
        sent = packets.udp(LOCAL["alice"], LOCAL["bob"], bytes(3000))
        alice.tun.program_sends(sent)
        net.run(0.01)
        (answer,) = alice.tun.received
        assert packets.is_sound(answer)
        assert struct.unpack("!BB2xHH", answer[20:28]) == (3, 4, 0, 1440)


def test_large_segments_for_a_stock_device_are_answered_too() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        stock(net, alice, bob)
        alice.tun.program_sends(packets.tcp(alice.address, bob.address, bytes(20_000)), segment=2000)
        net.run(0.01)
        assert bob.tun.received == []
        assert struct.unpack("!BB2xI", alice.tun.received[0][40:48]) == (2, 0, 1440)


def test_packet_too_short_to_have_a_destination_is_counted() -> None:
    with Net() as net:
        alice, _ = joined(net)
        for packet in (b"", b"\x60", b"\x45" + bytes(18), b"\x60" + bytes(30), b"\x60" + bytes(38)):
            alice.tun.put(packet, Read(len(packet), KIND_PACKET, 0, False))
        net.run(0.001)
        assert alice.drops == {"tun: short packet": 5}


def test_packets_that_are_no_ip_leave_nobody() -> None:
    with Net() as net:
        alice, bob = joined(net)
        before = len(net.wire)
        for packet in (bytes(60), b"\x70" + bytes(60), b"\x45" + bytes(19), b"\x60" + bytes(23) + bob.address):
            alice.tun.put(packet, Read(len(packet), KIND_PACKET, 0, False))
        net.run(0.001)
        assert bob.tun.received == []
        assert len(net.wire) == before


# What waits.


def test_packets_wait_for_the_session_and_are_sent_in_order_when_it_comes_up() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        peer = alice.session.contacts.add_weft(bob.identity.noise_public, bob.identity.peer_id, is_wanted=True)
        sent = []
        for number in range(5):
            packet = packets.tcp(alice.address, bob.address, bytes((number,)) * 3000, sequence=1 + number * 3000)
            sent += packets.segments(packet, 1000)
            alice.tun.program_sends(packet, segment=1000)
            small = packets.udp(alice.address, bob.address, bytes((number,)))
            sent.append(small)
            alice.tun.program_sends(small)
        net.run(0.1)
        assert bob.tun.received == []
        alice.session.call(peer, alice.endpoint(bob.socket))
        net.run(5.5)
        assert packets.by_flow(bob.tun.received) == packets.by_flow(sent)


def test_packets_that_come_with_the_session_do_not_overtake_those_that_wait() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        sent = [packets.udp(alice.address, bob.address, bytes((number,))) for number in range(20)]
        alice.call(bob)
        alice.tun.program_sends(*sent[:5])
        net.run(0.0005)
        net.hold()
        net.run(0.001)
        (response,) = net.release()
        net.deliver(response)
        alice.tun.program_sends(*sent[5:15])
        net.run(0.01)
        alice.tun.program_sends(*sent[15:])
        net.run(0.01)
        assert bob.tun.received == sent


def test_queue_for_a_session_is_bounded_and_keeps_the_newest() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        alice.session.contacts.add_weft(bob.identity.noise_public, bob.identity.peer_id, is_wanted=True)
        sent = [packets.udp(alice.address, bob.address, bytes((number,))) for number in range(100)]
        alice.tun.program_sends(*sent)
        net.run(0.001)
        assert alice.drops["queue for a session full"] == 100 - MAX_QUEUED_PACKETS
        alice.call(bob)
        net.run(5.5)
        assert bob.tun.received == sent[-MAX_QUEUED_PACKETS:]


def test_packets_that_wait_in_vain_are_dropped_when_the_handshake_is_given_up() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.faults.loss = 1
        peer = alice.call(bob)
        alice.tun.program_sends(*(packets.udp(alice.address, bob.address, bytes((number,))) for number in range(7)))
        net.run(100)
        assert alice.drops["no answer to handshakes"] == 7
        assert not peer.queue


def test_first_packet_begins_the_handshake_by_itself() -> None:
    with Net() as net:
        alice, bob = joined(net)
        net.run(20)
        net.faults.loss = 1
        net.run(400)
        net.faults.loss = 0
        assert not alice.peer(bob).tunnel.is_up(net.now)
        packet = packets.udp(alice.address, bob.address, b"wake up")
        alice.tun.program_sends(packet)
        net.run(6)
        assert bob.tun.received == [packet]


def test_peer_that_goes_takes_its_packets_along() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        peer = alice.call(bob)
        alice.tun.program_sends(packets.udp(alice.address, bob.address, b"x"))
        alice.session.remove(peer)
        net.run(30)
        assert bob.tun.received == []
        assert alice.drops["no peer has the destination"] == 1


# Without a TUN.


def test_packets_without_an_interface_are_counted() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob", tun=False)
        net.connect(alice, bob)
        alice.tun.program_sends(packets.udp(alice.address, bob.address, b"x"))
        alice.tun.program_sends(packets.tcp(alice.address, bob.address, bytes(3000)), segment=1000)
        net.run(0.01)
        assert bob.drops["no interface"] >= 2
        bob.attach(FakeTun(bob))
        net.run(0.01)
        packet = packets.udp(alice.address, bob.address, b"y")
        alice.tun.program_sends(packet)
        net.run(0.01)
        assert bob.tun.received == [packet]
