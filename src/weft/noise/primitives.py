"""The four primitives of Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, and XChaCha20-Poly1305 for cookies.

Rules of the file: keys go in as bytes and are kept only inside objects of `cryptography`, which do not print them; what
does not authenticate raises `InvalidTag`, a shared secret of zeros raises `ValueError`, and the callers in this room
turn both into counted drops.

Not done here: anything that knows a message or a state.
"""

from __future__ import annotations

import hmac
from hashlib import blake2s
from struct import Struct

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from weft.errors import UsageError

KEY_BYTES = 32
MAC_BYTES = 16
XNONCE_BYTES = 24

_WORDS = Struct("<16I")
_SUBKEY = Struct("<8I")
_CONSTANT_WORDS = Struct("<4I").unpack(b"expand 32-byte k")
_BLOCK = bytes(64)
_ZERO_NONCE = bytes(12)


class StaticKey:
    """An X25519 key pair: the static key of a node, or the ephemeral one of a handshake.

    Attributes:
        public: the public key, 32 bytes.

    Source: RFC 7748, section 6.1.
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes) -> None:
        """Take a private key.

        Args:
            private: 32 bytes; X25519 clamps them itself.

        Raises:
            UsageError: another length.
        """
        if len(private) != KEY_BYTES:
            raise UsageError(f"an X25519 private key has {KEY_BYTES} bytes, not {len(private)}")
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()

    def exchange(self, peer_public: bytes) -> bytes:
        """The shared secret with another key.

        Args:
            peer_public: 32 bytes.

        Raises:
            ValueError: the secret would be all zeros, as with a public key of small order.
        """
        return self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))

    def __repr__(self) -> str:
        return f"StaticKey(public={self.public.hex()})"


def hash_of(*parts: bytes) -> bytes:
    """HASH of the paper: BLAKE2s over the parts, 32 bytes (RFC 7693)."""
    return blake2s(b"".join(parts)).digest()


def mac_of(key: bytes, data: bytes) -> bytes:
    """MAC of the paper: keyed BLAKE2s, 16 bytes (RFC 7693)."""
    return blake2s(data, key=key, digest_size=MAC_BYTES).digest()


def kdf(key: bytes, data: bytes, count: int) -> list[bytes]:
    """KDF1 to KDF3 of the paper: HKDF over HMAC-BLAKE2s.

    Args:
        key: the chaining key, 32 bytes.
        data: input key material.
        count: how many outputs, 1 to 3.

    Returns:
        `count` strings of 32 bytes.

    Source: the WireGuard paper, section 5.4; RFC 5869 with empty info.
    """
    secret = hmac.digest(key, data, "blake2s")
    outputs: list[bytes] = []
    output = b""
    for number in range(1, count + 1):
        output = hmac.digest(secret, output + bytes((number,)), "blake2s")
        outputs.append(output)
    return outputs


def seal_once(key: bytes, plain: bytes, associated_data: bytes) -> bytes:
    """ChaCha20-Poly1305 with nonce 0, for a key that seals a single message (RFC 8439, section 2.8)."""
    return ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, plain, associated_data)


def open_once(key: bytes, sealed: bytes, associated_data: bytes) -> bytes:
    """The other half of `seal_once`; raises InvalidTag."""
    return ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, sealed, associated_data)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """Derive the subkey of XChaCha20.

    HChaCha20 is ChaCha20's block without the last addition of the input, of which the first and the last row are put
    out. So one block of key stream minus the input gives it, without rounds in Python.

    Args:
        key: 32 bytes.
        nonce: 16 bytes, the first two thirds of XChaCha20's nonce.

    Returns:
        32 bytes.

    Source: draft-irtf-cfrg-xchacha, section 2.2.
    """
    stream = Cipher(algorithms.ChaCha20(key, nonce), mode=None).encryptor().update(_BLOCK)
    words = _WORDS.unpack(stream)
    inputs = _CONSTANT_WORDS + Struct("<4I").unpack(nonce)
    outputs = words[:4] + words[12:]
    return _SUBKEY.pack(*((output - given) & 0xFFFFFFFF for output, given in zip(outputs, inputs, strict=True)))


def xchacha20poly1305(key: bytes, prefix: bytes) -> ChaCha20Poly1305:
    """XChaCha20-Poly1305 for all nonces with the same first 16 bytes.

    Args:
        key: 32 bytes.
        prefix: the nonce's first 16 bytes.

    Returns:
        A cipher that takes as nonce four zero bytes and the nonce's last 8 bytes.

    Source: draft-irtf-cfrg-xchacha, section 2.3.
    """
    return ChaCha20Poly1305(hchacha20(key, prefix))
