"""Who a peer is by its addresses, and who an address is: in the network, packets from one come from nobody else."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from weft.errors import DecodeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network, IPv6Network

    from weft.engine.status import PeerStatus


def networks_of(peer: str, known: Iterable[PeerStatus]) -> list[IPv4Network | IPv6Network]:
    """Where a peer's packets come from: its own address, and those that no other peer may use; one at least.

    Args:
        peer: its name, id, key or address.
        known: the peers that there are.

    Raises:
        UsageError: there is no such peer, or it has no such address.
    """
    from weft.identity import PeerId

    for each in known:
        if peer in {each.name, each.id, each.wireguard_public_key, *(part.split("/")[0] for part in each.addresses)}:
            if not (networks := _own_networks(each)):
                raise UsageError(f"{peer} has no address that is its alone, by which it could be known")
            return networks
    try:
        return [ip_network(PeerId.from_text(peer).address)]
    except DecodeError:
        raise UsageError(f"no peer {peer!r}; `weft peer list` shows those that there are") from None


def peer_at(address: str, known: Iterable[PeerStatus]) -> PeerStatus | None:
    """Whose address it is."""
    found = ip_address(address)
    return next((each for each in known if any(found in network for network in _own_networks(each))), None)


def _own_networks(peer: PeerStatus) -> list[IPv4Network | IPv6Network]:
    # A network behind a peer has others in it, who are not the peer.
    networks = [ip_network(address) for address in peer.addresses]
    return [network for network in networks if network.prefixlen == network.max_prefixlen]
