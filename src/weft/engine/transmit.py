"""Packets, records and messages for one peer, sealed and sent: as bursts, or as type 4 messages.

Rules of the file: whatever can't be sent now waits for its session, or is dropped and counted; what a call sends is
noted in the peer's machines once.

Source: wire.md sections 3 and 4; the WireGuard paper, section 5.4.6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from weft.burst.ecn import ECT_0, NOT_ECT, ecn_of
from weft.burst.header import DATA_OVERHEAD_BYTES, MAX_PIECES, PIECE_HEADER_BYTES, TAG_BYTES, TYPE_DATA
from weft.burst.records import KIND_PACKET, RECORD_HEADER, RECORD_HEADER_BYTES
from weft.burst.seal import MAX_SEND_BYTES, PADDING, BurstSealer, PacketSealer, padding_of, seal_packet
from weft.engine.peer import Endpoint, Peer, Queued
from weft.io.udp import MAX_SEGMENTS
from weft.noise.keypair import Keypair
from weft.paths.mtu import BASE_MTU

BURST_OVERHEAD_BYTES = RECORD_HEADER_BYTES + TAG_BYTES + 15
"""Of a burst of one record, at most: header, tag, padding."""


class Attendant(Protocol):
    """Who looks after what is not the fast path; the Session."""

    def attend(self, peer: Peer) -> None:
        """Drain the peer's machines and arm its timer anew."""

    def handle_resting(self, packet: memoryview) -> None:
        """A packet is for a peer that has no session and is not called."""

    def handle_too_big(self, packet: memoryview, room: int, now: int) -> None:
        """A packet for a peer does not fit the path there."""


