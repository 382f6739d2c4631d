import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_Redirect,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)

from weft.packet.answers import (
    Unreachable,
    destination_unreachable,
    echo_reply,
    packet_too_big,
    parameter_problem,
    tcp_reset,
    time_exceeded,
    unknown_protocol,
)
from weft.packet.checksum import verify, verify_ipv4_header

V4 = {"src": "10.0.0.1", "dst": "10.0.0.2"}
V6 = {"src": "fc00:1::1", "dst": "fc00:1::2"}
ROUTER_V4 = socket.inet_aton("10.0.0.254")
ROUTER_V6 = socket.inet_pton(socket.AF_INET6, "fc00:1::fe")
PAYLOAD = bytes(range(256)) * 8


def original_v4(payload: bytes = PAYLOAD, **fields: object) -> bytes:
    return bytes(IP(**(V4 | fields)) / UDP(sport=1111, dport=2222) / payload)


def original_v6(payload: bytes = PAYLOAD, **fields: object) -> bytes:
    return bytes(IPv6(**(V6 | fields)) / UDP(sport=1111, dport=2222) / payload)


@pytest.mark.parametrize("length", [0, 1, 1183, 1184, 1185, 60000])
def test_error_about_an_ipv6_packet_equals_scapy_up_to_1280_bytes(length: int) -> None:
    original = original_v6(bytes(length))
    head = IPv6(src="fc00:1::fe", dst=V6["src"], hlim=64)
    quote = original[:1232]
    assert packet_too_big(original, 1352, ROUTER_V6) == bytes(head / ICMPv6PacketTooBig(mtu=1352) / quote)
    assert time_exceeded(original, ROUTER_V6) == bytes(head / ICMPv6TimeExceeded() / quote)
    for reason, code in ((Unreachable.NO_ROUTE, 0), (Unreachable.PROHIBITED, 1), (Unreachable.ADDRESS, 3)):
        answer = destination_unreachable(original, reason, ROUTER_V6)
        assert answer == bytes(head / ICMPv6DestUnreach(code=code) / quote)
    answer = destination_unreachable(original, Unreachable.PORT, ROUTER_V6)
    assert answer == bytes(head / ICMPv6DestUnreach(code=4) / quote)
    assert len(answer) == min(1280, 48 + len(original))


@pytest.mark.parametrize("length", [0, 1, 519, 520, 521, 60000])
def test_error_about_an_ipv4_packet_equals_scapy_up_to_576_bytes(length: int) -> None:
    original = original_v4(bytes(length))
    head = IP(src="10.0.0.254", dst=V4["src"], ttl=64, id=0, flags="DF")
    quote = original[:548]
    needed = bytes(head / ICMP(type=3, code=4, nexthopmtu=1352) / quote)
    assert packet_too_big(original, 1352, ROUTER_V4) == needed
    assert len(needed) == min(576, 28 + len(original))
    assert time_exceeded(original, ROUTER_V4) == bytes(head / ICMP(type=11, code=0) / quote)
    codes = {Unreachable.NO_ROUTE: 0, Unreachable.ADDRESS: 1, Unreachable.PORT: 3, Unreachable.PROHIBITED: 13}
    for reason, code in codes.items():
        answer = destination_unreachable(original, reason, ROUTER_V4)
        assert answer == bytes(head / ICMP(type=3, code=code) / quote)


def test_reassembly_that_took_too_long_equals_scapy() -> None:
    first = bytes(IPv6(**V6) / IPv6ExtHdrFragment(m=1, id=7, nh=17) / PAYLOAD[:1000])
    head = IPv6(src="fc00:1::fe", dst=V6["src"], hlim=64)
    assert time_exceeded(first, ROUTER_V6, in_reassembly=True) == bytes(head / ICMPv6TimeExceeded(code=1) / first)
    first = bytes(IP(**V4, flags="MF", proto=17) / PAYLOAD[:1000])
    head = IP(src="10.0.0.254", dst=V4["src"], ttl=64, id=0, flags="DF")
    expected = bytes(head / ICMP(type=11, code=1) / first[:548])
    assert time_exceeded(first, ROUTER_V4, in_reassembly=True) == expected


def test_unknown_protocol_and_parameter_problem_equal_scapy() -> None:
    head = IPv6(src="fc00:1::fe", dst=V6["src"], hlim=64)
    original = bytes(IPv6(**V6, nh=200) / PAYLOAD)
    expected = bytes(head / ICMPv6ParamProblem(code=1, ptr=6) / original[:1232])
    assert unknown_protocol(original, 6, ROUTER_V6) == expected
    assert parameter_problem(original, 0, 77, ROUTER_V6) == bytes(
        head / ICMPv6ParamProblem(code=0, ptr=77) / original[:1232]
    )
    original = bytes(IP(**V4, proto=200) / PAYLOAD)
    head = IP(src="10.0.0.254", dst=V4["src"], ttl=64, id=0, flags="DF")
    assert unknown_protocol(original, 9, ROUTER_V4) == bytes(head / ICMP(type=3, code=2) / original[:548])


