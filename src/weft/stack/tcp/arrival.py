"""What a segment does to the connection that it is for.

The order of the checks is that of the RFC: timestamp, sequence number, RST, SYN, acknowledgment, urgent pointer, data,
FIN. A segment that fails one changes nothing; where it may come from somebody who has forgotten the connection, or from
somebody who has nothing to do with it, the other side is asked by an acknowledgment (a challenge), which an attacker
does not see.

Source: RFC 9293 section 3.10.7; RFC 5961 sections 3 to 5 (challenges); RFC 7323 sections 3 to 5 (timestamps, PAWS).
Not done here: segments without a connection, and those of listeners (tcp.py, listener.py).
"""

from __future__ import annotations

from typing import Final

from weft.packet.tcp import ACK, FIN, RST, SYN, URG
from weft.stack.failure import Failure
from weft.stack.icmp_error import PathError
from weft.stack.tcp.connection import Connection
from weft.stack.tcp.options import TIMESTAMPS_BYTES, Options
from weft.stack.tcp.receiver import SHIFT
from weft.stack.tcp.segment import Segment
from weft.stack.tcp.sequence import MASK, unwrap
from weft.stack.tcp.states import HANDSHAKE, RECEIVING, SYN_RECEIVED, SYN_SENT, State, Step
from weft.stack.tcp.timers import ACKNOWLEDGE, DELAYED_ACK_NS, FIN_WAIT_NS, MS, PERSIST, RETRANSMIT, S, Timer

DEFAULT_SEGMENT_V4: Final = 536
DEFAULT_SEGMENT_V6: Final = 1220
"""Of a peer that does not say how large segments may be (MUST-15)."""
MIN_SEGMENT: Final = 48
"""What a peer can make us use at least, so that it can't make us send headers only."""
CHALLENGE_INTERVAL_NS: Final = 500 * MS
"""Of one connection, so that nobody learns from a common limit what others do (RFC 5961 section 7, and its errata)."""
RECENT_IS_OLD_NS: Final = 24 * 86400 * S
"""A timestamp that nothing has renewed for so long says nothing any more (RFC 7323 section 5.5)."""
_HALF: Final = 1 << 31


def receive(connection: Connection, segment: Segment, now: int) -> None:
    """Take a segment that is for a connection.

    Args:
        connection: not closed.
        segment: its payload is copied.
        now: monotonic ns.
    """
    if connection.state is SYN_SENT:
        _receive_in_syn_sent(connection, segment, now)
    else:
        _receive_synchronized(connection, segment, now)


def receive_error(connection: Connection, error: PathError) -> None:
    """Take what an ICMP message says of a segment that is on the way.

    Args:
        connection: not closed.
        error: what became of the segment.
    """
    if error.failure is Failure.TOO_LONG:
        set_mtu(connection, connection.tcp.ip.mtu(connection.remote.address))
    elif connection.state in HANDSHAKE:
        # RFC 5461 section 4.1: nobody is served by waiting for an address where nobody is.
        connection.end(error.failure)
    else:
        # MUST-56, and RFC 5927 section 6: what works may go on, whatever others say of it.
        connection.soft = error.failure


def is_on_the_way(connection: Connection, sequence: int) -> bool:
    """Whether a segment that begins there was sent and is not acknowledged (RFC 5927 section 4.1)."""
    sender = connection.sender
    return sender.una <= unwrap(sequence, sender.una) < max(sender.highest, sender.una + 1)


def set_mtu(connection: Connection, mtu: int) -> None:
    """The path takes packets of another size."""
    sender = connection.sender
    before = sender.segment
    connection.mtu = mtu
    segment = min(connection.maximum, connection.largest_segment(mtu))
    sender.set_segment(max(MIN_SEGMENT, segment - (0 if connection.offset is None else TIMESTAMPS_BYTES)))
    if sender.segment < before and sender.in_flight and connection.state not in HANDSHAKE:
        # RFC 1191 section 6.4: it is sent again at once, and is no sign of congestion.
        sender.handle_too_big()
        connection.queue_to_send()


# The handshake.


def agree(connection: Connection, segment: Segment, now: int) -> None:
    """Take what the SYN of the other side says of itself."""
    options = segment.options
    receiver, sender = connection.receiver, connection.sender
    receiver.next = receiver.edge = segment.sequence + 1
    connection.told_to = receiver.next
    apply_options(connection, options, now)
    sender.set_window(segment.window)
    connection.window_sequence = segment.sequence
    connection.window_acknowledgment = sender.una


def apply_options(connection: Connection, options: Options, now: int) -> None:
    """Use what both sides can; those of a SYN."""
    receiver, sender = connection.receiver, connection.sender
    default = DEFAULT_SEGMENT_V4 if connection.remote.is_ipv4 else DEFAULT_SEGMENT_V6
    connection.maximum = options.maximum_segment or default
    receiver.shift = SHIFT if options.shift is not None else 0
    connection.shift = options.shift or 0
    sender.recovery.selective = options.sack_permitted
    if options.timestamps is None:
        connection.offset = None
    else:
        connection.recent, connection.recent_at = options.timestamps[0], now
    set_mtu(connection, connection.mtu)
    sender.cubic.handle_peer_known(sender.segment, has_lost=bool(sender.retries))


