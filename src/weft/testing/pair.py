"""Two machines, two wires between them, one virtual time: the smallest network there is.

For everything that concerns exactly two ends: handshakes, rekeys, loss, forgeries, replays. Both wires lie open: a test
sees what travels, takes it off, changes it and puts it back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Generic

from weft.testing.clock import MS, Timer, VirtualClock
from weft.testing.driver import STEPS, WITHIN_NS, Driver, EventT, Machine, drive
from weft.testing.faults import FaultInjector, Faults
from weft.testing.trace import ENTRIES, Entry, Fate, Trace

LATENCY_NS = 10 * MS
"""One way, if a test does not say: enough that simultaneous opens and races are real."""


class Wire:
    """One direction between the two machines.

    Attributes:
        sent: every datagram that was put on the wire, lost ones as well, the newest `ENTRIES` of them.
    """

    def __init__(
        self,
        clock: VirtualClock,
        trace: Trace,
        injector: FaultInjector,
        ends: tuple[str, str],
        deliver: Callable[[bytes], None],
    ) -> None:
        self.sent: deque[bytes] = deque(maxlen=ENTRIES)
        self._clock = clock
        self._trace = trace
        self._injector = injector
        self._ends = ends
        self._deliver = deliver
        self._flights: dict[Timer, tuple[bytes, Entry]] = {}

    @property
    def faults(self) -> Faults:
        """What this direction does to datagrams; assign to change it for those that are sent from now on."""
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._injector.faults = faults

    @property
    def in_flight(self) -> list[bytes]:
        """What travels now, in the order in which it was sent."""
        return [data for data, _ in self._flights.values()]

    def send(self, data: bytes) -> None:
        """Put a datagram on the wire, where it meets the faults."""
        data = bytes(data)
        self.sent.append(data)
        passage = self._injector.carry(len(data), self._clock.now)
        if not passage.arrivals:
            self._note(data, passage.fate)
        note = "held back" if passage.held_back else ""
        for arrival in passage.arrivals:
            self._launch(data, arrival, note)
            note = "duplicate"

    def inject(self, data: bytes) -> None:
        """Put a datagram on the wire as an attacker would: it arrives at once and surely."""
        self._launch(data, self._clock.now, "injected")

    def take(self) -> list[bytes]:
        """Take everything that travels off the wire."""
        flights, self._flights = self._flights, {}
        for timer, (_, entry) in flights.items():
            timer.cancel()
            entry.fate = Fate.TAKEN
        return [data for data, _ in flights.values()]

    def _note(self, data: bytes, fate: Fate, note: str = "") -> Entry:
        source, destination = self._ends
        return self._trace.add(Entry(self._clock.now, source, destination, len(data), fate, note=note))

    def _launch(self, data: bytes, arrival: int, note: str) -> None:
        entry = self._note(data, Fate.IN_FLIGHT, note)
        timer = self._clock.call_at(arrival, lambda: self._arrive(timer))
        self._flights[timer] = (data, entry)

    def _arrive(self, timer: Timer) -> None:
        data, entry = self._flights.pop(timer)
        entry.fate = Fate.DELIVERED
        entry.arrived_at = self._clock.now
        self._deliver(data)


class Pair(Generic[EventT]):
    """Two machines and what connects them.

    Args:
        left: a machine; its peer is `right`. Usually the initiator.
        right: the other.
        clock: shared virtual time; a new one by default. Adapters that need wall time keep it too.
        faults: of both directions at first; `to_left.faults` and `to_right.faults` change them.
        seed: the same seed gives the same run.

    Attributes:
        left: driver of the left machine: `left.machine`, `left.events`.
        right: driver of the right one.
        to_left: the wire that ends at the left machine.
        to_right: the wire that ends at the right machine.
        clock: virtual time.
        trace: every datagram of the run.

    Not done here: addresses and more than two ends (`weft.testing.network`).
    """

    def __init__(
        self,
        left: Machine[bytes, EventT],
        right: Machine[bytes, EventT],
        *,
        clock: VirtualClock | None = None,
        faults: Faults = Faults(latency_ns=LATENCY_NS),  # noqa: B008 - frozen
        seed: int = 0,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.trace = Trace(self.clock.now)
        # The drivers come after the wires, hence the lambdas.
        self.to_left = self._wire(faults, seed, ("right", "left"), lambda data: self.left.receive(data))  # noqa: PLW0108
        self.to_right = self._wire(faults, seed, ("left", "right"), lambda data: self.right.receive(data))  # noqa: PLW0108
        self.left: Driver[bytes, EventT] = Driver(left, self.clock, self.to_right.send)
        self.right: Driver[bytes, EventT] = Driver(right, self.clock, self.to_left.send)

    def _wire(self, faults: Faults, seed: int, ends: tuple[str, str], deliver: Callable[[bytes], None]) -> Wire:
        return Wire(self.clock, self.trace, FaultInjector(faults, Random(f"{seed} {ends}")), ends, deliver)

    @property
    def quiet(self) -> bool:
        """Whether no datagram travels; timers may still wait."""
        return not self.to_left._flights and not self.to_right._flights

    def flush(self) -> None:
        """Drain both machines, after commands that the test gave them."""
        self.left.flush()
        self.right.flush()

    def step(self) -> bool:
        """Jump to the next wake-up: one datagram arrives, or one timer fires; False if nothing is left to happen."""
        self.flush()
        return self.clock.run_next()

    def drive(self, until: Callable[[], bool] | None = None, *, within_ns: int = WITHIN_NS, steps: int = STEPS) -> None:
        """Step until a condition holds; without one, until nothing travels any more.

        Args:
            until: is asked before each step.
            within_ns: virtual time that it may take.
            steps: steps that it may take.

        Raises:
            Stuck: nothing is left that could happen, or a bound was passed, as in a livelock.
        """
        self.flush()
        drive(self.clock, until or (lambda: self.quiet), trace=self.trace, within_ns=within_ns, steps=steps)

    def advance(self, span_ns: int) -> None:
        """Let a span of virtual time pass, with all that happens in it."""
        self.flush()
        self.clock.advance(span_ns)
