"""The packets of the overlay, told to whoever listens, as they pass the firewall.

    out   what the interface gave, once a peer was found for it and the firewall let it pass
    in    what is handed to the interface
    both  with `dropped`: what did not get so far, and why

A packet is shown as the node handles it: a super-packet whole, with the size of its segments. Checksums that were left
to the device are completed in the copy.

While nobody listens the datapath pays one look at `listeners` a packet or record. Each listener has a queue of its own
with a bound; what does not fit is counted, and told with the packets that come after.

Not done here: the file (packet/pcap.py), and how a packet looks to a person (cli/capture.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from typing import Final, Literal

from weft.burst.records import transport_of
from weft.engine.observed import MAX_SNAP, Captured, CapturedPacket
from weft.engine.peer import Peer
from weft.errors import UsageError
from weft.identity import PeerId, encode_wireguard_key
from weft.io.clock import wall_ns
from weft.packet.checksum import FIELD, Buffer, complete

MAX_LISTENERS: Final = 8
QUEUE_BYTES: Final = 8 * 1024 * 1024
"""What may wait for one listener."""
PACKET_BYTES: Final = 256
"""What a packet takes of that besides its bytes."""
TOLD_BYTES: Final = 256 * 1024
"""What is told at once, so that a listener is not woken for each packet where there are many."""


class Captures:
    """Everybody who listens.

    Attributes:
        listeners: always this list, which the datapath looks at; empty while nobody listens.
    """

    def __init__(self) -> None:
        self.listeners: list[_Listener] = []

    def put(
        self,
        direction: Literal["in", "out"],
        peer: Peer | None,
        parts: Sequence[Buffer],
        segment: int = 0,
        *,
        is_partial: bool = False,
        dropped: str | None = None,
    ) -> None:
        """Tell a packet to everybody who listens.

        Args:
            direction: its way.
            peer: whose it is.
            parts: buffers whose concatenation is the packet; copied.
            segment: payload bytes of each segment of a super-packet, else 0.
            is_partial: its transport checksum is not computed.
            dropped: why it does not pass, if it does not.
        """
        length = sum(map(len, parts))
        listeners = [each for each in self.listeners if each.wants(peer, dropped) and each.has_room(length)]
        if not listeners:
            return
        now = wall_ns()
        packet = _copy(parts, is_partial=is_partial)
        for listener in listeners:
            listener.put(
                CapturedPacket(
                    time_ns=now,
                    direction=direction,
                    peer=_title(peer) if peer is not None else None,
                    length=length,
                    segment=segment,
                    dropped=dropped,
                    data=packet[: listener.snap],
                )
            )

    def listen(
        self, *, peer: Peer | None = None, snap: int = MAX_SNAP, dropped: bool = False
    ) -> AsyncIterator[Captured]:
        """All packets from the first `anext` on, until the iterator is closed.

        Args:
            peer: only those of this one.
            snap: bytes of each packet that are kept.
            dropped: whether those that do not pass are told too.

        Raises:
            UsageError: there are too many listeners; raised by the first `anext`.
        """
        return self._listen(_Listener(peer.tunnel.peer_public if peer is not None else None, snap, dropped=dropped))

    async def _listen(self, listener: _Listener) -> AsyncIterator[Captured]:
        if len(self.listeners) >= MAX_LISTENERS:
            raise UsageError(f"{MAX_LISTENERS} captures run already, which is the most")
        self.listeners.append(listener)
        try:
            while True:
                yield await listener.get()
        finally:
            self.listeners.remove(listener)


class _Listener:
    """What one listener wants, and what waits for it."""

    def __init__(self, key: bytes | None, snap: int, *, dropped: bool) -> None:
        self.snap = snap
        # Not the peer itself, which is another one when the session was built anew.
        self._key = key
        self._dropped = dropped
        self._queue: deque[CapturedPacket] = deque()
        self._room = QUEUE_BYTES
        self._missed = 0
        self._filled = asyncio.Event()

    def wants(self, peer: Peer | None, dropped: str | None) -> bool:
        """Whether it asked for packets like this."""
        if self._key is not None and (peer is None or peer.tunnel.peer_public != self._key):
            return False
        return dropped is None or self._dropped

    def has_room(self, length: int) -> bool:
        """Whether another packet may wait; one that may not is counted."""
        has_room = min(length, self.snap) + PACKET_BYTES <= self._room
        self._missed += not has_room
        return has_room

    def put(self, packet: CapturedPacket) -> None:
        self._room -= len(packet.data) + PACKET_BYTES
        self._queue.append(packet)
        self._filled.set()

    async def get(self) -> Captured:
        await self._filled.wait()
        packets, taken = [], 0
        while self._queue and taken < TOLD_BYTES:
            packets.append(self._queue.popleft())
            taken += len(packets[-1].data) + PACKET_BYTES
        self._room += taken
        if not self._queue:
            self._filled.clear()
        missed, self._missed = self._missed, 0
        return Captured(packets=packets, missed=missed)


def _copy(parts: Sequence[Buffer], *, is_partial: bool) -> bytes:
    """The packet as the other side's programs will see it: with its checksum."""
    if not is_partial:
        return b"".join(parts)
    packet = bytearray().join(parts)
    layout = transport_of(memoryview(packet))
    if layout is not None and layout[0] in FIELD:
        complete(packet, layout[1], layout[0])
    return bytes(packet)


def _title(peer: Peer) -> str:
    """What a person calls a peer."""
    if peer.name is not None:
        return peer.name
    return encode_wireguard_key(peer.tunnel.peer_public) if peer.peer_id is None else _text_of(peer.peer_id)


@lru_cache(1024)
def _text_of(peer_id: PeerId) -> str:
    return str(peer_id)
