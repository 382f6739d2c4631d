"""Hosts on one machine: network namespaces joined by virtual cables, for tests against the real kernel.

    with Lab() as lab:
        alice, bob = lab.host("alice"), lab.host("bob")
        cable = lab.veth(alice, bob)
        alice.ping(cable.right.ip4)

Everything is gone when the block ends. What a killed run left behind is removed by the next one: the names of
namespaces say which process made them.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.system.process import COMMAND_S, TAIL_BYTES, Outcome, Process, command, outcome

PREFIX = "weftlab"
NUMBERS = itertools.count()


@dataclass(frozen=True)
class Interface:
    """One end of a cable."""

    host: Host
    ifname: str
    ip4: str
    ip6: str

    def set_mtu(self, mtu: int) -> None:
        self.host.ip("link", "set", self.ifname, "mtu", str(mtu))

    def set_up(self, up: bool) -> None:
        self.host.ip("link", "set", self.ifname, "up" if up else "down")

    def features(self, **features: bool) -> None:
        """Switch offloads, in the spelling of `ethtool -K` with `_` for `-`."""
        words = [word for name, on in features.items() for word in (name.replace("_", "-"), "on" if on else "off")]
        self.host.ethtool("-K", self.ifname, *words)

    def moved(self, number: int) -> Interface:
        """Replace its IPv4 address by another of the same network; the interface as it is then."""
        ip4 = f"{self.ip4.rpartition('.')[0]}.{number}"
        self.host.ip("addr", "del", f"{self.ip4}/24", "dev", self.ifname)
        self.host.ip("addr", "add", f"{ip4}/24", "dev", self.ifname)
        return replace(self, ip4=ip4)

    def configure(self, mtu: int) -> None:
        self.set_mtu(mtu)
        self.host.ip("addr", "add", f"{self.ip4}/24", "dev", self.ifname)
        # Without duplicate address detection the address is usable at once.
        self.host.ip("addr", "add", f"{self.ip6}/64", "dev", self.ifname, "nodad")
        self.set_up(True)


@dataclass(frozen=True)
class Cable:
    """Two interfaces that are joined."""

    left: Interface
    right: Interface

    def carry_single_datagrams(self) -> None:
        """Let the senders cut UDP super-packets, so that a loss rule of the receiver hits single datagrams."""
        for end in (self.left, self.right):
            end.features(gso=False, tx_udp_segmentation=False)


@dataclass(frozen=True)
class FaultyCable(Cable):
    """Two interfaces that are joined by `weft.testing.link`."""

    process: Process

    def set(self, words: str) -> None:
        """Change its faults: `loss=5%`, `to_right rate=100M`; see that module."""
        answer = json.loads(self.process.ask(words))
        assert "error" not in answer, answer["error"]

    def figures(self) -> dict[str, dict[str, int]]:
        """What each direction has carried, and what it has not."""
        figures: dict[str, dict[str, int]] = json.loads(self.process.ask(""))
        return figures


@dataclass(frozen=True)
class Ping:
    """What `ping` said."""

    sent: int
    received: int
    rtt_ms: float | None
    """Average; None without an answer."""

    @property
    def loss(self) -> float:
        return 1 - self.received / self.sent


class Host:
    """A network namespace with a loopback of its own."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.name = name
        self.namespace = f"{lab.prefix}-{name}"
        self.interfaces: list[Interface] = []
        self.lab = lab
        command("ip", "netns", "add", self.namespace)
        self.ip("link", "set", "lo", "up")

    @property
    def _enter(self) -> list[str]:
        return ["ip", "netns", "exec", self.namespace]

    def run(self, *arguments: str, check: bool = True, timeout_s: float = COMMAND_S) -> str:
        """Run a program to its end and return its standard output; `check=False` accepts a failing one."""
        return command(*self._enter, *arguments, check=check, timeout_s=timeout_s)

    def outcome(self, *arguments: str, timeout_s: float = COMMAND_S) -> Outcome:
        """Run a program to its end, however that is."""
        return outcome(*self._enter, *arguments, timeout_s=timeout_s)

    def start(self, *arguments: str, name: str = "", env: dict[str, str] | None = None) -> Process:
        """Start a program that runs until it is stopped, at the latest at the end of the lab."""
        return self.lab._start(f"{self.name}: {name or arguments[0]}", [*self._enter, *arguments], env)

    def daemon(self, directory: Path, *arguments: str) -> Process:
        """Start `weft daemon` with a directory."""
        return self.start(
            sys.executable, "-m", "weft", "daemon", "--dir", str(directory), *arguments, name="weft daemon"
        )

    def weft(self, *arguments: str, check: bool = True) -> str:
        """Run the `weft` command."""
        return self.run(sys.executable, "-m", "weft", *arguments, check=check)

    def ip(self, *arguments: str) -> str:
        return command("ip", "-n", self.namespace, *arguments)

    def nft(self, *arguments: str) -> str:
        return self.run("nft", *arguments)

    def ethtool(self, *arguments: str) -> str:
        return self.run("ethtool", *arguments)

    def forward(self) -> None:
        """Make it a router between its cables."""
        self.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    @contextmanager
    def losing(self, share: float, match: str = "meta l4proto udp") -> Iterator[None]:
        """Drop a share of the packets that come in and match, while the block runs.

        Counted are packets as the stack sees them: a super-packet is one. See `Cable.carry_single_datagrams`.
        """
        self.nft("add table inet lab; add chain inet lab input { type filter hook input priority -300; }")
        rule = f"add rule inet lab input {match} numgen random mod 1000000 < {round(share * 1_000_000)} drop"
        handle = self.nft("--echo", "--handle", rule).rsplit("# handle ", 1)[1].split()[0]
        try:
            yield
        finally:
            self.nft(f"delete rule inet lab input handle {handle}")

    def ping(self, address: str, *, count: int = 3, interval_s: float = 0.02, size: int = 56, wait_s: int = 2) -> Ping:
        """Ping an address; `size` is of the data, without the 8 bytes of ICMP header."""
        said = self.run(
            *("ping", "-q", "-n", "-c", str(count), "-i", str(interval_s), "-s", str(size), "-W", str(wait_s)),
            address,
            check=False,
            timeout_s=count * interval_s + COMMAND_S,
        )
        counts = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        if counts is None:  # no route: ping gives up before it counts
            return Ping(count, 0, None)
        average = re.search(r"= [\d.]+/([\d.]+)/", said)
        return Ping(int(counts[1]), int(counts[2]), float(average[1]) if average else None)


