import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.ipsec import AH

from weft.errors import DecodeError, UsageError
from weft.packet import ipv6, protocols
from weft.packet.ip import addresses, decode_upper_layer
from weft.packet.ipv6 import Ipv6Header, decode_ipv6, decode_ipv6_upper_layer, encode_ipv6
from weft.packet.upper import Fragment, UpperLayer

ADDRESS = st.binary(min_size=16, max_size=16)
HEADERS = st.builds(
    Ipv6Header,
    source=ADDRESS,
    destination=ADDRESS,
    next_header=st.integers(0, 255),
    payload_length=st.integers(0, 100),
    hop_limit=st.integers(0, 255),
    traffic_class=st.integers(0, 255),
    flow_label=st.integers(0, 0xFFFFF),
)
BASE = IPv6(src="fc00::1", dst="fc00::2")
SOURCE, DESTINATION = socket.inet_pton(socket.AF_INET6, "fc00::1"), socket.inet_pton(socket.AF_INET6, "fc00::2")


def chain(first: int, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return encode_ipv6(Ipv6Header(SOURCE, DESTINATION, first, len(payload))) + payload


def padded(header: Ipv6Header) -> bytes:
    return encode_ipv6(header) + bytes(header.payload_length)


@given(HEADERS)
def test_encoded_header_decodes_to_itself(header: Ipv6Header) -> None:
    assert decode_ipv6(padded(header)) == header
    assert decode_ipv6(b"ethernet" + padded(header) + b"trailer", 8) == header


@given(HEADERS)
def test_encoded_header_is_read_by_scapy_with_equal_fields(header: Ipv6Header) -> None:
    seen = IPv6(encode_ipv6(header))
    assert socket.inet_pton(socket.AF_INET6, seen.src) == header.source
    assert socket.inet_pton(socket.AF_INET6, seen.dst) == header.destination
    assert (seen.nh, seen.plen, seen.hlim) == (header.next_header, header.payload_length, header.hop_limit)
    assert (seen.tc, seen.fl) == (header.traffic_class, header.flow_label)


@given(
    tc=st.integers(0, 255), fl=st.integers(0, 0xFFFFF), hlim=st.integers(0, 255), nh=st.integers(0, 255), data=ADDRESS
)
def test_header_made_by_scapy_encodes_to_the_same_bytes(tc: int, fl: int, hlim: int, nh: int, data: bytes) -> None:
    packet = bytes(IPv6(src="fc00::1", dst="fc01::2", tc=tc, fl=fl, hlim=hlim, nh=nh) / data)
    assert encode_ipv6(decode_ipv6(packet)) == packet[:40]


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (b"", "an IPv6 header of 40 bytes"),
        (chain(17)[:39], "an IPv6 header of 40 bytes"),
        (b"\x45" + chain(17)[1:], "version 6"),
        (chain(17, b"12345678")[:-1], "an IPv6 payload of 8 bytes"),
    ],
    ids=["empty", "short", "version", "cut off"],
)
def test_malformed_header_raises_what_was_expected(packet: bytes, expected: str) -> None:
    with pytest.raises(DecodeError, match=expected):
        decode_ipv6(packet)


@pytest.mark.parametrize(
    "header",
    [
        Ipv6Header(b"\0" * 4, b"\0" * 16, 0, 0),
        Ipv6Header(b"\0" * 16, b"\0" * 17, 0, 0),
        Ipv6Header(b"\0" * 16, b"\0" * 16, 256, 0),
        Ipv6Header(b"\0" * 16, b"\0" * 16, 0, 65536),
        Ipv6Header(b"\0" * 16, b"\0" * 16, 0, 0, traffic_class=256),
        Ipv6Header(b"\0" * 16, b"\0" * 16, 0, 0, flow_label=1 << 20),
    ],
)
def test_field_that_does_not_fit_raises_usage_error(header: Ipv6Header) -> None:
    with pytest.raises(UsageError):
        encode_ipv6(header)