def test_parameter_problem_answers_a_chain_that_can_not_be_walked_and_many_only_if_told() -> None:
    cut_off = bytes(IPv6(**V6, nh=60) / b"\x11\x08\0\0")
    assert destination_unreachable(cut_off, Unreachable.PORT, ROUTER_V6) is None
    assert parameter_problem(cut_off, 3, 0, ROUTER_V6) is not None
    to_many = original_v6(dst="ff02::1")
    assert parameter_problem(to_many, 2, 40, ROUTER_V6) is None
    assert parameter_problem(to_many, 2, 40, ROUTER_V6, to_many=True) is not None
    assert parameter_problem(original_v6(src="ff02::1"), 0, 0, ROUTER_V6, to_many=True) is None
    error = bytes(IPv6(**V6) / IPv6ExtHdrDestOpt() / ICMPv6DestUnreach() / original_v6(b""))
    assert parameter_problem(error, 2, 42, ROUTER_V6, to_many=True) is None


def test_mtu_beyond_16_bits_is_told_over_ipv4_as_the_largest() -> None:
    answer = packet_too_big(original_v4(b""), 70000, ROUTER_V4)
    assert answer is not None
    assert answer[26:28] == b"\xff\xff"


def test_bytes_after_the_end_of_the_original_are_not_quoted() -> None:
    answer = time_exceeded(original_v6(b"") + b"padding", ROUTER_V6)
    assert answer == time_exceeded(original_v6(b""), ROUTER_V6)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_original_may_be_any_buffer(kind: type) -> None:
    request = bytes(IPv6(**V6) / ICMPv6EchoRequest(data=b"x"))
    segment = bytes(IPv6(**V6) / TCP())
    assert packet_too_big(kind(original_v6()), 1280, ROUTER_V6) == packet_too_big(original_v6(), 1280, ROUTER_V6)
    assert echo_reply(kind(request)) == echo_reply(request) is not None
    assert tcp_reset(kind(segment)) == tcp_reset(segment) is not None


V6_FRAGMENT = IPv6(**V6) / IPv6ExtHdrFragment(offset=100, m=1, nh=17) / bytes(16)

UNANSWERED = {
    "nothing": b"",
    "no IP": b"\x50" + bytes(60),
    "cut off": original_v6()[:-1],
    "ipv4 cut off": original_v4()[:-1],
    "to ipv6 multicast": original_v6(dst="ff02::1"),
    "from ipv6 multicast": original_v6(src="ff02::1"),
    "from ipv6 unspecified": original_v6(src="::"),
    "to ipv4 multicast": original_v4(dst="224.0.0.251"),
    "to ipv4 broadcast": original_v4(dst="255.255.255.255"),
    "from ipv4 broadcast": original_v4(src="255.255.255.255"),
    "from ipv4 multicast": original_v4(src="239.1.2.3"),
    "from ipv4 unspecified": original_v4(src="0.0.0.0"),
    "from ipv4 loopback": original_v4(src="127.0.0.1"),
    "from ipv4 class e": original_v4(src="240.0.0.1"),
    "later ipv4 fragment": original_v4(frag=10),
    "later ipv6 fragment": bytes(V6_FRAGMENT),
    "icmpv6 error": bytes(IPv6(**V6) / ICMPv6PacketTooBig(mtu=1280) / original_v6(b"")),
    "icmpv6 error of unknown type": bytes(IPv6(**V6, nh=58) / b"\x64\0\0\0\0\0\0\0"),
    "icmpv6 redirect": bytes(IPv6(**V6) / ICMPv6ND_Redirect()),
    "icmpv6 error behind options": bytes(IPv6(**V6) / IPv6ExtHdrDestOpt() / ICMPv6DestUnreach() / bytes(40)),
    "icmpv6 without a type": bytes(IPv6(**V6, nh=58)),
    **{f"icmp error {kind}": bytes(IP(**V4) / ICMP(type=kind) / bytes(28)) for kind in (3, 4, 5, 11, 12)},
    "icmp without a type": bytes(IP(**V4, proto=1)),
}


@pytest.mark.parametrize("name", UNANSWERED)
def test_packet_that_must_not_be_answered_gets_nothing(name: str) -> None:
    original = UNANSWERED[name]
    source = ROUTER_V6 if original[:1] == b"\x60" else ROUTER_V4
    assert packet_too_big(original, 1280, source) is None
    assert destination_unreachable(original, Unreachable.PROHIBITED, source) is None
    assert time_exceeded(original, source) is None
    assert echo_reply(original) is None
    assert tcp_reset(original) is None


