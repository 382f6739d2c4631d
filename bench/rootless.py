"""Tunnels with programs at their ends: rootless weft nodes, and what they are compared with."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from bench.competitors import (
    INNER_V6_A,
    INNER_V6_B,
    OUTER_PORT,
    Tunnel,
    WireguardEnd,
    bring_up,
)
from bench.mitmproxy import installed
from bench.namespaces import Namespace, Pair
from bench.programs import Program
from bench.waiting import until
from bench.weft_nodes import Weft, WeftNode
from weft.io.store import State, Store, StoredPeer

DEBIAN_WIREGUARD_GO = "wireguard-go"
HOST_PREFIX = 128
LOOPBACK = "127.0.0.1"


class Ends(Tunnel):
    """A tunnel with a program on each side.

    Attributes:
        a: sends to, asks, and connects to the other.
        b: serves.
        module: of the programs over the kernel's sockets or a rootless node.
    """

    a: Program
    b: Program
    module = "stream_ends"

    def __init__(self, pair: Pair, scratch: Path) -> None:
        super().__init__(pair, scratch)
        self.programs: list[Program] = []

    def program(
        self, host: Namespace, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Program:
        """Start one."""
        log = self.scratch / f"{host.name}-{module}-{len(self.programs)}.log"
        program = Program(host, log, module, *arguments, environment=environment)
        self.programs.append(program)
        self.processes.append(program.process)
        return program

    def node(self, host: Namespace, *directory: str) -> Program:
        """Start a rootless node; without a directory, it keeps nothing."""
        return self.program(host, self.module, "node", *directory)

    def stop(self) -> None:
        for program in self.programs:
            program.stop()
        super().stop()


def underlay(program: Program, address: str) -> str:
    """The multiaddr of a node that leads to that address of the underlay, once it knows of it.

    Raises:
        BenchError: it does not.
    """
    found: list[str] = []

    def is_known() -> bool:
        found[:] = [each for each in program.tell("who")["multiaddrs"] if each.startswith(f"/ip4/{address}/")]
        return bool(found)

    until(is_known, f"the node knows that it is at {address}", program.process)
    return found[0]


class Rootless(Ends):
    """A rootless node on either side."""

    def start(self) -> None:
        self.a, self.b = self.node(self.pair.a), self.node(self.pair.b)
        self.inner_a, self.inner_b = (str(end.tell("who")["address"]) for end in (self.a, self.b))
        self.b.tell("serve")
        self.a.tell("connect_peer", multiaddr=underlay(self.b, self.pair.address_b))


class RootlessAndTun(Ends):
    """A rootless node on side a, and Linux with a TUN on side b."""

    def start(self) -> None:
        daemon = WeftNode(self.pair.b, self.scratch)
        self.processes.append(daemon.start())
        self.inner_b = daemon.open_network()
        self.a, self.b = self.node(self.pair.a), self.program(self.pair.b, "socket_ends")
        self.inner_a = str(self.a.tell("who")["address"])
        self.a.tell("serve")
        self.b.tell("serve", host=self.inner_b)
        self.a.tell("connect_peer", multiaddr=daemon.multiaddr(self.pair.address_b))


class TunEnds(Ends):
    """weft's TUN on either side, and the programs of the rootless nodes over the kernel's sockets."""

    def start(self) -> None:
        self.weft = Weft(self.pair, self.scratch, {})
        self.weft.start()
        self.processes += self.weft.processes
        self.inner_a, self.inner_b = self.weft.inner_a, self.weft.inner_b
        self.a, self.b = (self.program(host, self.module, "kernel") for host in (self.pair.a, self.pair.b))
        self.b.tell("serve", host=self.inner_b)


class Loopback(Ends):
    """Two programs over the kernel's sockets on one host."""

    def start(self) -> None:
        self.inner_a = self.inner_b = LOOPBACK
        self.a, self.b = (self.program(self.pair.a, self.module, "kernel") for _ in range(2))
        self.b.tell("serve", host=LOOPBACK)


