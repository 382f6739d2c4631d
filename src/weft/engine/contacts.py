"""Who the peers of a node are, and what each is to it.

A weft peer is its Noise key; its address is a hash of that key, and its peer id comes from the multiaddr that was
dialled or from its first notice. A stock WireGuard device has the networks that it was given. What a peer is to the
node is its standing:

| standing | called                         | may call            | stored                      | ends               |
|----------|--------------------------------|---------------------|-----------------------------|--------------------|
| wanted   | at each start, whenever missed | yes                 | yes                         | when a person      |
|          |                                |                     |                             | says so            |
| known    | while a session lasts that it  | yes                 | yes                         | likewise           |
|          | began                          |                     |                             |                    |
| stranger | once at each start, and while  | where `accept` is   | once it has shown that it   | when it is silent, |
|          | a session lasts                | "any"               | is a weft node              | or makes room      |
| blocked  | never; it has no `Peer`        | no                  | yes                         | when a person      |
|          |                                |                     |                             | says so            |

| what happens                          | wanted  | known   | stranger | blocked | nobody   |
|---------------------------------------|---------|---------|----------|---------|----------|
| `connect`, `persist`, `add-wireguard` | wanted  | wanted  | wanted   | refused | wanted   |
| `disconnect`                          | known   | known   | known    | refused |          |
| it calls                              | wanted  | known   | stranger | refused | stranger |
| `block`                               | blocked | blocked | blocked  | blocked | blocked  |
| `unblock`                             |         |         |          | known   |          |
| `remove`                              | nobody  | nobody  | nobody   | nobody  |          |

All of this is one verb here, `put`: the record of a peer (record.py) takes the place of the one before, and what was
displaced comes back, so that `put` undoes it as well.

Strangers are bounded in number: the oldest that has no session makes room. So are the blocked, whom only a person adds.

Source: wire.md sections 1 and 3; the WireGuard paper, section 2 (networks of peers).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv6Network, ip_address, ip_network

from msgspec.structs import replace

from weft.engine.making import Maker, Terms, networks_of
from weft.engine.peer import Endpoint, Network, Peer
from weft.engine.record import new_record, record_of, title_of
from weft.engine.trial import Trial
from weft.errors import DecodeError, UsageError
from weft.identity import (
    PeerId,
    address_of,
    decode_wireguard_key,
    is_usable_address,
)
from weft.io.store import StoredPeer
from weft.noise.allowed import AllowedSources
from weft.noise.keypair import KeypairTable
from weft.noise.tunnel import Tunnel

MAX_STRANGERS = 1024
MAX_BLOCKED = 1024

OVERLAY = IPv6Network("fc00::/8")
"""Of weft nodes, each of which has one address there: no network around it gives anybody a part of it."""

Displaced = list[tuple[bytes, StoredPeer | None]]
"""Keys whose records were replaced, and those records, in the order in which they are to be put back."""


class Contacts:
    """The peers of a session, by everything that finds them.

    Attributes:
        by_tunnel: for the fast path.
        routes: which peer has which address.
        blocked: the records of those who are blocked, by their X25519 keys.
        trials: of those who are wanted only while they are called, by their X25519 keys.
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
        self._maker = Maker(terms, table, drops)
        self._by_key: dict[bytes, Peer] = {}
        self._by_name: dict[str, bytes] = {}
        self.by_tunnel: dict[Tunnel, Peer] = {}
        self.routes: AllowedSources[Peer] = AllowedSources()
        self.routes.reserve(OVERLAY)
        self.routes.reserve(ip_network(terms.identity.address))
        self.blocked: dict[bytes, StoredPeer] = {}
        self.trials: dict[bytes, Trial] = {}
        self.timestamp_floor = timestamp_floor
        self.capabilities: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._by_key.values()))

    def __len__(self) -> int:
        return len(self._by_key)

    # Finding one.

    def by_key(self, noise_public_key: bytes) -> Peer | None:
        """The peer with that X25519 key."""
        return self._by_key.get(noise_public_key)

    def record(self, noise_public_key: bytes) -> StoredPeer | None:
        """The record of the peer with that X25519 key, blocked or not."""
        peer = self._by_key.get(noise_public_key)
        return self.blocked.get(noise_public_key) if peer is None else record_of(peer)

    def find(self, text: str) -> Peer:
        """The peer that a person means.

        Args:
            text: a name, a peer id, an address, or a WireGuard key in base64.

        Raises:
            UsageError: nobody has it, or only somebody who is blocked.
        """
        key = self.key_of(text)
        self.refuse_blocked(key)
        return self._by_key[key]

    def key_of(self, text: str) -> bytes:
        """The X25519 key of the peer that a person means, blocked or not.

        Args:
            text: as for `find`.

        Raises:
            UsageError: nobody has it.
        """
        key = self._by_name.get(text) or decode_key(text) or self._key_at(text)
        if key in self._by_key or key in self.blocked:
            return key
        raise UsageError(f"no peer {text!r}; `weft peer list` shows those that there are")

    def _key_at(self, text: str) -> bytes:
        try:
            address = ip_address(text)
        except ValueError:
            return b""
        peer = self.routes.lookup(address.packed)
        # Where everything leads is no name of whoever it leads to.
        if peer is not None and any(address in network for network in peer.allowed if network.prefixlen):
            return peer.tunnel.peer_public
        return next((key for key in self.blocked if address_of(key) == address.packed), b"")

    # Changing one.

    def add_weft(self, noise_public_key: bytes, peer_id: PeerId | None, *, is_wanted: bool) -> Peer:
        """Make the peer of a weft node, a stranger unless it is wanted; or complete the one that is there.

        Raises:
            UsageError: the key is our own, belongs to a stock device, is blocked, or has no usable address.
        """
        self.refuse_blocked(noise_public_key)
        peer = self._by_key.get(noise_public_key)
        if peer is None:
            record = new_record(noise_public_key, peer_id, is_weft=True)
            self.put(noise_public_key, replace(record, standing="wanted" if is_wanted else "stranger"))
            return self._by_key[noise_public_key]
        if not peer.is_weft:
            raise UsageError("that key belongs to a WireGuard device; remove it first")
        peer.peer_id = peer.peer_id or peer_id
        if is_wanted:
            peer.standing = "wanted"
        return peer

    def refuse_blocked(self, key: bytes) -> None:
        """Refuse to have to do with somebody who is blocked.

        Raises:
            UsageError: names them.
        """
        if key in self.blocked:
            raise UsageError(f"{title_of(self.blocked[key])} is blocked; `weft peer unblock` first")

    def put(self, key: bytes, record: StoredPeer | None, *, take: bool = False) -> Displaced:
        """Let a record take the place of the one before; a session goes on if it can.

        Args:
            key: X25519, 32 bytes.
            record: None forgets the peer.
            take: take the networks from others who have them; else that is refused.

        Returns:
            What brings back how it was, put by put.

        Raises:
            UsageError: it is not possible; nothing changed.
        """
        before, peer = self.record(key), self._by_key.get(key)
        is_mistaken = before is not None and record is not None and before.kind != record.kind
        if peer is not None and peer.standing == "stranger" and is_mistaken:
            # Whoever calls is taken for a weft node, until a person knows better.
            self.remove(peer)
            before = peer = None
        if record is not None:
            self._check(key, record, before)
        if record is None or record.standing == "blocked":
            if peer is not None:
                self.remove(peer)
            self._block(key, record)
            return [(key, before)]
        made = self._maker.make(key, record, self.timestamp_floor, self.capabilities) if peer is None else None
        displaced = self._take(key, record, take=take)
        self._block(key, None)
        if made is not None:
            self._welcome(made)
        self._amend(made or self._by_key[key], record)
        return [(key, before), *displaced]

    def remove(self, peer: Peer) -> None:
        """Forget a peer and everything of its session."""
        self.timestamp_floor = max(self.timestamp_floor, peer.tunnel.last_timestamp_sent)
        for network in peer.allowed:
            self.routes.remove(network)
        peer.tunnel.close()
        peer.joiner.close()
        peer.queue.clear()
        del self.by_tunnel[peer.tunnel]
        del self._by_key[peer.tunnel.peer_public]
        self._name(peer.tunnel.peer_public, peer.name, None)
        self._when_removed(peer)

    def tunnel_for(self, noise_public_key: bytes) -> Tunnel | None:
        """The tunnel of whoever wrote an authentic initiation; makes a peer of an unknown one, or refuses it."""
        peer = self._by_key.get(noise_public_key)
        if peer is not None:
            return peer.tunnel
        address = address_of(noise_public_key)
        is_usable = noise_public_key != self._terms.static.public and is_usable_address(address)
        # A person may have given its address to a device.
        is_usable = is_usable and self.routes.owner_of(ip_network(address)) is None
        if not self._terms.accepts_unknown or not is_usable or noise_public_key in self.blocked:
            return None
        strangers = [peer for peer in self._by_key.values() if peer.standing == "stranger"]
        if len(strangers) >= MAX_STRANGERS:
            now = self._terms.clock()
            idle = next((peer for peer in strangers if not peer.tunnel.is_up(now)), None)
            if idle is None:
                return None
            self.remove(idle)
        return self.add_weft(noise_public_key, None, is_wanted=False).tunnel

    # What follows from all of them.

    def stored(self) -> list[StoredPeer]:
        """What the store keeps: whom a person spoke of, and strangers who proved that they are weft nodes."""
        peers = (peer for key, peer in self._by_key.items() if key not in self.trials and _is_kept(peer))
        tried = (trial.before for trial in self.trials.values())
        return [*map(record_of, peers), *(each for each in tried if each and _is_kept(each)), *self.blocked.values()]

    def networks(self) -> set[Network]:
        """What peers have, to be routed to the interface.

        Not what leads everywhere: the system's default route is no peer's, unless a person makes it so.
        """
        return {network for peer in self._by_key.values() for network in peer.allowed if network.prefixlen}

    def network_around(self, address: bytes) -> Network | None:
        """The network of the overlay that an address of the underlay lies in; where everything leads is none.

        Args:
            address: 4 or 16 bytes.
        """
        network = self.routes.network_around(address)
        return network if network is not None and network.prefixlen else None

    def check_endpoints(self, networks: Iterable[Network]) -> None:
        """Refuse networks with the endpoint of a peer in them: its tunnel would lead into itself.

        Raises:
            UsageError: names both.
        """
        routed: AllowedSources[Network] = AllowedSources()
        for network in networks:
            if network.prefixlen:
                routed.insert(network, network)
        for peer in self._by_key.values():
            endpoint = peer.path.endpoint
            at = [endpoint.multiaddr] if isinstance(endpoint, Endpoint) else []
            for address in (*at, *peer.endpoints.configured):
                if address.components[0].protocol == "dns":
                    continue
                host = str(address.host).partition("%")[0]
                inside = routed.lookup(ip_address(host).packed)
                if inside is not None:
                    raise UsageError(f"{inside} has the endpoint {host} of {title_of(record_of(peer))} in it")

    def check_name(self, key: bytes, name: str) -> None:
        """Refuse a name that is somebody else's.

        Raises:
            UsageError: it is.
        """
        if self._by_name.get(name, key) != key:
            raise UsageError(f"another peer is called {name!r}")

    @property
    def last_timestamp_sent(self) -> bytes:
        """The highest TAI64N that was sent to anybody."""
        return max((self.timestamp_floor, *(peer.tunnel.last_timestamp_sent for peer in self._by_key.values())))

    # How a record becomes a peer.

    def _check(self, key: bytes, record: StoredPeer, before: StoredPeer | None) -> None:
        if key == self._terms.static.public:
            raise UsageError("that is this node itself")
        if before is not None and before.kind != record.kind:
            kind = "a weft peer" if before.kind == "weft" else "a WireGuard device"
            raise UsageError(f"that key belongs to {kind}; remove it first")
        if record.kind == "weft" and not is_usable_address(address_of(key)):
            raise UsageError("the key has no address in fc00::/8; a stock device is added with `peer add-wireguard`")
        if record.name is not None:
            self.check_name(key, record.name)
        is_more = record.standing == "blocked" and key not in self.blocked
        if is_more and len(self.blocked) >= MAX_BLOCKED:
            raise UsageError(f"{MAX_BLOCKED:,} peers are blocked already; `weft peer unblock` or `remove` some first")

    def _take(self, key: bytes, record: StoredPeer, *, take: bool) -> Displaced:
        """Make the networks of a record free, or refuse it."""
        losses: dict[bytes, set[Network]] = {}
        for network in networks_of(key, record):
            owner = self.routes.owner_of(network)
            if network == OVERLAY or network == ip_network(self._terms.identity.address):
                raise UsageError(f"{network} is of weft itself and can't be given to a peer")
            if owner is None or owner.tunnel.peer_public == key:
                continue
            if not take or network == ip_network(owner.address or bytes(16)):
                raise UsageError(f"{network} belongs to {title_of(record_of(owner))} already")
            losses.setdefault(owner.tunnel.peer_public, set()).add(network)
        displaced: Displaced = []
        for loser, lost in losses.items():
            old = record_of(self._by_key[loser])
            kept = [text for text in old.allowed_ips if ip_network(text) not in lost]
            displaced += self.put(loser, replace(old, allowed_ips=kept))
        return displaced

    def _welcome(self, peer: Peer) -> None:
        self._by_key[peer.tunnel.peer_public] = peer
        self.by_tunnel[peer.tunnel] = peer
        for network in peer.allowed:
            self.routes.insert(network, peer)
        if peer.standing == "known":
            peer.tunnel.rest()

    def _amend(self, peer: Peer, record: StoredPeer) -> None:
        key = peer.tunnel.peer_public
        self._name(key, peer.name, record.name)
        if record.standing == "wanted":
            peer.tunnel.resume()
        elif peer.is_wanted and record.standing == "known" and not peer.tunnel.is_up(self._terms.clock()):
            peer.tunnel.rest()
        peer.name, peer.standing = record.name, record.standing
        peer.peer_id = peer.peer_id or record.peer_id
        networks = networks_of(key, record)
        if networks != peer.allowed:
            for network in peer.allowed:
                self.routes.remove(network)
            for network in networks:
                self.routes.insert(network, peer)
            peer.allowed = networks
        self._maker.settle(peer, record)

    def _block(self, key: bytes, record: StoredPeer | None) -> None:
        """Keep the record of somebody who is blocked, or don't keep it any more."""
        before = self.blocked.pop(key, None)
        self._name(key, before.name if before is not None else None, record.name if record is not None else None)
        if record is not None:
            self.blocked[key] = record

    def _name(self, key: bytes, old: str | None, new: str | None) -> None:
        if old is not None:
            del self._by_name[old]
        if new is not None:
            self._by_name[new] = key


def _is_kept(peer: Peer | StoredPeer) -> bool:
    return peer.standing != "stranger" or peer.peer_id is not None


def decode_key(text: str) -> bytes:
    """The X25519 key that a peer id or a WireGuard key in base64 is or stands for; nothing if it is neither."""
    try:
        return decode_wireguard_key(text) if text.endswith("=") else PeerId.from_text(text).noise_public_key
    except DecodeError:
        return b""
