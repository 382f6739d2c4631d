"""What all connections to one host have on the way together: its limit, and the turns of those that wait for it.

Full segments have 1000 bytes. Where the round trip takes no time the limit is `HELD`.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface

import pytest

from tests.unit.stack.tcp.script import MS, Script
from tests.unit.stack.wire import Wire, make_host, v4
from weft.packet.tcp import decode_tcp
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure
from weft.stack.tcp import macroflow
from weft.stack.tcp.connection import Connection
from weft.stack.tcp.macroflow import Macroflow
from weft.stack.tcp.states import State
from weft.testing import Faults

HELD = 15_000
WINDOW = 100_000
ANY = bytes(16)
FIRST_PORT = 5000


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(macroflow, "HELD_BYTES", HELD)


@pytest.fixture
def limited(script: Script) -> Script:
    """A script with the small limit, which those that are run elsewhere too do not have."""
    return script


def opened(script: Script, count: int, *, sack: bool = False, round_trip: float = 0) -> list[Connection]:
    """Connections of the peer's ports from 5000 on, whose own windows are larger than what is written here."""
    script.listen()
    made = []
    for port in range(FIRST_PORT, FIRST_PORT + count):
        script.inject("S", seq=0, mss=1000, ws=14, sack=sack, port=port)
        script.sent.popleft()
        script.advance_quietly(round_trip)
        script.inject(".", seq=1, ack=1, port=port)
        connection = script.accept()
        connection.sender.cubic.window = WINDOW
        connection.sender.no_delay = True
        made.append(connection)
    script.events()
    return made


def write(script: Script, connection: Connection, size: int) -> None:
    connection.send(bytes(size))
    script.flush()


def expect(script: Script, *runs: tuple[int, int, int]) -> None:
    """Exactly these runs have left: the port of the peer, the sequence number, the length."""
    assert [(sent.port, sent.seq, sent.length) for sent in script.take_all()] == list(runs)


def check(*connections: Connection) -> None:
    """What is counted is what is on the way."""
    flow = connections[0].macroflow
    assert flow.on_the_way == sum(each.sender.pipe for each in connections)
    assert flow.connections == len(connections)


def macroflows(script: Script) -> list[Macroflow]:
    return list(script.host.tcp._macroflows.values())


# The limit.


def test_connections_to_one_host_are_one_macroflow(limited: Script) -> None:
    first, second = opened(limited, 2)
    assert first.macroflow is second.macroflow
    check(first, second)


def test_what_all_have_on_the_way_is_limited(limited: Script) -> None:
    first, second, third = opened(limited, 3)
    write(limited, first, 10_000)
    write(limited, second, 10_000)
    expect(limited, (5000, 1, 10_000), (5001, 1, 10_000))
    write(limited, third, 10_000)
    limited.expect_nothing()
    check(first, second, third)
    # At the limit is not below it.
    limited.inject(".", seq=1, ack=5001, port=5000)
    limited.expect_nothing()
    limited.inject(".", seq=1, ack=6001, port=5000)
    expect(limited, (5002, 1, 10_000))
    check(first, second, third)


def test_connection_that_is_alone_has_no_limit(limited: Script) -> None:
    (connection,) = opened(limited, 1)
    write(limited, connection, 90_000)
    assert sum(sent.length for sent in limited.take_all()) == 90_000
    check(connection)