class Transmitter:
    """Seals and sends; the buffers that it seals into are its own.

    Attributes:
        pieces: how many bursts had so many pieces, by that number.
    """

    def __init__(self, attendant: Attendant, drops: Counter[str]) -> None:
        self._attendant = attendant
        self._drops = drops
        self._bursts = BurstSealer()
        self._packets = PacketSealer()
        self.pieces = [0] * (MAX_PIECES + 1)

    @staticmethod
    def keypair_for(peer: Peer, now: int) -> Keypair | None:
        """What packets are sealed with; None while older packets wait for it, which must not be overtaken."""
        keypair = peer.tunnel.keypair_for_sending(now)
        return None if peer.queue else keypair

    def hold(self, peer: Peer, packet: memoryview | bytes, kind: int, segment: int) -> None:
        """Keep a packet until there is a session; the oldest makes room. Nothing waits for who is not called."""
        if peer.tunnel.is_resting:
            self._attendant.handle_resting(memoryview(packet))
            return
        if len(peer.queue) == peer.queue.maxlen:
            self._drops["queue for a session full"] += 1
        peer.queue.append(Queued(bytes(packet), kind, segment))
        self._attendant.attend(peer)

    def send_packet(self, peer: Peer, packet: bytes, now: int) -> None:
        """Send one packet of the node's own to a peer, its checksums computed."""
        self.send_packets(peer, [memoryview(packet)], now)

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
        self._transmit(peer, self._packets.take(), length, 1, now, NOT_ECT, arrives=arrives)
        return True

    def send_raw(self, peer: Peer, datagram: bytes) -> None:
        """Send a finished datagram of the tunnel: a handshake message or a keepalive."""
        endpoint = peer.path.endpoint
        if not isinstance(endpoint, Endpoint):
            # A handshake is begun again once there is somewhere to send it.
            if datagram[0] == TYPE_DATA:
                self._drops["no endpoint"] += 1
        elif not peer.path.may_send(len(datagram)):
            self._drops["unproven endpoint"] += 1
        else:
            endpoint.socket.send(datagram, len(datagram), endpoint.address, local=endpoint.local)
            peer.path.tx_bytes += len(datagram)
            peer.path.size.datagrams_sent += 1

    def send_record(
        self, peer: Peer, packet: memoryview | bytes, kind: int, flags: int, segment: int, now: int
    ) -> None:
        """Send one record as a burst of its own.

        Args:
            peer: where to.
            packet: the bytes of the record.
            kind: of the record, as flags and segment.
            flags: of the record.
            segment: payload bytes of each segment of a super-packet, else 0.
            now: monotonic ns.
        """
        keypair = peer.tunnel.keypair_for_sending(now)
        if keypair is None:
            self._drops["session ended under a burst"] += 1
            return
        length = len(packet)
        header = RECORD_HEADER.pack(length, kind, flags, segment)
        plain = b"".join((header, packet, PADDING[(RECORD_HEADER_BYTES + length) % 16]))
        self.send_burst(peer, keypair, plain, now, ECT_0 if ecn_of(packet) else NOT_ECT)

    def send_burst(self, peer: Peer, keypair: Keypair, plain: memoryview | bytes, now: int, ecn: int) -> None:
        """Send records as a burst.

        Args:
            peer: where to.
            keypair: what `keypair_for` gave.
            plain: records and padding.
            now: monotonic ns.
            ecn: bits of the outer header.
        """
        counter = keypair.take_counter()
        if counter is None:
            self._drops["no counter left"] += 1
            return
        piece = peer.piece
        data = self._bursts.seal(keypair, counter, plain, piece)
        size = piece + PIECE_HEADER_BYTES
        count = -(-len(data) // size)
        self.pieces[count] += 1
        self._transmit(peer, data, size, count, now, ecn)
        if count > 1 and peer.path.size.handle_burst_sent(now):
            self._attendant.attend(peer)

    def send_segments(self, peer: Peer, keypair: Keypair, segments: list[bytes], now: int) -> None:
        """Send the segments of one super-packet as type 4 messages, as many in one call as may be.

        Args:
            peer: where to.
            keypair: what `keypair_for` gave.
            segments: packets, already padded, whose checksums are computed; all of one length but the last.
            now: monotonic ns.
        """
        room = peer.packet_room
        length = len(segments[0])
        if length > room:
            self.send_packets(peer, segments, now)
            return
        size = length + DATA_OVERHEAD_BYTES
        ecn = ecn_of(segments[0])
        per_send = min(MAX_SEGMENTS, MAX_SEND_BYTES // size)
        for first in range(0, len(segments), per_send):
            together = segments[first : first + per_send]
            counter = keypair.take_counters(len(together))
            if counter is None:
                self._drops["no counter left"] += 1
                return
            data = self._packets.seal_segments(keypair, counter, together)
            self._transmit(peer, data, size, len(together), now, ecn)

    def send_packets(self, peer: Peer, packets: Sequence[memoryview | bytes], now: int) -> None:
        """Send packets as type 4 messages, those of one size in one call; what is too big goes as a burst.

        Args:
            peer: where to.
            packets: in their order, their checksums computed.
            now: monotonic ns.
        """
        keypair = self.keypair_for(peer, now)
        if keypair is None:
            for packet in packets:
                self.hold(peer, packet, KIND_PACKET, 0)
            return
        room = peer.packet_room
        sealer = self._packets
        sealer.clear()
        # Datagrams of one size and the same ECN bits leave in one call; the last one may be shorter.
        count = segment = last = 0
        run_ecn = NOT_ECT
        for packet in packets:
            length = len(packet)
            if length > room:
                count = self._send_run(peer, count, segment, run_ecn, now)
                self._send_large(peer, packet, room, now)
                continue
            padding = padding_of(length, room)
            size = length + len(padding) + DATA_OVERHEAD_BYTES
            ecn = ecn_of(packet)
            if count and not (
                size <= segment == last and ecn == run_ecn and count < MAX_SEGMENTS and sealer.takes(size)
            ):
                count = self._send_run(peer, count, segment, run_ecn, now)
            counter = keypair.take_counter()
            if counter is None:
                self._drops["no counter left"] += 1
                break
            sealer.add(keypair, counter, b"".join((packet, padding)) if padding else packet)
            if not count:
                segment, run_ecn = size, ecn
            last = size
            count += 1
        self._send_run(peer, count, segment, run_ecn, now)

    def _send_run(self, peer: Peer, count: int, segment: int, ecn: int, now: int) -> int:
        """Send what the packet sealer holds; returns how many there are then, none."""
        if count:
            self._transmit(peer, self._packets.take(), segment, count, now, ecn)
            self._packets.clear()
        return 0

    def _send_large(self, peer: Peer, packet: memoryview | bytes, room: int, now: int) -> None:
        """A packet that fits no datagram of the path goes as a burst of several pieces, or its sender is told."""
        if len(packet) + BURST_OVERHEAD_BYTES <= largest_burst(peer):
            self.send_record(peer, packet, KIND_PACKET, 0, 0, now)
        elif packet[0] >> 4 == 6 and len(packet) <= BASE_MTU:
            self._send_fragmentable(peer, packet, now)
        else:
            self._attendant.handle_too_big(memoryview(packet), room, now)

    def _send_fragmentable(self, peer: Peer, packet: memoryview | bytes, now: int) -> None:
        """Send an IPv6 packet that nobody may be told to make smaller as a type 4 message that IP may fragment."""
        keypair = self.keypair_for(peer, now)
        counter = keypair.take_counter() if keypair is not None else None
        endpoint = peer.path.endpoint
        length = len(packet) + DATA_OVERHEAD_BYTES
        if keypair is None or counter is None or not isinstance(endpoint, Endpoint) or not peer.path.may_send(length):
            self._drops["no way for a large packet"] += 1
            return
        endpoint.socket.send_fragmentable(seal_packet(keypair, counter, packet), endpoint.address, endpoint.local)
        peer.path.tx_bytes += length
        if peer.tunnel.handle_sent(now, data=True):
            self._attendant.attend(peer)

    def _transmit(
        self,
        peer: Peer,
        data: memoryview | bytes,
        segment: int,
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
        length = len(data)
        if not path.may_send(length):
            self._drops["unproven endpoint"] += 1
            return
        if not endpoint.socket.send(data, segment, endpoint.address, ecn, endpoint.local):
            path.mtu.handle_too_big(min(segment, length) + path.mtu.mtu - path.datagram_bytes, now)
            self._attendant.attend(peer)
            return
        path.tx_bytes += length
        path.size.datagrams_sent += count
        if arrives and peer.tunnel.handle_sent(now, data=True):
            self._attendant.attend(peer)


def largest_burst(peer: Peer) -> int:
    """How large a burst may be for a packet that fits no datagram, bytes; 0 where none arrives."""
    return 0 if peer.path.size.vanish else min(peer.burst_limit, MAX_PIECES * peer.piece)
