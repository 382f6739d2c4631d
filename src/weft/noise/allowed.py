"""Allowed sources: which peer owns which addresses, for both directions of cryptokey routing.

Out, a destination's longest matching network says to which peer a packet goes; in, its source's says from which peer
alone it may come. Networks are kept in one dictionary per prefix length; there are few lengths in a table, so a look-up
is a few dictionary look-ups, whatever the number of peers.

Rules of the file: a network belongs to one peer; giving it to another takes it from the first, as `wg` does. What is
reserved belongs to nobody, but longer networks inside it may. What was found lately is found again by the address
itself, until any network changes.

Source: the WireGuard paper, section 2.
"""

from __future__ import annotations

from collections.abc import Hashable
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Generic, TypeVar

P = TypeVar("P", bound=Hashable)

ADDRESSES_KEPT: Final = 1024

_Table = dict[int, dict[int, tuple[IPv4Network | IPv6Network, P | None]]]


class AllowedSources(Generic[P]):
    """A map from networks to peers, by longest prefix; `P` is whatever stands for a peer."""

    def __init__(self) -> None:
        self._by_length: dict[int, _Table[P]] = {4: {}, 16: {}}
        """By bytes of an address: by bits after the prefix, smallest first: by the prefix's value."""
        self._found: dict[bytes, P | None] = {}
        """What `lookup` said of addresses since the last change."""

    def reserve(self, network: IPv4Network | IPv6Network) -> None:
        """Give a network to nobody: shorter ones around it don't count for it."""
        self._put(network, None)

    def insert(self, network: IPv4Network | IPv6Network, peer: P) -> None:
        """Give a network to a peer, and take it from whoever had it."""
        self._put(network, peer)

    def _put(self, network: IPv4Network | IPv6Network, peer: P | None) -> None:
        tables = self._by_length[network.max_prefixlen // 8]
        shift = network.max_prefixlen - network.prefixlen
        if shift not in tables:
            tables[shift] = {}
            for key in sorted(tables):
                tables[key] = tables.pop(key)
        tables[shift][int(network.network_address) >> shift] = (network, peer)
        self._found.clear()

    def remove(self, network: IPv4Network | IPv6Network) -> None:
        """Take a network from whoever has it."""
        tables = self._by_length[network.max_prefixlen // 8]
        shift = network.max_prefixlen - network.prefixlen
        table = tables.get(shift, {})
        table.pop(int(network.network_address) >> shift, None)
        if not table:
            tables.pop(shift, None)
        self._found.clear()

    def owner_of(self, network: IPv4Network | IPv6Network) -> P | None:
        """The peer that has exactly this network."""
        shift = network.max_prefixlen - network.prefixlen
        found = self._by_length[network.max_prefixlen // 8].get(shift, {}).get(int(network.network_address) >> shift)
        return None if found is None else found[1]

    def network_around(self, address: bytes) -> IPv4Network | IPv6Network | None:
        """The longest network around an address, of a peer or reserved.

        Args:
            address: 4 or 16 bytes.
        """
        value = int.from_bytes(address, "big")
        tables = self._by_length[len(address)]
        return next((table[value >> shift][0] for shift, table in tables.items() if value >> shift in table), None)

    def lookup(self, address: bytes | memoryview) -> P | None:
        """The peer with the longest network around an address.

        Args:
            address: 4 or 16 bytes, as in the IP header.
        """
        key = bytes(address)
        try:
            return self._found[key]
        except KeyError:
            peer = self._look_up(key)
        if len(self._found) == ADDRESSES_KEPT:
            self._found.clear()
        self._found[key] = peer
        return peer

    def _look_up(self, address: bytes) -> P | None:
        value = int.from_bytes(address, "big")
        for shift, table in self._by_length[len(address)].items():
            found = table.get(value >> shift)
            if found is not None:
                return found[1]
        return None