def test_limit_is_4_mib(limited: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    first, second = opened(limited, 2)
    first.sender.cubic.window = 1 << 23
    write(limited, first, 4 * 1024 * 1024 - 1)
    assert sum(sent.length for sent in limited.take_all()) == 4 * 1024 * 1024 - 1
    write(limited, second, 1)
    expect(limited, (5001, 1, 1))
    write(limited, second, 1)
    limited.expect_nothing()


def test_limit_grows_with_the_rate_times_the_shortest_round_trip(limited: Script) -> None:
    first, second = opened(limited, 2, round_trip=50)
    for each in (first, second, first, second):
        # 16,000 bytes each 50 ms.
        send_and_acknowledge(limited, each, 16_000, after=50)
    write(limited, second, HELD + 15_999)
    assert sum(sent.length for sent in limited.take_all()) == HELD + 15_999
    write(limited, first, 1)
    expect(limited, (5000, 32_001, 1))
    write(limited, first, 1)
    limited.expect_nothing()


def test_rate_is_that_of_100_ms(limited: Script) -> None:
    first, second = opened(limited, 2, round_trip=50)
    send_and_acknowledge(limited, first, 1000, after=100)
    before = limit(first.macroflow)
    write(limited, first, 10_000)
    limited.take_all()
    limited.advance_quietly(99)
    limited.inject(".", seq=1, ack=10_001, port=5000)
    assert limit(first.macroflow) == before
    limited.advance_quietly(1)
    limited.inject(".", seq=1, ack=11_001, port=5000)
    assert limit(first.macroflow) == HELD + 100 * 50
    # The next sample begins with nothing.
    send_and_acknowledge(limited, second, 9000, after=100)
    assert limit(first.macroflow) == HELD + 90 * 50


def test_higher_rate_of_before_loses_an_eighth_with_each_sample(limited: Script) -> None:
    first, _ = opened(limited, 2, round_trip=50)
    send_and_acknowledge(limited, first, 1000, after=100)
    send_and_acknowledge(limited, first, 16_000, after=100)
    assert limit(first.macroflow) == HELD + 160 * 50
    send_and_acknowledge(limited, first, 100, after=100)
    assert limit(first.macroflow) == HELD + 140 * 50
    send_and_acknowledge(limited, first, 100, after=100)
    assert limit(first.macroflow) == HELD + 122.5 * 50


def test_shortest_round_trip_of_one_is_that_of_all(limited: Script) -> None:
    first, second = opened(limited, 2, round_trip=50)
    send_and_acknowledge(limited, first, 1000, after=20)
    assert second.sender.round_trip.least_ns == 50 * MS
    send_and_acknowledge(limited, second, 1000, after=40)
    assert second.sender.round_trip.least_ns == 20 * MS
    send_and_acknowledge(limited, first, 1000, after=30)
    assert first.sender.round_trip.least_ns == 20 * MS


def send_and_acknowledge(script: Script, connection: Connection, size: int, *, after: float) -> None:
    """Send so many bytes, all of which are acknowledged after so many ms."""
    write(script, connection, size)
    runs = script.take_all()
    assert sum(sent.length for sent in runs) == size
    script.advance_quietly(after)
    script.inject(".", seq=1, ack=runs[-1].seq + runs[-1].length, port=connection.remote.port)


def limit(flow: Macroflow) -> int:
    """How much may be on the way, found by trying."""
    before, below, above = flow.on_the_way, 0, 1 << 30
    while below < above:
        flow.on_the_way = (below + above) // 2
        if flow.has_room:
            below = flow.on_the_way + 1
        else:
            above = flow.on_the_way
    flow.on_the_way = before
    return below


# Turns.


def test_those_that_wait_go_one_run_each_in_turn(limited: Script) -> None:
    connections = opened(limited, 4)
    write(limited, connections[0], 60_000)
    expect(limited, (5000, 1, 60_000))
    for each in connections[1:]:
        write(limited, each, 70_000)
    write(limited, connections[0], 10_000)
    limited.expect_nothing()
    limited.inject(".", seq=1, ack=60_001, port=5000)
    expect(limited, (5001, 1, 63_000))
    limited.inject(".", seq=1, ack=63_001, port=5001)
    expect(limited, (5002, 1, 63_000))
    limited.inject(".", seq=1, ack=63_001, port=5002)
    expect(limited, (5003, 1, 63_000))
    limited.inject(".", seq=1, ack=63_001, port=5003)
    # What is left of each is short, and leaves room for the next.
    expect(limited, (5000, 60_001, 10_000), (5001, 63_001, 7000))
    check(*connections)
    limited.inject(".", seq=1, ack=70_001, port=5000)
    expect(limited, (5002, 63_001, 7000), (5003, 63_001, 7000))
    assert not connections[0].macroflow.waiting


def test_who_waits_keeps_its_place(limited: Script) -> None:
    first, second, third = opened(limited, 3)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 20_000)
    write(limited, third, 20_000)
    write(limited, second, 20_000)
    limited.inject(".", seq=1, ack=20_001, port=5000)
    expect(limited, (5001, 1, 40_000))


