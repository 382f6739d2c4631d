"""How a record becomes a peer, with all its machines.

Not done here: who is one (contacts.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network

from weft.burst.header import MAX_TOTAL_BYTES
from weft.burst.join import Budget, Joiner
from weft.burst.size import LossMeter
from weft.engine.endpoints import Endpoints
from weft.engine.peer import Network, Peer
from weft.identity import Identity, address_of, decode_wireguard_key
from weft.io.store import StoredPeer
from weft.mesh.notices import Hello, Notices
from weft.mesh.probe import Prober
from weft.multiaddr import decode_multiaddr
from weft.noise.keypair import KeypairTable
from weft.noise.primitives import KEY_BYTES, StaticKey
from weft.noise.tunnel import Tunnel
from weft.paths.path import Path

BOOT_BYTES = 8
SECOND_NS = 1_000_000_000


@dataclass(kw_only=True)
class Terms:
    """What all peers of a node are made with; a change of the configuration changes it."""

    identity: Identity
    static: StaticKey
    network_psk: bytes = field(repr=False)
    """Of the shared network secret; zeros without one."""
    keepalive_ns: int
    mtu: int
    """Of the fc00 interface."""
    accepts_unknown: bool
    fixed_pieces: int | None
    random_bytes: Callable[[int], bytes]
    clock: Callable[[], int]
    """Monotonic ns."""
    wall_clock: Callable[[], int]
    """Ns since 1970."""


class Maker:
    """Makes peers, and settles what may change of them later.

    Args:
        terms: what all of them are made with.
        table: the indices of the node.
        drops: of the node.
    """

    def __init__(self, terms: Terms, table: KeypairTable, drops: Counter[str]) -> None:
        self._terms = terms
        self._table = table
        self._drops = drops
        self._budget = Budget()

    def make(self, key: bytes, record: StoredPeer, timestamp_floor: bytes, capabilities: frozenset[str]) -> Peer:
        """Make a peer; `settle` does the rest.

        Args:
            key: X25519, 32 bytes.
            record: of the peer.
            timestamp_floor: at least the last TAI64N that was ever sent to it, 12 bytes.
            capabilities: of this node.

        Raises:
            UsageError: the key is of small order.
        """
        terms, is_weft = self._terms, record.kind == "weft"
        tunnel = Tunnel(
            terms.static, key, table=self._table, random_bytes=terms.random_bytes, timestamp_floor=timestamp_floor
        )
        meter = LossMeter()
        notices = prober = None
        if is_weft:
            hello = Hello(terms.identity.peer_id.public_key, MAX_TOTAL_BYTES, terms.mtu, capabilities)
            # Not of the process: what a peer remembers of us is void when we have forgotten what it said.
            notices = Notices(terms.random_bytes(BOOT_BYTES), hello, self._drops)
            prober = Prober(terms.identity, terms.random_bytes, self._drops)
        return Peer(
            tunnel,
            Path(can_probe=is_weft, fixed_pieces=terms.fixed_pieces),
            Joiner(self._budget, meter, self._drops),
            meter,
            notices=notices,
            prober=prober,
            allowed=networks_of(key, record),
            peer_id=record.peer_id,
            standing=record.standing,
        )

    def settle(self, peer: Peer, record: StoredPeer) -> None:
        """Give a peer the endpoints, the keepalive and the preshared key of its record."""
        endpoints = Endpoints(map(decode_multiaddr, record.endpoints), map(decode_multiaddr, record.configured))
        if (endpoints.known, endpoints.configured) != (peer.endpoints.known, peer.endpoints.configured):
            peer.endpoints = endpoints
        peer.keepalive_s = record.keepalive_s
        default_ns = self._terms.keepalive_ns if peer.is_weft else 0
        peer.tunnel.set_persistent_keepalive(
            default_ns if record.keepalive_s is None else record.keepalive_s * SECOND_NS
        )
        peer.preshared_key = decode_wireguard_key(record.psk) if record.psk else None
        peer.tunnel.set_preshared_key(
            self._terms.network_psk if peer.is_weft else peer.preshared_key or bytes(KEY_BYTES)
        )


def networks_of(key: bytes, record: StoredPeer) -> tuple[Network, ...]:
    """All that the peer of a record has, each once; the own address of a weft node first."""
    own = [ip_network(address_of(key))] if record.kind == "weft" else []
    return tuple(dict.fromkeys([*own, *map(ip_network, record.allowed_ips)]))
