import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption, IPOption_NOP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt
from scapy.utils import checksum as scapy_checksum

from weft.packet import protocols
from weft.packet.checksum import (
    FIELD,
    Buffer,
    checksum,
    complete,
    pseudo_header_sum,
    sum16,
    verify,
    verify_ipv4_header,
    write_ipv4_header_checksum,
    write_pseudo_header_sum,
)

V4 = {"src": "10.1.2.3", "dst": "10.250.251.252"}
V6 = {"src": "fc00:1::ffff", "dst": "fcff:2:3:4:5:6:7:8"}

PACKETS = {
    "ipv4 tcp": (IP(**V4) / TCP(sport=1, dport=65535, flags="PA"), 20, protocols.TCP),
    "ipv4 tcp with ip options": (IP(**V4, options=[IPOption_NOP()] * 8) / TCP(sport=1, dport=2), 28, protocols.TCP),
    "ipv4 udp": (IP(**V4) / UDP(sport=53, dport=4000), 20, protocols.UDP),
    "ipv6 tcp": (IPv6(**V6) / TCP(sport=80, dport=1234, flags="S", options=[("MSS", 1220)]), 40, protocols.TCP),
    "ipv6 udp": (IPv6(**V6) / UDP(sport=53, dport=4000), 40, protocols.UDP),
    "ipv6 icmp": (IPv6(**V6) / ICMPv6EchoRequest(id=7, seq=9), 40, protocols.ICMPV6),
    "ipv6 udp after options": (IPv6(**V6) / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2), 48, protocols.UDP),
}