def test_who_has_gone_waits_behind_the_others(limited: Script) -> None:
    first, second, third = opened(limited, 3)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 10_000)
    write(limited, third, 10_000)
    write(limited, first, 1000)
    limited.inject(".", seq=1, ack=20_001, port=5000)
    # Nobody goes while others wait, though there is room.
    expect(limited, (5001, 1, 10_000), (5002, 1, 10_000))
    limited.inject(".", seq=1, ack=10_001, port=5001)
    expect(limited, (5000, 20_001, 1000))


def test_room_that_comes_in_two_parts_is_one_turn(limited: Script) -> None:
    first, second, third = opened(limited, 3)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 10_000)
    write(limited, third, 10_000)
    for acknowledgment in (10_001, 20_001):
        limited.deliver(limited.packet(".", seq=1, ack=acknowledgment, port=5000))
    limited.flush()
    expect(limited, (5001, 1, 10_000), (5002, 1, 10_000))


def test_who_may_not_send_after_all_lets_the_next_one_go(limited: Script) -> None:
    first, second, third = opened(limited, 3)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 10_000)
    write(limited, third, 10_000)
    # The peer shuts the window of the one whose turn comes first.
    limited.inject(".", seq=1, ack=1, window=0, port=5001)
    limited.inject(".", seq=1, ack=20_001, port=5000)
    expect(limited, (5002, 1, 10_000))
    assert not first.macroflow.waiting
    # It is probed as any closed window is.
    limited.inject(".", seq=1, ack=10_001, port=5002)
    limited.expect(".", seq=1, length=1, ack=1, port=5001, after=200)
    limited.inject(".", seq=1, ack=1, window=65535, port=5001)
    expect(limited, (5001, 1, 10_000))


def test_closed_window_is_probed_while_others_have_all_the_room(limited: Script) -> None:
    first, second = opened(limited, 2)
    limited.inject(".", seq=1, ack=1, window=0, port=5001)
    write(limited, second, 10_000)
    write(limited, first, 20_000)
    expect(limited, (5000, 1, 20_000))
    limited.advance(200)
    assert (5001, 1, 1) in [(sent.port, sent.seq, sent.length) for sent in limited.take_all()]


def test_acknowledgments_do_not_wait(limited: Script) -> None:
    first, second = opened(limited, 2)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 10_000)
    for seq in (1, 1001):
        limited.inject(".", seq=seq, ack=1, data=1000, port=5001)
    limited.expect(".", seq=1, ack=2001, port=5001)
    assert second in first.macroflow.waiting


def test_end_waits_behind_the_data(limited: Script) -> None:
    first, second = opened(limited, 2)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 1000)
    second.shutdown(limited.now)
    limited.flush()
    limited.expect_nothing()
    limited.inject(".", seq=1, ack=20_001, port=5000)
    limited.expect("FP.", seq=1, length=1000, ack=1, port=5001)


def test_other_hosts_do_not_wait() -> None:
    wire, (first, second, other) = to_two_hosts()
    first.send(bytes(20_000))
    second.send(bytes(1000))
    other.send(bytes(10_000))
    assert set(ports(wire)) == {first.local.port, other.local.port}


def test_who_never_runs_out_of_data_does_not_keep_those_to_another_host_waiting() -> None:
    """As where packets are taken more slowly than they are acknowledged: somebody always has the next one."""
    wire, (first, second, other) = to_two_hosts()
    first.send(bytes(20_000))
    second.send(bytes(1000))
    list(ports(wire))
    other.sender.set_window(1 << 24)
    other.sender.cubic.window = 1 << 24
    other.send(bytes(4_000_000))
    leaving = ports(wire)
    assert next(leaving) == other.local.port
    first.abort(wire.now)
    assert second.local.port in [next(leaving) for _ in range(4)]


