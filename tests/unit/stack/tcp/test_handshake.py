"""How connections begin: three-way handshake, simultaneous open, SYN-SENT, LISTEN (RFC 9293 sections 3.5, 3.10.7)."""

from __future__ import annotations

import pytest

from tests.unit.stack.tcp.script import Script
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.tcp.options import Options
from weft.stack.tcp.states import State


def test_3_5_active_open(script: Script) -> None:
    connection = script.connect()
    assert script.state is State.SYN_SENT
    script.expect("S", seq=0, window=65535, mss=1000, ws=8, sack=True, ts=(0, 0))
    script.advance_quietly(30)
    script.inject("S.", seq=0, ack=1, mss=900, ws=7, sack=True, ts=(500, 0))
    script.expect(".", seq=1, ack=1, window=1024, ts=(30, 500))
    assert script.state is State.ESTABLISHED
    assert connection.is_established
    assert script.events() == [connection]
    assert connection.maximum_segment == 888


def test_3_5_passive_open(script: Script) -> None:
    listener = script.listen()
    script.inject("S", seq=0, mss=900, ws=7, sack=True, ts=(500, 0))
    script.expect("S.", seq=0, ack=1, window=65535, mss=1000, ws=8, sack=True, ts=(0, 500))
    assert listener.accept() is None
    assert script.events() == []
    script.inject(".", seq=1, ack=1, ts=(501, 0))
    assert listener in script.events()
    connection = script.accept()
    assert script.state is State.ESTABLISHED
    assert connection.maximum_segment == 888
    assert listener.accept() is None


def test_3_5_options_that_the_peer_does_not_have_are_not_answered(script: Script) -> None:
    script.listen()
    script.inject("S", seq=0, mss=1000)
    script.expect("S.", seq=0, ack=1, window=65535, options=Options(maximum_segment=1000))
    script.inject(".", seq=1, ack=1)
    script.accept()
    script.send(b"x")
    script.expect("P.", seq=1, ack=1, data=b"x", options=Options(), window=65535)


