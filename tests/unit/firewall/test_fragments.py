"""Fragments: the first is judged by its ports, the others by the first."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment

from tests.unit.firewall.packets import HERE_V4, HERE_V6, OTHER_V6, PEER_V4, PEER_V6, S, echo_in, tcp_in, udp_in
from weft.firewall import Firewall, Rule, Verdict
from weft.firewall.fragments import MAX_PACKETS, Fragments
from weft.firewall.judge import ADOPTION_NS

ACCEPT, REJECT, DROP = Verdict.ACCEPT, Verdict.REJECT, Verdict.DROP
NOW = 10**15
BOTH = pytest.mark.parametrize("v4", [False, True], ids=["ipv6", "ipv4"])


def firewall(*rules: Rule) -> Firewall:
    made = Firewall(rules)
    made.expire(NOW - ADOPTION_NS)
    return made


def part(
    data: bytes, offset: int, *, more: bool, v4: bool = False, ident: int = 7, protocol: int = 17, src: str = ""
) -> bytes:
    """A fragment from the peer; `offset` in bytes."""
    if v4:
        head = IP(src=src or PEER_V4, dst=HERE_V4, proto=protocol, id=ident, frag=offset // 8, flags="MF" * more)
        return bytes(head / data)
    head = IPv6(src=src or PEER_V6, dst=HERE_V6)
    return bytes(head / IPv6ExtHdrFragment(nh=protocol, id=ident, offset=offset // 8, m=int(more)) / data)


DATAGRAM = bytes(UDP(sport=4000, dport=53, len=2000)) + bytes(1992)
SEGMENT = bytes(TCP(sport=4000, dport=80, flags="S")) + bytes(60)


@BOTH
def test_later_fragments_follow_the_first(v4: bool) -> None:
    wall = firewall(Rule("udp", 53))
    assert wall.inbound(part(DATAGRAM[:1000], 0, more=True, v4=v4), NOW) is ACCEPT
    assert wall.inbound(part(DATAGRAM[1000:1800], 1000, more=True, v4=v4), NOW) is ACCEPT
    assert wall.inbound(part(DATAGRAM[1800:], 1800, more=False, v4=v4), NOW + 30 * S - 1) is ACCEPT
    assert not wall.drops


@BOTH
def test_later_fragment_without_a_first_is_dropped(v4: bool) -> None:
    wall = firewall(Rule("udp"), Rule("tcp"), Rule("icmp"))
    assert wall.inbound(part(DATAGRAM[1000:], 1000, more=False, v4=v4), NOW) is DROP
    wall.inbound(part(DATAGRAM[:1000], 0, more=True, v4=v4), NOW)
    assert wall.inbound(part(DATAGRAM[1000:], 1000, more=False, v4=v4, ident=8), NOW) is DROP
    other = "10.0.0.3" if v4 else OTHER_V6
    assert wall.inbound(part(DATAGRAM[1000:], 1000, more=False, v4=v4, src=other), NOW) is DROP
    assert wall.inbound(part(DATAGRAM[1000:], 1000, more=False, v4=v4), NOW + 30 * S) is DROP
    assert wall.drops == {"fragment": 4}


def test_protocol_is_part_of_an_ipv4_fragment_and_ignored_in_a_later_ipv6_one() -> None:
    wall = firewall(Rule("udp"))
    for v4, verdict in ((True, DROP), (False, ACCEPT)):
        assert wall.inbound(part(DATAGRAM[:1000], 0, more=True, v4=v4), NOW) is ACCEPT
        assert wall.inbound(part(DATAGRAM[1000:], 1000, more=False, v4=v4, protocol=6), NOW) is verdict


@BOTH
def test_first_fragment_is_judged_by_its_ports(v4: bool) -> None:
    wall = firewall(Rule("udp", 54), Rule("tcp", 81))
    assert wall.inbound(part(DATAGRAM[:1000], 0, more=True, v4=v4), NOW) is REJECT
    assert wall.inbound(part(DATAGRAM[1000:], 1000, more=False, v4=v4), NOW) is DROP
    assert wall.inbound(part(SEGMENT[:40], 0, more=True, v4=v4, protocol=6), NOW) is REJECT
    assert wall.rejection(part(SEGMENT[:40], 0, more=True, v4=v4, protocol=6), NOW) is None
    assert wall.rejection(part(DATAGRAM[:1000], 0, more=True, v4=v4), NOW) is not None


@BOTH
def test_first_fragment_too_small_for_the_transport_header_is_malformed(v4: bool) -> None:
    wall = firewall(Rule("udp"), Rule("tcp"), Rule("icmp"))
    for data, protocol in ((SEGMENT[:8], 6), (SEGMENT[:16], 6), (DATAGRAM[:0], 17), (b"", 1 if v4 else 58)):
        assert wall.inbound(part(data, 0, more=True, v4=v4, protocol=protocol), NOW) is DROP
    assert wall.drops == {"malformed": 4}


@BOTH
@pytest.mark.parametrize(("offset", "verdict"), [(8, DROP), (16, DROP), (24, ACCEPT)])
def test_fragment_that_would_overwrite_the_tcp_header_is_dropped(v4: bool, offset: int, verdict: Verdict) -> None:
    wall = firewall(Rule("tcp", 80))
    assert wall.inbound(part(SEGMENT[:40], 0, more=True, v4=v4, protocol=6), NOW) is ACCEPT
    assert wall.inbound(part(bytes(40), offset, more=False, v4=v4, protocol=6), NOW) is verdict


def test_fragment_that_would_overwrite_headers_fragmented_along_is_dropped() -> None:
    wall = firewall(Rule("udp", 53))
    options = bytes(IPv6ExtHdrDestOpt(nh=17)) + DATAGRAM[:80]
    assert wall.inbound(part(options, 0, more=True, protocol=60), NOW) is ACCEPT
    assert wall.inbound(part(bytes(80), 8, more=True, protocol=60), NOW) is DROP
    assert wall.inbound(part(bytes(80), 16, more=True, protocol=60), NOW) is ACCEPT


def test_second_first_fragment_does_not_lower_the_guard() -> None:
    wall = firewall(Rule("tcp", 80), Rule("udp", 53))
    assert wall.inbound(part(SEGMENT[:40], 0, more=True, protocol=6), NOW) is ACCEPT
    assert wall.inbound(part(DATAGRAM[:80], 0, more=True, protocol=17), NOW) is ACCEPT
    assert wall.inbound(part(bytes(40), 8, more=False, protocol=6), NOW) is DROP


def test_first_fragment_that_is_rejected_after_one_that_was_accepted_does_not_come_in() -> None:
    wall = firewall(Rule("udp", 53))
    assert wall.inbound(part(DATAGRAM[:80], 0, more=True), NOW) is ACCEPT
    other_port = bytes(UDP(sport=4000, dport=54, len=2000)) + bytes(72)
    assert wall.inbound(part(other_port, 0, more=True), NOW) is REJECT


def test_fragments_of_a_reply_come_in() -> None:
    wall = firewall()
    request = bytes(IPv6(src=HERE_V6, dst=PEER_V6) / UDP(sport=53, dport=4000) / b"?")
    assert wall.outbound(request, NOW)
    assert wall.inbound(part(DATAGRAM[:1000], 0, more=True), NOW) is ACCEPT
    assert wall.inbound(part(DATAGRAM[1000:], 1000, more=False), NOW) is ACCEPT


def test_fragments_that_leave_open_a_flow_by_the_first() -> None:
    wall = firewall()
    first = bytes(IP(src=HERE_V4, dst=PEER_V4, id=7, flags="MF") / UDP(sport=40000, dport=53, len=2000) / bytes(1000))
    later = bytes(IP(src=HERE_V4, dst=PEER_V4, id=7, frag=126, proto=17) / bytes(992))
    assert wall.outbound(later, NOW)
    assert wall.flows == 0
    assert wall.outbound(first, NOW)
    assert wall.inbound(udp_in(v4=True), NOW) is ACCEPT


@BOTH
def test_fragmented_echo_request_comes_in_by_rule(v4: bool) -> None:
    message = echo_in(v4=v4)[20 if v4 else 40 :] + bytes(100)
    wall = firewall(Rule("icmp"))
    protocol = 1 if v4 else 58
    assert wall.inbound(part(message[:64], 0, more=True, v4=v4, protocol=protocol), NOW) is ACCEPT
    assert wall.inbound(part(message[64:], 64, more=False, v4=v4, protocol=protocol), NOW) is ACCEPT


def test_lone_fragment_is_a_whole_packet() -> None:
    wall = firewall(Rule("tcp", 80))
    assert wall.inbound(part(SEGMENT, 0, more=False, protocol=6), NOW) is ACCEPT
    assert wall.inbound(part(bytes(80), 80, more=False, protocol=6), NOW) is DROP


def test_fragment_within_a_flow_is_not_taken_for_a_whole_packet() -> None:
    wall = firewall(Rule("udp", 40000))
    wall.inbound(udp_in(v4=True), NOW)
    later = bytes(IP(src=PEER_V4, dst=HERE_V4, id=9, frag=1) / UDP(sport=53, dport=40000) / b"data")
    assert wall.inbound(later, NOW) is DROP
    assert wall.drops == {"fragment": 1}


def test_icmp_error_in_a_fragment_is_judged_by_what_it_quotes() -> None:
    wall = firewall()
    message = bytes(ICMP(type=3, code=3)) + bytes(IP(src=HERE_V4, dst=PEER_V4) / UDP(sport=40000, dport=53))
    assert wall.inbound(part(message, 0, more=True, v4=True, protocol=1), NOW) is DROP
    assert wall.inbound(tcp_in("A", v4=True), NOW) is DROP
    assert wall.drops == {"no_flow": 2}


def test_firewall_forgets_fragmented_packets_when_their_time_is_over() -> None:
    wall = firewall(Rule("icmp"))
    assert wall.inbound(part(echo_in()[40:], 0, more=True, protocol=58), NOW) is ACCEPT
    assert wall.next_timer() == NOW + 30 * S
    wall.expire(NOW + 30 * S)
    assert wall.next_timer() is None


def test_packets_remembered_are_bounded_and_forgotten() -> None:
    table = Fragments()
    for n in range(MAX_PACKETS + 10):
        table.open((b"a", b"b", 17, n, None), 8, NOW + n)
    assert not table.allows((b"a", b"b", 17, 9, None), 8, NOW)
    assert table.allows((b"a", b"b", 17, 10, None), 8, NOW)
    assert table.next_timer() == NOW + 10 + 30 * S
    table.expire(NOW + 10 + 30 * S)
    assert table.next_timer() == NOW + 11 + 30 * S
    table.expire(NOW + 60 * S)
    assert table.next_timer() is None
