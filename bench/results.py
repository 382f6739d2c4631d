"""The figures of a run: samples by measure, link and competitor, and what is read from them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Name(NamedTuple):
    """What was measured, over which link, with whom; written `tcp1.plain.weft`."""

    measure: str
    link: str
    competitor: str

    def __str__(self) -> str:
        return ".".join(self)


@dataclass
class Results:
    """All samples of one run.

    Attributes:
        samples: the values of each round, in the order in which they were taken.
        failures: what could not be measured, one line each, with the name it would have had.
    """

    samples: dict[Name, list[float]] = field(default_factory=dict)
    failures: list[tuple[Name, str]] = field(default_factory=list)

    def add(self, name: Name, value: float) -> None:
        """Take one more sample."""
        self.samples.setdefault(name, []).append(value)

    def fail(self, name: Name, reason: str) -> None:
        """Note that a sample is missing, and why."""
        self.failures.append((name, reason))

    def median(self, name: Name) -> float | None:
        """The median of all samples of that name, None if there are none."""
        values = self.samples.get(name)
        return statistics.median(values) if values else None

    def names(self, position: int) -> list[str]:
        """The distinct measures (0), links (1) or competitors (2), in the order in which they came."""
        return list(dict.fromkeys(name[position] for name in self.samples))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all values do not exceed.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    # Exact in hundredths of a percent: 0.99 * 100 is not 99 in binary.
    rank = -(-round(share * 10_000) * len(ordered) // 10_000)
    return ordered[max(rank, 1) - 1]
