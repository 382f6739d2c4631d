"""Packets that answer a packet: ICMP errors, echo replies, TCP resets; for IPv4 and IPv6 alike.

The engine and the firewall send them into the TUN or back to a peer. Each builder returns a whole packet with all its
checksums, or None where the rules forbid an answer or the original can't be understood: an answer to an answer could go
round forever, and one to many receivers, or to a forged source, floods somebody.

Nothing answers: a malformed packet; an ICMP error or redirect; a fragment other than the first; a packet whose
destination is multicast or broadcast; a packet whose source is not one host (unspecified, multicast, in IPv4 also 0/8,
127/8 and 240/4 with the limited broadcast).

A parameter problem may answer what the others may not: a packet whose extension headers can't be walked, for that may
be the problem, and for one of them a packet to many.

An error quotes the original from its IP header on: up to 1280 bytes of IPv6 packet or 576 bytes of IPv4 packet in all.

Source: RFC 4443 section 2.4 and sections 3.1 to 4.2; RFC 8200 sections 4.2 and 4.5; RFC 1812 sections 4.3.2.3 to
4.3.2.8; RFC 1122 section 3.2.2; RFC 1191 section 4; RFC 9293 section 3.10.7.1 (resets).
Not done here: limiting the rate of answers (the callers', RFC 4443 section 2.4 (f)); telling the broadcast address of
an IPv4 subnet, whose prefix is not known here. Too Big is not sent for multicast packets, though RFC 4443 allows that.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from weft.errors import DecodeError
from weft.packet import icmp, icmpv6, ipv4, ipv6, protocols, tcp
from weft.packet.checksum import Buffer
from weft.packet.ip import addresses, decode_upper_layer, encode_packet, is_one_host
from weft.packet.upper import UpperLayer

IPV4_ERROR_MAX_BYTES: Final = 576
_IPV4_QUOTE_MAX_BYTES: Final = IPV4_ERROR_MAX_BYTES - ipv4.HEADER_BYTES - icmp.HEADER_BYTES
_IPV6_QUOTE_MAX_BYTES: Final = ipv6.MIN_MTU_BYTES - ipv6.HEADER_BYTES - icmpv6.HEADER_BYTES
_UNANSWERED_V6: Final = icmpv6.ERRORS | {icmpv6.REDIRECT}


class Unreachable(Enum):
    """Why a destination can't be reached. The value: the code in ICMPv6 and in ICMP."""

    NO_ROUTE = (icmpv6.NO_ROUTE, icmp.NET_UNREACHABLE)
    PROHIBITED = (icmpv6.ADMINISTRATIVELY_PROHIBITED, icmp.ADMINISTRATIVELY_PROHIBITED)
    ADDRESS = (icmpv6.ADDRESS_UNREACHABLE, icmp.HOST_UNREACHABLE)
    PORT = (icmpv6.PORT_UNREACHABLE, icmp.PORT_UNREACHABLE)


def packet_too_big(original: Buffer, mtu: int, source: bytes) -> bytes | None:
    """ICMPv6 Packet Too Big, or ICMP Fragmentation Needed: the original does not fit the way to its destination.

    For an IPv4 packet this presumes that it may not be fragmented, whatever its flag says: nobody here fragments.

    Args:
        original: the whole packet.
        mtu: the largest IP packet that fits, in bytes.
        source: address that the answer comes from, of the original's IP version.
    """
    if _is_ipv6(original):
        return _error_v6(original, icmpv6.Icmpv6Header(icmpv6.PACKET_TOO_BIG, 0, mtu), source)
    kind, code = icmp.DESTINATION_UNREACHABLE, icmp.FRAGMENTATION_NEEDED
    return _error_v4(original, icmp.IcmpHeader(kind, code, min(mtu, 0xFFFF)), source)


def destination_unreachable(original: Buffer, reason: Unreachable, source: bytes) -> bytes | None:
    """ICMP or ICMPv6 Destination Unreachable.

    Args:
        original: the whole packet.
        reason: becomes the code.
        source: address that the answer comes from, of the original's IP version.
    """
    code_v6, code_v4 = reason.value
    if _is_ipv6(original):
        return _error_v6(original, icmpv6.Icmpv6Header(icmpv6.DESTINATION_UNREACHABLE, code_v6), source)
    return _error_v4(original, icmp.IcmpHeader(icmp.DESTINATION_UNREACHABLE, code_v4), source)


def time_exceeded(original: Buffer, source: bytes, *, in_reassembly: bool = False) -> bytes | None:
    """ICMP or ICMPv6 Time Exceeded: the hop limit of the original ran out, or the time for its other fragments did.

    Args:
        original: the whole packet; the first fragment, of those that were waited for.
        source: address that the answer comes from, of the original's IP version.
        in_reassembly: whether fragments were waited for.
    """
    # The codes of both versions are the same.
    code = icmpv6.REASSEMBLY_TIME_EXCEEDED if in_reassembly else 0
    if _is_ipv6(original):
        return _error_v6(original, icmpv6.Icmpv6Header(icmpv6.TIME_EXCEEDED, code), source)
    return _error_v4(original, icmp.IcmpHeader(icmp.TIME_EXCEEDED, code), source)


def unknown_protocol(original: Buffer, pointer: int, source: bytes) -> bytes | None:
    """ICMPv6 Parameter Problem, or ICMP Protocol Unreachable: the host does not know what the original carries.

    Args:
        original: the whole packet.
        pointer: offset of the field that says what it carries.
        source: address that the answer comes from, of the original's IP version.
    """
    if _is_ipv6(original):
        return parameter_problem(original, icmpv6.UNRECOGNIZED_NEXT_HEADER, pointer, source)
    return _error_v4(original, icmp.IcmpHeader(icmp.DESTINATION_UNREACHABLE, icmp.PROTOCOL_UNREACHABLE), source)


