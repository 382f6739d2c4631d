"""The front door of a node for messages of types 1 to 3: MACs, load, and who is meant.

Two states: calm, and under load (while initiations with a right MAC1 come faster than CALM_INITIATIONS_PER_SECOND, and
a second longer). What an initiation has to pass:

| check                                                        | calm | under load | if not                            |
|--------------------------------------------------------------|------|------------|-----------------------------------|
| its size                                                     | yes  | yes        | dropped                           |
| MAC1                                                         | yes  | yes        | dropped                           |
| MAC2                                                         |      | yes        | a cookie reply goes to the source |
| its source: 20 a second, 5 at once                           |      | yes        | dropped                           |
| all of the node: HANDSHAKES_PER_SECOND                       |      | yes        | dropped                           |
| its static key and its timestamp authenticate                | yes  | yes        | dropped                           |
| the node wants that peer (`tunnel_for`)                      | yes  | yes        | dropped                           |
| it is newer than those before, and 20 ms later (tunnel.py)   | yes  | yes        | dropped                           |

A response, and a cookie reply, must have an index that we chose at random for a handshake that is not done: who can't
read our messages does not get that far, so there is no further check under load.

Rules of the file: everything that is dropped is counted by reason in `drops` and changes nothing; what a flood of
spoofed initiations runs through raises nothing and allocates little.

Source: the WireGuard paper, sections 5.3, 5.4 and 6.5; wire.md section 3.
Not done here: data messages (the fast path looks up `keypairs` itself), endpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from weft.errors import DecodeError
from weft.noise.cookie import CookieChecker
from weft.noise.handshake import HandshakeRefusedError, ResponderHandshake
from weft.noise.keypair import Keypair, KeypairTable
from weft.noise.messages import (
    INITIATION_BYTES,
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
    decode_cookie_reply,
    decode_initiation,
    decode_response,
)
from weft.noise.primitives import StaticKey
from weft.noise.timers import SECOND_NS
from weft.noise.tunnel import Tunnel
from weft.rates import Rate, SourceRates

CALM_INITIATIONS_PER_SECOND = 50
HANDSHAKES_PER_SECOND = 250
SOURCE_INITIATIONS_PER_SECOND = 20
SOURCE_INITIATIONS_AT_ONCE = 5
SOURCES = 4096
REPLIES = 1024
"""Bound of the cookie replies that wait to be sent."""

_V4_MAPPED = bytes(10) + b"\xff\xff"


class Gate:
    """Receives handshake messages for all tunnels of a node.

    Attributes:
        table: indices of the node; all its tunnels share it.
        keypairs: sessions by our index, for the fast path.
        drops: what was not accepted, by reason.
    """

    def __init__(
        self,
        static: StaticKey,
        *,
        tunnel_for: Callable[[bytes], Tunnel | None],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """Make the gate of a node.

        Args:
            static: its key.
            tunnel_for: gives the tunnel of a peer by its public key, makes it, or refuses with None; called only
                with a key whose owner wrote the initiation, or had written it if it was played again.
            random_bytes: gives as many random bytes as asked for.
        """
        self.table = KeypairTable(random_bytes)
        self.keypairs: dict[int, Keypair] = self.table.keypairs
        self.drops: Counter[str] = Counter()
        self._static = static
        self._tunnel_for = tunnel_for
        self._cookies = CookieChecker(static.public, random_bytes)
        self._calm = Rate(CALM_INITIATIONS_PER_SECOND, burst=CALM_INITIATIONS_PER_SECOND)
        self._loaded_until = 0
        self._sources = SourceRates(SOURCE_INITIATIONS_PER_SECOND, SOURCE_INITIATIONS_AT_ONCE, SOURCES)
        self._handshakes = Rate(HANDSHAKES_PER_SECOND, burst=HANDSHAKES_PER_SECOND // 10)
        self._replies: list[tuple[bytes, object]] = []

    def receive(self, data: bytes | memoryview, source: object, source_bytes: bytes, now: int) -> Tunnel | None:
        """Receive a message of type 1, 2 or 3.

        Args:
            data: the whole datagram.
            source: where it came from; comes back with cookie replies.
            source_bytes: what the cookie covers: address and port of an IPv4 source in 6 bytes, of an IPv6 source in
                18, and for a message that came by a route the key of the previous hop and the labels.
            now: monotonic ns.

        Returns:
            The tunnel whose message this is: it authenticated, so the endpoint may follow its source; drain the
            tunnel's outputs then. None if it was dropped or was about a cookie.
        """
        message = bytes(data)
        kind = int.from_bytes(message[:4], "little")
        try:
            if kind == TYPE_INITIATION:
                return self._receive_initiation(message, source, source_bytes, now)
            if kind == TYPE_RESPONSE:
                return self._receive_response(message, now)
            if kind == TYPE_COOKIE_REPLY:
                self._receive_cookie_reply(message, now)
            else:
                self.drops["handshake: unknown type"] += 1
        except DecodeError:
            self.drops["handshake: size"] += 1
        except HandshakeRefusedError as error:
            self.drops[error.reason] += 1
        return None

    def datagrams_to_send(self) -> list[tuple[bytes, object]]:
        """Take the cookie replies, each with the source that it goes to."""
        replies, self._replies = self._replies, []
        return replies

    def is_under_load(self, now: int) -> bool:
        """Whether initiations need MAC2 now."""
        return now < self._loaded_until

    def _receive_initiation(self, message: bytes, source: object, source_bytes: bytes, now: int) -> Tunnel | None:
        if len(message) == INITIATION_BYTES and not self._is_admitted(message, source, source_bytes, now):
            return None
        initiation = decode_initiation(message)
        handshake = ResponderHandshake.read_initiation(self._static, initiation.noise)
        tunnel = self._tunnel_for(handshake.peer_public)
        if tunnel is None:
            raise HandshakeRefusedError("initiation: peer refused")
        tunnel.receive_initiation(handshake, initiation.sender_index, now)
        return tunnel

    def _is_admitted(self, message: bytes, source: object, source_bytes: bytes, now: int) -> bool:
        if not self._cookies.has_mac1(message):
            self.drops["initiation: MAC1"] += 1
            return False
        if not self._calm.allows(now):
            self._loaded_until = now + SECOND_NS
        if not self.is_under_load(now):
            return True
        reply = self._cookies.demand(message, source_bytes, now)
        if reply is not None:
            self.drops["initiation: MAC2"] += 1
            if len(self._replies) < REPLIES:
                self._replies.append((reply, source))
            else:
                self.drops["cookie reply: not drained"] += 1
            return False
        if not self._sources.allows(_rate_key(source_bytes), now):
            raise HandshakeRefusedError("initiation: too many of its source")
        if not self._handshakes.allows(now):
            raise HandshakeRefusedError("initiation: too many")
        return True

    def _receive_response(self, message: bytes, now: int) -> Tunnel:
        response = decode_response(message)
        tunnel = self.table.handshakes.get(response.receiver_index)
        if tunnel is None:
            raise HandshakeRefusedError("response: unknown index")
        if not self._cookies.has_mac1(message):
            raise HandshakeRefusedError("response: MAC1")
        tunnel.receive_response(response, now)
        return tunnel

    def _receive_cookie_reply(self, message: bytes, now: int) -> None:
        reply = decode_cookie_reply(message)
        tunnel = self.table.tunnel_at(reply.receiver_index)
        if tunnel is None:
            raise HandshakeRefusedError("cookie reply: unknown index")
        tunnel.receive_cookie_reply(reply, now)


def _rate_key(source_bytes: bytes) -> bytes:
    """What is limited: an IPv4 address, an IPv6 network of 64 bits, or the key of a previous hop."""
    if source_bytes.startswith(_V4_MAPPED):
        return source_bytes[12:16]
    return source_bytes[:4] if len(source_bytes) == 6 else source_bytes[:8]
