"""MAC1, MAC2 and the cookies behind MAC2.

MAC1 proves that the sender knows our public key, at the price of one hash. Under load that is not enough: then a node
answers with a cookie, sealed for whoever can read at the source address, and handles only messages whose MAC2 was made
with it. A cookie is a MAC over the address with a secret that is replaced every COOKIE_LIFETIME, so nothing is kept per
source.

Two machines, one for each end:

- `CookieChecker`, one a node: the side that checks. States: no secret, secret (until COOKIE_LIFETIME is over, looked at
  with the next message). Its cipher and the first 16 bytes of its nonces last as long as the secret, the other 8 are
  counted: so HChaCha20 runs once a secret, and a reply costs a few hashes of one block.
- `CookieGenerator`, one a peer: the side that puts MACs on its messages. States: no cookie, cookie (until
  COOKIE_LIFETIME is over, looked at with the next message).

Rules of the file: MACs are compared in constant time; a reply that does not authenticate changes nothing; a reply is
taken once for each message that was sent.

Source: the WireGuard paper, sections 5.3, 5.4.4 and 5.4.7; wire.md section 3.
Not done here: deciding whether there is load (gate.py).
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2s
from hmac import compare_digest
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from weft.noise.messages import MACS_BYTES, TYPE_COOKIE_REPLY, CookieReply
from weft.noise.primitives import MAC_BYTES, hash_of, mac_of, xchacha20poly1305
from weft.noise.timers import COOKIE_LIFETIME_NS, NEVER

LABEL_MAC1 = b"mac1----"
LABEL_COOKIE = b"cookie--"

_PREFIX_BYTES = 16
_COUNTED = Struct("<Q")
_REPLY_TYPE = TYPE_COOKIE_REPLY.to_bytes(4, "little")
_FOUR_ZEROS = bytes(4)
_NO_MAC = bytes(MAC_BYTES)


class CookieChecker:
    """Checks the MACs of what comes to a node, and makes its cookie replies."""

    __slots__ = ("_cipher", "_cookie_key", "_counter", "_expires_at", "_keyed", "_mac1", "_prefix", "_random_bytes")

    def __init__(self, public: bytes, random_bytes: Callable[[int], bytes]) -> None:
        """Make the checker of a node.

        Args:
            public: the static public key of the node, 32 bytes.
            random_bytes: gives as many random bytes as asked for.
        """
        self._mac1 = blake2s(key=hash_of(LABEL_MAC1, public), digest_size=MAC_BYTES)
        self._cookie_key = hash_of(LABEL_COOKIE, public)
        self._random_bytes = random_bytes
        self._expires_at = -NEVER

    def has_mac1(self, message: bytes) -> bool:
        """Whether MAC1 of an initiation or response is right."""
        mac = self._mac1.copy()
        mac.update(message[:-MACS_BYTES])
        return compare_digest(mac.digest(), message[-MACS_BYTES:-MAC_BYTES])

    def demand(self, message: bytes, source_bytes: bytes, now: int) -> bytes | None:
        """Check MAC2 of an initiation or response whose MAC1 is right.

        Args:
            message: the whole message.
            source_bytes: where it came from, as the cookie covers it.
            now: monotonic ns.

        Returns:
            None if MAC2 is right, else the cookie reply to send to that source, 64 bytes.
        """
        if now >= self._expires_at:
            self._renew(now)
        keyed = self._keyed.copy()
        keyed.update(source_bytes)
        cookie = keyed.digest()
        mac2 = message[-MAC_BYTES:]
        if mac2 != _NO_MAC and compare_digest(mac_of(cookie, message[:-MAC_BYTES]), mac2):
            return None
        self._counter += 1
        counted = _COUNTED.pack(self._counter)
        sealed = self._cipher.encrypt(_FOUR_ZEROS + counted, cookie, message[-MACS_BYTES:-MAC_BYTES])
        return b"".join((_REPLY_TYPE, message[4:8], self._prefix, counted, sealed))

    def _renew(self, now: int) -> None:
        self._keyed = blake2s(key=self._random_bytes(32), digest_size=MAC_BYTES)
        self._prefix = self._random_bytes(_PREFIX_BYTES)
        self._cipher: ChaCha20Poly1305 = xchacha20poly1305(self._cookie_key, self._prefix)
        self._counter = 0
        self._expires_at = now + COOKIE_LIFETIME_NS


class CookieGenerator:
    """Puts MACs on what goes to a peer, and keeps the cookie that the peer gave."""

    __slots__ = ("_cookie", "_cookie_key", "_expires_at", "_mac1_key", "_sent_mac1")

    def __init__(self, peer_public: bytes) -> None:
        """Make the generator for a peer.

        Args:
            peer_public: the static public key of the peer, 32 bytes.
        """
        self._mac1_key = hash_of(LABEL_MAC1, peer_public)
        self._cookie_key = hash_of(LABEL_COOKIE, peer_public)
        self._sent_mac1: bytes | None = None
        self._cookie = b""
        self._expires_at = -NEVER

    def add_macs(self, body: bytes, now: int) -> bytes:
        """Complete an initiation or response.

        Args:
            body: the message up to its MACs.
            now: monotonic ns.

        Returns:
            The message to send; MAC2 is zeros without a valid cookie.
        """
        self._sent_mac1 = mac1 = mac_of(self._mac1_key, body)
        body += mac1
        return body + (mac_of(self._cookie, body) if now < self._expires_at else _NO_MAC)

    def receive_reply(self, reply: CookieReply, now: int) -> bool:
        """Take the cookie out of a reply to the last message sent.

        Returns:
            Whether it was one; if not, nothing changed.
        """
        if self._sent_mac1 is None:
            return False
        cipher = xchacha20poly1305(self._cookie_key, reply.nonce[:_PREFIX_BYTES])
        try:
            cookie = cipher.decrypt(_FOUR_ZEROS + reply.nonce[_PREFIX_BYTES:], reply.sealed, self._sent_mac1)
        except InvalidTag:
            return False
        self._cookie = cookie
        self._sent_mac1 = None
        self._expires_at = now + COOKIE_LIFETIME_NS
        return True

    def forget(self) -> None:
        """Forget the cookie."""
        self._cookie = b""
        self._sent_mac1 = None
        self._expires_at = -NEVER
