"""What is told of packets: what would become of one (trace.py), and those that pass (capture.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from msgspec import Struct

from weft.engine.status import SCHEMA

SOURCE_PORT: Final = 49_152
"""Of a packet whose source port nobody gave: one of those that systems give to programs."""

MAX_SNAP: Final = 65_535
"""The longest packet there is, bytes."""

Outcome = Literal["accept", "reject", "drop", "send", "wait", "local", "unreachable", "too-big"]


@dataclass(frozen=True, kw_only=True)
class Packet:
    """A packet that somebody thinks of.

    Attributes:
        what: `/tcp/22`, `/udp/53` or `/icmp`: where it goes, as in a rule.
        source: address; None is the first one of whoever sends it.
        destination: likewise of whoever gets it; where a program sends, it may be the name of a peer.
        source_port: of TCP and UDP.
        flags: of TCP, in the letters of tcpdump.
        size: of the whole packet, bytes; 0 is without payload.
    """

    what: str
    source: str | None = None
    destination: str | None = None
    source_port: int = SOURCE_PORT
    flags: str = "S"
    size: int = 0


class TraceStep(Struct, frozen=True, kw_only=True):
    """One thing that was looked at, and what was found."""

    stage: str
    """`source`, `start`, `flow`, `fragment`, `rule`, `interface`, `stack`; `route`, `session`, `path`, `size`."""
    text: str


class Trace(Struct, frozen=True, kw_only=True):
    """What would become of a packet now."""

    schema: int = SCHEMA
    direction: Literal["in", "out"]
    packet: str
    """The packet in one line."""
    peer: str | None
    """Whom it comes from or goes to."""
    verdict: Outcome
    """In: `accept`, `reject` (the peer is told), `drop` (nobody is). Out: `send`, `wait` (for a session), `local` (it
    stays on this machine), `drop`, `unreachable` and `too-big` (the program is told)."""
    rule: str | None
    """Which rule let it in."""
    reason: str | None
    """Why it does not pass, in a few words."""
    answer: str | None
    """The packet that its sender gets for it, in one line."""
    steps: list[TraceStep]
    peers: dict[str, str] = {}
    """What the peers are called whose keys are in the rules, by key."""


class CapturedPacket(Struct, frozen=True, kw_only=True):
    """One packet."""

    time_ns: int
    """Since 1970."""
    direction: Literal["in", "out"]
    peer: str | None
    """Its name, or else its peer id or WireGuard key; null where nobody has the address."""
    length: int
    """Of the whole packet, bytes."""
    segment: int
    """Payload bytes of each segment of a super-packet but the last; 0 for any other packet."""
    dropped: str | None
    """Why it did not pass; null if it did."""
    data: bytes
    """The packet from its IP header on, as far as it was asked for."""


class Captured(Struct, frozen=True, kw_only=True):
    """What was captured since the last time."""

    schema: int = SCHEMA
    packets: list[CapturedPacket]
    missed: int
    """How many were left out before these: the listener is too slow."""
