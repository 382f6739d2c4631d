"""weft nodes in hosts, run as a person runs them, and pairs of them that are connected."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from tests.system.lab import Cable, Host, Interface, Lab
from tests.system.process import Outcome
from tests.system.traffic import transfer
from tests.system.waiting import until
from weft.api import routes
from weft.api.client import Client
from weft.api.unix_socket import FILE_NAME
from weft.engine.status import PeerStatus, Status

PORT = 1312
EVERYTHING = ("/tcp/0", "/udp/0", "/icmp")

Family = Literal["IPv4", "IPv6"]
T = TypeVar("T")
R = TypeVar("R")


class Node:
    """One node with a directory of its own.

    Attributes:
        id: peer id.
        address: in the overlay.
    """

    def __init__(self, host: Host, directory: Path, config: str = "") -> None:
        """Make its key; `config` is its weft.toml, if not the one that `weft init` writes."""
        self.host = host
        self.directory = directory
        self.client = Client(directory / FILE_NAME)
        made = json.loads(self.weft("init", "--json"))
        self.id: str = made["id"]
        self.address: str = made["address"]
        if config:
            (directory / "weft.toml").write_text(config)

    def command(self, *arguments: str, **environment: str) -> list[str]:
        """The words that run the `weft` command on this node."""
        variables = [f"{name}={value}" for name, value in environment.items()]
        return ["env", *variables, sys.executable, "-m", "weft", "--dir", str(self.directory), *arguments]

    def weft(self, *arguments: str) -> str:
        """What a command says, which must not fail."""
        return self.host.run(*self.command(*arguments))

    def outcome(self, *arguments: str) -> Outcome:
        """How a command ends."""
        return self.host.outcome(*self.command(*arguments))

    def up(self, *allow: str, **environment: str) -> None:
        """`weft up`, with variables for the daemon; the firewall lets in what is given."""
        self.host.run(*self.command("up", **environment))
        if allow:
            self.weft("fc00", "allow", *allow)

    def down(self) -> None:
        self.weft("down")

    def kill(self) -> None:
        """End the daemon as a power cut would."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in self.pids(), f"process {pid} is gone")

    def pids(self) -> list[int]:
        """What runs in its host."""
        return [int(pid) for pid in self.host.run("ip", "netns", "pids", self.host.namespace).split()]

    @property
    def pid(self) -> int:
        return self.client.call(routes.INFO).pid

    def status(self) -> Status:
        return self.client.call(routes.STATUS)

    def peer(self) -> PeerStatus:
        """What it says about its only peer."""
        (peer,) = self.client.call(routes.PEER_LIST).peers
        return peer

    def restarts(self) -> dict[str, int]:
        """How often each task was restarted."""
        return {task.name: task.restarts for task in self.status().tasks}

    def multiaddr(self, end: Interface, family: Family = "IPv4", port: int = PORT) -> str:
        """What others dial to reach it by an interface of its host."""
        host = f"/ip4/{end.ip4}" if family == "IPv4" else f"/ip6/{end.ip6}"
        return f"{host}/udp/{port}/p2p/{self.id}"


@dataclass
class Pair:
    """Two nodes on two hosts, and the way between them: one cable, or the first and the last of several."""

    lab: Lab
    alice: Node
    bob: Node
    left: Interface
    right: Interface
    family: Family = "IPv4"

    def connect(self) -> None:
        """Alice calls Bob."""
        self.alice.weft("peer", "connect", self.bob.multiaddr(self.right, self.family))

    def crosses(self) -> bool:
        """Whether one packet crosses the tunnel and is answered."""
        return self.alice.host.ping(self.bob.address, count=1, wait_s=1).received == 1

    def transfer(self, size: int, **how: object) -> None:
        """Send so many bytes, both ways at once if nothing else is said, and check that each arrives."""
        transfer(self.alice.host, self.bob.host, self.bob.address, size, **how)  # type: ignore[arg-type]


@contextmanager
def connected_pair(family: Family = "IPv4", *, mtu: int = 1500) -> Iterator[Pair]:
    """Two nodes on a cable, connected, whose firewalls let everything in."""
    with Lab() as lab:
        cable = lab.veth(lab.host("alice"), lab.host("bob"), mtu=mtu)
        pair = pair_of(lab, cable.left, cable.right, family)
        pair.connect()
        yield pair


def pair_of(lab: Lab, left: Interface, right: Interface, family: Family = "IPv4") -> Pair:
    """Nodes on the hosts of two interfaces that are up, but do not know each other yet."""

    def start(end: Interface) -> Node:
        node = Node(end.host, lab.directory(end.host.name))
        node.up(*EVERYTHING)
        return node

    return Pair(lab, *at_once(start, left, right), left, right, family)


def at_once(work: Callable[[T], R], *items: T) -> list[R]:
    """Do the same with each at the same time."""
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(work, items))
