"""The addresses of the host, and which of them a packet is sent from.

The source is chosen by these rules, the first that tells two addresses apart decides (RFC 6724 section 5, by its
numbers; those left out need more than one interface, or addresses that age):

    1   the destination itself, if it is ours
    2   the scope: the smallest that reaches the destination, or else the largest
    8   the longest prefix in common with the destination, counted up to the source's own prefix length
        the one that was added first

IPv4 is treated alike; its link-local and loopback addresses have link-local scope (RFC 6724 section 3.2).

Loopback (127/8 and ::1) always belongs to the host and is in no list.

Source: RFC 6724; RFC 1122 section 3.2.1.3; RFC 4291 section 2.7 (scopes).
Not done here: labels (rule 6), which tell apart what the common prefix tells apart too; where a destination is reached
(`routes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final, TypeAlias

from weft.errors import UsageError
from weft.packet.ip import is_one_host

Interface: TypeAlias = IPv4Interface | IPv6Interface

LOOPBACK_V4: Final = bytes((127, 0, 0, 1))
LOOPBACK_V6: Final = bytes(15) + b"\1"
LIMITED_BROADCAST: Final = b"\xff" * 4
ANY_V4: Final = bytes(4)
ANY_V6: Final = bytes(16)

_LINK_LOCAL, _SITE_LOCAL, _GLOBAL = 0x2, 0x5, 0xE


class Addresses:
    """What belongs to this host.

    Attributes:
        own: all addresses but loopback, 4 or 16 bytes; for the fast path, which must not change it.
        broadcasts: directed broadcast addresses of our IPv4 networks, and the limited one.
    """

    def __init__(self, handle_change: Callable[[], None]) -> None:
        """Begin without addresses.

        Args:
            handle_change: is called when an address comes or goes.
        """
        self.own: set[bytes] = set()
        self.broadcasts: set[bytes] = {LIMITED_BROADCAST}
        self._interfaces: dict[bytes, Interface] = {}
        self._handle_change = handle_change

    def __iter__(self) -> Iterator[Interface]:
        return iter(list(self._interfaces.values()))

    def add(self, interface: Interface) -> None:
        """Give the host an address; the network around it is reached without a route.

        Args:
            interface: address and prefix length, as `ip_interface("10.7.0.2/24")`.

        Raises:
            UsageError: it is not the address of one host.
        """
        address = interface.ip.packed
        if not is_one_host(address) or address == LOOPBACK_V6:
            raise UsageError(f"{interface.ip} can't be the address of a host")
        self._interfaces[address] = interface
        self._handle_changed()

    def remove(self, interface: Interface) -> None:
        """Take an address away; nothing, if the host does not have it."""
        if self._interfaces.pop(interface.ip.packed, None) is not None:
            self._handle_changed()

    def is_local(self, address: bytes) -> bool:
        """Whether packets to an address stay in this host."""
        return address in self.own or is_loopback(address)

    def is_many(self, address: bytes) -> bool:
        """Whether an address is multicast, or broadcast as far as the networks of this host tell."""
        return is_multicast(address) or address in self.broadcasts

    def is_on_link(self, destination: bytes) -> bool:
        """Whether a destination is in a network of one of our addresses."""
        return any(
            len(own) == len(destination) and _common_bits(own, destination) >= interface.network.prefixlen
            for own, interface in self._interfaces.items()
        )

    def choose(self, destination: bytes) -> bytes | None:
        """The address that a packet to a destination is sent from; None without one of that IP version.

        Args:
            destination: 4 or 16 bytes, no address of loopback.
        """
        candidates = [own for own in self._interfaces if len(own) == len(destination)]
        return max(candidates, key=lambda own: self._merit(own, destination), default=None)

    def _merit(self, source: bytes, destination: bytes) -> tuple[bool, bool, int, int]:
        scope = _scope(source)
        is_enough = scope >= _scope(destination)
        common = min(_common_bits(source, destination), self._interfaces[source].network.prefixlen)
        return source == destination, is_enough, -scope if is_enough else scope, common

    def _handle_changed(self) -> None:
        self.own.clear()
        self.own.update(self._interfaces)
        self.broadcasts.clear()
        self.broadcasts.add(LIMITED_BROADCAST)
        self.broadcasts.update(
            interface.network.broadcast_address.packed
            for interface in self._interfaces.values()
            if interface.version == 4 and interface.network.prefixlen < 31
        )
        self._handle_change()


def is_loopback(address: bytes) -> bool:
    """Whether an address is 127/8 or ::1."""
    return address[0] == 127 if len(address) == 4 else address == LOOPBACK_V6


def is_multicast(address: bytes) -> bool:
    """Whether an address is 224/4 or ff00::/8."""
    return address[0] >> 4 == 0xE if len(address) == 4 else address[0] == 0xFF


def is_any(address: bytes) -> bool:
    """Whether an address is unspecified: all zero."""
    return not any(address)


def _scope(address: bytes) -> int:
    """How far an address reaches, as the scope field of IPv6 multicast counts it."""
    if len(address) == 4:
        return _LINK_LOCAL if address[0] == 127 or address[:2] == b"\xa9\xfe" else _GLOBAL
    if address[0] == 0xFF:
        return address[1] & 0xF
    if address[0] == 0xFE and address[1] >= 0x80:
        return _LINK_LOCAL if address[1] < 0xC0 else _SITE_LOCAL
    return _LINK_LOCAL if address == LOOPBACK_V6 else _GLOBAL


def _common_bits(one: bytes, other: bytes) -> int:
    """The length of the prefix that two addresses of one version share."""
    differing = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return len(one) * 8 - differing.bit_length()
