"""`/v0/wireguard/…`: files of stock WireGuard devices, both ways."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from weft.api.facade import Facade
from weft.api.v0.route import PeerName, Route
from weft.engine.device import DeviceConfig, PeerSettings
from weft.engine.status import SCHEMA, PeerStatus


class Whose(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which device the configuration is for."""

    peer: PeerName | None = None


class Import(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Devices, as a file of wg-quick names them."""

    peers: Annotated[list[PeerSettings], Meta(min_length=1, max_length=4096)]
    addresses: Annotated[
        list[Annotated[str, Meta(max_length=64)]],
        Meta(max_length=64, description="Of this node besides those that it has, `10.7.0.1/24`."),
    ] = []

    def __repr__(self) -> str:
        return f"Import(peers=<{len(self.peers)}>)"


class Imported(Struct, frozen=True, kw_only=True):
    """The devices that are peers now."""

    schema: int = SCHEMA
    public_key: str
    """Of this node, which the devices must know, base64."""
    peers: list[PeerStatus]


async def _config(node: Facade, asked: Whose) -> DeviceConfig:
    return node.wireguard.config(asked.peer)


async def _import(node: Facade, asked: Import) -> Imported:
    peers = await node.wireguard.add(asked.peers, asked.addresses)
    return Imported(public_key=node.info().wireguard_public_key, peers=peers)


CONFIG = Route(
    "GET",
    "/v0/wireguard/config",
    Whose,
    DeviceConfig,
    _config,
    "What a WireGuard device must be told of this node; its preshared key is in it",
)
IMPORT = Route(
    "POST", "/v0/wireguard/import", Import, Imported, _import, "Take several WireGuard devices as peers, all or none"
)

ROUTES = (CONFIG, IMPORT)
