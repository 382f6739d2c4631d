"""What the firewall reads of a packet whose flow it does not know yet, or that changes its flow.

The key of a flow, in the direction of the packet:

| protocol | key |
|---|---|
| TCP, UDP | source, destination, source port (2), destination port (2) |
| ICMP and ICMPv6 echo | source, destination, identifier (2) |
| other | source, destination |

with addresses of 4 or 16 bytes. Where there are no extension headers and no options, the key of TCP and UDP is one
slice of the packet. Of one protocol number, no two kinds of key have the same length.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from weft.errors import DecodeError
from weft.packet import icmp, icmpv6, tcp, udp
from weft.packet.checksum import Buffer
from weft.packet.icmp import decode_icmp
from weft.packet.ip import addresses
from weft.packet.protocols import ICMP, ICMPV6, TCP, UDP
from weft.packet.tcp import decode_tcp
from weft.packet.udp import decode_udp
from weft.packet.upper import UpperLayer


class IcmpKind(Enum):
    """What an ICMP message is to the firewall."""

    REQUEST = auto()
    REPLY = auto()
    ERROR = auto()
    OTHER = auto()


_ICMP_KINDS: Final = {
    (ICMP, icmp.ECHO_REQUEST): IcmpKind.REQUEST,
    (ICMP, icmp.ECHO_REPLY): IcmpKind.REPLY,
    (ICMP, icmp.DESTINATION_UNREACHABLE): IcmpKind.ERROR,
    (ICMP, icmp.TIME_EXCEEDED): IcmpKind.ERROR,
    (ICMP, icmp.PARAMETER_PROBLEM): IcmpKind.ERROR,
    (ICMPV6, icmpv6.ECHO_REQUEST): IcmpKind.REQUEST,
    (ICMPV6, icmpv6.ECHO_REPLY): IcmpKind.REPLY,
    (ICMPV6, icmpv6.DESTINATION_UNREACHABLE): IcmpKind.ERROR,
    (ICMPV6, icmpv6.PACKET_TOO_BIG): IcmpKind.ERROR,
    (ICMPV6, icmpv6.TIME_EXCEEDED): IcmpKind.ERROR,
    (ICMPV6, icmpv6.PARAMETER_PROBLEM): IcmpKind.ERROR,
}

_PORTS_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Summary:
    """What the firewall reads of a packet.

    Attributes:
        protocol: IP protocol number.
        source: address, 4 or 16 bytes.
        destination: likewise.
        tail: of the key, behind the addresses.
        reverse_tail: the same in the other direction.
        port: destination port of TCP and UDP, else 0.
        flags: of TCP, else 0.
        icmp: of ICMP in IPv4 and ICMPv6 in IPv6, else None.
        header_bytes: of the transport header that must not be split or overwritten by fragments: without options.
    """

    protocol: int
    source: bytes
    destination: bytes
    tail: bytes = b""
    reverse_tail: bytes = b""
    port: int = 0
    flags: int = 0
    icmp: IcmpKind | None = None
    header_bytes: int = 0

    @property
    def key(self) -> bytes:
        """Of the flow, in the direction of the packet."""
        return self.source + self.destination + self.tail

    @property
    def reverse_key(self) -> bytes:
        """Of the flow, in the other direction."""
        return self.destination + self.source + self.reverse_tail


def decode_summary(packet: Buffer, upper: UpperLayer, *, truncated: bool = False) -> Summary:
    """Read a packet, or the first fragment of one.

    Args:
        packet: from its IP header on.
        upper: what `decode_upper_layer` found in it, no fragment other than the first.
        truncated: only the start of the transport header may be there, as where an ICMP error quotes it: of TCP and UDP
            the ports are read and nothing else is checked.

    Raises:
        DecodeError: the transport header is cut off, or its lengths contradict the packet.
    """
    source, destination = addresses(packet)
    if upper.protocol in {TCP, UDP}:
        return _decode_ports(packet, upper, source, destination, truncated=truncated)
    if upper.protocol == (ICMP if len(source) == 4 else ICMPV6):
        header = decode_icmp(packet, upper.start)
        kind = _ICMP_KINDS.get((upper.protocol, header.type), IcmpKind.OTHER)
        tail = header.identifier.to_bytes(2, "big")
        return Summary(upper.protocol, source, destination, tail, tail, icmp=kind, header_bytes=icmp.HEADER_BYTES)
    return Summary(upper.protocol, source, destination)


def _decode_ports(packet: Buffer, upper: UpperLayer, source: bytes, destination: bytes, *, truncated: bool) -> Summary:
    """A summary of TCP or UDP."""
    tail = bytes(packet[upper.start : upper.start + _PORTS_BYTES])
    if len(tail) < _PORTS_BYTES:
        raise DecodeError("two ports", offset=upper.start)
    flags, header_bytes = (0, 0) if truncated else _decode_transport(packet, upper)
    return Summary(
        protocol=upper.protocol,
        source=source,
        destination=destination,
        tail=tail,
        reverse_tail=tail[2:] + tail[:2],
        port=int.from_bytes(tail[2:], "big"),
        flags=flags,
        header_bytes=header_bytes,
    )


def _decode_transport(packet: Buffer, upper: UpperLayer) -> tuple[int, int]:
    """The flags of TCP, or 0, and the bytes of the header without options."""
    if upper.protocol == TCP:
        return decode_tcp(packet, upper.start).flags, tcp.HEADER_BYTES
    length = decode_udp(packet, upper.start).length
    if upper.fragment is None and length > upper.end - upper.start:
        raise DecodeError("a UDP length within the packet", offset=upper.start + udp.LENGTH)
    return 0, udp.HEADER_BYTES
