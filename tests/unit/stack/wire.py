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

import heapq
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address, ip_interface
from random import Random
from typing import NamedTuple

from weft.burst.records import transport_of
from weft.burst.split import split
from weft.packet.answers import packet_too_big
from weft.packet.checksum import FIELD, complete
from weft.packet.ip import decode_upper_layer
from weft.packet.protocols import TCP
from weft.stack.host import Host
from weft.stack.outgoing import Outgoing
from weft.testing import MS, Faults, Stuck, Trace, VirtualClock
from weft.testing.clock import Timer
from weft.testing.driver import STEPS, WITHIN_NS, drive
from weft.testing.faults import FaultInjector
from weft.testing.trace import Entry, Fate

__all__ = ["Crossing", "Side", "Stuck", "Way", "Wire", "make_host", "v4", "v6"]

SENT_KEPT = 100_000
TURNS = 100_000
"""Packets, and turns around one host, at one instant; more is a livelock."""
ROUTER_V4 = ip_address("10.7.0.254").packed
ROUTER_V6 = ip_address("fc00::fe").packed


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


class Crossing(NamedTuple):
    """A packet, or super-packet, on the wire; as for `Host.receive`."""

    packet: bytes
    segment: int = 0
    is_partial: bool = False


class Side:
    """One host and what an event loop does for it."""

    def __init__(self, host: Host, clock: VirtualClock, send: Callable[[Outgoing], None]) -> None:
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
        for turn in range(TURNS):
            is_quiet = True
            at = host.next_timer()
            if at is not None and at <= now:
                is_quiet = False
                host.handle_timer(now)
            while (socket := host.next_event()) is not None:
                is_quiet = False
                if socket.user is not None:
                    socket.user.handle_event()
            while (outgoing := host.next_packet(now)) is not None:
                is_quiet = False
                self._send(outgoing)
            if is_quiet:
                self._arm(host.next_timer())
                return turn > 0
        raise Stuck(f"livelock: the host is busy for ever at {now} ns")

    def _arm(self, at: int | None) -> None:
        if self._timer is not None:
            if self._timer.waiting and self._timer.at == at:
                return
            self._timer.cancel()
        self._timer = None if at is None else self._clock.call_at(at, self.flush)


