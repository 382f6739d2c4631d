"""Who sends counts: rules for one peer, and flows that are the peer's that began them."""

import pytest
from scapy.layers.inet import IP, UDP

from tests.unit.firewall.packets import S, arriving, echo_in, tcp_in, tcp_out, udp_in, udp_out
from weft.firewall import Firewall, Rule, Verdict
from weft.firewall.judge import ADOPTION_NS

ACCEPT, REJECT, DROP = Verdict.ACCEPT, Verdict.REJECT, Verdict.DROP
NOW = 10**15
ALICE, CAROL = b"a" * 32, b"c" * 32
BOTH = pytest.mark.parametrize("v4", [False, True], ids=["IPv6", "IPv4"])


def firewall(*rules: Rule, max_flows: int = 65536) -> Firewall:
    made = Firewall(rules, max_flows=max_flows)
    made.expire(NOW - ADOPTION_NS)
    return made


@BOTH
def test_rule_for_one_peer_holds_for_nobody_else(v4: bool) -> None:
    wall = firewall(Rule("tcp", 22, ALICE), Rule("udp", 53, ALICE), Rule("icmp", 0, ALICE))
    for packet in (tcp_in("S", 22, 5, v4=v4), udp_in(53, 5, v4=v4), echo_in(v4=v4)):
        for stranger in (CAROL, None):
            assert wall.inbound(packet, NOW, stranger) is REJECT
        assert wall.inbound(packet, NOW, ALICE) is ACCEPT
    assert wall.drops == {"not_allowed": 6}


def test_rule_for_all_and_rule_for_one_stand_beside_each_other() -> None:
    wall = firewall(Rule("tcp", 80), Rule("tcp", 0, ALICE))
    assert wall.inbound(tcp_in("S", 80, 5), NOW, CAROL) is ACCEPT
    assert wall.inbound(tcp_in("S", 81, 5), NOW, CAROL) is REJECT
    assert wall.inbound(tcp_in("S", 81, 5), NOW, ALICE) is ACCEPT


def test_flow_that_a_peer_began_is_of_no_use_to_who_gets_its_address() -> None:
    wall = firewall(Rule("udp", 53, ALICE))
    assert wall.inbound(udp_in(53, 5), NOW, ALICE) is ACCEPT
    assert wall.outbound(udp_out(53, 5), NOW)
    assert wall.inbound(udp_in(53, 5), NOW, ALICE) is ACCEPT
    assert wall.inbound(udp_in(53, 5), NOW, CAROL) is REJECT
    assert wall.flows == 0


def test_connection_that_a_peer_began_is_of_no_use_to_who_gets_its_address() -> None:
    wall = firewall(Rule("tcp", 22, ALICE))
    assert wall.inbound(tcp_in("S", 22, 5), NOW, ALICE) is ACCEPT
    assert wall.outbound(tcp_out("SA", 22, 5), NOW)
    assert wall.inbound(tcp_in("A", 22, 5), NOW, ALICE) is ACCEPT
    assert wall.inbound(tcp_in("A", 22, 5), NOW, CAROL) is DROP
    assert wall.inbound(tcp_in("A", 22, 5), NOW, ALICE) is ACCEPT, "the rule lets it in again"


def test_flow_that_began_here_goes_on_with_who_has_the_address_now() -> None:
    wall = firewall()
    assert wall.outbound(udp_out(), NOW)
    for peer in (ALICE, CAROL, ALICE):
        assert wall.inbound(udp_in(), NOW, peer) is ACCEPT


def test_key_that_is_equal_is_the_same_peer_as_after_a_new_session() -> None:
    wall = firewall(Rule("udp", 53, ALICE))
    wall.inbound(udp_in(53, 5), NOW, ALICE)
    wall.outbound(udp_out(53, 5), NOW)
    flows = wall.flows
    assert wall.inbound(udp_in(53, 5), NOW, bytes(bytearray(ALICE))) is ACCEPT
    assert wall.flows == flows == 1


