"""How many requests a second the API of a daemon answers."""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path

from bench.namespaces import Namespace, Pair
from bench.plan import Plan
from bench.results import Name, Results
from bench.running import FAULTS, sample, say
from bench.weft_nodes import WeftNode

CLIENTS = 8
SOCKET = "api.sock"


def measure_api_rate(plan: Plan, results: Results, scratch: Path) -> None:
    """One daemon with nothing else to do, and clients in another process."""
    if "api" not in plan.sections:
        return
    say(f"-- api with {CLIENTS} clients")
    name = Name("api", "process", "weft")
    try:
        with contextlib.ExitStack() as stack:
            pair = Pair.create("api", "plain")
            stack.callback(pair.delete)
            node = WeftNode(pair.b, scratch)
            process = node.start()
            stack.callback(process.wait)
            stack.callback(process.terminate)
            for _ in range(plan.runs):
                sample(results, name, functools.partial(ask, pair.b, node.directory / SOCKET, plan.seconds))
    except FAULTS as error:
        results.fail(name, str(error))
        say(f"api: {error}")


def ask(host: Namespace, socket: Path, seconds: int) -> dict[str, float]:
    """Let the clients ask for so long."""
    command = (sys.executable, "-m", "bench.generators.api_clients", str(socket), str(CLIENTS), str(seconds))
    answered, took_s, slowest_ms = map(float, host.run(*command, timeout_s=seconds + 30).split())
    return {"api_rate": answered / took_s, "api_p99": slowest_ms}
