"""`python -m bench`: measure, print, write the table, the JSON and the plot; exit 1 if a target is missed."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from bench import report, targets
from bench.api_rate import measure_api_rate
from bench.build import OUT
from bench.burden import measure_burden
from bench.clients import measure_clients
from bench.daily import measure_daily
from bench.floods import measure_floods
from bench.handshakes import measure_handshakes
from bench.idle import measure_idle
from bench.loss import measure_loss
from bench.machine import describe
from bench.namespaces import BenchError, exclusive
from bench.plan import SECTIONS, Plan, make_plan
from bench.results import Results
from bench.running import say
from bench.stack import measure_stack
from bench.tunnels import measure_tunnels

RUNNERS = (
    measure_tunnels,
    measure_loss,
    measure_floods,
    measure_burden,
    measure_stack,
    measure_clients,
    measure_handshakes,
    measure_api_rate,
    measure_daily,
    measure_idle,
)


def at_least_one(text: str) -> int:
    """A number from 1 on."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def parse(arguments: list[str] | None = None) -> tuple[Plan, Path | None]:
    """What the command line asks for, and where else its JSON goes."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look of one to two minutes, not a verdict")
    parser.add_argument(
        "--only", "--measure", dest="measures", nargs="+", default=[], metavar="NAME",
        help="measures, by name or its beginning: tcp1, tcp, udp, ping, load, wire, stack, " + ", ".join(SECTIONS),
    )  # fmt: skip
    parser.add_argument("--competitor", dest="competitors", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--link", dest="links", nargs="+", default=[], metavar="NAME", help="plain, single")
    parser.add_argument("--runs", type=at_least_one, help="samples of each figure (5)")
    parser.add_argument("--seconds", type=at_least_one, help="length of a sample (2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON there as well")
    options = vars(parser.parse_args(arguments))
    file = options.pop("json")
    return make_plan(**options), file


def write(results: Results, plan: Plan, machine: dict[str, str], extra: Path | None) -> list[targets.Target]:
    """Print the table, and leave the three files of a run; returns the targets that it missed."""
    all_targets = targets.read()
    if not plan.complete:
        all_targets = [target for target in all_targets if target.compute(results) is not None]
    stem = OUT / time.strftime("%Y%m%d-%H%M%S")
    table = report.text(results, all_targets, machine)
    document = report.as_json(results, all_targets, machine, dataclasses.asdict(plan))
    stem.with_suffix(".txt").write_text(table)
    for file in filter(None, (stem.with_suffix(".json"), extra)):
        file.write_text(document)
    drawn = report.plot(results, stem.with_suffix(".png"))
    print(table)
    print(f"written: {stem}.txt, .json" + (", .png" if drawn else ""))
    return report.missed(all_targets, results, complete=plan.complete)


def keep_logs(scratch: Path) -> None:
    """Leave what the processes of this run said, instead of the last one's, in `out/logs`."""
    shutil.rmtree(OUT / "logs", ignore_errors=True)
    (OUT / "logs").mkdir()
    for log in scratch.rglob("*.log"):
        shutil.copy(log, OUT / "logs")


def stop(_number: int, _frame: object) -> None:
    """Let a termination unwind as an interrupt does, so that everything is taken down."""
    raise KeyboardInterrupt


def main() -> int:
    """Run the benchmark."""
    signal.signal(signal.SIGTERM, stop)
    results = Results()
    try:
        plan, extra = parse()
        if os.geteuid():
            raise BenchError("needs root: it makes network namespaces and TUN devices")
        OUT.mkdir(exist_ok=True)
        machine = describe()
        started = time.monotonic()
        with exclusive() as scratch:
            try:
                for runner in RUNNERS:
                    runner(plan, results, scratch)
            finally:
                keep_logs(scratch)
        say(f"measured in {time.monotonic() - started:.0f} s")
        failed = write(results, plan, machine, extra)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: stopped; everything is taken down", file=sys.stderr)
        return 130
    if failed:
        print(f"missed: {', '.join(target.name for target in failed)}")
    return 1 if failed or (results.failures and not plan.complete) else 0


if __name__ == "__main__":
    sys.exit(main())
