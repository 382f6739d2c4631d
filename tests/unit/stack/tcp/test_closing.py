"""How connections end: FIN from either side, half-close, TIME-WAIT (RFC 9293 section 3.6; RFC 6191, RFC 1337)."""

from __future__ import annotations

import pytest

from tests.unit.stack.tcp.script import Script
from tests.unit.stack.wire import Wire, make_host, v6
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.tcp.connection import Keepalive
from weft.stack.tcp.states import State
from weft.testing import Faults


def closed_first(script: Script, **options: int) -> None:
    """To FIN-WAIT-2."""
    script.accepted(**options)  # type: ignore[arg-type]
    ts = options.get("ts")
    script.shutdown()
    script.expect("F.", seq=1, ack=1)
    assert script.state is State.FIN_WAIT_1
    script.inject(".", seq=1, ack=2, ts=None if ts is None else (ts, 0))
    assert script.state is State.FIN_WAIT_2


def test_3_6_case_1_we_close_first(script: Script) -> None:
    closed_first(script)
    script.advance_quietly(100_000)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    assert script.connection.is_closed
    assert script.state is State.TIME_WAIT
    assert script.failure is None
    assert script.connection.is_at_end


def test_3_6_case_1_fin_that_acknowledges_ours(script: Script) -> None:
    script.accepted()
    script.shutdown()
    script.expect("F.", seq=1, ack=1)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    assert script.state is State.TIME_WAIT
    assert script.connection.is_closed


def test_3_6_case_2_they_close_first(script: Script) -> None:
    connection = script.accepted()
    script.inject("F.", seq=1, ack=1)
    script.expect(".", seq=1, ack=2)
    assert script.state is State.CLOSE_WAIT
    assert connection.is_at_end
    assert script.events() == [connection]
    script.close()
    script.expect("F.", seq=1, ack=2)
    assert script.state is State.LAST_ACK
    script.inject(".", seq=2, ack=2)
    assert script.state is State.CLOSED
    assert connection.is_closed
    assert connection.failure is None
    assert script.events() == [connection]
    assert script.host.tcp.connections == []
    assert script.host.next_timer() is None
    script.inject(".", seq=2, ack=2)
    script.expect("R", seq=2)


def test_3_6_case_3_both_close_at_once(script: Script) -> None:
    script.accepted()
    script.shutdown()
    script.expect("F.", seq=1, ack=1)
    script.inject("F.", seq=1, ack=1)
    script.expect(".", seq=2, ack=2)
    assert script.state is State.CLOSING
    script.inject(".", seq=2, ack=2)
    assert script.state is State.TIME_WAIT
    assert script.connection.is_closed


def test_3_6_half_close_goes_on_receiving(script: Script) -> None:
    closed_first(script)
    script.inject("P.", seq=1, ack=2, data=b"still here")
    script.expect(".", seq=2, ack=11, after=40)
    assert script.receive() == b"still here"
    with pytest.raises(StackError) as closed:
        script.send(b"x")
    assert closed.value.failure is Failure.CLOSED


def test_3_6_half_close_goes_on_sending(script: Script) -> None:
    script.accepted()
    script.inject("F.", seq=1, ack=1)
    script.expect(".", seq=1, ack=2)
    script.send(b"still here")
    script.expect("P.", seq=1, ack=2, data=b"still here")
    script.inject(".", seq=2, ack=11)
    script.shutdown()
    script.expect("F.", seq=11, ack=2)
    script.shutdown()


def test_3_6_fin_comes_behind_all_data(script: Script) -> None:
    script.accepted(window=1500)
    script.send(2000)
    script.expect(".", seq=1, ack=1, length=1000)
    script.shutdown()
    script.inject(".", seq=1, ack=1001, window=1500)
    script.expect("FP.", seq=1001, ack=1, length=1000)
    script.inject(".", seq=1, ack=2002)
    assert script.state is State.FIN_WAIT_2


def test_3_6_fin_that_waits_for_a_hole(script: Script) -> None:
    script.accepted()
    script.inject("FP.", seq=4, ack=1, data=b"def")
    script.expect(".", seq=1, ack=1)
    assert script.state is State.ESTABLISHED
    script.inject("P.", seq=1, ack=1, data=b"abc")
    script.expect(".", seq=1, ack=8)
    assert script.state is State.CLOSE_WAIT
    assert script.receive() == b"abcdef"


