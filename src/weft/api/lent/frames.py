"""The datagrams of a UDP socket that is lent, one each message of its Unix socket.

    0        bytes of the address: 4, 16, or 0 for the remote endpoint of the socket; 0xFF: the rest is a failure
    1        the address
    n + 1    port, 2 bytes
    n + 3    the payload; or the name of a `Failure`, which a datagram met that was sent

To the daemon the endpoint is where to, from the daemon where from.
"""

from __future__ import annotations

from typing import Final

from weft.packet.checksum import Buffer
from weft.stack.endpoint import Endpoint

MAX_FRAME_BYTES: Final = 65_535 + 19
_FAILED: Final = 0xFF


def encode_datagram(data: Buffer, endpoint: Endpoint | None) -> bytes:
    """Encode a datagram."""
    if endpoint is None:
        return b"".join((bytes(3), data))
    address, port = endpoint
    return b"".join((bytes((len(address),)), address, port.to_bytes(2, "big"), data))


def encode_failure(name: str) -> bytes:
    """Encode what happened to a datagram."""
    return bytes((_FAILED,)) + name.encode()


def decode_frame(frame: bytes) -> tuple[bytes, Endpoint | None] | str | None:
    """Decode a frame.

    Returns:
        The payload and the endpoint; or the name of a failure; or None if it is neither.
    """
    if not frame:
        return None
    length = frame[0]
    if length == _FAILED:
        return frame[1:].decode("ascii", "replace")
    if length not in {0, 4, 16} or len(frame) < length + 3:
        return None
    port = int.from_bytes(frame[length + 1 : length + 3], "big")
    return frame[length + 3 :], Endpoint(frame[1 : length + 1], port) if length else None
