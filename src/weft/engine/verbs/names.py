"""Names to addresses, for programs that use a daemon: netd, and the API for programs that are attached.

| what the node does not know by itself     | is asked                                                |
|-------------------------------------------|---------------------------------------------------------|
| without `fc00.dns`                        | of the operating system, a few things at once           |
| with it                                   | of these servers in the network, and of nobody else     |
| with it, while there is no interface      | of nobody; it can't be told now                         |
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Final

from weft.engine.lifetime import Lifetime
from weft.engine.resolver import ERRORS, ServerResolver, SystemResolver
from weft.io.backend import Backend
from weft.stack.dns.names import Names as KnownNames
from weft.stack.endpoint import Endpoint

DNS_PORT: Final = 53
QUESTIONS_AT_ONCE: Final = 3
"""That the system is asked, which each keep one of the few threads that the daemon has for all that is slow."""


class Names:
    """What names lead to.

    Args:
        life: of the node.
        addresses_of: gives the addresses of the peer that is called so.
    """

    def __init__(self, life: Lifetime, addresses_of: Callable[[str], Iterable[bytes]]) -> None:
        self._life = life
        self._known = KnownNames(addresses_of)
        self._resolver: SystemResolver | None = None
        self._made_for: tuple[tuple[str, ...], Backend | None] = ((), None)

    @property
    def servers(self) -> tuple[str, ...]:
        """Whose servers are asked, as `fc00.dns` says."""
        return self._life.config.fc00.dns

    async def resolve(self, name: str, family: int = socket.AF_UNSPEC) -> list[bytes]:
        """Find the addresses of a host.

        Args:
            name: an address, a name, or a peer id.
            family: AF_INET, AF_INET6, or AF_UNSPEC for both.

        Returns:
            4 or 16 bytes each, at least one, the best first.

        Raises:
            socket.gaierror: there is none, or it can't be told now.
        """
        return await self._current().resolve(name, family)

    def _current(self) -> SystemResolver:
        """Who is asked as things are now."""
        interface, servers = self._life.interface, self.servers
        wanted = servers, interface.backend if servers and interface is not None else None
        if self._resolver is None or wanted != self._made_for:
            if self._resolver is not None:
                self._resolver.close()
            self._resolver, self._made_for = self._made(*wanted), wanted
        return self._resolver

    def _made(self, servers: tuple[str, ...], backend: Backend | None) -> SystemResolver:
        if not servers:
            return _FewAtOnce(self._known)
        if backend is None:
            return _Nobody(self._known)
        endpoints = [Endpoint(ip_address(server).packed, DNS_PORT) for server in servers]
        return ServerResolver(self._known, endpoints, backend)


class _FewAtOnce(SystemResolver):
    """What the node knows by itself does not wait."""

    def __init__(self, names: KnownNames) -> None:
        super().__init__(names)
        self._turns = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    async def _ask(self, host: str, family: int) -> list[bytes]:
        async with self._turns:
            return await super()._ask(host, family)


class _Nobody(SystemResolver):
    """Knows what the node knows by itself."""

    async def _ask(self, host: str, family: int) -> list[bytes]:
        raise socket.gaierror(*ERRORS["TIMEOUT"])
