"""Tunnels that are up for as long as a block of code, and samples taken from them in turns."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.competitors import Factory, Tunnel
from bench.namespaces import BenchError, Pair
from bench.results import Name, Results

FAULTS = (BenchError, OSError, ValueError, KeyError, ArithmeticError)


def say(line: str) -> None:
    """One line of progress."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def running(
    factories: Mapping[str, Factory], link: str, scratch: Path, results: Results, section: str
) -> Iterator[dict[str, Tunnel]]:
    """All competitors that come up, each between two hosts of its own over that kind of link.

    One that does not come up is noted as a failure, and left out.
    """
    with contextlib.ExitStack() as stack:
        tunnels: dict[str, Tunnel] = {}
        for name, factory in factories.items():
            try:
                tunnels[name] = stack.enter_context(up(name, factory, link, scratch))
            except FAULTS as error:
                results.fail(Name(section, link, name), str(error))
                say(f"{link:7} {name}: did not come up: {error}")
        yield tunnels


@contextlib.contextmanager
def up(name: str, factory: Factory, link: str, scratch: Path) -> Iterator[Tunnel]:
    """One competitor, up between two hosts of its own."""
    with contextlib.ExitStack() as stack:
        pair = Pair.create(name.replace("_", "-"), link)
        stack.callback(pair.delete)
        tunnel = factory(pair, scratch)
        stack.callback(tunnel.stop)
        tunnel.start()
        yield tunnel


def sample(results: Results, name: Name, measure: Callable[[], Mapping[str, float]]) -> None:
    """Take the figures of one measurement, or note why there are none."""
    try:
        figures = measure()
    except FAULTS as error:
        results.fail(name, str(error))
        say(f"{name.link:7} {name.competitor:22} {name.measure}: {error}")
        return
    for row, value in figures.items():
        results.add(name._replace(measure=row), value)
    say(f"{name.link:7} {name.competitor:22} " + "  ".join(f"{row} {value:.4g}" for row, value in figures.items()))