@pytest.mark.parametrize(
    ("layers", "protocol", "start"),
    [
        (BASE / UDP(), protocols.UDP, 40),
        (BASE / IPv6ExtHdrHopByHop() / TCP(), protocols.TCP, 48),
        (BASE / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(options=PadN(optdata=b"x" * 50)) / UDP(), 17, 104),
        (BASE / IPv6ExtHdrRouting(addresses=["fc00::9"], segleft=0) / UDP(), protocols.UDP, 64),
        (BASE / AH(nh=6, payloadlen=4, icv=b"x" * 12) / TCP(), protocols.TCP, 64),
        (BASE / IPv6ExtHdrFragment(m=0, offset=0) / UDP(), protocols.UDP, 48),
    ],
    ids=["none", "hop by hop", "two", "routing", "authentication", "atomic fragment"],
)
def test_upper_layer_behind_extension_headers_is_found(layers: IPv6, protocol: int, start: int) -> None:
    packet = bytes(layers)
    assert decode_upper_layer(packet) == UpperLayer(protocol, start, len(packet))
    assert addresses(packet) == (SOURCE, DESTINATION)


def test_segments_left_of_a_routing_header_are_told() -> None:
    packet = bytes(BASE / IPv6ExtHdrRouting(addresses=["fc00::9"], segleft=1) / UDP())
    assert decode_ipv6_upper_layer(packet).segments_left == 1


def test_first_fragment_has_its_upper_layer_behind_headers_fragmented_along() -> None:
    packet = bytes(BASE / IPv6ExtHdrFragment(m=1, offset=0, id=77) / IPv6ExtHdrDestOpt() / UDP() / bytes(8))
    assert decode_ipv6_upper_layer(packet) == UpperLayer(17, 56, 72, Fragment(77, 0, True, 48))


def test_later_fragment_is_not_looked_into() -> None:
    options = chain(ipv6.FRAGMENT, b"\x3c\0\x05\xa9\0\0\0\x07", b"\xff" * 16)
    assert decode_ipv6_upper_layer(options) == UpperLayer(60, 48, 64, Fragment(7, 1448, True, 48))


def test_fragment_beyond_the_largest_payload_raises() -> None:
    with pytest.raises(DecodeError, match="65535"):
        decode_ipv6_upper_layer(chain(ipv6.FRAGMENT, b"\x11\0\xff\xf8\0\0\0\x07", bytes(16)))


@pytest.mark.parametrize("kind", sorted(ipv6.EXTENSION_HEADERS - {ipv6.FRAGMENT, ipv6.AUTHENTICATION}))
def test_longest_extension_header_does_not_overflow(kind: int) -> None:
    longest = bytes([protocols.UDP, 255]) + bytes(2046)
    assert decode_ipv6_upper_layer(chain(kind, longest, b"datagram")) == UpperLayer(
        protocols.UDP, 40 + 2048, 40 + 2048 + 8
    )
    with pytest.raises(DecodeError, match="ends within the packet"):
        decode_ipv6_upper_layer(chain(kind, longest[:-1]))


def test_longest_authentication_header_does_not_overflow() -> None:
    longest = bytes([protocols.UDP, 255]) + bytes(1026)
    assert decode_ipv6_upper_layer(chain(ipv6.AUTHENTICATION, longest, b"datagram")).start == 40 + 1028


def test_chain_of_eight_headers_is_walked_and_of_nine_is_refused() -> None:
    eight = [bytes([ipv6.DESTINATION_OPTIONS, 0]) + bytes(6)] * 7 + [bytes([protocols.UDP, 0]) + bytes(6)]
    assert decode_ipv6_upper_layer(chain(60, *eight)).start == 40 + 64
    with pytest.raises(DecodeError, match="at most 8 extension headers"):
        decode_ipv6_upper_layer(chain(60, eight[0], *eight))


