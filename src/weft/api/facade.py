"""What the HTTP API asks of a running node.

The engine has this shape; tests put a fake in its place, and nothing above floor 3 knows more of the engine than this.
The verbs stand in groups, as the paths of the API and the commands do. They run on one event loop and raise
`weft.errors.WeftError`, `TimeoutError` where the other side stayed silent, and `PermissionError` where the system
refused; the API turns each into one problem document.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Protocol

from weft.engine.change import Change
from weft.engine.device import Device, DeviceChange, DeviceConfig, PeerSettings
from weft.engine.listeners import ListenerList, TransportList
from weft.engine.metric import Family, Histogram
from weft.engine.observed import Captured, Packet, Trace
from weft.engine.settings import ConfigStatus, Reloaded
from weft.engine.status import (
    DeviceKind,
    Event,
    EventKind,
    Info,
    Interface,
    LogLevel,
    LogLine,
    LogList,
    PeerList,
    PeerStatus,
    Pong,
    Ports,
    Status,
    TaskStatus,
)

if TYPE_CHECKING:
    from weft.engine.driver import Driver


class Peers(Protocol):
    """Whom the node talks to. A peer is named by id, name, address or public key."""

    def list(self) -> PeerList:
        """All peers."""

    async def connect(self, target: str, timeout_s: float = 10.0, *, name: str | None = None) -> PeerStatus:
        """Call a weft node at its multiaddr, or a peer at its known endpoints, and return when its tunnel is up."""

    async def disconnect(self, peer: str) -> None:
        """End the tunnel to a peer, and leave the next one to it."""

    async def persist(self, peer: str) -> PeerStatus:
        """Call a peer now, at each start, and whenever it is missed."""

    async def set(self, peer: str, change: Change, *, take: bool = False) -> PeerStatus:
        """Change what is settled about a peer, all of it or nothing; `take` takes prefixes from others."""

    async def remove(self, peer: str) -> None:
        """Forget a peer."""

    async def block(self, peer: str) -> PeerStatus:
        """Never answer and never call a peer again."""

    async def unblock(self, peer: str) -> PeerStatus:
        """Let a peer that was blocked call again."""

    async def add(self, peer: str, endpoints: builtins.list[str], *, name: str | None = None) -> PeerStatus:
        """Want a weft node, by its multiaddr or its id, and call it, without waiting for it."""

    async def add_wireguard(
        self,
        public_key: str,
        *,
        name: str | None = None,
        allowed_ips: builtins.list[str],
        endpoint: str | None = None,
        preshared_key: str | None = None,
        keepalive_s: int | None = None,
        take: bool = False,
    ) -> PeerStatus:
        """Take a stock WireGuard device as a peer; `take` takes prefixes from others."""

    async def ping(self, peer: str, *, timeout_s: float = 5.0, size: int | None = None) -> Pong:
        """Send one probe to a peer and wait for its answer."""


class Fc00(Protocol):
    """The interface of fc00::/8 and the firewall in front of it."""

    async def start(
        self,
        ifname: str | None = None,
        *,
        existing: bool = False,
        socket: str | None = None,
        device: DeviceKind | None = None,
    ) -> Interface:
        """Make the interface, and return when packets can use it."""

    async def stop(self) -> None:
        """Remove the interface."""

    def status(self) -> Interface:
        """The interface as it is."""

    async def allow(self, rules: list[str]) -> Ports:
        """Let these in from the overlay."""

    async def deny(self, rules: list[str]) -> Ports:
        """Take rules back."""

    def ports(self) -> Ports:
        """What the firewall lets in."""


class Names(Protocol):
    """What names lead to."""

    async def resolve(self, name: str, family: int) -> builtins.list[bytes]:
        """The addresses of a host, 4 or 16 bytes each, at least one; raises `socket.gaierror`."""


class Tasks(Protocol):
    """What runs inside the node."""

    def list(self) -> builtins.list[TaskStatus]:
        """All tasks."""

    async def restart(self, name: str) -> TaskStatus:
        """Stop one task and let it start anew."""


class Logs(Protocol):
    """What the node logged."""

    def list(self, lines: int, level: LogLevel) -> LogList:
        """The last lines, of that level and above."""

    def follow(self, lines: int, level: LogLevel) -> AsyncIterator[LogLine]:
        """The same, and then those that come, until the iterator is closed."""


class Wireguard(Protocol):
    """The node, as WireGuard's own tools see it."""

    def device(self) -> Device:
        """All that `wg` shows, the private key too; not for the HTTP API."""

    async def change(self, change: DeviceChange) -> None:
        """Do what `wg` asks, all of it or nothing."""

    async def add(
        self, devices: builtins.list[PeerSettings], addresses: builtins.list[str]
    ) -> builtins.list[PeerStatus]:
        """Take stock devices as peers, all or none, and more addresses for the node."""

    def config(self, peer: str | None) -> DeviceConfig:
        """What a stock device must be told; None for one that is to become a peer."""