def to_two_hosts() -> tuple[Wire, list[Connection]]:
    """Two connections to one, and one to another."""
    wire = Wire(make_host(1), make_host(2), faults=Faults())
    wire.right.addresses.add(ip_interface((v4(3), 24)))
    wire.right.tcp.listen(Endpoint(ANY, 80))
    made = [wire.left.tcp.connect(Endpoint(v4(number), 80), wire.now) for number in (2, 2, 3)]
    wire.drive(lambda: all(each.is_established for each in made))
    for each in made:
        each.sender.cubic.window = WINDOW
    return wire, made


def ports(wire: Wire) -> Iterator[int]:
    """Which of our ports the next packets are from; they get lost."""
    while (outgoing := wire.left.next_packet(wire.now)) is not None:
        yield decode_tcp(b"".join(outgoing.parts), 20).source_port


# Losses and ends.


def test_what_is_sent_again_does_not_wait(limited: Script) -> None:
    first, second, third = opened(limited, 3, sack=True)
    write(limited, first, 10_000)
    write(limited, second, 20_000)
    limited.take_all()
    write(limited, third, 1000)
    limited.inject(".", seq=1, ack=1, blocks=((2001, 10_001),), port=5000)
    expect(limited, (5000, 1, 2000))
    check(first, second, third)


def test_what_is_known_to_be_lost_or_to_have_arrived_is_not_on_the_way(limited: Script) -> None:
    first, second = opened(limited, 2, sack=True)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 1000)
    limited.inject(".", seq=1, ack=1, blocks=((6001, 20_001),), port=5000)
    expect(limited, (5000, 1, 6000), (5001, 1, 1000))
    check(first, second)


def test_others_go_when_all_that_was_on_the_way_is_lost(limited: Script) -> None:
    first, second = opened(limited, 2)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 5000)
    limited.advance(200)
    expect(limited, (5000, 1, 1000), (5001, 1, 5000))
    check(first, second)


def test_who_loses_everything_again_and_again_does_not_keep_others_waiting(limited: Script) -> None:
    first, second, third = opened(limited, 3)
    for each in (first, second):
        write(limited, each, 10_000)
    limited.take_all()
    write(limited, third, 30_000)
    limited.advance(10_000)
    assert [sent for sent in limited.take_all() if sent.port == 5002]
    check(first, second, third)


def test_what_a_connection_had_on_the_way_has_gone_with_it(limited: Script) -> None:
    first, second, third = opened(limited, 3)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 5000)
    first.abort(limited.now)
    limited.flush()
    limited.expect("R.", seq=20_001, ack=1, port=5000)
    expect(limited, (5001, 1, 5000))
    check(second, third)


def test_reset_of_one_lets_the_next_one_go(limited: Script) -> None:
    first, second, third = opened(limited, 3)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 5000)
    limited.inject("R", seq=1, port=5000)
    assert first.failure is Failure.RESET
    expect(limited, (5001, 1, 5000))
    check(second, third)


def test_one_that_ends_while_it_waits_waits_no_longer(limited: Script) -> None:
    first, second, third = opened(limited, 3)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 5000)
    write(limited, third, 5000)
    second.abort(limited.now)
    limited.flush()
    limited.expect("R.", seq=1, ack=1, port=5001)
    assert list(first.macroflow.waiting) == [third]
    limited.inject(".", seq=1, ack=20_001, port=5000)
    expect(limited, (5002, 1, 5000))
    check(first, third)


