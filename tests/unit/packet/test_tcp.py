import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from weft.errors import DecodeError, UsageError
from weft.packet import tcp
from weft.packet.checksum import FIELD
from weft.packet.protocols import TCP as TCP_NUMBER
from weft.packet.tcp import TcpHeader, decode_tcp, encode_tcp

PORT = st.integers(0, 0xFFFF)
WORD = st.integers(0, 0xFFFFFFFF)
HEADERS = st.builds(
    TcpHeader,
    source_port=PORT,
    destination_port=PORT,
    sequence=WORD,
    acknowledgment=WORD,
    flags=st.integers(0, 255),
    window=PORT,
    urgent_pointer=PORT,
    reserved=st.integers(0, 15),
    options=st.integers(0, 10).flatmap(lambda words: st.binary(min_size=4 * words, max_size=4 * words)),
)


@given(HEADERS)
def test_encoded_header_decodes_to_itself(header: TcpHeader) -> None:
    assert decode_tcp(encode_tcp(header)) == header
    assert decode_tcp(b"IP" + encode_tcp(header) + b"payload", 2) == header
    assert len(encode_tcp(header)) == header.header_length


@given(HEADERS)
def test_encoded_header_is_read_by_scapy_with_equal_fields(header: TcpHeader) -> None:
    seen = TCP(encode_tcp(header))
    assert (seen.sport, seen.dport, seen.seq, seen.ack) == (
        header.source_port,
        header.destination_port,
        header.sequence,
        header.acknowledgment,
    )
    assert int(seen.flags) | int(seen.reserved) << 9 == header.flags | header.reserved << 8
    assert (seen.window, seen.urgptr, seen.dataofs * 4) == (header.window, header.urgent_pointer, header.header_length)


@given(sport=PORT, seq=WORD, ack=WORD, flags=st.integers(0, 255), window=PORT, mss=PORT)
def test_header_made_by_scapy_encodes_to_the_same_bytes(
    *, sport: int, seq: int, ack: int, flags: int, window: int, mss: int
) -> None:
    options = [("MSS", mss), ("SAckOK", b""), ("Timestamp", (seq, ack)), ("NOP", None), ("WScale", 7)]
    made = TCP(sport=sport, dport=80, seq=seq, ack=ack, flags=flags, window=window, options=options, chksum=0)
    encoded = bytes(made)
    assert encode_tcp(decode_tcp(encoded)) == encoded


def test_offset_constants_name_the_bytes_that_they_say() -> None:
    fields = {"seq": 0x05060708, "ack": 0x090A0B0C, "window": 0x0F10, "chksum": 0x1112, "urgptr": 0x1314}
    encoded = bytes(TCP(sport=0x0102, dport=0x0304, dataofs=5, flags=0x0E, **fields))
    assert encoded == bytes(range(1, 13)) + b"\x50" + bytes(range(14, 21))
    assert [tcp.SOURCE_PORT, tcp.DESTINATION_PORT, tcp.SEQUENCE, tcp.ACKNOWLEDGMENT] == [0, 2, 4, 8]
    assert [tcp.DATA_OFFSET, tcp.FLAGS, tcp.WINDOW, tcp.CHECKSUM, tcp.URGENT_POINTER] == [12, 13, 14, 16, 18]
    assert len(encoded) == tcp.OPTIONS
    assert FIELD[TCP_NUMBER] == tcp.CHECKSUM


def test_flags_are_those_that_scapy_names() -> None:
    named = {"F": tcp.FIN, "S": tcp.SYN, "R": tcp.RST, "P": tcp.PSH, "A": tcp.ACK, "U": tcp.URG, "E": tcp.ECE}
    for letter, flag in (named | {"C": tcp.CWR}).items():
        assert decode_tcp(bytes(TCP(flags=letter))).flags == flag


@given(st.binary(max_size=80), st.integers(0, 90))
def test_random_bytes_raise_decode_error_only(data: bytes, start: int) -> None:
    try:
        header = decode_tcp(data, start)
    except DecodeError:
        return
    assert encode_tcp(header)[:16] == data[start : start + 16]


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (bytes(19), "a TCP header of 20 bytes at offset 0"),
        (bytes(12) + b"\x40" + bytes(7), "a TCP data offset within the packet at offset 12"),
        (bytes(12) + b"\x60" + bytes(7), "a TCP data offset within the packet at offset 12"),
    ],
    ids=["short", "offset below 5", "options cut off"],
)
def test_malformed_header_raises_what_was_expected(segment: bytes, expected: str) -> None:
    with pytest.raises(DecodeError, match=expected):
        decode_tcp(segment)


@pytest.mark.parametrize(
    "header",
    [
        TcpHeader(65536, 0, 0, 0, 0, 0),
        TcpHeader(0, 0, 1 << 32, 0, 0, 0),
        TcpHeader(0, 0, 0, 0, 256, 0),
        TcpHeader(0, 0, 0, 0, 0, 0, reserved=16),
        TcpHeader(0, 0, 0, 0, 0, 0, options=b"\1"),
        TcpHeader(0, 0, 0, 0, 0, 0, options=bytes(44)),
    ],
)
def test_field_that_does_not_fit_raises_usage_error(header: TcpHeader) -> None:
    with pytest.raises(UsageError):
        encode_tcp(header)