@dataclass(frozen=True)
class TwoHosts:
    """Two hosts with one veth between them."""

    alice: Host
    bob: Host
    cable: Cable


class Lab:
    """All hosts of a test; a context manager that leaves nothing behind."""

    def __init__(self) -> None:
        self.prefix = f"{PREFIX}-{os.getpid()}-{started_at(os.getpid())}-{next(NUMBERS)}"
        self.hosts: dict[str, Host] = {}
        self.processes: list[Process] = []
        self._subnets = 0
        self._directory = Path(tempfile.gettempdir()) / self.prefix
        self._directory.mkdir()

    def __enter__(self) -> Self:
        remove_stale()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in reversed(self.processes):
            process.stop()
        for host in self.hosts.values():
            remove_namespace(host.namespace)
        shutil.rmtree(self._directory)

    def host(self, name: str) -> Host:
        """Add a host."""
        assert name not in self.hosts, f"there is a host {name} already"
        self.hosts[name] = Host(self, name)
        return self.hosts[name]

    def veth(self, left: Host, right: Host, *, mtu: int = 1500) -> Cable:
        """Join two hosts by a pair of virtual Ethernet interfaces with IPv4 and IPv6 addresses.

        UDP super-packets cross it whole until `carry_single_datagrams`.
        """
        cable = self._cable(left, right)
        command(
            *("ip", "link", "add", cable.left.ifname, "netns", left.namespace, "type", "veth"),
            *("peer", "name", cable.right.ifname, "netns", right.namespace),
        )
        cable.left.configure(mtu)
        cable.right.configure(mtu)
        return cable

    def link(
        self, left: Host, right: Host, faults: str = "", *, single: bool = False, mode: str = "tap", seed: int = 0
    ) -> FaultyCable:
        """Join two hosts by a link in user space with delay, loss, rate and what else `weft.testing.link` can do.

        Args:
            left: host that gets the interface `left`.
            right: host that gets the interface `right`.
            faults: words such as `latency=10ms loss=1%`.
            single: packets cross one by one; if not, super-packets cross whole.
            mode: `tap` or `tun`.
            seed: of its chances.
        """
        ends = self._cable(left, right)
        names = (f"{end.ifname}@{end.host.namespace}" for end in (ends.left, ends.right))
        options = ["--mode", mode, "--seed", str(seed), *(["--single"] if single else [])]
        process = self._start(
            f"link {left.name} {right.name}",
            [sys.executable, "-m", "weft.testing.link", *names, *options, *faults.split()],
            None,
        )
        process.wait_for("interfaces")
        cable = FaultyCable(ends.left, ends.right, process)
        for end in (cable.left, cable.right):
            end.configure(1500)
            # Losses shall be those of the link, not of a queue in front of it that overflows.
            end.host.ip("link", "set", end.ifname, "txqueuelen", "10000")
        return cable

    def directory(self, name: str) -> Path:
        """Make a directory that goes with the lab; its path is short enough for that of a Unix socket."""
        directory = self._directory / name
        directory.mkdir(mode=0o700)
        return directory

    def outputs(self) -> list[tuple[str, str]]:
        """The end of what each process and each daemon in the background said, for the report of a failure."""
        said = [(process.name, process.output()) for process in self.processes]
        said += [(f"{log.parent.name}: {log.name}", log.read_text()) for log in self._directory.glob("*/*.log")]
        return [(name, output[-TAIL_BYTES:]) for name, output in said if output]

    def _cable(self, left: Host, right: Host) -> Cable:
        self._subnets += 1
        return Cable(self._end(left, 1), self._end(right, 2))

    def _end(self, host: Host, number: int) -> Interface:
        ifname = f"eth{len(host.interfaces)}"
        end = Interface(host, ifname, f"10.77.{self._subnets}.{number}", f"fd77:{self._subnets}::{number}")
        host.interfaces.append(end)
        return end

    def keep(self, start: Callable[[Path], Process]) -> Process:
        """Have a process that is stopped at the end of the lab, if not before; it is given the file for its output."""
        process = start(self._directory / f"{len(self.processes)}.txt")
        self.processes.append(process)
        return process

    def _start(self, name: str, arguments: list[str], env: dict[str, str] | None) -> Process:
        return self.keep(lambda output: Process.of(name, arguments, output, env))


