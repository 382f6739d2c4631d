"""ICMP errors that come in: what they say, and about which packet of ours.

| ICMPv6 type, code | ICMP type, code | failure | hard |
|---|---|---|---|
| 1, 0 no route | 3, 0, 6, 11 network unreachable | NO_ROUTE | |
| 1, 1, 5, 6 prohibited, policy, reject route | 3, 9, 10, 13 prohibited | PROHIBITED | yes |
| 1, 2, 3 beyond scope, address unreachable | 3, 1, 5, 7, 8, 12 host unreachable | UNREACHABLE | |
| 1, 4 port unreachable | 3, 3 port unreachable | REFUSED | yes |
| 4, 1 unrecognized next header | 3, 2 protocol unreachable | REFUSED | yes |
| 2 packet too big | 3, 4 fragmentation needed | TOO_LONG | |
| 3 time exceeded | 11 time exceeded | TIMED_OUT | |
| 4, else parameter problem | 12 parameter problem | UNREACHABLE | |

A hard error says that trying again is useless; the others may pass (RFC 1122 section 4.2.3.9).

Source: RFC 792; RFC 1122 section 3.2.2; RFC 1191 section 4; RFC 4443 section 3.
Not done here: redirects and source quench, which are ignored (RFC 6633); whether the quoted packet was ever sent.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from weft.errors import DecodeError
from weft.packet import icmp, icmpv6
from weft.packet.ip import addresses, decode_upper_layer
from weft.stack.failure import Failure


class PathError(NamedTuple):
    """What became of a packet on its way."""

    failure: Failure
    mtu: int = 0
    """How large a packet may be, of TOO_LONG; else 0, and also where an old router does not say it."""
    is_hard: bool = False
    """Whether it is useless to try again."""


class Quote(NamedTuple):
    """The packet that an error is about, as far as it is quoted."""

    source: bytes
    destination: bytes
    protocol: int
    length: int
    """Bytes that the packet had."""
    transport: memoryview
    """From the transport header on: 8 bytes or more."""


REFUSED: Final = PathError(Failure.REFUSED, is_hard=True)
_NO_ROUTE: Final = PathError(Failure.NO_ROUTE)
_PROHIBITED: Final = PathError(Failure.PROHIBITED, is_hard=True)
_UNREACHABLE: Final = PathError(Failure.UNREACHABLE)
_TIMED_OUT: Final = PathError(Failure.TIMED_OUT)

_UNREACHABLE_CODES_V6: Final = {
    0: _NO_ROUTE, 1: _PROHIBITED, 2: _UNREACHABLE, 3: _UNREACHABLE, 4: REFUSED, 5: _PROHIBITED, 6: _PROHIBITED,
}  # fmt: skip
_UNREACHABLE_CODES_V4: Final = {
    0: _NO_ROUTE, 1: _UNREACHABLE, 2: REFUSED, 3: REFUSED, 5: _UNREACHABLE, 6: _NO_ROUTE, 7: _UNREACHABLE,
    8: _UNREACHABLE, 9: _PROHIBITED, 10: _PROHIBITED, 11: _NO_ROUTE, 12: _UNREACHABLE, 13: _PROHIBITED,
}  # fmt: skip

_HEADER: Final = Struct("!BBxxI")
_QUOTED_TRANSPORT_BYTES: Final = 8


def decode_error(message: memoryview, *, is_ipv6: bool) -> PathError | None:
    """Decode what an ICMP error says.

    Args:
        message: from the ICMP header on, 8 bytes or more.
        is_ipv6: whether it is ICMPv6.

    Returns:
        None for what is none of the table above.
    """
    kind, code, rest = _HEADER.unpack_from(message)
    if is_ipv6:
        if kind == icmpv6.PACKET_TOO_BIG:
            return PathError(Failure.TOO_LONG, rest)
        if kind == icmpv6.DESTINATION_UNREACHABLE:
            return _UNREACHABLE_CODES_V6.get(code)
        if kind == icmpv6.PARAMETER_PROBLEM:
            return REFUSED if code == icmpv6.UNRECOGNIZED_NEXT_HEADER else _UNREACHABLE
        return _TIMED_OUT if kind == icmpv6.TIME_EXCEEDED else None
    if kind == icmp.DESTINATION_UNREACHABLE:
        if code == icmp.FRAGMENTATION_NEEDED:
            return PathError(Failure.TOO_LONG, rest & 0xFFFF)
        return _UNREACHABLE_CODES_V4.get(code)
    if kind == icmp.PARAMETER_PROBLEM:
        return _UNREACHABLE
    return _TIMED_OUT if kind == icmp.TIME_EXCEEDED else None


def decode_quote(message: memoryview, *, is_ipv6: bool) -> Quote:
    """Decode the packet that an ICMP error quotes.

    Args:
        message: from the ICMP header on, 8 bytes or more.
        is_ipv6: whether it is ICMPv6; the quote must be of the same version.

    Raises:
        DecodeError: it is no IP packet, or cut off before its ports, or a fragment other than the first.
    """
    quoted = message[icmp.HEADER_BYTES :]
    upper = decode_upper_layer(quoted, truncated=True)
    if (quoted[0] >> 4 == 6) != is_ipv6:
        raise DecodeError("a quote of the same version of IP", offset=icmp.HEADER_BYTES)
    if upper.fragment is not None and upper.fragment.offset:
        raise DecodeError("a quote of a first fragment", offset=icmp.HEADER_BYTES)
    transport = quoted[upper.start :]
    if len(transport) < _QUOTED_TRANSPORT_BYTES:
        raise DecodeError("a quote with ports", offset=icmp.HEADER_BYTES + upper.start)
    source, destination = addresses(quoted)
    return Quote(source, destination, upper.protocol, upper.end, transport)
