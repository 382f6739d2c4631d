"""One WireGuard peer: its handshakes, its keypairs and its timers. The machine of the room.

States of the handshake that we begin, and what moves it (the keypairs have their own states, in keypair.py):

| state    | event                                          | action                              | then     |
|----------|------------------------------------------------|-------------------------------------|----------|
| idle     | one is asked for                               |                                     | wanted   |
| wanted   | REKEY_TIMEOUT since the last message of one    | initiation                          | waiting  |
| waiting  | response of the peer                           | keypair is current, keepalive       | idle     |
| waiting  | REKEY_TIMEOUT + jitter since the initiation    | another initiation, `Unanswered`    | waiting  |
| waiting  | the same, REKEY_ATTEMPT_TIME since the first   | `HandshakeFailed`                   | idle     |
| any      | a keypair made as responder is confirmed       | keypair is current                  | idle     |
| any      | initiation of the peer                         | response, keypair is next           | the same |
| any      | `rest`                                         | all keypairs are forgotten          | resting  |
| resting  | initiation of the peer, `initiate`             | as when idle                        |          |
| resting  | `resume`                                       |                                     | idle     |

Handshakes are asked for by `initiate`, and by the timers of this table; a deadline is set where it is NEVER, and
looked at by `handle_timer`:

| deadline      | set                                   | cleared by          | when it is reached                     |
|---------------|---------------------------------------|---------------------|----------------------------------------|
| handshake     | a handshake is asked for              | keypair is current  | initiation                             |
| retry         | an initiation is sent                 | keypair is current  | another one, or given up               |
| answer        | data sent: + NEW_HANDSHAKE_TIME       | anything received   | a handshake is asked for               |
| keepalive     | data received: + KEEPALIVE_TIMEOUT    | anything sent       | keepalive                              |
| persistent    | anything sent or received: + interval |                     | keepalive                              |
| expiry        | keypair made: + REJECT_AFTER_TIME     |                     | that keypair is forgotten              |

Also asked for by sending without a usable keypair or with one of ours older than REKEY_AFTER_TIME or with more than
REKEY_AFTER_MESSAGES, by receiving when the current one is ours and older than LAST_MINUTE_TIME, and by a keepalive that
is due without a usable keypair.

Who rests asks for no handshake, and does not send.

Both sides may begin at once: then both handshakes are finished, and each side sends on its own keypair. (In WireGuard
both lose theirs and try again after REKEY_TIMEOUT; a peer that does so is answered all the same.)

Rules of the file: a message that is refused changes nothing; what the fast path calls only writes attributes; deadlines
move later without notice, and only one that becomes earlier than what `next_timer` last told is reported to the caller.

Source: the WireGuard paper, sections 5.1, 5.4 and 6; wire.md section 3.
Not done here: the endpoint, packets that wait for a keypair, MACs of what is received (gate.py).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from weft.burst.seal import seal_packet
from weft.errors import UsageError
from weft.noise.cookie import CookieGenerator
from weft.noise.handshake import HandshakeRefusedError, InitiatorHandshake, ResponderHandshake
from weft.noise.keypair import Keypair, KeypairTable, Rotation
from weft.noise.messages import CookieReply, Initiation, Response, encode_initiation, encode_response
from weft.noise.primitives import KEY_BYTES, StaticKey
from weft.noise.tai64n import TIMESTAMP_BYTES, next_timestamp
from weft.noise.timers import (
    INITIATION_INTERVAL_NS,
    KEEPALIVE_TIMEOUT_NS,
    NEVER,
    NEW_HANDSHAKE_TIME_NS,
    REJECT_AFTER_MESSAGES,
    REKEY_AFTER_MESSAGES,
    REKEY_ATTEMPT_TIME_NS,
    REKEY_TIMEOUT_JITTER_NS,
    REKEY_TIMEOUT_NS,
    SECOND_NS,
)

_OUTGOING = 16
_EVENTS = 16


@dataclass(frozen=True, slots=True)
class KeypairReady:
    """There is a new keypair to send on.

    Attributes:
        initiator: whether we began its handshake.
    """

    initiator: bool


@dataclass(frozen=True, slots=True)
class HandshakeFailed:
    """No response for REKEY_ATTEMPT_TIME; nothing more is tried until something is to be sent."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No response for REKEY_TIMEOUT: another initiation was sent; the next one may go elsewhere."""


