"""What is measured: tunnels of several kinds, each between the two hosts of a pair of its own.

All of a run's competitors are up at the same time; one that nobody measures does nothing, so that their turns can be
interleaved measure by measure.
"""

from __future__ import annotations

import abc
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.build import HERE, floor_program
from bench.namespaces import BenchError, Namespace, Pair
from bench.waiting import until

OUTER_PORT = 1312
INNER_A, INNER_B = "10.99.0.1", "10.99.0.2"
# weft's network is IPv6, so wireguard-go carries IPv6 too; the floors know IPv4 only.
INNER_V6_A, INNER_V6_B = "fd77::1", "fd77::2"
# What wireguard-go is given by its own tools on an Ethernet underlay; the floors get the same.
INNER_MTU = 1420


class Tunnel(abc.ABC):
    """A way from `pair.a` to `pair.b`.

    Attributes:
        inner_a: the address of host a that leads through the tunnel; `inner_b` that of host b.
        processes: what carries it, for CPU and memory; empty if the kernel does.
    """

    inner_a: str = INNER_A
    inner_b: str = INNER_B

    def __init__(self, pair: Pair, scratch: Path) -> None:
        self.pair = pair
        self.scratch = scratch
        self.processes: list[subprocess.Popen[bytes]] = []
        self.iperf: subprocess.Popen[bytes] | None = None

    @abc.abstractmethod
    def start(self) -> None:
        """Bring it up; on return, the ends reach each other."""

    def serve(self) -> None:
        """Have an iperf3 server on host b, a new one if the last is gone."""
        if self.iperf is None or self.iperf.poll() is not None:
            self.iperf = self.pair.b.start("iperf3", "--server")
            until(lambda: ":5201" in self.pair.b.run("ss", "-Hltn"), "iperf3 listens")

    def restart_server(self) -> None:
        """End an iperf3 server that may still wait for a client that failed."""
        if self.iperf is not None:
            self.iperf.kill()
            self.iperf.wait()
        self.serve()

    def check_alive(self) -> None:
        """Raise if one of its processes has ended."""
        for process in self.processes:
            if process.poll() is not None:
                raise BenchError(f"{process.args!r} ended with exit code {process.returncode}")

    def stop(self) -> None:
        """End its processes, and reap them."""
        mine = [*self.processes, *([self.iperf] if self.iperf else [])]
        for process in mine:
            process.terminate()
        for process in mine:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def bring_up(host: Namespace, device: str, address: str) -> None:
    """Give a tunnel's interface its address and MTU, once it is there."""
    until(lambda: has_device(host, device), f"{device} in {host.name}")
    host.run("ip", "address", "add", address, "dev", device)
    host.run("ip", "link", "set", device, "mtu", str(INNER_MTU), "up")


def has_device(host: Namespace, device: str) -> bool:
    """Whether a host has an interface of that name."""
    try:
        host.run("ip", "link", "show", device)
    except BenchError:
        return False
    return True


class Veth(Tunnel):
    """No tunnel: the veth pair itself, the ceiling."""

    def start(self) -> None:
        self.inner_a, self.inner_b = self.pair.address_a, self.pair.address_b


class Floor(Tunnel):
    """One of the C programs under `floors`."""

    def __init__(self, pair: Pair, scratch: Path, source: str) -> None:
        super().__init__(pair, scratch)
        self.source = source

    def start(self) -> None:
        command = (*self.program(), "tun0")
        ends = ((self.pair.a, self.pair.address_a, INNER_A), (self.pair.b, self.pair.address_b, INNER_B))
        for (host, local, inner), (_, remote, _) in (ends, ends[::-1]):
            log = self.scratch / f"{host.name}.log"
            self.processes.append(host.start(*command, local, str(OUTER_PORT), remote, str(OUTER_PORT), log=log))
            bring_up(host, "tun0", f"{inner}/24")

    def program(self) -> tuple[str, ...]:
        """What to run."""
        return (str(floor_program(self.source)),)


class PythonFloor(Floor):
    """The one in Python under `floors`, run by this interpreter."""

    def program(self) -> tuple[str, ...]:
        return (sys.executable, str(HERE / "floors" / f"{self.source}.py"))


class WireguardGo(Tunnel):
    """wireguard-go on both ends."""

    def __init__(self, pair: Pair, scratch: Path, program: str) -> None:
        super().__init__(pair, scratch)
        self.program = program

    def start(self) -> None:
        a = WireguardEnd(self.pair.a, self.program, self.scratch)
        b = WireguardEnd(self.pair.b, self.program, self.scratch)
        self.inner_a, self.inner_b = INNER_V6_A, INNER_V6_B
        for end, inner in ((a, self.inner_a), (b, self.inner_b)):
            self.processes.append(end.start())
            bring_up(end.host, end.device, f"{inner}/64")
        a.add_peer(b.public_key, f"{self.inner_b}/128", f"{self.pair.address_b}:{OUTER_PORT}")
        b.add_peer(a.public_key, f"{self.inner_a}/128", f"{self.pair.address_a}:{OUTER_PORT}")


class WireguardEnd:
    """One wireguard-go process, configured by `wg`.

    Its control socket is found by the name of the interface in a directory that all namespaces share, so no two ends
    have the same name.
    """

    numbers = itertools.count()

    def __init__(self, host: Namespace, program: str, scratch: Path) -> None:
        if not shutil.which(program):
            raise BenchError(f"{program} is not installed")
        self.host = host
        self.program = program
        self.device = f"wbench{next(self.numbers)}"
        self.log = scratch / f"{host.name}.log"
        self.private_key = host.run("wg", "genkey").strip()
        self.key_file = scratch / f"{self.device}.key"
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(self.private_key)

    @property
    def public_key(self) -> str:
        """The key that others know it by, in base64."""
        return self.host.run("wg", "show", self.device, "public-key").strip()

    def start(self) -> subprocess.Popen[bytes]:
        """Run it, with its key and port set."""
        process = self.host.start(self.program, "--foreground", self.device, log=self.log)
        until(lambda: has_device(self.host, self.device) and self.answers(), f"{self.program} is up", process)
        self.host.run("wg", "set", self.device, "private-key", str(self.key_file), "listen-port", str(OUTER_PORT))
        return process

    def answers(self) -> bool:
        """Whether its control socket is there."""
        try:
            self.host.run("wg", "show", self.device)
        except BenchError:
            return False
        return True

    def add_peer(self, public_key: str, allowed: str, endpoint: str) -> None:
        """Let it know the other end."""
        self.host.run("wg", "set", self.device, "peer", public_key, "allowed-ips", allowed, "endpoint", endpoint)


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would steer weft, and with what is to."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")} | dict(extra)


Factory = Callable[[Pair, Path], Tunnel]


def wireguard_go(program: str) -> Factory:
    """A competitor that runs that wireguard-go."""
    return lambda pair, scratch: WireguardGo(pair, scratch, program)
