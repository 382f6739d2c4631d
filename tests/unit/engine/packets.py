"""Packets as programs and kernels make them, and what a kernel makes of super-packets.

Written from the RFCs without the project's own codecs, so that a mistake there is not made again here.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128
EXTENSION_HEADERS = frozenset({0, 43, 60})
CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}


def ones_complement_sum(data: bytes) -> int:
    """RFC 1071, word by word."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ip(source: bytes, destination: bytes, protocol: int, payload: bytes, **fields: int | bytes) -> bytes:
    """An IP packet of the version that the addresses have.

    Fields: ecn, dscp, hops; IPv4: identification, dont_fragment, fragment (the 16 bits of flags and offset), options;
    IPv6: flow_label, extension (extension headers, the first of `first_header`).
    """
    traffic_class = int(fields.get("dscp", 0)) << 2 | int(fields.get("ecn", 0))
    hops = int(fields.get("hops", 64))
    if len(source) == 16:
        extension = bytes(fields.get("extension", b""))
        first = int(fields.get("first_header", 60)) if extension else protocol
        word = 6 << 28 | traffic_class << 20 | int(fields.get("flow_label", 0))
        head = struct.pack("!IHBB", word, len(extension) + len(payload), first, hops)
        return head + source + destination + extension + payload
    options = bytes(fields.get("options", b""))
    flags = int(fields.get("fragment", 0x4000 if fields.get("dont_fragment", True) else 0))
    total = 20 + len(options) + len(payload)
    head = bytearray(
        struct.pack(
            *("!BBHHHBBH", 0x45 + len(options) // 4, traffic_class, total, int(fields.get("identification", 0))),
            *(flags, hops, protocol, 0),
        )
        + source
        + destination
        + options
    )
    head[10:12] = (0xFFFF - ones_complement_sum(bytes(head))).to_bytes(2, "big")
    return bytes(head) + payload


def tcp(
    source: bytes,
    destination: bytes,
    payload: bytes = b"",
    *,
    ports: tuple[int, int] = (1000, 2000),
    sequence: int = 1,
    acknowledgment: int = 1,
    flags: int = ACK,
    window: int = 0x1000,
    urgent: int = 0,
    tcp_options: bytes = b"",
    **fields: int | bytes,
) -> bytes:
    """A TCP packet, or super-packet, with its checksum."""
    offset = (20 + len(tcp_options)) // 4 << 4
    head = struct.pack("!HHIIBBHHH", *ports, sequence, acknowledgment, offset, flags, window, 0, urgent)
    return complete(ip(source, destination, TCP, head + tcp_options + payload, **fields))


def udp(
    source: bytes,
    destination: bytes,
    payload: bytes = b"",
    *,
    ports: tuple[int, int] = (1000, 2000),
    **fields: int | bytes,
) -> bytes:
    """A UDP packet, or super-packet, with its checksum."""
    head = struct.pack("!HHHH", *ports, 8 + len(payload), 0)
    return complete(ip(source, destination, UDP, head + payload, **fields))


def echo(source: bytes, destination: bytes, payload: bytes = b"", *, number: int = 1, **fields: int | bytes) -> bytes:
    """An echo request, ICMP or ICMPv6."""
    kind, protocol = (128, ICMPV6) if len(source) == 16 else (8, ICMP)
    return complete(ip(source, destination, protocol, struct.pack("!BBHHH", kind, 0, 0, 1, number) + payload, **fields))


def upper(packet: bytes) -> tuple[int, int]:
    """Transport protocol and where its header begins, behind options and extension headers."""
    if packet[0] >> 4 == 4:
        return packet[9], (packet[0] & 15) * 4
    protocol, at = packet[6], 40
    while protocol in EXTENSION_HEADERS:
        protocol, at = packet[at], at + 8 + packet[at + 1] * 8
    return protocol, at


def pseudo_header(packet: bytes) -> bytes:
    """RFC 793 and RFC 8200 section 8.1; nothing for ICMP."""
    protocol, at = upper(packet)
    if protocol == ICMP:
        return b""
    if packet[0] >> 4 == 4:
        return packet[12:20] + struct.pack("!BBH", 0, protocol, len(packet) - at)
    return packet[8:40] + struct.pack("!IHBB", len(packet) - at, 0, 0, protocol)


def complete(packet: bytes) -> bytes:
    """The packet with its transport checksum."""
    return finish(as_partial(packet), *partial_place(packet))


def as_partial(packet: bytes) -> bytes:
    """The packet as a kernel hands it to a device that computes checksums: with the pseudo-header's sum alone."""
    start, offset = partial_place(packet)
    value = ones_complement_sum(pseudo_header(packet))
    return packet[: start + offset] + value.to_bytes(2, "big") + packet[start + offset + 2 :]


def partial_place(packet: bytes) -> tuple[int, int]:
    """Where a virtio header says that the summing starts, and where in there the checksum goes."""
    protocol, at = upper(packet)
    return at, CHECKSUM_AT[protocol]


def finish(packet: bytes, start: int, offset: int) -> bytes:
    """What a device, or kernel, does about a checksum that is still to be computed: knows nothing of protocols."""
    value = 0xFFFF - ones_complement_sum(packet[start:])
    if value == 0 and offset == CHECKSUM_AT[UDP]:
        value = 0xFFFF
    return packet[: start + offset] + value.to_bytes(2, "big") + packet[start + offset + 2 :]


def segments(packet: bytes, segment: int) -> list[bytes]:
    """What a kernel's segmentation makes of a super-packet: complete packets."""
    protocol, at = upper(packet)
    head_end = at + ((packet[at + 12] >> 4) * 4 if protocol == TCP else 8)
    head, payload = packet[:head_end], packet[head_end:]
    pieces = [payload[start : start + segment] for start in range(0, len(payload), segment)]
    made = []
    for number, piece in enumerate(pieces):
        one = bytearray(head + piece)
        if one[0] >> 4 == 4:
            one[2:4] = len(one).to_bytes(2, "big")
            one[4:6] = ((int.from_bytes(head[4:6], "big") + number) & 0xFFFF).to_bytes(2, "big")
            one[10:12] = bytes(2)
            one[10:12] = (0xFFFF - ones_complement_sum(bytes(one[:at]))).to_bytes(2, "big")
        else:
            one[4:6] = (len(one) - 40).to_bytes(2, "big")
        if protocol == TCP:
            sequence = int.from_bytes(head[at + 4 : at + 8], "big") + number * segment
            one[at + 4 : at + 8] = (sequence & 0xFFFFFFFF).to_bytes(4, "big")
            if number < len(pieces) - 1:
                one[at + 13] &= ~(FIN | PSH)
            if number:
                one[at + 13] &= ~CWR
        else:
            one[at + 4 : at + 6] = (len(piece) + 8).to_bytes(2, "big")
        made.append(complete(bytes(one)))
    return made


def is_sound(packet: bytes) -> bool:
    """Whether lengths and checksums of a packet are right; of a fragment the transport checksum is not looked at."""
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        if int.from_bytes(packet[2:4], "big") != len(packet) or ones_complement_sum(packet[:header]) != 0xFFFF:
            return False
        if int.from_bytes(packet[6:8], "big") & 0x3FFF:
            return True
    elif int.from_bytes(packet[4:6], "big") + 40 != len(packet):
        return False
    protocol, at = upper(packet)
    if protocol not in CHECKSUM_AT:
        return True
    if protocol == UDP and packet[0] >> 4 == 4 and packet[at + 6 : at + 8] == bytes(2):
        return True
    return ones_complement_sum(pseudo_header(packet) + packet[at:]) == 0xFFFF


def flow_of(packet: bytes) -> Hashable:
    """What must stay in order: addresses, protocol and ports."""
    protocol, at = upper(packet)
    ports = packet[at : at + 4] if protocol in {TCP, UDP} else b""
    return packet[8:40] if packet[0] >> 4 == 6 else packet[12:20], protocol, ports


def by_flow(packets: list[bytes]) -> dict[Hashable, list[bytes]]:
    """The packets of each flow in their order."""
    flows: dict[Hashable, list[bytes]] = {}
    for packet in packets:
        flows.setdefault(flow_of(packet), []).append(packet)
    return flows
