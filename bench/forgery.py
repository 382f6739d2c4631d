"""What an attacker can make without any secret: datagrams for the floods."""

from __future__ import annotations

import hashlib
import os
import struct

INITIATION_BYTES = 148
PIECE = struct.Struct("<IIQHBB")
PIECE_BYTES = 1232
LARGEST_TOTAL = 64_400


def initiations(responder_public: bytes, count: int) -> bytes:
    """Handshake initiations whose MAC1 is right and whose rest is random.

    Args:
        responder_public: static X25519 key of the node that they are for, 32 bytes.
        count: how many, one after the other.
    """
    mac1_key = hashlib.blake2s(b"mac1----" + responder_public).digest()
    made: list[bytes] = []
    for _ in range(count):
        body = b"\x01\0\0\0" + os.urandom(112)
        made += body, hashlib.blake2s(body, key=mac1_key, digest_size=16).digest(), bytes(16)
    return b"".join(made)


def pieces(receiver_index: int, first_counter: int, count: int) -> bytes:
    """Pieces of bursts that nobody sealed, in turn a whole burst and a part of a largest one.

    Args:
        receiver_index: index of a keypair that the receiver has.
        first_counter: of the first one; each has its own.
        count: how many, one after the other.
    """
    of_largest = -(-LARGEST_TOTAL // PIECE_BYTES)
    made: list[bytes] = []
    for number in range(count):
        if number % 2:
            header = PIECE.pack(
                5, receiver_index, first_counter + number, LARGEST_TOTAL, number % (of_largest - 1), of_largest
            )
        else:
            header = PIECE.pack(5, receiver_index, first_counter + number, PIECE_BYTES, 0, 1)
        made += header, os.urandom(PIECE_BYTES)
    return b"".join(made)
