"""Tunnels with programs at their ends: rootless weft nodes, and what they are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    """

    a: Program
    b: Program

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
        return self.program(host, "stream_ends", "node", *directory)

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
        self.a, self.b = (self.program(host, "stream_ends", "kernel") for host in (self.pair.a, self.pair.b))
        self.b.tell("serve", host=self.inner_b)


class Loopback(Ends):
    """Two programs over the kernel's sockets on one host."""

    def start(self) -> None:
        self.inner_a = self.inner_b = LOOPBACK
        self.a, self.b = (self.program(self.pair.a, "stream_ends", "kernel") for _ in range(2))
        self.b.tell("serve", host=LOOPBACK)


class FromStock(Ends):
    """wireguard-go on side a, with a sender over the kernel's sockets."""

    def start_stock(self) -> WireguardEnd:
        """Bring it up without a peer."""
        stock = WireguardEnd(self.pair.a, DEBIAN_WIREGUARD_GO, self.scratch)
        self.processes.append(stock.start())
        bring_up(stock.host, stock.device, f"{INNER_V6_A}/{HOST_PREFIX}")
        self.inner_a = INNER_V6_A
        self.a = self.program(self.pair.a, "socket_ends")
        return stock

    def lead(self, stock: WireguardEnd, key: str, inner: str) -> None:
        """Let it reach the other side."""
        self.inner_b = inner
        stock.add_peer(key, f"{inner}/{HOST_PREFIX}", f"{self.pair.address_b}:{OUTER_PORT}")
        stock.host.run("ip", "route", "add", f"{inner}/{HOST_PREFIX}", "dev", stock.device)


class StockToRootless(FromStock):
    """A rootless weft node receives from it."""

    def start(self) -> None:
        stock = self.start_stock()
        node = WeftNode(self.pair.b, self.scratch)
        node.weft("init")
        peer = StoredPeer(
            key=stock.public_key, kind="wireguard", name="stock", allowed_ips=[f"{INNER_V6_A}/{HOST_PREFIX}"]
        )
        Store(node.directory).save_state(State(peers=[peer]))
        self.b = self.node(self.pair.b, str(node.directory))
        self.b.tell("serve")
        who = self.b.tell("who")
        self.lead(stock, who["wireguard_key"], who["address"])


class StockToMitmproxy(FromStock):
    """mitmproxy-rs receives from it."""

    def start(self) -> None:
        stock = self.start_stock()
        self.b = self.program(
            self.pair.b, "mitmproxy_end", self.pair.address_b, str(OUTER_PORT), stock.public_key,
            environment={"PYTHONPATH": str(installed())},
        )  # fmt: skip
        self.lead(stock, self.b.tell("who")["key"], INNER_V6_B)