def test_one_that_ends_when_its_turn_has_come_lets_the_next_one_go() -> None:
    wire, (first, second, other) = to_two_hosts()
    third = wire.left.tcp.connect(Endpoint(v4(2), 80), wire.now)
    wire.drive(lambda: third.is_established)
    first.send(bytes(20_000))
    second.send(bytes(1000))
    third.send(bytes(1000))
    list(ports(wire))
    other.sender.cubic.window = WINDOW
    other.send(bytes(120_000))
    first.abort(wire.now)
    # The reset, and one of those that have data; the turn of the second one is to come.
    leaving = ports(wire)
    assert [next(leaving), next(leaving)] == [first.local.port, other.local.port]
    second.abort(wire.now)
    # Its reset, and what the third one has.
    assert list(leaving) == [second.local.port, third.local.port]


def test_turn_is_not_lost_by_an_acknowledgment_that_comes_before_it() -> None:
    wire, (first, second, other) = to_two_hosts()
    third = wire.left.tcp.connect(Endpoint(v4(2), 80), wire.now)
    wire.drive(lambda: third.is_established)
    first.send(bytes(20_000))
    second.send(bytes(1000))
    third.send(bytes(1000))
    list(ports(wire))
    other.send(bytes(120_000))
    first.abort(wire.now)
    leaving = ports(wire)
    assert [next(leaving), next(leaving)] == [first.local.port, other.local.port]
    peer = next(each for each in wire.right.tcp.connections if each.remote == second.local)
    peer.send(b"x")
    packet = wire.right.next_packet(wire.now)
    assert packet is not None
    wire.left.receive(memoryview(b"".join(packet.parts)), wire.now, is_partial=True)
    rest = list(leaving)
    assert rest.index(second.local.port) < rest.index(third.local.port)


def test_last_one_has_no_limit(limited: Script) -> None:
    first, second = opened(limited, 2)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, first, 5000)
    limited.expect_nothing()
    second.abort(limited.now)
    limited.flush()
    limited.expect("R.", seq=1, ack=1, port=5001)
    expect(limited, (5000, 20_001, 5000))
    check(first)


def test_nothing_is_left_when_all_are_over(limited: Script) -> None:
    first, second, third = opened(limited, 3)
    flow = first.macroflow
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 1000)
    write(limited, third, 1000)
    first.close(limited.now)
    limited.flush()
    third.abort(limited.now)
    limited.flush()
    limited.expect("R.", seq=1, ack=1, port=5002)
    limited.inject("F.", seq=1, ack=20_001, port=5000)
    limited.expect(".", seq=20_001, ack=2, port=5000)
    limited.expect("P.", seq=1, ack=1, length=1000, port=5001)
    # The end waited for its turn.
    limited.expect("F.", seq=20_001, ack=2, port=5000)
    limited.inject(".", seq=2, ack=20_002, port=5000)
    assert macroflows(limited) == [flow]
    second.close(limited.now)
    limited.flush()
    limited.expect("F.", seq=1001, ack=1, port=5001)
    limited.inject("F.", seq=1, ack=1002, port=5001)
    limited.expect(".", seq=1002, ack=2, port=5001)
    # TIME-WAIT has nothing to send.
    assert (first.state, second.state) == (State.TIME_WAIT, State.TIME_WAIT)
    assert macroflows(limited) == []
    assert (flow.on_the_way, flow.connections, flow.waiting) == (0, 0, {})


def test_refused_connections_leave_nothing(limited: Script) -> None:
    connection = limited.connect()
    limited.sent.popleft()
    assert connection.macroflow.on_the_way == 1
    limited.inject("R.", seq=0, ack=1)
    assert macroflows(limited) == []


def test_smaller_mtu_gives_back_what_did_not_arrive(limited: Script) -> None:
    first, second = opened(limited, 2)
    write(limited, first, 20_000)
    limited.take_all()
    write(limited, second, 3000)
    limited.advance(10_000)
    # After two time-outs in a row large segments are suspected: what is on the way is counted in smaller ones.
    limited.take_all()
    assert first.sender.segment < 1000
    check(first, second)


