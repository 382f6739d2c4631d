"""The way out of a burst: TUN (or stack), firewall, route, split, seal, send.

Rules of the file:
- The TUN is read into one long buffer, each packet behind room for its record header; what lies there is sealed where
  it lies. Small packets for one peer that are ready at the same time follow each other and become one burst.
- Peer, keys and path are looked up once per burst; firewall and route once per packet that the TUN gave, which is once
  per super-packet.
- Everything that was read is sent before the call returns: nothing waits for more to come.

Source: house.md, "The way of a burst"; wire.md section 4, "What is packed".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from weft.burst.ecn import ECT_0, NOT_ECT, ecn_of
from weft.burst.header import DATA_OVERHEAD_BYTES, MAX_PIECES, PIECE_HEADER_BYTES, TAG_BYTES
from weft.burst.records import (
    FLAG_CHECKSUM_PARTIAL,
    KIND_PACKET,
    KIND_TCP,
    RECORD_HEADER,
    RECORD_HEADER_BYTES,
    super_packet_fault,
    transport_of,
)
from weft.burst.seal import MAX_SEND_BYTES, BurstSealer, PacketSealer, padding_of, seal_packet
from weft.burst.split import segments_in_run, split
from weft.engine.peer import MAX_BURST_PACKED_PIECES, Endpoint, Peer, Queued
from weft.errors import DecodeError
from weft.firewall.firewall import Firewall
from weft.io.tun import MAX_PACKET_BYTES, Read, Tun
from weft.io.udp import MAX_SEGMENTS
from weft.noise.allowed import AllowedSources
from weft.noise.keypair import Keypair
from weft.packet.checksum import FIELD, complete
from weft.packet.ip import decode_upper_layer
from weft.paths.mtu import BASE_MTU

MAX_READS = 64
"""Packets taken from the TUN in one wake-up, so that timers and the API get their turn."""
MAX_READ_BYTES = 512 * 1024

_BUFFER_BYTES = 4 * (MAX_PACKET_BYTES + 1)
_BURST_OVERHEAD = RECORD_HEADER_BYTES + TAG_BYTES + 15
"""Of a burst of one record, at most: header, tag, padding."""
_PADDING = [bytes(-length % 16) for length in range(16)]
"""By length modulo 16: the zeros that fill a plain text."""


class Attendant(Protocol):
    """Who looks after what is not the fast path; the Session."""

    def attend(self, peer: Peer) -> None:
        """Drain the peer's machines and arm its timer anew."""

    def handle_unroutable(self, packet: memoryview, now: int) -> None:
        """No peer has the destination of a packet from the TUN."""

    def handle_too_big(self, packet: memoryview, room: int, now: int) -> None:
        """A packet from the TUN does not fit the path to its peer."""


class _Entry(NamedTuple):
    """One small packet in the buffer."""

    start: int
    """Of its record header."""
    end: int
    partial: tuple[int, int] | None
    """Protocol and offset of the transport header, if its checksum is still to be computed."""