def test_fragments_follow_only_a_first_one_of_the_same_peer() -> None:
    wall = firewall(Rule("udp", 53))
    datagram = bytes(UDP(sport=5, dport=53) / bytes(100))
    first = bytes(IP(src="10.0.0.2", dst="10.0.0.1", id=9, flags="MF", proto=17) / datagram[:64])
    later = bytes(IP(src="10.0.0.2", dst="10.0.0.1", id=9, frag=8, proto=17) / datagram[64:])
    assert wall.inbound(first, NOW, ALICE) is ACCEPT
    assert wall.inbound(later, NOW, CAROL) is DROP
    assert wall.inbound(later, NOW, ALICE) is ACCEPT


def test_other_rules_at_once_end_what_is_half_open_and_no_more() -> None:
    wall = firewall(Rule("udp", 53, ALICE), Rule("tcp", 22))
    wall.inbound(udp_in(53, 5), NOW, ALICE)
    wall.inbound(udp_in(53, 6), NOW, ALICE)
    wall.outbound(udp_out(53, 6), NOW)
    wall.set_rules([Rule("udp", 53, ALICE), Rule("tcp", 22), Rule("icmp")])
    assert wall.flows == 2, "nothing was taken away"
    wall.set_rules([Rule("icmp"), Rule("tcp", 22)])
    assert wall.rules() == (Rule("icmp"), Rule("tcp", 22))
    assert wall.inbound(udp_in(53, 5), NOW, ALICE) is REJECT
    assert wall.inbound(udp_in(53, 6), NOW, ALICE) is ACCEPT


def test_explanation_names_the_rule_and_why_the_others_do_not_fit() -> None:
    wall = firewall(Rule("icmp"), Rule("tcp", 80), Rule("tcp", 22, CAROL), Rule("tcp", 22, ALICE))
    verdict, notes = wall.explain_inbound(tcp_in("S", 22, 5), NOW, ALICE)
    assert (verdict, notes.rule, notes.reason) == (ACCEPT, Rule("tcp", 22, ALICE), None)
    assert [step.text.rpartition(": ")[2] for step in notes.steps if step.stage == "rule"] == [
        "another protocol",
        "another port",
        "another peer",
        "fits",
    ]
    verdict, notes = wall.explain_inbound(tcp_in("S", 23, 5), NOW, ALICE)
    assert (verdict, notes.rule, notes.reason) == (REJECT, None, "not_allowed")
    assert wall.flows == 0
    assert not wall.drops


def test_explanation_knows_the_flow_and_its_end() -> None:
    wall = firewall()
    wall.outbound(udp_out(), NOW)
    verdict, notes = wall.explain_inbound(udp_in(), NOW + 29 * S, ALICE)
    assert (verdict, notes.steps[0].text) == (ACCEPT, "it belongs to a flow begun here, asked out")
    verdict, notes = wall.explain_inbound(udp_in(), NOW + 30 * S, ALICE)
    assert (verdict, notes.steps[0].text) == (REJECT, "it belongs to no flow that is open")
    assert [step.text for step in notes.steps if step.stage == "rule"] == ["there are none"]


def test_explanation_says_when_the_table_is_full() -> None:
    wall = firewall(Rule("udp"), max_flows=1)
    wall.outbound(udp_out(1, 2), NOW)
    verdict, notes = wall.explain_inbound(udp_in(53, 5), NOW, ALICE)
    assert (verdict, notes.reason) == (DROP, "table_full")
    assert wall.inbound(udp_in(53, 5), NOW, ALICE) is DROP


def test_explanation_says_that_the_node_has_just_begun() -> None:
    wall = Firewall([])
    verdict, notes = wall.explain_inbound(arriving(bytes(tcp_in("A")[40:]), nh=6), NOW, ALICE)
    assert (verdict, notes.steps[0].stage) == (ACCEPT, "start")