def test_chain_that_never_ends_is_refused() -> None:
    with pytest.raises(DecodeError):
        decode_ipv6_upper_layer(chain(60, bytes([60, 0] + [0] * 6) * 8000))


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (chain(60, b"\x11\0\0\0\0\0\0"), "an extension header of 8 bytes or more"),
        (chain(60), "an extension header of 8 bytes or more"),
        (chain(60, b"\x11\1" + bytes(13)), "ends within the packet"),
        (chain(60, b"\0\0" + bytes(6), b"\x11\0" + bytes(6)), "right after the IPv6 header"),
        (chain(44, b"\x2c\0\0\1\0\0\0\7", b"\x11\0\0\1\0\0\0\7"), "at most one fragment header"),
        (chain(44, b"\x2c\0\0\0\0\0\0\7", b"\x11\0\0\0\0\0\0\7"), "at most one fragment header"),
        (chain(44, b"\x3c\0\0\1\0\0\0\7"), "an extension header of 8 bytes or more"),
        (chain(44, b"\x3c\0\0\1\0\0\0\7", b"\x11\1" + bytes(6)), "ends within the packet"),
    ],
    ids=["7 bytes", "no bytes", "overrun", "hop by hop second", "fragments", "atomics", "chain in part 2", "overrun 2"],
)
def test_chain_that_is_broken_raises(packet: bytes, expected: str) -> None:
    with pytest.raises(DecodeError, match=expected):
        decode_ipv6_upper_layer(packet)


def test_truncated_packet_is_decoded_where_its_chain_is_whole() -> None:
    packet = bytes(BASE / IPv6ExtHdrDestOpt() / UDP() / bytes(1000))
    assert decode_ipv6_upper_layer(packet[:56], truncated=True) == UpperLayer(17, 48, len(packet))
    with pytest.raises(DecodeError):
        decode_ipv6_upper_layer(packet[:47], truncated=True)


@given(
    st.sampled_from(sorted(ipv6.EXTENSION_HEADERS)),
    st.lists(
        st.builds(
            lambda next_header, length, rest: bytes([next_header, length]) + rest,
            st.sampled_from([*sorted(ipv6.EXTENSION_HEADERS), 6, 17, 58, 59]),
            st.sampled_from([0, 0, 1, 255]),
            st.binary(min_size=6, max_size=14),
        ),
        max_size=10,
    ),
    st.integers(0, 200),
)
def test_any_chain_raises_decode_error_only_and_stays_within_the_packet(
    first: int, parts: list[bytes], cut: int
) -> None:
    packet = chain(first, *parts)
    for data, truncated in ((packet, False), (packet[: len(packet) - cut], True)):
        try:
            upper = decode_ipv6_upper_layer(data, truncated=truncated)
        except DecodeError:
            continue
        assert 40 <= upper.start <= upper.end == len(packet)
        assert upper.start <= len(data)


@given(st.binary(max_size=120))
def test_random_bytes_raise_decode_error_only(data: bytes) -> None:
    for first in (b"", b"\x60", b"\x45"):
        try:
            upper = decode_upper_layer(first + data)
        except DecodeError:
            continue
        assert upper.start <= upper.end <= len(first + data)


def test_extension_headers_are_those_of_the_registry() -> None:
    # IANA also lists 253 and 254, for experiments; a node that takes part in none sees upper layers in them.
    assert sorted(ipv6.EXTENSION_HEADERS) == [0, 43, 44, 51, 60, 135, 139, 140]


def test_offset_constants_name_the_bytes_that_they_say() -> None:
    packet = bytes(IPv6(src="fc00::1", dst="fc00::2", hlim=77, nh=6, plen=0x1234, tc=0xAB, fl=0xCDEF1))
    assert packet[ipv6.VERSION_CLASS_LABEL : ipv6.VERSION_CLASS_LABEL + 4] == b"\x6a\xbc\xde\xf1"
    assert packet[ipv6.PAYLOAD_LENGTH : ipv6.PAYLOAD_LENGTH + 2] == b"\x12\x34"
    assert packet[ipv6.NEXT_HEADER] == 6
    assert packet[ipv6.HOP_LIMIT] == 77
    assert packet[ipv6.SOURCE] == SOURCE
    assert packet[ipv6.DESTINATION] == DESTINATION


def test_neither_version_raises() -> None:
    for packet in (b"", b"\x50" + bytes(50)):
        with pytest.raises(DecodeError):
            decode_upper_layer(packet)
