"""Where the upper-layer header of an IP packet is, whatever the version of IP.

Whoever looks past the IP header (firewall, ICMP answers, the stack) asks `ip.decode_upper_layer` and goes on from
`start`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fragment:
    """Which part of a fragmented packet this one is.

    A lone fragment (offset 0, none to follow: "atomic", RFC 6946) is a whole packet and has no `Fragment`.

    Attributes:
        identification: 16 bits in IPv4, 32 bits in IPv6.
        offset: of this part in the fragmentable part of the original packet, in bytes, a multiple of 8; 0 in the first.
        more: whether fragments follow.
        start: offset in this packet of the fragmentable part. `UpperLayer.start` of a first IPv6 fragment lies behind
            it where extension headers were fragmented along.
    """

    identification: int
    offset: int
    more: bool
    start: int


@dataclass(frozen=True, slots=True)
class UpperLayer:
    """What an IP packet carries, and where.

    Attributes:
        protocol: number from `protocols`. In a fragment other than the first: what its fragmentable part begins with.
        start: offset of the upper-layer header in the packet; in a fragment other than the first, of its data.
        end: offset of the end of the packet by its own length field.
        fragment: set if the packet is a fragment.
        segments_left: of an IPv6 routing header: not 0 if the destination address is only a stop on the way.
    """

    protocol: int
    start: int
    end: int
    fragment: Fragment | None = None
    segments_left: int = 0
