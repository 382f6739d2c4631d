"""Throughput over a link that loses datagrams: bursts that follow the loss against the two forms that do not."""

from __future__ import annotations

import functools
from pathlib import Path

from bench.competitors import Tunnel
from bench.iperf import delivered_gbit_per_s, iperf
from bench.namespaces import VETH
from bench.plan import Plan
from bench.results import Name, Results
from bench.rows import LOSSES
from bench.running import running, sample, say
from bench.weft_nodes import BURST_PIECES, weft

FORMS = {
    "weft": weft(),
    "weft_whole": weft(**{BURST_PIECES: "64"}),
    "weft_packets": weft(**{BURST_PIECES: "0"}),
}
# Long enough that the receiver's reports have told the sender of the new loss.
WARM_UP_S = 4


def lose(tunnel: Tunnel, one_in: int) -> None:
    """Drop one in so many of the datagrams that reach host b, at random, instead of what was dropped before."""
    nft = f"""
        table inet bench
        delete table inet bench
        table inet bench {{
            chain input {{
                type filter hook input priority 0
                iifname "{VETH}" meta l4proto udp numgen random mod {one_in} 0 drop
            }}
        }}
    """
    tunnel.pair.b.run("nft", nft)


def measure_loss(plan: Plan, results: Results, scratch: Path) -> None:
    """Each rate in turn, from rare to frequent: the sender is quick to believe in more loss, and slow in less."""
    if "loss" not in plan.sections:
        return
    with running(FORMS, "single", scratch, results, "loss") as tunnels:
        for rate in LOSSES:
            row = f"loss_{rate}"
            say(f"-- one datagram in {rate} is lost")
            for name, tunnel in tunnels.items():
                lose(tunnel, rate)
                sample(results, Name(f"{row}_warm_up", "single", name), functools.partial(warm_up, tunnel))
            for _ in range(plan.runs):
                for name, tunnel in tunnels.items():
                    sample(results, Name(row, "single", name), functools.partial(goodput, row, tunnel, plan.seconds))


def warm_up(tunnel: Tunnel) -> dict[str, float]:
    """Let the sender find out."""
    iperf(tunnel, WARM_UP_S)
    return {}


def goodput(row: str, tunnel: Tunnel, seconds: int) -> dict[str, float]:
    """TCP throughput, and nothing else."""
    return {row: delivered_gbit_per_s(iperf(tunnel, seconds))}
