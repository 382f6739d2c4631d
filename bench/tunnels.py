"""The measures on a tunnel, for all competitors over both kinds of link."""

from __future__ import annotations

import functools
from pathlib import Path

from bench.measures import MEASURES
from bench.plan import Plan, factories
from bench.results import Name, Results
from bench.running import running, sample, say


def measure_tunnels(plan: Plan, results: Results, scratch: Path) -> None:
    """Every measure of the plan, its competitors taking turns within each, over one link after the other."""
    known = factories()
    for link in plan.links:
        turns = [(measure, name) for measure in plan.measures for name in plan.competitors]
        turns = [(measure, name) for measure, name in turns if plan.takes(name, measure, link)]
        chosen = {name: known[name] for name in plan.competitors if any(name == each for _, each in turns)}
        if not turns:
            continue
        with running(chosen, link, scratch, results, "start") as tunnels:
            for number in range(plan.runs):
                say(f"-- {link} link, run {number + 1} of {plan.runs}")
                for measure, name in turns:
                    if name in tunnels:
                        take = functools.partial(MEASURES[measure], tunnels[name], plan.seconds)
                        sample(results, Name(measure, link, name), take)
