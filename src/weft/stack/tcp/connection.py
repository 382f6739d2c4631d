"""One connection: what is known of it, and what its user may do with it.

This is the transmission control block of the RFC. What happens to it stands beside it: `arrival.py` for segments,
`departure.py` for what is sent, `expiry.py` for its timers. A segment that comes changes the block and notes what is
owed for it; what leaves is made when the host is asked for it, so that all that came together is answered together.

Source: RFC 9293 sections 3.3.1 and 3.10.1 to 3.10.6.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.header import DEFAULT_HOP_LIMIT
from weft.stack.socket import Socket
from weft.stack.tcp.receiver import Receiver
from weft.stack.tcp.sender import Sender
from weft.stack.tcp.shortcut import hand_over
from weft.stack.tcp.states import HANDSHAKE, TRANSITIONS, WRITABLE, State, Step
from weft.stack.tcp.timers import (
    FIN_WAIT_NS,
    GIVE_UP_RETRIES,
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    KEEPALIVE_PROBES,
    S,
    Timer,
    Timers,
)

if TYPE_CHECKING:
    from weft.stack.tcp.listener import Listener
    from weft.stack.tcp.macroflow import Macroflow
    from weft.stack.tcp.tcp import Tcp

HEADER_BYTES: Final = 20
IPV4_HEADER_BYTES: Final = 20
IPV6_HEADER_BYTES: Final = 40


class Keepalive(NamedTuple):
    """When to ask a peer that says nothing whether it is there."""

    idle_s: float = KEEPALIVE_IDLE_S
    interval_s: float = KEEPALIVE_INTERVAL_S
    probes: int = KEEPALIVE_PROBES


class Connection(Socket):
    """A connection, from its SYN on.

    What its user reads:

    Attributes:
        local: our end.
        remote: the other end.
        state: of the RFC's machine.
        failure: why it ended, if not in order.
        is_established: whether the handshake is done; stays so.
        is_closed: nothing more will happen, but what has come may still be taken.
        awaits_room: set by the user that wants to be told when something has left, before that is acknowledged.

    What its user may set:

    Attributes:
        hop_limit: of what is sent, or time to live (MUST-49).
        traffic_class: of what is sent, DSCP and ECN (MUST-48).
        give_up_retries: time-outs in a row after which it ends (R2, MUST-21).

    What only this room uses:

    Attributes:
        tcp: all connections of the host.
        key: of this one among them.
        sender: the sending half.
        receiver: the receiving half.
        timers: those that run.
        listener: whose it is until it is accepted.
        twin: the connection at the other end, if that is in this host, from the handshake to the end.
        macroflow: all connections to the same host.
        counted_pipe: what of this one is on the way, as its macroflow knows.
        counted_una: what of this one is acknowledged, as its macroflow knows.
        maximum: payload and options of the largest segment that the other side takes, bytes.
        shift: how far the windows of the other side are shifted.
        mtu: of the path.
        offset: of our timestamps; None without timestamps.
        recent: the timestamp that is echoed.
        recent_at: when it came.
        told_to: up to where we have acknowledged.
        owes_ack: an acknowledgment leaves, if nothing else does.
        owes_syn: a SYN leaves.
        owes_probe: a keepalive leaves.
        probe: what a timer lets leave, in front of all else: into a closed window, or behind a lost tail.
        window_sequence: of the segment that said the window last.
        window_acknowledgment: its acknowledgment number.
        keepalive: when to ask; None for never.
        heard_at: when a segment came last.
        unanswered: keepalives since then.
        has_released: the user has closed, and takes nothing more.
        soft: what an ICMP message said, which may pass.
        challenged_at: when the last challenge was sent.
        is_queued_to_send: it waits for its turn to send.
        armed_at: when the host looks at the timers next.
        urgent_until: behind the last urgent byte that came; 0 if there never was one.
    """

    __slots__ = (
        "armed_at",
        "awaits_room",
        "challenged_at",
        "counted_pipe",
        "counted_una",
        "failure",
        "give_up_retries",
        "has_released",
        "heard_at",
        "hop_limit",
        "is_closed",
        "is_established",
        "is_queued_to_send",
        "keepalive",
        "key",
        "listener",
        "local",
        "macroflow",
        "maximum",
        "mtu",
        "offset",
        "owes_ack",
        "owes_probe",
        "owes_syn",
        "probe",
        "receiver",
        "recent",
        "recent_at",
        "remote",
        "sender",
        "shift",
        "soft",
        "state",
        "tcp",
        "timers",
        "told_to",
        "traffic_class",
        "twin",
        "unanswered",
        "urgent_until",
        "window_acknowledgment",
        "window_sequence",
    )

    def __init__(
        self,
        tcp: Tcp,
        events: deque[Socket],
        key: bytes,
        local: Endpoint,
        remote: Endpoint,
        initial_sequence: int,
        mtu: int,
        macroflow: Macroflow,
    ) -> None:
        """A connection in the state CLOSED.

        Args:
            tcp: all connections of the host.
            events: of the host.
            key: of this one.
            local: our end.
            remote: the other end.
            initial_sequence: of our side.
            mtu: of the path, bytes.
            macroflow: all connections to the other host.
        """
        super().__init__(events)
        self.tcp = tcp
        self.key = key
        self.local = local
        self.remote = remote
        self.mtu = mtu
        self.macroflow = macroflow
        self.counted_pipe, self.counted_una = 0, initial_sequence
        self.maximum = self.largest_segment(mtu)
        self.state = State.CLOSED
        self.failure: Failure | None = None
        self.is_established = False
        self.is_closed = False
        self.awaits_room = False
        self.hop_limit = DEFAULT_HOP_LIMIT
        self.traffic_class = 0
        self.give_up_retries = GIVE_UP_RETRIES
        self.sender = Sender(initial_sequence, self.maximum)
        self.receiver = Receiver(0)
        self.timers = Timers()
        self.listener: Listener | None = None
        self.twin: Connection | None = None
        self.offset: int | None = None
        # What their SYN says.
        self.shift = self.recent = self.recent_at = self.told_to = 0
        self.owes_ack = self.owes_syn = self.owes_probe = False
        self.probe: tuple[int, int] | None = None
        self.window_sequence = self.window_acknowledgment = 0
        self.keepalive: Keepalive | None = None
        self.heard_at = self.unanswered = 0
        self.has_released = False
        self.soft: Failure | None = None
        self.challenged_at: int | None = None
        self.is_queued_to_send = False
        self.armed_at: int | None = None
        self.urgent_until = 0

    def __repr__(self) -> str:
        return f"<Connection {self.local} - {self.remote} {self.state.value}>"

    # What a user does.

    @property
    def readable_bytes(self) -> int:
        """What has come in order and was not taken."""
        return self.receiver.ready_bytes

    @property
    def arrived(self) -> int:
        """A number that grows with all that comes in order, the end included."""
        return self.receiver.next

    @property
    def is_at_end(self) -> bool:
        """Whether the other side has no more to send, and all that it sent was taken."""
        return self.receiver.has_fin and not self.receiver.ready_bytes

    @property
    def is_urgent(self) -> bool:
        """Whether urgent data is among what was not taken yet."""
        receiver = self.receiver
        return self.urgent_until > receiver.next - receiver.has_fin - receiver.ready_bytes

    @property
    def unsent_bytes(self) -> int:
        """What was written and never sent."""
        return self.sender.unsent

    @property
    def unacknowledged_bytes(self) -> int:
        """What was sent and is not acknowledged."""
        return self.sender.in_flight

    @property
    def has_to_send(self) -> bool:
        """Whether anything but a SYN is to leave, now or when the windows allow."""
        sender = self.sender
        owes = self.owes_ack or self.owes_probe or self.probe is not None
        return owes or sender.nxt < sender.end or not sender.recovery.is_quiet

    @property
    def maximum_segment(self) -> int:
        """Payload bytes of a full segment."""
        return self.sender.segment

    def receive(self, limit: int | None = None) -> list[bytes]:
        """Take what has come in order.

        Args:
            limit: bytes at most; None for all.

        Returns:
            Chunks as they came; none if nothing is there.
        """
        taken = self.receiver.take(limit)
        if taken and not self.is_closed and self.receiver.is_worth_telling():
            self.owe_ack()
        return taken

    def send(self, data: bytes | bytearray | memoryview, *, urgent: bool = False) -> None:
        """Send data, when the windows allow; all of it is taken.

        Args:
            data: copied, unless it is `bytes`.
            urgent: the other side is told that all up to here is urgent (RFC 9293 section 3.8.5).

        Raises:
            StackError: CLOSED, after `shutdown`, `close` or the end of the connection.
        """
        if self.state not in WRITABLE or self.sender.fin is not None:
            raise StackError(self.failure or Failure.CLOSED)
        kept = bytes(data)
        if self.twin is not None and not urgent and hand_over(self, kept):
            return
        self.sender.buffer.append(kept)
        if urgent:
            self.sender.urgent = self.sender.buffer.end
        self.queue_to_send()

    def shutdown(self, now: int) -> None:
        """Say, behind all data, that nothing more will be sent; receiving goes on."""
        if self.state in WRITABLE and self.sender.fin is None:
            self.sender.close()
            if self.state not in HANDSHAKE:
                self.step(Step.CLOSE)
            self.queue_to_send()

    def close(self, now: int) -> None:
        """Send what is left, and take nothing more: data that was not taken, or still comes, resets the connection."""
        if self.has_released or self.is_closed:
            self.has_released = True
            return
        self.has_released = True
        if self.state is State.SYN_SENT:
            self.step(Step.CLOSE)
            self.end(None)
            return
        if self.readable_bytes:
            self.abort(now)
            return
        self.shutdown(now)
        if self.state is State.FIN_WAIT_2:
            self.start_timer(Timer.FIN_WAIT, now + FIN_WAIT_NS)

    def abort(self, now: int) -> None:
        """End it at once; the other side is told by a reset."""
        self.has_released = True
        if self.is_closed:
            return
        if self.state is not State.SYN_SENT:
            self.tcp.reset(self, now)
        self.end(Failure.ABORTED)

    def set_no_delay(self, no_delay: bool) -> None:
        """Whether small segments leave at once, instead of waiting for the acknowledgment of those before (Nagle)."""
        self.sender.no_delay = no_delay
        self.queue_to_send()

    def set_keepalive(self, keepalive: Keepalive | None, now: int) -> None:
        """When a peer that says nothing is asked whether it is there; None for never."""
        self.keepalive = keepalive
        self.unanswered = 0
        if keepalive is None:
            self.timers.pop(Timer.KEEPALIVE, None)
        elif self.is_established and not self.is_closed:
            self.start_timer(Timer.KEEPALIVE, now + int(keepalive.idle_s * S))

    # What the room does.

    notify = Socket._notify
    """Something happened that the user may want to see."""

    def largest_segment(self, mtu: int) -> int:
        """Payload and options of the largest segment that fits an MTU, bytes."""
        return mtu - HEADER_BYTES - (IPV4_HEADER_BYTES if self.remote.is_ipv4 else IPV6_HEADER_BYTES)

    def step(self, step: Step) -> None:
        """Go where the table of states leads."""
        self.state = TRANSITIONS[self.state, step]

    def queue_to_send(self) -> None:
        """Something may be ready to leave."""
        if not self.is_queued_to_send:
            self.is_queued_to_send = True
            self.tcp.to_send.append(self)

    def start_timer(self, timer: Timer, at: int) -> None:
        """Let a timer end at that time, whether it ran or not; the host looks at it then."""
        self.timers[timer] = at
        if self.armed_at is None or at < self.armed_at:
            self.tcp.arm(self)

    def owe_ack(self) -> None:
        """An acknowledgment is to leave with the next packets."""
        self.owes_ack = True
        self.queue_to_send()

    def end(self, failure: Failure | None) -> None:
        """Nothing more will happen.

        Args:
            failure: why; None if it is in order.
        """
        if self.is_closed:
            return
        self.is_closed = True
        self.failure = failure
        self.twin = None
        if self.state in HANDSHAKE or failure is not None:
            self.state = State.CLOSED
        self.timers.clear()
        self.sender.buffer.release(self.sender.buffer.end)
        self.receiver.forget_holes()
        self.tcp.forget(self)
        self.notify()
