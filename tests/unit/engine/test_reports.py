"""Loss reports, refusals and black holes between two sessions."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tests.unit.engine import packets
from tests.unit.engine.pair import Call, Datagram, Net, Node, add_device
from weft.mesh.notices import Notices
from weft.noise.replay import WINDOW

SEGMENT = 1200


def joined(net: Net) -> tuple[Node, Node]:
    alice, bob = net.node("alice"), net.node("bob")
    net.connect(alice, bob)
    return alice, bob


def stream(net: Net, sender: Node, receiver: Node, seconds: float, *, every: float = 0.02, size: int = 20_000) -> None:
    """Let a program send super-packets."""
    for _ in range(round(seconds / every)):
        sender.tun.program_sends(packets.tcp(sender.address, receiver.address, bytes(size)), segment=SEGMENT)
        net.run(every)


def bursts(sender: Node, receiver: Node) -> list[Call]:
    return [call for call in sender.calls_to(receiver.socket) if call.datagrams[0][0] == 5]


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was reported, by anybody."""
    made: list[object] = []
    report = Notices.report
    monkeypatch.setattr(Notices, "report", lambda self, counts: (made.append(counts), report(self, counts)))
    return made


def test_receiver_of_bursts_reports_at_most_each_200_ms(reports: list[object]) -> None:
    with Net() as net:
        alice, bob = joined(net)
        reports.clear()
        stream(net, alice, bob, 3)
        assert 13 <= len(reports) <= 16


def test_receiver_of_single_packets_reports_at_most_each_200_ms(reports: list[object]) -> None:
    with Net() as net:
        alice, bob = joined(net)
        reports.clear()
        for _ in range(300):
            alice.tun.program_sends(packets.udp(alice.address, bob.address, b"x"))
            net.run(0.01)
        assert 13 <= len(reports) <= 16


def test_first_packet_after_silence_is_reported_at_once_and_the_last_one_not_left_out(reports: list[object]) -> None:
    with Net() as net:
        alice, bob = joined(net)
        net.run(5)
        reports.clear()
        stream(net, alice, bob, 0.05, every=0.025)
        assert len(reports) == 1
        net.run(0.3)
        assert len(reports) == 2
        net.run(60)
        assert len(reports) == 2


def test_idle_nodes_do_not_report_each_others_reports(reports: list[object]) -> None:
    with Net() as net:
        alice, bob = joined(net)
        stream(net, alice, bob, 0.1)
        stream(net, bob, alice, 0.1)
        net.run(1)
        reports.clear()
        before = len(net.wire)
        net.run(100)
        assert reports == []
        assert len(net.wire) - before <= 12


def test_pings_and_notices_are_not_reported(reports: list[object]) -> None:
    with Net() as net:
        alice, bob = joined(net)
        net.run(1)
        reports.clear()
        for _ in range(20):
            alice.peer(bob).prober.ping(net.now)  # type: ignore[union-attr]
            alice.session.attend(alice.peer(bob))
            net.run(0.1)
        assert reports == []


def test_stock_peer_is_sent_no_reports(reports: list[object]) -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        networks = (ip_network(alice.address),)
        add_device(bob.session.contacts, alice.identity.noise_public, "phone", networks, bytes(32), 0)
        alice.call(bob)
        net.run(1)
        for _ in range(20):
            alice.tun.program_sends(packets.udp(alice.address, bob.address, b"x"))
            net.run(0.1)
        assert len(bob.tun.received) == 20
        assert reports == []
        assert {datagram.data[0] for datagram in net.wire if datagram.source == bob.socket.source} <= {2, 4}


def test_counts_of_the_receiver_are_what_was_lost() -> None:
    with Net(seed=3) as net:
        alice, bob = joined(net)
        net.faults.loss = 0.002
        stream(net, alice, bob, 4)
        net.run(1)
        meter = bob.peer(alice).meter.report()
        sent = sum(len(call.datagrams) for call in bursts(alice, bob))
        assert meter.opened == len(bob.tun.written)
        assert meter.bad_tags == 0
        assert meter.missing + meter.expected - meter.got > 0
        assert 0.9 * sent <= meter.expected + meter.missing <= 1.2 * sent


def test_loss_shortens_bursts_and_its_end_lengthens_them_within_five_seconds() -> None:
    with Net(seed=1) as net:
        alice, bob = joined(net)
        stream(net, alice, bob, 1, every=0.005)
        assert alice.peer(bob).path.size.wanted == 64
        net.faults.loss = 0.05
        stream(net, alice, bob, 6, every=0.005)
        assert alice.peer(bob).path.size.pieces <= 2
        net.faults.loss = 0
        stream(net, alice, bob, 5, every=0.005)
        assert alice.peer(bob).path.size.wanted == 64


@pytest.mark.parametrize("seconds", [2, 8])
def test_single_packets_in_runs_are_no_bursts_that_vanished(seconds: int) -> None:
    with Net() as net:
        alice, bob = joined(net)
        alice.peer(bob).path.size.receive_refusal(net.now)
        assert alice.peer(bob).path.size.pieces == 1
        stream(net, alice, bob, seconds)
        assert not bursts(alice, bob)
        net.run(10.5 - seconds)
        stream(net, alice, bob, 0.1)
        assert len(bursts(alice, bob)) == 5


def test_path_that_swallows_bursts_is_left_to_type_4_and_tried_again_later() -> None:
    with Net() as net:
        alice, bob = joined(net)
        net.faults.drops = lambda datagram: datagram.data[0] == 5
        stream(net, alice, bob, 1.2)
        tried = len(bursts(alice, bob))
        assert tried
        bob.tun.received.clear()
        stream(net, alice, bob, 9)
        assert len(bursts(alice, bob)) == tried
        assert len(bob.tun.received) == 450 * 17
        stream(net, alice, bob, 2.5)
        assert 572 * 17 <= len(bob.tun.received) < 575 * 17, "a trial is one super-packet"
        assert len(bursts(alice, bob)) > tried
        net.faults.drops = lambda datagram: False
        stream(net, alice, bob, 25)
        assert alice.peer(bob).path.size.pieces > 1


