"""What rootless nodes do, in programs of asyncio, against weft's TUN, the kernel's sockets, and mitmproxy-rs."""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import usage
from bench.competitors import Factory, Tunnel
from bench.iperf import delivered_gbit_per_s, iperf
from bench.namespaces import BenchError, Namespace
from bench.plan import Plan
from bench.programs import Program
from bench.results import Name, Results, percentile
from bench.rootless import (
    Ends,
    Loopback,
    Rootless,
    RootlessAndTun,
    TunEnds,
    WeftToMitmproxy,
    WeftToRootless,
    WireguardGoToMitmproxy,
    WireguardGoToRootless,
)
from bench.running import FAULTS, running, sample, say
from bench.waiting import until
from bench.weft_nodes import weft

LINK = "plain"
STREAMS = 10
CLIENTS = 16
IDLE = 10_000
ACTIVE = 1_000
NODES = 10
# What is in flight when many connections start at once is not what they share later.
FILL_S, SHARE_S = 5, 10
# Of what is told to keep or to open so many.
MANY_S = 180
SETTLE_S = 2

Measure = Callable[[Tunnel, int], dict[str, float]]


def over_kernel(row: str, *options: str) -> Measure:
    """TCP throughput by iperf3, as for all tunnels."""
    return lambda tunnel, seconds: {row: delivered_gbit_per_s(iperf(tunnel, seconds, *options))}


def over_ends(row: str, streams: int, *, back: bool = False) -> Measure:
    """TCP throughput between the programs at the ends."""

    def measure(tunnel: Tunnel, seconds: int) -> dict[str, float]:
        assert isinstance(tunnel, Ends)
        tunnel.check_alive()
        sender, host = (tunnel.b, tunnel.inner_a) if back else (tunnel.a, tunnel.inner_b)
        done = sender.tell("transfer", timeout_s=seconds + 30, host=host, streams=streams, seconds=seconds)
        return {row: done["bytes"] * 8 / done["seconds"] / 1e9}

    return measure


def opened(tunnel: Tunnel, seconds: int) -> dict[str, float]:
    """Connections a second."""
    assert isinstance(tunnel, Ends)
    done = tunnel.a.tell(
        "open_and_close", timeout_s=seconds + 30, host=tunnel.inner_b, clients=CLIENTS, seconds=seconds
    )
    return {"stack_connections": done["count"] / done["seconds"]}


def asked(tunnel: Tunnel, seconds: int) -> dict[str, float]:
    """Round trips of small requests on an open connection."""
    assert isinstance(tunnel, Ends)
    times = tunnel.a.tell("ask", timeout_s=seconds + 30, host=tunnel.inner_b, seconds=seconds)["times"]
    return {"stack_trip_p50": percentile(times, 0.5), "stack_trip_p99": percentile(times, 0.99)}


Turns = Mapping[str, tuple[Factory, tuple[Measure, ...]]]

# For each section, who takes part, and with what.
TURNS: dict[str, Turns] = {
    "stack_tcp": {
        "weft": (weft(), (over_kernel("stack_tcp1"), over_kernel("stack_tcp10", "--parallel", str(STREAMS)))),
        "weft_rootless": (Rootless, (over_ends("stack_tcp1", 1), over_ends("stack_tcp10", STREAMS))),
        "weft_rootless_tun": (
            RootlessAndTun,
            (over_ends("stack_tcp1", 1), over_ends("stack_tcp1_reverse", 1, back=True)),
        ),
    },
    "stack_stock": {
        "mitmproxy_rs": (WireguardGoToMitmproxy, (over_ends("stack_stock", 1),)),
        "weft_rootless": (WireguardGoToRootless, (over_ends("stack_stock", 1),)),
    },
    "stack_fast": {
        "mitmproxy_rs": (WeftToMitmproxy, (over_ends("stack_fast", 1),)),
        "weft_rootless": (WeftToRootless, (over_ends("stack_fast", 1),)),
    },
    "stack_connections": {"loopback": (Loopback, (opened,)), "weft_rootless": (Rootless, (opened,))},
    "stack_trip": {"weft": (TunEnds, (asked,)), "weft_rootless": (Rootless, (asked,))},
}


def measure_stack(plan: Plan, results: Results, scratch: Path) -> None:
    """Everything of the rootless nodes that the plan has."""
    for section, turns in TURNS.items():
        if section in plan.sections:
            take_turns(plan, results, scratch, section, turns)
    for section, measure in ALONE.items():
        if section in plan.sections:
            say(f"-- {section}")
            with running({"weft_rootless": Rootless}, LINK, scratch, results, section) as tunnels:
                for name, tunnel in tunnels.items():
                    sample(results, Name(section, LINK, name), functools.partial(measure, tunnel))
    if "stack_nodes" in plan.sections:
        measure_nodes(results, scratch)


