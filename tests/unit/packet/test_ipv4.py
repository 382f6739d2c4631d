import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.utils import checksum as scapy_checksum

from weft.errors import DecodeError, UsageError
from weft.packet import ipv4, protocols
from weft.packet.ipv4 import Ipv4Header, decode_ipv4, decode_ipv4_upper_layer, encode_ipv4
from weft.packet.upper import Fragment, UpperLayer

ADDRESS = st.binary(min_size=4, max_size=4)


@st.composite
def headers(draw: st.DrawFn) -> Ipv4Header:
    options = draw(st.integers(0, 10).flatmap(lambda words: st.binary(min_size=4 * words, max_size=4 * words)))
    return Ipv4Header(
        source=draw(ADDRESS),
        destination=draw(ADDRESS),
        protocol=draw(st.integers(0, 255)),
        total_length=20 + len(options) + draw(st.integers(0, 100)),
        ttl=draw(st.integers(0, 255)),
        traffic_class=draw(st.integers(0, 255)),
        identification=draw(st.integers(0, 0xFFFF)),
        dont_fragment=draw(st.booleans()),
        more_fragments=draw(st.booleans()),
        fragment_offset=draw(st.integers(0, 0x1FFF)) * 8,
        options=options,
    )


def padded(header: Ipv4Header) -> bytes:
    return encode_ipv4(header).ljust(header.total_length, b"\0")


@given(headers())
def test_encoded_header_decodes_to_itself(header: Ipv4Header) -> None:
    assert decode_ipv4(padded(header)) == header
    assert decode_ipv4(b"ethernet" + padded(header) + b"trailer", 8) == header


@given(headers())
def test_encoded_header_is_read_by_scapy_with_equal_fields(header: Ipv4Header) -> None:
    encoded = encode_ipv4(header)
    seen = IP(encoded)
    assert socket.inet_aton(seen.src) == header.source
    assert socket.inet_aton(seen.dst) == header.destination
    assert (seen.proto, seen.len, seen.ttl, seen.tos) == (
        header.protocol,
        header.total_length,
        header.ttl,
        header.traffic_class,
    )
    assert (seen.id, seen.flags.DF, seen.flags.MF) == (
        header.identification,
        header.dont_fragment,
        header.more_fragments,
    )
    assert seen.frag * 8 == header.fragment_offset
    assert seen.ihl * 4 == header.header_length
    assert scapy_checksum(encoded) == 0


@given(
    ttl=st.integers(0, 255),
    tos=st.integers(0, 255),
    ident=st.integers(0, 0xFFFF),
    flags=st.sampled_from(["", "DF", "MF"]),
    frag=st.integers(0, 0x1F00),
    payload=st.binary(max_size=40),
)
def test_header_made_by_scapy_encodes_to_the_same_bytes(
    *, ttl: int, tos: int, ident: int, flags: str, frag: int, payload: bytes
) -> None:
    made = IP(src="10.0.0.1", dst="10.0.0.2", ttl=ttl, tos=tos, id=ident, flags=flags, frag=frag, proto=99)
    packet = bytes(made / payload)
    assert encode_ipv4(decode_ipv4(packet)) == packet[:20]


@given(st.binary(max_size=80))
def test_random_bytes_raise_decode_error_only(data: bytes) -> None:
    for truncated in (False, True):
        try:
            upper = decode_ipv4_upper_layer(data, truncated=truncated)
        except DecodeError:
            continue
        assert upper.start <= upper.end
        assert upper.start <= len(data)


@given(headers(), st.data())
def test_damaged_header_raises_decode_error_only(header: Ipv4Header, data: st.DataObject) -> None:
    packet = bytearray(padded(header))
    packet[data.draw(st.integers(0, 19))] = data.draw(st.integers(0, 255))
    try:
        upper = decode_ipv4_upper_layer(packet)
    except DecodeError:
        return
    assert 20 <= upper.start <= upper.end <= len(packet)


HEADER = encode_ipv4(Ipv4Header(b"\x0a\0\0\x01", b"\x0a\0\0\x02", protocols.UDP, 28))


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (b"", "an IPv4 header of 20 bytes"),
        (HEADER[:19], "an IPv4 header of 20 bytes"),
        (b"\x65" + HEADER[1:] + bytes(8), "version 4"),
        (b"\x44" + HEADER[1:] + bytes(8), "an IPv4 header length within the packet"),
        (b"\x48" + HEADER[1:] + bytes(8), "an IPv4 header length within the packet"),
        (HEADER[:2] + b"\0\x13" + HEADER[4:] + bytes(8), "an IPv4 header length within the packet"),
        (HEADER + bytes(7), "an IPv4 packet of 28 bytes"),
    ],
    ids=["empty", "short", "version", "header length below 5", "header beyond total", "total below header", "cut off"],
)
def test_malformed_header_raises_what_was_expected(packet: bytes, expected: str) -> None:
    with pytest.raises(DecodeError, match=expected):
        decode_ipv4(packet)


