"""Seal a burst once and cut its ciphertext; seal a run of single packets; open either.

Everything is built so that Python's cost is per burst: the pieces are views of one buffer that were made once, two
joins make their headers and put each in front of its piece, and one system call sends them all. That takes one copy,
which costs less than to have the kernel gather them.

Rule of the file: a counter is taken by the caller before it calls, and is never given back, whatever fails here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag

from weft.burst.header import (
    BURST_PREFIX,
    DATA_HEADER,
    DATA_HEADER_BYTES,
    DATA_OVERHEAD_BYTES,
    MAX_PIECES,
    MAX_TOTAL_BYTES,
    NONCE,
    PIECE_HEADER_BYTES,
    PIECE_SUFFIXES,
    TAG_BYTES,
    TYPE_BURST,
    TYPE_DATA,
)

Buffer = bytes | bytearray | memoryview

PADDING_BYTES = 16
"""Plain texts are filled with zeros to a multiple of this, as WireGuard does."""
PADDING = [bytes(-length % PADDING_BYTES) for length in range(PADDING_BYTES)]
"""By length modulo 16: the zeros that fill a plain text."""

MAX_SEND_BYTES = 65_000
"""Of several datagrams that leave in one system call; a single one may have all that UDP takes."""

_PACKETS_BYTES = 65_535


class SealingKey(Protocol):
    """What is read of a keypair to seal: see `noise.keypair.Keypair`."""

    remote_index: int

    @property
    def sealer(self) -> Aead:
        """The key of our direction."""


class Aead(Protocol):
    """ChaCha20-Poly1305 of `cryptography`, as far as it is used here."""

    def encrypt_into(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None, buf: Buffer) -> int:
        """Write ciphertext and tag into `buf`; returns their length."""

    def decrypt_into(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None, buf: Buffer) -> int:
        """Write the plain text into `buf`; returns its length; raises InvalidTag."""


class BurstSealer:
    """Seals bursts into one buffer of its own, and cuts them."""

    def __init__(self) -> None:
        self._sealed = memoryview(bytearray(MAX_TOTAL_BYTES))
        self._headers = bytearray(MAX_PIECES * PIECE_HEADER_BYTES)
        headers = memoryview(self._headers)
        self._header_views = [
            headers[start : start + PIECE_HEADER_BYTES] for start in range(0, len(headers), PIECE_HEADER_BYTES)
        ]
        self._parts_by_piece: dict[int, list[memoryview]] = {}

    def seal(self, key: SealingKey, counter: int, plain: Buffer, piece: int) -> bytes:
        """Seal one burst and cut it.

        Args:
            key: the keypair's sealing half.
            counter: taken from that keypair for this burst alone.
            plain: records and padding, at most MAX_TOTAL_BYTES - 16 bytes, and few enough for 64 pieces.
            piece: ciphertext bytes per datagram; at least MIN_PIECE_BYTES where more than one is needed.

        Returns:
            The datagrams, one behind the other. All have `piece + 20` bytes but the last.

        Source: wire.md section 4.
        """
        total = len(plain) + TAG_BYTES
        count = -(-total // piece)
        prefix = BURST_PREFIX.pack(TYPE_BURST, key.remote_index, counter, total)
        key.sealer.encrypt_into(NONCE.pack(counter), plain, prefix, self._sealed[:total])
        headers = prefix.join(PIECE_SUFFIXES[count])
        self._headers[: len(headers)] = headers
        parts = self._parts(piece)[: 2 * count]
        parts[-1] = self._sealed[(count - 1) * piece : total]
        return b"".join(parts)

    def _parts(self, piece: int) -> list[memoryview]:
        parts = self._parts_by_piece.get(piece)
        if parts is None:
            if len(self._parts_by_piece) >= 64:
                self._parts_by_piece.clear()
            parts = []
            for number, header in enumerate(self._header_views):
                parts += header, self._sealed[number * piece : (number + 1) * piece]
            self._parts_by_piece[piece] = parts
        return parts


class PacketSealer:
    """Seals single packets as WireGuard does, one after the other into one buffer that leaves in one system call."""

    def __init__(self) -> None:
        self._sealed = memoryview(bytearray(_PACKETS_BYTES))
        self._end = 0

    def takes(self, length: int) -> bool:
        """Whether a datagram of that length can be sent together with those that are there."""
        return self._end + length <= MAX_SEND_BYTES

    def clear(self) -> None:
        """Forget what was sealed."""
        self._end = 0

    def add(self, key: SealingKey, counter: int, plain: Buffer) -> int:
        """Seal one packet, already padded, behind those before it.

        Args:
            key: the keypair's sealing half.
            counter: taken from that keypair for this packet alone.
            plain: packet and padding; alone at most 65,503 bytes, with others as `takes` says.

        Returns:
            Bytes of the datagram.

        Source: the WireGuard paper, section 5.4.6.
        """
        start = self._end
        end = start + len(plain) + DATA_OVERHEAD_BYTES
        DATA_HEADER.pack_into(self._sealed, start, TYPE_DATA, key.remote_index, counter)
        key.sealer.encrypt_into(NONCE.pack(counter), plain, None, self._sealed[start + DATA_HEADER_BYTES : end])
        self._end = end
        return end - start

    def seal_segments(self, key: SealingKey, counter: int, segments: Sequence[Buffer]) -> memoryview:
        """Seal the segments of one super-packet: all but the last have one size.

        Args:
            key: the keypair's sealing half.
            counter: the first of as many as there are segments, which follow each other.
            segments: packets, already padded, that fit one send together; what was added before is forgotten.

        Returns:
            The datagrams, one behind the other; holds until the next call.

        Source: the WireGuard paper, section 5.4.6.
        """
        sealed, index = self._sealed, key.remote_index
        encrypt_into, write_header, nonce = key.sealer.encrypt_into, DATA_HEADER.pack_into, NONCE.pack
        start = 0
        for plain in segments:
            end = start + len(plain) + DATA_OVERHEAD_BYTES
            write_header(sealed, start, TYPE_DATA, index, counter)
            encrypt_into(nonce(counter), plain, None, sealed[start + DATA_HEADER_BYTES : end])
            counter += 1
            start = end
        self._end = start
        return sealed[:start]

    def take(self) -> memoryview:
        """All datagrams since the last `clear`, one behind the other; holds until the next `add`."""
        return self._sealed[: self._end]


def padding_of(length: int, limit: int) -> bytes:
    """Zeros that fill a packet to a multiple of 16, but never beyond `limit`, the largest plain text of the path."""
    padding = PADDING[length % PADDING_BYTES]
    return padding if length + len(padding) <= limit else padding[: max(0, limit - length)]


def seal_packet(key: SealingKey, counter: int, plain: Buffer) -> bytes:
    """Seal one padded packet into a datagram of its own: for the slow path."""
    header = DATA_HEADER.pack(TYPE_DATA, key.remote_index, counter)
    sealed = bytearray(len(plain) + TAG_BYTES)
    key.sealer.encrypt_into(NONCE.pack(counter), plain, None, sealed)
    return header + sealed


def open_burst(opener: Aead, counter: int, prefix: Buffer, sealed: Buffer, plain: memoryview) -> int:
    """Open a burst that was put together.

    Args:
        opener: the key of the other side's direction.
        counter: of the burst.
        prefix: header[0:18] of any of its pieces.
        sealed: ciphertext and tag.
        plain: where the plain text goes, at least `len(sealed) - 16` bytes.

    Returns:
        Bytes of plain text, or -1 for a bad tag.

    Source: wire.md section 4.
    """
    length = len(sealed) - TAG_BYTES
    try:
        opener.decrypt_into(NONCE.pack(counter), sealed, prefix, plain[:length])
    except InvalidTag:
        return -1
    return length
