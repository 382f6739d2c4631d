"""Keepalives (RFC 9293 section 3.8.4)."""

from __future__ import annotations

from tests.unit.stack.tcp.script import MS, Script
from weft.stack.failure import Failure
from weft.stack.tcp.connection import Keepalive

QUICK = Keepalive(idle_s=10, interval_s=2, probes=3)


def test_3_8_4_must_25_keepalives_are_off_by_default(script: Script) -> None:
    script.accepted()
    script.advance_quietly(100_000_000)
    assert script.host.next_timer() is None


def test_3_8_4_must_28_default_is_two_hours(script: Script) -> None:
    script.accepted()
    script.connection.set_keepalive(Keepalive(), script.now)
    script.expect(".", seq=0, ack=1, after=7_200_000)
    for _ in range(8):
        script.expect(".", seq=0, ack=1, after=75_000)
    script.advance(75_000)
    script.expect("R.", seq=1, ack=1)


def test_3_8_4_must_24_keepalives_may_be_switched_on_and_off(script: Script) -> None:
    script.accepted()
    script.connection.set_keepalive(QUICK, script.now)
    script.expect(".", seq=0, ack=1, length=0, after=10_000)
    script.connection.set_keepalive(None, script.now)
    script.advance_quietly(100_000)
    script.connection.set_keepalive(QUICK, script.now)
    script.expect(".", seq=0, ack=1, after=10_000)
    script.connection.set_keepalive(None, script.now)


def test_3_8_4_may_be_set_before_the_handshake(script: Script) -> None:
    script.connect().set_keepalive(QUICK, script.now)
    script.expect("S", seq=0)
    script.advance_quietly(500)
    script.inject("S.", seq=0, ack=1)
    script.expect(".", seq=1, ack=1)
    script.expect(".", seq=0, ack=1, after=10_000)


def test_3_8_4_must_26_only_if_nothing_has_come(script: Script) -> None:
    script.accepted()
    script.connection.set_keepalive(QUICK, script.now)
    for number in range(5):
        script.advance(9000)
        script.inject("P.", seq=1 + number, ack=1, data=b"x")
        script.expect(".", seq=1, ack=2 + number, after=40)
    script.expect(".", seq=0, ack=6, after=9_960)


def test_3_8_4_must_27_interval_is_the_users(script: Script) -> None:
    script.accepted()
    script.connection.set_keepalive(Keepalive(idle_s=0.5, interval_s=0.25, probes=1), script.now)
    script.expect(".", seq=0, ack=1, after=500)
    script.advance(250)
    script.expect("R.", seq=1, ack=1)


def test_3_8_4_must_29_one_probe_without_an_answer_ends_nothing(script: Script) -> None:
    connection = script.accepted()
    connection.set_keepalive(QUICK, script.now)
    script.expect(".", seq=0, ack=1, after=10_000)
    script.expect(".", seq=0, ack=1, after=2000)
    script.expect(".", seq=0, ack=1, after=2000)
    script.advance_quietly(1999)
    assert not connection.is_closed
    script.inject(".", seq=1, ack=1)
    # Alive: from the beginning.
    script.expect(".", seq=0, ack=1, after=10_000)
    script.expect(".", seq=0, ack=1, after=2000)
    script.expect(".", seq=0, ack=1, after=2000)
    script.advance(2000)
    script.expect("R.", seq=1, ack=1)
    assert connection.failure is Failure.TIMED_OUT


def test_3_8_4_must_26_not_while_data_is_on_the_way(script: Script) -> None:
    """The retransmissions ask already."""
    script.accepted()
    script.connection.set_keepalive(Keepalive(idle_s=1, interval_s=1, probes=3), script.now)
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    waited, wait = 0, 200
    while waited < 30_000:
        script.expect("P.", seq=1, ack=1, data=b"abc", after=wait)
        waited += wait
        wait *= 2
    script.inject(".", seq=1, ack=4)
    script.expect(".", seq=3, ack=1, after=1000)


def test_3_8_4_shld_12_probe_has_no_data_and_an_old_number(script: Script) -> None:
    script.accepted(ts=100)
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.inject(".", seq=1, ack=4, ts=(101, 0))
    script.connection.set_keepalive(QUICK, script.now)
    script.expect(".", seq=3, ack=1, length=0, after=10_000, ts=(10_000, 101))


def test_3_8_4_keepalive_of_the_peer_is_answered(script: Script) -> None:
    script.accepted()
    script.inject(".", seq=0, ack=1)
    script.expect(".", seq=1, ack=1)
    script.inject(".", seq=0, ack=1, data=b"?")
    script.expect(".", seq=1, ack=1)
    assert script.connection.readable_bytes == 0


def test_3_8_4_answer_of_a_peer_that_has_forgotten_ends_it(script: Script) -> None:
    script.accepted()
    script.connection.set_keepalive(QUICK, script.now)
    script.expect(".", seq=0, ack=1, after=10_000)
    script.inject("R", seq=1)
    assert script.failure is Failure.RESET
    assert script.host.next_timer() is None


def test_keepalive_of_what_is_over_is_nothing(script: Script) -> None:
    script.accepted()
    script.inject("R", seq=1)
    script.connection.set_keepalive(QUICK, script.now)
    assert script.host.next_timer() is None
    assert script.connection.heard_at == script.now
    assert script.now % MS == 0


def test_3_8_4_must_26_not_while_a_closed_window_is_probed(script: Script) -> None:
    """Probes of the window ask already."""
    script.accepted(window=0)
    script.connection.set_keepalive(Keepalive(idle_s=0.15, interval_s=0.1, probes=1), script.now)
    script.send(10)
    for wait in (200, 400, 800):
        script.expect(".", seq=1, ack=1, length=1, after=wait)
    script.inject(".", seq=1, ack=1, window=100)
    script.expect("P.", seq=1, ack=1, length=10)
    script.inject(".", seq=1, ack=11, window=100)
    script.expect(".", seq=10, ack=1, after=150)


def test_keepalive_that_is_switched_off_wakes_nobody(script: Script) -> None:
    script.accepted()
    script.connection.set_keepalive(QUICK, script.now)
    script.connection.set_keepalive(None, script.now)
    assert script.connection.timers.next() is None


def test_keepalive_that_is_set_again_counts_anew(script: Script) -> None:
    script.accepted()
    script.connection.set_keepalive(QUICK, script.now)
    for wait in (10_000, 2000):
        script.expect(".", seq=0, ack=1, after=wait)
    script.connection.set_keepalive(QUICK, script.now)
    for wait in (10_000, 2000, 2000):
        script.expect(".", seq=0, ack=1, after=wait)
    script.advance(2000)
    script.expect("R.", seq=1, ack=1)


def test_connection_that_was_given_up_has_no_timers(script: Script) -> None:
    script.accepted()
    script.connection.give_up_retries = 0
    script.connection.set_keepalive(QUICK, script.now)
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.advance_quietly(200)
    assert script.connection.failure is Failure.TIMED_OUT
    assert script.host.next_timer() is None
