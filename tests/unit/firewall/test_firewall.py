"""What comes in and what does not, protocol by protocol."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)

from tests.unit.firewall.packets import (
    HERE_V4,
    HERE_V6,
    OTHER_V6,
    PEER_V4,
    PEER_V6,
    S,
    arriving,
    echo_in,
    echo_out,
    leaving,
    tcp_in,
    tcp_out,
    udp_in,
    udp_out,
)
from weft.errors import UsageError
from weft.firewall import Firewall, Rule, Verdict
from weft.firewall.judge import ADOPTION_NS
from weft.packet.answers import Unreachable, destination_unreachable, tcp_reset

ACCEPT, REJECT, DROP = Verdict.ACCEPT, Verdict.REJECT, Verdict.DROP
NOW = 10**15
BOTH = pytest.mark.parametrize("v4", [False, True], ids=["ipv6", "ipv4"])


def firewall(*rules: Rule, **options: object) -> Firewall:
    """A firewall that has been there for longer than it adopts connections."""
    made = Firewall(rules, **options)
    made.expire(NOW - ADOPTION_NS)
    return made


def connected(*rules: Rule, v4: bool = False) -> Firewall:
    """A firewall with one established connection, from port 40000 here to port 443 of the peer."""
    made = firewall(*rules)
    assert made.outbound(tcp_out("S", v4=v4), NOW)
    assert made.inbound(tcp_in("SA", v4=v4), NOW) is ACCEPT
    assert made.outbound(tcp_out("A", v4=v4), NOW)
    return made


# TCP


@BOTH
def test_connection_from_here_is_let_in_and_out(v4: bool) -> None:
    wall = connected(v4=v4)
    assert wall.inbound(tcp_in("PA", payload=b"x" * 60000, v4=v4), NOW) is ACCEPT
    assert wall.outbound(tcp_out("PA", payload=b"x" * 60000, v4=v4), NOW)
    assert wall.flows == 1
    assert not wall.drops


@BOTH
def test_syn_to_a_port_that_is_not_allowed_is_rejected(v4: bool) -> None:
    wall = firewall(Rule("tcp", 80), Rule("udp", 22))
    assert wall.inbound(tcp_in("S", here=22, v4=v4), NOW) is REJECT
    assert wall.drops == {"not_allowed": 1}
    assert wall.flows == 0


@BOTH
@pytest.mark.parametrize("rule", [Rule("tcp", 22), Rule("tcp")])
def test_syn_to_an_allowed_port_opens_a_connection(rule: Rule, v4: bool) -> None:
    wall = firewall(rule)
    assert wall.inbound(tcp_in("S", here=22, v4=v4), NOW) is ACCEPT
    assert wall.outbound(tcp_out("SA", here=22, v4=v4), NOW)
    assert wall.inbound(tcp_in("A", here=22, v4=v4), NOW) is ACCEPT
    assert wall.flows == 1
    assert wall.inbound(tcp_in("A", here=22, v4=v4), NOW + 7439 * S) is ACCEPT


@pytest.mark.parametrize("flags", ["A", "PA", "SA", "FA", "R", "RA", "F", "P", ""])
def test_tcp_without_syn_and_without_flow_is_dropped_in_silence(flags: str) -> None:
    wall = firewall(Rule("tcp", 80))
    assert wall.inbound(tcp_in(flags), NOW) is DROP
    assert wall.drops == {"no_flow": 1}
    assert wall.flows == 0


def test_connection_goes_on_after_a_restart_when_this_side_sends_first() -> None:
    wall = firewall()
    assert wall.inbound(tcp_in("A"), NOW) is DROP
    assert wall.outbound(tcp_out("PA"), NOW)
    assert wall.inbound(tcp_in("A"), NOW) is ACCEPT


def test_connection_to_an_allowed_port_goes_on_after_a_restart() -> None:
    wall = firewall(Rule("tcp", 80))
    assert wall.inbound(tcp_in("PA", here=80), NOW) is ACCEPT
    assert wall.flows == 1
    assert wall.inbound(tcp_in("R", here=80, peer=1000), NOW) is ACCEPT
    assert wall.flows == 1


def test_connection_of_a_program_that_only_receives_is_adopted_after_a_restart() -> None:
    wall = Firewall([])
    wall.expire(NOW)
    assert wall.inbound(tcp_in("PA"), NOW + 59 * S) is ACCEPT
    assert wall.outbound(tcp_out("A"), NOW + 59 * S)
    assert wall.inbound(tcp_in("PA"), NOW + 61 * S) is ACCEPT
    assert wall.inbound(tcp_in("PA", here=40001), NOW + 61 * S) is DROP


@pytest.mark.parametrize("flags", ["R", "RA", "F", ""])
def test_tcp_without_ack_or_with_reset_is_not_adopted(flags: str) -> None:
    wall = Firewall([])
    assert wall.inbound(tcp_in(flags), NOW) is DROP


def test_connection_can_not_be_begun_while_connections_are_adopted() -> None:
    wall = Firewall([])
    assert wall.inbound(tcp_in("S", here=22), NOW) is REJECT
    assert wall.inbound(tcp_in("A", here=22), NOW) is ACCEPT
    assert wall.inbound(tcp_in("S", here=22), NOW) is REJECT
    assert wall.outbound(tcp_out("R", here=22), NOW)
    assert wall.inbound(tcp_in("S", here=22), NOW) is REJECT


def test_datagrams_are_dropped_in_silence_while_connections_are_adopted() -> None:
    wall = Firewall([])
    assert wall.inbound(udp_in(), NOW) is DROP
    assert wall.inbound(arriving(b"data", nh=132), NOW) is DROP
    assert wall.inbound(echo_in(), NOW) is REJECT
    assert wall.inbound(udp_in(), NOW + ADOPTION_NS) is REJECT


def test_reset_that_leaves_opens_no_flow() -> None:
    wall = firewall()
    assert wall.outbound(tcp_out("RA"), NOW)
    assert wall.flows == 0


@pytest.mark.parametrize("flags", ["SF", "SR", "SFA", "SRA"])
def test_impossible_flags_do_not_pass(flags: str) -> None:
    wall = connected(Rule("tcp"))
    assert wall.inbound(tcp_in(flags), NOW) is DROP
    assert not wall.outbound(tcp_out(flags), NOW)
    assert wall.drops == {"tcp_flags": 1, "outbound_tcp_flags": 1}


def test_each_packet_renews_a_connection_that_is_not_established() -> None:
    wall = firewall()
    for seconds in (0, 200):
        assert wall.outbound(tcp_out("S"), NOW + seconds * S)
    for seconds in (439, 678):
        assert wall.inbound(tcp_in("SA"), NOW + seconds * S) is ACCEPT
    assert wall.inbound(tcp_in("SA"), NOW + 918 * S) is DROP


def test_connection_is_established_only_when_both_sides_have_sent() -> None:
    wall = firewall()
    for flags in ("S", "A", "PA"):
        assert wall.outbound(tcp_out(flags), NOW)
    assert wall.inbound(tcp_in("A"), NOW + 240 * S) is DROP
    wall = firewall(Rule("tcp", 40000))
    for flags in ("S", "A", "PA"):
        assert wall.inbound(tcp_in(flags), NOW) is ACCEPT
    wall.expire(NOW + 240 * S)
    assert wall.flows == 0


@pytest.mark.parametrize("first", ["out", "in", "expire"])
def test_adoption_begins_with_the_first_thing_that_happens(first: str) -> None:
    wall = Firewall([])
    if first == "out":
        wall.outbound(udp_out(), NOW)
    elif first == "in":
        wall.inbound(udp_in(), NOW)
    else:
        wall.expire(NOW)
    assert wall.inbound(tcp_in("A", here=1), NOW + ADOPTION_NS - 1) is ACCEPT
    assert wall.inbound(tcp_in("A", here=2), NOW + ADOPTION_NS) is DROP


def test_both_sides_may_open_at_once() -> None:
    wall = firewall()
    assert wall.outbound(tcp_out("S"), NOW)
    assert wall.inbound(tcp_in("S"), NOW) is ACCEPT
    assert wall.outbound(tcp_out("SA"), NOW)
    assert wall.inbound(tcp_in("SA"), NOW) is ACCEPT
    assert wall.outbound(tcp_out("A"), NOW)
    assert wall.inbound(tcp_in("PA"), NOW + 7439 * S) is ACCEPT


@pytest.mark.parametrize("end", [[], ["FA"], ["RA"]], ids=["established", "closing", "closed"])
def test_syn_on_a_connection_from_here_is_judged_by_the_rules(end: list[str]) -> None:
    denied, allowed = connected(), connected(Rule("tcp", 40000))
    for wall, verdict in ((denied, REJECT), (allowed, ACCEPT)):
        for flags in end:
            wall.outbound(tcp_out(flags), NOW)
        assert wall.inbound(tcp_in("S"), NOW) is verdict
        assert wall.flows == 1


@pytest.mark.parametrize(
    ("packets", "idle_s"),
    [
        (["out S"], 240),
        (["out S", "in SA"], 240),
        (["out S", "in SA", "out A"], 7440),
        (["out S", "in SA", "out A", "out FA"], 240),
        (["out S", "in SA", "out A", "in FA"], 240),
        (["out S", "in SA", "out A", "in FA", "out FA"], 60),
        (["out S", "in SA", "out A", "out RA"], 60),
        (["out S", "in RA"], 60),
    ],
    ids=["syn", "syn ack", "established", "closing", "closing by peer", "closed", "reset", "refused"],
)
def test_connection_times_out_by_its_state(packets: list[str], idle_s: int) -> None:
    for late, verdict in ((-1, ACCEPT), (0, DROP)):
        wall = firewall()
        for packet in packets:
            direction, flags = packet.split()
            if direction == "out":
                assert wall.outbound(tcp_out(flags), NOW)
            else:
                assert wall.inbound(tcp_in(flags), NOW) is ACCEPT
        assert wall.inbound(tcp_in("A"), NOW + idle_s * S + late) is verdict


def test_reset_closes_a_connection_whichever_side_sends_it() -> None:
    for reset in ("in", "out"):
        wall = connected()
        if reset == "in":
            assert wall.inbound(tcp_in("RA"), NOW) is ACCEPT
        else:
            assert wall.outbound(tcp_out("RA"), NOW)
        assert wall.inbound(tcp_in("A"), NOW + 60 * S) is DROP


def test_connection_that_is_used_lives_on() -> None:
    wall = connected()
    for minutes in range(0, 60 * 24, 120):
        assert wall.inbound(tcp_in("A"), NOW + minutes * 60 * S) is ACCEPT
        wall.expire(NOW + minutes * 60 * S)


def test_same_ports_can_be_connected_again_after_the_end() -> None:
    wall = connected()
    wall.outbound(tcp_out("FA"), NOW)
    wall.inbound(tcp_in("FA"), NOW)
    wall.outbound(tcp_out("S"), NOW + S)
    assert wall.inbound(tcp_in("SA"), NOW + 100 * S) is ACCEPT
    assert wall.flows == 1


def test_half_closed_connection_still_carries_data() -> None:
    wall = connected()
    wall.outbound(tcp_out("FA"), NOW)
    assert wall.inbound(tcp_in("PA", payload=b"data"), NOW + 200 * S) is ACCEPT
    assert wall.inbound(tcp_in("PA", payload=b"data"), NOW + 400 * S) is ACCEPT


# UDP and others


@BOTH
def test_answer_to_a_datagram_comes_in_and_others_do_not(v4: bool) -> None:
    wall = firewall()
    assert wall.inbound(udp_in(v4=v4), NOW) is REJECT
    assert wall.outbound(udp_out(v4=v4), NOW)
    assert wall.inbound(udp_in(v4=v4), NOW) is ACCEPT
    assert wall.inbound(udp_in(here=40001, v4=v4), NOW) is REJECT
    assert wall.inbound(udp_in(peer=54, v4=v4), NOW) is REJECT
    assert wall.drops == {"not_allowed": 3}


@BOTH
def test_datagram_to_an_allowed_port_comes_in(v4: bool) -> None:
    wall = firewall(Rule("udp", 53), Rule("tcp", 54))
    assert wall.inbound(udp_in(here=53, peer=40000, v4=v4), NOW) is ACCEPT
    assert wall.inbound(udp_in(here=54, peer=40000, v4=v4), NOW) is REJECT
    assert wall.outbound(udp_out(here=53, peer=40000, v4=v4), NOW)
    assert wall.flows == 1


def test_unanswered_datagram_is_remembered_30_s_and_answered_ones_5_min() -> None:
    wall = firewall()
    wall.outbound(udp_out(), NOW)
    assert wall.inbound(udp_in(), NOW + 30 * S) is REJECT
    wall.outbound(udp_out(), NOW)
    assert wall.inbound(udp_in(), NOW + 30 * S - 1) is ACCEPT
    assert wall.inbound(udp_in(), NOW + 329 * S) is ACCEPT
    assert wall.inbound(udp_in(), NOW + 629 * S) is REJECT


def test_each_packet_renews_a_flow_however_it_is_read() -> None:
    wall = firewall()
    hidden_out = leaving(IPv6ExtHdrDestOpt(), UDP(sport=40000, dport=53))
    hidden_in = arriving(IPv6ExtHdrDestOpt(), UDP(sport=53, dport=40000))
    for seconds in (0, 20, 40):
        assert wall.outbound(hidden_out, NOW + seconds * S)
    for seconds in (60, 300, 590, 880):
        assert wall.inbound(hidden_in, NOW + seconds * S) is ACCEPT
    assert wall.outbound(hidden_out, NOW + 1100 * S)
    assert wall.inbound(udp_in(), NOW + 1390 * S) is ACCEPT


def test_each_request_renews_an_echo() -> None:
    wall = firewall()
    for seconds in (0, 20, 40):
        assert wall.outbound(echo_out(), NOW + seconds * S)
    assert wall.inbound(echo_in(reply=True), NOW + 69 * S) is ACCEPT


def test_tcp_and_udp_of_the_same_ports_are_not_mixed_up() -> None:
    wall = firewall()
    wall.outbound(udp_out(here=40000, peer=443), NOW)
    assert wall.inbound(tcp_in("A"), NOW) is DROP
    wall = connected()
    assert wall.inbound(udp_in(here=40000, peer=443), NOW) is REJECT


def test_address_of_another_peer_is_not_of_the_flow() -> None:
    wall = connected()
    other = bytes(IPv6(src=OTHER_V6, dst=HERE_V6) / TCP(sport=443, dport=40000, flags="A"))
    assert wall.inbound(other, NOW) is DROP


@BOTH
def test_unknown_protocol_comes_in_only_as_a_reply(v4: bool) -> None:
    fields = {"proto": 132} if v4 else {"nh": 132}
    wall = firewall(Rule("tcp"), Rule("udp"), Rule("icmp"))
    assert wall.inbound(arriving(b"data", v4=v4, **fields), NOW) is REJECT
    assert wall.outbound(leaving(b"data", v4=v4, **fields), NOW)
    assert wall.inbound(arriving(b"data", v4=v4, **fields), NOW) is ACCEPT
    assert wall.inbound(arriving(b"data", v4=v4, **dict.fromkeys(fields, 133)), NOW) is REJECT


@pytest.mark.parametrize(("v4", "number"), [(False, 1), (True, 58)])
def test_icmp_of_the_other_ip_version_is_an_unknown_protocol(v4: bool, number: int) -> None:
    fields = {"proto": number} if v4 else {"nh": number}
    wall = firewall(Rule("icmp"))
    for kind in (b"\x80", b"\x08"):
        assert wall.inbound(arriving(kind + bytes(7), v4=v4, **fields), NOW) is REJECT


# ICMP


@BOTH
def test_echo_request_needs_a_rule(v4: bool) -> None:
    assert firewall(Rule("tcp"), Rule("udp")).inbound(echo_in(v4=v4), NOW) is REJECT
    wall = firewall(Rule("icmp"))
    assert wall.inbound(echo_in(v4=v4), NOW) is ACCEPT
    assert wall.outbound(echo_out(reply=True, v4=v4), NOW)
    assert wall.flows == 0


@BOTH
def test_echo_reply_needs_a_request(v4: bool) -> None:
    wall = firewall(Rule("icmp"))
    assert wall.inbound(echo_in(reply=True, v4=v4), NOW) is DROP
    assert wall.outbound(echo_out(ident=7, v4=v4), NOW)
    assert wall.inbound(echo_in(ident=8, reply=True, v4=v4), NOW) is DROP
    assert wall.inbound(echo_in(ident=7, reply=True, v4=v4), NOW + 29 * S) is ACCEPT
    assert wall.inbound(echo_in(ident=7, reply=True, v4=v4), NOW + 30 * S) is DROP


ERRORS = {
    "icmpv6 unreachable": (False, ICMPv6DestUnreach(code=4)),
    "icmpv6 too big": (False, ICMPv6PacketTooBig(mtu=1280)),
    "icmpv6 time exceeded": (False, ICMPv6TimeExceeded()),
    "icmpv6 parameter problem": (False, ICMPv6ParamProblem()),
    "icmp unreachable": (True, ICMP(type=3, code=3)),
    "icmp fragmentation needed": (True, ICMP(type=3, code=4, nexthopmtu=1280)),
    "icmp time exceeded": (True, ICMP(type=11)),
    "icmp parameter problem": (True, ICMP(type=12)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_icmp_error_comes_in_only_if_it_quotes_a_flow(name: str) -> None:
    v4, error = ERRORS[name]
    wall = connected(Rule("icmp"), Rule("tcp"), Rule("udp"), v4=v4)
    wall.outbound(echo_out(v4=v4), NOW)
    wall.outbound(udp_out(v4=v4), NOW)
    header = 20 if v4 else 40
    for sent in (tcp_out("A", payload=bytes(2000), v4=v4), udp_out(v4=v4), echo_out(v4=v4)):
        assert wall.inbound(arriving(error, sent[:500], v4=v4), NOW) is ACCEPT
        assert wall.inbound(arriving(error, sent[: header + 8], v4=v4), NOW) is ACCEPT
    flows = wall.flows
    for unknown in (
        tcp_out("A", here=1, v4=v4),
        tcp_in("A", v4=v4),
        udp_out(peer=40001, v4=v4),
        echo_out(ident=9, v4=v4),
    ):
        assert wall.inbound(arriving(error, unknown, v4=v4), NOW) is DROP
    assert wall.drops == {"no_flow": 4}
    for cut in (tcp_out("A", v4=v4)[: header + 3], tcp_out("A", v4=v4)[: header - 1], b""):
        assert wall.inbound(arriving(error, cut, v4=v4), NOW) is DROP
    assert wall.drops["malformed"] == 3
    assert wall.flows == flows


def test_icmp_error_from_a_router_on_the_way_comes_in() -> None:
    wall = connected()
    error = bytes(IPv6(src=OTHER_V6, dst=HERE_V6) / ICMPv6TimeExceeded() / tcp_out("A"))
    assert wall.inbound(error, NOW) is ACCEPT


def test_icmp_error_to_another_address_than_the_sender_of_the_quoted_packet_is_dropped() -> None:
    wall = connected()
    error = bytes(IPv6(src=PEER_V6, dst=OTHER_V6) / ICMPv6TimeExceeded() / tcp_out("A"))
    assert wall.inbound(error, NOW) is DROP


def test_icmp_error_that_quotes_a_packet_of_the_other_version_is_dropped() -> None:
    wall = connected(v4=True)
    assert wall.inbound(arriving(ICMPv6TimeExceeded(), tcp_out("A", v4=True)), NOW) is DROP


def test_icmp_error_that_quotes_a_later_fragment_is_dropped() -> None:
    wall = connected(v4=True)
    quoted = bytes(IP(src=HERE_V4, dst=PEER_V4, frag=100, proto=6) / tcp_out("A", v4=True)[20:])
    assert wall.inbound(arriving(ICMP(type=11), quoted, v4=True), NOW) is DROP


def test_icmp_error_does_not_keep_a_flow_alive() -> None:
    wall = firewall()
    wall.outbound(udp_out(), NOW)
    assert wall.inbound(arriving(ICMPv6DestUnreach(code=4), udp_out()), NOW + 29 * S) is ACCEPT
    assert wall.inbound(udp_in(), NOW + 30 * S) is REJECT


@pytest.mark.parametrize(
    "packet",
    [
        arriving(ICMPv6ND_NS(tgt=HERE_V6)),
        arriving(ICMPv6ND_RA()),
        arriving(ICMPv6ND_Redirect()),
        arriving(ICMPv6MLReport2()),
        arriving(ICMP(type=5, gw=PEER_V4), udp_out(v4=True), v4=True),
        arriving(ICMP(type=4), udp_out(v4=True), v4=True),
        arriving(ICMP(type=13), v4=True),
    ],
    ids=["neighbour solicitation", "router advertisement", "redirect", "mld", "icmp redirect", "quench", "timestamp"],
)
def test_icmp_that_has_no_business_here_is_dropped(packet: bytes) -> None:
    wall = firewall(Rule("icmp"), Rule("tcp"), Rule("udp"))
    wall.outbound(udp_out(v4=True), NOW)
    assert wall.inbound(packet, NOW) is DROP
    assert wall.drops == {"icmp": 1}


def test_neighbour_discovery_does_not_leave() -> None:
    wall = firewall()
    assert not wall.outbound(leaving(ICMPv6ND_NS(tgt=PEER_V6)), NOW)
    assert wall.drops == {"outbound_icmp": 1}


def test_icmp_error_leaves_and_opens_no_flow() -> None:
    wall = firewall(Rule("udp"))
    wall.inbound(udp_in(), NOW)
    assert wall.outbound(leaving(ICMPv6DestUnreach(code=4), udp_in()), NOW)
    assert wall.flows == 1


# Addresses, headers, lengths


@pytest.mark.parametrize(
    ("source", "destination"),
    [(PEER_V6, "ff02::1"), ("ff02::1", HERE_V6), ("::", HERE_V6), (PEER_V6, "::")],
)
def test_address_that_is_not_one_host_does_not_pass(source: str, destination: str) -> None:
    wall = firewall(Rule("udp"))
    packet = bytes(IPv6(src=source, dst=destination) / UDP(dport=53))
    assert wall.inbound(packet, NOW) is DROP
    assert not wall.outbound(packet, NOW)
    assert wall.drops == {"address": 1, "outbound_address": 1}


@pytest.mark.parametrize("destination", ["224.0.0.251", "255.255.255.255", "127.0.0.1", "0.0.0.0"])
def test_ipv4_address_that_is_not_one_host_does_not_pass(destination: str) -> None:
    wall = firewall(Rule("udp"))
    assert wall.inbound(bytes(IP(src=PEER_V4, dst=destination) / UDP(dport=53)), NOW) is DROP
    assert wall.drops == {"address": 1}


@pytest.mark.parametrize("packet", [tcp_in("A"), udp_in(), tcp_in("A", v4=True), udp_in(v4=True), echo_in(reply=True)])
def test_packet_whose_lengths_contradict_is_malformed_even_within_a_flow(packet: bytes) -> None:
    wall = connected(Rule("tcp"), Rule("udp"), Rule("icmp"))
    wall.outbound(tcp_out("A", v4=True), NOW)
    wall.inbound(tcp_in("A", v4=True), NOW)
    wall.outbound(tcp_out("A", v4=True), NOW)
    wall.outbound(udp_out(), NOW)
    wall.outbound(udp_out(v4=True), NOW)
    wall.outbound(echo_out(), NOW)
    cuts = [packet[:length] for length in range(len(packet))] + [packet + b"\0"]
    assert {wall.inbound(cut, NOW) for cut in cuts} == {DROP}
    assert wall.drops == {"malformed": len(cuts)}
    assert wall.inbound(packet, NOW) is ACCEPT


@pytest.mark.parametrize(("v4", "length"), [(False, 19), (False, 8), (True, 19), (True, 8)])
def test_tcp_header_that_is_cut_off_is_malformed_even_within_a_flow(v4: bool, length: int) -> None:
    wall = connected(Rule("tcp"), v4=v4)
    header = bytes(TCP(sport=443, dport=40000, flags="A"))[:length]
    packet = arriving(header, v4=v4, **({"proto": 6} if v4 else {"nh": 6}))
    assert wall.inbound(packet, NOW) is DROP
    assert wall.drops == {"malformed": 1}


def test_udp_header_that_is_cut_off_is_malformed_even_within_a_flow() -> None:
    wall = firewall(Rule("udp"))
    wall.outbound(udp_out(), NOW)
    assert wall.inbound(arriving(udp_in()[40:47], nh=17), NOW) is DROP
    assert wall.drops == {"malformed": 1}


def test_udp_length_beyond_the_packet_is_malformed() -> None:
    wall = firewall(Rule("udp"))
    assert wall.inbound(arriving(UDP(dport=53, len=13), b"data"), NOW) is DROP
    assert wall.drops == {"malformed": 1}


def test_malformed_packet_does_not_leave() -> None:
    wall = firewall()
    assert not wall.outbound(tcp_out("S")[:-1], NOW)
    assert not wall.outbound(b"", NOW)
    assert wall.drops == {"outbound_malformed": 2}
    assert wall.flows == 0


def test_extension_headers_do_not_hide_the_ports() -> None:
    options = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()
    wall = connected(Rule("tcp", 80))
    assert wall.inbound(arriving(options / TCP(sport=443, dport=40000, flags="A")), NOW) is ACCEPT
    assert wall.inbound(arriving(options / TCP(sport=443, dport=80, flags="S")), NOW) is ACCEPT
    assert wall.inbound(arriving(options / TCP(sport=443, dport=22, flags="S")), NOW) is REJECT
    assert wall.inbound(arriving(options / ICMPv6EchoRequest()), NOW) is REJECT


def test_longest_extension_header_does_not_move_the_ports() -> None:
    wall = firewall(Rule("tcp", 80))
    # Where a length kept in 8 bits overflows, 256 * 8 bytes count as none, and the allowed port would be seen.
    decoy = bytes([6, 255]) + bytes(TCP(dport=80, flags="S")).ljust(2046, b"\0")
    hidden = bytes(TCP(sport=443, dport=22, flags="S"))
    assert wall.inbound(arriving(decoy + hidden, nh=60), NOW) is REJECT


def test_chain_of_extension_headers_without_end_is_malformed() -> None:
    wall = firewall(Rule("tcp"))
    assert wall.inbound(arriving(bytes([60, 0, 0, 0, 0, 0, 0, 0]) * 7000, nh=60), NOW) is DROP
    assert wall.drops == {"malformed": 1}


def test_packet_that_is_to_be_routed_on_is_dropped() -> None:
    wall = firewall(Rule("udp"))
    for segments_left, verdict in ((1, DROP), (0, ACCEPT)):
        header = IPv6ExtHdrRouting(addresses=[OTHER_V6], segleft=segments_left)
        assert wall.inbound(arriving(header / UDP(dport=53)), NOW) is verdict
    assert wall.drops == {"routing": 1}


def test_ipv4_options_do_not_move_the_ports() -> None:
    wall = firewall(Rule("tcp", 80))
    with_options = bytearray(bytes(IP(src=PEER_V4, dst=HERE_V4) / TCP(dport=22, flags="S")))
    with_options[20:20] = bytes(TCP(sport=1, dport=80))[:4]
    with_options[0] = 0x46
    with_options[3] += 4
    assert wall.inbound(bytes(with_options), NOW) is REJECT


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_packet_may_be_any_buffer(kind: type) -> None:
    wall = firewall(Rule("icmp"))
    for flags in ("S", "A"):
        assert wall.outbound(kind(tcp_out(flags)), NOW)
        assert wall.inbound(kind(tcp_in("SA" if flags == "S" else "A")), NOW) is ACCEPT
    assert wall.inbound(kind(echo_in()), NOW) is ACCEPT
    assert wall.inbound(kind(arriving(ICMPv6TimeExceeded(), tcp_out("A"))), NOW) is ACCEPT
    assert wall.inbound(kind(tcp_in("S", here=22)), NOW) is REJECT
    assert wall.rejection(kind(tcp_in("S", here=22)), NOW) is not None


def test_buffer_that_is_used_again_does_not_change_what_is_remembered() -> None:
    wall = firewall()
    packet = bytearray(udp_out())
    wall.outbound(packet, NOW)
    packet[:] = bytes(len(packet))
    assert wall.inbound(udp_in(), NOW) is ACCEPT


# Rules that change


def test_allow_and_deny_change_what_comes_in() -> None:
    wall = firewall()
    wall.allow(Rule("tcp", 80))
    wall.allow(Rule("icmp"))
    assert wall.rules() == (Rule("tcp", 80), Rule("icmp"))
    assert wall.inbound(tcp_in("S", here=80), NOW) is ACCEPT
    wall.deny(Rule("tcp", 80))
    assert wall.rules() == (Rule("icmp"),)
    assert wall.inbound(tcp_in("S", here=80), NOW) is REJECT
    with pytest.raises(UsageError):
        wall.deny(Rule("tcp", 80))


def test_deny_stops_what_nobody_here_has_answered_and_not_what_is_open() -> None:
    wall = firewall(Rule("udp", 53), Rule("udp", 54))
    wall.inbound(udp_in(here=53), NOW)
    wall.inbound(udp_in(here=54), NOW)
    wall.outbound(udp_out(here=54), NOW)
    wall.deny(Rule("udp", 53))
    wall.deny(Rule("udp", 54))
    assert wall.inbound(udp_in(here=53), NOW) is REJECT
    assert wall.inbound(udp_in(here=54), NOW) is ACCEPT


def test_checksum_that_is_not_computed_does_not_matter() -> None:
    wall = firewall(Rule("tcp", 80), Rule("udp", 53))
    assert wall.inbound(arriving(TCP(dport=80, flags="S", chksum=1)), NOW) is ACCEPT
    assert wall.inbound(arriving(UDP(dport=53, chksum=1)), NOW) is ACCEPT


def test_firewall_that_drops_tells_nobody() -> None:
    wall = firewall(refuse="drop")
    for packet in (tcp_in("S"), udp_in(), echo_in(), arriving(b"data", nh=132)):
        assert wall.inbound(packet, NOW) is DROP
    assert wall.drops == {"not_allowed": 4}


@pytest.mark.parametrize("options", [{"refuse": "ignore"}, {"max_flows": 0}])
def test_option_that_there_is_not_raises_usage_error(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Firewall([], **options)


# Rejections


@BOTH
def test_rejection_is_what_a_host_without_that_port_would_send(v4: bool) -> None:
    wall = firewall()
    here = bytes([10, 0, 0, 1]) if v4 else udp_in()[24:40]
    assert wall.rejection(tcp_in("S", v4=v4), NOW) == tcp_reset(tcp_in("S", v4=v4))
    answer = destination_unreachable(udp_in(v4=v4), Unreachable.PORT, here)
    assert wall.rejection(udp_in(v4=v4), NOW) == answer
    answer = destination_unreachable(echo_in(v4=v4), Unreachable.PROHIBITED, here)
    assert wall.rejection(echo_in(v4=v4), NOW) == answer


def test_rejection_of_what_must_not_be_answered_is_nothing() -> None:
    wall = firewall()
    for packet in (b"", tcp_in("R"), udp_in()[:-1], arriving(ICMPv6DestUnreach(), udp_out())):
        assert wall.rejection(packet, NOW) is None
    assert not wall.drops


def test_rejections_are_limited_to_100_at_once_and_100_a_second() -> None:
    wall = firewall()
    assert sum(wall.rejection(udp_in(), NOW) is not None for _ in range(150)) == 100
    assert wall.drops == {"rejection_rate": 50}
    assert sum(wall.rejection(udp_in(), NOW + S // 2) is not None for _ in range(150)) == 50
    assert sum(wall.rejection(udp_in(), NOW + 60 * S) is not None for _ in range(150)) == 100


def test_rejection_opens_no_flow_when_it_goes_back() -> None:
    wall = firewall()
    for packet in (tcp_in("S"), udp_in()):
        answer = wall.rejection(packet, NOW)
        assert answer is not None
        assert wall.outbound(answer, NOW)
    assert wall.flows == 0
