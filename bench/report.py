"""The table, the JSON and the plot of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.results import Name, Results
from bench.rows import ROWS
from bench.targets import Target, Verdict

SCHEMA = 1


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text, the first column to the left and the others to the right, a line under the first row."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join(line.rstrip() for line in (lines[0], "  ".join("-" * width for width in widths), *lines[1:]))


def figures(results: Results, link: str) -> str:
    """The medians of one link: a row for each measure, a column for each competitor; "" if there are none."""
    here = [name for name in results.samples if name.link == link and name.measure in ROWS]
    competitors = list(dict.fromkeys(name.competitor for name in here))
    if not here:
        return ""
    table = [[f"link: {link}", *competitors]]
    for measure in sorted({name.measure for name in here}, key=list(ROWS).index):
        row = ROWS[measure]
        medians = [results.median(Name(measure, link, competitor)) for competitor in competitors]
        table.append([row.title, *("-" if value is None else f"{value:.{row.decimals}f}" for value in medians)])
    return grid(table)


def verdicts(targets: Iterable[Target], results: Results) -> str:
    """One row for each target: its value, bound and goal, and whether it is met."""
    table = [["target", "value", "bound", "goal", "verdict"]]
    for target in targets:
        value = target.compute(results)
        sign = ">=" if target.at_least else "<="
        table.append(
            [
                target.name,
                "-" if value is None else f"{value:.3f}",
                f"{sign} {target.bound:g}",
                "" if target.goal is None else f"{sign} {target.goal:g}",
                target.judge(value).value,
            ]
        )
    return grid(table)


def text(results: Results, targets: Sequence[Target], machine: dict[str, str]) -> str:
    """Everything that a person reads after a run."""
    parts = ["  ".join(f"{name}: {value}" for name, value in machine.items())]
    parts += filter(None, (figures(results, link) for link in results.names(1)))
    if targets:
        parts.append(verdicts(targets, results))
    if results.failures:
        lines = dict.fromkeys(f"{name}: {reason}" for name, reason in results.failures)
        parts.append("\n".join(["could not be measured:", *lines]))
    return "\n\n".join(parts) + "\n"


def as_json(results: Results, targets: Sequence[Target], machine: dict[str, str], options: dict[str, Any]) -> str:
    """Every sample, median and verdict."""
    judged = [
        {
            "name": target.name,
            "value": (value := target.compute(results)),
            "expression": target.value,
            "at_least" if target.at_least else "at_most": target.bound,
            "goal": target.goal,
            "verdict": target.judge(value).value,
        }
        for target in targets
    ]
    document = {
        "schema": SCHEMA,
        "machine": machine,
        "options": options,
        "medians": {str(name): results.median(name) for name in results.samples},
        "samples": {str(name): values for name, values in results.samples.items()},
        "failures": [[str(name), reason] for name, reason in results.failures],
        "targets": judged,
    }
    return json.dumps(document, indent=1) + "\n"


def plot(results: Results, file: Path) -> bool:
    """Bars by competitor for each measure that several have, and the curves of the loss; False if nothing is to see."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    groups = [
        (measure, link)
        for measure in ("tcp1", "tcp10", "tcp_both", "load_p99")
        for link in results.names(1)
        if any(name[:2] == (measure, link) for name in results.samples)
    ]
    has_loss = any(name.measure.startswith("loss_") for name in results.samples)
    count = len(groups) + has_loss
    if not count:
        return False
    columns = min(count, 2)
    figure, axes = pyplot.subplots(
        math.ceil(count / columns), columns, figsize=(7 * columns, 3.2 * math.ceil(count / columns)), squeeze=False
    )
    flat = list(axes.flat)
    for axis, (measure, link) in zip(flat, groups, strict=False):
        draw_bars(axis, results, measure, link)
    if has_loss:
        draw_loss(flat[len(groups)], results)
    for axis in flat[count:]:
        axis.set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return True


def draw_bars(axis: Any, results: Results, measure: str, link: str) -> None:
    """One bar for each competitor, its samples as dots."""
    names = [name for name in results.samples if name[:2] == (measure, link)]
    for place, name in enumerate(names):
        colour = "tab:orange" if name.competitor.startswith("weft") else "tab:gray"
        axis.barh(place, results.median(name), color=colour, alpha=0.7)
        axis.plot(results.samples[name], [place] * len(results.samples[name]), "k.", markersize=3)
    axis.set_yticks(range(len(names)), [name.competitor for name in names])
    axis.invert_yaxis()
    axis.set_title(f"{ROWS[measure].title} ({link} link)", fontsize=9)


def draw_loss(axis: Any, results: Results) -> None:
    """Throughput over the share of datagrams that is lost, a line for each form."""
    names = [name for name in results.samples if name.measure.startswith("loss_")]
    for competitor in dict.fromkeys(name.competitor for name in names):
        points = sorted(
            (1 / int(name.measure.removeprefix("loss_")), results.median(name))
            for name in names
            if name.competitor == competitor
        )
        axis.plot(*zip(*points, strict=True), marker="o", label=competitor)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("share of datagrams lost", fontsize=9)
    axis.set_title("TCP, 1 stream, Gbit/s, by loss (single link)", fontsize=9)
    axis.legend(fontsize=8)


def missed(targets: Iterable[Target], results: Results, *, complete: bool) -> list[Target]:
    """The targets that this run did not meet; one without a figure counts if nothing was left out on purpose."""
    counting = {Verdict.MISSED, Verdict.UNMEASURED} if complete else {Verdict.MISSED}
    return [target for target in targets if target.judge(target.compute(results)) in counting]