def test_truncated_packet_without_its_options_raises() -> None:
    with_options = encode_ipv4(Ipv4Header(b"\x0a\0\0\x01", b"\x0a\0\0\x02", 17, 50, options=b"\1" * 8))
    with pytest.raises(DecodeError, match="header length within the packet at offset 8"):
        decode_ipv4(b"ethernet" + with_options[:-1], 8, truncated=True)


def test_truncated_packet_is_decoded_where_it_may_be() -> None:
    assert decode_ipv4(HEADER, truncated=True).total_length == 28


@pytest.mark.parametrize(
    "header",
    [
        Ipv4Header(b"\0" * 5, b"\0" * 4, 0, 20),
        Ipv4Header(b"\0" * 4, b"\0" * 3, 0, 20),
        Ipv4Header(b"\0" * 4, b"\0" * 4, 256, 20),
        Ipv4Header(b"\0" * 4, b"\0" * 4, 0, 65536),
        Ipv4Header(b"\0" * 4, b"\0" * 4, 0, 20, fragment_offset=12),
        Ipv4Header(b"\0" * 4, b"\0" * 4, 0, 20, fragment_offset=65536),
        Ipv4Header(b"\0" * 4, b"\0" * 4, 0, 20, options=b"\1"),
        Ipv4Header(b"\0" * 4, b"\0" * 4, 0, 20, options=bytes(44)),
    ],
)
def test_field_that_does_not_fit_raises_usage_error(header: Ipv4Header) -> None:
    with pytest.raises(UsageError):
        encode_ipv4(header)


def test_upper_layer_of_a_whole_packet_is_behind_the_options() -> None:
    packet = padded(Ipv4Header(b"\x0a\0\0\x01", b"\x0a\0\0\x02", protocols.TCP, 50, options=b"\1" * 8))
    assert decode_ipv4_upper_layer(packet) == UpperLayer(protocols.TCP, 28, 50)


@pytest.mark.parametrize(("offset", "more"), [(0, True), (1480, True), (2960, False)])
def test_fragment_is_told_with_its_place(offset: int, more: bool) -> None:
    header = Ipv4Header(
        b"\x0a\0\0\x01", b"\x0a\0\0\x02", 17, 60, identification=7, more_fragments=more, fragment_offset=offset
    )
    assert decode_ipv4_upper_layer(padded(header)).fragment == Fragment(7, offset, more, 20)


def test_fragment_beyond_the_largest_packet_raises() -> None:
    header = Ipv4Header(b"\x0a\0\0\x01", b"\x0a\0\0\x02", 17, 60, fragment_offset=65528)
    with pytest.raises(DecodeError, match="65535"):
        decode_ipv4_upper_layer(padded(header))


def test_offset_constants_name_the_bytes_that_they_say() -> None:
    packet = bytes(IP(src="1.2.3.4", dst="5.6.7.8", ttl=77, proto=6, id=0x1234, tos=3, flags="DF", frag=2))
    assert packet[ipv4.VERSION_AND_HEADER_LENGTH] == 0x45
    assert packet[ipv4.TOTAL_LENGTH : ipv4.TOTAL_LENGTH + 2] == b"\0\x14"
    assert packet[ipv4.FLAGS_AND_FRAGMENT : ipv4.FLAGS_AND_FRAGMENT + 2] == b"\x40\x02"
    assert scapy_checksum(packet[: ipv4.CHECKSUM] + b"\0\0" + packet[12:]) == int.from_bytes(
        packet[ipv4.CHECKSUM : ipv4.CHECKSUM + 2], "big"
    )
    assert packet[ipv4.TTL] == 77
    assert packet[ipv4.PROTOCOL] == 6
    assert packet[ipv4.TRAFFIC_CLASS] == 3
    assert packet[ipv4.IDENTIFICATION : ipv4.IDENTIFICATION + 2] == b"\x12\x34"
    assert packet[ipv4.SOURCE] == bytes((1, 2, 3, 4))
    assert packet[ipv4.DESTINATION] == bytes((5, 6, 7, 8))
