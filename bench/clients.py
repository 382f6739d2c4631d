"""HTTP, SFTP, netd and the proxy over the network, against the same over the kernel's sockets and the raw stream.

Each section has all that its targets are ratios of, measured in turns.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.build import generator_program
from bench.competitors import Tunnel
from bench.generators.traffic import ECHO, SINK
from bench.plan import Plan
from bench.results import Results
from bench.rootless import Ends, Loopback, Rootless, underlay
from bench.stack import Measure, Turns, over_ends, take_turns
from bench.weft_nodes import WeftNode

REQUESTERS = 16
FILE_BYTES = 64 << 20
TRIPS = 5_000
# Of what takes as long as it takes.
PATIENCE_S = 60


class Clients(Ends):
    """Two ends, of which b serves HTTP and a folder.

    Attributes:
        here: a folder of end a, with a file of `FILE_BYTES`.
        there: the one that is served, with such a file too.
    """

    module = "client_ends"
    here: Path
    there: Path

    def serve_clients(self) -> None:
        """Serve what is asked for."""
        self.here, self.there = (self.scratch / f"{host.name}-files" for host in (self.pair.a, self.pair.b))
        for folder in (self.here, self.there):
            folder.mkdir(exist_ok=True)
            (folder / "file").write_bytes(bytes(FILE_BYTES))
        self.b.tell("serve_http", host=self.inner_b)
        self.b.tell("serve_files", host=self.inner_b, folder=str(self.there))


class LoopbackClients(Clients, Loopback):
    """Both over the kernel's sockets on one host."""

    def start(self) -> None:
        super().start()
        self.serve_clients()


class RootlessClients(Clients, Rootless):
    """Both over rootless nodes, with a sink on end a for the raw stream."""

    def start(self) -> None:
        super().start()
        self.serve_clients()
        self.a.tell("serve")


class Proxied(Rootless):
    """Rootless nodes, of which the one on side a has a proxy, and a program on that side beside it."""

    module = "client_ends"

    def start(self) -> None:
        super().start()
        self.port = self.a.tell("serve_socks")["port"]
        self.client = self.program(self.pair.a, "socket_ends")


class UnixEcho(Ends):
    """An echo on a Unix socket of host a."""

    def start(self) -> None:
        self.path = self.scratch / "echo.sock"
        self.a = self.program(self.pair.a, "unix_echo")
        self.server = self.a.process.pid
        self.a.tell("serve", path=str(self.path))


class Netd(Ends):
    """A daemon with the stack on side a, whose netd is used, and a rootless node on side b."""

    def start(self) -> None:
        self.daemon = WeftNode(self.pair.a, self.scratch)
        process = self.daemon.start()
        self.processes.append(process)
        self.server, self.path = process.pid, self.daemon.directory / "netd.sock"
        self.daemon.weft("fc00", "start", "--stack")
        self.inner_a = str(self.daemon.info["address"])
        self.b = self.node(self.pair.b)
        self.inner_b = str(self.b.tell("who")["address"])
        self.b.tell("serve")
        self.daemon.weft("peer", "connect", underlay(self.b, self.pair.address_b))


def rates(tunnel: Ends, *words: object, cpu: int | None = None, timeout_s: float = 30) -> list[float]:
    """What the program in C prints on host a, on one CPU or any."""
    tunnel.check_alive()
    place = () if cpu is None else ("taskset", "--cpu-list", str(cpu))
    program = generator_program("netd_rates")
    return [*map(float, tunnel.pair.a.run(*place, str(program), *map(str, words), timeout_s=timeout_s).split())]


def requested(row: str, clients: int) -> Measure:
    """Requests a second, so many at a time."""

    def measure(tunnel: Tunnel, seconds: int) -> dict[str, float]:
        assert isinstance(tunnel, Clients)
        done = tunnel.a.tell("request", timeout_s=seconds + 30, host=tunnel.inner_b, clients=clients, seconds=seconds)
        return {row: done["count"] / done["seconds"]}

    return measure


def fetched(tunnel: Tunnel, seconds: int) -> dict[str, float]:
    """Downloads over HTTP, one after the other."""
    assert isinstance(tunnel, Clients)
    done = tunnel.a.tell("fetch", timeout_s=PATIENCE_S, host=tunnel.inner_b, seconds=seconds)
    return {"clients_http_download": done["bytes"] * 8 / done["seconds"] / 1e9}