class Sender(Protocol):
    """WireGuard with a TUN on side a.

    Attributes:
        key: its own, in base64.
        inner: its address in the tunnel.
    """

    key: str
    inner: str

    def lead(self, key: str, inner: str) -> None:
        """Let it reach the other side, by its key and its address in the tunnel."""


class WireguardGoSender:
    """wireguard-go; it can't send as fast as a rootless host may receive."""

    inner = INNER_V6_A

    def __init__(self, tunnel: Ends) -> None:
        self.pair = tunnel.pair
        self.end = WireguardEnd(tunnel.pair.a, DEBIAN_WIREGUARD_GO, tunnel.scratch)
        tunnel.processes.append(self.end.start())
        bring_up(self.end.host, self.end.device, f"{self.inner}/{HOST_PREFIX}")
        self.key = self.end.public_key

    def lead(self, key: str, inner: str) -> None:
        self.end.add_peer(key, f"{inner}/{HOST_PREFIX}", f"{self.pair.address_b}:{OUTER_PORT}")
        self.end.host.run("ip", "route", "add", f"{inner}/{HOST_PREFIX}", "dev", self.end.device)


class WeftSender:
    """weft's daemon, which takes the other side for stock WireGuard and sends it nothing but WireGuard's messages."""

    def __init__(self, tunnel: Ends) -> None:
        self.pair = tunnel.pair
        self.node = WeftNode(tunnel.pair.a, tunnel.scratch)
        tunnel.processes.append(self.node.start())
        self.inner = self.node.open_network()
        self.key = str(self.node.info["wireguard_public_key"])

    def lead(self, key: str, inner: str) -> None:
        self.node.weft(
            "peer", "add-wireguard", key, "--name", "stock",
            "--allowed-ips", f"{inner}/{HOST_PREFIX}", "--endpoint", f"{self.pair.address_b}:{OUTER_PORT}",
        )  # fmt: skip


class FromWireguard(Ends):
    """A rootless host on side b receives from WireGuard, for which a program sends over the kernel's sockets."""

    sender: type[WireguardGoSender] | type[WeftSender]

    def start(self) -> None:
        sender = self.sender(self)
        self.inner_a = sender.inner
        self.a = self.program(self.pair.a, "socket_ends")
        key, self.inner_b = self.receive_from(sender)
        sender.lead(key, self.inner_b)

    @abc.abstractmethod
    def receive_from(self, sender: Sender) -> tuple[str, str]:
        """Start the host; returns its key and its address."""


class ToRootless(FromWireguard):
    """A rootless weft node receives."""

    def receive_from(self, sender: Sender) -> tuple[str, str]:
        node = WeftNode(self.pair.b, self.scratch)
        node.weft("init")
        peer = StoredPeer(
            key=sender.key, kind="wireguard", name="sender", allowed_ips=[f"{sender.inner}/{HOST_PREFIX}"]
        )
        Store(node.directory).save_state(State(peers=[peer]))
        self.b = self.node(self.pair.b, str(node.directory))
        self.b.tell("serve")
        who = self.b.tell("who")
        return who["wireguard_key"], who["address"]


class ToMitmproxy(FromWireguard):
    """mitmproxy-rs receives."""

    def receive_from(self, sender: Sender) -> tuple[str, str]:
        self.b = self.program(
            self.pair.b, "mitmproxy_end", self.pair.address_b, str(OUTER_PORT), sender.key,
            environment={"PYTHONPATH": str(installed())},
        )  # fmt: skip
        return self.b.tell("who")["key"], INNER_V6_B


class WireguardGoToRootless(ToRootless):
    sender = WireguardGoSender


class WireguardGoToMitmproxy(ToMitmproxy):
    sender = WireguardGoSender


class WeftToRootless(ToRootless):
    sender = WeftSender


class WeftToMitmproxy(ToMitmproxy):
    sender = WeftSender
