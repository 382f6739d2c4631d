"""iperf3 and ping: run over a tunnel, and their output read."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

from bench.competitors import Tunnel
from bench.namespaces import BenchError

# Long enough between two that both hosts have gone to sleep.
IDLE_INTERVAL_S = 0.1
LOADED_INTERVAL_S = 0.005


def iperf(tunnel: Tunnel, seconds: int, *options: str) -> dict[str, Any]:
    """What an iperf3 client on host a reports at its end."""
    tunnel.check_alive()
    tunnel.serve()
    try:
        output = tunnel.pair.a.run(
            "iperf3",
            "--client",
            tunnel.inner_b,
            "--json",
            "--connect-timeout",
            "3000",
            "--time",
            str(seconds),
            *options,
            timeout_s=seconds + 15,
        )
        report = json.loads(output)
        if "error" in report:
            raise BenchError(f"iperf3: {report['error']}")
    except BenchError:
        tunnel.restart_server()
        raise
    end: dict[str, Any] = report["end"]
    return end


def delivered_gbit_per_s(end: dict[str, Any]) -> float:
    """Payload that arrived, in both directions together, in Gbit/s."""
    received = [end[part] for part in ("sum_received", "sum_received_bidir_reverse") if part in end]
    return float(sum(part["bits_per_second"] for part in received)) / 1e9


def delivered_gbit(end: dict[str, Any]) -> float:
    """Payload that arrived, in both directions together, in Gbit."""
    received = [end[part] for part in ("sum_received", "sum_received_bidir_reverse") if part in end]
    return float(sum(part["bytes"] for part in received)) * 8 / 1e9


def ping(tunnel: Tunnel, seconds: int, interval_s: float) -> list[float]:
    """Round trips from host a to host b, in ms, of a ping that lasts that long."""
    count, deadline = str(round(seconds / interval_s)), str(seconds + 2)
    command = ("ping", "-n", "-i", str(interval_s), "-c", count, "-w", deadline, tunnel.inner_b)
    return round_trips_ms(tunnel.pair.a.run(*command, timeout_s=seconds + 10))


def round_trips_ms(output: str) -> list[float]:
    """The round trips that a ping printed.

    Raises:
        BenchError: there is none.
    """
    times = [float(found) for found in re.findall(r"time=([0-9.]+) ms", output)]
    if not times:
        raise BenchError("ping: no answer")
    return times


def deliver(tunnel: Tunnel, octets: int) -> None:
    """Send exactly that many bytes over one TCP connection from host a to host b, and see them arrive."""
    family = socket.AF_INET6 if ":" in tunnel.inner_b else socket.AF_INET
    chunk = bytes(1 << 20)
    with tunnel.pair.b.socket(family, socket.SOCK_STREAM) as server:
        server.bind((tunnel.inner_b, 0))
        server.listen(1)
        with tunnel.pair.a.socket(family, socket.SOCK_STREAM) as sender:
            sender.settimeout(10)
            sender.connect(server.getsockname()[:2])
            receiver, _ = server.accept()
            with receiver:
                pump(sender, receiver, chunk, octets)


def pump(sender: socket.socket, receiver: socket.socket, chunk: bytes, octets: int) -> None:
    """Move bytes through a connection of which this thread has both ends."""
    sender.setblocking(False)
    receiver.settimeout(10)
    sent = arrived = 0
    while arrived < octets:
        while sent < octets:
            try:
                sent += sender.send(chunk[: octets - sent])
            except BlockingIOError:
                break
        arrived += len(receiver.recv(1 << 20))
