"""This node as one WireGuard interface, for `wg` and for files of wg-quick.

Weft nodes are peers here as stock devices are: they are shown, removed, and given more prefixes; but their own address
stays theirs, and they have the secret of the network in the place of a preshared key.
"""

from __future__ import annotations

import builtins
import errno
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from weft.engine import dial
from weft.engine.change import Change
from weft.engine.contacts import OVERLAY, Contacts
from weft.engine.device import (
    NO_KEY,
    ChangeRefusedError,
    Device,
    DeviceChange,
    DeviceConfig,
    DevicePeer,
    PeerChange,
    PeerSettings,
)
from weft.engine.lifetime import Lifetime
from weft.engine.peer import Endpoint, Peer
from weft.engine.record import new_record, record_of
from weft.engine.settle import Step, settled
from weft.engine.status import PeerStatus
from weft.engine.verbs.peers import Peers
from weft.errors import DecodeError, UsageError
from weft.identity import address_of, decode_wireguard_key, encode_wireguard_key
from weft.io.store import StoredPeer
from weft.multiaddr import decode_multiaddr


class Wireguard:
    """The node, as WireGuard's own tools see it."""

    def __init__(self, life: Lifetime, peers: Peers) -> None:
        self._life = life
        self._peers = peers

    def device(self) -> Device:
        """All that `wg` shows, the private key too."""
        return Device(
            private_key=self._life.identity.noise_private,
            listen_port=self._listen_port(),
            fwmark=0,
            peers=tuple(map(_shown, self._life.running.contacts)),
        )

    async def change(self, change: DeviceChange) -> None:
        """Do what `wg` asks, all of it or nothing.

        A key that is not a peer's becomes one of a stock device. Prefixes are taken from peers that have them. What is
        said of this node itself as a peer is passed over, as WireGuard does.

        Raises:
            ChangeRefusedError: it is about what weft has elsewhere: its key, its port, its mark.
            UsageError: a peer can't be so.
            ConfigError: it could not be saved.
        """
        self._check(change)
        if change.replace_peers or change.peers:
            await self._peers.apply(
                lambda contacts: _plan(contacts, change, self._life.identity.noise_public), take=True
            )

    async def add(self, devices: builtins.list[PeerSettings]) -> builtins.list[PeerStatus]:
        """Take stock devices as peers, all or none; one that is a peer already is changed to what is given.

        Raises:
            UsageError: a key, a prefix, a name or an endpoint is wrong, or belongs to another peer.
            ConfigError: it could not be saved.
        """
        return await self._peers.apply(lambda contacts: [_step(contacts, device) for device in devices], take=False)

    def config(self, peer: str | None) -> DeviceConfig:
        """What a stock device must be told.

        Args:
            peer: a device that is one; None for one that is to become one.

        Raises:
            UsageError: there is none of that name, or it is a weft node.
        """
        found = self._life.running.contacts.find(peer) if peer is not None else None
        if found is not None and found.is_weft:
            raise UsageError(f"{peer} is a weft node, which needs no such file: it calls with `weft peer connect`")
        own = [ip_interface(text).network for text in self._life.config.fc00.addresses]
        psk = found.preshared_key if found is not None else None
        return DeviceConfig(
            name=found.name if found is not None else None,
            device_public_key=encode_wireguard_key(found.tunnel.peer_public) if found is not None else None,
            addresses=[
                str(network) for network in (found.allowed if found is not None else ()) if network.num_addresses == 1
            ],
            public_key=encode_wireguard_key(self._life.identity.noise_public),
            preshared_key=encode_wireguard_key(psk) if psk else None,
            allowed_ips=list(dict.fromkeys(map(str, [OVERLAY, *own]))),
            endpoints=self._endpoints(),
        )

    def _endpoints(self) -> builtins.list[str]:
        """Where this node may be reached, the likeliest first."""
        found = [decode_multiaddr(text) for text in self._life.underlay.multiaddrs(self._life.identity.peer_id)]
        places = [(ip_address(address.endpoint()[0].partition("%")[0]), address.host_and_port) for address in found]
        usable = [(host, text) for host, text in places if not (host.is_link_local or host.is_loopback)]
        return [text for host, text in sorted(usable, key=lambda place: _distance(place[0]))]

    def _listen_port(self) -> int:
        sockets = self._life.underlay.sockets
        return int(sockets[0].address[1]) if sockets else 0

    def _check(self, change: DeviceChange) -> None:
        """Refuse what is not to be changed this way; what is so already is no change."""
        if change.private_key not in {None, self._life.identity.noise_private}:
            raise ChangeRefusedError(
                "the key of a weft node is in its directory and is not set by `wg`; leave PrivateKey as it is",
                errno.EPERM,
            )
        if change.listen_port not in {None, 0, self._listen_port()}:
            raise ChangeRefusedError(
                f"port {change.listen_port}: see `weft listener`, or [peer] listen in weft.toml", errno.EOPNOTSUPP
            )
        if change.fwmark not in {None, 0}:
            raise ChangeRefusedError("fwmark: see weft.toml", errno.EOPNOTSUPP)


