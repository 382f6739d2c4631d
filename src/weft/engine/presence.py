"""Which peers are there and where, told as they come, move and go.

| was  | is up | endpoint          | told         |
|------|-------|-------------------|--------------|
| gone | yes   |                   | `peer-up`    |
| here | yes   | another, proven   | `peer-moved` |
| here | no    |                   | `peer-down`  |

Strangers, whom nobody asked for, are told as `peer-added` and `peer-removed` too; of others, the verbs tell that.

A peer is up while it has keys that may be used, so one that goes without a word is told three minutes later. That keys
are renewed is no news.
"""

from __future__ import annotations

from collections.abc import Hashable

from weft.engine.events import Events
from weft.engine.peer import Peer
from weft.identity import encode_wireguard_key


class Presence:
    """Compares each peer with what was told of it.

    Args:
        events: where it is told.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._here: dict[Peer, Hashable | None] = {}

    def look(self, peer: Peer, now: int) -> None:
        """Tell what changed; called when something happened to the machines of a peer.

        Args:
            peer: of the session.
            now: monotonic ns.
        """
        path = peer.path
        if not peer.tunnel.is_up(now):
            self.handle_removed(peer)
        elif peer not in self._here:
            self._here[peer] = path.endpoint
            self._events.publish("peer-up", f"{called(peer)} is up at {path.endpoint}", peer=id_of(peer))
        elif path.is_proven and path.endpoint != self._here[peer]:
            self._here[peer] = path.endpoint
            self._events.publish("peer-moved", f"{called(peer)} is at {path.endpoint} now", peer=id_of(peer))

    def handle_stranger(self, peer: Peer) -> None:
        """Somebody called by itself."""
        self._events.publish("peer-added", f"{called(peer)} has called", peer=id_of(peer))

    def handle_stranger_forgotten(self, peer: Peer) -> None:
        """Somebody who had called by itself is a peer no more."""
        self._events.publish("peer-removed", f"{called(peer)} is forgotten", peer=id_of(peer))

    def handle_removed(self, peer: Peer) -> None:
        """A peer went, or was forgotten."""
        if peer in self._here:
            del self._here[peer]
            self._events.publish("peer-down", f"{called(peer)} is down", peer=id_of(peer))


def id_of(peer: Peer) -> str:
    """Peer id, or WireGuard key of a peer that has none or has not told it yet."""
    return str(peer.peer_id) if peer.peer_id is not None else encode_wireguard_key(peer.tunnel.peer_public)


def called(peer: Peer) -> str:
    """What a person calls a peer."""
    return peer.name or id_of(peer)
