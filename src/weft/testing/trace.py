"""What happened to every datagram of a simulated run, kept to be read when the run fails."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from weft.testing.clock import MS, S

ENTRIES = 10_000
"""Entries that a trace keeps; older ones are forgotten, so that a long run does not fill the memory."""
PRINTED = 200
"""Last entries that a failure shows."""


class Fate(StrEnum):
    """What became of a datagram."""

    IN_FLIGHT = "in flight"
    DELIVERED = "delivered"
    LOST = "lost"
    TOO_BIG = "too big"
    QUEUE_FULL = "queue full"
    NOT_TRANSLATED = "not translated"
    UNREACHABLE = "unreachable"
    NO_SUCH_PORT = "no such port"
    CUT_OFF = "cut off"
    TAKEN = "taken off the wire"


@dataclass(slots=True)
class Entry:
    """One datagram on its way.

    Attributes:
        sent_at: when it was sent, monotonic nanoseconds.
        source: who sent it: an endpoint, or the name of a side.
        destination: to whom.
        size: bytes of its payload.
        fate: what became of it so far.
        arrived_at: when it was delivered, or None.
        note: `duplicate`, `held back` or `injected` where that is so.
    """

    sent_at: int
    source: str
    destination: str
    size: int
    fate: Fate
    arrived_at: int | None = None
    note: str = ""

    def line(self, start: int) -> str:
        """The entry as a line of text, with times that count from `start`."""
        took = f" after {(self.arrived_at - self.sent_at) / MS:.3f} ms" if self.arrived_at is not None else ""
        note = f" ({self.note})" if self.note else ""
        when = (self.sent_at - start) / S
        return f"{when:12.6f} s  {self.source} > {self.destination}  {self.size} bytes  {self.fate}{took}{note}"


class Trace:
    """The datagrams of a run in the order in which they were sent.

    Args:
        start: the time that the printed times count from, monotonic nanoseconds.
        entries: how many are kept, the newest.

    Attributes:
        start: as it was given.
    """

    def __init__(self, start: int = 0, entries: int = ENTRIES) -> None:
        self.start = start
        self._entries: deque[Entry] = deque(maxlen=entries)
        self._added = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __str__(self) -> str:
        """The last entries, one on a line, and how many of each fate there are in all that is kept."""
        shown = list(self._entries)[-PRINTED:]
        lines = [entry.line(self.start) for entry in shown]
        if hidden := self._added - len(shown):
            lines.insert(0, f"… {hidden} earlier datagrams")
        fates = Counter(entry.fate for entry in self._entries)
        lines.append(", ".join(f"{count} {fate}" for fate, count in fates.most_common()) or "no datagrams")
        return "\n".join(lines)

    def add(self, entry: Entry) -> Entry:
        """Note a datagram; the sender changes the entry while it travels."""
        self._entries.append(entry)
        self._added += 1
        return entry

    @contextmanager
    def shown_on_failure(self) -> Iterator[Trace]:
        """Add the trace as a note to any exception that leaves the block, where pytest and Python print it."""
        try:
            yield self
        except BaseException as failure:
            failure.add_note(f"datagrams:\n{self}")
            raise
