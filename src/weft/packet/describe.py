"""A packet in one line, as tcpdump's readers know it.

    10.0.0.1.40000 > 10.0.0.2.22: tcp [S], length 0
    fc00:1::1.40000 > fc00:2::2.443: tcp [.], length 63712 in segments of 1448
    fc00:1::1 > fc00:2::2: icmp echo request, id 7, seq 1, length 56

Length is that of the payload. Of what is odd or cut off, as much is told as there is.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from weft.errors import DecodeError
from weft.packet import icmp, icmpv6, tcp, udp
from weft.packet.checksum import Buffer
from weft.packet.ip import addresses, decode_upper_layer
from weft.packet.protocols import ICMP, ICMPV6, TCP, UDP
from weft.packet.tcp import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG
from weft.packet.upper import UpperLayer

FLAG_LETTERS: Final = {FIN: "F", SYN: "S", RST: "R", PSH: "P", ACK: ".", URG: "U", ECE: "E", CWR: "W"}
"""As tcpdump writes them, in its order."""

_ICMP_NAMES: Final = {
    (ICMP, icmp.ECHO_REQUEST): "echo request",
    (ICMP, icmp.ECHO_REPLY): "echo reply",
    (ICMP, icmp.DESTINATION_UNREACHABLE): "destination unreachable",
    (ICMP, icmp.TIME_EXCEEDED): "time exceeded",
    (ICMP, icmp.PARAMETER_PROBLEM): "parameter problem",
    (ICMPV6, icmpv6.ECHO_REQUEST): "echo request",
    (ICMPV6, icmpv6.ECHO_REPLY): "echo reply",
    (ICMPV6, icmpv6.DESTINATION_UNREACHABLE): "destination unreachable",
    (ICMPV6, icmpv6.PACKET_TOO_BIG): "packet too big",
    (ICMPV6, icmpv6.TIME_EXCEEDED): "time exceeded",
    (ICMPV6, icmpv6.PARAMETER_PROBLEM): "parameter problem",
}
_CODE_NAMES: Final = {
    (ICMP, icmp.DESTINATION_UNREACHABLE, icmp.PORT_UNREACHABLE): "port unreachable",
    (ICMP, icmp.DESTINATION_UNREACHABLE, icmp.FRAGMENTATION_NEEDED): "fragmentation needed",
    (ICMP, icmp.DESTINATION_UNREACHABLE, icmp.ADMINISTRATIVELY_PROHIBITED): "administratively prohibited",
    (ICMPV6, icmpv6.DESTINATION_UNREACHABLE, icmpv6.PORT_UNREACHABLE): "port unreachable",
    (ICMPV6, icmpv6.DESTINATION_UNREACHABLE, icmpv6.ADDRESS_UNREACHABLE): "address unreachable",
    (ICMPV6, icmpv6.DESTINATION_UNREACHABLE, icmpv6.ADMINISTRATIVELY_PROHIBITED): "administratively prohibited",
}


def describe(packet: Buffer, segment: int = 0) -> str:
    """One line about a packet.

    Args:
        packet: from its IP header on; it may be cut off.
        segment: payload bytes of each segment of a super-packet, else 0.
    """
    try:
        upper = decode_upper_layer(packet, truncated=True)
    except DecodeError:
        return "malformed"
    source, destination = (str(ip_address(address)) for address in addresses(packet))
    if upper.fragment is not None and upper.fragment.offset:
        more = "+" if upper.fragment.more else ""
        return f"{source} > {destination}: fragment at {upper.fragment.offset}{more}, length {upper.end - upper.start}"
    if upper.protocol in {TCP, UDP} and len(packet) >= upper.start + 4:
        ports = [int.from_bytes(packet[at : at + 2], "big") for at in (upper.start, upper.start + 2)]
        source, destination = f"{source}.{ports[0]}", f"{destination}.{ports[1]}"
    told = {TCP: _tcp, UDP: _udp, ICMP: _icmp, ICMPV6: _icmp}.get(upper.protocol, _other)(packet, upper)
    if segment:
        told += f" in segments of {segment}"
    return f"{source} > {destination}: {told}"


def _tcp(packet: Buffer, upper: UpperLayer) -> str:
    if len(packet) < upper.start + tcp.HEADER_BYTES:
        return "tcp"
    flags = packet[upper.start + tcp.FLAGS]
    letters = "".join(letter for flag, letter in FLAG_LETTERS.items() if flags & flag) or "none"
    header = packet[upper.start + tcp.DATA_OFFSET] >> 4 << 2
    return f"tcp [{letters}], length {max(0, upper.end - upper.start - header)}"


def _udp(packet: Buffer, upper: UpperLayer) -> str:
    return f"udp, length {max(0, upper.end - upper.start - udp.HEADER_BYTES)}"


def _icmp(packet: Buffer, upper: UpperLayer) -> str:
    length = f"length {upper.end - upper.start}"
    if len(packet) < upper.start + icmp.HEADER_BYTES:
        return f"icmp, {length}"
    header = icmp.decode_icmp(packet, upper.start)
    name = _ICMP_NAMES.get((upper.protocol, header.type), f"type {header.type}")
    if name.startswith("echo"):
        return f"icmp {name}, id {header.identifier}, seq {header.rest & 0xFFFF}, {length}"
    code = _CODE_NAMES.get((upper.protocol, header.type, header.code), f"code {header.code}")
    return f"icmp {name}, {code}, {length}"


def _other(packet: Buffer, upper: UpperLayer) -> str:
    return f"protocol {upper.protocol}, length {upper.end - upper.start}"
