"""The table of flows: its bounds, what makes room for what, and when flows are cleared away."""

import pytest

from tests.unit.firewall.packets import S, echo_in, echo_out, tcp_in, tcp_out, udp_in, udp_out
from weft.firewall import Firewall, Rule, Verdict
from weft.firewall.flows import EXPIRE_MAX, IDLE_NS, FlowTable, State
from weft.firewall.judge import ADOPTION_NS

ACCEPT, DROP = Verdict.ACCEPT, Verdict.DROP
NOW = 10**15
ROOM = 16


def firewall(max_flows: int = ROOM) -> Firewall:
    made = Firewall([Rule("tcp", 80), Rule("udp", 53)], max_flows=max_flows)
    made.expire(NOW - ADOPTION_NS)
    return made


def connect(wall: Firewall, here: int, now: int = NOW) -> None:
    assert wall.outbound(tcp_out("S", here=here), now)
    assert wall.inbound(tcp_in("SA", here=here), now) is ACCEPT
    assert wall.outbound(tcp_out("A", here=here), now)


def flood(wall: Firewall, count: int, now: int = NOW) -> list[Verdict]:
    return [wall.inbound(tcp_in("S", here=80, peer=1024 + n), now) for n in range(count)]


def test_flood_of_syns_to_an_allowed_port_does_not_push_out_connections() -> None:
    wall = firewall()
    for here in range(1000, 1000 + ROOM // 2):
        connect(wall, here)
    assert set(flood(wall, 500)) == {ACCEPT}
    assert wall.flows == ROOM
    for here in range(1000, 1000 + ROOM // 2):
        assert wall.inbound(tcp_in("A", here=here), NOW) is ACCEPT


def test_flood_that_is_answered_but_not_confirmed_does_not_push_out_connections() -> None:
    wall = firewall()
    for here in range(1000, 1000 + ROOM // 2):
        connect(wall, here)
    for peer in range(1024, 1524):
        assert wall.inbound(tcp_in("S", here=80, peer=peer), NOW) is ACCEPT
        assert wall.outbound(tcp_out("SA", here=80, peer=peer), NOW)
    for here in range(1000, 1000 + ROOM // 2):
        assert wall.inbound(tcp_in("A", here=here), NOW) is ACCEPT


@pytest.mark.parametrize("flags", ["S", "A", "FA", "PA"])
def test_flood_into_a_table_full_of_connections_is_dropped_and_counted(flags: str) -> None:
    wall = firewall()
    for here in range(1000, 1000 + ROOM):
        connect(wall, here)
    verdicts = [wall.inbound(tcp_in(flags, here=80, peer=1024 + n), NOW) for n in range(50)]
    assert set(verdicts) == {DROP}
    assert wall.drops == {"table_full": 50}
    assert wall.flows == ROOM


def test_flood_does_not_push_out_what_this_side_asked() -> None:
    wall = firewall()
    wall.outbound(udp_out(), NOW)
    wall.outbound(echo_out(), NOW)
    wall.outbound(tcp_out("S"), NOW)
    flood(wall, 100)
    for n in range(100):
        wall.inbound(udp_in(here=53, peer=1024 + n), NOW)
    assert wall.inbound(udp_in(), NOW) is ACCEPT
    assert wall.inbound(echo_in(reply=True), NOW) is ACCEPT
    assert wall.inbound(tcp_in("SA"), NOW) is ACCEPT


def test_oldest_unanswered_flow_of_a_peer_makes_room_first() -> None:
    wall = firewall(max_flows=2)
    for peer in (1, 2, 3):
        wall.inbound(udp_in(here=53, peer=peer), NOW)
    assert wall.flows == 2
    wall.deny(Rule("udp", 53))
    wall.allow(Rule("udp", 53))
    for peer in (1, 2):
        wall.inbound(udp_in(here=53, peer=peer), NOW)
        wall.outbound(udp_out(here=53, peer=peer), NOW)
    assert wall.inbound(udp_in(here=53, peer=3), NOW) is DROP


def test_closed_connection_makes_room_before_anything_else() -> None:
    wall = firewall(max_flows=3)
    connect(wall, 1000)
    connect(wall, 1001)
    connect(wall, 1002)
    wall.outbound(tcp_out("RA", here=1001), NOW)
    assert flood(wall, 1) == [ACCEPT]
    assert wall.inbound(tcp_in("A", here=1001), NOW) is DROP
    assert wall.inbound(tcp_in("A", here=1000), NOW) is ACCEPT
    assert wall.inbound(tcp_in("A", here=1002), NOW) is ACCEPT


def test_program_here_gets_room_for_a_connection_from_the_one_idle_for_longest() -> None:
    wall = firewall(max_flows=3)
    for here in (1000, 1001, 1002):
        connect(wall, here)
    wall.inbound(tcp_in("A", here=1000), NOW + S)
    connect(wall, 1003, NOW + 2 * S)
    assert wall.flows == 3
    assert wall.inbound(tcp_in("A", here=1001), NOW + 2 * S) is DROP
    for here in (1000, 1002, 1003):
        assert wall.inbound(tcp_in("A", here=here), NOW + 2 * S) is ACCEPT


def test_room_is_made_from_the_most_worthless_state() -> None:
    wall = firewall(max_flows=4)
    connect(wall, 1000)
    wall.outbound(udp_out(here=2000), NOW)
    wall.inbound(udp_in(here=2000), NOW)
    wall.outbound(udp_out(here=3000), NOW)
    wall.inbound(udp_in(here=53, peer=4000), NOW)
    connect(wall, 1001)
    assert wall.inbound(udp_in(here=3000), NOW) is ACCEPT
    for here in (5000, 5001):
        connect(wall, here)
    assert wall.inbound(udp_in(here=2000), NOW) is not ACCEPT
    for here in (1000, 1001, 5000, 5001):
        assert wall.inbound(tcp_in("A", here=here), NOW) is ACCEPT


def test_eviction_looks_at_a_bounded_number_of_flows_even_if_all_are_in_use() -> None:
    wall = firewall(max_flows=100)
    for here in range(1000, 1100):
        connect(wall, here)
    for here in range(1000, 1100):
        wall.inbound(tcp_in("A", here=here), NOW + S)
    connect(wall, 2000, NOW + 2 * S)
    assert wall.flows == 100
    assert wall.inbound(tcp_in("A", here=2000), NOW + 2 * S) is ACCEPT


def test_flows_are_cleared_away_when_they_end() -> None:
    wall = firewall()
    wall.outbound(udp_out(), NOW)
    connect(wall, 1000)
    assert wall.next_timer() == NOW + 30 * S
    wall.expire(NOW + 30 * S - 1)
    assert wall.flows == 2
    wall.expire(NOW + 30 * S)
    assert wall.flows == 1
    assert wall.next_timer() == NOW + 7440 * S
    wall.expire(NOW + 7440 * S)
    assert wall.flows == 0
    assert wall.next_timer() is None


def test_flow_that_was_used_is_cleared_away_later() -> None:
    wall = firewall()
    wall.outbound(udp_out(), NOW)
    wall.outbound(udp_out(), NOW + 20 * S)
    wall.expire(NOW + 30 * S)
    assert wall.flows == 1
    assert wall.next_timer() == NOW + 50 * S
    wall.expire(NOW + 50 * S)
    assert wall.flows == 0


def test_expiry_does_a_bounded_amount_of_work() -> None:
    table = FlowTable(3 * EXPIRE_MAX)
    for n in range(2 * EXPIRE_MAX):
        table.open_outbound(17, n.to_bytes(12, "big"), n.to_bytes(12, "little"), State.ASKED_OUT, NOW)
    table.expire(NOW + 30 * S)
    assert len(table) == EXPIRE_MAX
    assert table.next_timer() == NOW + 30 * S
    table.expire(NOW + 30 * S)
    assert len(table) == 0


def test_expiry_of_flows_in_use_ends() -> None:
    table = FlowTable(100)
    for n in range(50):
        table.open_outbound(17, bytes([n]), bytes([n]), State.ASKED_OUT, NOW)
    for n in range(50):
        table.refresh(table.by_outbound_key[17][bytes([n])], NOW + 20 * S)
    table.expire(NOW + 40 * S)
    assert len(table) == 50
    table.expire(NOW + 50 * S)
    assert len(table) == 0


def test_every_state_has_an_idle_time() -> None:
    assert set(IDLE_NS) == set(State)
