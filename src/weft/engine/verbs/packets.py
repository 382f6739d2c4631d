"""The packets of the overlay: what would become of one, and those that pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import IPv6Address

from weft.engine.lifetime import Lifetime
from weft.engine.observed import Captured, Packet, Trace
from weft.engine.trace import Tracer
from weft.io.clock import monotonic_ns


class Packets:
    """The packets of a node."""

    def __init__(self, life: Lifetime) -> None:
        self._life = life

    def trace_in(self, packet: Packet, peer: str) -> Trace:
        """What would become of a packet that a peer sends; see `Tracer.trace_in`."""
        return self._tracer().trace_in(packet, peer)

    def trace_out(self, packet: Packet) -> Trace:
        """What would become of a packet that a program here sends; see `Tracer.trace_out`."""
        return self._tracer().trace_out(packet)

    def capture(self, *, peer: str | None, snap: int, dropped: bool) -> AsyncIterator[Captured]:
        """All packets from now on; see `Captures.listen`.

        Args:
            peer: only those of this one; None is all.
            snap: bytes of each packet that are kept.
            dropped: whether those that do not pass are told too.

        Raises:
            UsageError: there is no such peer.
        """
        found = self._life.running.contacts.find(peer) if peer is not None else None
        return self._life.captures.listen(peer=found, snap=snap, dropped=dropped)

    def _tracer(self) -> Tracer:
        life = self._life
        interface = life.interface
        driver = interface.driver if interface is not None else None
        firewall = interface.firewall if interface is not None else None
        own = [IPv6Address(life.identity.address), *(each.ip for each in life.config.fc00.interface_addresses)]
        return Tracer(
            life.running.contacts,
            firewall or life.firewall,
            own,
            has_interface=interface is not None,
            host=driver.host if driver is not None else None,
            now=monotonic_ns(),
        )
