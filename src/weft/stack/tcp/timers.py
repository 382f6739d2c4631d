"""The timers of a connection.

| timer | runs while | waits |
|---|---|---|
| RETRANSMIT | something sent is not acknowledged | RTO (`round_trip.py`), doubling |
| PERSIST | data waits for a window, and nothing is on the way | RTO, doubling |
| ACKNOWLEDGE | an acknowledgment may still ride on data | 40 ms |
| KEEPALIVE | the user asked for it, and nothing comes | 2 h, or as the user said |
| FIN_WAIT | we have closed, and the other side has not | 60 s |

Source: RFC 9293 sections 3.8.1, 3.8.4, 3.8.6; RFC 1122 section 4.2.3.2 (delayed acknowledgments: below 0.5 s).
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final

MS: Final = 1_000_000
S: Final = 1_000 * MS

DELAYED_ACK_NS: Final = 40 * MS
FIN_WAIT_NS: Final = 60 * S
"""What Linux waits (tcp_fin_timeout); a peer that has gone would hold the connection for ever."""
SYN_GIVE_UP_NS: Final = 180 * S
"""R2 of a SYN is at least 3 minutes (MUST-23)."""
SYN_ANSWER_RETRIES: Final = 5
"""Of a SYN that answers a SYN, which costs us a place in the queue: a minute."""
GIVE_UP_RETRIES: Final = 15
"""R2 of data: 13 to 15 minutes, as Linux has it; at least 100 s (SHLD-11)."""
KEEPALIVE_IDLE_S: Final = 7200
KEEPALIVE_INTERVAL_S: Final = 75
KEEPALIVE_PROBES: Final = 9


class Timer(IntEnum):
    """Which."""

    RETRANSMIT = auto()
    PERSIST = auto()
    ACKNOWLEDGE = auto()
    KEEPALIVE = auto()
    FIN_WAIT = auto()


# A member of a class is slow to look up (Python 3.11), and these are for each packet.
RETRANSMIT: Final = Timer.RETRANSMIT
PERSIST: Final = Timer.PERSIST
ACKNOWLEDGE: Final = Timer.ACKNOWLEDGE


class Timers(dict[Timer, int]):
    """The timers of one connection that run, and when each ends, monotonic ns."""

    __slots__ = ()

    def next(self) -> int | None:
        """When the next one ends."""
        return min(self.values(), default=None)

    def take_due(self, now: int) -> list[Timer]:
        """Those that have ended, in the order of the table; they run no longer."""
        due = sorted(timer for timer, at in self.items() if at <= now)
        for timer in due:
            del self[timer]
        return due
