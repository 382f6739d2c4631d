"""What the timers of a connection do when they end.

Source: RFC 9293 sections 3.8.3 (when to give up), 3.8.4 (keepalives), 3.8.6.1 (probes); RFC 6298 section 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from weft.stack.failure import Failure
from weft.stack.tcp.arrival import set_mtu
from weft.stack.tcp.connection import Connection
from weft.stack.tcp.states import HANDSHAKE, State
from weft.stack.tcp.timers import SYN_ANSWER_RETRIES, SYN_GIVE_UP_NS, S, Timer

BLACK_HOLE_RETRIES: Final = 2
"""After so many time-outs in a row large segments are suspected to vanish (RFC 4821 section 7.7)."""
MIN_MTU_V4: Final = 576
MIN_MTU_V6: Final = 1280


def handle_timer(connection: Connection, now: int) -> None:
    """Do what the timers are for that have ended."""
    for timer in connection.timers.take_due(now):
        if not connection.is_closed:
            _ACTIONS[timer](connection, now)
    connection.tcp.arm(connection)


def _retransmit(connection: Connection, now: int) -> None:
    sender = connection.sender
    if connection.state in HANDSHAKE:
        _retransmit_syn(connection, now)
        return
    run = sender.take_tail_probe(now)
    if run is not None:
        connection.probe = run.start, run.end
        connection.timers[Timer.RETRANSMIT] = now + sender.round_trip.timeout_ns
        connection.queue_to_send()
        return
    if sender.retries >= connection.give_up_retries:
        connection.end(connection.soft or Failure.TIMED_OUT)
        return
    if sender.retries == BLACK_HOLE_RETRIES:
        least = MIN_MTU_V4 if connection.remote.is_ipv4 else MIN_MTU_V6
        if connection.mtu > least:
            set_mtu(connection, least)
    sender.handle_timeout()
    connection.timers[Timer.RETRANSMIT] = now + sender.round_trip.timeout_ns
    connection.queue_to_send()


def _retransmit_syn(connection: Connection, now: int) -> None:
    sender = connection.sender
    if connection.state is State.SYN_SENT:
        is_hopeless = now - connection.heard_at >= SYN_GIVE_UP_NS
    else:
        is_hopeless = sender.retries >= SYN_ANSWER_RETRIES
    if is_hopeless:
        connection.end(connection.soft or Failure.TIMED_OUT)
        return
    sender.handle_syn_lost()
    connection.owes_syn = True
    connection.queue_to_send()


def _probe_window(connection: Connection, now: int) -> None:
    sender = connection.sender
    if not sender.is_stuck:
        return
    if sender.retries >= connection.give_up_retries:
        connection.end(connection.soft or Failure.TIMED_OUT)
        return
    run = sender.probe(now)
    connection.probe = run.start, run.end
    sender.retries += 1
    sender.round_trip.back_off()
    connection.timers[Timer.PERSIST] = now + sender.round_trip.timeout_ns
    connection.queue_to_send()


def _acknowledge(connection: Connection, now: int) -> None:
    connection.owe_ack()


def _keep_alive(connection: Connection, now: int) -> None:
    keepalive = connection.keepalive
    if keepalive is None:
        return
    sender = connection.sender
    is_asking = sender.in_flight > 0 or sender.is_stuck
    quiet_until = (now if is_asking else connection.heard_at) + int(keepalive.idle_s * S)
    if now < quiet_until:
        connection.timers[Timer.KEEPALIVE] = quiet_until
        return
    if connection.unanswered >= keepalive.probes:
        connection.tcp.reset(connection, now)
        connection.end(connection.soft or Failure.TIMED_OUT)
        return
    connection.unanswered += 1
    connection.owes_probe = True
    connection.timers[Timer.KEEPALIVE] = now + int(keepalive.interval_s * S)
    connection.queue_to_send()


def _leave_fin_wait(connection: Connection, now: int) -> None:
    connection.end(None)


_ACTIONS: Final[dict[Timer, Callable[[Connection, int], None]]] = {
    Timer.RETRANSMIT: _retransmit,
    Timer.PERSIST: _probe_window,
    Timer.ACKNOWLEDGE: _acknowledge,
    Timer.KEEPALIVE: _keep_alive,
    Timer.FIN_WAIT: _leave_fin_wait,
}