class Way:
    """One direction.

    Attributes:
        loses: says of each packet whether it is lost; asked before chance is.
        sent: what was put on the wire, lost packets too, the newest.
    """

    def __init__(
        self,
        clock: VirtualClock,
        trace: Trace,
        injector: FaultInjector,
        ends: tuple[str, str],
        *,
        whole: bool,
        answers_too_big: bool,
    ) -> None:
        self.loses: Callable[[bytes], bool] | None = None
        self.sent: deque[Crossing] = deque(maxlen=SENT_KEPT)
        self._clock = clock
        self._trace = trace
        self._injector = injector
        self._ends = ends
        self._whole = whole
        self._answers_too_big = answers_too_big
        self._flying: list[tuple[int, int, Crossing, Entry]] = []
        self._number = 0
        self._sender: Side
        self._receiver: Side

    def attach(self, sender: Side, receiver: Side) -> None:
        """Say whom it joins."""
        self._sender, self._receiver = sender, receiver

    @property
    def faults(self) -> Faults:
        """What happens to packets; assign to change it for those sent from now on."""
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._injector.faults = faults

    @property
    def in_flight(self) -> list[bytes]:
        """The packets that travel now, in the order in which they arrive."""
        return [flight[2].packet for flight in sorted(self._flying, key=lambda flight: flight[:2])]

    def send(self, outgoing: Outgoing) -> None:
        """Put what a host gave on the wire."""
        packet = b"".join(outgoing.parts)
        if self._whole:
            self._put(Crossing(packet, outgoing.segment, outgoing.is_partial))
        else:
            for single in singles(packet, outgoing.segment, is_partial=outgoing.is_partial):
                self._put(Crossing(single))

    def inject(self, packet: bytes, segment: int = 0, *, is_partial: bool = False) -> None:
        """Put a packet on the wire as an attacker would: it arrives at once and surely."""
        self._launch(Crossing(bytes(packet), segment, is_partial), self._clock.now, "injected")

    def take(self) -> list[bytes]:
        """Take everything that travels off the wire, and return it."""
        taken = self.in_flight
        for _, _, _, entry in self._flying:
            entry.fate = Fate.TAKEN
        self._flying.clear()
        return taken

    def _put(self, crossing: Crossing) -> None:
        self.sent.append(crossing)
        packet = crossing.packet
        if self.loses is not None and self.loses(packet):
            self._note(packet, Fate.LOST)
            return
        passage = self._injector.carry(len(packet), self._clock.now, largest=_largest(crossing))
        if not passage.arrivals:
            self._note(packet, passage.fate)
        if passage.fate is Fate.TOO_BIG and self._answers_too_big:
            self._answer_too_big(packet)
        note = "held back" if passage.held_back else ""
        for arrival in passage.arrivals:
            self._launch(crossing, arrival, note)
            note = "duplicate"

    def _answer_too_big(self, packet: bytes) -> None:
        router = ROUTER_V6 if packet[0] >> 4 == 6 else ROUTER_V4
        answer = packet_too_big(packet, self.faults.mtu_bytes, router)
        if answer is not None:
            at = self._clock.now + 2 * self.faults.latency_ns
            self._clock.call_at(at, lambda: self._sender.receive([Crossing(answer)]))

    def _launch(self, crossing: Crossing, arrival: int, note: str) -> None:
        self._number += 1
        entry = self._note(crossing.packet, Fate.IN_FLIGHT, note)
        heapq.heappush(self._flying, (arrival, self._number, crossing, entry))
        self._clock.call_at(arrival, self._arrive)

    def _arrive(self) -> None:
        """Deliver all that is due; the first of the callbacks of one instant does it for the others."""
        now, crossings = self._clock.now, []
        while self._flying and self._flying[0][0] <= now:
            _, _, crossing, entry = heapq.heappop(self._flying)
            entry.fate, entry.arrived_at = Fate.DELIVERED, now
            crossings.append(crossing)
        if crossings:
            self._receiver.receive(crossings)

    def _note(self, packet: bytes, fate: Fate, note: str = "") -> Entry:
        source, destination = self._ends
        return self._trace.add(Entry(self._clock.now, source, destination, len(packet), fate, note=note))


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
        self.to_right, self.to_left = (
            Way(
                self.clock,
                self.trace,
                FaultInjector(faults, Random(f"{seed} {ends}")),
                ends,
                whole=whole,
                answers_too_big=answers_too_big,
            )
            for ends in (("left", "right"), ("right", "left"))
        )
        self._left = Side(left, self.clock, self.to_right.send)
        self._right = Side(right, self.clock, self.to_left.send)
        self.to_right.attach(self._left, self._right)
        self.to_left.attach(self._right, self._left)

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


def singles(packet: bytes, segment: int, *, is_partial: bool) -> list[bytes]:
    """What a packet, or super-packet, is on a wire: single packets whose checksums are computed."""
    if not is_partial:
        return [packet]
    layout = transport_of(memoryview(packet))
    assert layout is not None, "a partial packet is a plain one"
    protocol, transport = layout
    if segment:
        return split(memoryview(packet), transport, segment, 1)
    completed = bytearray(packet)
    assert not any(completed[transport + FIELD[protocol] : transport + FIELD[protocol] + 2]), "checksum field is zero"
    complete(completed, transport, protocol)
    return [bytes(completed)]


def _largest(crossing: Crossing) -> int | None:
    """What is held against the MTU: of a super-packet, its first segment."""
    if not crossing.segment:
        return None
    upper = decode_upper_layer(crossing.packet)
    header = (crossing.packet[upper.start + 12] >> 4) * 4 if upper.protocol == TCP else 8
    return upper.start + header + crossing.segment
