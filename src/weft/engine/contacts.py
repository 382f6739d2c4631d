"""Who the peers of a node are: made from what is stored, from a command, or from a handshake of somebody unknown.

A weft peer is its Noise key; its address is a hash of that key, and its peer id comes from the multiaddr that was
dialled or from its first notice. A stock WireGuard device has the networks that it was given.

Strangers, whom nobody asked for, are bounded in number: the oldest that has no session makes room.

Source: wire.md sections 1 and 3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network

from weft.burst.header import MAX_TOTAL_BYTES
from weft.burst.join import Budget, Joiner
from weft.burst.size import LossMeter
from weft.engine.peer import Network, Peer
from weft.errors import UsageError
from weft.identity import Identity, PeerId, address_of, encode_wireguard_key, is_usable_address
from weft.io.store import StoredPeer
from weft.mesh.notices import Hello, Notices
from weft.mesh.probe import Prober
from weft.noise.allowed import AllowedSources
from weft.noise.keypair import KeypairTable
from weft.noise.primitives import StaticKey
from weft.noise.tunnel import Tunnel
from weft.paths.path import Path

MAX_STRANGERS = 1024
BOOT_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What all peers of a node are made with."""

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


class Contacts:
    """The peers of a session, by everything that finds them.

    Attributes:
        by_tunnel: for the fast path.
        routes: which peer has which address.
        timestamp_floor: the highest TAI64N that was ever sent, as far as the store and the peers that went know.
    """

    def __init__(
        self,
        terms: Terms,
        table: KeypairTable,
        drops: Counter[str],
        timestamp_floor: bytes,
        when_removed: Callable[[Peer], None],
    ) -> None:
        self._terms = terms
        self._when_removed = when_removed
        self._table = table
        self._drops = drops
        self._budget = Budget()
        self._by_key: dict[bytes, Peer] = {}
        self.by_tunnel: dict[Tunnel, Peer] = {}
        self.routes: AllowedSources[Peer] = AllowedSources()
        self.timestamp_floor = timestamp_floor
        self.capabilities: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._by_key.values()))

    def __len__(self) -> int:
        return len(self._by_key)

    def by_key(self, noise_public_key: bytes) -> Peer | None:
        """The peer with that X25519 key."""
        return self._by_key.get(noise_public_key)

    def find(self, text: str) -> Peer:
        """The peer that a person means.

        Args:
            text: a name, a peer id, an address, or a WireGuard key in base64.

        Raises:
            UsageError: nobody has it.
        """
        for peer in self._by_key.values():
            names = {peer.name, encode_wireguard_key(peer.tunnel.peer_public)}
            if text in names or (peer.peer_id is not None and text == str(peer.peer_id)):
                return peer
            if text in {str(network.network_address) for network in peer.allowed if network.num_addresses == 1}:
                return peer
        try:
            address = IPv6Address(text).packed
        except ValueError:
            address = b""
        found = self.routes.lookup(address) if address else None
        if found is None:
            raise UsageError(f"no peer {text!r}; `weft peer list` shows those that there are")
        return found

    def add_weft(self, noise_public_key: bytes, peer_id: PeerId | None, *, is_wanted: bool) -> Peer:
        """Make the peer of a weft node, or complete the one that is there.

        Raises:
            UsageError: the key is our own, belongs to a stock device, or has no usable address.
        """
        peer = self._by_key.get(noise_public_key)
        if peer is None:
            address = address_of(noise_public_key)
            if noise_public_key == self._terms.static.public:
                raise UsageError("that is this node itself")
            if not is_usable_address(address):
                raise UsageError(
                    "the key has no address in fc00::/8; a stock device is added with `peer add-wireguard`"
                )
            peer = self._make(
                noise_public_key, self._terms.network_psk, self._terms.keepalive_ns, (ip_network(address),), weft=True
            )
        elif not peer.is_weft:
            raise UsageError("that key belongs to a WireGuard device; disconnect it first")
        peer.peer_id = peer.peer_id or peer_id
        peer.is_wanted = peer.is_wanted or is_wanted
        return peer

    def add_wireguard(
        self, noise_public_key: bytes, name: str | None, allowed: tuple[Network, ...], psk: bytes, keepalive_ns: int
    ) -> Peer:
        """Make the peer of a stock device, in the place of one with the same key.

        Raises:
            UsageError: the key is our own or a weft peer's, or a network belongs to somebody else.
        """
        if noise_public_key == self._terms.static.public:
            raise UsageError("that is this node itself")
        old = self._by_key.get(noise_public_key)
        if old is not None and old.is_weft:
            raise UsageError("that key belongs to a weft peer; disconnect it first")
        for peer in self._by_key.values():
            if peer is not old and name is not None and peer.name == name:
                raise UsageError(f"another peer is called {name!r}")
            if peer is not old and set(peer.allowed) & set(allowed):
                raise UsageError(f"{peer.name or 'another peer'} has the same allowed addresses")
        if old is not None:
            self.remove(old)
        peer = self._make(noise_public_key, psk, keepalive_ns, allowed, weft=False)
        peer.name, peer.is_wanted = name, True
        peer.preshared_key = psk if any(psk) else None
        return peer

    def tunnel_for(self, noise_public_key: bytes) -> Tunnel | None:
        """The tunnel of whoever wrote an authentic initiation; makes a peer of an unknown one, or refuses it."""
        peer = self._by_key.get(noise_public_key)
        if peer is not None:
            return peer.tunnel
        is_usable = noise_public_key != self._terms.static.public and is_usable_address(address_of(noise_public_key))
        if not self._terms.accepts_unknown or not is_usable:
            return None
        strangers = [peer for peer in self._by_key.values() if not peer.is_wanted]
        if len(strangers) >= MAX_STRANGERS:
            now = self._terms.clock()
            idle = next((peer for peer in strangers if not peer.tunnel.is_up(now)), None)
            if idle is None:
                return None
            self.remove(idle)
        return self.add_weft(noise_public_key, None, is_wanted=False).tunnel

    def remove(self, peer: Peer) -> None:
        """Forget a peer and everything of its session."""
        self.timestamp_floor = self.last_timestamp_sent
        self.routes.remove_peer(peer)
        peer.tunnel.close()
        peer.joiner.close()
        peer.queue.clear()
        del self.by_tunnel[peer.tunnel]
        del self._by_key[peer.tunnel.peer_public]
        self._when_removed(peer)

    def stored(self) -> list[StoredPeer]:
        """What the store keeps: who was asked for, and strangers who proved that they are weft nodes."""
        return [_stored(peer) for peer in self._by_key.values() if peer.is_wanted or peer.is_known]

    @property
    def last_timestamp_sent(self) -> bytes:
        """The highest TAI64N that was sent to anybody."""
        return max((self.timestamp_floor, *(peer.tunnel.last_timestamp_sent for peer in self._by_key.values())))

    def _make(self, key: bytes, psk: bytes, keepalive_ns: int, allowed: tuple[Network, ...], *, weft: bool) -> Peer:
        terms = self._terms
        tunnel = Tunnel(
            terms.static,
            key,
            table=self._table,
            random_bytes=terms.random_bytes,
            preshared_key=psk,
            persistent_keepalive_ns=keepalive_ns,
            timestamp_floor=self.last_timestamp_sent,
        )
        meter = LossMeter()
        notices = prober = None
        if weft:
            hello = Hello(terms.identity.peer_id.public_key, MAX_TOTAL_BYTES, terms.mtu, self.capabilities)
            # Not of the process: what a peer remembers of us is void when we have forgotten what it said.
            notices = Notices(terms.random_bytes(BOOT_BYTES), hello, self._drops)
            prober = Prober(terms.identity, terms.random_bytes, self._drops)
        peer = Peer(
            tunnel,
            Path(can_probe=weft, fixed_pieces=terms.fixed_pieces),
            Joiner(self._budget, meter, self._drops),
            meter,
            notices=notices,
            prober=prober,
            allowed=allowed,
        )
        for network in allowed:
            self.routes.insert(network, peer)
        self._by_key[key] = peer
        self.by_tunnel[tunnel] = peer
        return peer


def _stored(peer: Peer) -> StoredPeer:
    key = str(peer.peer_id) if peer.peer_id else encode_wireguard_key(peer.tunnel.peer_public)
    endpoints = [str(address) for address in peer.endpoints.known]
    configured = [str(address) for address in peer.endpoints.configured]
    if peer.is_weft:
        return StoredPeer(
            key=key,
            kind="weft",
            name=peer.name,
            endpoints=endpoints,
            configured=configured,
            stranger=not peer.is_wanted,
        )
    return StoredPeer(
        key=key,
        kind="wireguard",
        name=peer.name,
        allowed_ips=[str(network) for network in peer.allowed],
        endpoints=endpoints,
        configured=configured,
        psk=encode_wireguard_key(peer.preshared_key) if peer.preshared_key else None,
        keepalive_s=peer.tunnel.persistent_keepalive_ns // 1_000_000_000,
    )