def _receive_in_syn_sent(connection: Connection, segment: Segment, now: int) -> None:
    sender, flags = connection.sender, segment.flags
    if flags & ACK:
        acknowledgment = unwrap(segment.acknowledgment, sender.una)
        if not sender.una < acknowledgment <= sender.nxt:
            if not flags & RST:
                connection.tcp.refuse(connection.local, connection.remote, segment, now)
            return
    if flags & RST:
        if flags & ACK:
            connection.end(Failure.REFUSED)
        return
    if not flags & SYN:
        return
    agree(connection, segment, now)
    if flags & ACK:
        acknowledgment = unwrap(segment.acknowledgment, sender.una)
        sender.handle_acknowledgment(acknowledgment, (), now, echo_ns=_echo_ns(connection, segment, now))
        connection.timers.pop(RETRANSMIT, None)
        connection.step(Step.RECEIVE_SYN_ACK)
        establish(connection, now)
        connection.owe_ack()
        _take_text(connection, segment, segment.sequence + 1, now)
    else:
        # Both have begun at once.
        connection.step(Step.RECEIVE_SYN)
        connection.owes_syn = True
        connection.queue_to_send()


def establish(connection: Connection, now: int) -> None:
    """The handshake is done."""
    connection.is_established = True
    connection.twin = connection.tcp.twin_of(connection)
    connection.heard_at = now
    if connection.sender.round_trip.back_offs:
        connection.sender.round_trip.handle_lost_syn()
    if connection.sender.fin is not None:
        connection.step(Step.CLOSE)
    if connection.keepalive is not None:
        connection.set_keepalive(connection.keepalive, now)
    connection.queue_to_send()
    if connection.listener is not None:
        connection.listener.handle_established(connection)
    connection.notify()


# After the SYN of the other side.


def _receive_synchronized(connection: Connection, segment: Segment, now: int) -> None:
    receiver, flags = connection.receiver, segment.flags
    start = unwrap(segment.sequence, receiver.next)
    timestamps = None
    if connection.offset is not None and not flags & RST:
        timestamps = segment.options.timestamps
        if timestamps is None or _is_old(connection, timestamps[0], now):
            connection.tcp.drops["tcp: old timestamp"] += 1
            if timestamps is not None:
                connection.owe_ack()
            return
    if flags & SYN and connection.state is SYN_RECEIVED and start == receiver.next - 1:
        if not flags & ACK:
            connection.owes_syn = True
            connection.queue_to_send()
            return
        # Both have begun at once, and this is the answer to our SYN.
        segment, start = segment._replace(flags=flags & ~SYN), start + 1
        flags = segment.flags
    # What begins where it is expected, within the window, is acceptable however long it is.
    if not start == receiver.next < receiver.edge and not receiver.is_acceptable(start, segment.length):
        connection.tcp.drops["tcp: outside of the window"] += 1
        if flags & RST:
            return
        connection.owe_ack()
        # A window that is closed takes no data, but what else is said counts (MUST-66).
        if start != receiver.next or flags & SYN or receiver.edge > receiver.next:
            return
        segment = segment._replace(payload=segment.payload[:0], flags=flags & ~FIN)
        flags = segment.flags
    connection.heard_at = now
    connection.unanswered = 0
    if timestamps is not None and start <= connection.told_to:
        # That of a segment that we have not acknowledged is echoed from now on.
        connection.recent, connection.recent_at = timestamps[0], now
    if flags & RST:
        _receive_reset(connection, start, now)
        return
    if flags & SYN:
        challenge(connection, now)
        return
    if not flags & ACK or not _receive_acknowledgment(connection, segment, start, now):
        return
    if flags & URG and segment.urgent_pointer:
        connection.urgent_until = max(connection.urgent_until, start + segment.urgent_pointer)
        connection.notify()
    _take_text(connection, segment, start, now)


def _is_old(connection: Connection, timestamp: int, now: int) -> bool:
    """Whether a segment is older than what it might be a copy of, by its timestamp."""
    is_older = (timestamp - connection.recent) & MASK >= _HALF
    return is_older and now - connection.recent_at < RECENT_IS_OLD_NS


def _receive_reset(connection: Connection, start: int, now: int) -> None:
    if start != connection.receiver.next:
        challenge(connection, now)
        return
    if connection.state is State.SYN_RECEIVED:
        connection.end(Failure.REFUSED)
    elif connection.state in {State.CLOSING, State.LAST_ACK}:
        connection.end(None)
    else:
        connection.end(Failure.RESET)


def challenge(connection: Connection, now: int) -> None:
    """Ask the other side whether it meant that: it answers if it has forgotten the connection."""
    at = connection.challenged_at
    if at is None or now - at >= CHALLENGE_INTERVAL_NS:
        connection.challenged_at = now
        connection.owe_ack()
    else:
        connection.tcp.drops["tcp: challenge rate"] += 1


