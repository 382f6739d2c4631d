"""The extension headers of an IPv6 packet that has arrived, as its destination reads them.

| header | what is done |
|---|---|
| hop-by-hop, destination options | options that are not known are treated as their highest two bits say |
| routing | passed over if no segments are left, else a parameter problem: this host forwards nothing |
| fragment | ends the walk; a lone one ("atomic") is passed over |
| no next header | dropped |
| anything else, extension header or not | the transport, if we have it; else a parameter problem |

The highest two bits of an option that is not known:

| bits | what is done |
|---|---|
| 00 | passed over |
| 01 | the packet is dropped |
| 10 | and a parameter problem sent, whatever the destination |
| 11 | and a parameter problem sent, unless the destination is multicast |

Source: RFC 8200 sections 4.1 to 4.8; RFC 5095 (routing header of type 0), RFC 6946 (atomic fragments), RFC 7112.
Not done here: jumbograms and all other options, which are not known here; IPsec.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from weft.packet import ipv6
from weft.packet.icmpv6 import (
    ERRONEOUS_HEADER_FIELD,
    INCOMPLETE_HEADER_CHAIN,
    UNRECOGNIZED_NEXT_HEADER,
    UNRECOGNIZED_OPTION,
)

_WALKED: Final = frozenset({ipv6.HOP_BY_HOP, ipv6.ROUTING, ipv6.FRAGMENT, ipv6.DESTINATION_OPTIONS})
_PAD1: Final = 0
_PADN: Final = 1
_FRAGMENT: Final = Struct("!BxHI")


class Chain(NamedTuple):
    """Where the walk along the chain ended."""

    protocol: int
    """Of what follows."""
    field: int
    """Offset of the next-header field that says so."""
    start: int
    """Offset of what follows: the transport header, or the fragmentable part."""
    is_fragment: bool = False
    offset: int = 0
    """Of the fragmentable part, in bytes."""
    more: bool = False
    identification: int = 0


class Problem(NamedTuple):
    """Why a packet is dropped, and what its sender is told."""

    reason: str
    code: int | None = None
    """Of a parameter problem, or None where the sender is told nothing."""
    pointer: int = 0
    to_many: bool = False
    """Whether the sender is told even if the destination is multicast."""


_CUT_OFF: Final = Problem("ip: cut off extension header")
INCOMPLETE: Final = Problem("ip: incomplete first fragment", INCOMPLETE_HEADER_CHAIN)


def walk(packet: memoryview) -> Chain | Problem:
    """Walk along the extension headers up to the transport header, or to the fragment header.

    Args:
        packet: an IPv6 packet that ends where its header says.
    """
    return _walk(packet, Chain(packet[ipv6.NEXT_HEADER], ipv6.NEXT_HEADER, ipv6.HEADER_BYTES))


def walk_on(packet: memoryview, chain: Chain) -> Chain | Problem:
    """Walk along the extension headers behind the fragment header of a first fragment.

    Args:
        packet: as for `walk`.
        chain: what that returned.
    """
    ending = _walk(packet, chain)
    if ending is _CUT_OFF:
        return INCOMPLETE
    if isinstance(ending, Chain) and ending.is_fragment:
        return Problem("ip: two fragment headers")
    return ending


def _walk(packet: memoryview, begin: Chain) -> Chain | Problem:
    protocol, field, at, end = begin.protocol, begin.field, begin.start, len(packet)
    for _ in range(ipv6.EXTENSION_HEADERS_MAX + 1):
        if protocol not in _WALKED:
            return Chain(protocol, field, at)
        if end - at < 8:
            return _CUT_OFF
        if protocol == ipv6.FRAGMENT:
            chain = _fragment(packet, at)
            if chain.is_fragment:
                return chain
            protocol, field, at = chain.protocol, at, chain.start
            continue
        length = (packet[at + 1] + 1) * 8
        if at + length > end:
            return _CUT_OFF
        problem = _fault(packet, protocol, field, at, length)
        if problem is not None:
            return problem
        protocol, field, at = packet[at], at, at + length
    return Problem("ip: too many extension headers")


def _fragment(packet: memoryview, at: int) -> Chain:
    protocol, offset_and_more, identification = _FRAGMENT.unpack_from(packet, at)
    offset, more = offset_and_more & 0xFFF8, bool(offset_and_more & 1)
    return Chain(protocol, at, at + ipv6.FRAGMENT_HEADER_BYTES, bool(offset or more), offset, more, identification)


def _fault(packet: memoryview, protocol: int, field: int, at: int, length: int) -> Problem | None:
    """Why an extension header, which is whole, makes the packet one to be dropped."""
    if protocol == ipv6.ROUTING:
        if packet[at + 3]:
            return Problem("ip: routing header", ERRONEOUS_HEADER_FIELD, at + 2)
        return None
    if protocol == ipv6.HOP_BY_HOP and at != ipv6.HEADER_BYTES:
        return Problem("ip: hop-by-hop header is not the first", UNRECOGNIZED_NEXT_HEADER, field)
    return _option_fault(packet, at + 2, at + length)


def _option_fault(packet: memoryview, at: int, end: int) -> Problem | None:
    while at < end:
        kind = packet[at]
        if kind == _PAD1:
            at += 1
            continue
        if at + 2 > end or at + 2 + packet[at + 1] > end:
            return Problem("ip: option beyond its header", ERRONEOUS_HEADER_FIELD, at)
        if kind != _PADN and kind >> 6:
            action = kind >> 6
            if action == 1:
                return Problem("ip: option that forbids it")
            return Problem("ip: option that forbids it", UNRECOGNIZED_OPTION, at, to_many=action == 2)
        at += 2 + packet[at + 1]
    return None
