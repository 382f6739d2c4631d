from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import DecodeError, UsageError
from weft.firewall import Rule, decode_rule, encode_rule
from weft.firewall.rules import RuleSet
from weft.identity import encode_wireguard_key, generate

KEY = bytes(range(200, 232))
BASE64 = "yMnKy8zNzs/Q0dLT1NXW19jZ2tvc3d7f4OHi4+Tl5uc="
LOOM = generate(Random("loom").randbytes)

SOURCES = st.none() | st.binary(min_size=32, max_size=32)
RULES = st.one_of(
    st.builds(Rule, st.sampled_from(["tcp", "udp"]), st.integers(0, 65535), SOURCES),
    st.builds(Rule, st.just("icmp"), st.just(0), SOURCES),
)


@given(RULES)
def test_encoded_rule_decodes_to_itself(rule: Rule) -> None:
    assert decode_rule(encode_rule(rule)) == rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("/tcp/80", Rule("tcp", 80)),
        ("/udp/53", Rule("udp", 53)),
        ("/tcp/0", Rule("tcp")),
        ("/udp/0", Rule("udp")),
        ("/tcp/65535", Rule("tcp", 65535)),
        ("/icmp", Rule("icmp")),
        (f"/tcp/22/from/{BASE64}", Rule("tcp", 22, KEY)),
        (f"/udp/0/from/{BASE64}", Rule("udp", 0, KEY)),
        (f"/icmp/from/{BASE64}", Rule("icmp", 0, KEY)),
    ],
)
def test_rule_text_of_the_manual_is_read_and_written(text: str, rule: Rule) -> None:
    assert decode_rule(text) == rule
    assert encode_rule(rule) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "a rule like /tcp/80, /udp/53, /tcp/0 or /udp/0 for all ports, or /icmp, not ''"),
        ("tcp/80", "a rule like /tcp/80.* not 'tcp/80'"),
        (" /tcp/80", "a rule like"),
        ("/", "a rule like"),
        ("//80", "a rule like"),
        ("/TCP/80", "a rule like"),
        ("/sctp/80", "a rule like"),
        ("/tcp 80", "a rule like"),
        ("/icmpv6", "a rule like"),
        ("/tcp", "a port: write /tcp/80 for port 80, or /tcp/0 for all ports"),
        ("/udp", "a port: write /udp/80 for port 80, or /udp/0 for all ports"),
        ("/tcp/", "a port from 1 to 65535, or 0 for all ports, after /tcp/, not ''"),
        ("/tcp/http", "a port from 1 to 65535, or 0 for all ports, after /tcp/, not 'http'"),
        ("/tcp/65536", "not '65536'"),
        ("/tcp/-1", "not '-1'"),
        ("/tcp/080", "not '080'"),
        ("/tcp/00", "not '00'"),
        ("/tcp/8 0", "not '8 0'"),
        ("/tcp/80 ", "not '80 '"),
        ("/tcp/80/", "not '80/'"),
        ("/tcp/80/tcp/81", "not '80/tcp/81'"),
        ("/tcp/８０", "not"),
        ("/tcp/²", "not"),
        ("/tcp/" + "9" * 5000, "not '9999"),
        ("/icmp/", "nothing after /icmp"),
        ("/icmp/8", "nothing after /icmp"),
        ("/tcp/22/from/", "peer id.* after /tcp/22/from/"),
        ("/tcp/22/from/loom", "peer id.* after /tcp/22/from/"),
        (f"/tcp/22/from/{BASE64[1:]}", "a WireGuard key.* after /tcp/22/from/"),
        (f"/tcp/22/from/{BASE64}/from/{BASE64}", "a WireGuard key"),
        (f"/tcp/from/{BASE64}", "a port: write /tcp/80"),
        (f"/icmp/8/from/{BASE64}", "nothing after /icmp"),
        (f"/from/{BASE64}", "a rule like"),
        (f"/tcp/22/FROM/{BASE64}", "not '22/FROM/"),
    ],
)
def test_text_that_is_no_rule_raises_one_line_that_says_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(DecodeError, match=hint) as caught:
        decode_rule(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert 0 <= caught.value.offset <= len(text)


@given(st.text(max_size=20) | st.from_regex(r"/(tcp|udp|icmp)(/.*)?(/from/.*)?"))
def test_any_text_raises_decode_error_only_and_has_one_spelling(text: str) -> None:
    try:
        rule = decode_rule(text)
    except DecodeError:
        return
    assert rule.source is not None or encode_rule(rule) == text
    assert decode_rule(encode_rule(rule)) == rule


@pytest.mark.parametrize(("protocol", "port"), [("sctp", 1), ("tcp", -1), ("udp", 65536), ("icmp", 1), ("TCP", 80)])
def test_rule_that_there_is_not_raises_usage_error(protocol: str, port: int) -> None:
    with pytest.raises(UsageError):
        Rule(protocol, port)


def test_peer_id_is_read_as_the_key_that_it_stands_for() -> None:
    rule = decode_rule(f"/tcp/22/from/{LOOM.peer_id}")
    assert rule == Rule("tcp", 22, LOOM.noise_public)
    assert encode_rule(rule) == f"/tcp/22/from/{encode_wireguard_key(LOOM.noise_public)}"


def test_caller_may_know_more_names_of_peers() -> None:
    assert decode_rule("/tcp/22/from/the/loom", {"the/loom": KEY}.__getitem__) == Rule("tcp", 22, KEY)


def test_what_may_be_a_secret_is_not_repeated() -> None:
    secret = "A" * 40 + "==="
    with pytest.raises(DecodeError) as caught:
        decode_rule(f"/tcp/22/from/{secret}")
    assert secret not in str(caught.value)


def test_rule_for_one_peer_allows_nobody_else() -> None:
    rules = RuleSet([Rule("tcp", 22, KEY), Rule("udp", 0, KEY)])
    assert rules.matching(6, 22, KEY) == Rule("tcp", 22, KEY)
    assert rules.matching(17, 53, KEY) == Rule("udp", 0, KEY)
    for source in (None, bytes(32)):
        assert rules.matching(6, 22, source) is None
        assert rules.matching(17, 53, source) is None
    assert rules.matching(6, 23, KEY) is None


def test_taking_away_one_peer_s_rule_leaves_those_of_others_and_of_all() -> None:
    mine, theirs, everybody = Rule("tcp", 22, KEY), Rule("tcp", 22, bytes(32)), Rule("tcp", 22)
    rules = RuleSet([mine, theirs, everybody])
    rules.deny(mine)
    assert rules.matching(6, 22, KEY) == everybody
    rules.deny(everybody)
    assert rules.matching(6, 22, KEY) is None
    assert rules.matching(6, 22, bytes(32)) == theirs
    assert list(rules) == [theirs]


def test_rules_allow_what_they_say_and_nothing_else() -> None:
    rules = RuleSet([Rule("tcp", 80), Rule("udp")])
    assert rules.matching(6, 80, None)
    assert rules.matching(17, 1, None)
    assert rules.matching(17, 0, None)
    assert not rules.matching(6, 81, None)
    assert not rules.matching(6, 0, None)
    assert not rules.matching(1, 0, None)
    assert not rules.matching(58, 0, None)


def test_icmp_rule_allows_both_versions() -> None:
    rules = RuleSet([Rule("icmp")])
    assert rules.matching(1, 0, None)
    assert rules.matching(58, 0, None)


def test_rule_given_twice_is_taken_away_once() -> None:
    rules = RuleSet([Rule("tcp", 80)])
    rules.allow(Rule("tcp", 80))
    rules.deny(Rule("tcp", 80))
    assert list(rules) == []
    with pytest.raises(UsageError, match="/tcp/80 is not among the rules"):
        rules.deny(Rule("tcp", 80))


def test_one_port_of_all_ports_can_not_be_taken_away() -> None:
    rules = RuleSet([Rule("tcp"), Rule("icmp")])
    with pytest.raises(UsageError, match="/tcp/80 is not among the rules"):
        rules.deny(Rule("tcp", 80))
    assert rules.matching(6, 80, None)
