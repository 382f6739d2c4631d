"""What a run measures: everything, or what the command line selects."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.competitors import Factory, Floor, PythonFloor, Veth, wireguard_go
from bench.measures import MEASURES
from bench.namespaces import LINKS, BenchError
from bench.weft_nodes import BURST_PIECES, weft, weft_wireguard_go

DEBIAN_WIREGUARD_GO = "wireguard-go"

# The figures that need hosts of a kind of their own, beside the measures on a tunnel.
SECTIONS = (
    "loss",
    "floods",
    "burden",
    "stack_tcp",
    "stack_stock",
    "stack_fast",
    "stack_connections",
    "stack_trip",
    "stack_idle",
    "stack_fair",
    "stack_nodes",
    "clients_http",
    "clients_sftp",
    "clients_netd",
    "clients_socks",
    "handshakes",
    "api",
    "daily",
    "idle",
)

# What `--quick` leaves out unless it is named.
NOT_QUICK = (
    "tcp1_reverse",
    "tcp_both",
    "udp1200",
    "udp64",
    "loss",
    "floods",
    "burden",
    "stack_stock",
    "stack_fast",
    "stack_idle",
    "stack_fair",
    "idle",
)

# The only measures on a tunnel, with their links, that these competitors take unless competitors are named.
UNNAMED = {"python_floor": {("tcp1", "plain"), ("ping", "plain")}}


@dataclass(frozen=True)
class Plan:
    """What to measure, how often and for how long.

    Attributes:
        runs: samples of each figure, taken in turns.
        seconds: length of one sample.
        idle_seconds: length of the idle measurement.
        named: whether competitors are named, so that each takes every measure.
        complete: whether nothing is left out, so that a target without a figure is a miss.
    """

    competitors: tuple[str, ...]
    links: tuple[str, ...]
    measures: tuple[str, ...]
    sections: tuple[str, ...]
    runs: int
    seconds: int
    idle_seconds: int
    named: bool
    complete: bool

    def takes(self, competitor: str, measure: str, link: str) -> bool:
        """Whether a competitor takes part in a measure over a link."""
        return self.named or competitor not in UNNAMED or (measure, link) in UNNAMED[competitor]


def factories() -> dict[str, Factory]:
    """How to make each competitor; one that a program is missing for raises when it is made."""
    known: dict[str, Factory] = {
        "veth": Veth,
        "burst_floor": lambda pair, scratch: Floor(pair, scratch, "burst_floor"),
        "packet_floor": lambda pair, scratch: Floor(pair, scratch, "packet_floor"),
        "python_floor": lambda pair, scratch: PythonFloor(pair, scratch, "python_floor"),
        "wireguard_go": wireguard_go(DEBIAN_WIREGUARD_GO),
        "weft": weft(),
        "weft_packets": weft(**{BURST_PIECES: "0"}),
        "weft_wireguard_go": weft_wireguard_go(DEBIAN_WIREGUARD_GO),
    }
    current = os.environ.get("WIREGUARD_GO")
    if current:
        known["wireguard_go_current"] = wireguard_go(current)
    return known


def select(wanted: Iterable[str], known: Sequence[str], kind: str) -> tuple[str, ...]:
    """The known names that are wanted, in the order in which they are known.

    Args:
        wanted: names or beginnings of names (a full name means only itself), several joined by commas; none means all.
        known: all that there are.
        kind: what they are, for the error.

    Raises:
        BenchError: a wanted name fits none.
    """
    words = [word for text in wanted for word in text.split(",") if word]
    chosen: set[str] = set()
    for word in words:
        fitting = [word] if word in known else [name for name in known if name.startswith(word)]
        if not fitting:
            raise BenchError(f"no {kind} is called {word}; there are {', '.join(known)}")
        chosen.update(fitting)
    return tuple(name for name in known if name in chosen or not words)


def make_plan(
    *,
    competitors: Iterable[str] = (),
    links: Iterable[str] = (),
    measures: Iterable[str] = (),
    quick: bool = False,
    runs: int | None = None,
    seconds: int | None = None,
) -> Plan:
    """The plan for what the command line asked for."""
    everything = (*MEASURES, *SECTIONS)
    measures, competitors = list(measures), list(competitors)
    named = bool(competitors)
    chosen = select(measures, everything, "measure")
    if quick and not measures:
        chosen = tuple(name for name in chosen if name not in NOT_QUICK)
    known = tuple(factories())
    competitors, links = select(competitors, known, "competitor"), select(links, tuple(LINKS), "link")
    runs = runs or (2 if quick else 5)
    return Plan(
        competitors=competitors,
        links=links,
        measures=tuple(name for name in chosen if name in MEASURES),
        sections=tuple(name for name in chosen if name in SECTIONS),
        runs=runs,
        seconds=seconds or (1 if quick else 2),
        idle_seconds=10 if quick else 60,
        named=named,
        complete=(competitors, links, chosen) == (known, tuple(LINKS), everything) and runs >= 5,
    )
