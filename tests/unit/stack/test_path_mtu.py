from __future__ import annotations

import pytest

from weft.stack.path_mtu import LIFETIME_NS, MAX_DESTINATIONS, PathMtus, believable

V4, V6 = bytes((10, 7, 0, 2)), b"\xfc" + bytes(14) + b"\x02"


@pytest.mark.parametrize(
    ("destination", "mtu", "length", "current", "expected"),
    [
        (V6, 1300, 1352, 1352, 1300),
        (V6, 1280, 1352, 1352, 1280),
        (V6, 1279, 1352, 1352, None),  # RFC 8201 section 4
        (V6, 0, 1352, 1352, None),
        (V6, 1352, 1352, 1352, None),
        (V6, 9000, 1352, 1352, None),
        (V4, 1000, 1352, 1352, 1000),
        (V4, 68, 1352, 1352, 576),
        (V4, 1352, 1352, 1352, None),
        (V4, 0, 1352, 1352, 1006),  # the next plateau, RFC 1191 section 7.1
        (V4, 0, 1006, 1352, 576),
        (V4, 0, 100, 1352, 576),
        (V4, 0, 1352, 576, None),
    ],
)
def test_what_a_router_says_is_believed_within_reason(
    destination: bytes, mtu: int, length: int, current: int, expected: int | None
) -> None:
    assert believable(destination, mtu, length, current) == expected


def test_smaller_mtu_is_forgotten_after_ten_minutes() -> None:
    known = PathMtus()
    known.learn(V6, 1300, now=1)
    known.learn(V4, 1000, now=2)
    assert known.get(V6, 1352) == 1300
    assert known.get(V6, 1290) == 1290
    assert known.next_timer() == 1 + LIFETIME_NS
    assert not known.expire(LIFETIME_NS)
    assert known.expire(1 + LIFETIME_NS)
    assert known.get(V6, 1352) == 1352
    assert known.get(V4, 1352) == 1000
    assert known.next_timer() == 2 + LIFETIME_NS


def test_oldest_of_too_many_destinations_makes_room() -> None:
    known = PathMtus()
    for number in range(MAX_DESTINATIONS + 1):
        known.learn(number.to_bytes(4, "big"), 1000, now=number)
    assert known.get(bytes(4), 1352) == 1352
    assert known.get((1).to_bytes(4, "big"), 1352) == 1000
