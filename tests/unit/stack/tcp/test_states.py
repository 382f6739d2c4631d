"""The table of states against figure 5 of RFC 9293, and the timers of a connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.stack.tcp.states import HANDSHAKE, RECEIVING, SENDING, TRANSITIONS, WRITABLE, State, Step
from weft.stack.tcp.timers import Timer, Timers

FIGURE_5 = """
    CLOSED        OPEN                SYN-SENT
    LISTEN        RECEIVE_SYN         SYN-RECEIVED
    SYN-SENT      RECEIVE_SYN         SYN-RECEIVED
    SYN-SENT      RECEIVE_SYN_ACK     ESTABLISHED
    SYN-SENT      CLOSE               CLOSED
    SYN-RECEIVED  RECEIVE_ACK_OF_SYN  ESTABLISHED
    ESTABLISHED   CLOSE               FIN-WAIT-1
    ESTABLISHED   RECEIVE_FIN         CLOSE-WAIT
    CLOSE-WAIT    CLOSE               LAST-ACK
    FIN-WAIT-1    RECEIVE_FIN         CLOSING
    FIN-WAIT-1    RECEIVE_ACK_OF_FIN  FIN-WAIT-2
    FIN-WAIT-2    RECEIVE_FIN         TIME-WAIT
    CLOSING       RECEIVE_ACK_OF_FIN  TIME-WAIT
    LAST-ACK      RECEIVE_ACK_OF_FIN  CLOSED
    TIME-WAIT     EXPIRE              CLOSED
"""


def test_3_3_2_figure_5() -> None:
    wanted = {}
    for line in FIGURE_5.strip().splitlines():
        before, step, after = line.split()
        wanted[State(before), Step[step]] = State(after)
    assert {key: after for key, after in TRANSITIONS.items() if key[1] is not Step.END} == wanted
    assert all(TRANSITIONS[state, Step.END] is State.CLOSED for state in State)


@pytest.mark.parametrize("state", State)
def test_3_10_what_is_done_in_each_state(state: State) -> None:
    name = state.value
    assert (state in HANDSHAKE) is (name in {"SYN-SENT", "SYN-RECEIVED"})
    assert (state in RECEIVING) is (name in {"ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2"})
    assert (state in WRITABLE) is (name in {"SYN-SENT", "SYN-RECEIVED", "ESTABLISHED", "CLOSE-WAIT"})
    assert (state in SENDING) is (name in {"ESTABLISHED", "CLOSE-WAIT", "FIN-WAIT-1", "CLOSING", "LAST-ACK"})


@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "stop", "take"]), st.sampled_from(Timer), st.integers(0, 9)),
        max_size=30,
    )
)
def test_timers_are_as_a_dictionary(steps: list[tuple[str, Timer, int]]) -> None:
    timers, model = Timers(), dict[Timer, int]()
    for step, timer, at in steps:
        if step == "start":
            timers[timer] = model[timer] = at
        elif step == "stop":
            timers.pop(timer, None)
            model.pop(timer, None)
        else:
            due = sorted(each for each, deadline in model.items() if deadline <= at)
            assert timers.take_due(at) == due
            model = {each: deadline for each, deadline in model.items() if deadline > at}
        assert timers.next() == min(model.values(), default=None)
        assert timers == model


def test_timers_that_end_together_end_in_the_order_of_the_table() -> None:
    timers = Timers()
    for timer in reversed(Timer):
        timers[timer] = 5
    assert timers.take_due(5) == [Timer.RETRANSMIT, Timer.PERSIST, Timer.ACKNOWLEDGE, Timer.KEEPALIVE, Timer.FIN_WAIT]
