"""The states of a connection and what leads from one to the next.

| step | when |
|---|---|
| OPEN | a user connects |
| RECEIVE_SYN | a SYN came, without an acknowledgment of ours |
| RECEIVE_SYN_ACK | a SYN came that acknowledges ours |
| RECEIVE_ACK_OF_SYN | ours was acknowledged, after theirs |
| CLOSE | a user has no more to send |
| RECEIVE_FIN | the other side has no more to send, and all that it sent is here |
| RECEIVE_ACK_OF_FIN | the other side knows that we have no more to send |
| EXPIRE | twice the lifetime of a segment has passed |
| END | reset, aborted or given up: from every state |

A listener is no connection, so LISTEN is only where one comes from; TIME_WAIT is kept by `time_wait.py`. A CLOSE
during the handshake waits until that is done, as the RFC allows where data waits too, unless nothing has come back yet
and the user takes nothing more either.

Source: RFC 9293 section 3.3.2, figure 5.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class State(Enum):
    """What a connection is in."""

    CLOSED = "CLOSED"
    LISTEN = "LISTEN"
    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"

    # That of `Enum` is a function in Python, and states are looked up several times for each packet.
    __hash__ = object.__hash__


class Step(Enum):
    """What happens to it; the table above says when."""

    OPEN = auto()
    RECEIVE_SYN = auto()
    RECEIVE_SYN_ACK = auto()
    RECEIVE_ACK_OF_SYN = auto()
    CLOSE = auto()
    RECEIVE_FIN = auto()
    RECEIVE_ACK_OF_FIN = auto()
    EXPIRE = auto()
    END = auto()

    __hash__ = object.__hash__


# A member of a class is slow to look up (Python 3.11), and these are for each packet.
SYN_SENT: Final = State.SYN_SENT
SYN_RECEIVED: Final = State.SYN_RECEIVED

TRANSITIONS: Final[dict[tuple[State, Step], State]] = {
    (State.CLOSED, Step.OPEN): State.SYN_SENT,
    (State.LISTEN, Step.RECEIVE_SYN): State.SYN_RECEIVED,
    (State.SYN_SENT, Step.RECEIVE_SYN): State.SYN_RECEIVED,
    (State.SYN_SENT, Step.RECEIVE_SYN_ACK): State.ESTABLISHED,
    (State.SYN_SENT, Step.CLOSE): State.CLOSED,
    (State.SYN_RECEIVED, Step.RECEIVE_ACK_OF_SYN): State.ESTABLISHED,
    (State.ESTABLISHED, Step.CLOSE): State.FIN_WAIT_1,
    (State.ESTABLISHED, Step.RECEIVE_FIN): State.CLOSE_WAIT,
    (State.CLOSE_WAIT, Step.CLOSE): State.LAST_ACK,
    (State.FIN_WAIT_1, Step.RECEIVE_FIN): State.CLOSING,
    (State.FIN_WAIT_1, Step.RECEIVE_ACK_OF_FIN): State.FIN_WAIT_2,
    (State.FIN_WAIT_2, Step.RECEIVE_FIN): State.TIME_WAIT,
    (State.CLOSING, Step.RECEIVE_ACK_OF_FIN): State.TIME_WAIT,
    (State.LAST_ACK, Step.RECEIVE_ACK_OF_FIN): State.CLOSED,
    (State.TIME_WAIT, Step.EXPIRE): State.CLOSED,
    **{(state, Step.END): State.CLOSED for state in State},
}

HANDSHAKE: Final = frozenset({SYN_SENT, SYN_RECEIVED})
"""Not connected yet."""

RECEIVING: Final = frozenset({State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2})
"""The other side may still send data."""

SENDING: Final = frozenset({State.ESTABLISHED, State.CLOSE_WAIT, State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK})
"""Data or the FIN may still have to be sent."""

WRITABLE: Final = frozenset({State.SYN_SENT, State.SYN_RECEIVED, State.ESTABLISHED, State.CLOSE_WAIT})
"""The user may give more to send."""