def plain_sum16(buffer: bytes) -> int:
    """RFC 1071, a word at a time with end-around carry."""
    total = 0
    for at in range(0, len(buffer), 2):
        total += int.from_bytes(buffer[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(max_size=300))
@example(b"")
@example(b"\0\0")
@example(b"\xff\xff")
@example(b"\x80\x00\x7f\xff")
@example(b"\xff\xff" * 3)
@example(b"\x01")
def test_sum_of_any_bytes_is_that_of_words_with_carry(data: bytes) -> None:
    assert sum16(data) == plain_sum16(data)


@given(
    st.sampled_from([127, 128, 129, 2047, 2048, 2049, 4095, 4096, 4097, 6143, 6145, 65534, 65535, 65536]),
    st.binary(min_size=1, max_size=40),
    st.sampled_from([bytes, bytearray, memoryview]),
)
@example(2049, b"\xff", bytes)
@example(4096, b"\0", bytes)
@example(65535, b"\xff\xff\0\0", bytearray)
def test_sum_of_a_long_buffer_is_that_of_words_with_carry(length: int, pattern: bytes, kind: type[Buffer]) -> None:
    data = (pattern * (length // len(pattern) + 1))[:length]
    assert sum16(kind(data)) == plain_sum16(data)


@pytest.mark.parametrize("size", [2, 130, 2048, 2050, 64000])
def test_sum_of_zeros_is_zero_but_a_multiple_of_65535_is_ffff(size: int) -> None:
    assert sum16(bytes(size)) == 0
    assert checksum(bytes(size)) == 0xFFFF
    assert sum16(bytes(size - 2) + b"\xff\xff") == 0xFFFF
    assert checksum(bytes(size - 2) + b"\xff\xff") == 0


@given(st.binary(max_size=3000))
def test_checksum_of_any_bytes_equals_scapy(data: bytes) -> None:
    assert checksum(data) == scapy_checksum(data)


@given(st.binary(max_size=60).filter(lambda head: len(head) % 2 == 0), st.binary(max_size=60))
def test_checksum_with_an_initial_sum_equals_that_of_both_parts(head: bytes, tail: bytes) -> None:
    assert checksum(tail, sum16(head)) == checksum(head + tail)


@pytest.mark.parametrize("name", PACKETS)
@given(payload=st.binary(max_size=3000))
def test_completed_packet_equals_scapy(name: str, payload: bytes) -> None:
    layers, start, protocol = PACKETS[name]
    expected = bytes(layers / payload)
    packet = bytearray(expected)
    at = start + FIELD[protocol]
    packet[at : at + 2] = b"\xa5\x5a"
    complete(packet, start, protocol)
    assert packet == expected
    assert verify(packet, start, protocol)


@pytest.mark.parametrize("name", PACKETS)
def test_complete_through_a_memoryview_writes_the_packet_below(name: str) -> None:
    layers, start, protocol = PACKETS[name]
    expected = bytes(layers / b"odd")
    whole = bytearray(b"head" + expected)
    view = memoryview(whole)[4:]
    view[start + FIELD[protocol]] ^= 0x55
    complete(view, start, protocol)
    assert whole[4:] == expected


@pytest.mark.parametrize("name", PACKETS)
@given(payload=st.binary(max_size=100))
def test_pseudo_header_sum_summed_on_by_the_kernel_gives_the_checksum(name: str, payload: bytes) -> None:
    layers, start, protocol = PACKETS[name]
    expected = bytes(layers / payload)
    packet = bytearray(expected)
    write_pseudo_header_sum(packet, start, protocol)
    at = start + FIELD[protocol]
    by_kernel = checksum(packet[start:])
    packet[at : at + 2] = by_kernel.to_bytes(2, "big")
    assert verify(packet, start, protocol)
    assert by_kernel == int.from_bytes(expected[at : at + 2], "big") % 0xFFFF


@pytest.mark.parametrize("name", PACKETS)
@given(payload=st.binary(max_size=50), data=st.data())
def test_packet_with_one_changed_bit_is_not_verified(name: str, payload: bytes, data: st.DataObject) -> None:
    layers, start, protocol = PACKETS[name]
    packet = bytearray(bytes(layers / payload))
    bit = data.draw(st.integers(start * 8, len(packet) * 8 - 1))
    packet[bit // 8] ^= 1 << bit % 8
    field = packet[start + 6 : start + 8]
    if not (protocol == protocols.UDP and field == b"\0\0"):
        assert not verify(packet, start, protocol)


@pytest.mark.parametrize("layers", [IP(**V4), IPv6(**V6)], ids=["ipv4", "ipv6"])
def test_udp_checksum_that_comes_to_zero_is_sent_as_ffff(layers: IP | IPv6) -> None:
    packet = bytearray(bytes(layers / UDP(sport=1, dport=2) / b"\0\0"))
    start = len(packet) - 10
    packet[-2:] = packet[start + 6 : start + 8]
    complete(packet, start, protocols.UDP)
    assert packet[start + 6 : start + 8] == b"\xff\xff"
    assert verify(packet, start, protocols.UDP)


def test_tcp_checksum_that_comes_to_zero_stays_zero() -> None:
    packet = bytearray(bytes(IPv6(**V6) / TCP(sport=1, dport=2) / b"\0\0"))
    packet[-2:] = packet[56:58]
    complete(packet, 40, protocols.TCP)
    assert packet[56:58] == b"\0\0"
    assert verify(packet, 40, protocols.TCP)


def test_udp_without_checksum_is_right_over_ipv4_and_wrong_over_ipv6() -> None:
    over_ipv4 = bytes(IP(**V4) / UDP(sport=1, dport=2, chksum=0) / b"data")
    over_ipv6 = bytes(IPv6(**V6) / UDP(sport=1, dport=2, chksum=0) / b"data")
    assert verify(over_ipv4, 20, protocols.UDP)
    assert not verify(over_ipv6, 40, protocols.UDP)


def test_udp_checksum_with_one_zero_byte_is_not_taken_for_none() -> None:
    for wrong in (0x1200, 0x0012):
        assert not verify(bytes(IP(**V4) / UDP(sport=1, dport=2, chksum=wrong) / b"data"), 20, protocols.UDP)


def test_icmp_message_of_zeros_is_not_verified() -> None:
    assert not verify(bytes(IP(**V4, proto=1) / bytes(8)), 20, protocols.ICMP)
    assert verify(bytes(IP(**V4) / ICMP(type=0, id=0, seq=0)), 20, protocols.ICMP)


@pytest.mark.parametrize("layers", [IP(**V4), IPv6(**V6)], ids=["ipv4", "ipv6"])
def test_pseudo_header_sum_that_is_a_multiple_of_65535_is_ffff(layers: IP | IPv6) -> None:
    packet = bytes(layers)
    missing = 0xFFFF - pseudo_header_sum(packet, 0, protocols.UDP)
    assert pseudo_header_sum(packet, missing, protocols.UDP) == 0xFFFF
    assert pseudo_header_sum(packet, missing + 1, protocols.UDP) == 1


def test_protocol_of_pseudo_header_is_derived_or_given() -> None:
    plain = bytes(IPv6(**V6) / UDP(sport=1, dport=2) / b"data")
    after_options = bytes(IPv6(**V6) / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2) / b"data")
    over_ipv4 = bytes(IP(**V4) / UDP(sport=1, dport=2) / b"data")
    assert pseudo_header_sum(plain, 12) == pseudo_header_sum(after_options, 12, protocols.UDP)
    assert pseudo_header_sum(plain, 12) != pseudo_header_sum(after_options, 12)
    assert pseudo_header_sum(over_ipv4, 12) == plain_sum16(over_ipv4[12:20] + b"\0\x11\0\x0c")


def test_pseudo_header_sum_of_a_transport_length_above_16_bits_is_folded() -> None:
    packet = bytes(IPv6(**V6))
    expected = plain_sum16(packet[8:40] + (70000).to_bytes(4, "big") + b"\0\0\0\x06")
    assert pseudo_header_sum(packet, 70000, protocols.TCP) == expected


@pytest.mark.parametrize("options", [[], [IPOption_NOP()] * 8], ids=["plain", "with options"])
@given(ident=st.integers(0, 65535), ttl=st.integers(0, 255))
def test_ipv4_header_checksum_equals_scapy(options: list[IPOption], ident: int, ttl: int) -> None:
    expected = bytes(IP(**V4, id=ident, ttl=ttl, options=options) / b"what follows is not summed")
    packet = bytearray(expected)
    packet[10:12] = b"\x12\x34"
    write_ipv4_header_checksum(packet)
    assert packet == expected
    assert verify_ipv4_header(expected)
    packet[8] ^= 1
    assert not verify_ipv4_header(packet)
