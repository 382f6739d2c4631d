"""The fast path: which records it knows, and that it leaves all others to the full reading."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt

from tests.unit.firewall.packets import HERE_V4, HERE_V6, PEER_V4, PEER_V6, echo_in, leaving, tcp_out, udp_out
from weft.firewall.flows import Flow, FlowTable, State
from weft.firewall.glance import echo_of, steady_flow
from weft.firewall.summary import IcmpKind, decode_summary
from weft.packet.ip import decode_upper_layer

PLAIN = {
    "ipv6 tcp": tcp_out("A"),
    "ipv6 tcp with data": tcp_out("PA", payload=bytes(60000)),
    "ipv6 tcp with options": leaving(TCP(sport=40000, dport=443, flags="A", options=[("Timestamp", (1, 2))])),
    "ipv6 udp": udp_out(),
    "ipv6 udp without data": udp_out(payload=b""),
    "ipv4 tcp": tcp_out("A", v4=True),
    "ipv4 udp": udp_out(v4=True),
    "ipv4 udp without data": udp_out(payload=b"", v4=True),
    "ipv4 that may not be fragmented": leaving(UDP(sport=40000, dport=53), v4=True, flags="DF"),
}

OTHER = {
    "syn": tcp_out("S"),
    "fin": tcp_out("FA"),
    "rst": tcp_out("R"),
    "ipv4 syn": tcp_out("S", v4=True),
    "ipv4 options": leaving(UDP(sport=40000, dport=53), v4=True, options=[IPOption_NOP()] * 4),
    "ipv4 first fragment": leaving(UDP(sport=40000, dport=53), v4=True, flags="MF"),
    "ipv4 later fragment": bytes(IP(src=HERE_V4, dst=PEER_V4, frag=1) / UDP(sport=40000, dport=53)),
    "extension header": leaving(IPv6ExtHdrDestOpt(), UDP(sport=40000, dport=53)),
    "cut off": udp_out()[:-1],
    "ipv4 cut off": udp_out(v4=True)[:-1],
    "too long": udp_out() + b"\0",
    "no ip": b"\x50" + udp_out()[1:],
}


def table_of(*packets: bytes) -> tuple[FlowTable, Flow]:
    """A table with the flow of plain packets between the two hosts."""
    table = FlowTable(10)
    for packet in packets:
        summary = decode_summary(packet, decode_upper_layer(packet))
        table.open_outbound(summary.protocol, summary.key, summary.reverse_key, State.ESTABLISHED, 0)
    return table, next(iter(table.by_outbound_key[summary.protocol].values()))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_plain_record_is_known_at_a_glance(name: str, kind: type) -> None:
    table, flow = table_of(PLAIN[name])
    assert steady_flow(kind(PLAIN[name]), table.by_outbound_key) is flow
    assert steady_flow(kind(PLAIN[name]), table.by_inbound_key) is None


@pytest.mark.parametrize("name", OTHER)
def test_record_out_of_the_ordinary_is_left_to_the_full_reading(name: str) -> None:
    table, _ = table_of(tcp_out("A"), udp_out(), tcp_out("A", v4=True), udp_out(v4=True))
    assert steady_flow(OTHER[name], table.by_outbound_key) is None


def test_icmp_is_never_known_at_a_glance() -> None:
    for v4 in (False, True):
        table, _ = table_of(echo_in(v4=v4))
        assert steady_flow(echo_in(v4=v4), table.by_outbound_key) is None


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x60", b"\x45"]))
def test_any_bytes_are_left_to_the_full_reading_and_never_raise(data: bytes, head: bytes) -> None:
    table, _ = table_of(tcp_out("A"))
    assert steady_flow(head + data, table.by_outbound_key) is None
    assert echo_of(head + data) is None


ECHOES = {
    "ipv6 request": leaving(ICMPv6EchoRequest(id=7, seq=1, data=b"x" * 56)),
    "ipv6 reply": leaving(ICMPv6EchoReply(id=7, seq=1, data=b"x" * 56)),
    "ipv6 without data": leaving(ICMPv6EchoRequest(id=0xFFFF)),
    "ipv4 request": leaving(ICMP(type=8, id=7, seq=1) / (b"x" * 56), v4=True),
    "ipv4 reply": leaving(ICMP(type=0, id=7, seq=1), v4=True),
}


@pytest.mark.parametrize("name", ECHOES)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_echo_at_a_glance_is_what_the_full_reading_finds(name: str, kind: type) -> None:
    packet = ECHOES[name]
    summary = decode_summary(packet, decode_upper_layer(packet))
    assert summary.icmp in {IcmpKind.REQUEST, IcmpKind.REPLY}
    assert echo_of(kind(packet)) == (summary.icmp is IcmpKind.REQUEST, summary.protocol, summary.key)


@pytest.mark.parametrize(
    "packet",
    [
        *PLAIN.values(),
        *OTHER.values(),
        ECHOES["ipv6 request"][:-1],
        ECHOES["ipv6 request"] + b"x",
        ECHOES["ipv4 reply"][:-1],
        ECHOES["ipv4 reply"] + b"x",
        leaving(ICMPv6PacketTooBig(mtu=1280)),
        leaving(ICMP(type=8, id=7), v4=True, flags="MF"),
        leaving(ICMP(type=8, id=7), v4=True, options=[IPOption_NOP()] * 4),
        leaving(ICMP(type=3, code=1), v4=True),
        leaving(IPv6ExtHdrDestOpt(), ICMPv6EchoRequest(id=7)),
        bytes(IPv6(src=HERE_V6, dst="ff02::1") / ICMPv6EchoRequest(id=7)),
        bytes(IPv6(src="::", dst=HERE_V6) / ICMPv6EchoReply(id=7)),
        bytes(IP(src=HERE_V4, dst="255.255.255.255") / ICMP(type=8, id=7)),
        bytes(IP(src=HERE_V4, dst=PEER_V4, proto=58) / bytes(ICMPv6EchoRequest(id=7))),
        bytes(IPv6(src=HERE_V6, dst=PEER_V6, nh=1) / bytes(ICMP(type=8, id=7))),
    ],
)
def test_other_record_is_no_echo_at_a_glance(packet: bytes) -> None:
    assert echo_of(packet) is None
