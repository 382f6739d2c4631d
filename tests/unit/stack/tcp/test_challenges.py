"""Blind segments, and what they do not do (RFC 5961)."""

from __future__ import annotations

import pytest

from tests.unit.stack.tcp.script import Script
from weft.stack.failure import Failure
from weft.stack.tcp.states import State


def test_3_10_7_4_syn_in_the_window_is_challenged(script: Script) -> None:
    script.accepted()
    script.inject("S", seq=5)
    script.expect(".", seq=1, ack=1)
    assert script.state is State.ESTABLISHED


@pytest.mark.parametrize("seq", [0, -1, 1 << 31, 1 << 20])
def test_rfc_5961_4_syn_anywhere_is_answered_by_an_acknowledgment(script: Script, seq: int) -> None:
    script.accepted()
    script.inject("S", seq=seq)
    script.expect(".", seq=1, ack=1)
    assert script.state is State.ESTABLISHED


def test_rfc_5961_4_peer_that_has_forgotten_resets_then(script: Script) -> None:
    script.accepted()
    script.inject("S", seq=100)
    script.expect(".", seq=1, ack=1)
    script.inject("R", seq=1)
    assert script.failure is Failure.RESET


def test_rfc_5961_4_syn_with_an_acknowledgment_too(script: Script) -> None:
    script.accepted()
    script.inject("S.", seq=5, ack=1)
    script.expect(".", seq=1, ack=1)


@pytest.mark.parametrize("ack", [5, 1 << 31, -70_000, 1 << 20])
def test_rfc_5961_5_acknowledgment_of_what_never_was_is_challenged(script: Script, ack: int) -> None:
    script.accepted(window=65535)
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.inject("P.", seq=1, ack=ack, data=b"evil")
    script.expect(".", seq=4, ack=1)
    assert script.connection.readable_bytes == 0
    assert script.connection.unacknowledged_bytes == 3


@pytest.mark.parametrize("ack", [4, 1, 0, -65534])
def test_rfc_5961_5_acknowledgment_within_the_largest_window_counts(script: Script, ack: int) -> None:
    script.accepted(window=65535)
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.inject("P.", seq=1, ack=ack, data=b"good")
    script.expect(".", seq=4, ack=5, after=40)


def test_rfc_5961_7_challenges_have_a_rate_of_each_connection(script: Script) -> None:
    script.accepted()
    script.inject("R", seq=100)
    script.expect(".", seq=1, ack=1)
    for _ in range(10):
        script.inject("R", seq=100)
        script.inject("S", seq=100)
    assert script.drops("tcp: challenge rate") == 20
    script.advance_quietly(499.999)
    script.inject("R", seq=100)
    script.advance_quietly(0.001)
    script.inject("R", seq=100)
    script.expect(".", seq=1, ack=1)
    assert script.drops("tcp: challenge rate") == 21


def test_rfc_5961_3_reset_in_syn_received_needs_the_exact_number(script: Script) -> None:
    listener = script.listen()
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject("R", seq=2)
    assert listener.half_open == 1
    script.inject("R", seq=1)
    assert listener.half_open == 0


def test_segment_without_acknowledgment_is_nothing(script: Script) -> None:
    script.accepted()
    script.inject("P", seq=1, data=b"evil")
    script.inject("F", seq=1)
    script.inject("", seq=1)
    assert script.connection.readable_bytes == 0
    assert script.state is State.ESTABLISHED
