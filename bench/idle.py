"""What a daemon uses that has many peers and nothing to do."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from pathlib import Path

from bench import usage
from bench.competitors import OUTER_PORT, clean_environment
from bench.namespaces import Pair
from bench.plan import Plan
from bench.results import Name, Results
from bench.running import FAULTS, sample, say
from bench.waiting import until
from bench.weft_nodes import WeftNode

PEERS = 100
# First messages of new peers are repeated for half a minute; they are not what an idle node does.
SETTLE_S = 35


def measure_idle(plan: Plan, results: Results, scratch: Path) -> None:
    """One daemon on host b, its peers all in one process on host a."""
    if "idle" not in plan.sections:
        return
    say(f"-- idle with {PEERS} peers")
    name = Name("idle", "process", "weft")
    try:
        with contextlib.ExitStack() as stack:
            pair = Pair.create("idle", "plain")
            stack.callback(pair.delete)
            node = WeftNode(pair.b, scratch)
            process = node.start()
            stack.callback(process.wait)
            stack.callback(process.terminate)
            node.open_network()
            play_peers(pair, node, scratch)
            time.sleep(SETTLE_S)
            sample(results, name, functools.partial(rest, process.pid, plan.idle_seconds))
    except FAULTS as error:
        results.fail(name, str(error))
        say(f"idle: {error}")


def play_peers(pair: Pair, node: WeftNode, scratch: Path) -> None:
    """Start the peers, and return when all have a session."""
    log = scratch / "peers.log"
    key = str(node.info["wireguard_public_key"])
    command = (sys.executable, "-m", "bench.generators.peers", key, pair.address_b, str(OUTER_PORT), str(PEERS))
    process = pair.a.start(*command, log=log, env=clean_environment({}))
    until(lambda: "up" in log.read_text(), f"{PEERS} peers have a session", process, timeout_s=60)


def rest(pid: int, seconds: int) -> dict[str, float]:
    """Watch a process for so long."""
    before, started = usage.cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    share = (usage.cpu_seconds(pid) - before) / (time.monotonic() - started)
    rss, pss = usage.memory_mb(pid)
    return {"idle_cpu": 100 * share, "idle_rss": rss, "idle_pss": pss}
