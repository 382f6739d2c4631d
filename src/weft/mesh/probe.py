"""Probes: ping and pong between weft nodes, signed, inside the tunnel.

Body of a probe, big-endian:

    0       kind: 1 ping, 2 pong
    1       pos: 0 in a tunnel without a route
    2..4    zero
    4..12   id, from the pinger
    12..44  Ed25519 public key: the pinger's in a ping, the answering node's in a pong
    ping:   zeros up to the length of its pong, or up to the size that it probes
    pong:   44..46 the largest message that the node takes, 46..50 its time in µs, 50..114 signature over
            id, pinger's key, own key, pos, largest message, time, in the context `weft pong`

A ping is never shorter than its pong, so nobody is made to send more than was sent to it.

Source: wire.md section 6.
Not done here: kind 3, the error that a forwarder sends, comes with routes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from weft.errors import DecodeError
from weft.identity import Identity, verify
from weft.mesh.multigram import CODEC_BYTES, PROBE, encode_multigram

PING: Final = 1
PONG: Final = 2
PONG_CONTEXT: Final = b"weft pong"

_HEAD = Struct(">BBH8s32s")
_PONG_TAIL = Struct(">HI64s")
_SIGNED_TAIL = Struct(">BHI")
PONG_BYTES: Final = _HEAD.size + _PONG_TAIL.size

MIN_PING_BYTES: Final = CODEC_BYTES + PONG_BYTES
"""Of the whole multigram."""

MAX_OUTSTANDING: Final = 64
PONGS_PER_SECOND: Final = 10
TIMEOUT_NS: Final = 2_000_000_000


class Ping(NamedTuple):
    """A decoded ping."""

    pos: int
    id: bytes
    public_key: bytes
    size: int
    """Bytes of the whole multigram."""


class Pong(NamedTuple):
    """A decoded pong; its signature is not checked yet."""

    pos: int
    id: bytes
    public_key: bytes
    largest_message: int
    time_us: int
    signature: bytes


def encode_ping(probe_id: bytes, public_key: bytes, size: int = MIN_PING_BYTES) -> bytes:
    """Encode a ping as a multigram.

    Args:
        probe_id: 8 bytes.
        public_key: the pinger's Ed25519 key, 32 bytes.
        size: of the whole multigram, bytes; raised to MIN_PING_BYTES.
    """
    body = _HEAD.pack(PING, 0, 0, probe_id, public_key)
    return encode_multigram(PROBE, body.ljust(max(size, MIN_PING_BYTES) - CODEC_BYTES, b"\0"))


def encode_pong(ping: Ping, identity: Identity, largest_message: int, time_us: int) -> bytes:
    """Encode and sign the answer to a ping, as a multigram.

    Args:
        ping: what is answered.
        identity: of the answering node.
        largest_message: bytes that it takes and forwards, below 2^16.
        time_us: its clock in µs, modulo 2^32.
    """
    time_us &= 0xFFFFFFFF
    own_key = identity.peer_id.public_key
    signature = identity.sign(
        PONG_CONTEXT, ping.id + ping.public_key + own_key + _SIGNED_TAIL.pack(ping.pos, largest_message, time_us)
    )
    head = _HEAD.pack(PONG, ping.pos, 0, ping.id, own_key)
    return encode_multigram(PROBE, head + _PONG_TAIL.pack(largest_message, time_us, signature))


def decode_probe(body: bytes) -> Ping | Pong:
    """Decode the body of a probe.

    Args:
        body: what follows the codec.

    Returns:
        The ping or the pong.

    Raises:
        DecodeError: another kind, a reserved byte that is not zero, a ping shorter than its pong, a pong of another
            size.

    Source: wire.md section 6.
    """
    if len(body) < PONG_BYTES:
        raise DecodeError(f"a probe of {PONG_BYTES} bytes or more", offset=len(body))
    kind, pos, reserved, probe_id, public_key = _HEAD.unpack_from(body)
    if reserved:
        raise DecodeError("two zero bytes", offset=2)
    if kind == PING:
        if body.count(0, _HEAD.size) != len(body) - _HEAD.size:
            raise DecodeError("zeros behind the key", offset=_HEAD.size)
        return Ping(pos, probe_id, public_key, len(body) + CODEC_BYTES)
    if kind == PONG:
        if len(body) != PONG_BYTES:
            raise DecodeError(f"a pong of {PONG_BYTES} bytes", offset=PONG_BYTES)
        return Pong(pos, probe_id, public_key, *_PONG_TAIL.unpack_from(body, _HEAD.size))
    raise DecodeError("a ping (1) or a pong (2)", offset=0)


@dataclass(frozen=True)
class Answered:
    """A pong came for one of our pings, signed by the peer."""

    id: bytes
    rtt_ns: int
    size: int
    """Bytes of the ping's multigram."""
    largest_message: int


