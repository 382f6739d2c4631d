"""Peers that move: what goes where before anybody answered from there, and what is done about it."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tests.unit.engine import packets
from tests.unit.engine.pair import Datagram, FakeSocket, Net, Node, add_device
from weft.burst.header import DATA_OVERHEAD_BYTES
from weft.burst.size import LossReport
from weft.mesh.probe import MIN_PING_BYTES
from weft.noise.timers import REKEY_TIMEOUT_NS


def up_and_down(net: Net) -> tuple[Node, Node]:
    alice, bob = net.node("alice"), net.node("bob")
    net.connect(alice, bob)
    return alice, bob


def between(net: Net, source: FakeSocket, destination: FakeSocket) -> list[Datagram]:
    return [each for each in net.wire if (each.source, each.destination) == (source.source, destination.source)]


def size(datagrams: list[Datagram]) -> int:
    return sum(len(datagram.data) for datagram in datagrams)


def test_peer_that_moved_is_followed_and_gets_bursts_again_after_one_round_trip() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        alice.socket.move("10.9.9.9")
        alice.tun.program_sends(packets.udp(alice.address, bob.address, b"here"))
        net.run(0.0015)
        peer = bob.peer(alice)
        assert peer.path.endpoint == bob.endpoint(alice.socket)
        assert not peer.path.is_proven
        assert peer.burst_limit == 0
        net.run(0.0025)
        assert peer.path.is_proven
        assert peer.burst_limit > 0
        packet = packets.tcp(bob.address, alice.address, bytes(50_000))
        bob.tun.program_sends(packet, segment=1200)
        net.run()
        assert alice.tun.received == packets.segments(packet, 1200)
        assert between(net, bob.socket, alice.socket)[-1].data[0] == 5
        assert bob.changes


@pytest.mark.parametrize("payload", [0, 1, 500, 1200])
def test_endpoint_that_does_not_answer_gets_type_4_only_and_three_times_what_came(payload: int) -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        alice.socket.move("10.9.9.9")
        net.faults.drops = lambda datagram: datagram.source == bob.socket.source
        for number in range(40):
            alice.tun.program_sends(packets.udp(alice.address, bob.address, bytes(payload)))
            net.run(0.0015)
            bob.tun.program_sends(packets.tcp(bob.address, alice.address, bytes(60_000)), segment=1000)
            bob.tun.program_sends(packets.udp(bob.address, alice.address, bytes(number)))
            net.run(0.3)
            sent = between(net, bob.socket, alice.socket)
            came = between(net, alice.socket, bob.socket)
            assert size(sent) <= 3 * size(came)
            assert {datagram.data[0] for datagram in sent} <= {4}
        assert bob.drops["unproven endpoint"]


def test_bursts_that_came_from_a_new_endpoint_count_once_for_what_may_go_there() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        alice.socket.move("10.9.9.9")
        net.faults.drops = lambda datagram: datagram.source == bob.socket.source
        alice.tun.program_sends(packets.tcp(alice.address, bob.address, bytes(20_000)), segment=1000)
        net.run(0.01)
        for _ in range(10):
            bob.tun.program_sends(packets.tcp(bob.address, alice.address, bytes(60_000)), segment=1000)
            net.run(0.01)
        sent, came = size(between(net, bob.socket, alice.socket)), size(between(net, alice.socket, bob.socket))
        assert came <= sent <= 3 * came


def test_handshake_from_a_new_endpoint_gets_its_response_within_the_bound() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        net.run(6)
        alice.socket.move("10.9.9.9")
        net.faults.drops = lambda datagram: datagram.source == bob.socket.source
        alice.session.call(alice.peer(bob), None)
        net.run(1)
        came, sent = between(net, alice.socket, bob.socket), between(net, bob.socket, alice.socket)
        assert [datagram.data[0] for datagram in sent][:1] == [2]
        assert size(sent) <= 3 * size(came)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_question_that_was_lost_is_asked_again(lost: int) -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        alice.socket.move("10.9.9.9")
        net.faults.drops = lambda datagram: datagram.source == bob.socket.source
        for _ in range(lost * 4):
            alice.tun.program_sends(packets.udp(alice.address, bob.address, bytes(200)))
            net.run(0.5)
        assert not bob.peer(alice).path.is_proven
        net.faults.drops = lambda datagram: False
        net.run(2)
        alice.tun.program_sends(packets.udp(alice.address, bob.address, bytes(200)))
        net.run()
        assert bob.peer(alice).path.is_proven
        assert bob.peer(alice).burst_limit > 0


def test_peer_that_moved_and_only_sends_keepalives_is_asked_as_soon_as_the_bound_allows() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        net.run(20)
        alice.socket.move("10.9.9.9")
        net.run(110)
        assert bob.peer(alice).path.endpoint == bob.endpoint(alice.socket)
        sent, came = between(net, bob.socket, alice.socket), between(net, alice.socket, bob.socket)
        assert sent
        assert size(sent) <= 3 * size(came) or bob.peer(alice).path.is_proven


def test_receiver_that_moved_and_shows_up_gets_the_rest_at_once() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        net.run(20)
        alice.socket.move("10.9.9.9")
        alice.session.show_up()
        net.run(0.005)
        assert bob.peer(alice).path.endpoint == bob.endpoint(alice.socket)
        assert bob.peer(alice).path.is_proven
        packet = packets.tcp(bob.address, alice.address, bytes(50_000))
        bob.tun.program_sends(packet, segment=1200)
        net.run()
        assert alice.tun.received == packets.segments(packet, 1200)
        assert not bob.drops["unproven endpoint"]


def test_peer_whose_first_message_from_elsewhere_is_small_is_asked_with_the_next_larger_one() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        alice.socket.move("10.9.9.9")
        alice.peer(bob).tunnel.keep_alive(net.now)
        alice.session.attend(alice.peer(bob))
        net.run(0.005)
        assert bob.peer(alice).path.endpoint == bob.endpoint(alice.socket)
        assert not bob.peer(alice).path.is_proven
        alice.session.show_up()
        net.run(0.005)
        assert bob.peer(alice).path.is_proven


def test_peer_whose_message_from_elsewhere_is_just_large_enough_is_asked_before_it_is_told_anything() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        alice.socket.move("10.9.9.9")
        report = LossReport(0, 300, 300, 300, 0, 0)
        for one, other in ((alice, bob), (bob, alice)):
            notices = one.peer(other).notices
            assert notices is not None
            notices.report(report)
        alice.session.attend(alice.peer(bob))
        net.run(0.0015)
        (came,) = between(net, alice.socket, bob.socket)
        sizes = [len(datagram.data) for datagram in between(net, bob.socket, alice.socket)]
        assert sizes == [DATA_OVERHEAD_BYTES + MIN_PING_BYTES]
        assert sizes[0] <= 3 * len(came.data) < 2 * sizes[0]
        net.run(0.005)
        assert bob.peer(alice).path.is_proven


def test_node_shows_up_with_one_datagram_at_each_peer_that_has_a_session_and_no_other() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        carol, dave = net.node("carol"), net.node("dave")
        phone = carol.identity.noise_public
        add_device(alice.session.contacts, phone, "phone", (ip_network(carol.address),), bytes(32), 0)
        carol.call(alice)
        alice.session.contacts.add_weft(dave.identity.noise_public, None, is_wanted=True).path.move(
            alice.endpoint(dave.socket), is_ipv6=False, ceiling=1500, proven=True
        )
        net.run(1)
        before = len(net.wire)
        alice.session.show_up()
        net.run(0.0005)
        sent = [(datagram.destination, len(datagram.data)) for datagram in net.wire[before:]]
        assert sorted(sent) == [(bob.socket.source, DATA_OVERHEAD_BYTES + MIN_PING_BYTES), (carol.socket.source, 32)]


def test_questions_end_when_nobody_is_there() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        alice.socket.move("10.9.9.9")
        alice.tun.program_sends(packets.udp(alice.address, bob.address, bytes(200)))
        net.run(0.0005)
        alice.task.cancel()
        del net.sockets[alice.socket.source]
        net.run(400)
        before = len(net.wire)
        net.run(3000)
        assert len(net.wire) == before
        assert bob.session.contacts.by_key(alice.identity.noise_public) is None


def test_response_from_elsewhere_does_not_prove_that_place() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        victim = FakeSocket(net, alice, "10.66.66.66")
        net.hold()
        alice.call(bob)
        net.run(0.001)
        (initiation,) = net.release()
        net.hold()
        net.deliver(initiation)
        net.run(0.001)
        (response,) = net.release()
        net.faults.drops = lambda datagram: True
        net.deliver(response._replace(source=victim.source))
        net.run(0.001)
        peer = alice.peer(bob)
        assert peer.tunnel.is_up(net.now)
        assert peer.path.endpoint == alice.endpoint(victim)
        assert not peer.path.is_proven
        for _ in range(20):
            alice.tun.program_sends(packets.tcp(alice.address, bob.address, bytes(60_000)), segment=1000)
            net.run(0.1)
        assert size(between(net, alice.socket, victim)) <= 3 * len(response.data)


def test_confirmation_from_elsewhere_does_not_prove_that_place() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        victim = FakeSocket(net, alice, "10.66.66.66")
        alice.call(bob)
        net.run(0.0015)
        net.hold()
        net.run(0.001)
        confirmation = net.release()[0]
        net.faults.drops = lambda datagram: True
        net.deliver(confirmation._replace(source=victim.source))
        net.run(0.001)
        peer = bob.peer(alice)
        assert peer.tunnel.is_up(net.now)
        assert not peer.path.is_proven
        for _ in range(20):
            bob.tun.program_sends(packets.tcp(bob.address, alice.address, bytes(60_000)), segment=1000)
            net.run(0.1)
        assert size(between(net, bob.socket, victim)) <= 3 * len(confirmation.data)


def test_both_ends_move_one_after_the_other_and_find_each_other_again() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        alice.socket.move("10.9.9.9")
        alice.tun.program_sends(packets.udp(alice.address, bob.address, b"1"))
        net.run(1)
        bob.socket.move("10.8.8.8")
        bob.tun.program_sends(packets.udp(bob.address, alice.address, b"2"))
        net.run(1)
        for one, other in ((alice, bob), (bob, alice)):
            assert one.peer(other).path.is_proven
            assert one.peer(other).burst_limit > 0
            assert one.peer(other).path.endpoint == one.endpoint(other.socket)


def test_forged_message_moves_nobody() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        net.hold()
        alice.tun.program_sends(packets.udp(alice.address, bob.address, b"1"))
        net.run(0.001)
        (datagram,) = net.release()
        endpoint = bob.peer(alice).path.endpoint
        forged = datagram.data[:-1] + bytes((datagram.data[-1] ^ 1,))
        net.deliver(datagram._replace(data=forged, source=("10.66.66.66", 1)))
        net.deliver(datagram)
        net.run(0.001)
        net.deliver(datagram._replace(source=("10.66.66.66", 1)))
        net.run(0.001)
        assert bob.peer(alice).path.endpoint == endpoint
        assert bob.peer(alice).path.is_proven
        assert bob.drops == {"data: bad tag": 1, "replayed": 1}


def test_path_mtu_is_searched_only_after_proof() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        assert bob.peer(alice).path.mtu.mtu == 1500
        alice.socket.move("10.9.9.9")
        alice.tun.program_sends(packets.udp(alice.address, bob.address, bytes(1200)))
        net.run(0.0015)
        assert bob.peer(alice).path.mtu.mtu == 1280
        assert max(len(each.data) for each in between(net, bob.socket, alice.socket)) <= 1280 - 28
        net.run(0.1)
        assert bob.peer(alice).path.mtu.mtu == 1500


@pytest.mark.parametrize("mtu", [1280, 1340, 1420, 1492])
def test_path_that_carries_less_is_found_out_and_nothing_is_lost_for_long(mtu: int) -> None:
    with Net() as net:
        net.faults.mtu = mtu
        alice, bob = net.node("alice"), net.node("bob")
        alice.call(bob)
        net.run(60)
        assert mtu - 40 <= alice.peer(bob).path.mtu.mtu <= mtu
        packet = packets.tcp(alice.address, bob.address, bytes(60_000))
        alice.tun.program_sends(packet, segment=1292)
        net.run()
        assert bob.tun.received == packets.segments(packet, 1292)


def test_search_of_the_path_mtu_begins_no_handshakes_and_ends() -> None:
    with Net() as net:
        net.faults.mtu = 1340
        alice, bob = net.node("alice"), net.node("bob")
        alice.call(bob)
        net.run(30)
        before = len(net.wire)
        net.run(60)
        assert {len(datagram.data) for datagram in net.wire[before:]} == {32}
        assert alice.peer(bob).path.mtu.mtu == bob.peer(alice).path.mtu.mtu == 1340


def test_path_mtu_that_shrinks_is_lowered_by_lost_probes_while_data_flows() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        net.faults.mtu = 1400
        for _ in range(60):
            alice.tun.program_sends(packets.tcp(alice.address, bob.address, bytes(5_000)), segment=1292)
            net.run(0.5)
        assert alice.peer(bob).path.mtu.mtu <= 1400
        bob.tun.received.clear()
        packet = packets.tcp(alice.address, bob.address, bytes(60_000), sequence=77)
        alice.tun.program_sends(packet, segment=1292)
        net.run()
        assert bob.tun.received == packets.segments(packet, 1292)


def test_datagram_too_big_for_the_local_link_lowers_the_path_mtu_at_once() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        alice.socket.link_mtu = 1400
        lost = packets.tcp(alice.address, bob.address, bytes(30_000))
        alice.tun.program_sends(lost, segment=1292)
        net.run(0.01)
        assert bob.tun.received == []
        assert 1280 <= alice.peer(bob).path.mtu.mtu <= 1400
        alice.tun.program_sends(lost, segment=1292)
        net.run(0.01)
        assert bob.tun.received == packets.segments(lost, 1292)
        net.run(120)
        assert 1280 <= alice.peer(bob).path.mtu.mtu <= 1400


def test_idle_path_is_not_probed_again_and_again() -> None:
    with Net() as net:
        up_and_down(net)
        net.run(30)
        before = len(net.wire)
        net.run(60)
        sent = [datagram.data for datagram in net.wire[before:]]
        assert {len(data) for data in sent} == {32}
        assert len(sent) <= 2 * (60 // 20 + 1)


def test_path_in_use_is_confirmed() -> None:
    with Net() as net:
        alice, bob = up_and_down(net)
        before = len(net.wire)
        for _ in range(40):
            alice.tun.program_sends(packets.udp(alice.address, bob.address, b"x"))
            net.run(1)
        probes = [each for each in net.wire[before:] if len(each.data) > 1400 and each.source == alice.socket.source]
        assert 2 <= len(probes) <= 4


def test_stock_device_is_followed_without_questions() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        alice.call(bob)
        key = alice.identity.noise_public
        add_device(bob.session.contacts, key, "phone", (ip_network(alice.address),), bytes(32), 0)
        net.run(REKEY_TIMEOUT_NS / 1e9 + 1)
        alice.socket.move("10.9.9.9")
        alice.tun.program_sends(packets.udp(alice.address, bob.address, b"here"))
        net.run()
        assert bob.peer(alice).path.endpoint == bob.endpoint(alice.socket)
        bob.tun.program_sends(packets.udp(bob.address, alice.address, bytes(1000)))
        net.run()
        assert len(alice.tun.received) == 1