def _distance(host: IPv4Address | IPv6Address) -> tuple[bool, int]:
    """How unlikely it is that a device reaches an address: those of local networks last, IPv6 after IPv4."""
    return not host.is_global, host.version


def _shown(peer: Peer) -> DevicePeer:
    at = peer.path.endpoint
    known = (address for address in peer.endpoints.known if not dial.is_name(address))
    address = at.multiaddr if isinstance(at, Endpoint) else next(known, None)
    return DevicePeer(
        public_key=peer.tunnel.peer_public,
        preshared_key=peer.preshared_key or NO_KEY,
        endpoint=address.host_and_port if address is not None else None,
        handshake_at_ns=peer.handshake_wall_ns or 0,
        tx_bytes=peer.path.tx_bytes,
        rx_bytes=peer.path.rx_bytes,
        keepalive_s=peer.tunnel.persistent_keepalive_ns // 1_000_000_000,
        allowed_ips=peer.allowed,
    )


def _plan(contacts: Contacts, change: DeviceChange, own_key: bytes) -> builtins.list[Step]:
    """What a change of the whole comes to, peer by peer."""
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
        elif before.standing == "blocked":
            contacts.refuse_blocked(key)
        if asked.remove:
            steps[key] = Step(key, None)
            continue
        made = _change_of(asked, before)
        steps[key] = Step(key, settled(before, made), made)
    # Who is forgotten comes last: what can fail has failed then, and their sessions go on.
    return sorted(steps.values(), key=lambda step: step.record is None)


def _blank(peer: Peer | None, key: bytes) -> StoredPeer:
    """The record of a new device; of a peer that is to be as new, what `wg` does not know of it."""
    if peer is None:
        return new_record(key, None, is_weft=False)
    return replace(record_of(peer), allowed_ips=[], psk=None, keepalive_s=None if peer.is_weft else 0)


def _change_of(asked: PeerChange, before: StoredPeer) -> Change:
    """What `wg` asks for one peer, in the terms of `weft peer set`."""
    allowed = dict.fromkeys([] if asked.replace_allowed_ips else before.allowed_ips)
    for each in asked.allowed_ips:
        if each.remove:
            allowed.pop(str(each.network), None)
        else:
            allowed[str(each.network)] = None
    preshared_key: str | UnsetType | None = UNSET
    if asked.preshared_key is not None and any(asked.preshared_key):
        preshared_key = encode_wireguard_key(asked.preshared_key)
    elif asked.preshared_key is not None and before.kind == "wireguard":
        preshared_key = None
    if before.kind == "weft":
        allowed.pop(str(ip_network(address_of(asked.public_key))), None)
    return Change(
        allowed_ips=list(allowed),
        endpoints=[asked.endpoint] if asked.endpoint is not None else UNSET,
        keepalive_s=UNSET if asked.keepalive_s is None else asked.keepalive_s or None,
        preshared_key=preshared_key,
    )


def _step(contacts: Contacts, device: PeerSettings) -> Step:
    """What it takes to have a device as a peer."""
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
        return Step(key, settled(before or new_record(key, None, is_weft=False), change), change)
    except UsageError as error:
        raise UsageError(f"{device.name}: {error}") from None
