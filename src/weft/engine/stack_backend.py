"""The sockets of the host inside a node, as whoever serves programs sees them; see io/backend.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.io.backend import Connection, Counts, Datagrams, Listener, Ping

if TYPE_CHECKING:
    from weft.engine.driver import Driver
    from weft.stack.endpoint import Endpoint


class StackBackend:
    """The host inside a node.

    Args:
        driver: of the host.
    """

    def __init__(self, driver: Driver) -> None:
        self.users = driver.users
        self.clock = driver.clock
        self.wake = driver.wake
        self.run = driver.run
        self._host = driver.host

    def is_own(self, address: bytes) -> bool:
        """Whether an address is one of the host."""
        return self._host.addresses.is_local(address)

    def connect(self, remote: Endpoint, local: Endpoint | None) -> Connection:
        """Begin a connection."""
        return self._host.tcp.connect(remote, self.clock(), local=local)

    def listen(self, local: Endpoint, backlog: int) -> Listener:
        """Take connections."""
        return self._host.tcp.listen(local, backlog=backlog)

    def open_udp(self, local: Endpoint | None, remote: Endpoint | None) -> Datagrams:
        """Open a UDP socket."""
        return self._host.udp.open(local, remote)

    def ping(self, destination: bytes, timeout_s: float) -> Ping:
        """Send an echo request."""
        return self._host.icmp.ping(destination, self.clock(), timeout_s=timeout_s)

    def counts(self) -> Counts:
        """What is counted now."""
        host = self._host
        return Counts(
            sent_packets=host.sent_packets,
            received_packets=host.received_packets,
            sent_bytes=host.sent_bytes,
            received_bytes=host.received_bytes,
            drops=host.drops.total(),
            connections=len(host.tcp.connections),
            listeners=len(host.tcp.listeners),
            datagrams=len(host.udp.sockets),
        )
