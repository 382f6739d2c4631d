import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6

from weft.errors import DecodeError, UsageError
from weft.packet import icmp, icmpv6
from weft.packet.icmp import IcmpHeader, decode_icmp, encode_icmp
from weft.packet.icmpv6 import Icmpv6Header, decode_icmpv6, encode_icmpv6

BYTE = st.integers(0, 255)
SHORT = st.integers(0, 0xFFFF)
WORD = st.integers(0, 0xFFFFFFFF)


@given(BYTE, BYTE, WORD)
def test_encoded_header_decodes_to_itself(kind: int, code: int, rest: int) -> None:
    header, header_v6 = IcmpHeader(kind, code, rest), Icmpv6Header(kind, code, rest)
    assert decode_icmp(b"IP" + encode_icmp(header) + b"payload", 2) == header
    assert decode_icmpv6(b"IP" + encode_icmpv6(header_v6) + b"payload", 2) == header_v6


@given(SHORT, SHORT, st.sampled_from([icmp.ECHO_REQUEST, icmp.ECHO_REPLY]))
def test_icmp_echo_equals_scapy(ident: int, seq: int, kind: int) -> None:
    made = bytes(ICMP(type=kind, id=ident, seq=seq, chksum=0))
    assert encode_icmp(IcmpHeader(kind, 0, ident << 16 | seq)) == made
    assert decode_icmp(made).identifier == ident
    assert made[icmp.SEQUENCE : icmp.SEQUENCE + 2] == seq.to_bytes(2, "big")


@given(SHORT)
def test_icmp_fragmentation_needed_equals_scapy(mtu: int) -> None:
    made = bytes(ICMP(type=3, code=4, nexthopmtu=mtu, chksum=0) / IP())
    assert encode_icmp(IcmpHeader(icmp.DESTINATION_UNREACHABLE, icmp.FRAGMENTATION_NEEDED, mtu)) == made[:8]
    assert made[icmp.MTU : icmp.MTU + 2] == mtu.to_bytes(2, "big")


@given(SHORT, SHORT)
def test_icmpv6_echo_equals_scapy(ident: int, seq: int) -> None:
    for kind, layer in ((icmpv6.ECHO_REQUEST, ICMPv6EchoRequest), (icmpv6.ECHO_REPLY, ICMPv6EchoReply)):
        made = bytes(layer(id=ident, seq=seq, cksum=0))
        assert encode_icmpv6(Icmpv6Header(kind, 0, ident << 16 | seq)) == made
        assert decode_icmpv6(made).identifier == ident


@given(WORD)
def test_icmpv6_packet_too_big_equals_scapy(mtu: int) -> None:
    made = bytes(ICMPv6PacketTooBig(mtu=mtu, cksum=0) / IPv6())
    assert encode_icmpv6(Icmpv6Header(icmpv6.PACKET_TOO_BIG, 0, mtu)) == made[:8]


def test_offset_constants_name_the_bytes_that_they_say() -> None:
    echo = bytes(ICMPv6EchoRequest(code=3, cksum=0x1112, id=0x0506, seq=0x0708))
    too_big = bytes(ICMPv6PacketTooBig(mtu=0x01020304))
    for room in (icmp, icmpv6):
        assert (echo[room.TYPE], echo[room.CODE]) == (128, 3)
        assert echo[room.CHECKSUM : room.CHECKSUM + 2] == b"\x11\x12"
        assert echo[room.REST : room.REST + 4] == b"\5\6\7\x08"
        assert echo[room.IDENTIFIER : room.IDENTIFIER + 2] == b"\5\6"
        assert echo[room.SEQUENCE : room.SEQUENCE + 2] == b"\7\x08"
    assert too_big[icmpv6.MTU : icmpv6.MTU + 4] == b"\1\2\3\4"


@given(st.binary(max_size=16), st.integers(0, 20))
def test_random_bytes_raise_decode_error_only(data: bytes, start: int) -> None:
    for decode in (decode_icmp, decode_icmpv6):
        try:
            header = decode(data, start)
        except DecodeError:
            continue
        assert header.type == data[start]


@pytest.mark.parametrize("decode", [decode_icmp, decode_icmpv6])
def test_header_cut_off_raises(decode: object) -> None:
    with pytest.raises(DecodeError, match=r"header of 8 bytes at offset 1"):
        decode(bytes(8), 1)  # type: ignore[operator]


def test_field_that_does_not_fit_raises_usage_error() -> None:
    with pytest.raises(UsageError):
        encode_icmp(IcmpHeader(256, 0))
    with pytest.raises(UsageError):
        encode_icmpv6(Icmpv6Header(0, 0, 1 << 32))
