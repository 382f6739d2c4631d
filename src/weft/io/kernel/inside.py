"""What lies in the network: this node's addresses and those of its peers, and nothing else that the machine reaches.

| address                                         | inside                               |
|-------------------------------------------------|--------------------------------------|
| of loopback, of one link, of a group, or none   | never, whatever network a peer has   |
| of this node in the network                     | yes                                  |
| in a network that a peer has                    | yes                                  |
| any other                                       | no                                   |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address

from weft.noise.allowed import AllowedSources
from weft.stack.failure import Failure, StackError

Own = Callable[[], Sequence[IPv4Interface | IPv6Interface]]
"""The addresses of this node in the network, as they are now, each with its prefix; its own one first."""
Networks = Callable[[], Set[IPv4Network | IPv6Network]]
"""Those of peers, as they are now: another set whenever they are others."""


def is_of_machines(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address can be that of one machine in a network: not of loopback, of one link, of a group, or none."""
    return not (address.is_loopback or address.is_unspecified or address.is_link_local or address.is_multicast)


class Inside:
    """The boundary of one network.

    Args:
        own: addresses of this node.
        networks: of its peers.
    """

    def __init__(self, own: Own, networks: Networks) -> None:
        self._own = own
        self._networks = networks
        self._seen: Sequence[IPv4Interface | IPv6Interface] = ()
        self._here: dict[bytes, IPv4Interface | IPv6Interface] = {}
        self._indexed: Set[IPv4Network | IPv6Network] = frozenset()
        self._index = AllowedSources[bool]()

    def is_own(self, address: bytes) -> bool:
        """Whether an address, 4 or 16 bytes, is one of this node."""
        return address in self._own_now()

    def has(self, address: bytes) -> bool:
        """Whether an address, 4 or 16 bytes, is inside."""
        if self.is_own(address):
            return True
        networks = self._networks()
        if networks is not self._indexed:
            self._index = AllowedSources[bool]()
            for network in networks:
                self._index.insert(network, peer=True)
            self._indexed = networks
        return self._index.lookup(address) is not None and is_of_machines(ip_address(address))

    def own_for(self, local: bytes) -> list[bytes]:
        """Where to receive.

        Args:
            local: an address of this node; zeros of IPv6 for all, of IPv4 for all of that family.

        Returns:
            At least one.

        Raises:
            StackError: NOT_OURS.
        """
        own = list(self._own_now())
        if any(local):
            own = [each for each in own if each == local]
        elif len(local) == 4:
            own = [each for each in own if len(each) == 4]
        if not own:
            raise StackError(Failure.NOT_OURS)
        return own

    def source_for(self, remote: bytes) -> bytes:
        """From where to talk to an address: itself if it is ours, else of the network that both are in, else the first.

        Raises:
            StackError: NO_ROUTE, it is not inside, or this node has no address of that family.
        """
        own = self._own_now()
        if remote in own:
            return remote
        sources = [address for address in own if len(address) == len(remote)]
        if not sources or not self.has(remote):
            raise StackError(Failure.NO_ROUTE)
        if len(sources) > 1:
            there = ip_address(remote)
            return next((address for address in sources if there in own[address].network), sources[0])
        return sources[0]

    def _own_now(self) -> dict[bytes, IPv4Interface | IPv6Interface]:
        own = self._own()
        if own != self._seen:
            self._here = {each.ip.packed: each for each in own}
            self._seen = own
        return self._here
