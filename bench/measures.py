"""What is measured on a tunnel, one function a row or group of rows.

Each takes a tunnel that is up and the length in seconds, and returns figures by the name of their row. The figures of
one call come from the same seconds.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from bench import usage
from bench.competitors import Tunnel
from bench.iperf import (
    IDLE_INTERVAL_S,
    LOADED_INTERVAL_S,
    deliver,
    delivered_gbit,
    delivered_gbit_per_s,
    iperf,
    ping,
)
from bench.namespaces import BenchError, sent
from bench.results import percentile

Measure = Callable[[Tunnel, int], dict[str, float]]

WIRE_BYTES = 64 << 20
IPERF_WARM_UP_S = 0.3


def tcp(row: str, *options: str) -> Measure:
    """TCP throughput, and what the tunnel's processes used for it."""

    def measure(tunnel: Tunnel, seconds: int) -> dict[str, float]:
        pids = [process.pid for process in tunnel.processes]
        before = sum(map(usage.cpu_seconds, pids))
        end = iperf(tunnel, seconds, *options)
        figures = {row: delivered_gbit_per_s(end)}
        if pids:
            memory = [usage.memory_mb(pid) for pid in pids]
            figures[f"{row}_cpu"] = (sum(map(usage.cpu_seconds, pids)) - before) / delivered_gbit(end)
            figures[f"{row}_rss"] = max(rss for rss, _ in memory)
            figures[f"{row}_pss"] = max(pss for _, pss in memory)
        return figures

    return measure


def udp(row: str, size: int) -> Measure:
    """UDP that arrives when as much is sent as the sender can."""

    def measure(tunnel: Tunnel, seconds: int) -> dict[str, float]:
        end = iperf(tunnel, seconds, "--udp", "--bitrate", "0", "--length", str(size))
        return {row: delivered_gbit_per_s(end)}

    return measure


def ping_idle(tunnel: Tunnel, seconds: int) -> dict[str, float]:
    """Round trips with nothing else in the tunnel."""
    tunnel.check_alive()
    times = ping(tunnel, seconds, IDLE_INTERVAL_S)
    return {"ping_p50": percentile(times, 0.5), "ping_p99": percentile(times, 0.99)}


def ping_loaded(tunnel: Tunnel, seconds: int) -> dict[str, float]:
    """Round trips while one TCP stream takes all that it can get."""
    tunnel.check_alive()
    tunnel.serve()
    load = tunnel.pair.a.start("iperf3", "--client", tunnel.inner_b, "--time", str(seconds + 1))
    try:
        time.sleep(IPERF_WARM_UP_S)
        times = ping(tunnel, seconds, LOADED_INTERVAL_S)
        if load.wait(timeout=seconds + 10):
            raise BenchError("iperf3: the load under the ping failed")
    except (BenchError, subprocess.TimeoutExpired):
        load.kill()
        load.wait()
        tunnel.restart_server()
        raise
    return {"load_p50": percentile(times, 0.5), "load_p99": percentile(times, 0.99)}


def wire(tunnel: Tunnel, _seconds: int) -> dict[str, float]:
    """Bytes of IP packets that host a sent on the underlay per byte of TCP payload that arrived."""
    tunnel.check_alive()
    deliver(tunnel, WIRE_BYTES // 16)
    packets_before, bytes_before = sent(tunnel.pair.a)
    deliver(tunnel, WIRE_BYTES)
    packets_after, bytes_after = sent(tunnel.pair.a)
    framing = (packets_after - packets_before) * tunnel.pair.framing
    return {"wire": (bytes_after - bytes_before - framing) / WIRE_BYTES}


# By the name that a command line selects them with, and a prefix of which is enough.
MEASURES: dict[str, Measure] = {
    "tcp1": tcp("tcp1"),
    "tcp1_reverse": tcp("tcp1_reverse", "--reverse"),
    "tcp_both": tcp("tcp_both", "--bidir"),
    "tcp10": tcp("tcp10", "--parallel", "10"),
    "udp1200": udp("udp1200", 1200),
    "udp64": udp("udp64", 64),
    "ping": ping_idle,
    "load": ping_loaded,
    "wire": wire,
}
