"""One direction between two hosts of the stack, and what faults do to the packets on it.

Faults hit single packets, as on a wire: a super-packet is split as for a stock peer, and every checksum is computed, so
that the receiver verifies it. Where nothing hits single packets, which is where there are latency, jitter and an MTU
only, super-packets can cross whole, as between two weft nodes; that is many times faster.

Source: house rules of `weft.testing.faults`; RFC 8201 and RFC 1191 for what the sender of too long a packet is told.
Not done here: the hosts (`weft.testing.simulated`), and hosts that are no stack (`weft.testing.network`).
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, NamedTuple, Self

from weft.burst.records import transport_of
from weft.burst.split import split
from weft.packet.answers import packet_too_big
from weft.packet.checksum import FIELD, complete
from weft.packet.describe import describe
from weft.packet.ip import decode_upper_layer
from weft.packet.protocols import TCP
from weft.stack.outgoing import Outgoing
from weft.testing.clock import VirtualClock
from weft.testing.faults import FaultInjector, Faults
from weft.testing.trace import Entry, Fate, Trace

ROUTER_V4: Final = ip_address("10.7.0.254").packed
ROUTER_V6: Final = ip_address("fc00::fe").packed
"""Who tells the sender of a packet that it is too long."""

_HEAD_BYTES: Final = 128
"""Kept of a packet, which is enough to describe it."""
_WITH_PORTS: Final = re.compile(r"\S+\.(\d+) > \S+\.(\d+): ((?:tcp|udp).*)")


class Crossing(NamedTuple):
    """A packet, or super-packet, on its way; as for `Host.receive`."""

    packet: bytes
    segment: int = 0
    is_partial: bool = False

    @classmethod
    def of(cls, outgoing: Outgoing) -> Self:
        """What a host has just given."""
        return cls(b"".join(outgoing.parts), outgoing.segment, outgoing.is_partial)


@dataclass(slots=True)
class PacketEntry(Entry):
    """A packet in a trace: its line says what it is.

    Attributes:
        head: what it begins with.
        segment: payload bytes of each segment, of a super-packet.
    """

    head: bytes = b""
    segment: int = 0

    @classmethod
    def of(cls, crossing: Crossing, now: int, ends: tuple[str, str], fate: Fate, note: str = "") -> Self:
        """Note a packet that was sent just now."""
        packet, segment, _ = crossing
        return cls(now, *ends, len(packet), fate, note=note, head=packet[:_HEAD_BYTES], segment=segment)

    def line(self, start: int) -> str:
        """As that of a datagram, and then as tcpdump describes the packet, without its addresses."""
        words = describe(self.head, self.segment)
        # The names of the two ends stand before it already.
        told = _WITH_PORTS.sub(r"\1 > \2: \3", words) if _WITH_PORTS.match(words) else words.partition(": ")[2]
        return f"{Entry.line(self, start)}  {told or words}"


class Way:
    """One direction.

    Args:
        clock: virtual time.
        trace: notes every packet.
        injector: decides what happens to it.
        ends: names of the sender and of the receiver.
        deliver: takes all that arrives at one instant.
        whole: whether super-packets cross whole; None for where no fault hits single packets.
        answer: takes what the sender of a packet over the MTU is told; None if it is not told.

    Attributes:
        loses: says of each packet whether it is lost; asked before chance is.
        is_cut: whether nothing at all gets through.
    """

    def __init__(
        self,
        clock: VirtualClock,
        trace: Trace,
        injector: FaultInjector,
        ends: tuple[str, str],
        deliver: Callable[[list[Crossing]], object],
        *,
        whole: bool | None = None,
        answer: Callable[[list[Crossing]], object] | None = None,
    ) -> None:
        self.loses: Callable[[bytes], bool] | None = None
        self.is_cut = False
        self._clock = clock
        self._trace = trace
        self._injector = injector
        self._ends = ends
        self._deliver = deliver
        self._whole = whole
        self._answer = answer
        self._flying: list[tuple[int, int, Crossing, Entry]] = []
        self._number = 0

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

    def send(self, crossing: Crossing) -> None:
        """Put what a host gave on its way."""
        whole = self._passes_whole(crossing) if self._whole is None else self._whole
        for each in [crossing] if whole else singles(crossing):
            self._put(each)

    def inject(self, packet: bytes, segment: int = 0, *, is_partial: bool = False) -> None:
        """Put a packet on its way as an attacker would: it arrives at once and surely."""
        self._launch(Crossing(bytes(packet), segment, is_partial), self._clock.now, "injected")

    def take(self) -> list[bytes]:
        """Take everything that travels away, and return it."""
        taken = self.in_flight
        for _, _, _, entry in self._flying:
            entry.fate = Fate.TAKEN
        self._flying.clear()
        return taken

    def _passes_whole(self, crossing: Crossing) -> bool:
        """Whether a super-packet and its segments would fare alike."""
        faults = self.faults
        hits = faults.loss or faults.reordering or faults.duplication or faults.rate_bps or self.loses is not None
        return not hits and (_largest(crossing) or 0) <= faults.mtu_bytes

    def _put(self, crossing: Crossing) -> None:
        packet = crossing.packet
        if self.is_cut:
            self._note(crossing, Fate.CUT_OFF)
            return
        if self.loses is not None and self.loses(packet):
            self._note(crossing, Fate.LOST)
            return
        passage = self._injector.carry(len(packet), self._clock.now, largest=_largest(crossing))
        if not passage.arrivals:
            self._note(crossing, passage.fate)
        if passage.fate is Fate.TOO_BIG and self._answer is not None:
            self._answer_too_big(packet, self._answer)
        note = "held back" if passage.held_back else ""
        for arrival in passage.arrivals:
            self._launch(crossing, arrival, note)
            note = "duplicate"

    def _answer_too_big(self, packet: bytes, answer: Callable[[list[Crossing]], object]) -> None:
        router = ROUTER_V6 if packet[0] >> 4 == 6 else ROUTER_V4
        told = packet_too_big(packet, self.faults.mtu_bytes, router)
        if told is not None:
            self._clock.call_later(2 * self.faults.latency_ns, lambda: answer([Crossing(told)]))

    def _launch(self, crossing: Crossing, arrival: int, note: str) -> None:
        self._number += 1
        entry = self._note(crossing, Fate.IN_FLIGHT, note)
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
            self._deliver(crossings)

    def _note(self, crossing: Crossing, fate: Fate, note: str = "") -> Entry:
        return self._trace.add(PacketEntry.of(crossing, self._clock.now, self._ends, fate, note))


def singles(crossing: Crossing) -> list[Crossing]:
    """What a packet, or super-packet, is on a wire: single packets whose checksums are computed."""
    packet, segment, is_partial = crossing
    if not is_partial:
        return [crossing]
    layout = transport_of(memoryview(packet))
    assert layout is not None, "a partial packet is a plain one"
    protocol, transport = layout
    if segment:
        return [Crossing(each) for each in split(memoryview(packet), transport, segment, 1)]
    completed = bytearray(packet)
    assert not any(completed[transport + FIELD[protocol] : transport + FIELD[protocol] + 2]), "checksum field is zero"
    complete(completed, transport, protocol)
    return [Crossing(bytes(completed))]


def _largest(crossing: Crossing) -> int | None:
    """What is held against the MTU: of a super-packet, its first segment."""
    if not crossing.segment:
        return None
    upper = decode_upper_layer(crossing.packet)
    header = (crossing.packet[upper.start + 12] >> 4) * 4 if upper.protocol == TCP else 8
    return upper.start + header + crossing.segment