def test_first_fragment_and_echo_are_answered_with_errors() -> None:
    first_v4 = original_v4(flags="MF")
    first_v6 = bytes(IPv6(**V6) / IPv6ExtHdrFragment(offset=0, m=1, nh=17) / bytes(16))
    echo = bytes(IPv6(**V6) / ICMPv6EchoRequest())
    assert time_exceeded(first_v4, ROUTER_V4) is not None
    assert time_exceeded(first_v6, ROUTER_V6) is not None
    assert time_exceeded(echo, ROUTER_V6) is not None


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=1500))
def test_echo_reply_equals_scapy(ident: int, seq: int, data: bytes) -> None:
    request = bytes(IPv6(**V6) / ICMPv6EchoRequest(id=ident, seq=seq, data=data))
    reply = bytes(IPv6(src=V6["dst"], dst=V6["src"]) / ICMPv6EchoReply(id=ident, seq=seq, data=data))
    assert echo_reply(request) == reply
    request = bytes(IP(**V4) / ICMP(type=8, id=ident, seq=seq) / data)
    reply = bytes(IP(src=V4["dst"], dst=V4["src"], id=0, flags="DF") / ICMP(type=0, id=ident, seq=seq) / data)
    assert echo_reply(request) == reply


def test_icmp_message_whose_sum_is_zero_still_verifies() -> None:
    reply = echo_reply(bytes(IP(**V4) / ICMP(type=8, id=0, seq=0)))
    assert reply is not None
    assert reply[22:24] == b"\xff\xff"
    assert verify(reply, 20, 1)
    assert verify_ipv4_header(reply)


@pytest.mark.parametrize(
    "request_",
    [
        bytes(IPv6(**V6) / ICMPv6EchoReply()),
        bytes(IPv6(**V6) / ICMPv6EchoRequest(code=1)),
        bytes(IPv6(**V6) / IPv6ExtHdrFragment(m=1) / ICMPv6EchoRequest(data=bytes(16))),
        bytes(IPv6(**V6) / IPv6ExtHdrRouting(addresses=["fc00::1"], segleft=1) / ICMPv6EchoRequest()),
        bytes(IPv6(**V6, nh=58) / b"\x80\0\0\0"),
        bytes(IP(**V4) / ICMP(type=0)),
        bytes(IP(**V4, proto=58) / b"\x80\0\0\0\0\0\0\0"),
        original_v4(),
    ],
    ids=["reply", "code", "fragment", "routed on", "short", "ipv4 reply", "icmpv6 in ipv4", "udp"],
)
def test_what_is_no_whole_echo_request_gets_no_echo_reply(request_: bytes) -> None:
    assert echo_reply(request_) is None


@pytest.mark.parametrize(
    ("segment", "payload", "expected"),
    [
        ({"flags": "S", "seq": 0xFFFFFFFF}, b"", {"seq": 0, "ack": 0, "flags": "RA"}),
        ({"flags": "SF", "seq": 5}, b"", {"seq": 0, "ack": 7, "flags": "RA"}),
        ({"flags": "S", "seq": 5, "options": [("MSS", 1220)]}, b"xyz", {"seq": 0, "ack": 9, "flags": "RA"}),
        ({"flags": "A", "seq": 5, "ack": 1234}, b"xyz", {"seq": 1234, "ack": 0, "flags": "R"}),
        ({"flags": "SA", "seq": 5, "ack": 77}, b"", {"seq": 77, "ack": 0, "flags": "R"}),
    ],
    ids=["syn", "syn fin", "syn with data", "ack", "syn ack"],
)
def test_tcp_reset_equals_scapy(segment: dict[str, object], payload: bytes, expected: dict[str, object]) -> None:
    reset = TCP(sport=80, dport=5555, window=0, **expected)
    over_v6 = tcp_reset(bytes(IPv6(**V6) / TCP(sport=5555, dport=80, **segment) / payload))
    assert over_v6 == bytes(IPv6(src=V6["dst"], dst=V6["src"]) / reset)
    original = bytes(IP(**V4, options=[IPOption_NOP()] * 4) / TCP(sport=5555, dport=80, **segment) / payload)
    assert tcp_reset(original) == bytes(IP(src=V4["dst"], dst=V4["src"], id=0, flags="DF") / reset)


@pytest.mark.parametrize(
    "segment",
    [
        bytes(IPv6(**V6) / TCP(flags="R")),
        bytes(IPv6(**V6) / TCP(flags="RA")),
        bytes(IPv6(**V6) / TCP(flags="S", dataofs=4)),
        bytes(IPv6(**V6, nh=6) / bytes(19)),
        bytes(IP(**V4, flags="MF") / TCP(flags="S")),
        original_v6(),
    ],
    ids=["rst", "rst ack", "data offset", "short", "fragment", "udp"],
)
def test_reset_and_what_is_no_whole_segment_get_no_reset(segment: bytes) -> None:
    assert tcp_reset(segment) is None


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x60\0\0\0\0", b"\x45\0\0"]))
def test_random_bytes_never_raise(data: bytes, head: bytes) -> None:
    packet = head + data
    source = ROUTER_V6 if packet[:1] >= b"\x60" else ROUTER_V4
    for answer in (packet_too_big(packet, 1280, source), time_exceeded(packet, source)):
        assert answer is None or len(answer) <= 1280
    for answer in (echo_reply(packet), tcp_reset(packet)):
        assert answer is None or len(answer) <= len(packet) + 20
