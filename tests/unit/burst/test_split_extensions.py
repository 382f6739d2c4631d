"""Split of TCP and UDP behind IPv6 extension headers, as a kernel hands them out too."""

from __future__ import annotations

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN
from scapy.packet import Packet, Raw

from tests.unit.burst.packets import V6
from weft.burst.split import split

EXTENSIONS = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)])
SEGMENT = 1001


@pytest.mark.parametrize("transport", [TCP(sport=1, dport=2, seq=2**32 - 1500, flags="PA"), UDP(sport=1, dport=2)])
def test_segments_behind_extension_headers_have_their_checksums(transport: Packet) -> None:
    payload = bytes(range(256)) * 11
    data = bytes(IPv6(**V6) / EXTENSIONS / transport / Raw(payload))
    offset = data.index(bytes(transport)[:4])
    runs = split(memoryview(bytearray(data)), offset, SEGMENT, 1)
    kind = type(transport)
    found = b""
    for run in runs:
        packet = IPv6(bytes(run))
        part = bytes(packet[kind].payload)
        found += part
        assert packet.plen == len(run) - 40
        checksum = packet[kind].chksum
        del packet[kind].chksum
        assert IPv6(bytes(packet))[kind].chksum == checksum
    assert found == payload
    assert len(runs) == -(-len(payload) // SEGMENT)
