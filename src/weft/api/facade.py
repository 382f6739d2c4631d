"""What the HTTP API asks of a running node.

The engine has this shape; tests put a fake in its place, and nothing above floor 3 knows more of the engine than this.
"""

from __future__ import annotations

from typing import Protocol

from weft.engine.status import Info, Interface, PeerList, PeerStatus, Pong, Ports, Status, TaskStatus


class Facade(Protocol):
    """The verbs of a node, all on one event loop.

    They raise `weft.errors.WeftError`, `TimeoutError` where the other side stayed silent, and `PermissionError` where
    the system refused; the API turns each into one problem document.
    """

    def info(self) -> Info:
        """Who this node is and where it can be reached."""

    def status(self) -> Status:
        """Everything at one glance."""

    def peers(self) -> PeerList:
        """All peers."""

    async def connect(self, multiaddr: str, timeout_s: float = 10.0) -> PeerStatus:
        """Call a weft node and return when its tunnel is up."""

    async def disconnect(self, peer: str) -> None:
        """Forget a peer, named by id, name, address or public key."""

    async def add_wireguard(
        self,
        public_key: str,
        *,
        name: str,
        allowed_ips: list[str],
        endpoint: str | None,
        preshared_key: str | None,
        keepalive_s: float | None = None,
    ) -> PeerStatus:
        """Take a stock WireGuard device as a peer."""

    async def ping(self, peer: str, *, timeout_s: float = 5.0, size: int | None = None) -> Pong:
        """Send one probe to a peer and wait for its answer."""

    async def fc00_start(self, ifname: str | None = None) -> Interface:
        """Make the fc00::/8 interface, and return when packets can use it."""

    async def fc00_stop(self) -> None:
        """Remove the interface."""

    def fc00_status(self) -> Interface:
        """The interface as it is."""

    async def fc00_allow(self, rules: list[str]) -> Ports:
        """Let these in from the overlay."""

    async def fc00_deny(self, rules: list[str]) -> Ports:
        """Take rules back."""

    def fc00_ports(self) -> Ports:
        """What the firewall lets in."""

    def tasks(self) -> list[TaskStatus]:
        """The tasks of the node."""

    async def restart_task(self, name: str) -> TaskStatus:
        """Stop one task and let it start anew."""

    def request_stop(self) -> None:
        """Ask the node to end; returns at once."""