def take_turns(plan: Plan, results: Results, scratch: Path, section: str, turns: Turns) -> None:
    """All who take part, one after the other, again and again."""
    say(f"-- {section}")
    with running({name: factory for name, (factory, _) in turns.items()}, LINK, scratch, results, section) as tunnels:
        for _ in range(plan.runs):
            for name, tunnel in tunnels.items():
                for measure in turns[name][1]:
                    sample(results, Name(section, LINK, name), functools.partial(measure, tunnel, plan.seconds))


def hold(tunnel: Ends, more: int, total: int) -> None:
    """Open so many more connections, and have that many in all.

    Raises:
        BenchError: some are missing, on either side.
    """
    here = tunnel.a.tell("hold", timeout_s=MANY_S, host=tunnel.inner_b, count=more)["open"]
    if here != total:
        raise BenchError(f"of {total} connections {here} are open")
    until(
        lambda: len(tunnel.b.tell("arrived", timeout_s=MANY_S)["arrived"]) == total,
        f"{total} connections are open on the other side",
    )


def keep(tunnel: Tunnel) -> dict[str, float]:
    """What connections cost that are open and do nothing: RSS of both ends before and after, in MB, and KB for each."""
    assert isinstance(tunnel, Ends)
    # What is loaded and made with the first connection belongs to none.
    hold(tunnel, 1, 1)
    time.sleep(SETTLE_S)
    pids = {"here": tunnel.a.process.pid, "there": tunnel.b.process.pid}
    before = {end: usage.memory_mb(pid)[0] for end, pid in pids.items()}
    hold(tunnel, IDLE, IDLE + 1)
    time.sleep(SETTLE_S)
    after = {end: usage.memory_mb(pid)[0] for end, pid in pids.items()}
    figures = {f"stack_idle_{end}": 1000 * (after[end] - before[end]) / IDLE for end in pids}
    figures |= {f"stack_idle_{end}_without": before[end] for end in pids}
    figures |= {f"stack_idle_{end}_with": after[end] for end in pids}
    return figures | {"stack_idle": max(figures["stack_idle_here"], figures["stack_idle_there"])}


def share(tunnel: Tunnel) -> dict[str, float]:
    """How evenly connections that all send share what there is."""
    assert isinstance(tunnel, Ends)
    hold(tunnel, ACTIVE, ACTIVE)
    tunnel.a.tell("fill")
    time.sleep(FILL_S)
    before, began = tunnel.b.tell("arrived", timeout_s=MANY_S)["arrived"], time.monotonic()
    time.sleep(SHARE_S)
    after, took_s = tunnel.b.tell("arrived", timeout_s=MANY_S)["arrived"], time.monotonic() - began
    return fairness([after[number] - before[number] for number in before], took_s)


def fairness(counts: list[int], seconds: float) -> dict[str, float]:
    """What bytes of each connection say of their sum, in Gbit/s, and of their spread, as shares of the mean."""
    mean = statistics.fmean(counts)
    return {
        "stack_fair_sum": sum(counts) * 8 / seconds / 1e9,
        "stack_fair": statistics.pstdev(counts) / mean,
        "stack_fair_least": min(counts) / mean,
        "stack_fair_most": max(counts) / mean,
    }


# What nobody else is measured with, once, on nodes that have done nothing else.
ALONE: dict[str, Callable[[Tunnel], dict[str, float]]] = {"stack_idle": keep, "stack_fair": share}


def measure_nodes(results: Results, scratch: Path) -> None:
    """What each further node in a process needs."""
    say(f"-- {NODES} nodes in a process")
    name = Name("stack_nodes", "process", "weft")
    try:
        with contextlib.ExitStack() as stack:
            host = Namespace.create("nodes")
            stack.callback(host.delete)
            program = Program(host, scratch / "nodes.log", "many_nodes")
            stack.callback(program.stop)
            sample(results, name, functools.partial(multiply, program))
    except FAULTS as error:
        results.fail(name, str(error))
        say(f"stack_nodes: {error}")


def multiply(program: Program) -> dict[str, float]:
    """MB of a process with one node, and of each after the first."""
    program.tell("add", count=1)
    first, _ = usage.memory_mb(program.process.pid)
    program.tell("add", timeout_s=MANY_S, count=NODES - 1)
    last, _ = usage.memory_mb(program.process.pid)
    return {"stack_nodes_first": first, "stack_nodes": (last - first) / (NODES - 1)}
