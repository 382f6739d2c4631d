"""What an attacker can make without any secret: datagrams for the floods."""

from __future__ import annotations

import hashlib
import os

from weft.burst.header import MAX_TOTAL_BYTES, PIECE_HEADER, PIECE_HEADER_BYTES, TYPE_BURST
from weft.noise.messages import INITIATION_BYTES

PIECE_BYTES = 1232
DATAGRAM_BYTES = PIECE_HEADER_BYTES + PIECE_BYTES
MAC_BYTES = 16


def initiations(responder_public: bytes, count: int) -> bytes:
    """Handshake initiations whose MAC1 is right and whose rest is random.

    Args:
        responder_public: static X25519 key of the node that they are for, 32 bytes.
        count: how many, one after the other.
    """
    mac1_key = hashlib.blake2s(b"mac1----" + responder_public).digest()
    made: list[bytes] = []
    for _ in range(count):
        body = b"\x01\0\0\0" + os.urandom(INITIATION_BYTES - 2 * MAC_BYTES - 4)
        made += body, hashlib.blake2s(body, key=mac1_key, digest_size=MAC_BYTES).digest(), bytes(MAC_BYTES)
    return b"".join(made)


def pieces(receiver_index: int, first_counter: int, count: int) -> bytes:
    """Pieces of bursts that nobody sealed, in turn a whole burst and a part of a largest one.

    Args:
        receiver_index: index of a keypair that the receiver has.
        first_counter: of the first one; each has its own.
        count: how many, one after the other.
    """
    of_largest = -(-MAX_TOTAL_BYTES // PIECE_BYTES)
    made: list[bytes] = []
    for place in range(count):
        counter = first_counter + place
        # The last piece of a largest burst is shorter, and left out.
        total, number, of = (
            (MAX_TOTAL_BYTES, place % (of_largest - 1), of_largest) if place % 2 else (PIECE_BYTES, 0, 1)
        )
        made += PIECE_HEADER.pack(TYPE_BURST, receiver_index, counter, total, number, of), os.urandom(PIECE_BYTES)
    return b"".join(made)
