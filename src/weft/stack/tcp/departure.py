"""What leaves: the next packet of a connection, made when the host is asked for it.

In this order: a SYN; a probe of a closed window or of the tail; data and FIN, the lost before the new; a keepalive; an
acknowledgment alone. All that leaves acknowledges, so that what is owed is paid with whatever goes first.

Source: RFC 9293 sections 3.1, 3.8.6; RFC 7323 section 3.2; RFC 2018 section 4.
"""

from __future__ import annotations

from typing import Final

from weft.packet.protocols import TCP
from weft.packet.tcp import ACK, FIN, HEADER_BYTES, LAYOUT, PSH, SYN, URG
from weft.stack.header import encode_header
from weft.stack.outgoing import Outgoing
from weft.stack.tcp.connection import Connection
from weft.stack.tcp.options import MAX_SACK_BLOCKS, TIMESTAMPS_BYTES, Options, encode_options, encode_timestamps
from weft.stack.tcp.receiver import SHIFT, UNSCALED_MAX
from weft.stack.tcp.recovery import Phase
from weft.stack.tcp.sender import MIN_SUPER_SEGMENT, Run
from weft.stack.tcp.sequence import MASK
from weft.stack.tcp.states import HANDSHAKE, SENDING, State
from weft.stack.tcp.timers import ACKNOWLEDGE, MS, PERSIST, RETRANSMIT

MAX_URGENT: Final = 0xFFFF


def next_packet(connection: Connection, now: int) -> Outgoing | None:
    """The next packet that a connection has to send; None if there is none now.

    Args:
        connection: any.
        now: monotonic ns.
    """
    if connection.state in HANDSHAKE:
        if not connection.owes_syn:
            return None
        connection.owes_syn = False
        return _syn(connection, now)
    sender = connection.sender
    if not connection.has_to_send:
        return None
    is_held = connection.state in SENDING and connection.macroflow.holds(connection)
    if is_held:
        connection.macroflow.wait(connection, now)
        if not (connection.owes_ack or connection.owes_probe or connection.probe):
            return None
    options = _options(connection, now)
    segment = sender.segment - len(options) + (0 if connection.offset is None else TIMESTAMPS_BYTES)
    if connection.probe is not None:
        (start, end), connection.probe = connection.probe, None
        # It may have waited for its turn so long that it is acknowledged.
        start = max(start, sender.una)
        if start < end:
            return _data(connection, Run(start, end, is_resent=True), segment, options, now)
    if connection.state in SENDING and not is_held:
        run = sender.next_run(now, segment)
        if run is not None:
            return _data(connection, run, segment, options, now)
        if sender.is_stuck and PERSIST not in connection.timers:
            connection.start_timer(PERSIST, now + sender.round_trip.timeout_ns)
    if connection.owes_probe:
        connection.owes_probe = False
        return Outgoing([_acknowledging(connection, sender.nxt - 1, ACK, options, 0)], 0, True)
    if connection.owes_ack:
        return Outgoing([_acknowledging(connection, sender.nxt, ACK, options, 0)], 0, True)
    return None


def _syn(connection: Connection, now: int) -> Outgoing:
    """A SYN, with the acknowledgment of theirs if there was one."""
    sender, receiver, tcp = connection.sender, connection.receiver, connection.tcp
    is_answer = connection.state is State.SYN_RECEIVED
    timestamp = None if connection.offset is None else (_clock(connection, now), connection.recent)
    options = Options(
        maximum_segment=connection.largest_segment(tcp.ip.mtu(connection.remote.address)),
        shift=SHIFT if not is_answer or receiver.shift else None,
        sack_permitted=not is_answer or sender.recovery.selective,
        timestamps=timestamp,
    )
    sender.handle_syn_sent(now)
    connection.start_timer(RETRANSMIT, now + sender.round_trip.timeout_ns)
    # The window of a SYN is never scaled.
    window = min(receiver.offer, UNSCALED_MAX)
    receiver.edge = max(receiver.edge, receiver.next + window)
    connection.owes_ack = False
    flags = SYN | ACK if is_answer else SYN
    acknowledgment = receiver.next if is_answer else 0
    headers = _headers(connection, sender.una, acknowledgment, flags, window, 0, encode_options(options), 0)
    return Outgoing([headers], 0, True)


