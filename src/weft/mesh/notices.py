"""Notices: what two weft peers tell each other about themselves, and the loss that one sees of the other.

A notice is one MessagePack map of at most 1,024 bytes.

    b   8 random bytes, new at each start of the sender's process
    n   number of a numbered notice, from 1 in each b
    a   the highest number taken from the other side; of: the b that it belongs to
    id, v, burst, caps, mtu     who the sender is (see `Hello`); in every numbered notice, so that the last is enough
    r   loss report (see `burst.size`), unnumbered and not repeated

Rules of the file:
- A numbered notice is sent again after 1, 2, 4, 8 and 16 s, then given up: a peer that has never sent one is stock.
- Each says everything, so a newer one replaces what was not acknowledged yet, and order needs no queue.
- What a peer said holds through rekeys until another b is seen; then it is told again who we are, unless that b has
  acknowledged it already: so an acknowledgement says whose it is (b, a, of).

Source: wire.md section 5, "Notices".
Not done here: whether `id` gives the Noise key of the tunnel (the engine knows that key).
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from weft.burst.size import LossReport
from weft.errors import DecodeError
from weft.mesh.multigram import NOTICE, encode_multigram

MAX_NOTICE_BYTES: Final = 1024
RETRY_NS: Final = tuple(seconds * 1_000_000_000 for seconds in (1, 2, 4, 8, 16))
BURST_VERSION: Final = 1

_Natural = Annotated[int, Meta(ge=0, le=1 << 62)]
_Boot = Annotated[bytes, Meta(min_length=8, max_length=8)]


class Notice(Struct, frozen=True, omit_defaults=True):
    """The map on the wire; unknown keys are ignored."""

    b: _Boot | None = None
    n: _Natural | None = None
    a: _Natural | None = None
    of: _Boot | None = None
    id: Annotated[bytes, Meta(min_length=32, max_length=32)] | None = None
    v: Annotated[list[_Natural], Meta(max_length=16)] | None = None
    burst: Annotated[int, Meta(ge=0, le=65_535)] | None = None
    caps: Annotated[list[Annotated[str, Meta(max_length=32)]], Meta(max_length=32)] | None = None
    mtu: Annotated[int, Meta(ge=0, le=65_535)] | None = None
    r: Annotated[list[_Natural], Meta(min_length=6, max_length=6)] | None = None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Notice)


def decode_notice(body: bytes) -> Notice:
    """Decode the body of a notice.

    Args:
        body: what follows the codec, at most 1,024 bytes.

    Returns:
        The map; what it lacks is None.

    Raises:
        DecodeError: too long, not MessagePack, or a known key with a value that can't be.

    Source: wire.md section 5.
    """
    if len(body) > MAX_NOTICE_BYTES:
        raise DecodeError(f"a notice of at most {MAX_NOTICE_BYTES:,} bytes", offset=MAX_NOTICE_BYTES)
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError("a notice in MessagePack") from error


def encode_notice(notice: Notice) -> bytes:
    """Encode a notice with its codec, ready for the tunnel."""
    return encode_multigram(NOTICE, _ENCODER.encode(notice))


@dataclass(frozen=True)
class Hello:
    """Who a weft node is."""

    public_key: bytes
    """Ed25519, 32 bytes."""
    burst: int
    """Largest total of a burst that it takes; 0 asks for type 4 messages only."""
    mtu: int
    """Of its fc00 interface, bytes."""
    capabilities: frozenset[str] = frozenset()
    versions: tuple[int, ...] = (BURST_VERSION,)


@dataclass(frozen=True)
class HelloReceived:
    """The peer said who it is, for the first time or anew."""

    hello: Hello


@dataclass(frozen=True)
class LossReported:
    """The peer counted what came from us."""

    report: LossReport


@dataclass
class Notices:
    """The notices to and from one peer.

    Attributes:
        boot: our b.
        hello: who we are; `say` changes it.
        their_hello: the last that the peer said.
        drops: notices that were dropped, by reason.
    """

    boot: bytes
    hello: Hello
    drops: Counter[str] = field(default_factory=Counter)
    their_hello: Hello | None = None

    def __post_init__(self) -> None:
        self._number = 0
        self._acknowledged = 0
        self._acknowledged_by: bytes | None = None
        self._repeats = 0
        self._retry_at: int | None = None
        self._their_boot: bytes | None = None
        self._their_number = 0
        self._out: deque[bytes] = deque(maxlen=16)
        self._events: deque[HelloReceived | LossReported] = deque(maxlen=16)

    def start(self, now: int) -> None:
        """A session came up: say who we are, unless the peer has acknowledged it."""
        if self._acknowledged == self._number > 0:
            return
        self._number = max(1, self._number)
        self._repeats = 0
        self._send(now)

    def say(self, hello: Hello, now: int) -> None:
        """Tell the peer anew who we are."""
        self.hello = hello
        self._number += 1
        self._repeats = 0
        self._send(now)

    def report(self, report: LossReport) -> None:
        """Tell the peer what was counted; not repeated."""
        self._out.append(encode_notice(Notice(r=list(report))))

    def receive(self, body: bytes, now: int) -> None:
        """Take the body of a notice that came through the tunnel."""
        try:
            notice = decode_notice(body)
        except DecodeError:
            self.drops["notice: undecodable"] += 1
            return
        if notice.a is not None and notice.of == self.boot and notice.a <= self._number:
            self._acknowledged = max(self._acknowledged, notice.a)
            self._acknowledged_by = notice.b
            if self._acknowledged == self._number:
                self._retry_at = None
        if notice.r is not None:
            self._events.append(LossReported(LossReport(*notice.r)))
        if notice.n is not None:
            self._receive_numbered(notice, notice.n, now)

    def handle_timer(self, now: int) -> None:
        """Repeat what was not acknowledged."""
        if self._retry_at is not None and now >= self._retry_at:
            self._repeats += 1
            self._send(now)

    def next_timer(self) -> int | None:
        """When `handle_timer` has something to do, monotonic ns."""
        return self._retry_at

    def datagrams_to_send(self) -> list[bytes]:
        """Multigrams for the tunnel."""
        out = list(self._out)
        self._out.clear()
        return out

    def next_event(self) -> HelloReceived | LossReported | None:
        """What the peer said, oldest first."""
        return self._events.popleft() if self._events else None

    def _receive_numbered(self, notice: Notice, number: int, now: int) -> None:
        if notice.b is None or notice.id is None or number == 0:
            self.drops["notice: incomplete"] += 1
            return
        is_new_boot = notice.b != self._their_boot
        if is_new_boot or number > self._their_number:
            if is_new_boot and self._acknowledged and self._acknowledged_by != notice.b:
                self.say(self.hello, now)
            self._their_boot = notice.b
            self._their_number = number
            self.their_hello = Hello(
                public_key=notice.id,
                burst=notice.burst or 0,
                mtu=notice.mtu or 0,
                capabilities=frozenset(notice.caps or ()),
                versions=tuple(notice.v or ()),
            )
            self._events.append(HelloReceived(self.their_hello))
        self._out.append(encode_notice(Notice(b=self.boot, a=self._their_number, of=self._their_boot)))

    def _send(self, now: int) -> None:
        hello = self.hello
        self._out.append(
            encode_notice(
                Notice(
                    b=self.boot,
                    n=self._number,
                    a=self._their_number,
                    of=self._their_boot,
                    id=hello.public_key,
                    v=list(hello.versions),
                    burst=hello.burst,
                    caps=sorted(hello.capabilities),
                    mtu=hello.mtu,
                )
            )
        )
        self._retry_at = now + RETRY_NS[self._repeats] if self._repeats < len(RETRY_NS) else None
