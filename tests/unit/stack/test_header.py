from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from weft.packet.checksum import verify_ipv4_header
from weft.stack.header import encode_header

octet = st.integers(0, 255)


@given(
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=4, max_size=4),
    octet,
    st.integers(0, 65_515),
    octet,
    octet,
    st.integers(0, 65_535),
    st.integers(0, 0x7FFF),
)
def test_header_of_ipv4_equals_scapy(
    source: bytes, destination: bytes, protocol: int, length: int, hops: int, traffic: int, number: int, fragment: int
) -> None:
    header = encode_header(
        source, destination, protocol, length,
        hop_limit=hops, traffic_class=traffic, identification=number, fragment=fragment,
    )  # fmt: skip
    ends = {"src": ".".join(map(str, source)), "dst": ".".join(map(str, destination))}
    expected = IP(
        **ends, len=20 + length, proto=protocol, ttl=hops, tos=traffic, id=number,
        flags=fragment >> 13, frag=fragment & 0x1FFF,
    )  # fmt: skip
    assert header == bytes(expected)
    assert verify_ipv4_header(header)


@given(st.ip_addresses(v=6), st.ip_addresses(v=6), octet, st.integers(0, 65_535), octet, octet)
def test_header_of_ipv6_equals_scapy(
    source: object, destination: object, protocol: int, length: int, hops: int, traffic: int
) -> None:
    ends = (source.packed, destination.packed)  # type: ignore[attr-defined]
    header = encode_header(*ends, protocol, length, hop_limit=hops, traffic_class=traffic)
    expected = IPv6(src=str(source), dst=str(destination), nh=protocol, plen=length, hlim=hops, tc=traffic)
    assert header == bytes(expected)
