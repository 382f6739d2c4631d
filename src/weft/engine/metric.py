"""The shape of what is measured: a metric, and its values at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Number = int | float | None
"""None: not known now, so nothing is told. Truth values are to be made numbers."""
Keys = Sequence[tuple[str, ...]]


class Metric(NamedTuple):
    """One row of the table of metrics.

    Attributes:
        name: of the metric; a histogram's samples add `_bucket`, `_sum` and `_count`.
        kind: its type.
        meaning: one line for a person.
        labels: their names.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()


class Family(NamedTuple):
    """All values of a counter or gauge.

    Attributes:
        metric: which.
        keys: the values of the labels, for each value; no two are equal.
        values: as many.
    """

    metric: Metric
    keys: Keys
    values: Sequence[Number]


class Histogram(NamedTuple):
    """How often what was counted had which size.

    Attributes:
        metric: which, without labels.
        counts: item i says how often it was i.
    """

    metric: Metric
    counts: Sequence[int]
