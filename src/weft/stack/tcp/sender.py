"""The sending half of a connection: what may leave now, and what an acknowledgment means.

The sequence space is that of the RFC: the SYN, then the data, then the FIN, which is the byte at `fin`. A run is what
leaves as one packet: many segments, as far as both windows allow.

    una      the first byte that is not acknowledged
    nxt      behind the last byte that was sent, but for probes of a closed window
    highest  behind the last byte that was ever sent
    edge     una + window, the end of what the other side takes

Small segments wait (Nagle) unless the user wants none of that, and a window of less than a segment is not worth one
(the silly window), but for half the largest window there ever was, or when nothing else can happen.

Source: RFC 9293 sections 3.7.4, 3.8.6; RFC 1122 section 4.2.3.4; RFC 8985 section 7 (probes of the tail).
Not done here: headers (departure.py), what is lost (recovery.py), how much may be on the way (congestion.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from weft.stack.tcp.congestion import Cubic
from weft.stack.tcp.recovery import OPEN, Phase, Recovery
from weft.stack.tcp.reduction import Reduction
from weft.stack.tcp.reordering import Reordering
from weft.stack.tcp.round_trip import RoundTrip
from weft.stack.tcp.send_buffer import SendBuffer
from weft.stack.tcp.timers import MS

MAX_SUPER_BYTES: Final = 64_000
"""A super-packet with its headers, so that it fits a burst (wire.md section 4)."""
MAX_HEADERS: Final = 40 + 60
MAX_PAYLOAD: Final = MAX_SUPER_BYTES - MAX_HEADERS
MIN_SUPER_SEGMENT: Final = 256
"""Smaller ones are not taken for those of a super-packet (wire.md section 4)."""

TAIL_SLACK_NS: Final = 2_000_000
LATEST_ACK_NS: Final = 200_000_000
"""What a peer may wait with an acknowledgment of a single segment (RFC 8985 section 7.2, WCDelAckT)."""

RUN_NS: Final = 2_000_000
"""A run is no more than what leaves in so long, on average (the idea of Linux, tcp_tso_autosize)."""
SHORT_RUN_SEGMENTS: Final = 8
"""What a run may have, however slow the path is."""
TIMED_RUNS: Final = 64
"""Runs on the way whose time of sending is kept."""


class Run(NamedTuple):
    """Bytes that leave as one packet."""

    start: int
    end: int
    """With the FIN, if that is in it."""
    is_resent: bool


class Sender:
    """The sending half.

    Attributes:
        una: see above.
        nxt: see above.
        highest: see above.
        window: what the other side takes from `una` on, bytes.
        largest_window: the largest there ever was.
        segment: payload bytes of a full segment.
        buffer: the data.
        fin: the sequence number of the FIN; None while the user may write more.
        no_delay: small segments leave at once.
        urgent: behind the last urgent byte; 0 if there never was one.
        cubic: the congestion window.
        round_trip: the estimate of the round trip.
        recovery: losses.
        reordering: what may look like one.
        retries: time-outs in a row.
    """

    __slots__ = (
        "_has_probed",
        "_is_limited",
        "_reduction",
        "_resent_at",
        "_resent_below",
        "_sent_at",
        "_timed",
        "buffer",
        "cubic",
        "fin",
        "highest",
        "largest_window",
        "no_delay",
        "nxt",
        "recovery",
        "reordering",
        "retries",
        "round_trip",
        "segment",
        "una",
        "urgent",
        "window",
    )

    def __init__(self, initial_sequence: int, segment: int) -> None:
        self.una = self.nxt = self.highest = initial_sequence
        self.window = self.largest_window = 0
        self.segment = segment
        self.buffer = SendBuffer(initial_sequence + 1)
        self.fin: int | None = None
        self.no_delay = False
        self.urgent = 0
        self.cubic = Cubic(segment)
        self.round_trip = RoundTrip()
        self.recovery = Recovery()
        self.reordering = Reordering()
        self.retries = 0
        self._timed: list[tuple[int, int]] = []
        self._resent_below = self._resent_at = self._sent_at = 0
        self._is_limited = False
        self._has_probed = False
        self._reduction: Reduction | None = None

    @property
    def end(self) -> int:
        """Behind all that is to be sent, with the FIN."""
        return self.buffer.end if self.fin is None else self.fin + 1

    @property
    def in_flight(self) -> int:
        """Bytes that were sent and are not acknowledged."""
        return self.nxt - self.una

    @property
    def pipe(self) -> int:
        """Bytes that are on the way: those in flight but for what is known to be lost or to have arrived."""
        return self.recovery.pipe(self.una, self.nxt, self.segment)

    @property
    def unsent(self) -> int:
        """Bytes that were never sent."""
        nxt, buffer = self.nxt, self.buffer
        return buffer.end - max(nxt, buffer.start) if nxt < buffer.end else 0

    def set_segment(self, segment: int) -> None:
        """Full segments have another size from now on."""
        if segment != self.segment:
            self.segment = segment
            self.cubic.handle_segment_changed(segment)

    def set_window(self, window: int) -> None:
        """The other side said how much it takes from `una` on."""
        self.window = window
        self.largest_window = max(self.largest_window, window)

    def pass_by(self, size: int) -> None:
        """So many bytes have arrived in another way than as segments, while nothing was on its way or waited."""
        self.buffer.skip(size)
        self.una = self.nxt = self.highest = self.buffer.end

    def close(self) -> None:
        """The user has no more to send."""
        if self.fin is None:
            self.fin = self.buffer.end

    # What may leave.

    def next_run(self, now: int, segment: int) -> Run | None:
        """What may leave now; it counts as sent.

        Args:
            now: monotonic ns.
            segment: payload bytes of a full segment with the options of now.
        """
        recovery = self.recovery
        self._look_for_pause(now)
        room = self.cubic.window - self.pipe
        if recovery.is_quiet:
            return self._next_new(now, room, segment)
        run = self._next_in_recovery(now, room, segment)
        if run is not None and self._reduction is not None:
            self._reduction.handle_sent(run.end - run.start)
        return run

    def _look_for_pause(self, now: int) -> None:
        if self.nxt == self.una and self._sent_at and now - self._sent_at > self.round_trip.timeout_ns:
            self.cubic.handle_idle()

    def handle_held(self, now: int) -> None:
        """It begins to wait for others, because they have the room that its window leaves."""
        self._look_for_pause(now)
        # A window that is used for less than half says nothing of the path (RFC 7661 section 4.3).
        self._is_limited = self._is_limited and 2 * self.pipe >= self.cubic.window

    def handle_admitted(self, now: int) -> None:
        """It had to wait for others, which is no pause of its own."""
        self._sent_at = now

    def _next_in_recovery(self, now: int, room: int, segment: int) -> Run | None:
        """What may leave while something is missing: the lost before the new, and that before what may be lost."""
        recovery = self.recovery
        lost = recovery.next_lost(self.una)
        # The first one goes whatever is on the way: it is what everything waits for.
        if lost is not None and (room >= self.segment or lost[0] == self.una):
            return self._resend(lost, max(room, segment), segment, now)
        if lost is not None or room < self.segment:
            return None
        run = self._next_new(now, room, segment)
        if run is not None or min(self.end, self.una + self.window) - self.nxt >= segment:
            # There is new data: it leaves now, or in a longer run with the next acknowledgment.
            return run
        doubtful = recovery.next_doubtful(self.una, segment)
        if doubtful is not None:
            return self._resend(doubtful, segment, segment, now)
        rescue = recovery.take_rescue(self.una, segment)
        if rescue is not None:
            self._note_resent(rescue[1], now)
            return Run(*rescue, is_resent=True)
        return None

    def _note_resent(self, end: int, now: int) -> None:
        self._resent_below = max(self._resent_below, end)
        self._resent_at = now
        self.reordering.handle_resent(now)

    def _resend(self, gap: tuple[int, int], room: int, segment: int, now: int) -> Run:
        start, end = gap
        most = min(room, self._longest(start, segment))
        if end - start > most:
            end = start + max(segment, most - most % segment)
        self.recovery.handle_resent(start, end, self.nxt)
        self._note_resent(end, now)
        return Run(start, end, is_resent=True)

    def _next_new(self, now: int, room: int, segment: int) -> Run | None:
        """The next bytes that were never sent."""
        start = self.nxt
        pending = self.end - start
        if pending <= 0:
            return None
        by_window = self.una + self.window - start
        longest = segment if pending <= segment else self._longest(start, segment)
        self._is_limited = room < pending and room < by_window
        length = pending
        if pending > longest or pending > by_window or pending > room:
            length = min(longest, by_window, room)
            if length < segment:
                if not (by_window <= room and length > 0 and 2 * length >= self.largest_window):
                    return None
            else:
                if self._is_worth_waiting(length, pending, longest):
                    return None
                length -= length % segment
        elif length % segment and self._is_held_back(length, segment):
            length -= length % segment
            if not length:
                return None
        end = start + length
        self._handle_sent(end, now)
        return Run(start, end, False)

    def _handle_sent(self, end: int, now: int) -> None:
        """Bytes up to there leave for the first time."""
        self.nxt = end
        self.highest = max(self.highest, end)
        self._sent_at = now
        if len(self._timed) < TIMED_RUNS:
            self._timed.append((end, now))

    def handle_syn_sent(self, now: int) -> None:
        """The SYN leaves, perhaps again."""
        end = self.una + 1
        if self.nxt < end:
            self._handle_sent(end, now)
        else:
            self._note_resent(end, now)

    def handle_syn_lost(self) -> None:
        """The SYN is to leave again, because nothing came back."""
        self.retries += 1
        self.round_trip.back_off()
        # RFC 5681 section 3.1: the path is not one for a large first window.
        self.cubic.window = self.segment

    def _longest(self, start: int, segment: int) -> int:
        """The payload of the longest run from there on, bytes; each urgent segment has a pointer of its own."""
        most = MAX_PAYLOAD
        if segment < MIN_SUPER_SEGMENT or segment > most or start < self.urgent:
            return segment
        least_ns = self.round_trip.least_ns
        if least_ns > RUN_NS:
            # All of a run arrives at a bottleneck at once, and a slow one has a short queue. What is longer than the
            # shortest round trip is the queue of many flows, and tells nothing of how fast the path is.
            most = min(most, max(self.cubic.window * RUN_NS // least_ns, SHORT_RUN_SEGMENTS * segment))
        return most - most % segment

    def _is_worth_waiting(self, length: int, pending: int, longest: int) -> bool:
        """Whether the next acknowledgment, which will come, lets a longer run leave: one costs as much as the other."""
        if length >= longest or length >= pending or self.nxt == self.una:
            return False
        return length < min(self.cubic.window, self.window) // 3

    def _is_held_back(self, length: int, segment: int) -> bool:
        """Whether the last, small segment waits for the acknowledgment of what is on the way (Nagle)."""
        return not self.no_delay and self.fin is None and (self.nxt > self.una or length > segment)

    @property
    def is_stuck(self) -> bool:
        """Whether something waits for a window that only the other side can open, and nothing will tell of that."""
        return self.nxt == self.una and self.nxt < self.end

    def probe(self, now: int) -> Run:
        """What to send when the persist timer ends: what the window takes, or one byte more than that."""
        start = self.una
        length = max(1, min(self.window, self.segment, self.end - start))
        end = start + length
        self._sent_at = now
        self._note_resent(end, now)
        self.highest = max(self.highest, end)
        if self.window >= length:
            self.nxt = max(self.nxt, end)
        return Run(start, end, is_resent=True)

    # What comes back.

    def handle_acknowledgment(
        self,
        acknowledgment: int,
        blocks: Iterable[tuple[int, int]],
        now: int,
        *,
        echo_ns: int | None = None,
        is_duplicate: bool = False,
    ) -> None:
        """All bytes before `acknowledgment` have arrived, and those in blocks.

        Args:
            acknowledgment: not below `una`, and not above what was ever sent.
            blocks: left and right edges.
            now: monotonic ns.
            echo_ns: what the round trip took by the timestamps; None without.
            is_duplicate: it says nothing new, as one does that answers what came behind a hole.
        """
        recovery = self.recovery
        acknowledged = acknowledgment - self.una
        if recovery.is_quiet and acknowledged > 0 and not blocks:
            # What follows would find nothing: where nothing is missing, nothing can turn out to be lost or late.
            self._advance(acknowledgment, now, echo_ns)
            if self._is_limited:
                self.cubic.handle_acknowledged(acknowledged, now, self.round_trip.smoothed_ns)
            return
        sacked = recovery.scoreboard.sacked
        if acknowledged > 0 and sacked:
            self._look_for_late(now, echo_ns)
        was = recovery.phase
        has_ended = acknowledged > 0 and self._advance(acknowledgment, now, echo_ns)
        if recovery.selective:
            late = recovery.note_blocks(blocks, self.una, self.highest, self._resent_below)
            if late:
                self.reordering.note_late(late, self.segment)
        elif is_duplicate:
            recovery.handle_duplicate()
        delivered = max(0, acknowledged + recovery.scoreboard.sacked - sacked)
        if not recovery.selective and is_duplicate:
            delivered = self.segment
        threshold = self.reordering.threshold(self.in_flight, self.segment)
        has_lost_more = recovery.detect(self.una, self.nxt, self.segment, threshold)
        if recovery.phase is Phase.RECOVERY:
            if has_lost_more:
                self.reordering.begin(self.cubic.state)
                self.cubic.handle_loss(self.in_flight)
                self._reduction = Reduction(self.in_flight)
            goes_well = acknowledged > 0 and not has_lost_more
            self._reduce(delivered, goes_well=goes_well)
        elif has_ended and was is Phase.RECOVERY:
            self.cubic.handle_recovered(self.in_flight)
        elif acknowledged > 0 and (self._is_limited or was is Phase.LOSS):
            self.cubic.handle_acknowledged(delivered, now, self.round_trip.smoothed_ns)

    def _look_for_late(self, now: int, echo_ns: int | None) -> None:
        """What others have overtaken is acknowledged: it came late, or it was sent again."""
        recovery, una = self.recovery, self.una
        is_late = una >= self._resent_below
        if recovery.phase is Phase.RECOVERY:
            before = self.reordering.take_undo(None if echo_ns is None else (now - echo_ns) // MS)
            if before is not None:
                is_late = True
                self.cubic.undo_loss(before)
                recovery.handle_in_vain(una)
        if is_late:
            self.reordering.note_late(recovery.scoreboard.highest - una, self.segment)

    def _advance(self, acknowledgment: int, now: int, echo_ns: int | None) -> bool:
        """More bytes are acknowledged; whether a phase of recovery ends with them."""
        acknowledged = acknowledgment - self.una
        self.una = acknowledgment
        self.nxt = max(self.nxt, acknowledgment)
        self._measure(acknowledgment, now, echo_ns)
        self.retries = 0
        self._has_probed = False
        self.buffer.release(acknowledgment)
        return self.recovery.handle_acknowledged(acknowledgment, acknowledged, self.segment)

    def _reduce(self, delivered: int, *, goes_well: bool) -> None:
        cubic = self.cubic
        if self._reduction is not None:
            cubic.window = self._reduction.window(
                delivered, self.pipe, cubic.threshold, self.segment, goes_well=goes_well
            )

    def _measure(self, acknowledgment: int, now: int, echo_ns: int | None) -> None:
        """Measure the round trip, of the last run that is all acknowledged."""
        timed, last = self._timed, None
        while timed and timed[0][0] <= acknowledgment:
            last = timed.pop(0)
        if last is not None:
            end, at = last
            # What was sent before something else was sent again has waited for that at the other side.
            if end > self._resent_below and at >= self._resent_at:
                self.round_trip.measure(now - at)
                self.cubic.handle_round_trip(now - at, acknowledgment, self.nxt)
                return
        if echo_ns is not None and echo_ns <= now - self._resent_at:
            self.round_trip.measure(echo_ns)
        else:
            # What arrived was sent twice, and nobody knows which of the two it was; but the path carries something.
            self.round_trip.relax()

    @property
    def wait_ns(self) -> int:
        """How long to wait for an acknowledgment: until the time-out, or until the tail is probed."""
        timeout_ns = self.round_trip.timeout_ns
        if not self._may_probe_tail:
            return timeout_ns
        wait_ns = 2 * self.round_trip.smoothed_ns + TAIL_SLACK_NS
        if self.nxt - self.una <= self.segment:
            wait_ns += LATEST_ACK_NS
        return min(wait_ns, timeout_ns)

    @property
    def _may_probe_tail(self) -> bool:
        recovery = self.recovery
        is_calm = recovery.selective and recovery.phase is OPEN and not self.retries
        return is_calm and not self._has_probed and self.round_trip.smoothed_ns > 0

    def take_tail_probe(self, now: int) -> Run | None:
        """What asks for an acknowledgment when none comes: the next new segment, or the last one again.

        Returns:
            None where there is nothing to ask about, or it was asked already: then it is a time-out.
        """
        if not self._may_probe_tail or self.nxt <= self.una:
            return None
        self._has_probed = True
        by_window = self.una + self.window - self.nxt
        length = min(self.segment, self.end - self.nxt, by_window)
        if length > 0:
            start = self.nxt
            self._handle_sent(start + length, now)
            return Run(start, start + length, is_resent=False)
        start = max(self.una, self.nxt - self.segment)
        self._note_resent(self.nxt, now)
        return Run(start, self.nxt, is_resent=True)

    def handle_timeout(self) -> None:
        """The retransmission timer ended."""
        self.reordering.handle_timeout()
        self.cubic.handle_timeout(self.in_flight, is_first=self.retries == 0)
        self.recovery.handle_timeout(self.una, self.nxt)
        self.round_trip.back_off()
        self.retries += 1

    def handle_too_big(self) -> None:
        """The path does not take segments as large as the first one was."""
        self.recovery.handle_too_big(self.una, self.nxt)
