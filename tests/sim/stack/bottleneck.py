"""Bulk transfers of the stack through one bottleneck in virtual time, and what can be read off them.

    road = Road(rate_bps=50 * MBIT, round_trip_ns=40 * MS, queue_bytes=250_000)
    first = road.flow()
    road.run(10 * S)
    road.share([first])

Senders are on the left and never run out of data; receivers read at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Final, NamedTuple, Self

from tests.unit.stack.wire import MS, SENT_KEPT, Faults, Wire, make_host, v6
from weft.stack.endpoint import Endpoint
from weft.stack.tcp.connection import Connection
from weft.stack.tcp.recovery import Phase
from weft.testing import Trace

MBIT: Final = 1_000_000
PORT: Final = 80
CHUNK: Final = bytes(64 * 1024)
AHEAD_BYTES: Final = 4 * 1024 * 1024
"""More than leaves before the next acknowledgment, whatever is lost."""
SAMPLE_NS: Final = 10 * MS


class Sample(NamedTuple):
    """A flow at one moment."""

    at: int
    window: int
    arrived: int
    phase: Phase


class Flow:
    """One bulk transfer.

    Attributes:
        connection: the sending end.
        arrived: bytes that the reader has.
        samples: how it was, every 10 ms.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arrived = 0
        self.samples: list[Sample] = []
        self.is_stopped = False
        connection.user = self
        self.handle_event()

    def handle_event(self) -> None:
        """Keep something to send."""
        while not self.is_stopped and self.connection.unsent_bytes < AHEAD_BYTES:
            self.connection.send(CHUNK)

    def sample(self, now: int) -> None:
        sender = self.connection.sender
        self.samples.append(Sample(now, sender.cubic.window, self.arrived, sender.recovery.phase))

    def window_at(self, at: int) -> float:
        """In segments."""
        sample = min(self.samples, key=lambda each: abs(each.at - at))
        return sample.window / self.connection.sender.segment

    @property
    def timeouts(self) -> int:
        """How often it began anew because nothing came back, as far as the samples show."""
        phases = [sample.phase for sample in self.samples]
        return sum(after is Phase.LOSS and before is not Phase.LOSS for before, after in pairwise(phases))


class _Reader:
    def __init__(self, connection: Connection, flow: Flow) -> None:
        self._connection, self._flow = connection, flow
        connection.user = self

    def handle_event(self) -> None:
        self._flow.arrived += sum(map(len, self._connection.receive()))


class Road:
    """Two hosts, a bottleneck to the right, and flows through it."""

    def __init__(self, *, rate_bps: int, round_trip_ns: int, queue_bytes: int, seed: int = 0, **faults: float) -> None:
        there = Faults(latency_ns=round_trip_ns // 2, rate_bps=rate_bps, queue_bytes=queue_bytes, **faults)  # type: ignore[arg-type]
        self.wire = Wire(make_host(1, seed=seed), make_host(2, seed=seed), faults=there, seed=seed)
        self.wire.to_left.faults = Faults(latency_ns=round_trip_ns // 2)
        self.rate_bps = rate_bps
        self.flows: list[Flow] = []
        self._listener = self.wire.right.tcp.listen(Endpoint(bytes(16), PORT))
        self._listener.user = self

    @property
    def now(self) -> int:
        return self.wire.now

    def flow(self) -> Flow:
        """Begin a transfer."""
        flow = Flow(self.wire.left.tcp.connect(Endpoint(v6(2), PORT), self.now))
        self.flows.append(flow)
        return flow

    def handle_event(self) -> None:
        """Somebody came to the listener."""
        while (connection := self._listener.accept()) is not None:
            flow = next(each for each in self.flows if each.connection.local == connection.remote)
            _Reader(connection, flow).handle_event()

    def copy(self) -> Self:
        """A road as this one is now, to go on by itself; its trace begins here."""
        wire = self.wire
        begun: dict[int, object] = {id(way.sent): deque(maxlen=SENT_KEPT) for way in (wire.to_left, wire.to_right)}
        return deepcopy(self, {id(wire.trace): Trace(wire.trace.start), **begun})

    def run(self, span_ns: int) -> None:
        """Let time pass."""
        until = self.now + span_ns
        while self.now < until:
            self.wire.advance(min(SAMPLE_NS, until - self.now))
            for flow in self.flows:
                flow.sample(self.now)

    def lose(self, count: int) -> None:
        """Lose the next packets to the right that carry data, so many in a row."""
        left = count

        def loses(packet: bytes) -> bool:
            nonlocal left
            if left and len(packet) > 500:
                left -= 1
                return True
            return False

        self.wire.to_right.loses = loses

    def arrived(self, span_ns: int, flows: Sequence[Flow]) -> list[int]:
        """What has arrived of each flow in the last while, bytes."""
        before = self.now - span_ns
        return [flow.arrived - next(each.arrived for each in flow.samples if each.at >= before) for flow in flows]

    def share(self, span_ns: int) -> float:
        """Which share of the road was used in the last while, by payload."""
        return sum(self.arrived(span_ns, self.flows)) * 8e9 / span_ns / self.rate_bps


def jain(amounts: Sequence[float]) -> float:
    """How fair shares are: 1 if all are the same, 1 / n if one has all."""
    return sum(amounts) ** 2 / (len(amounts) * sum(amount**2 for amount in amounts))