def _data(connection: Connection, run: Run, segment: int, options: bytes, now: int) -> Outgoing:
    """The bytes of a run."""
    sender = connection.sender
    buffer = sender.buffer
    start, end, is_resent = run
    flags = ACK
    if sender.fin is not None and end > sender.fin:
        flags |= FIN
        end = sender.fin
    if end == buffer.end and end > start:
        flags |= PSH
    if sender.nxt > sender.una:
        # What lies behind a closed window is not on the way, and waits for the next probe.
        if is_resent and start == sender.una and sender.recovery.phase is Phase.RECOVERY:
            # What everything waits for gets its whole time again: later segments arrive, or it would not be known lost.
            connection.start_timer(RETRANSMIT, now + sender.round_trip.timeout_ns)
        elif RETRANSMIT not in connection.timers:
            connection.start_timer(RETRANSMIT, now + sender.wait_ns)
        connection.timers.pop(PERSIST, None)
    if connection.awaits_room and not is_resent:
        connection.notify()
    length = end - start
    is_super = length > segment >= MIN_SUPER_SEGMENT
    headers = _acknowledging(connection, start, flags, options, length)
    return Outgoing([headers, *buffer.slices(start, end)], segment if is_super else 0, True)


def _acknowledging(connection: Connection, sequence: int, flags: int, options: bytes, length: int) -> bytes:
    """The headers of a packet that acknowledges all that has come."""
    receiver, urgent = connection.receiver, 0
    connection.owes_ack = False
    connection.told_to = receiver.next
    connection.timers.pop(ACKNOWLEDGE, None)
    if connection.sender.urgent > sequence:
        flags |= URG
        urgent = min(connection.sender.urgent - sequence, MAX_URGENT)
    return _headers(connection, sequence, receiver.next, flags, receiver.window(), urgent, options, length)


def _headers(
    connection: Connection,
    sequence: int,
    acknowledgment: int,
    flags: int,
    window: int,
    urgent: int,
    options: bytes,
    length: int,
) -> bytes:
    """Those of IP and TCP in front of so many bytes."""
    source, source_port = connection.local
    destination, destination_port = connection.remote
    header_length = HEADER_BYTES + len(options)
    ip = encode_header(
        source,
        destination,
        TCP,
        header_length + length,
        hop_limit=connection.hop_limit,
        traffic_class=connection.traffic_class,
    )
    tcp = LAYOUT.pack(
        source_port,
        destination_port,
        sequence & MASK,
        acknowledgment & MASK,
        header_length << 2,
        flags,
        window,
        0,
        urgent,
    )
    return ip + tcp + options


def _options(connection: Connection, now: int) -> bytes:
    """The options of all but the SYN: timestamps, and what came behind holes."""
    blocks = connection.receiver.blocks
    if not blocks or not connection.sender.recovery.selective:
        if connection.offset is None:
            return b""
        return encode_timestamps(_clock(connection, now), connection.recent)
    timestamps = None if connection.offset is None else (_clock(connection, now), connection.recent)
    told = blocks[: MAX_SACK_BLOCKS if timestamps is None else MAX_SACK_BLOCKS - 1]
    wire = tuple((left & MASK, right & MASK) for left, right in told)
    return encode_options(Options(blocks=wire, timestamps=timestamps))


def _clock(connection: Connection, now: int) -> int:
    """Our timestamp: milliseconds, and an offset that tells nobody how long we are up."""
    return (now // MS + (connection.offset or 0)) & MASK
