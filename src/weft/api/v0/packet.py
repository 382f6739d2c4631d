"""`/v0/fc00/trace/…`, `/v0/capture`: what would become of a packet, and the packets that pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from msgspec import Meta, Struct

from weft.api.facade import Facade
from weft.api.v0.route import PeerName, Route, Stream
from weft.engine.observed import MAX_SNAP, SOURCE_PORT, Captured, Packet, Trace

Address = Annotated[str, Meta(min_length=2, max_length=64, description="IPv4 or IPv6 address.")]
Port = Annotated[int, Meta(ge=0, le=65535)]
What = Annotated[str, Meta(min_length=1, max_length=64, description="`/tcp/22`, `/udp/53` or `/icmp`.")]
Flags = Annotated[str, Meta(max_length=8, pattern="^[FSRP.UEW]*$", description="Of TCP, as tcpdump writes them.")]
Size = Annotated[int, Meta(ge=0, le=65535, description="Bytes of the whole packet; 0 is one without payload.")]


class TraceIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A packet that a peer might send."""

    peer: PeerName
    what: What
    source: Annotated[Address, Meta(description="By default the peer's own.")] | None = None
    destination: Annotated[Address, Meta(description="By default this node's.")] | None = None
    source_port: Port = SOURCE_PORT
    flags: Flags = "S"
    size: Size = 0


class TraceOut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A packet that a program here might send."""

    destination: Annotated[PeerName, Meta(description="Address, or a peer.")]
    what: What
    source: Annotated[Address, Meta(description="By default this node's.")] | None = None
    source_port: Port = SOURCE_PORT
    flags: Flags = "S"
    size: Size = 0


class Capture(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to tell of the packets that pass."""

    peer: Annotated[PeerName, Meta(description="Only packets from and to this one.")] | None = None
    snap: Annotated[int, Meta(ge=1, le=MAX_SNAP, description="Bytes of each packet that are kept.")] = MAX_SNAP
    dropped: Annotated[bool, Meta(description="Packets that do not pass too, with the reason.")] = False


async def _trace_in(node: Facade, asked: TraceIn) -> Trace:
    return node.packets.trace_in(_packet(asked), asked.peer)


async def _trace_out(node: Facade, asked: TraceOut) -> Trace:
    return node.packets.trace_out(_packet(asked))


def _packet(asked: TraceIn | TraceOut) -> Packet:
    return Packet(
        what=asked.what,
        source=asked.source,
        destination=asked.destination,
        source_port=asked.source_port,
        flags=asked.flags,
        size=asked.size,
    )


def _capture(node: Facade, asked: Capture) -> AsyncIterator[Captured]:
    return node.packets.capture(peer=asked.peer, snap=asked.snap, dropped=asked.dropped)


TRACE_IN = Route(
    "GET", "/v0/fc00/trace/in", TraceIn, Trace, _trace_in, "What would become of a packet that a peer sends"
)
TRACE_OUT = Route(
    "GET", "/v0/fc00/trace/out", TraceOut, Trace, _trace_out, "What would become of a packet that is sent from here"
)
CAPTURE = Stream("/v0/capture", Capture, Captured, _capture, "The packets of the overlay, as they pass the firewall")

ROUTES = (TRACE_IN, TRACE_OUT)
STREAMS = (CAPTURE,)
