"""Two hosts of the stack, a wire with faults between them, one virtual time.

    wire = Wire(make_host(1), make_host(2), faults=Faults(latency_ns=10 * MS, loss=0.01), seed=7)
    server = wire.right.udp.open(Endpoint(ANY_V6, 53))
    client = wire.left.udp.open(None, Endpoint(v6(2), 53))
    client.send(b"hello", None, wire.now)
    wire.drive(lambda: server.queued_bytes > 0)     # any condition; raises Stuck with a trace if it can't come true
    wire.to_left.faults = Faults(loss=1)            # from now on nothing gets back
    wire.advance(5 * S)                             # five seconds pass

What it does for a host is what the engine does (`engine/driver.py`): it gives it all that arrives at one instant, and
then looks after timers, tells the users of sockets (`socket.user.handle_event()`), and takes packets until there are
none. So after verbs of a test nothing has left yet; `drive`, `advance` and `flush` see to it.

Faults hit single packets: a super-packet is split as for a stock peer, and every checksum is computed, so the receiver
verifies it. With `whole=True` super-packets cross as they are, checksums left open, and a fault hits all of one.

What is longer than the MTU of the faults vanishes; with `answers_too_big=True` the sender is told, as by a router.

Deterministic loss: `wire.to_right.loses = lambda packet: …` is asked about every packet that would be put on the wire.
An attacker: `wire.to_right.inject(packet)`. All that was put on the wire, lost packets too: `wire.to_right.sent`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from ipaddress import ip_interface
from random import Random
from typing import Any

from weft.stack.host import Host
from weft.testing import MS, Faults, Stuck, Trace, VirtualClock, way
from weft.testing.clock import Timer
from weft.testing.driver import STEPS, WITHIN_NS, drive
from weft.testing.faults import FaultInjector
from weft.testing.way import ROUTER_V4, ROUTER_V6, Crossing

__all__ = ["ROUTER_V4", "ROUTER_V6", "Crossing", "Side", "Stuck", "Way", "Wire", "make_host", "v4", "v6"]

SENT_KEPT = 100_000
TURNS = 100_000
"""Packets, and turns around one host, at one instant; more is a livelock."""


def v4(number: int) -> bytes:
    """The IPv4 address of `make_host(number)`."""
    return bytes((10, 7, 0, number))


def v6(number: int) -> bytes:
    """The IPv6 address of `make_host(number)`."""
    return b"\xfc" + bytes(14) + bytes((number,))


def make_host(number: int, *, seed: int = 0, mtu: int = 1352) -> Host:
    """A host with the addresses 10.7.0.NUMBER/24 and fc00::NUMBER/64, and chance from a seed."""
    host = Host(Random(f"{number} {seed}").randbytes, mtu=mtu)
    host.addresses.add(ip_interface(f"10.7.0.{number}/24"))
    host.addresses.add(ip_interface((v6(number), 64)))
    return host


class Side:
    """One host and what an event loop does for it."""

    def __init__(self, host: Host, clock: VirtualClock, send: Callable[[Crossing], None]) -> None:
        self.host = host
        self._clock = clock
        self._send = send
        self._timer: Timer | None = None

    def receive(self, crossings: list[Crossing]) -> None:
        """Give the host what arrived together."""
        for packet, segment, is_partial in crossings:
            # A buffer of its own, which is overwritten afterwards: the host must not keep it.
            buffer = bytearray(packet)
            self.host.receive(memoryview(buffer), self._clock.now, segment=segment, is_partial=is_partial)
            buffer[:] = b"\xa5" * len(buffer)
        self.flush()

    def flush(self) -> bool:
        """Look after timers, events and packets until there is nothing to do now; returns whether there was any."""
        host, now = self.host, self._clock.now
        was_busy = False
        at = host.next_timer()
        for _ in range(TURNS):
            if at is not None and at <= now:
                was_busy = True
                host.handle_timer(now)
            while (socket := host.next_event()) is not None:
                was_busy = True
                if socket.user is not None:
                    socket.user.handle_event()
            while (outgoing := host.next_packet(now)) is not None:
                was_busy = True
                self._send(Crossing.of(outgoing))
            at = host.next_timer()
            if not host.has_events and (at is None or at > now):
                self._arm(at)
                return was_busy
        raise Stuck(f"livelock: the host is busy for ever at {now} ns")

    def _arm(self, at: int | None) -> None:
        if self._timer is not None:
            if self._timer.waiting and self._timer.at == at:
                return
            self._timer.cancel()
        self._timer = None if at is None else self._clock.call_at(at, self.flush)


class Way(way.Way):
    """One direction; see there.

    Attributes:
        sent: what was put on the wire, lost packets too, the newest.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.sent: deque[Crossing] = deque(maxlen=SENT_KEPT)

    def _put(self, crossing: Crossing) -> None:
        self.sent.append(crossing)
        super()._put(crossing)


