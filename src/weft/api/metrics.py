"""`/metrics`: the node's metrics and the API's own, in the text that Prometheus scrapes.

Both of its formats are spoken: version 0.0.4, and OpenMetrics 1.0 for whoever accepts that. They differ in the name of
a counter's family, in what is escaped in a help text, and in the end.

Source: prometheus.io, "Exposition formats"; the OpenMetrics specification 1.0.
Not done here: which metrics there are and how they are read (weft.engine.metrics).
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Final

from weft.engine.metric import Family, Histogram, Keys, Metric

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64)
"""Upper bounds of each histogram, besides infinity."""
SLICE_S: Final = 0.001
"""After so long others have their turn."""

REQUESTS: Final = Metric(
    "weft_api_requests_total", "counter", "Requests of the API by route and HTTP status.", ("route", "status")
)
STREAMS: Final = Metric("weft_api_streams", "gauge", "Clients that listen to a stream.")

_LABEL_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_SPECIAL: Final = re.compile(r'[\\\n"]')
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


def own(requests: Counter[tuple[str, int]], streams: int) -> Iterator[Family]:
    """What the API counts of itself.

    Args:
        requests: how many there were, by route and status.
        streams: that are open.
    """
    counts = sorted(requests.items())
    yield Family(REQUESTS, [(route, str(status)) for (route, status), _ in counts], [count for _, count in counts])
    yield Family(STREAMS, [()], [streams])


async def encode(families: Iterable[Family | Histogram], *, open_metrics: bool) -> bytes:
    """The text of all families; others have their turn between two of them.

    Args:
        families: read as they are written.
        open_metrics: which of the formats.
    """
    parts: list[str] = []
    labels = _Labels()
    begun = perf_counter()
    for family in families:
        parts.append(_encode(family, labels, open_metrics=open_metrics))
        if perf_counter() - begun > SLICE_S:
            await asyncio.sleep(0)
            begun = perf_counter()
    if open_metrics:
        parts.append("# EOF\n")
    return "".join(parts).encode()


class _Labels:
    """The text of labels, made once for all families of one scrape that have the same."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._keys: Keys = ()
        self._texts: list[str] = []

    def texts(self, names: tuple[str, ...], keys: Keys) -> list[str]:
        """`name="value",…` for each key, without the braces."""
        if keys is not self._keys or names != self._names:
            self._names, self._keys = names, keys
            self._texts = [
                ",".join([f'{name}="{_escaped(value)}"' for name, value in zip(names, key, strict=True)])
                for key in keys
            ]
        return self._texts


def _escaped(value: str) -> str:
    # Few have anything to escape, and translating is slow.
    return value.translate(_LABEL_ESCAPES) if _SPECIAL.search(value) else value


def _encode(family: Family | Histogram, labels: _Labels, *, open_metrics: bool) -> str:
    metric = family.metric
    name = metric.name.removesuffix("_total") if open_metrics else metric.name
    meaning = metric.meaning.translate(_LABEL_ESCAPES if open_metrics else _HELP_ESCAPES)
    lines = [f"# HELP {name} {meaning}\n# TYPE {name} {metric.kind}\n"]
    if isinstance(family, Histogram):
        lines.append(_samples_of(family))
    elif metric.labels:
        begin, texts = metric.name + "{", labels.texts(metric.labels, family.keys)
        both = zip(texts, family.values, strict=True)
        lines += [f"{begin}{text}}} {value}\n" for text, value in both if value is not None]
    else:
        lines += [f"{metric.name} {value}\n" for value in family.values if value is not None]
    return "".join(lines)


def _samples_of(histogram: Histogram) -> str:
    name, counts = histogram.metric.name, histogram.counts
    below = [sum(counts[: bound + 1]) for bound in BUCKETS]
    lines = [f'{name}_bucket{{le="{bound}.0"}} {count}\n' for bound, count in zip(BUCKETS, below, strict=True)]
    lines.append(f'{name}_bucket{{le="+Inf"}} {sum(counts)}\n')
    lines.append(f"{name}_sum {sum(value * count for value, count in enumerate(counts))}\n")
    lines.append(f"{name}_count {sum(counts)}\n")
    return "".join(lines)
