"""Super-packets and segments for the tests of split and merge, built by scapy."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN
from scapy.packet import NoPayload, Packet, Raw

from tests.unit.burst.keys import plain_text

V4 = {"src": "10.1.2.3", "dst": "10.250.251.252"}
V6 = {"src": "fc00:1::ffff", "dst": "fcff:2:3:4:5:6:7:8"}
TIMESTAMPS: list[tuple[str, Any]] = [("NOP", None), ("NOP", None), ("Timestamp", (12345, 67890))]
SACK: list[tuple[str, Any]] = [("NOP", None), ("NOP", None), ("SAck", (1, 2))]


def transport_of(data: bytes) -> tuple[int, int]:
    """Protocol and offset of the transport header, behind whatever extension headers of IPv6."""
    if data[0] >> 4 == 4:
        return data[9], (data[0] & 15) * 4
    protocol, start = data[6], 40
    while protocol in {0, 43, 60}:
        protocol, start = data[start], start + 8 + data[start + 1] * 8
    return protocol, start


def transport_offset(data: bytes) -> int:
    return transport_of(data)[1]


def payload_offset(data: bytes) -> int:
    protocol, transport = transport_of(data)
    is_tcp = protocol == 6
    return transport + (data[transport + 12] >> 4) * 4 if is_tcp else transport + 8


def parse(data: bytes) -> Packet:
    """The headers as scapy sees them, and the payload as it is, whatever its ports say it were."""
    start = payload_offset(data)
    headers: Packet = (IP if data[0] >> 4 == 4 else IPv6)(data[:start])
    return headers / Raw(data[start:])


EXTENSIONS = (IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"x" * 12)]))
ANY_FLAGS = st.sampled_from(["A", "PA", "FA", "FPA", "CA", "EA", "CEPA", "FPCEA"])


@st.composite
def super_packets(
    draw: st.DrawFn, *, tcp_only: bool = False, plain: bool = False, flags: st.SearchStrategy[str] = ANY_FLAGS
) -> tuple[bytes, int]:
    """A TCP or UDP super-packet with up to 10 segments, its transport checksum garbage; and its segment size.

    Over IPv6 it may have extension headers, unless it shall be plain.
    """
    segment = draw(st.one_of(st.integers(256, 1500), st.sampled_from([256, 257, 1448, 1460])))
    payload = draw(st.integers(segment + 1, 10 * segment))
    if draw(st.booleans()):
        network = IP(
            **V4,
            id=draw(st.one_of(st.integers(0, 65_535), st.sampled_from([0, 65_530, 65_535]))),
            flags=draw(st.sampled_from([0, "DF"])),
            tos=draw(st.integers(0, 255)),
            ttl=draw(st.integers(1, 255)),
            options=[IPOption_NOP()] * draw(st.sampled_from([0, 0, 4, 40])),
        )
    else:
        network = IPv6(**V6, tc=draw(st.integers(0, 255)), fl=draw(st.integers(0, 2**20 - 1)), hlim=64)
        if not plain:
            network /= draw(st.sampled_from([*EXTENSIONS, NoPayload(), NoPayload()]))
    ports = {"sport": draw(st.integers(1, 65_535)), "dport": draw(st.integers(1, 65_535))}
    transport: Packet
    if tcp_only or draw(st.booleans()):
        transport = TCP(
            **ports,
            seq=draw(st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 2**32 - 1, 2**32 - segment]))),
            ack=draw(st.integers(0, 2**32 - 1)),
            window=draw(st.integers(0, 65_535)),
            flags=draw(flags),
            options=draw(st.sampled_from([[], TIMESTAMPS, SACK])),
            chksum=0xDEAD,
        )
    else:
        transport = UDP(**ports, chksum=0xDEAD)
    return bytes(network / transport / Raw(plain_text(payload, draw(st.integers(0, 9))))), segment


def reference(data: bytes, segment: int) -> list[bytes]:
    """What Linux makes of a super-packet, written down in scapy's terms; scapy computes lengths and checksums."""
    packets = []
    payload = data[payload_offset(data) :]
    chunks = [payload[at : at + segment] for at in range(0, len(payload), segment)]
    for number, chunk in enumerate(chunks):
        packet = parse(data)
        if packet.version == 4:
            packet.id = (packet.id + number) % 2**16
            del packet.len
            del packet.chksum
        else:
            del packet.plen
        transport = packet[TCP] if TCP in packet else packet[UDP]
        if TCP in packet:
            transport.seq = (transport.seq + number * segment) % 2**32
            if number:
                transport.flags &= ~0x80
            if number < len(chunks) - 1:
                transport.flags &= ~0x09
        else:
            del transport.len
        del transport.chksum
        transport.remove_payload()
        packets.append(bytes(packet / Raw(chunk)))
    return packets
