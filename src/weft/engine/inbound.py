"""The way in of a burst: UDP, keys, join, open, source check, firewall, TUN (or stack).

Rules of the file:
- Nothing is believed before a tag was good; what is wrong is counted by reason and changes nothing.
- A burst that lies whole in one GRO buffer, as most do, is opened without any state; all others go through a `Joiner`.
- Source address and firewall are checked per record, in the order in which records and packets came.
- Packets that came one by one are merged into super-packets before the TUN takes them; what a wake-up read is all
  written before the call returns.

Source: house.md, "The way of a burst"; wire.md sections 2, 4 and 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidTag

from weft.burst.ecn import CE, CHANGING, NOT_ECT, decapsulate, mark_ce
from weft.burst.header import (
    DATA_HEADER,
    DATA_HEADER_BYTES,
    DATA_OVERHEAD_BYTES,
    MAX_PIECES,
    MAX_TOTAL_BYTES,
    NONCE,
    PIECE_HEADER_BYTES,
    TYPE,
    TYPE_BURST,
    TYPE_DATA,
    decode_piece_header,
)
from weft.burst.join import QUIET_NS, Joiner, Whole, whole_in_buffer
from weft.burst.records import (
    FLAG_CHECKSUM_PARTIAL,
    KIND_MULTIGRAM,
    KIND_PACKET,
    KIND_UDP,
    Record,
    decode_records,
    plain_super_fault,
    transport_of,
)
from weft.burst.seal import open_burst
from weft.engine import hearing
from weft.engine.capture import Captures
from weft.engine.delivery import Delivery
from weft.engine.hearing import Hearing
from weft.engine.peer import Endpoint, Peer
from weft.errors import DecodeError
from weft.firewall.firewall import Firewall
from weft.firewall.judge import Verdict
from weft.io.recvmmsg import Address, Received
from weft.io.udp import UdpSocket
from weft.mesh.multigram import FIRST_BYTE
from weft.noise.allowed import AllowedSources
from weft.noise.keypair import Keypair
from weft.noise.replay import WINDOW
from weft.noise.timers import REJECT_AFTER_MESSAGES
from weft.noise.tunnel import Tunnel
from weft.packet.checksum import FIELD

MAX_RUNS = 256
MAX_RECEIVED_BYTES = 1024 * 1024
"""What is taken in one wake-up, so that timers and the API get their turn."""
LONE_BYTES = 2048
"""What came alone and is no longer than this is a request or an answer. Who sent it waits, so the socket is not asked
for more; if there is more after all, it wakes us again."""

_PLAIN_BYTES = 4 * 65_536

_ACCEPT, _REJECT = Verdict.ACCEPT, Verdict.REJECT
_NOT_PLAIN = (-1, 0)
"""In place of protocol and offset of a transport header."""


class Attendant(hearing.Attendant, Protocol):
    """Who looks after what is not the fast path; the Session."""

    def receive_control(self, endpoint: Endpoint, datagram: memoryview, now: int) -> None:
        """A datagram came that is neither of type 4 nor of type 5."""

    def receive_multigram(self, peer: Peer, data: memoryview, now: int) -> None:
        """A multigram came through a peer's tunnel."""

    def handle_refused(self, peer: Peer, packet: memoryview, now: int) -> None:
        """The firewall rejects a packet of a peer."""

    def refuse_bursts(self, peer: Peer, now: int) -> None:
        """Ask a peer for type 4 messages only."""


