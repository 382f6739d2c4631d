"""IP of either version, told apart by the first nibble."""

from __future__ import annotations

from weft.errors import DecodeError
from weft.packet import ipv4, ipv6
from weft.packet.checksum import Buffer, complete
from weft.packet.upper import UpperLayer


def decode_upper_layer(packet: Buffer, *, truncated: bool = False) -> UpperLayer:
    """Find out what an IP packet carries, and where.

    Args:
        packet: begins with the IP header.
        truncated: the packet may end early, as it does where an ICMP error quotes it.

    Raises:
        DecodeError: it is no IP packet, or malformed (`ipv4.decode_ipv4_upper_layer`, `ipv6.decode_ipv6_upper_layer`).
    """
    if len(packet) == 0:
        raise DecodeError("an IP packet")
    version = packet[0] >> 4
    if version == 6:
        return ipv6.decode_ipv6_upper_layer(packet, truncated=truncated)
    if version == 4:
        return ipv4.decode_ipv4_upper_layer(packet, truncated=truncated)
    raise DecodeError("IP version 4 or 6")


def addresses(packet: Buffer) -> tuple[bytes, bytes]:
    """Source and destination of a packet whose header was decoded before: 4 bytes each, or 16."""
    header = ipv4 if packet[0] >> 4 == 4 else ipv6
    return bytes(packet[header.SOURCE]), bytes(packet[header.DESTINATION])


def encode_packet(source: bytes, destination: bytes, protocol: int, message: bytes) -> bytes:
    """Encode a whole packet, with its checksums.

    Args:
        source: 4 bytes, or 16.
        destination: as many.
        protocol: ICMP, ICMPV6, TCP or UDP.
        message: transport header and payload; its checksum field is still open.
    """
    if len(source) == 16:
        header = ipv6.encode_ipv6(ipv6.Ipv6Header(source, destination, protocol, len(message)))
    else:
        total = ipv4.HEADER_BYTES + len(message)
        header = ipv4.encode_ipv4(ipv4.Ipv4Header(source, destination, protocol, total, dont_fragment=True))
    packet = bytearray(header + message)
    complete(packet, len(header), protocol)
    return bytes(packet)


def is_one_host(address: bytes) -> bool:
    """Whether an address may stand for one host on a network.

    Not so: unspecified and multicast; in IPv4 also 0/8, 127/8, and 240/4 with the limited broadcast (RFC 1812 section
    4.3.2.7). The broadcast address of an IPv4 subnet can't be told without its prefix.

    Args:
        address: 4 or 16 bytes.
    """
    if len(address) == 16:
        return address[0] != 0xFF and any(address)
    return address[0] < 224 and address[0] not in {0, 127}
