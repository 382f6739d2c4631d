"""Hosts for a benchmark: network namespaces, joined by veth pairs, and swept away whatever happens.

Every namespace that this package makes starts with `PREFIX`, and `exclusive` lets one run at a time exist; so what a
crashed run left behind can be told from everything else, and is ended by the next run.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "weft-bench-"
LOCK = Path("/run/lock/weft-bench.lock")
# Short, as the paths of Unix sockets have to be.
SCRATCH = Path("/run/weft-bench")
CLONE_NEWNET = 0x40000000
UDP_SEGMENT = 103
UDP_GRO = 104
VETH = "veth"

# What a veth is told, by the name of the link. `single`: every UDP datagram crosses alone, is received alone and can be
# lost alone. TCP segmentation stays on: the kernel hands datagrams to a veth's GRO only if it is off, and merged again
# they would be lost 44 at a time.
LINKS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "single": ("tx-udp-segmentation", "off", "gso", "off", "gro", "on"),
}


class BenchError(Exception):
    """Something that was to be measured could not be; says what, in one line."""


@contextlib.contextmanager
def exclusive() -> Iterator[Path]:
    """Be the only run on this machine; end what an earlier one left, before and after. Gives a directory for files."""
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError(f"another run holds {LOCK}; two at once would measure each other") from None
        sweep()
        SCRATCH.mkdir(mode=0o700)
        try:
            yield SCRATCH
        finally:
            sweep()


def sweep() -> None:
    """End the processes in, and delete, every namespace of this package, and its files."""
    for entry in json.loads(run("ip", "-json", "netns", "list") or "[]"):
        if entry["name"].startswith(PREFIX):
            Namespace(entry["name"]).delete()
    shutil.rmtree(SCRATCH, ignore_errors=True)


def run(*argv: str, timeout_s: float = 30, env: dict[str, str] | None = None) -> str:
    """The output of a command that has to succeed."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, env=env, check=False)
    except FileNotFoundError:
        raise BenchError(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"{' '.join(argv)}: no end after {timeout_s} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise BenchError(f"{' '.join(argv)}: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout


@dataclass
class Namespace:
    """A host: a network namespace and the processes that were started in it."""

    name: str

    @classmethod
    def create(cls, label: str) -> Namespace:
        """A new one, with its loopback up and no IPv6 chatter of its own on what is added later."""
        host = cls(PREFIX + label)
        run("ip", "netns", "add", host.name)
        host.run("ip", "link", "set", "lo", "up")
        host.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
        return host

    def command(self, *argv: str) -> tuple[str, ...]:
        """What runs `argv` in this namespace; the process keeps its id."""
        return ("ip", "netns", "exec", self.name, *argv)

    def run(self, *argv: str, timeout_s: float = 30, env: dict[str, str] | None = None) -> str:
        """The output of a command that has to succeed, run in this namespace."""
        return run(*self.command(*argv), timeout_s=timeout_s, env=env)

    def start(self, *argv: str, log: Path | None = None, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """A process in this namespace, its output in a file of its own."""
        with (log or Path(os.devnull)).open("wb") as output:
            return subprocess.Popen(
                self.command(*argv), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env
            )

    def delete(self) -> None:
        """End every process in it, and it."""
        for pid in run("ip", "netns", "pids", self.name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        run("ip", "netns", "delete", self.name)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread in the namespace: a socket made here stays here."""
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            if libc.setns(there, CLONE_NEWNET):
                raise BenchError(f"{self.name}: {os.strerror(ctypes.get_errno())}")
            yield
        finally:
            libc.setns(home, CLONE_NEWNET)
            os.close(there)
            os.close(home)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this namespace."""
        with self.entered():
            return socket.socket(family, kind, protocol)


@dataclass
class Pair:
    """Two hosts, `a` and `b`, and the veth between them.

    Attributes:
        link: a name of `LINKS`.
        framing: bytes that the device's counters add to each IP packet.
    """

    label: str
    link: str
    a: Namespace
    b: Namespace
    address_a: str = "10.77.0.1"
    address_b: str = "10.77.0.2"
    framing: int = field(default=0, init=False)

    @classmethod
    def create(cls, label: str, link: str) -> Pair:
        """Both hosts with the link between them, made and proven to carry what its name says."""
        pair = cls(label, link, Namespace.create(f"{label}-{link}-a"), Namespace.create(f"{label}-{link}-b"))
        join(pair.a, pair.address_a, pair.b, pair.address_b)
        for host in (pair.a, pair.b):
            if LINKS[link]:
                host.run("ethtool", "-K", VETH, *LINKS[link])
        pair.framing = prove_link(pair)
        return pair

    def delete(self) -> None:
        """Both hosts and all that runs there."""
        self.a.delete()
        self.b.delete()


def join(a: Namespace, address_a: str, b: Namespace, address_b: str, device: str = VETH) -> None:
    """Put a veth pair between two hosts, with an IPv4 address on each end."""
    run("ip", "link", "add", device, "netns", a.name, "type", "veth", "peer", "name", device, "netns", b.name)
    for host, address in ((a, address_a), (b, address_b)):
        host.run("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")
        host.run("ip", "address", "add", f"{address}/24", "dev", device)
        host.run("ip", "link", "set", device, "up")
    a.run("ping", "-n", "-q", "-c", "1", "-w", "5", address_b)


def sent(host: Namespace, device: str = VETH) -> tuple[int, int]:
    """Packets and bytes that a host's device has sent."""
    counters = json.loads(host.run("ip", "-json", "-statistics", "link", "show", device))[0]["stats64"]["tx"]
    return counters["packets"], counters["bytes"]


def prove_link(pair: Pair) -> int:
    """Send UDP super-packets over the link and see how they cross; returns the framing bytes per packet."""
    count, datagrams, size = 10, 40, 1400
    with (
        pair.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        pair.b.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind((pair.address_b, 0))
        receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver.setblocking(False)
        sender.connect(receiver.getsockname())
        packets_before, bytes_before = sent(pair.a)
        for _ in range(count):
            control = [(socket.IPPROTO_UDP, UDP_SEGMENT, size.to_bytes(2, "little"))]
            sender.sendmsg([bytes(size * datagrams)], control)
        time.sleep(0.05)
        packets_after, bytes_after = sent(pair.a)
        reads = 0
        with contextlib.suppress(BlockingIOError):
            while receiver.recv(1 << 16):
                reads += 1
    packets, octets = packets_after - packets_before, bytes_after - bytes_before
    expected = count if pair.link == "plain" else count * datagrams
    if (packets, reads) != (expected, expected):
        raise BenchError(
            f"{pair.label}: {count} UDP super-packets crossed the {pair.link} link as {packets} packets and arrived as "
            f"{reads}, not {expected}"
        )
    return round((octets - count * datagrams * size) / packets) - 28
