"""What a link does to packets: delay, loss, order, copies, size and rate.

One model for everything that carries packets in tests: the simulated network, the pair, and the link between real
devices. It touches neither packets nor clocks: a size and a time go in, times of arrival come out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from weft.errors import UsageError
from weft.testing.clock import MS, S
from weft.testing.trace import Fate


@dataclass(frozen=True, kw_only=True, slots=True)
class Faults:
    """The properties of one direction of a link; as it stands, a link without fault or delay.

    Attributes:
        latency_ns: what every packet needs at least.
        jitter_ns: a random span up to this is added; by itself it never changes the order of packets.
        loss: share of packets that vanish, 0 to 1.
        reordering: share of packets that are held back, so that those behind overtake.
        held_back_ns: how much later a packet of that share arrives.
        duplication: share of packets that arrive twice.
        mtu_bytes: larger packets do not pass. What counts as size is for the carrier to say.
        rate_bps: bits per second, or None for no limit.
        queue_bytes: what may wait for the rate; what comes when it is full is dropped.

    Raises:
        UsageError: a share outside 0 to 1, or a negative value.
    """

    latency_ns: int = 0
    jitter_ns: int = 0
    loss: float = 0.0
    reordering: float = 0.0
    held_back_ns: int = 2 * MS
    duplication: float = 0.0
    mtu_bytes: int = 65_535
    rate_bps: int | None = None
    queue_bytes: int = 256 * 1024

    def __post_init__(self) -> None:
        for name in ("loss", "reordering", "duplication"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        for name in ("latency_ns", "jitter_ns", "held_back_ns", "mtu_bytes", "queue_bytes"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} can't be negative")
        if self.rate_bps is not None and self.rate_bps <= 0:
            raise UsageError("rate_bps must be positive; None means no limit")


class Passage(NamedTuple):
    """What happens to one packet.

    Attributes:
        fate: `IN_FLIGHT` if it passes, else why it does not.
        arrivals: when it arrives, monotonic nanoseconds: none, one, or two for a duplicate.
        held_back: whether packets behind it may overtake it.
    """

    fate: Fate
    arrivals: tuple[int, ...] = ()
    held_back: bool = False


class FaultInjector:
    """One direction of a link: decides the fate of each packet, reproducibly.

    Args:
        faults: its properties; assign to `faults` to change them while packets travel.
        random: where chance comes from; give each wire its own, so that they do not disturb each other.

    Attributes:
        fates: packets by fate; those that pass count as `IN_FLIGHT`.
    """

    def __init__(self, faults: Faults, random: Random) -> None:
        self.faults = faults
        self.fates: Counter[Fate] = Counter()
        self._random = random
        self._busy_until = 0
        self._last_arrival = 0

    def carry(self, size: int, now: int, *, largest: int | None = None) -> Passage:
        """Say what happens to one packet.

        Args:
            size: its bytes on the wire.
            now: monotonic nanoseconds.
            largest: what is held against the MTU, where that is another number: the size of one segment of a
                super-packet.
        """
        passage = self._carry(size, now, size if largest is None else largest)
        self.fates[passage.fate] += 1
        return passage

    def _carry(self, size: int, now: int, largest: int) -> Passage:
        faults = self.faults
        if largest > faults.mtu_bytes:
            return Passage(Fate.TOO_BIG)
        sent_at = now
        if faults.rate_bps is not None:
            if self._waiting_bytes(now, faults.rate_bps) + size > max(faults.queue_bytes, size):
                return Passage(Fate.QUEUE_FULL)
            sent_at = max(now, self._busy_until) + size * 8 * S // faults.rate_bps
            self._busy_until = sent_at
        if self._happens(faults.loss):
            return Passage(Fate.LOST)
        arrival = sent_at + faults.latency_ns
        if faults.jitter_ns:
            arrival += self._random.randrange(faults.jitter_ns + 1)
        held_back = self._happens(faults.reordering)
        if held_back:
            arrival += faults.held_back_ns
        else:
            arrival = self._last_arrival = max(arrival, self._last_arrival)
        copies = 2 if self._happens(faults.duplication) else 1
        return Passage(Fate.IN_FLIGHT, (arrival,) * copies, held_back)

    def _waiting_bytes(self, now: int, rate_bps: int) -> int:
        return max(self._busy_until - now, 0) * rate_bps // (8 * S)

    def _happens(self, share: float) -> bool:
        return share > 0 and self._random.random() < share