class Outbound:
    """Sends what the TUN gives, and what the node itself has to say."""

    def __init__(
        self,
        routes: AllowedSources[Peer],
        firewall: Firewall,
        attendant: Attendant,
        clock: Callable[[], int],
        drops: Counter[str],
    ) -> None:
        self._routes = routes
        self._firewall = firewall
        self._attendant = attendant
        self._clock = clock
        self._drops = drops
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._bursts = BurstSealer()
        self._packets = PacketSealer()
        self._batch: list[_Entry] = []
        self._batch_peer: Peer | None = None

    def drain(self, tun: Tun) -> None:
        """Take what the TUN has, up to a bound, and send it."""
        now = self._clock()
        buffer = self._buffer
        position = taken = 0
        # A fault may have left some of the last time, whose bytes are overwritten now.
        self._batch = []
        for _ in range(MAX_READS):
            start = position + RECORD_HEADER_BYTES
            if start + MAX_PACKET_BYTES > _BUFFER_BYTES:
                self._flush(now)
                start = RECORD_HEADER_BYTES
            read = tun.read(buffer[start : start + MAX_PACKET_BYTES])
            if read is None:
                break
            end = start + read.length
            position = self._take(start, end, read, now)
            taken += read.length
            if taken > MAX_READ_BYTES:
                break
        self._flush(now)

    def send_packet(self, peer: Peer, packet: bytes, now: int) -> None:
        """Send one packet of the node's own to a peer, its checksums computed."""
        self._send_packets(peer, [memoryview(packet)], now)

    def send_queued(self, peer: Peer, now: int) -> None:
        """A session came up: send what waited for it."""
        waiting = list(peer.queue)
        peer.queue.clear()
        for packet, kind, segment in waiting:
            if kind == KIND_PACKET:
                self._send_packets(peer, [memoryview(packet)], now)
            else:
                self._send_super(peer, memoryview(packet), kind, segment, now)

    def send_message(self, peer: Peer, plain: bytes, now: int) -> bool:
        """Send a multigram as a type 4 message; False where there is no session or no endpoint."""
        keypair = peer.tunnel.keypair_for_sending(now) if peer.tunnel.is_up(now) else None
        counter = keypair.take_counter() if keypair is not None else None
        if keypair is None or counter is None:
            return False
        self._packets.clear()
        length = self._packets.add(keypair, counter, plain)
        # A larger one than the path is known to carry is no sign of life, and its loss says nothing of the peer.
        arrives = length <= peer.path.datagram_bytes
        self._transmit(peer, [self._packets.take()], length, length, 1, now, NOT_ECT, arrives=arrives)
        return True

    def send_raw(self, peer: Peer, datagram: bytes) -> None:
        """Send a finished datagram of the tunnel: a handshake message or a keepalive."""
        endpoint = peer.path.endpoint
        if not isinstance(endpoint, Endpoint):
            self._drops["no endpoint"] += 1
        elif not peer.path.may_send(len(datagram)):
            self._drops["unproven endpoint"] += 1
        else:
            endpoint.socket.send([datagram], len(datagram), endpoint.address)
            peer.path.tx_bytes += len(datagram)
            peer.path.size.datagrams_sent += 1

    def _take(self, start: int, end: int, read: Read, now: int) -> int:
        """Route and check one packet in the buffer; returns where the next one may be read to."""
        packet = self._buffer[start:end]
        before = self._batch[-1].end if self._batch else 0
        if end - start < 40 and (end - start < 20 or packet[0] >> 4 == 6):
            self._drops["tun: short packet"] += 1
            return before
        peer = self._routes.lookup(packet[24:40] if packet[0] >> 4 == 6 else packet[16:20])
        if peer is None:
            self._attendant.handle_unroutable(packet, now)
            return before
        if not self._firewall.outbound(packet, now):
            return before
        peer.in_use = True
        if read.kind != KIND_PACKET:
            self._flush(now)
            self._send_super(peer, packet, read.kind, read.segment, now, in_buffer=start)
            return 0
        batch = self._batch
        room = MAX_BURST_PACKED_PIECES * peer.piece - _BURST_OVERHEAD
        if batch and (peer is not self._batch_peer or end - batch[0].start > room):
            self._flush(now)
        self._batch_peer = peer
        batch = self._batch
        batch.append(_Entry(start - RECORD_HEADER_BYTES, end, self._partial(packet) if read.is_partial else None))
        return end

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
        batch, peer = self._batch, self._batch_peer
        if not batch or peer is None:
            return
        self._batch = []
        start, end = batch[0].start, batch[-1].end
        if len(batch) > 1 and end - start + _BURST_OVERHEAD <= self._burst_room(peer):
            keypair = self._keypair(peer, now)
            if keypair is not None:
                self._seal_batch(peer, keypair, batch, now)
                return
        packets = []
        for entry in batch:
            packet = self._buffer[entry.start + RECORD_HEADER_BYTES : entry.end]
            if entry.partial:
                complete(packet, entry.partial[1], entry.partial[0])
            packets.append(packet)
        self._send_packets(peer, packets, now)

    def _seal_batch(self, peer: Peer, keypair: Keypair, batch: list[_Entry], now: int) -> None:
        buffer = self._buffer
        ecn = ECT_0
        for start, end, partial in batch:
            first = start + RECORD_HEADER_BYTES
            RECORD_HEADER.pack_into(buffer, start, end - first, KIND_PACKET, FLAG_CHECKSUM_PARTIAL if partial else 0, 0)
            if ecn and not ecn_of(buffer[first:end]):
                ecn = NOT_ECT
        self._seal_records(peer, keypair, batch[0].start, batch[-1].end, now, ecn)

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
        keypair = self._keypair(peer, now)
        if keypair is None:
            self._hold(peer, packet, kind, segment)
            return
        is_taken = (kind == KIND_TCP or peer.takes_udp) and super_packet_fault(packet, kind, segment) is None
        room = self._burst_room(peer) if is_taken else 0
        length = len(packet)
        if length + _BURST_OVERHEAD <= room:
            if in_buffer is None:
                in_buffer = RECORD_HEADER_BYTES
                self._buffer[in_buffer : in_buffer + length] = packet
            first = in_buffer - RECORD_HEADER_BYTES
            RECORD_HEADER.pack_into(self._buffer, first, length, kind, FLAG_CHECKSUM_PARTIAL, segment)
            ecn = ECT_0 if ecn_of(packet) else NOT_ECT
            self._seal_records(peer, keypair, first, in_buffer + length, now, ecn)
            return
        layout = transport_of(packet) or _behind_extensions(packet)
        if layout is None:
            self._drops["tun: odd super-packet"] += 1
            return
        transport = layout[1]
        headers = transport + ((packet[transport + 12] >> 4) * 4 if kind == KIND_TCP else 8)
        per_run = segments_in_run(room - _BURST_OVERHEAD, headers, segment)
        runs = split(packet, transport, segment, per_run)
        if per_run == 1:
            self._send_segments(peer, keypair, runs, now)
            return
        for run in runs:
            if len(run) - headers > segment:
                self._seal_record(peer, run, kind, FLAG_CHECKSUM_PARTIAL, segment, now)
            else:
                self._seal_record(peer, run, KIND_PACKET, FLAG_CHECKSUM_PARTIAL, 0, now)

    def _seal_record(
        self, peer: Peer, packet: memoryview | bytearray, kind: int, flags: int, segment: int, now: int
    ) -> None:
        """Seal one record that does not lie in the buffer as a burst of its own."""
        keypair = peer.tunnel.keypair_for_sending(now)
        if keypair is None:
            self._drops["session ended under a burst"] += 1
            return
        length = len(packet)
        header = RECORD_HEADER.pack(length, kind, flags, segment)
        plain = b"".join((header, packet, _PADDING[(RECORD_HEADER_BYTES + length) % 16]))
        self._seal_plain(peer, keypair, plain, now, ECT_0 if ecn_of(packet) else NOT_ECT)

    def _seal_records(self, peer: Peer, keypair: Keypair, start: int, end: int, now: int, ecn: int) -> None:
        """Seal records that lie in the buffer; what the padding overwrites is put back, for a packet may lie there."""
        padding = _PADDING[(end - start) % 16]
        stop = end + len(padding)
        overwritten = bytes(self._buffer[end:stop])
        self._buffer[end:stop] = padding
        self._seal_plain(peer, keypair, self._buffer[start:stop], now, ecn)
        self._buffer[end:stop] = overwritten

    def _seal_plain(self, peer: Peer, keypair: Keypair, plain: memoryview | bytes, now: int, ecn: int) -> None:
        counter = keypair.take_counter()
        if counter is None:
            self._drops["no counter left"] += 1
            return
        piece = peer.piece
        parts = self._bursts.seal(keypair, counter, plain, piece)
        count = len(parts) // 2
        length = len(plain) + TAG_BYTES + count * PIECE_HEADER_BYTES
        self._transmit(peer, parts, piece + PIECE_HEADER_BYTES, length, count, now, ecn)
        if count > 1 and peer.path.size.handle_burst_sent(now):
            self._attendant.attend(peer)

    def _send_segments(self, peer: Peer, keypair: Keypair, segments: list[bytearray], now: int) -> None:
        """Send the segments of one super-packet as type 4 messages, as many in one call as may be."""
        room = peer.packet_room
        length = len(segments[0])
        if length > room:
            self._send_packets(peer, segments, now)
            return
        padding, last_padding = padding_of(length, room), padding_of(len(segments[-1]), room)
        size = length + len(padding) + DATA_OVERHEAD_BYTES
        ecn = ecn_of(segments[0])
        per_send = min(MAX_SEGMENTS, MAX_SEND_BYTES // size)
        for first in range(0, len(segments), per_send):
            together = segments[first : first + per_send]
            is_last = first + per_send >= len(segments)
            counter = keypair.take_counters(len(together))
            if counter is None:
                self._drops["no counter left"] += 1
                return
            data = self._packets.seal_segments(
                keypair, counter, together, padding, last_padding if is_last else padding
            )
            self._transmit(peer, [data], size, len(data), len(together), now, ecn)

    def _send_packets(self, peer: Peer, packets: Sequence[memoryview | bytearray], now: int) -> None:
        """Send packets as type 4 messages, those of one size in one call; what is too big goes as a burst.

        Args:
            peer: where to.
            packets: in their order, their checksums computed.
            now: monotonic ns.
        """
        keypair = self._keypair(peer, now)
        if keypair is None:
            for packet in packets:
                self._hold(peer, packet, KIND_PACKET, 0)
            return
        room = peer.packet_room
        sealer = self._packets
        sealer.clear()
        run = _Run()
        for packet in packets:
            length = len(packet)
            if length > room:
                self._send_run(peer, run, now)
                self._send_large(peer, packet, room, now)
                continue
            padding = padding_of(length, room)
            size = length + len(padding) + DATA_OVERHEAD_BYTES
            ecn = ecn_of(packet)
            if run.count and (
                size > run.segment or ecn != run.ecn or run.count == MAX_SEGMENTS or not sealer.takes(size)
            ):
                self._send_run(peer, run, now)
            counter = keypair.take_counter()
            if counter is None:
                self._drops["no counter left"] += 1
                break
            sealer.add(keypair, counter, b"".join((packet, padding)) if padding else packet)
            if not run.count:
                run.segment, run.ecn = size, ecn
            run.count += 1
            if size < run.segment:
                self._send_run(peer, run, now)
        self._send_run(peer, run, now)

    def _send_run(self, peer: Peer, run: _Run, now: int) -> None:
        """Send what the packet sealer holds and begin a new run."""
        if run.count:
            data = self._packets.take()
            self._transmit(peer, [data], run.segment, len(data), run.count, now, run.ecn)
            self._packets.clear()
            run.count = 0

    def _send_large(self, peer: Peer, packet: memoryview | bytearray, room: int, now: int) -> None:
        """A packet that fits no datagram of the path goes as a burst of several pieces, or its sender is told."""
        if len(packet) + _BURST_OVERHEAD <= min(peer.burst_limit, MAX_PIECES * peer.piece):
            self._seal_record(peer, packet, KIND_PACKET, 0, 0, now)
        elif packet[0] >> 4 == 6 and len(packet) <= BASE_MTU:
            self._send_fragmentable(peer, packet, now)
        else:
            self._attendant.handle_too_big(memoryview(packet), room, now)

    def _send_fragmentable(self, peer: Peer, packet: memoryview | bytearray, now: int) -> None:
        """Send an IPv6 packet that nobody may be told to make smaller as a type 4 message that IP may fragment."""
        keypair = self._keypair(peer, now)
        counter = keypair.take_counter() if keypair is not None else None
        endpoint = peer.path.endpoint
        length = len(packet) + DATA_OVERHEAD_BYTES
        if keypair is None or counter is None or not isinstance(endpoint, Endpoint) or not peer.path.may_send(length):
            self._drops["no way for a large packet"] += 1
            return
        endpoint.socket.send_fragmentable(seal_packet(keypair, counter, packet), endpoint.address)
        peer.path.tx_bytes += length
        if peer.tunnel.handle_sent(now, data=True):
            self._attendant.attend(peer)

    def _transmit(
        self,
        peer: Peer,
        parts: Sequence[memoryview],
        segment: int,
        length: int,
        count: int,
        now: int,
        ecn: int,
        *,
        arrives: bool = True,
    ) -> None:
        """Send datagrams of one peer in one call, and note it in its machines."""
        path = peer.path
        endpoint = path.endpoint
        if not isinstance(endpoint, Endpoint):
            self._drops["no endpoint"] += 1
            return
        if not path.may_send(length):
            self._drops["unproven endpoint"] += 1
            return
        if not endpoint.socket.send(parts, segment, endpoint.address, ecn):
            path.mtu.handle_too_big(min(segment, length) + path.mtu.mtu - path.datagram_bytes, now)
            self._attendant.attend(peer)
            return
        path.tx_bytes += length
        path.size.datagrams_sent += count
        if arrives and peer.tunnel.handle_sent(now, data=True):
            self._attendant.attend(peer)

    @staticmethod
    def _keypair(peer: Peer, now: int) -> Keypair | None:
        """What packets are sealed with; None while older packets wait for it, which must not be overtaken."""
        keypair = peer.tunnel.keypair_for_sending(now)
        return None if peer.queue else keypair

    def _hold(self, peer: Peer, packet: memoryview | bytearray, kind: int, segment: int) -> None:
        """Keep a packet until there is a session; the oldest makes room."""
        if len(peer.queue) == peer.queue.maxlen:
            self._drops["queue for a session full"] += 1
        peer.queue.append(Queued(bytes(packet), kind, segment))
        self._attendant.attend(peer)


def _behind_extensions(packet: memoryview) -> tuple[int, int] | None:
    """As `transport_of`, but behind IPv6 extension headers too: such packets are no records of a super-packet."""
    try:
        upper = decode_upper_layer(packet)
    except DecodeError:
        return None
    return (upper.protocol, upper.start) if upper.fragment is None else None


class _Run:
    """Type 4 messages of one size, but for the last, that leave in one call."""

    __slots__ = ("count", "ecn", "segment")

    def __init__(self) -> None:
        self.count = 0
        self.segment = 0
        self.ecn = NOT_ECT
