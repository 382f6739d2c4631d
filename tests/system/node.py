"""weft nodes in hosts, and pairs of them that are connected.

What a test presumes is asked of the API; commands are run where they are what is tested.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from tests.system.lab import Host, Interface, Lab
from tests.system.nursery import outcome_of, start_daemon, started
from tests.system.process import Outcome, Process, kill
from tests.system.traffic import Direction, transfer
from tests.system.waiting import until
from weft.api.client import Client, NoDaemon
from weft.api.unix_socket import FILE_NAME
from weft.api.v0 import fc00 as fc00_api
from weft.api.v0 import node as node_api
from weft.api.v0 import peer as peer_api
from weft.api.v0.fc00 import ChangePorts, StartInterface
from weft.cli.up import START_S, stop_daemon
from weft.engine.initial import ensure_initialised
from weft.engine.status import Info, PeerStatus, Status
from weft.errors import Broken

PORT = 1312
EVERYTHING = ("/tcp/0", "/udp/0", "/icmp")

Family = Literal["IPv4", "IPv6"]
T = TypeVar("T")
R = TypeVar("R")


class Node:
    """One node with a directory of its own.

    Attributes:
        info: who it is; known once it was up.
        environment: what its daemon was given beside that of this process.
    """

    info: Info
    environment: Mapping[str, str] = {}

    def __init__(self, host: Host, directory: Path, config: str = "") -> None:
        """Nothing runs yet; `config` is its weft.toml, if not the one that `weft up` writes."""
        self.host = host
        self.directory = directory
        self.client = Client(directory / FILE_NAME)
        if config:
            (directory / "weft.toml").write_text(config)

    @property
    def id(self) -> str:
        return self.info.id

    @property
    def address(self) -> str:
        """In the overlay."""
        return self.info.address

    def command(self, *arguments: str, **environment: str) -> list[str]:
        """The words that run the `weft` command on this node."""
        variables = [f"{name}={value}" for name, value in environment.items()]
        return ["env", *variables, sys.executable, "-m", "weft", "--dir", str(self.directory), *arguments]

    def weft(self, *arguments: str) -> str:
        """What a command says, which must not fail."""
        done = self.outcome(*arguments)
        assert done.code == 0, done
        return done.out

    def outcome(self, *arguments: str, **environment: str) -> Outcome:
        """How a command ends."""
        return outcome_of(self.host, ["--dir", str(self.directory), *arguments], environment)

    def start(self, *arguments: str, **environment: str) -> Process:
        """Start a command that goes on until it is stopped."""
        return started(self.host, ["--dir", str(self.directory), *arguments], environment)

    def up(self, *allow: str, **environment: str) -> None:
        """What `weft up` does, with variables for the daemon; the firewall lets in what is given."""
        self.environment = environment
        if "PYTHONPATH" in environment:
            # It is obeyed before anything is loaded.
            self.host.run(*self.command("up", **environment))
        else:
            ensure_initialised(self.directory)
            start_daemon(self.host, self.directory, environment)
        until(self._answers, f"the daemon in {self.directory} answers", START_S)
        self.client.call(fc00_api.START, StartInterface())
        if allow:
            self.allow(*allow)

    def run_daemon(self) -> None:
        """`weft daemon`, which makes no interface; returns when it answers."""
        ensure_initialised(self.directory)
        start_daemon(self.host, self.directory, {})
        until(self._answers, f"the daemon in {self.directory} answers")

    def _answers(self) -> bool:
        with suppress(NoDaemon, Broken):
            self.info = self.client.call(node_api.INFO)
            return True
        return False

    def allow(self, *rules: str) -> None:
        self.client.call(fc00_api.ALLOW, ChangePorts(rules=list(rules)))

    @contextmanager
    def allowing(self, *rules: str) -> Iterator[None]:
        """Let something in while the block runs."""
        self.allow(*rules)
        try:
            yield
        finally:
            self.client.call(fc00_api.DENY, ChangePorts(rules=list(rules)))

    def down(self) -> None:
        """What `weft down` does."""
        stop_daemon(self.client)

    def kill(self) -> None:
        """End the daemon as a power cut would."""
        kill(self.info.pid)

    def pids(self) -> list[int]:
        """What runs in its host."""
        return [int(pid) for pid in self.host.run("ip", "netns", "pids", self.host.namespace).split()]

    @property
    def age_s(self) -> float:
        """How long its daemon runs."""
        return time.time() - Path(f"/proc/{self.info.pid}").stat().st_mtime

    def status(self) -> Status:
        return self.client.call(node_api.STATUS)

    def connect(self, other: Node, end: Interface, family: Family = "IPv4") -> None:
        """Call another node by an interface of its host."""
        self.client.call(peer_api.CONNECT, peer_api.Connect(target=other.multiaddr(end, family)))

    def name_peer(self, other: Node, name: str) -> None:
        """Call another node by a name."""
        self.client.call(peer_api.SET, peer_api.Set(peer=other.id, name=name))

    def peer(self, other: Node | None = None) -> PeerStatus:
        """What it says about a peer, by default its only one."""
        (peer,) = [peer for peer in self.peers() if other is None or other.address in peer.addresses]
        return peer

    def peers(self) -> list[PeerStatus]:
        return self.client.call(peer_api.LIST).peers

    def remembers(self, other: Node) -> bool:
        """Whether another node is in its store, with the endpoint that it has now."""
        endpoint = self.peer(other).endpoint or ""
        state = (self.directory / "state.json").read_text()
        return other.id in state and f"/{endpoint.rpartition(':')[0].strip('[]')}/" in state

    def restarts(self) -> dict[str, int]:
        """How often each task was restarted."""
        return {task.name: task.restarts for task in self.status().tasks}

    def multiaddr(self, end: Interface, family: Family = "IPv4") -> str:
        """What others dial to reach it by an interface of its host."""
        host = f"/ip4/{end.ip4}" if family == "IPv4" else f"/ip6/{end.ip6}"
        return f"{host}/udp/{PORT}/p2p/{self.id}"


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
        self.alice.connect(self.bob, self.right, self.family)

    def crosses(self) -> bool:
        """Whether one packet crosses the tunnel and is answered."""
        return self.alice.host.ping(self.bob.address, count=1, wait_s=1).received == 1

    def drops(self) -> dict[str, int]:
        """What both nodes dropped since their start, by reason."""
        return dict(Counter(self.alice.status().drops) + Counter(self.bob.status().drops))

    def transfer(self, size: int, *, direction: Direction = "both", streams: int = 1) -> None:
        """Send so many bytes from Alice to Bob and back, and check that each arrives."""
        transfer(self.alice.host, self.bob.host, self.bob.address, size, direction=direction, streams=streams)


@dataclass
class Trio:
    """Alice lets everything in, Bob and Carol nothing, and Carol tells nobody; Alice is connected with both."""

    lab: Lab
    alice: Node
    bob: Node
    carol: Node


@contextmanager
def connected_trio() -> Iterator[Trio]:
    with Lab() as lab:
        hosts = [lab.host(name) for name in ("alice", "bob", "carol")]
        to_bob, to_carol = lab.veth(hosts[0], hosts[1]), lab.veth(hosts[0], hosts[2])
        configs = "", "", '[fc00]\nrefuse = "drop"\n'
        nodes = [Node(host, lab.directory(host.name), config) for host, config in zip(hosts, configs, strict=True)]
        at_once(Node.up, *nodes)
        alice, bob, carol = nodes
        alice.allow(*EVERYTHING)
        alice.connect(bob, to_bob.right)
        alice.connect(carol, to_carol.right)
        yield Trio(lab, alice, bob, carol)


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

    alice, bob = nodes_on(lab, left, right)
    return Pair(lab, alice, bob, left, right, family)


def nodes_on(lab: Lab, *ends: Interface) -> list[Node]:
    """Nodes on the hosts of some interfaces, up, whose firewalls let everything in."""

    def start(end: Interface) -> Node:
        node = Node(end.host, lab.directory(end.host.name))
        node.up(*EVERYTHING)
        return node

    return at_once(start, *ends)


def at_once(work: Callable[[T], R], *items: T) -> list[R]:
    """Do the same with each at the same time."""
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(work, items))