def _receive_acknowledgment(connection: Connection, segment: Segment, start: int, now: int) -> bool:
    """Take what a segment acknowledges; whether what else it says counts."""
    sender = connection.sender
    una = sender.una
    acknowledgment = unwrap(segment.acknowledgment, una)
    if connection.state is SYN_RECEIVED:
        if not una < acknowledgment <= sender.highest:
            connection.tcp.refuse(connection.local, connection.remote, segment, now)
            return False
        connection.step(Step.RECEIVE_ACK_OF_SYN)
        establish(connection, now)
    elif not una - sender.largest_window <= acknowledgment <= sender.highest:
        challenge(connection, now)
        return False
    window = segment.window << connection.shift
    is_new = acknowledgment > una
    is_duplicate = (
        acknowledgment == una
        and sender.nxt > una
        and not segment.payload
        and not segment.flags & FIN
        and window == sender.window
    )
    is_update = _take_window(connection, start, acknowledgment, window)
    blocks = segment.options.blocks
    if is_new or is_duplicate or blocks:
        sender.handle_acknowledgment(
            acknowledgment if is_new else una,
            [(unwrap(left, una), unwrap(right, una)) for left, right in blocks] if blocks else (),
            now,
            echo_ns=_echo_ns(connection, segment, now),
            is_duplicate=is_duplicate,
        )
    if is_new:
        _handle_advanced(connection, acknowledgment, now)
    if is_new or is_update or is_duplicate or sender.recovery.scoreboard.sacked:
        connection.queue_to_send()
    if sender.window == 0 and not connection.has_released:
        # MUST-37: as long as it answers, it only has no room. But nobody is left to wait for one that was closed.
        sender.retries = 0
    return not connection.is_closed


def _take_window(connection: Connection, start: int, acknowledgment: int, window: int) -> bool:
    """Take the window that a segment tells, if it is not an older one; whether that changed anything."""
    sender, newest = connection.sender, connection.window_sequence
    is_older = start < newest or (start == newest and acknowledgment < connection.window_acknowledgment)
    if is_older or acknowledgment < sender.una:
        return False
    connection.window_sequence, connection.window_acknowledgment = start, acknowledgment
    if window:
        connection.timers.pop(PERSIST, None)
    if window == sender.window:
        return False
    # It counts from what is acknowledged, which `una` will be in a moment.
    sender.set_window(window)
    return True


def _handle_advanced(connection: Connection, acknowledgment: int, now: int) -> None:
    """More of what was sent has arrived."""
    sender = connection.sender
    connection.soft = None
    if sender.nxt > sender.una:
        connection.start_timer(RETRANSMIT, now + sender.wait_ns)
    else:
        connection.timers.pop(RETRANSMIT, None)
    connection.notify()
    if sender.fin is not None and acknowledgment > sender.fin:
        connection.step(Step.RECEIVE_ACK_OF_FIN)
        if connection.state is State.CLOSED:
            connection.end(None)
        elif connection.state is State.TIME_WAIT:
            connection.tcp.begin_time_wait(connection, now)
        elif connection.state is State.FIN_WAIT_2 and connection.has_released:
            connection.start_timer(Timer.FIN_WAIT, now + FIN_WAIT_NS)


def _echo_ns(connection: Connection, segment: Segment, now: int) -> int | None:
    """What the round trip took by the timestamp that comes back; None if there is none."""
    timestamps = segment.options.timestamps
    if connection.offset is None or timestamps is None or not timestamps[1]:
        return None
    elapsed = (now // MS + connection.offset - timestamps[1]) & MASK
    return elapsed * MS if elapsed < _HALF else None


# Data and FIN.


def _take_text(connection: Connection, segment: Segment, start: int, now: int) -> None:
    """Take the data of a segment, and the FIN behind it."""
    receiver, payload = connection.receiver, segment.payload
    length = len(payload)
    if not length and not segment.flags & FIN:
        return
    if connection.state not in RECEIVING:
        # RFC 9293: it can't come; what is acknowledged already is acknowledged again.
        connection.owe_ack()
        return
    if length:
        if connection.has_released and start + length > receiver.next:
            # RFC 9293 section 3.6.1: nobody takes it, which the other side should know.
            connection.tcp.reset(connection, now)
            connection.end(Failure.RESET)
            return
        before = receiver.next
        receiver.note_segment(segment.segment or length)
        in_order = receiver.receive(start, payload)
        if receiver.next > before:
            receiver.adapt(now, connection.sender.round_trip.least_ns, connection.tcp.budget)
            connection.notify()
        # At once what is out of order or fills a hole, and every second segment; else a little later.
        if not in_order or receiver.next - connection.told_to >= 2 * receiver.segment:
            connection.owe_ack()
        elif ACKNOWLEDGE not in connection.timers:
            connection.start_timer(ACKNOWLEDGE, now + DELAYED_ACK_NS)
    if segment.flags & FIN:
        receiver.receive_fin(start + length)
        connection.owe_ack()
    if receiver.has_fin:
        connection.owe_ack()
        connection.step(Step.RECEIVE_FIN)
        connection.notify()
        if connection.state is State.TIME_WAIT:
            connection.tcp.begin_time_wait(connection, now)
