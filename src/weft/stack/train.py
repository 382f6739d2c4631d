"""Datagrams of one socket to one destination, sent in a row: they leave as one super-packet, if all are of one size.

The header is made when the train leaves, so that datagrams can join it as long as it waits. A shorter datagram is its
last.

Source: wire.md section 4 (super-packets of kind 2).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from weft.burst.records import MAX_UDP_SEGMENTS, MIN_SEGMENT_BYTES
from weft.packet.checksum import Buffer
from weft.packet.protocols import UDP
from weft.packet.udp import HEADER_BYTES
from weft.stack.header import encode_header
from weft.stack.outgoing import Outgoing

MAX_TRAIN_BYTES: Final = 64_000
"""What a TUN takes, and a burst holds."""

UDP_HEADER: Final = Struct("!HHHH")


class Flow:
    """From where to where: what the datagrams of a train share."""

    __slots__ = ("destination", "destination_port", "hop_limit", "source", "source_port")

    def __init__(
        self, source: bytes, source_port: int, destination: bytes, destination_port: int, hop_limit: int
    ) -> None:
        self.source = source
        self.source_port = source_port
        self.destination = destination
        self.destination_port = destination_port
        self.hop_limit = hop_limit


class Train:
    """One datagram or more, waiting.

    Attributes:
        flow: of all of them.
        total: bytes of headers and payload.
    """

    __slots__ = ("_is_open", "_parts", "_segment", "flow", "total")

    def __init__(self, flow: Flow, data: bytes) -> None:
        self.flow = flow
        self._segment = len(data)
        self.total = _headers(flow) + len(data)
        self._parts: list[Buffer] = [data]
        self._is_open = len(data) >= MIN_SEGMENT_BYTES

    def takes(self, flow: Flow, length: int) -> bool:
        """Whether the next datagram may join: one of the same flow object that is not longer than the first."""
        return (
            self._is_open
            and flow is self.flow
            and 0 < length <= self._segment
            and len(self._parts) < MAX_UDP_SEGMENTS
            and self.total + length <= MAX_TRAIN_BYTES
        )

    def add(self, data: bytes) -> None:
        """Let a datagram join; see `takes`."""
        self._parts.append(data)
        self.total += len(data)
        self._is_open = len(data) == self._segment

    def outgoing(self) -> Outgoing:
        """The packet, or super-packet, that leaves."""
        flow = self.flow
        length = sum(map(len, self._parts)) + HEADER_BYTES
        header = encode_header(flow.source, flow.destination, UDP, length, hop_limit=flow.hop_limit)
        header += UDP_HEADER.pack(flow.source_port, flow.destination_port, length, 0)
        return Outgoing([header, *self._parts], self._segment if len(self._parts) > 1 else 0, True)


def _headers(flow: Flow) -> int:
    return (40 if len(flow.source) == 16 else 20) + HEADER_BYTES
