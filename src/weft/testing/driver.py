"""Drives sans-IO machines on a virtual clock: the whole of what an event loop would do for them.

The contract has five methods. Whatever goes in (a datagram, a timer, a command of the test), the machine is drained
afterwards in the same order: datagrams, events, and the time of its next timer, for which one timer is armed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from weft.testing.clock import S, Timer, VirtualClock
from weft.testing.trace import Trace

DatagramT = TypeVar("DatagramT")
EventT = TypeVar("EventT")
EventT_co = TypeVar("EventT_co", covariant=True)

STEPS = 10_000
"""Wake-ups that a drive may take: far above any honest exchange, far below a test's time-out."""
WITHIN_NS = 3_600 * S
"""Virtual time that a drive may take."""


class Machine(Protocol[DatagramT, EventT_co]):
    """A state machine that does no IO itself.

    `DatagramT` is `bytes` for a machine with one peer (`weft.testing.pair`), and `weft.testing.network.Datagram` for
    one that talks to many endpoints. A machine with other names or arguments gets an adapter of five short methods.
    """

    def receive_datagram(self, datagram: DatagramT, now: int) -> object:
        """Take a datagram from the network; `now` is monotonic nanoseconds."""

    def handle_timer(self, now: int) -> object:
        """Do what is due; called at `next_timer()`."""

    def datagrams_to_send(self) -> Iterable[DatagramT]:
        """Give out, once, what is to be sent."""

    def next_event(self) -> EventT_co | None:
        """Give out, once, the next thing that happened; None when there is no more."""

    def next_timer(self) -> int | None:
        """When to call `handle_timer`, monotonic nanoseconds; None for never."""


class Stuck(AssertionError):  # noqa: N818 - it is a failed assertion, not an error of the library
    """A drive ended without reaching what it was for: nothing was left to happen, or it went on for too long."""


class Driver(Generic[DatagramT, EventT]):
    """One machine on a clock.

    Args:
        machine: what is driven.
        clock: gives `now` and the timers.
        send: takes each datagram that the machine sends.

    Attributes:
        machine: the machine, for commands; call `flush` after them, or let a `drive` do it.
        events: what the machine has told so far; tests may take from it.
    """

    def __init__(
        self, machine: Machine[DatagramT, EventT], clock: VirtualClock, send: Callable[[DatagramT], object]
    ) -> None:
        self.machine = machine
        self.events: list[EventT] = []
        self._clock = clock
        self._send = send
        self._timer: Timer | None = None
        self._armed_for: int | None = None

    def receive(self, datagram: DatagramT) -> None:
        """Give the machine a datagram that has arrived, and drain it."""
        self.machine.receive_datagram(datagram, self._clock.now)
        self.flush()

    def flush(self) -> None:
        """Drain the machine: send, collect events, arm the timer."""
        for datagram in self.machine.datagrams_to_send():
            self._send(datagram)
        while (event := self.machine.next_event()) is not None:
            self.events.append(event)
        self._arm(self.machine.next_timer())

    def _arm(self, at: int | None) -> None:
        if at == self._armed_for and (self._timer is None or self._timer.waiting):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = at
        self._timer = None if at is None else self._clock.call_at(at, self._handle_timer)

    def _handle_timer(self) -> None:
        self.machine.handle_timer(self._clock.now)
        self.flush()


def drive(
    clock: VirtualClock,
    until: Callable[[], bool],
    *,
    trace: Trace,
    within_ns: int = WITHIN_NS,
    steps: int = STEPS,
) -> None:
    """Jump from wake-up to wake-up until a condition holds.

    Args:
        clock: everything that can happen must be a callback of it.
        until: is asked before each wake-up.
        trace: is shown when the condition is not reached.
        within_ns: virtual time that it may take.
        steps: wake-ups that it may take.

    Raises:
        Stuck: nothing is left that could happen, or one of the bounds is passed; the message holds the trace.
    """
    deadline = clock.now + within_ns
    for _ in range(steps):
        if until():
            return
        at = clock.next_at()
        if at is None:
            raise Stuck(f"nothing is left to happen\n{trace}")
        if at > deadline:
            raise Stuck(f"not reached within {within_ns / S:g} s of virtual time\n{trace}")
        clock.run_next()
    if not until():
        raise Stuck(f"not reached in {steps} steps; is it a livelock?\n{trace}")
