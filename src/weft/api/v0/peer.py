"""`/v0/peer/…`: whom the node talks to."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from weft.api.facade import Facade
from weft.api.v0.route import Done, Nothing, PeerName, Route, Seconds
from weft.engine.change import Change, KeepaliveSeconds, KeyText, Prefixes
from weft.engine.status import SCHEMA, PeerList, PeerStatus, Pong


class Connect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to call."""

    target: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=1024,
            description="`/ip4/192.0.2.1/udp/1312/p2p/12D3KooW…`, or a peer: id, name, overlay address, or public key.",
        ),
    ]
    timeout_s: Seconds = 10.0
    name: Annotated[str, Meta(min_length=1, max_length=63, description="What to call it here.")] | None = None


class Add(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to want."""

    target: Annotated[
        str,
        Meta(min_length=1, max_length=1024, description="`/ip4/192.0.2.1/udp/1312/p2p/12D3KooW…`, or a peer id."),
    ]
    endpoints: Annotated[
        list[Annotated[str, Meta(max_length=512)]],
        Meta(max_length=8, description="Where else it may be; if nobody says where, it has to call."),
    ] = []
    name: Annotated[str, Meta(min_length=1, max_length=63, description="What to call it here.")] | None = None


class Whom(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which peer."""

    peer: PeerName


class Set(Change, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different about a peer; what is not given stays as it is."""

    peer: PeerName


class AddWireguard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stock WireGuard device."""

    public_key: Annotated[KeyText, Meta(description="X25519 public key, base64.")]
    name: Annotated[str, Meta(min_length=1, max_length=63)] | None = None
    allowed_ips: Annotated[Prefixes, Meta(description="Prefixes that the device may use as its source.")]
    endpoint: Annotated[str, Meta(max_length=512, description="`192.0.2.1:51820`, `host.example.org:51820`")] | None = (
        None
    )
    preshared_key: Annotated[KeyText, Meta(description="32 bytes, base64.")] | None = None
    keepalive_s: KeepaliveSeconds | None = None

    def __repr__(self) -> str:
        return f"AddWireguard(public_key={self.public_key!r}, name={self.name!r}, …)"


class Ping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to probe, and how."""

    peer: PeerName
    timeout_s: Seconds = 5.0
    size: Annotated[int, Meta(ge=0, le=65535, description="Bytes of the probe inside the tunnel.")] | None = None


class PeerReply(Struct, frozen=True, kw_only=True):
    """One peer."""

    schema: int = SCHEMA
    peer: PeerStatus


async def _list(node: Facade, _: Nothing) -> PeerList:
    return node.peers.list()


async def _connect(node: Facade, asked: Connect) -> PeerReply:
    return PeerReply(peer=await node.peers.connect(asked.target, asked.timeout_s, name=asked.name))


async def _add(node: Facade, asked: Add) -> PeerReply:
    return PeerReply(peer=await node.peers.add(asked.target, asked.endpoints, name=asked.name))


async def _disconnect(node: Facade, asked: Whom) -> Done:
    await node.peers.disconnect(asked.peer)
    return Done()


async def _persist(node: Facade, asked: Whom) -> PeerReply:
    return PeerReply(peer=await node.peers.persist(asked.peer))


async def _set(node: Facade, asked: Set) -> PeerReply:
    return PeerReply(peer=await node.peers.set(asked.peer, asked))


async def _remove(node: Facade, asked: Whom) -> Done:
    await node.peers.remove(asked.peer)
    return Done()


async def _block(node: Facade, asked: Whom) -> PeerReply:
    return PeerReply(peer=await node.peers.block(asked.peer))


async def _unblock(node: Facade, asked: Whom) -> PeerReply:
    return PeerReply(peer=await node.peers.unblock(asked.peer))


async def _add_wireguard(node: Facade, asked: AddWireguard) -> PeerReply:
    peer = await node.peers.add_wireguard(
        asked.public_key,
        name=asked.name,
        allowed_ips=asked.allowed_ips,
        endpoint=asked.endpoint,
        preshared_key=asked.preshared_key,
        keepalive_s=asked.keepalive_s,
    )
    return PeerReply(peer=peer)


async def _ping(node: Facade, asked: Ping) -> Pong:
    return await node.peers.ping(asked.peer, timeout_s=asked.timeout_s, size=asked.size)


LIST = Route("GET", "/v0/peer/list", Nothing, PeerList, _list, "All peers")
CONNECT = Route("POST", "/v0/peer/connect", Connect, PeerReply, _connect, "Call a peer; answers when the tunnel is up")
ADD = Route("POST", "/v0/peer/add", Add, PeerReply, _add, "Want a weft node, and call it; answers at once")
DISCONNECT = Route(
    "POST", "/v0/peer/disconnect", Whom, Done, _disconnect, "End the tunnel to a peer; it may call again"
)
PERSIST = Route("POST", "/v0/peer/persist", Whom, PeerReply, _persist, "Call a peer now and whenever it is missed")
SET = Route("POST", "/v0/peer/set", Set, PeerReply, _set, "Change what is settled about a peer")
REMOVE = Route("POST", "/v0/peer/remove", Whom, Done, _remove, "Forget a peer")
BLOCK = Route("POST", "/v0/peer/block", Whom, PeerReply, _block, "Never answer and never call a peer again")
UNBLOCK = Route("POST", "/v0/peer/unblock", Whom, PeerReply, _unblock, "Let a peer that was blocked call again")
ADD_WIREGUARD = Route(
    "POST",
    "/v0/peer/add-wireguard",
    AddWireguard,
    PeerReply,
    _add_wireguard,
    "Take a stock WireGuard device as a peer",
)
PING = Route("POST", "/v0/peer/ping", Ping, Pong, _ping, "Probe a peer once; answers with what came back")

ROUTES = (LIST, CONNECT, ADD, DISCONNECT, PERSIST, SET, REMOVE, BLOCK, UNBLOCK, ADD_WIREGUARD, PING)
