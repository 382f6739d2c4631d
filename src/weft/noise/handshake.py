"""Noise_IKpsk2: two messages that give both sides the same two keys and prove who they are.

    initiator                                     responder
    write_initiation   e, es, s, ss, payload ->   read_initiation
    read_response      <- e, ee, se, psk, empty   write_response
    keys: send, receive                           keys: receive, send

Rules of the file: what is read is checked before anything is kept, so that a message that is refused leaves the
handshake as it was, ready for the real one; a shared secret of zeros refuses the message; each key seals one message,
so every nonce is 0.

Source: the WireGuard paper, sections 5.4.2, 5.4.3 and 5.4.5; the Noise Protocol Framework, revision 34, sections 5, 7
and 9.
Not done here: headers and MACs of the messages, replayed timestamps, timers.
"""

from __future__ import annotations

from typing import NamedTuple, Self

from cryptography.exceptions import InvalidTag

from weft.errors import PeerError
from weft.noise.primitives import KEY_BYTES, StaticKey, hash_of, kdf, open_once, seal_once

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"

_INITIAL_CHAIN = hash_of(CONSTRUCTION)
_SEALED_STATIC_END = KEY_BYTES + KEY_BYTES + 16


class HandshakeRefusedError(PeerError):
    """A handshake message can't be accepted; never leaves this room.

    Attributes:
        reason: under which it is counted.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TransportKeys(NamedTuple):
    """The two keys that a handshake ends with, 32 bytes each."""

    send: bytes
    receive: bytes

    def __repr__(self) -> str:
        return "TransportKeys(…)"


class _Transcript:
    """The symmetric state: the chaining key and the hash of all that was said."""

    __slots__ = ("_chain", "hash")

    def __init__(self, responder_public: bytes, prologue: bytes) -> None:
        self._chain = _INITIAL_CHAIN
        self.hash = hash_of(hash_of(_INITIAL_CHAIN, prologue), responder_public)

    def copy(self) -> Self:
        other = object.__new__(type(self))
        other._chain, other.hash = self._chain, self.hash
        return other

    def mix_hash(self, data: bytes) -> None:
        self.hash = hash_of(self.hash, data)

    def mix_ephemeral(self, public: bytes) -> None:
        """Token e of a pattern with a preshared key."""
        self.mix_hash(public)
        (self._chain,) = kdf(self._chain, public, 1)

    def mix_key(self, key: StaticKey, peer_public: bytes) -> bytes:
        """Tokens ee, es, se and ss; the key for what is sealed next."""
        try:
            shared = key.exchange(peer_public)
        except ValueError as error:
            raise HandshakeRefusedError("handshake: shared secret is zero") from error
        self._chain, sealing = kdf(self._chain, shared, 2)
        return sealing

    def mix_preshared_key(self, preshared_key: bytes) -> bytes:
        """Token psk; the key for what is sealed next."""
        self._chain, said, sealing = kdf(self._chain, preshared_key, 3)
        self.mix_hash(said)
        return sealing

    def seal(self, key: bytes, plain: bytes) -> bytes:
        sealed = seal_once(key, plain, self.hash)
        self.mix_hash(sealed)
        return sealed

    def open(self, key: bytes, sealed: bytes) -> bytes:
        try:
            plain = open_once(key, sealed, self.hash)
        except InvalidTag as error:
            raise HandshakeRefusedError("handshake: does not authenticate") from error
        self.mix_hash(sealed)
        return plain

    def split(self) -> list[bytes]:
        """The keys of initiator to responder and back."""
        return kdf(self._chain, b"", 2)


class InitiatorHandshake:
    """Our side of a handshake that we begin.

    Attributes:
        handshake_hash: hash of all that was said, 32 bytes; after the response it is the same on both sides.
    """

    __slots__ = ("_ephemeral", "_peer_public", "_static", "_transcript")

    def __init__(
        self, static: StaticKey, peer_public: bytes, ephemeral: StaticKey, *, prologue: bytes = IDENTIFIER
    ) -> None:
        self._static = static
        self._peer_public = peer_public
        self._ephemeral = ephemeral
        self._transcript = _Transcript(peer_public, prologue)

    @property
    def handshake_hash(self) -> bytes:
        """The hash of what was said so far."""
        return self._transcript.hash

    def write_initiation(self, payload: bytes) -> bytes:
        """Write Noise message 1; once per handshake.

        Args:
            payload: the timestamp.

        Returns:
            32 + 48 + len(payload) + 16 bytes.

        Raises:
            HandshakeRefusedError: the peer's public key is of small order.
        """
        said = self._transcript
        said.mix_ephemeral(self._ephemeral.public)
        sealed_static = said.seal(said.mix_key(self._ephemeral, self._peer_public), self._static.public)
        sealed_payload = said.seal(said.mix_key(self._static, self._peer_public), payload)
        return self._ephemeral.public + sealed_static + sealed_payload

    def read_response(self, noise: bytes, preshared_key: bytes) -> tuple[bytes, TransportKeys]:
        """Read Noise message 2.

        Args:
            noise: ephemeral public key and sealed payload.
            preshared_key: 32 bytes.

        Returns:
            The payload, empty in WireGuard, and the keys.

        Raises:
            HandshakeRefusedError: it is not from this peer, for this handshake; the handshake is as before.
        """
        said = self._transcript.copy()
        ephemeral = noise[:KEY_BYTES]
        said.mix_ephemeral(ephemeral)
        said.mix_key(self._ephemeral, ephemeral)
        said.mix_key(self._static, ephemeral)
        payload = said.open(said.mix_preshared_key(preshared_key), noise[KEY_BYTES:])
        self._transcript = said
        return payload, TransportKeys(*said.split())


class ResponderHandshake:
    """Our side of a handshake that the peer began; made by `read_initiation`.

    Attributes:
        peer_public: who began it, proven, 32 bytes.
        payload: the timestamp that came with it.
    """

    __slots__ = ("_peer_ephemeral", "_transcript", "payload", "peer_public")

    def __init__(self, transcript: _Transcript, peer_public: bytes, peer_ephemeral: bytes, payload: bytes) -> None:
        self._transcript = transcript
        self._peer_ephemeral = peer_ephemeral
        self.peer_public = peer_public
        self.payload = payload

    @property
    def handshake_hash(self) -> bytes:
        """The hash of what was said so far."""
        return self._transcript.hash

    @classmethod
    def read_initiation(cls, static: StaticKey, noise: bytes, *, prologue: bytes = IDENTIFIER) -> Self:
        """Read Noise message 1.

        Args:
            static: our key.
            noise: ephemeral public key, sealed static public key, sealed payload.
            prologue: what both sides must agree on beforehand.

        Raises:
            HandshakeRefusedError: it does not authenticate.
        """
        said = _Transcript(static.public, prologue)
        ephemeral = noise[:KEY_BYTES]
        said.mix_ephemeral(ephemeral)
        peer_public = said.open(said.mix_key(static, ephemeral), noise[KEY_BYTES:_SEALED_STATIC_END])
        payload = said.open(said.mix_key(static, peer_public), noise[_SEALED_STATIC_END:])
        return cls(said, peer_public, ephemeral, payload)

    def write_response(
        self, ephemeral: StaticKey, preshared_key: bytes, payload: bytes = b""
    ) -> tuple[bytes, TransportKeys]:
        """Write Noise message 2; once per handshake.

        Args:
            ephemeral: a fresh key.
            preshared_key: 32 bytes.
            payload: empty in WireGuard.

        Returns:
            32 + len(payload) + 16 bytes, and the keys.

        Raises:
            HandshakeRefusedError: a key of the peer is of small order.
        """
        said = self._transcript
        said.mix_ephemeral(ephemeral.public)
        said.mix_key(ephemeral, self._peer_ephemeral)
        said.mix_key(ephemeral, self.peer_public)
        sealed = said.seal(said.mix_preshared_key(preshared_key), payload)
        receive, send = said.split()
        return ephemeral.public + sealed, TransportKeys(send, receive)