def test_3_5_must_10_simultaneous_open(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.inject("S", seq=0, mss=1000)
    script.expect("S.", seq=0, ack=1, window=65535, options=Options(maximum_segment=1000))
    assert script.state is State.SYN_RECEIVED
    assert not script.connection.is_established
    script.inject("S.", seq=0, ack=1, mss=1000)
    assert script.state is State.ESTABLISHED
    assert script.connection.is_established
    script.inject("P.", seq=1, ack=1, data=b"hello")
    script.expect(".", seq=1, ack=6, after=40)
    assert script.receive() == b"hello"


def test_3_5_simultaneous_open_answer_may_bring_data(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.inject("S", seq=0, mss=1000)
    script.expect("S.", seq=0, ack=1)
    script.inject("S.", seq=0, ack=1, data=b"hello")
    script.expect(".", seq=1, ack=6, after=40)
    assert script.receive() == b"hello"


def test_3_5_simultaneous_open_ends_with_a_plain_acknowledgment_too(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.inject("S", seq=0, mss=1000)
    script.expect("S.", seq=0, ack=1)
    script.inject(".", seq=1, ack=1)
    assert script.state is State.ESTABLISHED


def test_3_5_must_11_reset_in_syn_received_of_a_passive_open_goes_back_to_listen(script: Script) -> None:
    listener = script.listen()
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    assert listener.half_open == 1
    script.inject("R", seq=1)
    assert listener.half_open == 0
    assert script.host.tcp.connections == []
    assert listener.accept() is None
    script.inject("S", seq=1000)
    script.expect("S.", seq=0, ack=1001)


def test_3_5_must_11_reset_in_syn_received_of_an_active_open_is_a_refusal(script: Script) -> None:
    connection = script.connect()
    script.expect("S", seq=0)
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject("R", seq=1)
    assert connection.is_closed
    assert connection.failure is Failure.REFUSED
    assert connection.state is State.CLOSED
    assert connection in script.events()


def test_3_10_7_3_reset_refuses_a_connection(script: Script) -> None:
    connection = script.connect()
    script.expect("S", seq=0)
    script.inject("R.", seq=0, ack=1)
    assert connection.is_closed
    assert connection.failure is Failure.REFUSED
    assert script.events() == [connection]
    assert script.host.next_timer() is None


@pytest.mark.parametrize(("flags", "ack"), [("R", None), ("R.", 0), ("R.", 2), ("R.", -1)])
def test_3_10_7_3_reset_that_acknowledges_no_syn_of_ours_is_nothing(
    script: Script, flags: str, ack: int | None
) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.inject(flags, seq=0, ack=ack)
    assert script.state is State.SYN_SENT


@pytest.mark.parametrize("ack", [0, 2, -1, 1 << 31])
def test_3_10_7_3_acknowledgment_of_what_was_never_sent_is_reset(script: Script, ack: int) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.inject("S.", seq=0, ack=ack)
    script.expect("R", seq=ack & 0xFFFFFFFF)
    assert script.state is State.SYN_SENT
    script.inject("S.", seq=0, ack=1)
    script.expect(".", seq=1, ack=1)


def test_3_10_7_3_acknowledgment_without_syn_is_nothing(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.inject(".", seq=0, ack=1)
    assert script.state is State.SYN_SENT


def test_3_10_7_3_old_duplicate_syn_is_sorted_out(script: Script) -> None:
    """Figure 8, from the side of the listener."""
    listener = script.listen()
    script.inject("S", seq=-100)
    script.expect("S.", seq=0, ack=-99 & 0xFFFFFFFF)
    script.inject("R", seq=-99)
    assert listener.half_open == 0
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject(".", seq=1, ack=1)
    assert script.accept().is_established


def test_3_10_7_2_listener_ignores_reset_and_what_is_no_syn(script: Script) -> None:
    script.listen()
    script.inject("R", seq=0)
    script.inject("P", seq=0, data=b"x")
    script.inject("", seq=0)
    assert script.drops("tcp: no connection") == 2
    assert script.host.tcp.connections == []
    script.inject(".", seq=7, ack=9)
    script.expect("R", seq=9)
    script.inject("S.", seq=7, ack=9)
    script.expect("R", seq=9)
    assert script.host.tcp.connections == []


def test_3_10_7_4_syn_that_comes_again_is_answered_again(script: Script) -> None:
    script.listen()
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.advance_quietly(500)
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject(".", seq=1, ack=1)
    assert script.accept().is_established


def test_3_10_7_4_syn_received_resets_a_wrong_acknowledgment(script: Script) -> None:
    listener = script.listen()
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    for ack in (0, 2, 1 << 31):
        script.inject(".", seq=1, ack=ack)
        script.expect("R", seq=ack)
    assert listener.half_open == 1
    assert listener.accept() is None


def test_3_10_7_4_last_segment_of_the_handshake_may_bring_data_and_fin(script: Script) -> None:
    script.listen()
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject("FP.", seq=1, ack=1, data=b"all")
    script.expect(".", seq=1, ack=5)
    script.accept()
    assert script.state is State.CLOSE_WAIT
    assert script.receive() == b"all"
    assert script.connection.is_at_end


def test_3_10_7_4_data_may_finish_the_handshake_out_of_order(script: Script) -> None:
    script.listen()
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject("P.", seq=4, ack=1, data=b"def")
    script.expect(".", seq=1, ack=1)
    script.accept()
    script.inject("P.", seq=1, ack=1, data=b"abc")
    script.expect(".", seq=1, ack=7)
    assert script.receive() == b"abcdef"


def test_3_5_data_that_was_written_before_leaves_with_the_handshake(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.send(b"request")
    script.inject("S.", seq=0, ack=1)
    script.expect("P.", seq=1, ack=1, data=b"request")


def test_3_10_4_close_before_the_handshake_is_done_waits_for_it(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.send(b"request")
    script.shutdown()
    assert script.state is State.SYN_SENT
    script.inject("S.", seq=0, ack=1)
    script.expect("FP.", seq=1, ack=1, data=b"request")
    assert script.state is State.FIN_WAIT_1


def test_3_10_4_close_of_a_syn_that_nobody_answered_forgets_it(script: Script) -> None:
    connection = script.connect()
    script.expect("S", seq=0)
    script.close()
    assert connection.is_closed
    assert connection.failure is None
    assert script.state is State.CLOSED
    script.inject("S.", seq=0, ack=1)
    script.expect("R", seq=1)


def test_3_10_5_abort_of_a_syn_tells_nobody(script: Script) -> None:
    connection = script.connect()
    script.expect("S", seq=0)
    script.abort()
    assert connection.failure is Failure.ABORTED
    assert script.host.next_timer() is None


def test_listener_takes_as_many_as_its_backlog_and_drops_the_syns_beyond(script: Script) -> None:
    listener = script.listen(backlog=2)
    for port in (5001, 5002):
        script.inject("S", seq=0, port=port)
        script.expect("S.", seq=0, ack=1, port=port)
        script.inject(".", seq=1, ack=1, port=port)
    assert listener.is_full
    script.inject("S", seq=0, port=5003)
    assert script.drops("tcp: backlog is full") == 1
    first, second = listener.accept(), listener.accept()
    assert first is not None
    assert second is not None
    assert (first.remote.port, second.remote.port) == (5001, 5002)
    script.inject("S", seq=0, port=5003)
    script.expect("S.", seq=0, ack=1, port=5003)


def test_listener_that_closes_resets_those_that_wait(script: Script) -> None:
    listener = script.listen()
    script.inject("S", seq=0, port=5001)
    script.expect("S.", seq=0, ack=1, port=5001)
    script.inject(".", seq=1, ack=1, port=5001)
    script.inject("S", seq=0, port=5002)
    script.expect("S.", seq=0, ack=1, port=5002)
    listener.close(script.now)
    listener.close(script.now)
    script.flush()
    script.expect("R.", seq=1, ack=1, port=5001)
    script.expect("R.", seq=1, ack=1, port=5002)
    assert script.host.tcp.connections == []
    assert script.host.tcp.listeners == []
    script.inject("S", seq=0, port=5003)
    script.expect("R.", seq=0, ack=1, port=5003)


def test_listener_that_closes_leaves_what_was_accepted(script: Script) -> None:
    script.accepted()
    script.listener.close(script.now)
    script.send(b"x")
    script.expect("P.", seq=1, ack=1, data=b"x")


def test_connection_that_is_reset_before_it_was_accepted_is_gone(script: Script) -> None:
    listener = script.listen(backlog=1)
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject(".", seq=1, ack=1)
    script.inject("R", seq=1)
    assert not listener.is_full
    assert listener.accept() is None


def test_connection_that_brought_data_and_was_reset_may_still_be_accepted(script: Script) -> None:
    listener = script.listen(backlog=1)
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject("P.", seq=1, ack=1, data=b"last words")
    script.inject("R", seq=11)
    connection = listener.accept()
    assert connection is not None
    assert b"".join(connection.receive()) == b"last words"
    assert connection.failure is Failure.RESET


def test_backlog_is_at_least_one(script: Script) -> None:
    assert script.listen(backlog=0).backlog == 1


def test_user_that_writes_after_the_end_is_told_why(script: Script) -> None:
    script.connect()
    script.expect("S", seq=0)
    script.inject("R.", seq=0, ack=1)
    with pytest.raises(StackError) as refused:
        script.send(b"x")
    assert refused.value.failure is Failure.REFUSED


def test_ipv6_handshake() -> None:
    with Script(version=6) as script:
        script.connect()
        script.expect("S", seq=0, mss=1000, window=65535)
        script.inject("S.", seq=0, ack=1)
        script.expect(".", seq=1, ack=1)
        assert script.connection.maximum_segment == 1000
        assert script.connection.local == Endpoint(script.us, script.our_port)


def test_what_is_owed_before_the_handshake_is_done_is_paid_by_the_answer_to_the_syn(script: Script) -> None:
    script.listen()
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject("P.", seq=100_000, ack=1, data=b"outside of the window")
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject(".", seq=1, ack=1)
    assert script.accept().is_established


def test_listener_that_closes_hands_out_nothing_any_more(script: Script) -> None:
    listener = script.listen()
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject("P.", seq=1, ack=1, data=b"never taken")
    listener.close(script.now)
    script.flush()
    script.expect("R.", seq=1, ack=12)
    assert listener.accept() is None
    assert listener.is_closed


def test_nothing_is_urgent_before_anything_came(script: Script) -> None:
    assert not script.connect().is_urgent
    script.expect("S", seq=0)


@pytest.mark.parametrize("flags", [".", "P.", "F."])
def test_3_10_7_4_old_number_without_a_syn_finishes_no_handshake(script: Script, flags: str) -> None:
    script.listen()
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject(flags, seq=0, ack=1)
    assert script.listener.half_open == 1
    assert script.drops("tcp: outside of the window") == 1