def parameter_problem(
    original: Buffer, code: int, pointer: int, source: bytes, *, to_many: bool = False
) -> bytes | None:
    """ICMPv6 Parameter Problem: a header of the original can't be processed.

    Args:
        original: the whole packet, of IPv6.
        code: what the problem is.
        pointer: offset of the field that is the problem.
        source: address that the answer comes from.
        to_many: whether the problem is told even if the original went to a multicast group.
    """
    origin, destination = addresses(original)
    if not is_one_host(origin) or not (to_many or is_one_host(destination)):
        return None
    try:
        if _is_icmp_error(original, decode_upper_layer(original)):
            return None
    except DecodeError:
        pass  # Its headers may well be the problem.
    message = icmpv6.encode_icmpv6(icmpv6.Icmpv6Header(icmpv6.PARAMETER_PROBLEM, code, pointer))
    return encode_packet(source, origin, protocols.ICMPV6, message + bytes(original[:_IPV6_QUOTE_MAX_BYTES]))


def echo_reply(request: Buffer) -> bytes | None:
    """The reply to an ICMP or ICMPv6 echo request, from the address that was asked.

    Args:
        request: the whole packet; None is returned if it is a fragment or no echo request.
    """
    upper = _arrived(request)
    if upper is None or not _is_echo_request(request, upper):
        return None
    source, destination = addresses(request)
    reply = icmpv6.ECHO_REPLY if _is_ipv6(request) else icmp.ECHO_REPLY
    message = bytes((reply, 0, 0, 0)) + request[upper.start + icmp.REST : upper.end]
    return encode_packet(destination, source, upper.protocol, message)


def tcp_reset(original: Buffer) -> bytes | None:
    """The reset that a host without such a connection sends to a TCP segment; none to a reset.

    Args:
        original: the whole packet; None is returned if it is a fragment or not TCP.
    """
    upper = _arrived(original)
    if upper is None or upper.protocol != protocols.TCP:
        return None
    try:
        segment = tcp.decode_tcp(original[: upper.end], upper.start)
    except DecodeError:
        return None
    if segment.flags & tcp.RST:
        return None
    sequence, acknowledgment, flags = segment.acknowledgment, 0, tcp.RST
    if not segment.flags & tcp.ACK:
        length = upper.end - upper.start - segment.header_length
        length += bool(segment.flags & tcp.SYN) + bool(segment.flags & tcp.FIN)
        sequence, acknowledgment, flags = 0, (segment.sequence + length) & 0xFFFFFFFF, tcp.RST | tcp.ACK
    reset = tcp.TcpHeader(segment.destination_port, segment.source_port, sequence, acknowledgment, flags, window=0)
    source, destination = addresses(original)
    return encode_packet(destination, source, protocols.TCP, tcp.encode_tcp(reset))


def _error_v6(original: Buffer, header: icmpv6.Icmpv6Header, source: bytes) -> bytes | None:
    upper = _answerable(original)
    if upper is None:
        return None
    quote = bytes(original[: min(upper.end, _IPV6_QUOTE_MAX_BYTES)])
    return encode_packet(source, addresses(original)[0], protocols.ICMPV6, icmpv6.encode_icmpv6(header) + quote)


def _error_v4(original: Buffer, header: icmp.IcmpHeader, source: bytes) -> bytes | None:
    upper = _answerable(original)
    if upper is None:
        return None
    quote = bytes(original[: min(upper.end, _IPV4_QUOTE_MAX_BYTES)])
    return encode_packet(source, addresses(original)[0], protocols.ICMP, icmp.encode_icmp(header) + quote)


def _answerable(original: Buffer) -> UpperLayer | None:
    """What the original carries, or None if nothing may answer it."""
    try:
        upper = decode_upper_layer(original)
    except DecodeError:
        return None
    if upper.fragment is not None and upper.fragment.offset:
        return None
    source, destination = addresses(original)
    if not is_one_host(source) or not is_one_host(destination):
        return None
    return None if _is_icmp_error(original, upper) else upper


def _arrived(original: Buffer) -> UpperLayer | None:
    """What the original carries if it may be answered, is whole, and is at the last of its destinations."""
    upper = _answerable(original)
    return None if upper is None or upper.fragment is not None or upper.segments_left else upper


def _is_ipv6(packet: Buffer) -> bool:
    return len(packet) > 0 and packet[0] >> 4 == 6


def _is_icmp_error(packet: Buffer, upper: UpperLayer) -> bool:
    """Whether a packet carries an ICMP error or redirect, or ICMP too short to tell."""
    if _is_ipv6(packet):
        unanswered, protocol = _UNANSWERED_V6, protocols.ICMPV6
    else:
        unanswered, protocol = icmp.ERRORS, protocols.ICMP
    return upper.protocol == protocol and (upper.start == upper.end or packet[upper.start] in unanswered)


def _is_echo_request(packet: Buffer, upper: UpperLayer) -> bool:
    if upper.end - upper.start < icmp.HEADER_BYTES:
        return False
    asked = (upper.protocol, packet[upper.start], packet[upper.start + 1])
    if _is_ipv6(packet):
        return asked == (protocols.ICMPV6, icmpv6.ECHO_REQUEST, 0)
    return asked == (protocols.ICMP, icmp.ECHO_REQUEST, 0)
