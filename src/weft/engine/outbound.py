"""The way out of a burst: TUN (or stack), firewall, route, split, seal, send.

Rules of the file:
- The device is read into one long buffer, each packet behind room for its record header; what lies there is sealed
  where it lies. Small packets for one peer that are ready at the same time follow each other and become one burst.
- Peer, keys and path are looked up once per burst; firewall and route once per packet that the device gave, which is
  once per super-packet.
- Everything that was read is sent before the call returns: nothing waits for more to come.

Source: house.md, "The way of a burst"; wire.md section 4, "What is packed".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from weft.burst.ecn import ECT_0, NOT_ECT, ecn_of
from weft.burst.records import (
    FLAG_CHECKSUM_PARTIAL,
    KIND_PACKET,
    KIND_TCP,
    RECORD_HEADER,
    RECORD_HEADER_BYTES,
    plain_super_fault,
    transport_of,
)
from weft.burst.seal import PADDING, PADDING_BYTES
from weft.burst.split import segments_in_run, split
from weft.engine.capture import Captures
from weft.engine.peer import MAX_BURST_PACKED_PIECES, Peer
from weft.engine.transmit import BURST_OVERHEAD_BYTES, Transmitter
from weft.errors import DecodeError
from weft.firewall.firewall import Firewall
from weft.io.device import MAX_PACKET_BYTES, Device, Read
from weft.noise.allowed import AllowedSources
from weft.noise.keypair import Keypair
from weft.packet.checksum import FIELD, complete
from weft.packet.ip import decode_upper_layer

MAX_READS = 64
"""Packets taken from the device in one wake-up, so that timers and the API get their turn."""
MAX_READ_BYTES = 512 * 1024

_BUFFER_BYTES = 4 * (MAX_PACKET_BYTES + 1)


_Entry = tuple[memoryview, tuple[int, int] | None]
"""A small packet in the buffer; protocol and offset of its transport header, if its checksum is not computed yet."""


class Attendant(Protocol):
    """Who looks after what is not the fast path; the Session."""

    def handle_unroutable(self, packet: memoryview, now: int) -> None:
        """No peer has the destination of a packet from the device."""


class Outbound:
    """Sends what the device gives.

    Attributes:
        firewall: decides what may leave.
    """

    def __init__(
        self,
        routes: AllowedSources[Peer],
        firewall: Firewall,
        transmitter: Transmitter,
        attendant: Attendant,
        clock: Callable[[], int],
        drops: Counter[str],
        captures: Captures,
    ) -> None:
        self._routes = routes
        self.firewall = firewall
        self._attendant = attendant
        self._clock = clock
        self._drops = drops
        self._captures = captures
        self._listeners = captures.listeners
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._transmitter = transmitter
        self._batch: list[_Entry] = []
        self._batch_peer: Peer | None = None
        self._batch_start = self._batch_end = self._batch_limit = 0
        """In the buffer: where the first one's record header begins, where the last one ends, and how far it may."""

    def drain(self, device: Device) -> bool:
        """Take what the device has, up to a bound, and send it.

        Returns:
            Whether there may be more.
        """
        now = self._clock()
        buffer = self._buffer
        position = taken = 0
        read: Read | None = None
        if self._batch_peer is not None:
            # A fault has left some of the last time, whose bytes are overwritten now.
            self._forget_batch()
        for _ in range(MAX_READS):
            start = position + RECORD_HEADER_BYTES
            if start + MAX_PACKET_BYTES > _BUFFER_BYTES:
                self._flush(now)
                start = RECORD_HEADER_BYTES
            read = device.read(buffer[start : start + MAX_PACKET_BYTES])
            if read is None:
                break
            end = start + read.length
            position = self._take(start, end, read, now)
            taken += read.length
            if taken > MAX_READ_BYTES:
                break
        self._flush(now)
        return read is not None

    def send_queued(self, peer: Peer, now: int) -> None:
        """A session came up: send what waited for it."""
        waiting = list(peer.queue)
        peer.queue.clear()
        for packet, kind, segment in waiting:
            if kind == KIND_PACKET:
                self._transmitter.send_packets(peer, [memoryview(packet)], now)
            else:
                self._send_super(peer, memoryview(packet), kind, segment, now)

    def _take(self, start: int, end: int, read: Read, now: int) -> int:
        """Route and check one packet in the buffer; returns where the next one may be read to."""
        packet = self._buffer[start:end]
        if end - start < 40 and (end - start < 20 or packet[0] >> 4 == 6):
            self._drops["tun: short packet"] += 1
            return self._batch_end
        peer = self._routes.lookup((packet[24:40] if packet[0] >> 4 == 6 else packet[16:20]).tobytes())
        if peer is None:
            if self._listeners:
                self._tell(None, packet, read, "no peer has the destination")
            self._attendant.handle_unroutable(packet, now)
            return self._batch_end
        if not self.firewall.outbound(packet, now):
            if self._listeners:
                self._tell(peer, packet, read, self.firewall.reason)
            return self._batch_end
        if self._listeners:
            self._tell(peer, packet, read)
        peer.in_use = True
        if read.kind != KIND_PACKET:
            self._flush(now)
            self._send_super(peer, packet, read.kind, read.segment, now, in_buffer=start)
            return 0
        if peer is not self._batch_peer or end > self._batch_limit:
            self._flush(now)
            self._batch_peer = peer
            self._batch_start = first = start - RECORD_HEADER_BYTES
            self._batch_limit = first + MAX_BURST_PACKED_PIECES * peer.piece - BURST_OVERHEAD_BYTES
        self._batch.append((packet, self._partial(packet) if read.is_partial else None))
        self._batch_end = end
        return end

    def _tell(self, peer: Peer | None, packet: memoryview, read: Read, dropped: str | None = None) -> None:
        """Tell a packet to whoever captures."""
        self._captures.put("out", peer, [packet], read.segment, is_partial=read.is_partial, dropped=dropped)

    def _partial(self, packet: memoryview) -> tuple[int, int] | None:
        """Protocol and offset of the transport header, whose checksum may stay as it is; else it is computed here."""
        layout = transport_of(packet)
        if layout is not None and layout[0] in FIELD:
            return layout
        layout = _behind_extensions(packet)
        if layout is None or layout[0] not in FIELD:
            self._drops["tun: checksum of an odd packet"] += 1
        else:
            complete(packet, layout[1], layout[0])
        return None

    def _flush(self, now: int) -> None:
        """Send the batch: several records as one burst, where bursts may go, else packet by packet."""
        peer = self._batch_peer
        if peer is None:
            return
        batch, start, end = self._batch, self._batch_start, self._batch_end
        self._forget_batch()
        if len(batch) > 1 and end - start + BURST_OVERHEAD_BYTES <= self._burst_room(peer):
            keypair = self._transmitter.keypair_for(peer, now)
            if keypair is not None:
                self._seal_batch(peer, keypair, batch, start, end, now)
                return
        packets = []
        for packet, partial in batch:
            if partial is not None:
                complete(packet, partial[1], partial[0])
            packets.append(packet)
        self._transmitter.send_packets(peer, packets, now)

    def _forget_batch(self) -> None:
        self._batch = []
        self._batch_peer = None
        self._batch_end = 0

    def _seal_batch(self, peer: Peer, keypair: Keypair, batch: list[_Entry], start: int, end: int, now: int) -> None:
        buffer = self._buffer
        at = start
        ecn = ECT_0
        for packet, partial in batch:
            length = len(packet)
            RECORD_HEADER.pack_into(buffer, at, length, KIND_PACKET, FLAG_CHECKSUM_PARTIAL if partial else 0, 0)
            at += RECORD_HEADER_BYTES + length
            if ecn and not ecn_of(packet):
                ecn = NOT_ECT
        # What does not go with them lies behind them, where the padding is.
        overwritten = bytes(buffer[end : end + PADDING_BYTES])
        self._seal_records(peer, keypair, start, end, now, ecn)
        buffer[end : end + PADDING_BYTES] = overwritten

    @staticmethod
    def _burst_room(peer: Peer) -> int:
        """The largest total that a burst may have there now; 0 where single packets go."""
        pieces = peer.path.size.pieces
        return min(peer.burst_limit, pieces * peer.piece) if pieces > 1 else 0

    def _send_super(
        self, peer: Peer, packet: memoryview, kind: int, segment: int, now: int, in_buffer: int | None = None
    ) -> None:
        """Send a super-packet: whole, in runs that fit a burst, or segment by segment.

        Args:
            peer: where to.
            packet: its transport checksum is not computed.
            kind: KIND_TCP or KIND_UDP.
            segment: payload bytes of each segment.
            now: monotonic ns.
            in_buffer: its offset in the buffer, if it lies there behind room for a record header.
        """
        keypair = self._transmitter.keypair_for(peer, now)
        if keypair is None:
            self._transmitter.hold(peer, packet, kind, segment)
            return
        layout = transport_of(packet)
        is_sound = layout is not None and plain_super_fault(packet, kind, segment, *layout) is None
        room = self._burst_room(peer) if is_sound and (kind == KIND_TCP or peer.takes_udp) else 0
        length = len(packet)
        if length + BURST_OVERHEAD_BYTES <= room:
            if in_buffer is None:
                in_buffer = RECORD_HEADER_BYTES
                self._buffer[in_buffer : in_buffer + length] = packet
            first = in_buffer - RECORD_HEADER_BYTES
            RECORD_HEADER.pack_into(self._buffer, first, length, kind, FLAG_CHECKSUM_PARTIAL, segment)
            ecn = ECT_0 if ecn_of(packet) else NOT_ECT
            self._seal_records(peer, keypair, first, in_buffer + length, now, ecn)
            return
        layout = layout or _behind_extensions(packet)
        if layout is None:
            self._drops["tun: odd super-packet"] += 1
            return
        transport = layout[1]
        headers = transport + ((packet[transport + 12] >> 4) * 4 if kind == KIND_TCP else 8)
        per_run = segments_in_run(room - BURST_OVERHEAD_BYTES, headers, segment)
        runs = split(packet, transport, segment, per_run, peer.packet_room if per_run == 1 else 0)
        if per_run == 1:
            self._transmitter.send_segments(peer, keypair, runs, now)
            return
        for run in runs:
            if len(run) - headers > segment:
                self._transmitter.send_record(peer, run, kind, FLAG_CHECKSUM_PARTIAL, segment, now)
            else:
                self._transmitter.send_record(peer, run, KIND_PACKET, FLAG_CHECKSUM_PARTIAL, 0, now)

    def _seal_records(self, peer: Peer, keypair: Keypair, start: int, end: int, now: int, ecn: int) -> None:
        """Seal records that lie in the buffer; the padding overwrites what lies behind them."""
        padding = PADDING[(end - start) % PADDING_BYTES]
        stop = end + len(padding)
        self._buffer[end:stop] = padding
        self._transmitter.send_burst(peer, keypair, self._buffer[start:stop], now, ecn)


def _behind_extensions(packet: memoryview) -> tuple[int, int] | None:
    """As `transport_of`, but behind IPv6 extension headers too: such packets are no records of a super-packet."""
    try:
        upper = decode_upper_layer(packet)
    except DecodeError:
        return None
    return (upper.protocol, upper.start) if upper.fragment is None else None
