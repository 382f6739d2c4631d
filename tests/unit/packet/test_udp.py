import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP

from weft.errors import DecodeError, UsageError
from weft.packet import udp
from weft.packet.checksum import FIELD
from weft.packet.protocols import UDP as UDP_NUMBER
from weft.packet.udp import UdpHeader, decode_udp, encode_udp

PORT = st.integers(0, 0xFFFF)
HEADERS = st.builds(UdpHeader, source_port=PORT, destination_port=PORT, length=st.integers(8, 0xFFFF))


@given(HEADERS)
def test_encoded_header_decodes_to_itself(header: UdpHeader) -> None:
    assert decode_udp(encode_udp(header)) == header
    assert decode_udp(b"IP" + encode_udp(header) + b"payload", 2) == header


@given(HEADERS)
def test_encoded_header_equals_scapy(header: UdpHeader) -> None:
    made = UDP(sport=header.source_port, dport=header.destination_port, len=header.length, chksum=0)
    assert encode_udp(header) == bytes(made)
    seen = UDP(encode_udp(header))
    assert (seen.sport, seen.dport, seen.len) == (header.source_port, header.destination_port, header.length)


def test_offset_constants_name_the_bytes_that_they_say() -> None:
    encoded = bytes(UDP(sport=0x0102, dport=0x0304, len=0x0506, chksum=0x0708))
    offsets = (udp.SOURCE_PORT, udp.DESTINATION_PORT, udp.LENGTH, udp.CHECKSUM)
    assert b"".join(encoded[at : at + 2] for at in offsets) == encoded
    assert FIELD[UDP_NUMBER] == udp.CHECKSUM


@given(st.binary(max_size=20), st.integers(0, 25))
def test_random_bytes_raise_decode_error_only(data: bytes, start: int) -> None:
    try:
        header = decode_udp(data, start)
    except DecodeError:
        return
    assert encode_udp(header)[:6] == data[start : start + 6]


def test_header_cut_off_raises() -> None:
    with pytest.raises(DecodeError, match="a UDP header of 8 bytes at offset 40"):
        decode_udp(bytes(47), 40)


def test_length_less_than_the_header_raises() -> None:
    with pytest.raises(DecodeError, match="a UDP length of at least 8 at offset 4"):
        decode_udp(b"\0\1\0\2\0\7\0\0")


@pytest.mark.parametrize("header", [UdpHeader(65536, 0, 8), UdpHeader(0, -1, 8), UdpHeader(0, 0, 65536)])
def test_field_that_does_not_fit_raises_usage_error(header: UdpHeader) -> None:
    with pytest.raises(UsageError):
        encode_udp(header)
