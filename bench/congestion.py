"""Draws how the stack behaves at a bottleneck, as docs/assets/congestion.svg: `python -m bench.congestion [FILE]`.

Everything happens in virtual time, so that the same code draws the same picture. What is checked of it stands in
tests/sim/stack/test_congestion.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.sim.stack.bottleneck import MBIT, MS, Flow, Road

from weft.stack.tcp.congestion import BETA, C
from weft.testing import S

PICTURE = Path(__file__).parent.parent / "docs" / "assets" / "congestion.svg"
WINDOW_NS = 500 * MS
COLOURS = ("#1f6f8b", "#d1603d")


def rates(flow: Flow, began: int) -> tuple[list[float], list[float]]:
    """Seconds, and Mbit/s over the last half second."""
    step = WINDOW_NS // (10 * MS)
    seconds, values = [], []
    for before, after in zip(flow.samples, flow.samples[step:], strict=False):
        seconds.append((after.at - began) / S)
        values.append((after.arrived - before.arrived) * 8 * S / (after.at - before.at) / MBIT)
    return seconds, values


def main(arguments: list[str]) -> int:
    """Draw it."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    # What would differ from run to run otherwise.
    plt.rcParams.update({"svg.hashsalt": "weft", "svg.fonttype": "path", "font.size": 9, "axes.grid": True})
    figure, (sharing, curve, losses) = plt.subplots(3, 1, figsize=(7, 8.5), layout="constrained")

    road = Road(rate_bps=20 * MBIT, round_trip_ns=40 * MS, queue_bytes=100_000)
    began = road.now
    flows = [road.flow()]
    road.run(5 * S)
    flows.append(road.flow())
    road.run(25 * S)
    for number, flow in enumerate(flows):
        sharing.plot(*rates(flow, began), color=COLOURS[number], label=f"flow {number + 1}")
    sharing.set(title="A newcomer gets its share (20 Mbit/s, 40 ms, queue of one BDP)", ylabel="Mbit/s", xlabel="s")
    sharing.legend()

    road = Road(rate_bps=1000 * MBIT, round_trip_ns=100 * MS, queue_bytes=20_000_000)
    flow = road.flow()
    sender = flow.connection.sender
    sender.cubic.threshold = 300 * sender.segment
    road.run(3 * S)
    road.lose(1)
    lost_at, flight = road.now, sender.in_flight / sender.segment
    road.run(12 * S)
    seconds = [(sample.at - lost_at) / S for sample in flow.samples]
    curve.plot(seconds, [sample.window / sender.segment for sample in flow.samples], color=COLOURS[0], label="window")
    k = (flight * (1 - BETA) / C) ** (1 / 3)
    after = [at for at in seconds if at >= 0]
    formula = [C * (at - k) ** 3 + flight for at in after]
    curve.plot(after, formula, "--", color=COLOURS[1], label="0.4 (t - K)³ + W_max (RFC 9438)")
    curve.set(title="The window after one loss (100 ms)", ylabel="segments", xlabel="s after the loss")
    curve.legend()

    for number, count in enumerate((1, 50)):
        road = Road(rate_bps=50 * MBIT, round_trip_ns=40 * MS, queue_bytes=250_000)
        flow = road.flow()
        road.run(5 * S)
        lost_at = road.now
        road.lose(count)
        road.run(2 * S)
        times, values = rates(flow, lost_at)
        losses.plot(times, values, color=COLOURS[number], label=f"{count} lost in a row")
    losses.set(title="Losses are made good without a time-out (50 Mbit/s)", ylabel="Mbit/s", xlabel="s after the loss")
    losses.set(xlim=(-2, 2), ylim=(0, 55))
    losses.legend()

    target = Path(arguments[0]) if arguments else PICTURE
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
