"""What a person waits for: the answer of a command, and the start of a daemon with many peers."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import time
from pathlib import Path

from bench.burden import burden
from bench.namespaces import Pair
from bench.plan import Plan
from bench.results import Name, Results
from bench.running import FAULTS, sample, say
from bench.weft_nodes import WeftNode

# A single one of each sample would hang on what else the machine does just then.
COMMANDS = 5


def measure_daily(plan: Plan, results: Results, scratch: Path) -> None:
    """A daemon with a thousand peers and rules is started, asked, and ended, again and again."""
    if "daily" not in plan.sections:
        return
    say("-- start and commands")
    name = Name("daily", "process", "weft")
    try:
        with contextlib.ExitStack() as stack:
            pair = Pair.create("daily", "plain")
            stack.callback(pair.delete)
            node = WeftNode(pair.b, scratch)
            burden(node)
            for _ in range(plan.runs):
                sample(results, name, functools.partial(live, node))
    except FAULTS as error:
        results.fail(name, str(error))
        say(f"daily: {error}")


def live(node: WeftNode) -> dict[str, float]:
    """One life of a daemon: seconds until it answers, and for a command to end."""
    began = time.monotonic()
    process = node.start_daemon()
    try:
        started_s = time.monotonic() - began
        began = time.monotonic()
        for _ in range(COMMANDS):
            node.weft("info")
        return {"daily_start": started_s, "daily_command": (time.monotonic() - began) / COMMANDS}
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a daemon, and wait until it is gone."""
    process.terminate()
    process.wait()
