"""What the fast path reads of a keypair, and bursts cut into datagrams."""

from __future__ import annotations

from random import Random

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from weft.burst.header import PIECE_HEADER_BYTES
from weft.burst.seal import BurstSealer

INDEX = 0xA1B2C3D4


class Key:
    """The sealing half of a keypair; `sealer` opens as well."""

    def __init__(self, secret: bytes = b"k" * 32, remote_index: int = INDEX) -> None:
        self.remote_index = remote_index
        self.sealer = ChaCha20Poly1305(secret)


def plain_text(length: int, seed: int = 0) -> bytes:
    """Bytes of which no part looks like another."""
    return Random(seed).randbytes(length)


def cut(sealer: BurstSealer, key: Key, counter: int, plain: bytes, piece: int) -> list[bytes]:
    """Seal a burst; each datagram as bytes of its own."""
    data, size = sealer.seal(key, counter, plain, piece), piece + PIECE_HEADER_BYTES
    return [data[start : start + size] for start in range(0, len(data), size)]
