"""Which destinations the host reaches, by the longest prefix.

There is one interface, so a route says only that a network lies behind it, and perhaps from which of our addresses it
is to be spoken to. Networks are kept in one dictionary per prefix length; there are few lengths in a table, so a
look-up is a few dictionary look-ups, whatever the number of routes.

Source: RFC 1812 section 5.2.4.3 (longest match), RFC 6724 section 4 (a route may name its source).
Not done here: next hops, which the peers' allowed addresses are; multicast and broadcast, which need no route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network


class Route(NamedTuple):
    """One network that is reached."""

    network: Network
    source: bytes | None
    """Address that packets to it are sent from, if it is not for the general rules to choose."""


class Routes:
    """The routes of a host; iterate over it to see them."""

    def __init__(self, handle_change: Callable[[], None]) -> None:
        """Begin without routes.

        Args:
            handle_change: is called when a route comes or goes.
        """
        self._by_length: dict[int, dict[int, dict[int, Route]]] = {4: {}, 16: {}}
        """By bytes of an address: by bits after the prefix, smallest first: by the prefix's value."""
        self._handle_change = handle_change

    def __iter__(self) -> Iterator[Route]:
        return iter(
            [route for tables in self._by_length.values() for table in tables.values() for route in table.values()]
        )

    def add(self, network: Network, source: bytes | None = None) -> None:
        """Reach a network; what was known of the same network is replaced.

        Args:
            network: all destinations in it.
            source: the address to send from; it is passed over while it is not ours.
        """
        tables = self._by_length[network.max_prefixlen // 8]
        shift = network.max_prefixlen - network.prefixlen
        if shift not in tables:
            tables[shift] = {}
            for key in sorted(tables):
                tables[key] = tables.pop(key)
        tables[shift][int(network.network_address) >> shift] = Route(network, source)
        self._handle_change()

    def remove(self, network: Network) -> None:
        """Reach a network no more; nothing, if there is no such route."""
        tables = self._by_length[network.max_prefixlen // 8]
        shift = network.max_prefixlen - network.prefixlen
        table = tables.get(shift, {})
        if table.pop(int(network.network_address) >> shift, None) is not None:
            if not table:
                del tables[shift]
            self._handle_change()

    def lookup(self, destination: bytes) -> Route | None:
        """The route with the longest prefix around a destination.

        Args:
            destination: 4 or 16 bytes.
        """
        value = int.from_bytes(destination, "big")
        for shift, table in self._by_length[len(destination)].items():
            route = table.get(value >> shift)
            if route is not None:
                return route
        return None