@dataclass(frozen=True)
class Lost:
    """No pong came in time."""

    id: bytes
    size: int


class Prober:
    """Pings to one peer, and the answers to its own.

    Attributes:
        drops: probes that were dropped, by reason.
    """

    def __init__(self, identity: Identity, random_bytes: Callable[[int], bytes], drops: Counter[str]) -> None:
        self._identity = identity
        self._random_bytes = random_bytes
        self._outstanding: dict[bytes, tuple[int, int]] = {}
        self._out: deque[bytes] = deque(maxlen=32)
        self._events: deque[Answered | Lost] = deque(maxlen=2 * MAX_OUTSTANDING)
        self._pong_times: deque[int] = deque(maxlen=PONGS_PER_SECOND)
        self.drops = drops

    def ping(self, now: int, size: int = MIN_PING_BYTES) -> bytes:
        """Send a ping.

        Args:
            now: monotonic ns.
            size: bytes of the multigram, to probe the path MTU.

        Returns:
            Its id, which the event that ends it carries.
        """
        if len(self._outstanding) >= MAX_OUTSTANDING:
            self._lose(next(iter(self._outstanding)))
        probe_id = self._random_bytes(8)
        self._outstanding[probe_id] = (now, max(size, MIN_PING_BYTES))
        self._out.append(encode_ping(probe_id, self._identity.peer_id.public_key, size))
        return probe_id

    def receive(self, body: bytes, their_key: bytes | None, largest_message: int, now: int) -> None:
        """Take the body of a probe that came through the tunnel.

        Args:
            body: what follows the codec.
            their_key: Ed25519 key of the peer, None while it has not said it; a pong needs it.
            largest_message: bytes that we take, for the pong.
            now: monotonic ns.
        """
        try:
            probe = decode_probe(body)
        except DecodeError:
            self.drops["probe: undecodable"] += 1
            return
        if isinstance(probe, Ping):
            self._answer(probe, largest_message, now)
        else:
            self._take(probe, their_key, now)

    def handle_timer(self, now: int) -> None:
        """Give up pings that were not answered in time."""
        for probe_id, (sent_at, _) in list(self._outstanding.items()):
            if now - sent_at >= TIMEOUT_NS:
                self._lose(probe_id)

    def next_timer(self) -> int | None:
        """When the next ping is given up, monotonic ns."""
        # Pings are kept in the order of their sending, so the first is due first.
        for sent_at, _ in self._outstanding.values():
            return sent_at + TIMEOUT_NS
        return None

    def datagrams_to_send(self) -> list[bytes]:
        """Multigrams for the tunnel."""
        out = list(self._out)
        self._out.clear()
        return out

    def next_event(self) -> Answered | Lost | None:
        """What became of our pings, oldest first."""
        return self._events.popleft() if self._events else None

    def _answer(self, ping: Ping, largest_message: int, now: int) -> None:
        times = self._pong_times
        if len(times) == PONGS_PER_SECOND and now - times[0] < 1_000_000_000:
            self.drops["probe: too many pings"] += 1
            return
        times.append(now)
        self._out.append(encode_pong(ping, self._identity, largest_message, now // 1000))

    def _take(self, pong: Pong, their_key: bytes | None, now: int) -> None:
        sent = self._outstanding.get(pong.id)
        if sent is None:
            self.drops["probe: unasked pong"] += 1
            return
        message = (
            pong.id
            + self._identity.peer_id.public_key
            + pong.public_key
            + _SIGNED_TAIL.pack(pong.pos, pong.largest_message, pong.time_us)
        )
        if pong.public_key != their_key or not verify(pong.public_key, PONG_CONTEXT, message, pong.signature):
            self.drops["probe: bad signature"] += 1
            return
        del self._outstanding[pong.id]
        sent_at, size = sent
        self._events.append(Answered(pong.id, now - sent_at, size, pong.largest_message))

    def _lose(self, probe_id: bytes) -> None:
        _, size = self._outstanding.pop(probe_id)
        self._events.append(Lost(probe_id, size))
