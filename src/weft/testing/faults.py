"""What a link does to packets: delay, loss, order, copies, size and rate.

One model for everything that carries packets in tests: the simulated network, the pair, and the link between real
devices. It touches neither packets nor clocks: a size and a time go in, times of arrival come out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
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


def parse_faults(words: Iterable[str], base: Faults = Faults()) -> Faults:
    """Change faults as words tell, in the way of `latency=10ms loss=1% rate=100M`.

    Args:
        words: each a name, `=` and a value. `latency`, `jitter` and `held_back` take a time in ns, us, ms or s; `loss`,
            `reordering` and `duplication` a share, as 0.01 or 1%; `mtu` and `queue` bytes, `rate` bits per second, with
            k, M or G for powers of 1000; `rate=none` lifts the limit.
        base: what the words leave as it is.

    Raises:
        UsageError: a word that is none of these, or a value out of range.
    """
    fields: dict[str, int | float | None] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in _WORDS:
            raise UsageError(f"{word}: not one of {', '.join(f'{known}=' for known in _WORDS)}")
        field, units = _WORDS[name]
        fields[field] = None if word == "rate=none" else _parse_number(word, value, units)
    return replace(base, **fields)  # type: ignore[arg-type]


_Units = dict[str, Fraction]
_TIME: _Units = {"ns": Fraction(1), "us": Fraction(1_000), "ms": Fraction(MS), "s": Fraction(S)}
_SHARE: _Units = {"%": Fraction(1, 100), "": Fraction(1)}
_COUNT: _Units = {"k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "": Fraction(1)}
_WORDS: dict[str, tuple[str, _Units]] = {
    "latency": ("latency_ns", _TIME),
    "jitter": ("jitter_ns", _TIME),
    "held_back": ("held_back_ns", _TIME),
    "loss": ("loss", _SHARE),
    "reordering": ("reordering", _SHARE),
    "duplication": ("duplication", _SHARE),
    "mtu": ("mtu_bytes", _COUNT),
    "queue": ("queue_bytes", _COUNT),
    "rate": ("rate_bps", _COUNT),
}


def _parse_number(word: str, text: str, units: _Units) -> int | float:
    # Longest units first, or "ms" would be read as "s".
    unit = next((unit for unit in sorted(units, key=len, reverse=True) if text.endswith(unit)), None)
    try:
        if unit is None:
            raise ValueError
        value = Fraction(text.removesuffix(unit)) * units[unit]
    except (ValueError, ZeroDivisionError):
        spelled = ", ".join(unit for unit in units if unit)
        raise UsageError(f"{word}: expected a number with a unit of {spelled}") from None
    return float(value) if units is _SHARE else int(value)


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
