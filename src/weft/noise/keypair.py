"""The keys of one session, and which session is in use.

`Rotation` holds the keypairs of one peer. States of a keypair and what moves it:

| event                          | next          | current       | previous, newest first                        |
|--------------------------------|---------------|---------------|-----------------------------------------------|
| `begin_as_initiator` (response | none          | the new one   | the old next, the old current, the former     |
| came)                          |               |               | previous                                      |
| `begin_as_responder` (response | the new one,  | stays         | stay                                          |
| went)                          | old forgotten |               |                                               |
| `confirm` (data came on next)  | none          | the old next  | the old current, the former previous          |
| `expire` (REJECT_AFTER_TIME)   | each is forgotten when its time is over                                       |
| `clear`                        | all are forgotten                                                             |

We seal on `current` alone, so that a responder uses a new keypair only once the initiator has shown that it has it; we
open on all. That is WireGuard's rotation; only of `previous` it keeps one, and none from the beginning of a session as
responder. If both sides begin at once, each may become the initiator of the keypair that it sends on, and then one
previous keypair is not enough for what is on its way when both rekey at once again: PREVIOUS_KEPT is. Nothing is usable
longer for it: every keypair ends at its REJECT_AFTER_TIME.

Rules of the file: a counter is taken before sealing and never given back; a keypair is in the table of its node
exactly as long as it is in a rotation.

Source: the WireGuard paper, sections 5.4.5, 5.4.6, 6.2 and 6.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from weft.noise.replay import ReplayWindow
from weft.noise.timers import (
    LAST_MINUTE_TIME_NS,
    NEVER,
    REJECT_AFTER_MESSAGES,
    REJECT_AFTER_TIME_NS,
    REKEY_AFTER_TIME_NS,
)

if TYPE_CHECKING:
    from weft.noise.handshake import TransportKeys
    from weft.noise.tunnel import Tunnel

PREVIOUS_KEPT = 3
"""How many keypairs that were replaced still open messages."""

_INDICES = 1 << 32


class Keypair:
    """The keys of one session, read directly by the fast path.

    Attributes:
        local_index: what the peer writes to us as receiver index.
        remote_index: what we write to the peer.
        initiator: whether we began the handshake.
        created_at: monotonic ns.
        refresh_at: sending at or after this asks for a new handshake, monotonic ns.
        last_minute_at: receiving at or after this asks for a new handshake, monotonic ns.
        expires_at: at or after this nothing may be sealed or opened, monotonic ns.
        sealer: the key of our direction.
        opener: the key of the peer's direction.
        counter: the next one to use.
        window: counters of the peer that were used.
        tunnel: whose session this is.
    """

    __slots__ = (
        "counter",
        "created_at",
        "expires_at",
        "initiator",
        "last_minute_at",
        "local_index",
        "opener",
        "refresh_at",
        "remote_index",
        "sealer",
        "tunnel",
        "window",
    )

    def __init__(
        self, tunnel: Tunnel, local_index: int, remote_index: int, keys: TransportKeys, now: int, *, initiator: bool
    ) -> None:
        self.tunnel = tunnel
        self.local_index = local_index
        self.remote_index = remote_index
        self.initiator = initiator
        self.created_at = now
        self.expires_at = now + REJECT_AFTER_TIME_NS
        self.refresh_at = now + REKEY_AFTER_TIME_NS if initiator else self.expires_at
        self.last_minute_at = now + LAST_MINUTE_TIME_NS if initiator else NEVER
        self.sealer = ChaCha20Poly1305(keys.send)
        self.opener = ChaCha20Poly1305(keys.receive)
        self.counter = 0
        self.window = ReplayWindow()

    def take_counter(self) -> int | None:
        """The counter for the next message; it belongs to that message, whether it is sent or not.

        Returns:
            None at REJECT_AFTER_MESSAGES.
        """
        counter = self.counter
        if counter >= REJECT_AFTER_MESSAGES:
            return None
        self.counter = counter + 1
        return counter

    def take_counters(self, count: int) -> int | None:
        """The first of `count` counters that follow each other, for as many messages.

        Returns:
            None if not all of them are below REJECT_AFTER_MESSAGES; then none was taken.
        """
        first = self.counter
        if first + count > REJECT_AFTER_MESSAGES:
            return None
        self.counter = first + count
        return first

    def __repr__(self) -> str:
        role = "initiator" if self.initiator else "responder"
        return f"Keypair(local_index={self.local_index:08x}, remote_index={self.remote_index:08x}, {role})"


class KeypairTable:
    """What the receiver indices of a node mean; shared by its gate and all its tunnels.

    Attributes:
        keypairs: sessions by our index.
        handshakes: tunnels that wait for a response, by our index.
    """

    __slots__ = ("_random_bytes", "handshakes", "keypairs")

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self.keypairs: dict[int, Keypair] = {}
        self.handshakes: dict[int, Tunnel] = {}

    def free_index(self) -> int:
        """A random index of 32 bits that nothing has now."""
        index = int.from_bytes(self._random_bytes(4), "little")
        while index in self.keypairs or index in self.handshakes:
            index = (index + 1) % _INDICES
        return index

    def tunnel_at(self, index: int) -> Tunnel | None:
        """Whose index this is, of a handshake or of a session."""
        keypair = self.keypairs.get(index)
        return self.handshakes.get(index) if keypair is None else keypair.tunnel


class Rotation:
    """The keypairs of one peer.

    Attributes:
        next: made as responder, not yet confirmed.
        current: the one to seal on.
        previous: those replaced, newest first.
    """

    __slots__ = ("_table", "current", "next", "previous")

    def __init__(self, table: KeypairTable) -> None:
        self._table = table
        self.next: Keypair | None = None
        self.current: Keypair | None = None
        self.previous: tuple[Keypair, ...] = ()

    def __iter__(self) -> Iterator[Keypair]:
        if self.next is not None:
            yield self.next
        if self.current is not None:
            yield self.current
        yield from self.previous

    def begin_as_initiator(self, keypair: Keypair) -> None:
        """Take the keypair of a handshake whose response came."""
        self._hold(keypair)
        self._retire(self.next, self.current)
        self.next, self.current = None, keypair

    def begin_as_responder(self, keypair: Keypair) -> None:
        """Take the keypair of a handshake whose response goes now."""
        self._hold(keypair)
        if self.next is not None:
            self._release(self.next)
        self.next = keypair

    def confirm(self) -> None:
        """Data came on `next`: the initiator has it."""
        self._retire(self.current)
        self.current, self.next = self.next, None

    def expire(self, now: int) -> None:
        """Forget what may not be used any more."""
        for keypair in [keypair for keypair in self if now >= keypair.expires_at]:
            self._release(keypair)
            if keypair is self.next:
                self.next = None
            elif keypair is self.current:
                self.current = None
        self.previous = tuple(keypair for keypair in self.previous if now < keypair.expires_at)

    def next_expiry(self) -> int:
        """When the next keypair has to be forgotten, monotonic ns; NEVER without keypairs."""
        return min((keypair.expires_at for keypair in self), default=NEVER)

    def clear(self) -> None:
        """Forget everything."""
        for keypair in self:
            self._release(keypair)
        self.next, self.current, self.previous = None, None, ()

    def _hold(self, keypair: Keypair) -> None:
        self._table.keypairs[keypair.local_index] = keypair

    def _release(self, keypair: Keypair) -> None:
        del self._table.keypairs[keypair.local_index]

    def _retire(self, *replaced: Keypair | None) -> None:
        previous = tuple(keypair for keypair in replaced if keypair is not None) + self.previous
        self.previous = previous[:PREVIOUS_KEPT]
        for keypair in previous[PREVIOUS_KEPT:]:
            self._release(keypair)
