"""Many connections to one host over one path, in virtual time: what is dropped, who gets how much, what is used.

Super-packets cross whole, as between two nodes: what a queue drops is a run.
"""

from __future__ import annotations

from statistics import mean, pstdev

import pytest

from tests.sim.stack.bottleneck import MBIT, Road
from weft.stack.tcp import macroflow
from weft.testing import MS, S
from weft.testing.trace import Fate

MANY = 120
SPAN_NS = 1200 * MS
SOCKET_BYTES = 6_000_000
"""What the socket of the other host holds of what nobody has looked at."""
ENDLESS = 1 << 40


def road(*, round_trip_ns: int, queue_bytes: int) -> Road:
    path = Road(rate_bps=1000 * MBIT, round_trip_ns=round_trip_ns, queue_bytes=queue_bytes)
    path.wire.to_right._whole = path.wire.to_left._whole = True
    return path


def dropped(path: Road) -> int:
    return sum(entry.fate is Fate.QUEUE_FULL for entry in path.wire.trace)


def after_many() -> tuple[Road, float]:
    """A fast, short path that many have used for a while, and how different that was for them: 0 if it was not."""
    path = road(round_trip_ns=1 * MS, queue_bytes=SOCKET_BYTES)
    flows = [path.flow() for _ in range(MANY)]
    path.run(SPAN_NS)
    amounts = path.arrived(SPAN_NS, flows)
    return path, pstdev(amounts) / mean(amounts)


def test_many_on_a_fast_path_lose_nothing_and_get_the_same() -> None:
    """Without the limit they lose, and share badly; see the next test."""
    path, deviation = after_many()
    assert dropped(path) == 0
    assert deviation < 0.05
    assert path.share(SPAN_NS) > 0.85


def test_many_without_a_limit_would_lose_and_get_what_chance_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(macroflow, "HELD_BYTES", ENDLESS)
    path, deviation = after_many()
    assert dropped(path) > MANY
    assert deviation > 0.2
    assert sum(flow.timeouts for flow in path.flows) > 0


def test_two_on_a_long_wide_path_fill_it() -> None:
    """Of which 12.5 MB are on the way: three times as much as other hosts hold."""
    path = road(round_trip_ns=100 * MS, queue_bytes=30_000_000)
    for _ in range(2):
        path.flow()
    path.run(2 * S)
    assert path.share(500 * MS) > 0.95
    assert dropped(path) == 0
