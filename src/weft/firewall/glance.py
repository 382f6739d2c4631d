"""The fast path of the firewall: the flow of a record, or what echo it is, at a glance.

Most records are TCP or UDP without IP options, extension headers or fragments, somewhere in the middle of a flow. Their
protocol, length and key are read in one step. What is read is enough to know the flow; and the record can't change its
state, but by its direction.

What an idle network carries most is echo requests and replies: each is read in one step too.

Not done here: the data offset of TCP and the length of UDP, which the hosts check, and which can't lead to another
flow.
"""

from __future__ import annotations

import struct
from typing import Final

from weft.firewall.flows import Flow
from weft.packet import icmp, icmpv6, ipv4, ipv6, tcp, udp
from weft.packet.checksum import Buffer
from weft.packet.ip import is_one_host
from weft.packet.protocols import ICMP, ICMPV6, TCP

_IPV6: Final = struct.Struct("!4xHBx36s").unpack_from
"""Payload length, next header; source, destination and ports."""
_IPV4: Final = struct.Struct("!2xH2xHxB2x12s").unpack_from
"""Total length, flags and fragment offset, protocol; source, destination and ports."""

_IPV6_ECHO: Final = struct.Struct("!4xHBx32sB3x2s").unpack_from
"""Payload length, next header; source and destination; type, identifier."""
_IPV4_ECHO: Final = struct.Struct("!2xH2xHxB2x8sB3x2s").unpack_from
"""Total length, flags and fragment offset, protocol; source and destination; type, identifier."""

_IPV6_PORTS_END: Final = ipv6.HEADER_BYTES + udp.HEADER_BYTES
_IPV4_PORTS_END: Final = ipv4.HEADER_BYTES + udp.HEADER_BYTES
_TCP_FLAGS: Final = tcp.FLAGS - udp.HEADER_BYTES
_TCP_REST: Final = tcp.HEADER_BYTES - udp.HEADER_BYTES

_IPV4_PLAIN: Final = 0x45
_IPV4_FRAGMENT: Final = ipv4.MORE_FRAGMENTS | ipv4.FRAGMENT_OFFSET_MASK
_CHANGING: Final = tcp.SYN | tcp.FIN | tcp.RST


def steady_flow(packet: Buffer, flows: list[dict[bytes, Flow]]) -> Flow | None:
    """The flow of a record, if a glance is enough.

    Args:
        packet: from its IP header on; any bytes.
        flows: by protocol, then by key in the direction of the packet.

    Returns:
        The flow, of whatever state and maybe past its deadline; None if there is none, or the record must be read in
        full: TCP with SYN, FIN or RST, anything out of the ordinary, anything malformed.
    """
    try:
        if packet[0] >> 4 == 6:
            length, protocol, key = _IPV6(packet)
            length += ipv6.HEADER_BYTES
            end = _IPV6_PORTS_END
        else:
            length, fragment, protocol, key = _IPV4(packet)
            if packet[0] != _IPV4_PLAIN or fragment & _IPV4_FRAGMENT:
                return None
            end = _IPV4_PORTS_END
    except (struct.error, IndexError):
        return None
    flow: Flow | None = flows[protocol].get(key)
    if flow is None or length != len(packet) or length < end:
        return None
    if protocol == TCP and (length < end + _TCP_REST or packet[end + _TCP_FLAGS] & _CHANGING):
        return None
    return flow


def echo_of(packet: Buffer) -> tuple[bool, int, bytes] | None:
    """What echo request or reply a record is, if a glance is enough.

    Args:
        packet: from its IP header on; any bytes.

    Returns:
        (whether it is a request, protocol, key in the direction of the packet), the addresses being those of single
        hosts; None if the record is no echo or must be read in full.
    """
    try:
        if packet[0] >> 4 == 6:
            length, protocol, both, kind, identifier = _IPV6_ECHO(packet)
            start, request, reply = ipv6.HEADER_BYTES, icmpv6.ECHO_REQUEST, icmpv6.ECHO_REPLY
            is_plain = protocol == ICMPV6
            length += start
        else:
            length, fragment, protocol, both, kind, identifier = _IPV4_ECHO(packet)
            start, request, reply = ipv4.HEADER_BYTES, icmp.ECHO_REQUEST, icmp.ECHO_REPLY
            is_plain = protocol == ICMP and packet[0] == _IPV4_PLAIN and not fragment & _IPV4_FRAGMENT
    except (struct.error, IndexError):
        return None
    if not is_plain or kind not in {request, reply} or length != len(packet) or length < start + icmp.HEADER_BYTES:
        return None
    half = len(both) // 2
    if not (is_one_host(both[:half]) and is_one_host(both[half:])):
        return None
    return kind == request, protocol, both + identifier
