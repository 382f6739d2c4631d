"""Loss of single datagrams comes and goes under a running stream: bursts shrink, stay as they are, and grow again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest

from tests.system.node import Pair, connected_pair
from tests.system.traffic import MB, Flow, connected
from tests.system.waiting import until

pytestmark = pytest.mark.system

SETTLE_S = 2
WINDOW_S = 10
BACK_S = 5
WHOLE = 64


@dataclass
class Running:
    """A stream from Alice to Bob, over a cable that carries single datagrams."""

    pair: Pair
    flow: Flow

    @property
    def pieces(self) -> int:
        return self.pair.alice.peer().burst_pieces

    def rate(self, seconds: float = 0.5) -> float:
        """Bytes per second that arrive from now on."""
        began, before = time.monotonic(), self.flow.received
        time.sleep(seconds)
        return (self.flow.received - before) / (time.monotonic() - began)

    def changes(self, seconds: float) -> list[float]:
        """When the burst size changed, in seconds from now."""
        found: list[float] = []
        began, last = time.monotonic(), self.pieces
        while (after := time.monotonic() - began) < seconds:
            if (pieces := self.pieces) != last:
                found.append(after)
                last = pieces
            time.sleep(0.05)
        return found


@pytest.fixture
def running() -> Iterator[Running]:
    with connected_pair() as pair:
        for end in (pair.left, pair.right):
            end.features(gso=False, tx_udp_segmentation=False)
        with connected(pair.alice.host, pair.bob.host, pair.bob.address) as ends:
            flow = Flow(ends.client, ends.server)
            until(lambda: flow.received > 20 * MB, "the stream runs")
            yield Running(pair, flow)
            flow.finish()


def test_stream_is_back_at_full_speed_soon_after_the_loss_ended(running: Running) -> None:
    assert running.pieces == WHOLE
    full = running.rate(1)
    with running.pair.bob.host.losing(0.01):
        until(lambda: running.pieces <= 6, "bursts shrink", 5)
        time.sleep(SETTLE_S)
        assert len(running.changes(WINDOW_S)) <= 1
        # Whole bursts would get hardly anything through.
        assert running.rate() > 0.1 * full
    ended_at = time.monotonic()
    until(lambda: running.pieces == WHOLE and running.rate() > 0.6 * full, "full speed is back", BACK_S)
    assert time.monotonic() - ended_at < BACK_S + 1


@pytest.mark.long
@pytest.mark.parametrize("one_in", [1000, 200, 100, 20])
def test_burst_size_rests_at_steady_loss(running: Running, one_in: int) -> None:
    with running.pair.bob.host.losing(1 / one_in):
        time.sleep(5 * SETTLE_S)
        changes = running.changes(60)
    assert all(later - earlier > WINDOW_S for earlier, later in pairwise(changes)), changes
