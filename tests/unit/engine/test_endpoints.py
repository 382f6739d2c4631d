"""Which endpoints of a peer are kept, in which order, and where it is looked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weft.engine.endpoints import Endpoints
from weft.io.store import ENDPOINTS
from weft.multiaddr import Multiaddr, decode_multiaddr

NAME = decode_multiaddr("/dns/hub.example.org/udp/1")


def at(number: int) -> Multiaddr:
    return Multiaddr.from_endpoint(f"192.0.2.{number}", 1312)


def test_last_proven_is_the_first_and_stands_once() -> None:
    endpoints = Endpoints()
    assert [endpoints.prove(at(number)) for number in (1, 2, 2, 1)] == [True, True, False, True]
    assert endpoints.known == [at(1), at(2)]
    assert endpoints.configured == []


def test_learned_ones_push_out_the_oldest_learned_one_and_none_that_a_person_named() -> None:
    endpoints = Endpoints()
    endpoints.configure(at(1))
    for number in range(2, 20):
        endpoints.prove(at(number))
    assert endpoints.known == [*(at(number) for number in range(19, 12, -1)), at(1)]
    assert endpoints.configured == [at(1)]


def test_ninth_that_a_person_named_pushes_out_learned_ones_and_then_the_oldest_named_one() -> None:
    endpoints = Endpoints()
    endpoints.prove(at(100))
    for number in range(ENDPOINTS + 1):
        endpoints.configure(at(number))
    assert endpoints.known == endpoints.configured == [at(number) for number in range(ENDPOINTS, 0, -1)]
    endpoints.prove(at(101))
    assert at(101) not in endpoints.known


def test_name_stands_for_the_address_that_it_led_to() -> None:
    endpoints = Endpoints()
    endpoints.prove(at(1))
    endpoints.lead(NAME, at(1))
    endpoints.configure(NAME)
    assert endpoints.known == [NAME]
    assert not endpoints.prove(at(1))
    assert endpoints.spelled(at(1)) == NAME
    assert endpoints.prove(at(2))
    assert endpoints.known == [at(2), NAME]
    assert endpoints.spelled(at(2)) == at(2)
    endpoints.lead(NAME, at(2))
    assert endpoints.prove(at(2))
    assert endpoints.known == [NAME]
    assert endpoints.spelled(at(1)) == at(1)


def test_name_stands_for_each_of_the_addresses_that_it_led_to() -> None:
    endpoints = Endpoints([at(2), NAME], [NAME])
    endpoints.lead(NAME, at(1), at(2))
    assert endpoints.spelled(at(1)) == endpoints.spelled(at(2)) == NAME
    assert endpoints.prove(at(2))
    assert endpoints.known == [NAME]


def test_addresses_of_a_name_have_their_turns() -> None:
    endpoints = Endpoints([NAME, at(9)], [NAME])
    taken = [endpoints.take_turn(NAME, [1, 2, 3]) for _ in range(4)]
    assert taken == [1, 2, 3, 1]
    assert endpoints.take_turn(at(9), [9]) == 9
    assert endpoints.take_turn(NAME, [1]) == 1


def test_what_the_store_kept_is_as_it_was() -> None:
    endpoints = Endpoints([at(2), NAME, at(1)], [NAME])
    assert endpoints.known == [at(2), NAME, at(1)]
    assert endpoints.configured == [NAME]


def test_peer_without_a_session_is_looked_for_everywhere_in_turn_beginning_with_the_newest() -> None:
    endpoints = Endpoints([at(3), at(2), at(1)])
    found = [endpoints.next_to_try(is_up=False) for _ in range(4)]
    assert found == [at(3), at(2), at(1), at(3)]
    assert Endpoints().next_to_try(is_up=False) is None


def test_peer_with_a_session_is_looked_for_where_its_data_may_go() -> None:
    endpoints = Endpoints([at(4), at(3), NAME, at(1)], [NAME])
    assert [endpoints.next_to_try(is_up=True) for _ in range(3)] == [at(4), NAME, at(4)]


def test_peer_is_silent_when_nothing_has_come_since_the_last_question() -> None:
    endpoints = Endpoints()
    assert [endpoints.is_silent(count) for count in (0, 0, 32, 32, 64)] == [True, True, False, True, False]


STEPS = st.lists(st.tuples(st.sampled_from(["configure", "prove", "lead"]), st.integers(0, 20)), max_size=60)


@given(STEPS)
def test_endpoints_are_bounded_distinct_and_the_last_one_named_is_among_them(steps: list[tuple[str, int]]) -> None:
    endpoints, named = Endpoints(), None
    for verb, number in steps:
        if verb == "lead":
            endpoints.lead(NAME, at(number))
        elif verb == "configure":
            named = at(number) if number else NAME
            endpoints.configure(named)
        else:
            endpoints.prove(at(number))
        assert len(endpoints.known) == len(set(endpoints.known)) <= ENDPOINTS
        assert set(endpoints.configured) <= set(endpoints.known)
        assert named is None or named in endpoints.known