def test_connection_of_a_cookie_is_one_of_them(limited: Script) -> None:
    limited.listen(backlog=1)
    limited.inject("S", seq=0, mss=1000, port=5001)
    limited.sent.popleft()
    limited.inject("S", seq=0, mss=1000, port=5002)
    limited.sent.popleft()
    limited.inject(".", seq=1, ack=1, port=5002)
    made = limited.accept()
    assert made.macroflow.connections == 2
    assert made.macroflow.on_the_way == 1, "the answer to the first one's SYN"
    made.abort(limited.now)
    limited.flush()
    limited.expect("R.", seq=1, ack=1, port=5002)
    assert made.macroflow.connections == 1


# What the window of one learns from it.


def test_window_of_which_less_than_half_is_used_does_not_grow(limited: Script) -> None:
    first, second = opened(limited, 2)
    first.sender.cubic.window = 130_000
    write(limited, second, 10_000)
    limited.take_all()
    write(limited, first, 300_000)
    expect(limited, (5000, 1, 63_000))
    limited.inject(".", seq=1, ack=63_001, port=5000)
    limited.take_all()
    assert first.sender.cubic.window == 130_000


def test_window_of_which_half_is_used_grows(limited: Script) -> None:
    first, second = opened(limited, 2)
    first.sender.cubic.window = 126_000
    write(limited, second, 10_000)
    limited.take_all()
    write(limited, first, 300_000)
    expect(limited, (5000, 1, 63_000))
    limited.inject(".", seq=1, ack=63_001, port=5000)
    limited.take_all()
    assert first.sender.cubic.window == 126_000 + 63_000


def test_pause_before_it_had_to_wait_makes_what_is_known_of_the_path_old(limited: Script) -> None:
    first, second = opened(limited, 2)
    write(limited, first, 1000)
    limited.take_all()
    limited.inject(".", seq=1, ack=1001, port=5000)
    limited.advance_quietly(10_000)
    # The other one has had none.
    send_and_acknowledge(limited, second, 1000, after=0)
    second.sender.cubic.window = WINDOW
    write(limited, second, 20_000)
    limited.take_all()
    write(limited, first, 50_000)
    limited.inject(".", seq=1, ack=21_001, port=5001)
    expect(limited, (5000, 1001, 10_000))


def test_having_to_wait_is_no_pause(limited: Script) -> None:
    first, second = opened(limited, 2)
    write(limited, second, 35_000)
    limited.take_all()
    write(limited, first, 25_000)
    for acknowledged in (5000, 10_000, 15_000, 20_000):
        limited.advance_quietly(150)
        limited.inject(".", seq=1, ack=1 + acknowledged, port=5001)
        write(limited, first, 1000)
    limited.advance_quietly(150)
    limited.inject(".", seq=1, ack=35_001, port=5001)
    expect(limited, (5000, 1, 29_000))


# Both ends in one host.


def test_connections_within_a_host_are_one_macroflow_and_come_to_an_end() -> None:
    wire = Wire(make_host(1), make_host(2), faults=Faults())
    host = wire.left
    listener = host.tcp.listen(Endpoint(ANY, 80))
    sending = [host.tcp.connect(Endpoint(v4(1), 80), wire.now) for _ in range(4)]
    wire.drive(lambda: all(each.is_established for each in sending))
    receiving: dict[int, Connection] = {}
    while (accepted := listener.accept()) is not None:
        receiving[accepted.remote.port] = accepted
    flow = sending[0].macroflow
    assert flow.connections == 8
    size = 600_000
    for each in sending:
        # More than the other end has room for at once, so that it goes as packets.
        each.send(bytes(size))
    heard = dict.fromkeys(receiving, 0)

    def has_arrived() -> bool:
        for port, connection in receiving.items():
            heard[port] += sum(map(len, connection.receive()))
        return all(each == size for each in heard.values())

    wire.drive(has_arrived)
    for each in [*sending, *receiving.values()]:
        each.close(wire.now)
    wire.drive()
    assert (flow.on_the_way, flow.connections, flow.waiting) == (0, 0, {})
    assert host.tcp._macroflows == {}