class Settings(Protocol):
    """The configuration of the node."""

    def show(self) -> ConfigStatus:
        """What counts, key by key."""

    async def reload(self) -> Reloaded:
        """Read weft.toml anew: all of it counts, or nothing."""

    async def set(self, key: str, value: object) -> Reloaded:
        """Change one key, in weft.toml and at once; None gives it its default."""


class Listeners(Protocol):
    """Where the node listens."""

    def list(self) -> ListenerList:
        """All that are configured, and what became of each."""

    async def start(self, multiaddr: str) -> ListenerList:
        """Listen on one more address, from now on and after a new start."""

    async def stop(self, multiaddr: str) -> ListenerList:
        """Listen on an address no longer."""


class Transports(Protocol):
    """What carries the tunnels."""

    def list(self) -> TransportList:
        """All that this version has."""

    async def enable(self, name: str) -> TransportList:
        """Open the listeners of a transport, from now on and after a new start."""

    async def disable(self, name: str) -> TransportList:
        """Close the listeners of a transport."""


class Packets(Protocol):
    """The packets of a node."""

    def trace_in(self, packet: Packet, peer: str) -> Trace:
        """What would become of a packet that a peer sends."""

    def trace_out(self, packet: Packet) -> Trace:
        """What would become of a packet that a program here sends."""

    def capture(self, *, peer: str | None, snap: int, dropped: bool) -> AsyncIterator[Captured]:
        """Those that pass from now on, until the iterator is closed."""


class Facade(Protocol):
    """A node, group by group."""

    @property
    def peers(self) -> Peers:
        """Whom it talks to."""

    @property
    def fc00(self) -> Fc00:
        """Its interface and firewall."""

    @property
    def names(self) -> Names:
        """What they lead to."""

    @property
    def packets(self) -> Packets:
        """What passes, and what would."""

    @property
    def tasks(self) -> Tasks:
        """What runs inside it."""

    @property
    def settings(self) -> Settings:
        """Its configuration."""

    @property
    def listeners(self) -> Listeners:
        """Where it listens."""

    @property
    def transports(self) -> Transports:
        """What carries its tunnels."""

    @property
    def wireguard(self) -> Wireguard:
        """It, as `wg` sees it."""

    @property
    def logs(self) -> Logs:
        """What it logged."""

    @property
    def driver(self) -> Driver | None:
        """Of the host inside this node; None while its interface is none, or a TUN."""

    def info(self) -> Info:
        """Who this node is and where it can be reached."""

    def status(self) -> Status:
        """Everything at one glance."""

    def events(self, kinds: frozenset[EventKind] = frozenset()) -> AsyncIterator[Event]:
        """What happens from now on, until the iterator is closed; only of some kinds, or all."""

    def metrics(self) -> Iterator[Family | Histogram]:
        """What can be measured, metric by metric; others may run between two of them."""

    def request_stop(self) -> None:
        """Ask the node to end; returns at once."""