def test_3_6_fin_without_data_that_waits_for_a_hole(script: Script) -> None:
    script.accepted()
    script.inject("F.", seq=4, ack=1)
    script.expect(".", seq=1, ack=1)
    script.inject("P.", seq=1, ack=1, data=b"abc")
    script.expect(".", seq=1, ack=5)
    assert script.state is State.CLOSE_WAIT


def test_3_6_data_behind_a_fin_is_none(script: Script) -> None:
    script.accepted()
    script.inject("F.", seq=4, ack=1)
    script.expect(".", seq=1, ack=1)
    script.inject("P.", seq=1, ack=1, data=b"abcdefg")
    script.expect(".", seq=1, ack=5)
    assert script.receive() == b"abc"
    assert script.connection.is_at_end
    script.inject("P.", seq=5, ack=1, data=b"ghost")
    script.expect(".", seq=1, ack=5)
    assert script.receive() == b""


def test_3_10_7_4_fin_that_comes_again_is_acknowledged_again(script: Script) -> None:
    script.accepted()
    for _ in range(2):
        script.inject("F.", seq=1, ack=1)
        script.expect(".", seq=1, ack=2)
    assert script.state is State.CLOSE_WAIT


def test_3_10_7_4_fin_is_sent_again(script: Script) -> None:
    script.accepted()
    script.shutdown()
    script.expect("F.", seq=1, ack=1)
    script.expect("F.", seq=1, ack=1, after=200)
    script.expect("F.", seq=1, ack=1, after=400)
    script.inject(".", seq=1, ack=2)
    assert script.state is State.FIN_WAIT_2
    script.advance_quietly(1_000_000)


def test_3_6_1_must_13_time_wait_lasts_twice_the_segment_lifetime(script: Script) -> None:
    closed_first(script)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    script.advance_quietly(59_999)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2, window=255)


def test_3_6_1_must_13_time_wait_ends(script: Script) -> None:
    closed_first(script)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    script.advance_quietly(60_000)
    assert script.host.next_timer() is None
    script.inject("F.", seq=1, ack=2)
    script.expect("R", seq=2)


def test_3_10_7_4_fin_that_comes_again_begins_time_wait_anew(script: Script) -> None:
    closed_first(script)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    script.advance_quietly(50_000)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    script.advance_quietly(59_999)
    script.inject(".", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    script.advance_quietly(1)
    assert script.host.next_timer() is None
    script.inject(".", seq=2, ack=2)
    script.expect("R", seq=2)


def test_acknowledgment_in_time_wait_is_not_answered_or_two_of_them_would_talk_for_ever(script: Script) -> None:
    closed_first(script)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    script.inject(".", seq=2, ack=2)
    script.expect_nothing()


@pytest.mark.parametrize("seq", [2, 3, 0])
def test_rfc_1337_reset_does_not_end_time_wait(script: Script, seq: int) -> None:
    closed_first(script)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    script.inject("R", seq=seq)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)


def test_3_6_1_may_2_new_syn_reopens_time_wait(script: Script) -> None:
    closed_first(script)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    last = (script._flows[script.peer_port].ours + 2) & 0xFFFFFFFF
    script.inject("S", seq=3)
    # Its numbers lie behind all that the old one used.
    answer = script.expect("S.", seq=0, ack=4)
    assert (int.from_bytes(answer.packet[24:28], "big") - last) & 0xFFFFFFFF == 65_536
    script.inject(".", seq=4, ack=1)
    assert script.accept().is_established
    script.advance_quietly(120_000)
    script.inject("P.", seq=4, ack=1, data=b"x")
    script.expect(".", seq=1, ack=5, after=40)


@pytest.mark.parametrize(("flags", "seq"), [("S", 2), ("S", 1), ("S", -(1 << 30)), ("S.", 3), (".", 3)])
def test_3_6_1_what_may_be_old_does_not_reopen_time_wait(script: Script, flags: str, seq: int) -> None:
    closed_first(script)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    script.inject(flags, seq=seq, ack=2 if "." in flags else None)
    script.expect(".", seq=2, ack=2)


@pytest.mark.parametrize("flags", ["", "P", "U", "F", "SR", "R"])
def test_3_6_1_what_is_no_syn_does_not_end_time_wait(script: Script, flags: str) -> None:
    closed_first(script)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    script.inject(flags, seq=1000)
    script.take_all()
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)


