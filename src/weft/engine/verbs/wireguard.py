"""This node as one WireGuard interface, for `wg` and for files of wg-quick.

Not done here: what becomes of each peer (steps.py).
"""

from __future__ import annotations

import builtins
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from weft.engine import dial
from weft.engine.config import Config
from weft.engine.contacts import OVERLAY
from weft.engine.device import (
    NO_KEY,
    ChangeRefusedError,
    Device,
    DeviceChange,
    DeviceConfig,
    DevicePeer,
    PeerSettings,
)
from weft.engine.lifetime import Lifetime
from weft.engine.peer import Endpoint, Peer
from weft.engine.status import PeerStatus
from weft.engine.steps import step_of, steps_of
from weft.engine.verbs.peers import Peers
from weft.engine.verbs.settings import Plan, Settings
from weft.errors import TransportError, UsageError
from weft.identity import encode_wireguard_key
from weft.multiaddr import Multiaddr, decode_multiaddr


class Wireguard:
    """The node, as WireGuard's own tools see it."""

    def __init__(self, life: Lifetime, peers: Peers, settings: Settings) -> None:
        self._life = life
        self._peers = peers
        self._settings = settings

    def device(self) -> Device:
        """All that `wg` shows, the private key too."""
        return Device(
            private_key=self._life.identity.noise_private,
            listen_port=self._listen_port(),
            fwmark=self._life.config.peer.fwmark,
            peers=tuple(_shown(peer, self._life.terms.network_psk) for peer in self._life.running.contacts),
        )

    async def change(self, change: DeviceChange) -> None:
        """Do what `wg` asks, all of it or nothing.

        A key that is not a peer's becomes one of a stock device. Prefixes are taken from peers that have them. Port and
        mark are changed in weft.toml. What is said of this node itself as a peer is passed over, as WireGuard does.

        Raises:
            ChangeRefusedError: it is about the node's key, or a port that is in use.
            UsageError: something can't be so.
            ConfigError: it could not be saved.
        """
        # Zeros are what `wg setconf` sends for a file that names no key.
        if change.private_key not in {None, NO_KEY, self._life.identity.noise_private}:
            raise ChangeRefusedError(
                "the key of a weft node is in its directory and is not set by `wg`; leave PrivateKey as it is",
                errno.EPERM,
            )
        own, psk = self._life.identity.noise_public, self._life.terms.network_psk
        async with self._settings_first(lambda config: self._keys(config, change)):
            if change.replace_peers or change.peers:
                await self._peers.apply(lambda contacts: steps_of(change, contacts, own, psk), take=True)

    def _keys(self, config: Config, change: DeviceChange) -> dict[str, Any]:
        """What is to be changed in weft.toml."""
        peer, keys = config.peer, dict[str, Any]()
        if change.fwmark not in {None, peer.fwmark}:
            keys["peer.fwmark"] = change.fwmark
        if change.listen_port not in {None, 0, self._listen_port()}:
            # Those that `wg` shows as one: what listens on the port of the first.
            hosts = [address.endpoint() for address in peer.listen_multiaddrs]
            keys["peer.listen"] = [
                str(Multiaddr.from_endpoint(host, change.listen_port if port == hosts[0][1] else port))
                for host, port in hosts
            ]
        return keys

    @asynccontextmanager
    async def _settings_first(self, plan: Plan) -> AsyncIterator[None]:
        """Change keys of weft.toml, and change them back if what follows fails, but for what others changed since."""
        before, after = dict[str, Any](), dict[str, Any]()

        def change(config: Config) -> dict[str, Any]:
            after.update(plan(config))
            before.update({name: config.value(name) for name in after})
            return after

        def change_back(config: Config) -> dict[str, Any]:
            return {name: old for name, old in before.items() if _is_same(config.value(name), after[name])}

        try:
            if plan(self._life.config):
                await self._settings.change(change)
        except TransportError as error:
            raise ChangeRefusedError(str(error), errno.EADDRINUSE) from error
        try:
            yield
        except BaseException:
            if before:
                await self._settings.change(change_back)
            raise

    async def add(
        self, devices: builtins.list[PeerSettings], addresses: builtins.list[str]
    ) -> builtins.list[PeerStatus]:
        """Take stock devices as peers, all or none; one that is a peer already is changed to what is given.

        Args:
            devices: the peers.
            addresses: of this node besides those that it has, `10.7.0.1/24`.

        Raises:
            UsageError: a key, a prefix, a name, an endpoint or an address is wrong, or belongs to somebody else.
            ConfigError: it could not be saved.
        """

        def plan(config: Config) -> dict[str, Any]:
            had = config.fc00.addresses
            more = [address for address in dict.fromkeys(addresses) if address not in had]
            return {"fc00.addresses": [*had, *more]} if more else {}

        async with self._settings_first(plan):
            return await self._peers.apply(
                lambda contacts: [step_of(device, contacts) for device in devices], take=False
            )

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
        own = [address.network for address in self._life.config.fc00.interface_addresses]
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


def _is_same(value: Any, other: Any) -> bool:
    """Whether two values of a key are the same, lists in whatever form."""
    return list(value) == list(other) if isinstance(value, (tuple, list)) else bool(value == other)


def _distance(host: IPv4Address | IPv6Address) -> tuple[bool, int]:
    """How unlikely it is that a device reaches an address: those of local networks last, IPv6 after IPv4."""
    return not host.is_global, host.version


def _shown(peer: Peer, network_psk: bytes) -> DevicePeer:
    at = peer.path.endpoint
    known = (address for address in peer.endpoints.known if not dial.is_name(address))
    address = at.multiaddr if isinstance(at, Endpoint) else next(known, None)
    return DevicePeer(
        public_key=peer.tunnel.peer_public,
        preshared_key=network_psk if peer.is_weft else peer.preshared_key or NO_KEY,
        endpoint=address.host_and_port if address is not None else None,
        handshake_at_ns=peer.handshake_wall_ns or 0,
        tx_bytes=peer.path.tx_bytes,
        rx_bytes=peer.path.rx_bytes,
        keepalive_s=peer.tunnel.persistent_keepalive_ns // 1_000_000_000,
        allowed_ips=peer.allowed,
    )