class Inbound:
    """Takes what the sockets receive.

    Attributes:
        firewall: decides what may enter.
        pieces: how many bursts had so many pieces, by that number.
    """

    def __init__(
        self,
        keypairs: dict[int, Keypair],
        peers: dict[Tunnel, Peer],
        routes: AllowedSources[Peer],
        firewall: Firewall,
        delivery: Delivery,
        attendant: Attendant,
        clock: Callable[[], int],
        drops: Counter[str],
        captures: Captures,
    ) -> None:
        self._keypairs = keypairs
        self._peers = peers
        self._routes = routes
        self.firewall = firewall
        self._attendant = attendant
        self._clock = clock
        self._drops = drops
        self._captures = captures
        self._plain = memoryview(bytearray(_PLAIN_BYTES))
        self._opened = memoryview(bytearray(MAX_TOTAL_BYTES))
        self.pieces = [0] * (MAX_PIECES + 1)
        self._position = 0
        self._delivery = delivery
        self._merging: Tunnel | None = None
        self._is_alone = False
        self._hearing = Hearing(peers, attendant)
        self._joiner: Joiner | None = None
        self._endpoint: Endpoint | None = None

    def drain(self, socket: UdpSocket) -> None:
        """Take what a socket has, up to a bound, and deliver it."""
        now = self._clock()
        runs = taken = 0
        try:
            while runs < MAX_RUNS and taken <= MAX_RECEIVED_BYTES and (received := socket.receive()):
                self._is_alone = not (runs or self._position or socket.was_full) and _is_lone(received)
                for buffer, segment, source, ecn, local in received:
                    self._take(socket, buffer, segment, source, ecn, local, now)
                    taken += len(buffer)
                runs += len(received)
                if taken <= LONE_BYTES and not socket.was_full:
                    break
            self._hearing.settle(now)
            self._flush()
        finally:
            # A fault is none of what came before it.
            self._delivery.settle()

    def _take(
        self, socket: UdpSocket, buffer: memoryview, segment: int, source: Address, ecn: int, local: bytes, now: int
    ) -> None:
        """Classify each datagram of a run by its first bytes."""
        length = len(buffer)
        endpoint = self._endpoint
        if endpoint is None or endpoint.address != source or endpoint.socket is not socket or endpoint.arrival != local:
            if socket.is_ipv6 and source[0][4:5] == ":" and source[0].startswith("fc"):
                # fc00::/8: it came through the overlay to our own port; to answer would send the tunnel into itself.
                self._drops["source is of the overlay"] += -(-length // segment) if segment else 1
                return
            endpoint = self._endpoint = Endpoint.heard(socket, source, local)
        start, kind_at = 0, TYPE.unpack_from
        while start < length:
            if self._joiner is not None:
                whole, end = self._joiner.receive_following(
                    buffer, start, length, segment, endpoint, now, met_congestion=ecn == CE
                )
                if end > start:
                    self._take_whole(endpoint, whole, now)
                    start = end
                    continue
                self._joiner = None
            kind = kind_at(buffer, start)[0] if length - start >= 4 <= segment else 0
            if kind == TYPE_BURST:
                whole = whole_in_buffer(buffer, start, length, segment)
                if whole is not None and self._open_whole(endpoint, whole, ecn, now):
                    start += len(whole.sealed) + whole.pieces * PIECE_HEADER_BYTES
                    continue
                if whole is None or whole.pieces > 1:
                    self._take_piece(endpoint, buffer[start : start + segment], ecn, now)
            elif kind == TYPE_DATA:
                self._take_data(endpoint, buffer[start : start + segment], ecn, now)
                if start + segment < length and self._merging is not None and ecn not in CHANGING:
                    start = self._follow(buffer, start + segment, length, segment, ecn, now)
                    continue
            else:
                self._attendant.receive_control(endpoint, buffer[start : start + segment], now)
            start += segment

    def _keypair_for(self, receiver_index: int, counter: int, now: int) -> Keypair | None:
        """The keypair that may open a message with this counter; before anything is decrypted."""
        keypair = self._keypairs.get(receiver_index)
        if keypair is None or now >= keypair.expires_at:
            self._drops["unknown index"] += 1
            return None
        if not keypair.window.is_fresh(counter):
            self._drops["replayed"] += 1
            return None
        return keypair

    def _open_whole(self, endpoint: Endpoint, whole: Whole, ecn: int, now: int) -> bool:
        """Open a burst that lies whole in the buffer; False where its pieces may still be those of others."""
        if whole.pieces > 1 and whole.receiver_index not in self._keypairs:
            return False
        keypair = self._keypair_for(whole.receiver_index, whole.counter, now)
        if keypair is None:
            return True
        length = open_burst(keypair.opener, whole.counter, whole.prefix, whole.sealed, self._opened)
        if length < 0:
            if whole.pieces == 1:
                self._handle_bad_tag(keypair, endpoint, whole.counter, now)
            return False
        self._deliver_burst(endpoint, keypair, whole, length, ecn, now)
        return True

    def _take_piece(self, endpoint: Endpoint, datagram: memoryview, ecn: int, now: int) -> None:
        """Take a piece that came alone, or among others that are not all of its burst."""
        try:
            header = decode_piece_header(datagram)
        except DecodeError:
            self._drops["burst: undecodable"] += 1
            return
        keypair = self._keypair_for(header.receiver_index, header.counter, now)
        if keypair is None:
            return
        peer = self._peers[keypair.tunnel]
        proven = _is_credible(peer, keypair, endpoint, header.counter)
        self._joiner = peer.joiner
        whole = peer.joiner.receive(header, datagram, endpoint, now, proven=proven, met_congestion=ecn == CE)
        self._take_whole(endpoint, whole, now)
        if peer.armed_at is None or peer.armed_at > now + QUIET_NS:
            self._attendant.attend(peer)

    def _take_whole(self, endpoint: Endpoint, whole: Whole | None, now: int) -> None:
        """Open a burst whose last missing piece came."""
        if whole is None:
            return
        keypair = self._keypair_for(whole.receiver_index, whole.counter, now)
        if keypair is None:
            return
        length = open_burst(keypair.opener, whole.counter, whole.prefix, whole.sealed, self._opened)
        if length < 0:
            self._handle_bad_tag(keypair, endpoint, whole.counter, now)
        else:
            self._deliver_burst(endpoint, keypair, whole, length, CE if whole.met_congestion else NOT_ECT, now)

    def _handle_bad_tag(self, keypair: Keypair, endpoint: Endpoint, counter: int, now: int) -> None:
        self._drops["burst: bad tag"] += 1
        peer = self._peers[keypair.tunnel]
        if _is_credible(peer, keypair, endpoint, counter) and peer.handle_bad_tag(now):
            self._attendant.refuse_bursts(peer, now)

    def _deliver_burst(
        self, endpoint: Endpoint, keypair: Keypair, whole: Whole, length: int, ecn: int, now: int
    ) -> None:
        """Deliver the records of a burst that opened."""
        _, counter, _, sealed, pieces, _ = whole
        if not keypair.window.accept(counter):
            self._drops["replayed"] += 1
            return
        peer = self._peers[keypair.tunnel]
        bytes_on_wire = len(sealed) + pieces * PIECE_HEADER_BYTES
        meter = peer.meter
        meter.opened += 1
        self.pieces[pieces] += 1
        meter.expected += pieces
        meter.got += pieces
        self._hearing.hear(endpoint, keypair, counter, bytes_on_wire, now, data=True)
        plain = self._opened[:length]
        try:
            records = decode_records(plain)
        except DecodeError:
            self._drops["burst: bad records"] += 1
            return
        if records[0].kind != KIND_MULTIGRAM:
            self._hearing.run.packets = True
        # What came one by one before is still being merged, and may be of the same flow.
        self._flush()
        for record in records:
            self._deliver_record(peer, record, plain, ecn, now)

    def _deliver_record(self, peer: Peer, record: Record, plain: memoryview, ecn: int, now: int) -> None:
        kind, flags, segment, start, end = record
        packet = plain[start:end]
        if kind == KIND_MULTIGRAM and not flags:
            self._attendant.receive_multigram(peer, packet, now)
            return
        if kind > KIND_UDP or flags & ~FLAG_CHECKSUM_PARTIAL:
            self._drops["record: unknown kind or flag"] += 1
            return
        if not self._may_enter(peer, packet, now, segment, flags):
            return
        if ecn == CE:
            mark_ce(packet)
        if kind == KIND_PACKET and not flags:
            self._delivery.write([packet])
            return
        protocol, transport = transport_of(packet) or _NOT_PLAIN
        if protocol not in FIELD or end - start < transport + 8:
            self._drops["record: not plain IP"] += 1
        elif kind == KIND_PACKET:
            self._delivery.write_partial(packet, protocol, transport)
        elif fault := plain_super_fault(packet, kind, segment, protocol, transport):
            self._drops[f"record: {fault}"] += 1
        else:
            self._delivery.write_super(packet, kind, segment, protocol, transport)

    def _take_data(self, endpoint: Endpoint, datagram: memoryview, ecn: int, now: int) -> None:
        """Open one type 4 message and deliver what is in it."""
        length = len(datagram) - DATA_OVERHEAD_BYTES
        if length < 0:
            self._drops["data: too short"] += 1
            return
        _, receiver_index, counter = DATA_HEADER.unpack_from(datagram)
        keypair = self._keypair_for(receiver_index, counter, now)
        if keypair is None:
            return
        if self._position + length > _PLAIN_BYTES:
            self._flush()
        start = self._position
        plain = self._plain[start : start + length]
        try:
            keypair.opener.decrypt_into(NONCE.pack(counter), datagram[DATA_HEADER_BYTES:], None, plain)
        except InvalidTag:
            self._drops["data: bad tag"] += 1
            return
        if not keypair.window.accept(counter):
            self._drops["replayed"] += 1
            return
        self._hearing.hear(endpoint, keypair, counter, len(datagram), now, data=length > 0)
        if keypair.tunnel is self._merging and ecn not in CHANGING and (merged := self._delivery.extend(plain)):
            self._position += merged
        elif length:
            self._deliver_plain(self._peers[keypair.tunnel], plain, ecn, now)

    def _follow(self, buffer: memoryview, start: int, length: int, segment: int, ecn: int, now: int) -> int:
        """Open the messages behind one that was just opened, while they are of the same keypair and none is missing.

        This is the loop in which Python pays per packet, so all that can be is looked up before it.

        Returns:
            Where the first datagram begins that somebody else has to look at: of another kind or keypair, behind a gap,
            or bad.
        """
        run, position, plains = self._hearing.run, self._position, self._plain
        keypair = run.keypair
        if keypair is None or keypair.tunnel is not self._merging:
            return start
        index, window, begin = keypair.local_index, keypair.window, start
        counter = first = window.highest + 1
        if counter + (length - start) // segment >= REJECT_AFTER_MESSAGES:
            return start
        header_at, nonce_of = DATA_HEADER.unpack_from, NONCE.pack
        decrypt_into, extend = keypair.opener.decrypt_into, self._delivery.extend
        for end in (*range(start + segment, length, segment), length):
            behind = position + end - start - DATA_OVERHEAD_BYTES
            if not position < behind <= _PLAIN_BYTES or header_at(buffer, start) != (TYPE_DATA, index, counter):
                break
            plain = plains[position:behind]
            try:
                decrypt_into(nonce_of(counter), buffer[start + DATA_HEADER_BYTES : end], None, plain)
            except InvalidTag:
                break
            counter += 1
            start = end
            if merged := extend(plain):
                position += merged
                continue
            self._position = position
            self._deliver_plain(self._peers[keypair.tunnel], plain, ecn, now)
            position = self._position
        self._position = position
        if counter > first:
            window.accept_next(counter - first)
            run.messages += counter - first
            run.bytes += start - begin
            run.highest = max(run.highest, counter - 1)
        return start

    def _deliver_plain(self, peer: Peer, plain: memoryview, ecn: int, now: int) -> None:
        """Deliver the plain text of a type 4 message: an IP packet with its padding, or a multigram."""
        first = plain[0]
        if first >= FIRST_BYTE:
            self._attendant.receive_multigram(peer, plain, now)
            return
        length = _ip_length(plain)
        if not 20 <= length <= len(plain):
            self._drops["data: neither IP nor multigram"] += 1
            return
        packet = plain[:length]
        self._hearing.run.packets = True
        if not self._may_enter(peer, packet, now):
            return
        if ecn in CHANGING and not decapsulate(packet, ecn):
            self._drops["data: congestion met, not ECN-capable"] += 1
            return
        if self._is_alone:
            self._delivery.write([packet])
        elif self._delivery.merge(packet):
            self._position += length
            self._merging = peer.tunnel

    def _may_enter(self, peer: Peer, packet: memoryview, now: int, segment: int = 0, flags: int = 0) -> bool:
        """Whether the inner source belongs to the peer, and the firewall lets the packet in.

        Segment and flags are those of its record, for whoever captures what does not enter.
        """
        length = len(packet)
        is_ipv6 = length > 0 and packet[0] >> 4 == 6
        if length < (40 if is_ipv6 else 20):
            self._drops["record: too short"] += 1
            return False
        source = (packet[8:24] if is_ipv6 else packet[12:16]).tobytes()
        if source != peer.address and self._routes.lookup(source) is not peer:
            self._drops["source is not the peer's"] += 1
            if self._captures.listeners:
                self._tell_refused(peer, packet, segment, flags, "source is not the peer's")
            return False
        verdict = self.firewall.inbound(packet, now, peer.tunnel.peer_public)
        if verdict is _ACCEPT:
            return True
        if self._captures.listeners:
            self._tell_refused(peer, packet, segment, flags, self.firewall.reason)
        if verdict is _REJECT:
            self._attendant.handle_refused(peer, packet, now)
        return False

    def _tell_refused(self, peer: Peer, packet: memoryview, segment: int, flags: int, reason: str) -> None:
        """Tell a packet that may not enter to whoever captures."""
        self._captures.put("in", peer, [packet], segment, is_partial=flags != 0, dropped=reason)

    def _flush(self) -> None:
        """Write what is still being merged; its buffer is free again."""
        if self._position:
            self._delivery.flush()
            self._position = 0


def _is_lone(received: list[Received]) -> bool:
    """Whether one short datagram is all that came: then there is nothing to merge it with."""
    run = received[0]
    return len(received) == 1 and len(run.data) <= LONE_BYTES and len(run.data) <= run.segment


def _is_credible(peer: Peer, keypair: Keypair, endpoint: Endpoint, counter: int) -> bool:
    """Whether a burst that is not opened may well be the peer's, so that what becomes of it says something of its path.

    Anybody can write the peer's endpoint as the source of a datagram. What is further ahead of all that opened than the
    replay window is long is no counter that the peer has come to, or so much was lost that bursts are no matter.
    """
    path = peer.path
    return path.is_proven and path.endpoint == endpoint and counter - keypair.window.highest < WINDOW


def _ip_length(packet: memoryview) -> int:
    """The length that an IP header tells, bytes; 0 where it is none."""
    version = packet[0] >> 4
    if version == 6 and len(packet) >= 40:
        return 40 + (packet[4] << 8 | packet[5])
    if version == 4 and len(packet) >= 20:
        return packet[2] << 8 | packet[3]
    return 0
