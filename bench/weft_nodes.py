"""weft as a competitor, run and set up as a person would: by its command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.competitors import INNER_V6_B, OUTER_PORT, Factory, Tunnel, WireguardEnd, bring_up, clean_environment
from bench.namespaces import BenchError, Namespace, Pair
from bench.waiting import until

IFNAME = "weft0"
# Read by the daemon: absent, bursts follow the loss; n, always n pieces; 0, single packets only.
BURST_PIECES = "WEFT_BURST_PIECES"
# The address of a stock peer: beside fc00::/8, which the weft node routes itself.
STOCK_ADDRESS = INNER_V6_B


class WeftNode:
    """One daemon with a directory of its own."""

    def __init__(self, host: Namespace, scratch: Path, environment: Mapping[str, str] | None = None) -> None:
        self.host = host
        self.directory = scratch / host.name
        self.log = scratch / f"{host.name}.log"
        self.environment = clean_environment(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.info: dict[str, Any] = {}

    def weft(self, *arguments: str, timeout_s: float = 30) -> str:
        """The output of `weft --dir … arguments`."""
        command = (sys.executable, "-m", "weft", "--dir", str(self.directory), *arguments)
        return self.host.run(*command, timeout_s=timeout_s, env=self.environment)

    def start(self) -> subprocess.Popen[bytes]:
        """Make its key and run its daemon; returns when that answers."""
        self.weft("init")
        return self.start_daemon()

    def start_daemon(self) -> subprocess.Popen[bytes]:
        """Run its daemon; returns when that answers."""
        self.process = self.host.start(
            sys.executable, "-m", "weft", "--dir", str(self.directory), "daemon", log=self.log, env=self.environment
        )
        until(self.answers, f"the weft daemon in {self.host.name}", self.process, timeout_s=20)
        return self.process

    def answers(self) -> bool:
        """Whether the daemon tells who it is."""
        try:
            self.info = json.loads(self.weft("info", "--json"))
        except BenchError:
            return False
        return True

    def open_network(self) -> str:
        """Make the interface, let everything in, and return the address."""
        self.weft("fc00", "start", "--ifname", IFNAME)
        self.weft("fc00", "allow", "/tcp/0", "/udp/0", "/icmp")
        return str(self.info["address"])

    def multiaddr(self, underlay: str) -> str:
        """What others dial to reach it at an address of the underlay."""
        return f"/ip4/{underlay}/udp/{OUTER_PORT}/p2p/{self.info['id']}"


class Weft(Tunnel):
    """weft on both ends."""

    def __init__(self, pair: Pair, scratch: Path, environment: Mapping[str, str]) -> None:
        super().__init__(pair, scratch)
        self.a = WeftNode(pair.a, scratch, environment)
        self.b = WeftNode(pair.b, scratch, environment)

    def start(self) -> None:
        for node in (self.a, self.b):
            self.processes.append(node.start())
        self.inner_a, self.inner_b = self.a.open_network(), self.b.open_network()
        self.a.weft("peer", "connect", self.b.multiaddr(self.pair.address_b))
        self.pair.a.run("ping", "-n", "-q", "-c", "3", "-i", "0.1", "-w", "10", self.inner_b)


class WeftWireguardGo(Tunnel):
    """weft on host a, wireguard-go on host b."""

    def __init__(self, pair: Pair, scratch: Path, program: str) -> None:
        super().__init__(pair, scratch)
        self.a = WeftNode(pair.a, scratch)
        self.b = WireguardEnd(pair.b, program, scratch)

    def start(self) -> None:
        self.processes += [self.a.start(), self.b.start()]
        self.inner_a, self.inner_b = self.a.open_network(), STOCK_ADDRESS
        bring_up(self.pair.b, self.b.device, f"{STOCK_ADDRESS}/128")
        self.pair.b.run("ip", "route", "add", f"{self.inner_a}/128", "dev", self.b.device)
        self.b.add_peer(
            self.a.info["wireguard_public_key"], f"{self.inner_a}/128", f"{self.pair.address_a}:{OUTER_PORT}"
        )
        self.a.weft(
            "peer", "add-wireguard", self.b.public_key, "--name", "stock",
            "--allowed-ips", f"{STOCK_ADDRESS}/128", "--endpoint", f"{self.pair.address_b}:{OUTER_PORT}",
        )  # fmt: skip
        self.pair.a.run("ping", "-n", "-q", "-c", "3", "-i", "0.1", "-w", "10", self.inner_b)


def weft(**environment: str) -> Factory:
    """weft on both ends, its daemons steered by these variables."""
    return lambda pair, scratch: Weft(pair, scratch, environment)


def weft_wireguard_go(program: str) -> Factory:
    """weft with that wireguard-go on the other side."""
    return lambda pair, scratch: WeftWireguardGo(pair, scratch, program)
