"""Rejections: the answers that tell a peer at once that something is not allowed here, so that it need not wait.

Their number is limited for the node as a whole, `PER_SECOND` in the long run and `BURST` at once: a scan gets silence
for the rest of it.

Source: RFC 4443 section 2.4 (f) (rate), RFC 9293 section 3.10.7.1 (reset).
"""

from __future__ import annotations

from typing import Final

from weft.errors import DecodeError
from weft.packet.answers import Unreachable, destination_unreachable, tcp_reset
from weft.packet.checksum import Buffer
from weft.packet.ip import addresses, decode_upper_layer
from weft.packet.protocols import TCP, UDP

PER_SECOND: Final = 100
BURST: Final = 100


def rejection_of(packet: Buffer) -> bytes | None:
    """The packet that rejects another one, from the address that this was sent to.

    A reset for TCP; for UDP, port unreachable, which programs are told as "connection refused"; else administratively
    prohibited. None where nothing may be sent (see `answers`).
    """
    try:
        protocol = decode_upper_layer(packet).protocol
    except DecodeError:
        return None
    if protocol == TCP:
        return tcp_reset(packet)
    reason = Unreachable.PORT if protocol == UDP else Unreachable.PROHIBITED
    return destination_unreachable(packet, reason, addresses(packet)[1])