def iperf3(client: Host, server: Host, address: str, *arguments: str, seconds: float = 2) -> dict[str, Any]:
    """Run one iperf3 test from a client to an address of a server and return its JSON; see `bits_per_second`."""
    listener = server.start("iperf3", "-s", "-1", "-B", address, "--forceflush", name="iperf3 -s")
    listener.wait_for("listening")
    said = client.run(
        *("iperf3", "-c", address, "-J", "-t", str(seconds), *arguments), check=False, timeout_s=seconds + COMMAND_S
    )
    listener.stop()
    result: dict[str, Any] = json.loads(said)
    assert "error" not in result, f"iperf3 from {client.name} to {address}: {result['error']}"
    return result


def bits_per_second(result: dict[str, Any]) -> float:
    """What the receiver of an iperf3 test got, payload bits per second."""
    end = result["end"]
    return float(end["sum_received" if "sum_received" in end else "sum"]["bits_per_second"])


def started_at(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except FileNotFoundError:
        return None


def remove_stale() -> None:
    """Remove what labs made whose process has gone: namespaces with what still runs in them, and directories."""
    for namespace in filter(is_stale, namespaces()):
        remove_namespace(namespace)
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"):
        if is_stale(directory.name):
            shutil.rmtree(directory, ignore_errors=True)


def is_stale(name: str) -> bool:
    """Whether a lab gave this name and its process has gone."""
    parts = re.match(rf"{PREFIX}-(\d+)-(\d+)-", name)
    return parts is not None and str(started_at(int(parts[1]))) != parts[2]


def namespaces() -> list[str]:
    """Namespaces of all labs."""
    names = (line.split()[0] for line in command("ip", "netns", "list").splitlines())
    return [name for name in names if name.startswith(f"{PREFIX}-")]


def remove_namespace(namespace: str) -> None:
    """Kill what runs in a namespace and remove it; another run may be about to do the same."""
    for pid in command("ip", "netns", "pids", namespace, check=False).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    command("ip", "netns", "delete", namespace, check=False)
