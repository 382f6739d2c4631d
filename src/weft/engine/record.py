"""A peer in the words of the store: its record.

A record is all that a person or the node itself has settled about a peer, and so all that changes when one of them
changes their mind; what else a peer has, its session most of all, is of the moment.

Not done here: what a record must look like (io/store.py); making a peer of it (contacts.py).
"""

from __future__ import annotations

from weft.engine.peer import Peer
from weft.identity import PeerId, encode_wireguard_key
from weft.io.store import StoredPeer


def record_of(peer: Peer) -> StoredPeer:
    """What is to be remembered of a peer."""
    return StoredPeer(
        key=str(peer.peer_id) if peer.peer_id else encode_wireguard_key(peer.tunnel.peer_public),
        kind="weft" if peer.is_weft else "wireguard",
        name=peer.name,
        standing=peer.standing,
        allowed_ips=[str(network) for network in (peer.allowed[1:] if peer.is_weft else peer.allowed)],
        endpoints=[str(address) for address in peer.endpoints.known],
        configured=[str(address) for address in peer.endpoints.configured],
        psk=encode_wireguard_key(peer.preshared_key) if peer.preshared_key else None,
        keepalive_s=peer.keepalive_s,
    )


def new_record(key: bytes, peer_id: PeerId | None, *, is_weft: bool) -> StoredPeer:
    """The record of somebody of whom nothing is known but the key.

    Args:
        key: X25519, 32 bytes.
        peer_id: of a weft node, if it is known.
        is_weft: whether it is one.
    """
    text = str(peer_id) if peer_id is not None else encode_wireguard_key(key)
    return StoredPeer(key=text, kind="weft" if is_weft else "wireguard")


def title_of(record: StoredPeer) -> str:
    """What a person calls a peer: its name, else its id or key."""
    return record.name or record.key