Event = KeypairReady | HandshakeFailed | Unanswered


class Tunnel:
    """One peer's handshakes, keypairs and timers.

    Attributes:
        peer_public: the peer's static key, 32 bytes.
        persistent_keepalive_ns: how often something is sent at least; 0 is never.
        last_timestamp_sent: TAI64N of the last initiation, 12 bytes. Store it, and give it as `timestamp_floor` to
            the tunnel to this peer after a restart, or a clock that was set back locks us out.
        last_handshake_at: when the current keypair was taken into use, monotonic ns; None before the first.
        is_resting: whether the next handshake is left to the peer.
        drops: what was not sent or told, by reason.
    """

    def __init__(
        self,
        static: StaticKey,
        peer_public: bytes,
        *,
        table: KeypairTable,
        random_bytes: Callable[[int], bytes],
        preshared_key: bytes = bytes(KEY_BYTES),
        persistent_keepalive_ns: int = 0,
        timestamp_floor: bytes = bytes(TIMESTAMP_BYTES),
    ) -> None:
        """Make the tunnel to one peer; nothing is sent before it is asked for.

        Args:
            static: our key.
            peer_public: the peer's, 32 bytes.
            table: the indices of the node.
            random_bytes: gives as many random bytes as asked for.
            preshared_key: 32 bytes; zeros are none.
            persistent_keepalive_ns: 0, or at least a second.
            timestamp_floor: the last TAI64N that was ever sent to this peer, 12 bytes.

        Raises:
            UsageError: a wrong length, a keepalive of less than a second, or a key of small order.
        """
        if len(timestamp_floor) != TIMESTAMP_BYTES:
            raise UsageError(f"a timestamp has {TIMESTAMP_BYTES} bytes, not {len(timestamp_floor)}")
        self.peer_public = _checked_public(static, peer_public)
        self.set_preshared_key(preshared_key)
        self.set_persistent_keepalive(persistent_keepalive_ns)
        self.last_timestamp_sent = timestamp_floor
        self.last_handshake_at: int | None = None
        self.is_resting = False
        self.drops: Counter[str] = Counter()
        self._static = static
        self._table = table
        self._random_bytes = random_bytes
        self._macs = CookieGenerator(peer_public)
        self._rotation = Rotation(table)
        self._handshake: InitiatorHandshake | None = None
        self._handshake_index = 0
        self._first_initiation_at = 0
        self._timestamp_received = bytes(TIMESTAMP_BYTES)
        self._initiation_received_at = -INITIATION_INTERVAL_NS
        self._handshake_sent_at = -REKEY_TIMEOUT_NS
        self._traversed_at: int | None = None
        self._handshake_at = NEVER
        self._retry_at = NEVER
        self._answer_by = NEVER
        self._keepalive_at = NEVER
        self._wake_at = NEVER
        self._closed = False
        self._outgoing: list[bytes] = []
        self._events: deque[Event] = deque()

    def __repr__(self) -> str:
        return f"Tunnel(peer_public={self.peer_public.hex()})"

    # What the fast path calls.

    def keypair_for_sending(self, now: int) -> Keypair | None:
        """The keypair to seal on.

        Asks for a handshake if there is none, or if it is time for the next one. Without a keypair, hold the packets,
        arm the timer anew and wait for `KeypairReady`.

        Args:
            now: monotonic ns.
        """
        keypair = self._rotation.current
        if keypair is not None and now < keypair.refresh_at and keypair.counter < REKEY_AFTER_MESSAGES:
            return keypair
        self._want_handshake(now)
        if keypair is None or now >= keypair.expires_at or keypair.counter >= REJECT_AFTER_MESSAGES:
            return None
        return keypair

    def handle_sent(self, now: int, *, data: bool) -> bool:
        """Something that we sealed was sent; once for a burst.

        Args:
            now: monotonic ns.
            data: whether it was more than a keepalive.

        Returns:
            Whether to arm the timer anew.
        """
        self._traversed_at = now
        self._keepalive_at = NEVER
        if data and self._answer_by == NEVER:
            self._answer_by = now + NEW_HANDSHAKE_TIME_NS
        wake_at = self._wake_at
        return self._answer_by < wake_at or self._handshake_at < wake_at

    def handle_received(self, keypair: Keypair, now: int, *, data: bool) -> bool:
        """Something came whose tag was good and whose counter was accepted; once for a burst.

        Args:
            keypair: the one that opened it.
            now: monotonic ns.
            data: whether it was more than a keepalive.

        Returns:
            Whether to drain the outputs and arm the timer anew.
        """
        self._traversed_at = now
        self._answer_by = NEVER
        if data and self._keepalive_at == NEVER:
            self._keepalive_at = now + KEEPALIVE_TIMEOUT_NS
        rotation = self._rotation
        if keypair is rotation.next:
            rotation.confirm()
            self._handle_current(keypair, now)
            return True
        if now >= keypair.last_minute_at and keypair is rotation.current:
            self._want_handshake(now)
        wake_at = self._wake_at
        return self._keepalive_at < wake_at or self._handshake_at < wake_at

    # Commands.

    def initiate(self, now: int, wall_ns: int, *, elsewhere: bool = False) -> bool:
        """Begin a handshake; one that is under way gets another REKEY_ATTEMPT_TIME instead.

        Args:
            now: monotonic ns.
            wall_ns: ns since 1970.
            elsewhere: the peer has another endpoint now, so what was sent until now counts for nothing; not even then
                does an initiation follow another so soon that the peer has to refuse it.

        Returns:
            Whether an initiation is to be sent now. If not, because the last message of a handshake was sent less than
            REKEY_TIMEOUT ago, it will be when the timer says so.
        """
        self.resume()
        if elsewhere:
            self._forget_handshake()
            # One that comes too soon after another is refused, and the answer to the other would match nothing.
            soonest = self._handshake_sent_at + 2 * INITIATION_INTERVAL_NS
            self._handshake_sent_at = max(now, soonest) - REKEY_TIMEOUT_NS
        self._want_handshake(now)
        self._first_initiation_at = now
        if self._handshake_at > now:
            return False
        self._send_initiation(now, wall_ns)
        return True

    def keep_alive(self, now: int) -> None:
        """Send a keepalive now; without a keypair for it, ask for a handshake instead.

        Args:
            now: monotonic ns.
        """
        keypair = self.keypair_for_sending(now)
        counter = None if keypair is None else keypair.take_counter()
        if keypair is not None and counter is not None:
            self._send(seal_packet(keypair, counter, b""))
            self.handle_sent(now, data=False)

    def set_preshared_key(self, preshared_key: bytes) -> None:
        """Replace the preshared key; it counts from the next handshake on.

        Args:
            preshared_key: 32 bytes; zeros are none.

        Raises:
            UsageError: another length.
        """
        if len(preshared_key) != KEY_BYTES:
            raise UsageError(f"a preshared key has {KEY_BYTES} bytes, not {len(preshared_key)}")
        self._preshared_key = preshared_key

    def set_persistent_keepalive(self, interval_ns: int) -> None:
        """Replace how often to send something at least; arm the timer anew.

        Args:
            interval_ns: 0 for never, or at least a second.

        Raises:
            UsageError: less than a second.
        """
        if 0 != interval_ns < SECOND_NS:
            raise UsageError("a persistent keepalive is sent at most once a second")
        self.persistent_keepalive_ns = interval_ns

    def rest(self) -> None:
        """End the session, and leave the next handshake to the peer, until `resume` or `initiate` is called."""
        self.is_resting = True
        self._rotation.clear()
        self._forget_handshake()
        self._handshake_sent_at = -REKEY_TIMEOUT_NS
        self._answer_by = self._keepalive_at = NEVER
        self._outgoing.clear()
        self._events.clear()

    def resume(self) -> None:
        """Begin handshakes again when they are needed."""
        self.is_resting = self._closed

    def close(self) -> None:
        """Forget all keys and free all indices; nothing is sent or accepted any more."""
        self._closed = True
        self.rest()
        self._macs.forget()
        self._preshared_key = bytes(KEY_BYTES)

    # What came, as far as the gate could tell.

    def receive_initiation(self, handshake: ResponderHandshake, remote_index: int, now: int) -> None:
        """An initiation of this peer authenticated: answer it.

        Args:
            handshake: read by the gate; its payload is the timestamp.
            remote_index: index of the peer.
            now: monotonic ns.

        Raises:
            HandshakeRefusedError: it is old or too soon; nothing changed.
        """
        if self._closed:
            raise HandshakeRefusedError("initiation: tunnel is closed")
        if handshake.payload <= self._timestamp_received:
            raise HandshakeRefusedError("initiation: replayed")
        if now - self._initiation_received_at < INITIATION_INTERVAL_NS:
            raise HandshakeRefusedError("initiation: too soon")
        noise, keys = handshake.write_response(StaticKey(self._random_bytes(KEY_BYTES)), self._preshared_key)
        self.is_resting = False
        self._timestamp_received = handshake.payload
        self._initiation_received_at = now
        index = self._table.free_index()
        self._rotation.begin_as_responder(Keypair(self, index, remote_index, keys, now, initiator=False))
        self._answer_by = NEVER
        self._send_handshake(encode_response(Response(index, remote_index, noise)), now)
        if self._handshake_at != NEVER:
            self._handshake_at = now + REKEY_TIMEOUT_NS

    def receive_response(self, response: Response, now: int) -> None:
        """A response to our index came.

        Args:
            response: its MAC1 was right.
            now: monotonic ns.

        Raises:
            HandshakeRefusedError: it does not authenticate; nothing changed, the real one is still awaited.
        """
        if self._handshake is None:
            raise HandshakeRefusedError("response: none is awaited")
        _, keys = self._handshake.read_response(response.noise, self._preshared_key)
        keypair = Keypair(self, self._handshake_index, response.sender_index, keys, now, initiator=True)
        self._rotation.begin_as_initiator(keypair)
        self._handle_current(keypair, now)
        self._answer_by = NEVER
        self.keep_alive(now)

    def receive_cookie_reply(self, reply: CookieReply, now: int) -> None:
        """A peer under load wants MAC2; the cookie serves from the next initiation on.

        Args:
            reply: to one of our indices.
            now: monotonic ns.

        Raises:
            HandshakeRefusedError: it does not answer our last message; nothing changed.
        """
        if not self._macs.receive_reply(reply, now):
            raise HandshakeRefusedError("cookie reply: does not authenticate")

    # The timer, and what is put out.

    def handle_timer(self, now: int, wall_ns: int) -> None:
        """Do all that is due.

        Args:
            now: monotonic ns.
            wall_ns: ns since 1970.
        """
        self._rotation.expire(now)
        if now >= self._answer_by:
            self._answer_by = NEVER
            self._want_handshake(now)
        if now >= self._keepalive_at or now >= self._persistent_at():
            self._keepalive_at = NEVER
            self.keep_alive(now)
        if now >= self._retry_at:
            self._retry(now, wall_ns)
        if now >= self._handshake_at:
            self.initiate(now, wall_ns)

    def next_timer(self) -> int | None:
        """When to call `handle_timer`, monotonic ns; None: not before something else happens.

        The caller must arm its timer with what this returns: deadlines that are not earlier are not reported.
        """
        self._wake_at = min(
            self._handshake_at,
            self._retry_at,
            self._answer_by,
            self._keepalive_at,
            self._persistent_at(),
            self._rotation.next_expiry(),
        )
        return None if self._wake_at == NEVER else self._wake_at

    def datagrams_to_send(self) -> list[bytes]:
        """Take the messages for the peer's endpoint: initiations, responses, keepalives."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def next_event(self) -> Event | None:
        """Take the oldest event."""
        return self._events.popleft() if self._events else None

    def is_up(self, now: int) -> bool:
        """Whether there is a keypair to send on."""
        current = self._rotation.current
        return current is not None and now < current.expires_at

    @property
    def is_handshaking(self) -> bool:
        """Whether a response is awaited."""
        return self._handshake is not None

    def _want_handshake(self, now: int) -> None:
        if self._handshake is None and self._handshake_at == NEVER and not self.is_resting:
            self._handshake_at = max(now, self._handshake_sent_at + REKEY_TIMEOUT_NS)

    def _send_initiation(self, now: int, wall_ns: int) -> None:
        self._forget_handshake()
        handshake = InitiatorHandshake(self._static, self.peer_public, StaticKey(self._random_bytes(KEY_BYTES)))
        self.last_timestamp_sent = next_timestamp(wall_ns, self.last_timestamp_sent)
        noise = handshake.write_initiation(self.last_timestamp_sent)
        self._handshake = handshake
        self._handshake_index = index = self._table.free_index()
        self._table.handshakes[index] = self
        jitter = int.from_bytes(self._random_bytes(4), "little") * (REKEY_TIMEOUT_JITTER_NS + 1) >> 32
        self._retry_at = now + REKEY_TIMEOUT_NS + jitter
        self._send_handshake(encode_initiation(Initiation(index, noise)), now)

    def _send_handshake(self, body: bytes, now: int) -> None:
        self._handshake_sent_at = now
        self._send(self._macs.add_macs(body, now))
        self.handle_sent(now, data=False)

    def _retry(self, now: int, wall_ns: int) -> None:
        if now - self._first_initiation_at < REKEY_ATTEMPT_TIME_NS:
            self._send_initiation(now, wall_ns)
            self._tell(Unanswered())
        else:
            self._forget_handshake()
            self._tell(HandshakeFailed())

    def _forget_handshake(self) -> None:
        if self._handshake is not None:
            del self._table.handshakes[self._handshake_index]
        self._handshake = None
        self._handshake_at = self._retry_at = NEVER

    def _handle_current(self, keypair: Keypair, now: int) -> None:
        self._forget_handshake()
        self.last_handshake_at = now
        self._tell(KeypairReady(keypair.initiator))

    def _persistent_at(self) -> int:
        if not self.persistent_keepalive_ns or self.is_resting or self.is_handshaking or self._handshake_at != NEVER:
            return NEVER
        return 0 if self._traversed_at is None else self._traversed_at + self.persistent_keepalive_ns

    def _send(self, datagram: bytes) -> None:
        if len(self._outgoing) >= _OUTGOING:
            self.drops["tunnel: not drained"] += 1
        else:
            self._outgoing.append(datagram)

    def _tell(self, event: Event) -> None:
        if len(self._events) >= _EVENTS:
            self.drops["tunnel: event not taken"] += 1
        else:
            self._events.append(event)


def _checked_public(static: StaticKey, peer_public: bytes) -> bytes:
    if len(peer_public) != KEY_BYTES:
        raise UsageError(f"a public key has {KEY_BYTES} bytes, not {len(peer_public)}")
    try:
        static.exchange(peer_public)
    except ValueError as error:
        raise UsageError("the public key of the peer is of small order") from error
    return peer_public
