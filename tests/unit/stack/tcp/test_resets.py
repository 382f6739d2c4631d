"""When a reset is sent, and what one does (RFC 9293 sections 3.5.2, 3.5.3; RFC 5961 section 3)."""

from __future__ import annotations

import pytest

from tests.unit.stack.tcp.script import Script
from weft.stack.failure import Failure, StackError
from weft.stack.tcp.states import State


@pytest.mark.parametrize(
    ("flags", "ack", "data", "answer"),
    [
        ("S", None, b"", ("R.", 0, 101)),
        ("", None, b"", ("R.", 0, 100)),
        ("", None, b"abc", ("R.", 0, 103)),
        ("SF", None, b"abc", ("R.", 0, 105)),
        ("F", None, b"", ("R.", 0, 101)),
        (".", 77, b"", ("R", 77, 0)),
        ("S.", 77, b"", ("R", 77, 0)),
        ("FP.", 77, b"abc", ("R", 77, 0)),
    ],
)
def test_3_5_2_closed_port_resets(
    script: Script, flags: str, ack: int | None, data: bytes, answer: tuple[str, int, int]
) -> None:
    script.inject(flags, seq=100, ack=ack, data=data)
    script.expect(answer[0], seq=answer[1], ack=answer[2], window=0)
    assert script.drops("tcp: no such port") == 1


@pytest.mark.parametrize("flags", ["R", "R.", "SR", "FR."])
def test_3_5_2_reset_is_never_answered(script: Script, flags: str) -> None:
    script.inject(flags, seq=100, ack=5)


def test_3_5_2_resets_have_a_rate(script: Script) -> None:
    for _ in range(1000):
        script.inject("S", seq=0)
        script.expect("R.", seq=0, ack=1)
    script.inject("S", seq=0)
    assert script.drops("tcp: reset rate") == 1
    script.advance(1)
    script.inject("S", seq=0)
    script.expect("R.", seq=0, ack=1)


def test_3_5_3_reset_at_the_next_byte_ends_a_connection(script: Script) -> None:
    connection = script.accepted()
    script.inject("R", seq=1)
    assert connection.is_closed
    assert connection.state is State.CLOSED
    assert connection.failure is Failure.RESET
    assert script.events() == [connection]
    assert script.host.tcp.connections == []
    assert script.host.next_timer() is None


@pytest.mark.parametrize("seq", [2, 1000, 65535])
def test_3_5_3_reset_elsewhere_in_the_window_is_challenged(script: Script, seq: int) -> None:
    script.accepted()
    script.inject("R", seq=seq)
    script.expect(".", seq=1, ack=1)
    assert script.state is State.ESTABLISHED
    script.inject("R", seq=1)
    assert script.failure is Failure.RESET


@pytest.mark.parametrize("seq", [0, -1, 65536 + 262144, 1 << 31])
def test_3_5_3_reset_outside_of_the_window_is_nothing(script: Script, seq: int) -> None:
    script.accepted()
    script.inject("R", seq=seq)
    assert script.state is State.ESTABLISHED
    assert script.drops("tcp: outside of the window") == 1


def test_3_5_3_reset_ends_last_ack_in_order(script: Script) -> None:
    connection = script.accepted()
    script.inject("F.", seq=1, ack=1)
    script.expect(".", seq=1, ack=2)
    script.shutdown()
    script.expect("F.", seq=1, ack=2)
    assert script.state is State.LAST_ACK
    script.inject("R", seq=2)
    assert connection.is_closed
    assert connection.failure is None


def test_3_5_3_reset_ends_closing_in_order(script: Script) -> None:
    connection = script.accepted()
    script.shutdown()
    script.expect("F.", seq=1, ack=1)
    script.inject("F.", seq=1, ack=1)
    script.expect(".", seq=2, ack=2)
    assert script.state is State.CLOSING
    script.inject("R", seq=2)
    assert connection.is_closed
    assert connection.failure is None


@pytest.mark.parametrize("state", [State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSE_WAIT])
def test_3_5_3_reset_before_the_end_of_the_other_half_is_a_failure(script: Script, state: State) -> None:
    script.accepted()
    seq = 1
    if state is State.CLOSE_WAIT:
        script.inject("F.", seq=1, ack=1)
        script.expect(".", seq=1, ack=2)
        seq = 2
    else:
        script.shutdown()
        script.expect("F.", seq=1, ack=1)
        if state is State.FIN_WAIT_2:
            script.inject(".", seq=1, ack=2)
    assert script.state is state
    script.inject("R", seq=seq)
    assert script.failure is Failure.RESET


def test_3_6_must_12_user_learns_that_the_other_side_aborted(script: Script) -> None:
    connection = script.accepted()
    script.inject("P.", seq=1, ack=1, data=b"last")
    script.inject("R", seq=5)
    assert connection in script.events()
    assert connection.failure is Failure.RESET
    assert script.receive() == b"last"
    assert not connection.is_at_end
    with pytest.raises(StackError) as reset:
        script.send(b"x")
    assert reset.value.failure is Failure.RESET


def test_3_6_must_12_user_learns_that_the_other_side_closed(script: Script) -> None:
    connection = script.accepted()
    script.inject("FP.", seq=1, ack=1, data=b"last")
    script.expect(".", seq=1, ack=6)
    assert script.events() == [connection]
    assert connection.failure is None
    assert not connection.is_at_end
    assert script.receive() == b"last"
    assert connection.is_at_end
    assert not connection.is_closed


def test_3_10_5_abort_resets(script: Script) -> None:
    connection = script.accepted()
    script.send(b"abc")
    script.expect("P.", seq=1, ack=1, data=b"abc")
    script.abort()
    script.expect("R.", seq=4, ack=1)
    assert connection.failure is Failure.ABORTED
    assert connection.is_closed
    assert connection.unsent_bytes == 0
    script.abort()
    assert script.host.next_timer() is None
    script.inject(".", seq=1, ack=4)
    script.expect("R", seq=4)