def test_sender_of_large_packets_is_told_what_fits_where_bursts_vanish() -> None:
    with Net(link_mtu=1500) as net:
        alice, bob = joined(net)
        alice.peer(bob).path.mtu.handle_too_big(1281, net.now)
        large = packets.udp(alice.address, bob.address, bytes(1350 - 48))
        alice.tun.program_sends(large)
        net.run(0.1)
        assert bob.tun.received.pop() == large
        assert len(bursts(alice, bob)) == 1
        net.faults.drops = lambda datagram: datagram.data[0] == 5
        stream(net, alice, bob, 1.2)
        alice.tun.received.clear()
        bob.tun.received.clear()
        tried = len(bursts(alice, bob))
        alice.tun.program_sends(large)
        net.run(0.1)
        (answer,) = alice.tun.received
        assert answer[40] == 2, "Packet Too Big"
        room = int.from_bytes(answer[44:48], "big")
        assert room == 1280
        fitting = packets.udp(alice.address, bob.address, bytes(room - 48))
        alice.tun.program_sends(fitting)
        net.run(0.1)
        assert bob.tun.received == [fitting]
        assert len(bursts(alice, bob)) == tried


def forge(net: Net, alice: Node, bob: Node) -> list[Datagram]:
    """A burst of Alice's that never arrived, with one bit turned."""
    net.hold()
    alice.tun.program_sends(packets.tcp(alice.address, bob.address, bytes(5000)), segment=SEGMENT)
    net.run(0.001)
    *pieces, last = net.release()
    assert last.data[0] == 5
    return [*pieces, last._replace(data=last.data[:-1] + bytes((last.data[-1] ^ 1,)))]


def ahead(datagram: Datagram, by: int) -> Datagram:
    """A piece with a counter that many further."""
    counter = int.from_bytes(datagram.data[8:16], "little") + by
    return datagram._replace(data=datagram.data[:8] + counter.to_bytes(8, "little") + datagram.data[16:])


@pytest.mark.parametrize(("by", "is_blamed"), [(WINDOW - 10, True), (WINDOW + 10, False), (1 << 40, False)])
def test_bursts_that_the_peer_has_not_come_to_say_nothing_of_its_path(by: int, is_blamed: bool) -> None:
    """Whoever saw an index and writes the peer's address as its own must not be able to slow the peer down."""
    with Net() as net:
        alice, bob = joined(net)
        stream(net, alice, bob, 0.1)
        forged = forge(net, alice, bob)
        for number in range(3):
            net.deliver(*(ahead(piece, by + number) for piece in forged))
            net.deliver(ahead(forged[0], by + 5 + number))
            net.run(0.1)
        net.run(0.5)
        assert bob.session.drops["burst: bad tag"] == 3
        assert (bob.peer(alice).meter.bad_tags == 3) is is_blamed
        assert (bob.peer(alice).meter.given_up > 0) is is_blamed
        assert (alice.peer(bob).burst_limit == 0) is is_blamed


def test_three_bad_tags_in_a_second_ask_for_type_4_for_ten_seconds_then_for_twenty() -> None:
    with Net() as net:
        alice, bob = joined(net)
        for seconds in (10, 20):
            stream(net, alice, bob, 0.1)
            forged = forge(net, alice, bob)
            before = len(bursts(alice, bob))
            for _ in range(3):
                net.deliver(*forged)
                net.run(0.1)
            stream(net, alice, bob, seconds - 1)
            assert len(bursts(alice, bob)) == before
            assert alice.peer(bob).burst_limit == 0
            net.run(2)
            assert alice.peer(bob).burst_limit > 0
            stream(net, alice, bob, 0.2)
            assert len(bursts(alice, bob)) > before
        assert bob.drops["burst: bad tag"] == 6
        assert bob.peer(alice).meter.bad_tags == 6


def test_bad_tags_that_are_further_apart_ask_for_nothing() -> None:
    with Net() as net:
        alice, bob = joined(net)
        forged = forge(net, alice, bob)
        for _ in range(6):
            net.deliver(*forged)
            net.run(0.6)
        assert bob.drops["burst: bad tag"] == 6
        assert alice.peer(bob).burst_limit > 0


def test_bad_tags_from_elsewhere_ask_for_nothing() -> None:
    with Net() as net:
        alice, bob = joined(net)
        forged = [piece._replace(source=("10.66.66.66", 1)) for piece in forge(net, alice, bob)]
        for _ in range(6):
            net.deliver(*forged)
            net.run(0.1)
        assert bob.drops["burst: bad tag"] == 6
        assert bob.peer(alice).meter.bad_tags == 0
        stream(net, alice, bob, 0.1)
        assert bursts(alice, bob)[-1].datagrams[0][0] == 5
        assert alice.peer(bob).burst_limit > 0


@pytest.mark.parametrize("is_full", [False, True])
def test_what_our_own_full_socket_dropped_is_no_loss_of_the_path(is_full: bool, reports: list[object]) -> None:
    with Net() as net:
        alice, bob = joined(net)
        stream(net, alice, bob, 1)
        size = alice.peer(bob).path.size
        whole = size.wanted
        net.faults.loss = 0.05
        for _ in range(100):
            bob.socket.overflown += is_full
            stream(net, alice, bob, 0.02)
        assert (size.wanted == whole) == is_full
        assert (size.loss == 0) == is_full
