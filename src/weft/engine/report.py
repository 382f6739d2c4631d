"""A peer in the words of the status."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_network
from typing import Literal

from weft.engine.peer import Endpoint, Peer
from weft.engine.status import PeerStatus
from weft.identity import address_of, encode_wireguard_key
from weft.io.store import StoredPeer
from weft.multiaddr import decode_multiaddr
from weft.paths.mtu import BASE_MTU


def describe(peer: Peer, now: int) -> PeerStatus:
    """Tell how a peer is.

    Args:
        peer: of the session.
        now: monotonic ns.
    """
    path, tunnel = peer.path, peer.tunnel
    is_up = tunnel.is_up(now)
    state: Literal["up", "connecting", "idle"] = "up" if is_up else "connecting" if tunnel.is_handshaking else "idle"
    last = tunnel.last_handshake_at
    pieces = path.size.pieces if peer.burst_limit else 1
    return PeerStatus(
        id=str(peer.peer_id) if peer.peer_id is not None else None,
        name=peer.name,
        kind="weft" if peer.is_weft else "wireguard",
        addresses=[str(network.network_address if network.num_addresses == 1 else network) for network in peer.allowed],
        wireguard_public_key=encode_wireguard_key(tunnel.peer_public),
        standing=peer.standing,
        state=state,
        endpoint=_endpoint_of(peer),
        path="direct" if path.endpoint is not None else "none",
        mode="burst" if pieces > 1 else "packet",
        burst_pieces=pieces,
        path_mtu=path.mtu.mtu if peer.is_weft else path.mtu.ceiling,
        loss=round(path.size.loss, 6),
        rtt_ms=path.rtt_ns / 1e6 if path.rtt_ns is not None else None,
        keepalive_s=tunnel.persistent_keepalive_ns // 1_000_000_000,
        has_preshared_key=peer.preshared_key is not None,
        handshake_age_s=(now - last) / 1e9 if last is not None else None,
        tx_bytes=path.tx_bytes,
        rx_bytes=path.rx_bytes,
    )


def describe_blocked(key: bytes, record: StoredPeer) -> PeerStatus:
    """Tell what there is to tell of a peer that is blocked.

    Args:
        key: X25519, 32 bytes.
        record: what was known of it.
    """
    networks = [ip_network(text) for text in record.allowed_ips]
    own = [str(IPv6Address(address_of(key)))] if record.kind == "weft" else []
    return PeerStatus(
        id=str(record.peer_id) if record.peer_id is not None else None,
        name=record.name,
        kind=record.kind,
        addresses=[*own, *(str(each.network_address if each.num_addresses == 1 else each) for each in networks)],
        wireguard_public_key=encode_wireguard_key(key),
        standing="blocked",
        state="blocked",
        endpoint=next((decode_multiaddr(text).host_and_port for text in record.endpoints), None),
        path="none",
        mode="packet",
        burst_pieces=1,
        path_mtu=BASE_MTU,
        loss=0.0,
        rtt_ms=None,
        keepalive_s=record.keepalive_s or 0,
        has_preshared_key=record.psk is not None,
        handshake_age_s=None,
        tx_bytes=0,
        rx_bytes=0,
    )


def _endpoint_of(peer: Peer) -> str | None:
    """Where it is, by the name that led there if one did; else where it will be looked for first."""
    endpoint = peer.path.endpoint
    if isinstance(endpoint, Endpoint):
        return peer.endpoints.spelled(endpoint.multiaddr).host_and_port
    return next((address.host_and_port for address in peer.endpoints.known), None)
