"""Congestion marks across the tunnel: the table of RFC 6040, and the header checksum after a mark."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, IPOption_NOP
from scapy.layers.inet6 import IPv6

from weft.burst.ecn import CE, CHANGING, ECT_0, ECT_1, NOT_ECT, decapsulate, ecn_of, mark_ce

FIGURE_4 = {
    NOT_ECT: {NOT_ECT: NOT_ECT, ECT_0: NOT_ECT, ECT_1: NOT_ECT, CE: None},
    ECT_0: {NOT_ECT: ECT_0, ECT_0: ECT_0, ECT_1: ECT_1, CE: CE},
    ECT_1: {NOT_ECT: ECT_1, ECT_0: ECT_1, ECT_1: ECT_1, CE: CE},
    CE: {NOT_ECT: CE, ECT_0: CE, ECT_1: CE, CE: CE},
}
"""RFC 6040 section 4.2: what comes out, by what is inside and outside; None is a drop."""


def test_the_code_points_are_those_of_rfc_3168() -> None:
    assert (NOT_ECT, ECT_1, ECT_0, CE) == (0b00, 0b01, 0b10, 0b11)


@pytest.mark.parametrize("outer", range(4))
@pytest.mark.parametrize("inner", range(4))
@pytest.mark.parametrize("version", [4, 6])
def test_what_is_outside_gives_inside_what_the_table_says(version: int, inner: int, outer: int) -> None:
    outgoing = FIGURE_4[inner][outer]
    packet = IP(tos=0xB8 | inner) / TCP() if version == 4 else IPv6(tc=0xB8 | inner, fl=0xFFFFF) / TCP()
    before = bytes(packet)
    data, marked = bytearray(before), bytearray(before)
    assert ecn_of(data) == ecn_of(memoryview(data)) == inner
    assert decapsulate(memoryview(data), outer) is (outgoing is not None)
    if version == 4:
        packet.tos = 0xB8 | (inner if outgoing is None else outgoing)
    else:
        packet.tc = 0xB8 | (inner if outgoing is None else outgoing)
    assert data == bytes(packet)
    assert data == before or outer in CHANGING
    if outer == CE:
        assert mark_ce(memoryview(marked)) is (outgoing is not None)
        assert marked == data


@given(
    st.integers(0, 255),
    st.integers(0, 65_535),
    st.integers(0, 255),
    st.sampled_from([0, 4, 40]),
    st.integers(0, 2**32 - 1),
)
@example(1, 0, 64, 0, 0)
def test_the_ipv4_checksum_is_right_after_a_mark(
    tos: int, identification: int, ttl: int, options: int, source: int
) -> None:
    address = ".".join(str(source >> shift & 255) for shift in (24, 16, 8, 0))
    packet = IP(tos=tos, id=identification, ttl=ttl, src=address, dst="10.0.0.1", options=[IPOption_NOP()] * options)
    data = bytearray(bytes(packet))
    if mark_ce(memoryview(data)):
        packet.tos = tos | CE
    assert data == bytes(packet)


@pytest.mark.parametrize(("before", "outer"), [(ECT_0, CE), (ECT_1, CE), (CE, CE), (ECT_0, ECT_1)])
def test_the_ipv4_checksum_is_right_where_it_was_or_becomes_zero(before: int, outer: int) -> None:
    """The sums at which ones-complement arithmetic has two zeros: each identification is tried once."""
    packet = IP(tos=before, src="10.0.0.1", dst="10.0.0.2")
    header = bytearray(bytes(packet))
    zeros = 0
    for identification in range(65_536):
        header[4:6] = identification.to_bytes(2, "big")
        total = sum(int.from_bytes(header[at : at + 2], "big") for at in (0, 2, 4, 6, 8, 12, 14, 16, 18))
        checksum = 0xFFFF - (total % 0xFFFF or 0xFFFF)
        header[10:12] = checksum.to_bytes(2, "big")
        marked = bytearray(header)
        decapsulate(memoryview(marked), outer)
        after = sum(int.from_bytes(marked[at : at + 2], "big") for at in range(0, 20, 2))
        assert after % 0xFFFF == 0
        assert marked[10:12] != b"\xff\xff"
        zeros += marked[10:12] == b"\0\0"
    assert zeros > 0