@pytest.mark.parametrize(("flags", "seq", "data"), [(".", 2, b""), ("P.", 1, b"x"), ("F.", 0, b""), ("F.", 2, b"")])
def test_3_10_7_4_only_the_fin_begins_time_wait_anew(script: Script, flags: str, seq: int, data: bytes) -> None:
    closed_first(script)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    until = script.now + 60_000_000_000
    assert script.host.next_timer() == until
    script.advance(1000)
    script.inject(flags, seq=seq, ack=2, data=data)
    script.take_all()
    script.advance(58_999)
    assert script.host.next_timer() == until
    script.advance(1)
    assert script.host.next_timer() is None


def test_3_6_1_time_wait_of_a_port_that_nobody_listens_on_stays(script: Script) -> None:
    closed_first(script)
    script.listener.close(script.now)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    script.inject("S", seq=3)
    script.expect(".", seq=2, ack=2)


@pytest.mark.parametrize(
    ("timestamp", "seq", "reopens"),
    [
        (101, 1, True),
        (99, 1000, False),
        (100, 3, True),
        (100, 2, False),
        (99 + (1 << 31), 1, True),
        (100 + (1 << 31), 1000, False),
    ],
)
def test_3_6_1_shld_4_timestamps_tell_whether_a_syn_is_new(
    script: Script, timestamp: int, seq: int, *, reopens: bool
) -> None:
    closed_first(script, ts=100)
    script.inject("F.", seq=1, ack=2, ts=(100, 0))
    script.expect(".", seq=2, ack=2, ts=(0, 100))
    script.advance_quietly(5)
    script.inject("S", seq=seq, ts=(timestamp, 0))
    if reopens:
        script.expect("S.", seq=0, ack=seq + 1, ts=(5, timestamp))
    else:
        script.expect(".", seq=2, ack=2, ts=(5, 100))


def test_3_6_1_shld_3_data_for_a_user_that_has_closed_is_answered_by_a_reset(script: Script) -> None:
    connection = script.accepted()
    script.close()
    script.expect("F.", seq=1, ack=1)
    assert not connection.is_closed
    script.inject("P.", seq=1, ack=2, data=b"lost")
    script.expect("R.", seq=2, ack=1)
    assert connection.is_closed
    assert connection.failure is Failure.RESET


def test_3_6_1_close_with_data_that_nobody_took_resets(script: Script) -> None:
    connection = script.accepted()
    script.inject("P.", seq=1, ack=1, data=b"lost")
    script.close()
    script.expect("R.", seq=1, ack=5)
    assert connection.failure is Failure.ABORTED


def test_close_twice_is_close_once(script: Script) -> None:
    script.accepted()
    script.close()
    script.expect("F.", seq=1, ack=1)
    script.close()
    script.shutdown()
    assert script.state is State.FIN_WAIT_1


def test_close_after_shutdown_sends_one_fin(script: Script) -> None:
    closed_first(script)
    script.close()
    script.advance_quietly(59_999)
    assert not script.connection.is_closed
    script.advance_quietly(1)
    assert script.connection.is_closed
    assert script.failure is None


def test_user_that_has_closed_does_not_wait_for_a_peer_for_ever(script: Script) -> None:
    script.accepted()
    script.close()
    script.expect("F.", seq=1, ack=1)
    script.inject(".", seq=1, ack=2)
    assert script.state is State.FIN_WAIT_2
    script.advance_quietly(59_999)
    assert not script.connection.is_closed
    script.advance_quietly(1)
    assert script.connection.is_closed
    assert script.host.next_timer() is None


def test_user_that_has_closed_one_half_waits_for_ever(script: Script) -> None:
    closed_first(script)
    script.advance_quietly(10_000_000)
    assert script.state is State.FIN_WAIT_2


def test_close_of_what_is_over_is_nothing(script: Script) -> None:
    script.accepted()
    script.inject("R", seq=1)
    script.close()
    script.shutdown()
    script.abort()
    assert script.failure is Failure.RESET


