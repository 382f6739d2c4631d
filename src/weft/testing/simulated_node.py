"""One node of a simulated network: a host of the stack, and the sockets of `weft.Node` on it.

Not done here: who else there is, and the links between them (`weft.testing.simulated`).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_interface
from random import Random
from typing import TYPE_CHECKING, Final

from weft.api.overlay import Overlay
from weft.api.streams import Streams
from weft.engine.driver import Driver
from weft.engine.resolver import ERRORS, SystemResolver
from weft.errors import UsageError
from weft.identity import PeerId, generate
from weft.stack.dns.names import Names
from weft.stack.host import Host
from weft.testing.way import Crossing

if TYPE_CHECKING:
    from weft.testing.simulated import SimulatedNetwork

PACKETS_IN_A_TURN: Final = 64
"""Of one node, before others get their turn."""


class SimulatedNode(Overlay):
    """A participant of a simulated network; made by `SimulatedNetwork.node`.

    Its sockets are those of `weft.Node`. Peers are known by their names (`bob` or `bob.weft`), ids and addresses, and
    the nodes themselves will do too.

    Attributes:
        name: of the node.
        identity: who it is; the same for the same name in every network.
        host: its TCP/IP stack; `host.drops` counts by reason what it did not take.
    """

    def __init__(self, network: SimulatedNetwork, name: str, addresses: Sequence[str], random: Random) -> None:
        self.name = name
        self.identity = _identity_of(name)
        self.host = Host(random.randbytes)
        # Whoever takes part is reached by all, so one table will do.
        self.host.routes = self.host.ip.routes = network._routes
        for address in (f"{self.address}/128", *addresses):
            try:
                self.host.addresses.add(ip_interface(address))
            except ValueError as error:
                raise UsageError(f"{address} is no address with a prefix length: {error}") from error
        self._network = network
        self._clock = network.clock
        self._driver = Driver(self.host, lambda: self._clock.now, self._transmit)
        self._resolver = _Resolver(Names(network._addresses_of))
        self._sockets: Streams | None = Streams(self._driver, self._resolver.resolve, network._describe)

    @property
    def address(self) -> IPv6Address:
        """Its own in the network, which follows from its key."""
        return IPv6Address(self.identity.address)

    def __repr__(self) -> str:
        return f"<SimulatedNode {self.name}>"

    async def close(self) -> None:
        """Leave the network: what is open is aborted, what was closed before arrives first, for two seconds at most.

        Another node may have the name then. For one that vanishes without a word, cut it off before.
        """
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None
            await self._driver.end()
            self._driver.close()
            self._network._forget(self)

    def _receive(self, crossings: Iterable[Crossing]) -> None:
        now = self._clock.now
        for packet, segment, is_partial in crossings:
            self.host.receive(memoryview(packet), now, segment=segment, is_partial=is_partial)
        self._driver.wake()

    def _transmit(self) -> bool:
        for _ in range(PACKETS_IN_A_TURN):
            outgoing = self.host.next_packet(self._clock.now)
            if outgoing is None:
                return False
            self._network._carry(self, Crossing.of(outgoing))
        return True

    def _end(self) -> None:
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None
        self._driver.close()


class _Resolver(SystemResolver):
    """Knows the nodes of the network; the system is not asked, whose answers no test can foresee."""

    async def _ask(self, host: str, family: int) -> list[bytes]:
        raise socket.gaierror(*ERRORS["NXDOMAIN"])


@lru_cache(maxsize=4096)
def _identity_of(name: str) -> PeerId:
    """A key takes some time to find, so a node has that of its name."""
    return generate(Random(name).randbytes).peer_id