class Wire:
    """Two hosts and what joins them.

    Args:
        left: a host, usually the client.
        right: the other.
        faults: of both directions at first.
        seed: the same seed gives the same run.
        whole: whether super-packets cross whole; else they are split, and faults hit single packets.
        answers_too_big: whether the sender of a packet over the MTU is told.
        clock: virtual time; a new one by default.

    Attributes:
        left, right: the hosts.
        to_left, to_right: the directions.
        clock: virtual time.
        trace: every packet of the run.
    """

    def __init__(
        self,
        left: Host,
        right: Host,
        *,
        faults: Faults = Faults(latency_ns=10 * MS),  # noqa: B008 - frozen
        seed: int = 0,
        whole: bool = False,
        answers_too_big: bool = False,
        clock: VirtualClock | None = None,
    ) -> None:
        self.left, self.right = left, right
        self.clock = clock or VirtualClock()
        self.trace = Trace(self.clock.now)
        self.to_left = self._way(("right", "left"), faults, seed, whole=whole, answers_too_big=answers_too_big)
        self.to_right = self._way(("left", "right"), faults, seed, whole=whole, answers_too_big=answers_too_big)
        self._left = Side(left, self.clock, self.to_right.send)
        self._right = Side(right, self.clock, self.to_left.send)

    def _way(self, ends: tuple[str, str], faults: Faults, seed: int, *, whole: bool, answers_too_big: bool) -> Way:
        source, destination = ends
        return Way(
            self.clock,
            self.trace,
            FaultInjector(faults, Random(f"{seed} {ends}")),
            ends,
            partial(self._receive, destination),
            whole=whole,
            answer=partial(self._receive, source) if answers_too_big else None,
        )

    def _receive(self, at: str, crossings: list[Crossing]) -> None:
        (self._left if at == "left" else self._right).receive(crossings)

    @property
    def now(self) -> int:
        """Virtual time, monotonic ns."""
        return self.clock.now

    @property
    def quiet(self) -> bool:
        """Whether nothing travels; timers may still wait."""
        return not self.to_left._flying and not self.to_right._flying

    def flush(self) -> bool:
        """See to both hosts, after verbs of the test; returns whether there was anything to do."""
        was_busy = self._left.flush()
        return self._right.flush() or was_busy

    def drive(self, until: Callable[[], bool] | None = None, *, within_ns: int = WITHIN_NS, steps: int = STEPS) -> None:
        """Jump from arrival to timer to arrival until a condition holds; without one, until nothing travels.

        Raises:
            Stuck: nothing is left that could happen, or a bound was passed; the message holds the trace.
        """
        until = until or (lambda: self.quiet)

        def is_reached() -> bool:
            # What the condition reads or writes is seen to before time goes on.
            while not until():
                if not self.flush():
                    return False
            self.flush()
            return True

        self.flush()
        drive(self.clock, is_reached, trace=self.trace, within_ns=within_ns, steps=steps)

    def advance(self, span_ns: int) -> None:
        """Let a span of virtual time pass, with all that happens in it."""
        self.flush()
        self.clock.advance(span_ns)