def got(tunnel: Tunnel, _seconds: int) -> dict[str, float]:
    """A file over SFTP from b to a."""
    assert isinstance(tunnel, Clients)
    target = tunnel.here / "copy"
    done = tunnel.a.tell("get", timeout_s=PATIENCE_S, host=tunnel.inner_b, there="file", here=str(target))
    assert target.stat().st_size == FILE_BYTES
    target.unlink()
    return {"clients_sftp_get": FILE_BYTES / done["seconds"] / 1e6}


def put(tunnel: Tunnel, _seconds: int) -> dict[str, float]:
    """A file over SFTP from a to b."""
    assert isinstance(tunnel, Clients)
    done = tunnel.a.tell("put", timeout_s=PATIENCE_S, host=tunnel.inner_b, here=str(tunnel.here / "file"), there="copy")
    target = tunnel.there / "copy"
    assert target.stat().st_size == FILE_BYTES
    target.unlink()
    return {"clients_sftp_put": FILE_BYTES / done["seconds"] / 1e6}


def trips(what: str) -> Measure:
    """Round trips from C by a Unix socket on host a, with either end on a CPU of its own, and with both on one.

    Where the system puts two programs that wait for each other is chance, and makes more of a difference than they do.
    """

    def measure(tunnel: Tunnel, _seconds: int) -> dict[str, float]:
        assert isinstance(tunnel, UnixEcho | Netd)
        allowed = os.sched_getaffinity(tunnel.server)
        figures: dict[str, float] = {}
        for row, cpu in (("clients_netd_trip", max(allowed)), ("clients_netd_near", min(allowed))):
            os.sched_setaffinity(tunnel.server, {cpu})
            try:
                p50, p99 = rates(tunnel, what, tunnel.path, TRIPS, cpu=min(allowed))
            finally:
                os.sched_setaffinity(tunnel.server, allowed)
            figures |= {f"{row}_p50": p50, f"{row}_p99": p99}
        return figures

    return measure


def through(tunnel: Tunnel, _seconds: int) -> dict[str, float]:
    """Round trips from C to an echo on the other side of the tunnel."""
    assert isinstance(tunnel, Netd)
    p50, p99 = rates(tunnel, "echo", tunnel.path, tunnel.inner_b, ECHO, TRIPS)
    return {"clients_netd_tunnel_p50": p50, "clients_netd_tunnel_p99": p99}


def sent(tunnel: Tunnel, seconds: int) -> dict[str, float]:
    """A stream from C to the other side of the tunnel."""
    assert isinstance(tunnel, Netd)
    arrived, took_s = rates(tunnel, "send", tunnel.path, tunnel.inner_b, SINK, seconds, timeout_s=seconds + 30)
    return {"clients_netd_bulk": arrived * 8 / took_s / 1e9}


def proxied(tunnel: Tunnel, seconds: int) -> dict[str, float]:
    """A stream of a program that knows of the proxy and of nothing else."""
    assert isinstance(tunnel, Proxied)
    tunnel.check_alive()
    done = tunnel.client.tell(
        "transfer", timeout_s=seconds + 30, host=tunnel.inner_b, streams=1, seconds=seconds, proxy=tunnel.port
    )
    return {"clients_socks": done["bytes"] * 8 / done["seconds"] / 1e9}


# For each section, who takes part, and with what.
TURNS: dict[str, Turns] = {
    "clients_http": {
        "loopback": (
            LoopbackClients,
            (requested("clients_http_requests", REQUESTERS), requested("clients_http_one", 1), fetched),
        ),
        "weft_rootless": (
            RootlessClients,
            (
                requested("clients_http_requests", REQUESTERS),
                requested("clients_http_one", 1),
                fetched,
                over_ends("clients_http_stream", 1, back=True),
            ),
        ),
    },
    "clients_sftp": {"loopback": (LoopbackClients, (got, put)), "weft_rootless": (RootlessClients, (got, put))},
    "clients_netd": {
        "unix_echo": (UnixEcho, (trips("unix"),)),
        "weft_rootless": (Rootless, (over_ends("clients_netd_bulk", 1),)),
        "weft_netd": (
            Netd,
            (trips("own"), through, sent),
        ),
    },
    "clients_socks": {"weft_rootless": (Proxied, (proxied, over_ends("clients_socks_stream", 1)))},
}


def measure_clients(plan: Plan, results: Results, scratch: Path) -> None:
    """Everything of clients that the plan has."""
    for section, turns in TURNS.items():
        if section in plan.sections:
            take_turns(plan, results, scratch, section, turns)
