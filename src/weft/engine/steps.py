"""What it comes to, peer by peer, when `wg` or a file of wg-quick changes this node as one interface.

Weft nodes are peers here as stock devices are; but their own address stays theirs, and they have the secret of the
network in the place of a preshared key. The rest is as with WireGuard: a key that is not a peer's becomes one, and a
peer that is replaced begins anew.

Source: wg(8); the cross-platform userspace implementation document of WireGuard, "Configuration Protocol".
Not done here: doing it (verbs/peers.py).
"""

from __future__ import annotations

from ipaddress import ip_network

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from weft.engine.change import Change
from weft.engine.contacts import Contacts
from weft.engine.device import DeviceChange, PeerChange, PeerSettings
from weft.engine.peer import Peer
from weft.engine.record import new_record, record_of
from weft.engine.settle import Step, settled
from weft.errors import DecodeError, UsageError
from weft.identity import address_of, decode_wireguard_key, encode_wireguard_key
from weft.io.store import StoredPeer


def steps_of(change: DeviceChange, contacts: Contacts, own_key: bytes, network_psk: bytes) -> list[Step]:
    """What a change of the whole comes to.

    Args:
        change: what `wg` asks.
        contacts: how it is.
        own_key: X25519, of this node; what is said of it is passed over.
        network_psk: what weft nodes have for a preshared key.

    Raises:
        UsageError: something can't be so.
    """
    steps: dict[bytes, Step] = {}
    if change.replace_peers:
        steps = {peer.tunnel.peer_public: Step(peer.tunnel.peer_public, None) for peer in contacts}
    for asked in change.peers:
        key = asked.public_key
        before = steps[key].record if key in steps else contacts.record(key)
        if key == own_key or (before is None and (asked.update_only or asked.remove)):
            continue
        if before is None:
            before = _blank(contacts.by_key(key), key)
        elif before.standing == "blocked" and asked.remove:
            continue
        contacts.refuse_blocked(key)
        if asked.remove:
            steps[key] = Step(key, None)
        else:
            steps[key] = _step(key, before, _change_of(asked, before, network_psk), contacts)
    # Who is forgotten comes last: what can fail has failed then, and their sessions go on.
    return sorted(steps.values(), key=lambda step: step.record is None)


def _step(key: bytes, before: StoredPeer, change: Change, contacts: Contacts) -> Step:
    record, now = settled(before, change), contacts.record(key)
    if now is not None and now.psk == record.psk:
        # The same key again is no reason for a new session.
        change = replace(change, preshared_key=UNSET)
    return Step(key, record, change)


def _blank(peer: Peer | None, key: bytes) -> StoredPeer:
    """The record of a new device; of a peer that is to be as new, what `wg` does not know of it."""
    if peer is None:
        return new_record(key, None, is_weft=False)
    return replace(record_of(peer), allowed_ips=[], psk=None, keepalive_s=None if peer.is_weft else 0)


def _change_of(asked: PeerChange, before: StoredPeer, network_psk: bytes) -> Change:
    """What `wg` asks for one peer, in the terms of `weft peer set`."""
    allowed = dict.fromkeys([] if asked.replace_allowed_ips else before.allowed_ips)
    for each in asked.allowed_ips:
        if each.remove:
            allowed.pop(str(each.network), None)
        else:
            allowed[str(each.network)] = None
    if before.kind == "weft":
        allowed.pop(str(ip_network(address_of(asked.public_key))), None)
    return Change(
        allowed_ips=list(allowed),
        endpoints=[asked.endpoint] if asked.endpoint is not None else UNSET,
        keepalive_s=UNSET if asked.keepalive_s is None else asked.keepalive_s or None,
        preshared_key=_preshared_key(asked.preshared_key, before, network_psk),
    )


def _preshared_key(asked: bytes | None, before: StoredPeer, network_psk: bytes) -> str | UnsetType | None:
    """What is to become of a preshared key; for a weft node, to have none or what it has is no change."""
    if asked is None or (before.kind == "weft" and (asked == network_psk or not any(asked))):
        return UNSET
    return encode_wireguard_key(asked) if any(asked) else None


def step_of(device: PeerSettings, contacts: Contacts) -> Step:
    """What it takes to have a device as a peer.

    Raises:
        UsageError: something is wrong with it; it is named.
    """
    try:
        key = decode_wireguard_key(device.public_key)
    except DecodeError as error:
        raise UsageError(f"{device.name}: {error}") from None
    before = contacts.record(key)
    if before is not None and before.kind == "weft":
        raise UsageError(f"{device.name}: that key belongs to a weft peer, which is no WireGuard device")
    contacts.refuse_blocked(key)
    change = Change(
        name=device.name,
        allowed_ips=device.allowed_ips,
        endpoints=[device.endpoint] if device.endpoint is not None else UNSET,
        keepalive_s=device.keepalive_s or None,
        preshared_key=device.preshared_key,
    )
    try:
        return _step(key, before or new_record(key, None, is_weft=False), change, contacts)
    except UsageError as error:
        raise UsageError(f"{device.name}: {error}") from None
