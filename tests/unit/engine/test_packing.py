"""What shares a burst and what does not, and that nothing waits."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.engine import packets
from tests.unit.engine.pair import Call, Net, Node
from weft.burst.records import KIND_PACKET, KIND_TCP, decode_records
from weft.engine import inbound, outbound
from weft.engine.outbound import MAX_READS
from weft.io.device import Read


def joined(net: Net, *, pieces: int | None = None) -> tuple[Node, Node]:
    alice, bob = net.node("alice", fixed_pieces=pieces), net.node("bob", fixed_pieces=pieces)
    net.connect(alice, bob)
    alice.socket.calls.clear()
    return alice, bob


def small(alice: Node, bob: Node, size: int, number: int = 0) -> bytes:
    """A packet of exactly so many bytes."""
    return packets.udp(alice.address, bob.address, bytes((number % 256,)) * (size - 48), ports=(1000 + number, 7))


@pytest.fixture
def bursts(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, int]]]:
    """(kind, bytes) of the records of each burst that was opened, in order."""
    opened: list[list[tuple[int, int]]] = []

    def note(plain: memoryview) -> object:
        records = decode_records(plain)
        opened.append([(record.kind, record.end - record.start) for record in records])
        return records

    monkeypatch.setattr(inbound, "decode_records", note)
    return opened


def types(calls: list[Call]) -> list[int]:
    return [call.datagrams[0][0] for call in calls]


def test_small_packets_that_are_ready_together_leave_as_one_burst(bursts: list[list[tuple[int, int]]]) -> None:
    with Net() as net:
        alice, bob = joined(net)
        alice.tun.program_sends(*(small(alice, bob, 100, number) for number in range(10)))
        net.run()
        assert bursts == [[(KIND_PACKET, 100)] * 10]
        assert types(alice.socket.calls)[:1] == [5]
        assert len(bob.tun.received) == 10


def test_packet_that_is_alone_leaves_as_type_4() -> None:
    with Net() as net:
        alice, bob = joined(net)
        alice.tun.program_sends(small(alice, bob, 100))
        net.run(0.001)
        assert types(alice.socket.calls) == [4]


@pytest.mark.parametrize("size", [1393, 1400, 2000, 5000, 20_000, 60_000])
def test_packet_that_fits_no_datagram_leaves_as_a_burst_of_several_pieces(size: int) -> None:
    with Net() as net:
        alice, bob = joined(net)
        packet = small(alice, bob, size + 48)
        alice.tun.program_sends(packet)
        net.run(0.002)
        (call,) = [call for call in alice.socket.calls if call.datagrams[0][0] == 5]
        assert len(call.datagrams) >= 2
        assert bob.tun.received == [packet]


@pytest.mark.parametrize("size", [1392, 1439, 1440])
def test_packet_that_just_fits_a_datagram_leaves_as_type_4(size: int) -> None:
    with Net() as net:
        alice, bob = joined(net)
        alice.tun.program_sends(small(alice, bob, size))
        net.run(0.002)
        assert types(alice.socket.calls)[:1] == [4]
        assert len(alice.socket.calls[0].datagrams[0]) <= 1500 - 28


@settings(max_examples=25)
@given(st.lists(st.integers(60, 1352), min_size=2, max_size=60))
def test_burst_of_small_packets_has_at_most_four_pieces(sizes: list[int]) -> None:
    with Net() as net:
        alice, bob = joined(net)
        sent = [small(alice, bob, size, number) for number, size in enumerate(sizes)]
        alice.tun.program_sends(*sent)
        net.run(0.01)
        assert bob.tun.received == sent
        for call in alice.socket.calls:
            if call.datagrams[0][0] == 5:
                assert len(call.datagrams) <= 4


@pytest.mark.parametrize("total", [5760, 5785, *range(5792, 5812), 5829])
def test_two_packets_at_the_bound_of_four_pieces(total: int) -> None:
    with Net() as net:
        alice, bob = joined(net)
        alice.tun.program_sends(small(alice, bob, 2880 - 8, 1), small(alice, bob, total - 2880 - 8, 2))
        net.run(0.01)
        assert len(bob.tun.received) == 2
        assert all(len(call.datagrams) <= 4 for call in alice.socket.calls if call.datagrams[0][0] == 5)


def test_super_packet_shares_its_burst_with_nothing(bursts: list[list[tuple[int, int]]]) -> None:
    with Net() as net:
        alice, bob = joined(net)
        large = packets.tcp(alice.address, bob.address, bytes(5000))
        for number in range(3):
            alice.tun.program_sends(small(alice, bob, 100, 2 * number), small(alice, bob, 100, 2 * number + 1))
            alice.tun.program_sends(large, segment=1000)
        net.run()
        assert bursts == [[(KIND_PACKET, 100)] * 2, [(KIND_TCP, 5060)]] * 3


def test_packets_of_two_peers_share_no_burst(bursts: list[list[tuple[int, int]]]) -> None:
    with Net() as net:
        alice, bob, carol = net.node("alice"), net.node("bob"), net.node("carol")
        net.connect(alice, bob, carol)
        for number in range(4):
            alice.tun.program_sends(
                small(alice, bob, 100, number), small(alice, bob, 101, number), small(alice, carol, 102, number)
            )
        net.run()
        assert bursts == [[(KIND_PACKET, 100), (KIND_PACKET, 101)]] * 4
        assert [len(packet) for packet in bob.tun.received] == [100, 101] * 4
        assert [len(packet) for packet in carol.tun.received] == [102] * 4


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(["bob", "carol", "nobody"]), st.integers(60, 1400), st.booleans()),
        min_size=2,
        max_size=50,
    )
)
def test_any_mix_of_sizes_and_peers_arrives_unharmed(items: list[tuple[str, int, bool]]) -> None:
    with Net() as net:
        alice, bob, carol = net.node("alice"), net.node("bob"), net.node("carol")
        net.connect(alice, bob, carol)
        sent: dict[str, list[bytes]] = {"bob": [], "carol": [], "nobody": []}
        for number, (name, size, is_super) in enumerate(items):
            there = {"bob": bob.address, "carol": carol.address, "nobody": b"\xfc" + bytes(15)}[name]
            body = bytes((number,)) * size
            if is_super:
                packet = packets.tcp(alice.address, there, body * 3, ports=(number, 7))
                alice.tun.program_sends(packet, segment=size)
                sent[name] += packets.segments(packet, size)
            else:
                packet = packets.udp(alice.address, there, body[48:], ports=(number, 7))
                alice.tun.program_sends(packet)
                sent[name].append(packet)
        net.run()
        assert packets.by_flow(bob.tun.received) == packets.by_flow(sent["bob"])
        assert packets.by_flow(carol.tun.received) == packets.by_flow(sent["carol"])
        assert set(alice.drops) <= {"no peer has the destination"}


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([60, 100, 108, 116, 500, 1300]), st.integers(0, 3)), min_size=1, max_size=70))
@example([(1300, 0), (500, 0), (500, 0)])
@example([(100, 0)] * 65)
def test_any_mix_of_sizes_goes_as_type_4_where_no_bursts_go(items: list[tuple[int, int]]) -> None:
    with Net() as net:
        alice, bob = joined(net, pieces=1)
        sent = [
            packets.udp(alice.address, bob.address, bytes((number,)) * (size - 48), ecn=ecn)
            for number, (size, ecn) in enumerate(items)
        ]
        alice.tun.program_sends(*sent)
        net.run(0.01)
        calls = [call for call in alice.socket.calls if call.datagrams[0][0] == 4]
        assert bob.tun.received == sent
        for call in calls:
            *lengths, last = map(len, call.datagrams)
            assert set(lengths) <= {len(call.datagrams[0])}
            assert last <= len(call.datagrams[0])
        outer = [call.ecn for call in calls for _ in call.datagrams]
        assert outer[: len(items)] == [ecn for _, ecn in items]


@pytest.mark.parametrize(
    ("sizes", "calls"),
    [((500, 500), 1), ((500, 500, 100), 1), ((500, 100), 1), ((100, 500), 2), ((500, 100, 100), 2)],
)
def test_type_4_messages_leave_together_as_long_as_all_but_the_last_have_one_size(
    sizes: tuple[int, ...], calls: int
) -> None:
    with Net() as net:
        alice, bob = joined(net, pieces=1)
        alice.tun.program_sends(*(small(alice, bob, size) for size in sizes))
        net.run(0.0001)
        assert types(alice.socket.calls) == [4] * calls


def test_what_a_fault_left_unsent_spoils_nothing_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    with Net() as net:
        alice, bob = joined(net)
        first, *later = (small(alice, bob, 100 + number, number) for number in range(4))
        judge = alice.session.outbound.firewall.outbound

        def fail(packet: memoryview, now: int) -> bool:
            if bytes(packet) == later[0]:
                raise ZeroDivisionError("a fault")
            return judge(packet, now)

        monkeypatch.setattr(alice.session.outbound.firewall, "outbound", fail)
        for packet in (first, later[0]):
            alice.tun._outbox.append((packet, Read(len(packet), KIND_PACKET, 0, False)))
        with pytest.raises(ZeroDivisionError):
            alice.session.outbound.drain(alice.tun)  # type: ignore[arg-type]
        alice.tun.program_sends(*later[1:])
        net.run()
        assert bob.tun.received == later[1:]


@pytest.mark.parametrize("count", [1, 2, 3, 64])
def test_all_that_was_read_has_left_when_the_call_returns(count: int) -> None:
    with Net() as net:
        alice, bob = joined(net)
        for number in range(count):
            packet = small(alice, bob, 100, number)
            alice.tun._outbox.append((packet, Read(len(packet), KIND_PACKET, 0, False)))
        net.hold()
        alice.session.outbound.drain(alice.tun)  # type: ignore[arg-type]
        held = net.release()
        net.deliver(*held)
        net.run(0.001)
        assert len(bob.tun.received) == count


def test_one_wake_up_reads_a_bounded_number_of_packets() -> None:
    with Net() as net:
        alice, bob = joined(net)
        for number in range(1000):
            packet = small(alice, bob, 100, number)
            alice.tun._outbox.append((packet, Read(len(packet), KIND_PACKET, 0, False)))
        before = alice.tun.reads
        alice.session.outbound.drain(alice.tun)  # type: ignore[arg-type]
        assert alice.tun.reads - before == MAX_READS


def test_one_wake_up_reads_a_bounded_number_of_bytes() -> None:
    with Net() as net:
        alice, bob = joined(net)
        packet = packets.as_partial(packets.tcp(alice.address, bob.address, bytes(60_000)))
        for _ in range(64):
            alice.tun._outbox.append((packet, Read(len(packet), KIND_TCP, 1000, True)))
        before = alice.tun.reads
        alice.session.outbound.drain(alice.tun)  # type: ignore[arg-type]
        assert alice.tun.reads - before <= outbound.MAX_READ_BYTES // 60_000 + 1


@pytest.mark.parametrize(("sizes", "asked"), [((100,), 1), ((100, 100), 2), ((1200, 1200), 2), ((60_000,), 2)])
def test_socket_is_asked_once_for_what_comes_alone(sizes: tuple[int, ...], asked: int) -> None:
    with Net() as net:
        alice, bob = joined(net, pieces=1)
        bob.socket.gro = False
        net.hold()
        for size in sizes:
            packet = packets.tcp(alice.address, bob.address, bytes(size))
            alice.tun.program_sends(packet, segment=1200)
            net.run(0.0001)
        for each in net.release():
            bob.socket._inbox.append(each)
        receive, asks, settled = bob.socket.receive, 0, bob.tun.settled

        def count() -> object:
            nonlocal asks
            asks += 1
            return receive()

        bob.socket.receive = count  # type: ignore[method-assign,assignment]
        bob.session.inbound.drain(bob.socket)  # type: ignore[arg-type]
        assert min(asks, 2) == asked
        assert not bob.socket._inbox
        assert len(b"".join(bob.tun.received)) > sum(sizes)
        assert bob.tun.settled == settled + 1


@pytest.mark.parametrize("per_call", [1, 64])
def test_one_wake_up_receives_a_bounded_amount(per_call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with Net() as net:
        alice, bob = joined(net)
        bob.socket.gro = False
        net.hold()
        for number in range(inbound.MAX_RUNS + 50):
            alice.tun.program_sends(small(alice, bob, 100, number))
            net.run(0.0001)
        held = net.release()
        for each in held:
            bob.socket._inbox.append(each)
        one = bob.socket.receive
        monkeypatch.setattr(bob.socket, "receive", lambda: [run for _ in range(per_call) for run in one()])
        bob.session.inbound.drain(bob.socket)  # type: ignore[arg-type]
        assert len(bob.tun.received) == inbound.MAX_RUNS


def test_timers_have_their_turn_while_packets_pour_in() -> None:
    with Net() as net:
        alice, bob = joined(net)
        served: list[int] = []
        for _ in range(500):
            alice.tun.program_sends(packets.tcp(alice.address, bob.address, bytes(60_000)), segment=1000)
        net.loop.call_soon(lambda: served.append(alice.tun.reads))
        net.run(0.01)
        assert served
        assert served[0] < 100


@pytest.mark.parametrize("pieces", [2, 3])
def test_small_packets_keep_to_the_size_that_loss_allows(pieces: int) -> None:
    with Net() as net:
        alice, bob = joined(net, pieces=pieces)
        sent = [small(alice, bob, 600, number) for number in range(40)]
        alice.tun.program_sends(*sent)
        net.run(0.01)
        assert bob.tun.received == sent
        assert max(len(call.datagrams) for call in alice.socket.calls if call.datagrams[0][0] == 5) <= pieces


def test_every_burst_has_one_size_of_pieces_and_their_headers_agree() -> None:
    with Net() as net:
        alice, bob = joined(net)
        for size in (2000, 4000, 5792, 5793, 20_001, 63_000):
            alice.tun.program_sends(packets.tcp(alice.address, bob.address, bytes(size)), segment=1000)
        net.run(0.01)
        calls = [call for call in alice.socket.calls if call.datagrams[0][0] == 5]
        assert len(calls) == 6
        for call in calls:
            headers = [struct.unpack_from("<IIQHBB", datagram) for datagram in call.datagrams]
            assert len({header[:4] for header in headers}) == 1
            assert [header[4] for header in headers] == list(range(len(headers)))
            assert {header[5] for header in headers} == {len(headers)}
            assert len({len(datagram) for datagram in call.datagrams[:-1]}) <= 1
            assert sum(len(datagram) - 20 for datagram in call.datagrams) == headers[0][3]
