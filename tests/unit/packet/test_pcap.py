"""Capture files, as scapy reads them."""

import io

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.utils import PcapReader

from weft.packet.pcap import encode_file_header, encode_packet

AT = 1_750_000_000_123_456_789


def test_file_is_read_with_times_to_the_nanosecond_and_both_versions_of_ip() -> None:
    first, second = bytes(IP() / UDP() / b"x"), bytes(IPv6() / UDP() / b"y")
    file = encode_file_header(65535) + encode_packet(AT, len(first), first) + encode_packet(AT + 1, 9000, second)
    with PcapReader(io.BytesIO(file)) as reader:
        assert reader.linktype == 101
        assert reader.nano
        read = list(reader)
    assert [bytes(packet) for packet in read] == [first, second]
    assert [type(packet) for packet in read] == [IP, IPv6]
    assert [int(packet.time * 10**9) for packet in read] == [AT, AT + 1]
    assert [packet.wirelen for packet in read] == [len(first), 9000]