def test_time_wait_makes_room_for_newer_ones(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.stack.tcp.time_wait.MOST", 2)
    script.listen()
    for port in (5001, 5002, 5003):
        script.inject("S", seq=0, port=port)
        script.expect("S.", seq=0, ack=1, port=port)
        script.inject(".", seq=1, ack=1, port=port)
        script.accept().shutdown(script.now)
        script.flush()
        script.expect("F.", seq=1, ack=1, port=port)
        script.inject("F.", seq=1, ack=2, port=port)
        script.expect(".", seq=2, ack=2, port=port)
    script.inject("F.", seq=1, ack=2, port=5001)
    script.expect("R", seq=2, port=5001)
    for port in (5002, 5003):
        script.inject("F.", seq=1, ack=2, port=port)
        script.expect(".", seq=2, ack=2, port=port)


def test_close_twice_waits_for_the_peer_as_long_as_close_once(script: Script) -> None:
    script.accepted()
    script.close()
    script.expect("F.", seq=1, ack=1)
    script.close()
    script.inject(".", seq=1, ack=2)
    script.advance_quietly(60_000)
    assert script.connection.is_closed


def test_user_that_has_closed_is_not_reset_by_data_that_it_took(script: Script) -> None:
    script.accepted()
    script.inject("P.", seq=1, ack=1, data=b"abc")
    assert script.receive() == b"abc"
    script.close()
    script.expect("F.", seq=1, ack=4)
    # It comes again, with the FIN behind it.
    script.inject("FP.", seq=1, ack=1, data=b"abc")
    script.expect(".", seq=2, ack=5)
    assert script.state is State.CLOSING


def test_what_is_over_is_released_by_whoever_has_closed_or_aborted(script: Script) -> None:
    connection = script.accepted()
    script.inject("R", seq=1)
    assert not connection.has_released
    script.close()
    assert connection.has_released
    script.peer_port += 1
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject(".", seq=1, ack=1)
    connection = script.accept()
    script.inject("R", seq=1)
    script.abort()
    assert connection.has_released


def test_connection_that_ends_keeps_nothing_that_nobody_can_take(script: Script) -> None:
    connection = script.accepted()
    script.inject("P.", seq=5, ack=1, data=b"behind a hole")
    script.expect(".", seq=1, ack=1)
    script.send(3000)
    script.expect("P.", seq=1, ack=1, length=3000)
    script.inject("R", seq=1)
    assert not connection.receiver._starts
    assert connection.sender.buffer.start == connection.sender.buffer.end


def test_time_waits_end_in_their_order(script: Script) -> None:
    script.listen()
    ends = []
    for port in (5001, 5002, 5003):
        script.inject("S", seq=0, port=port)
        script.expect("S.", seq=0, ack=1, port=port)
        script.inject(".", seq=1, ack=1, port=port)
        script.accept().shutdown(script.now)
        script.flush()
        script.expect("F.", seq=1, ack=1, port=port)
        script.inject("F.", seq=1, ack=2, port=port)
        script.expect(".", seq=2, ack=2, port=port)
        ends.append(script.now + 60_000_000_000)
        script.advance_quietly(10)
    # A timer of a connection that ends earlier comes first, and one that ends later does not.
    script.peer_port = 5004
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    assert script.host.next_timer() == script.now + 1_000_000_000
    script.inject("R", seq=1)
    for end in ends:
        assert script.host.next_timer() == end
        script.advance_quietly((end - script.now) / 1_000_000)
    assert script.host.next_timer() is None


def test_time_wait_beside_a_timer_that_ends_later(script: Script) -> None:
    closed_first(script)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)
    until = script.now + 60_000_000_000
    # The timer of the handshake is looked at once more, and then that of the keepalive.
    script.inject("S", seq=0, port=5001)
    script.expect("S.", seq=0, ack=1, port=5001)
    script.inject(".", seq=1, ack=1, port=5001)
    script.accept().set_keepalive(Keepalive(), script.now)
    script.advance_quietly(1000)
    assert script.host.next_timer() == until


def test_answers_of_what_is_over_have_a_rate_but_for_the_first(script: Script) -> None:
    closed_first(script)
    for _ in range(1001):
        script.inject("F.", seq=1, ack=2)
        script.expect(".", seq=2, ack=2)
    script.inject("F.", seq=1, ack=2)
    assert script.drops("tcp: rate of late acknowledgments") == 1
    script.advance_quietly(1)
    script.inject("F.", seq=1, ack=2)
    script.expect(".", seq=2, ack=2)


def test_connections_that_end_by_the_thousand_all_end_at_once() -> None:
    wire = Wire(make_host(1), make_host(2), faults=Faults())
    listener = wire.right.tcp.listen(Endpoint(v6(2), 80), backlog=2000)
    ours = [wire.left.tcp.connect(Endpoint(v6(2), 80), wire.now) for _ in range(1500)]
    wire.drive()
    theirs = [accepted for _ in ours if (accepted := listener.accept()) is not None]
    for ends in (ours, theirs):
        for connection in ends:
            connection.close(wire.now)
        wire.drive()
    assert len(theirs) == 1500
    assert all(connection.is_closed and connection.failure is None for connection in (*ours, *theirs))
    assert not wire.left.drops
