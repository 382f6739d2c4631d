"""What is remembered, how long, and how much."""

from __future__ import annotations

import pytest

from weft.stack.dns.cache import MAX_ANSWERS, SECOND_NS, Answer, Cache, Outcome
from weft.stack.dns.message import Kind

NOW = 1_000 * SECOND_NS
FOREVER = NOW + 2**31 * SECOND_NS


def answer(name: str, outcome: Outcome = Outcome.FOUND, expires_at: int = FOREVER) -> Answer:
    return Answer(outcome, (name,), (bytes(4),) if outcome is Outcome.FOUND else (), expires_at)


@pytest.mark.parametrize(
    ("outcome", "seconds"),
    [
        (Outcome.FOUND, 86_400),
        (Outcome.NODATA, 3600),
        (Outcome.NXDOMAIN, 3600),
        (Outcome.SERVFAIL, 1),
        (Outcome.TIMEOUT, 1),
    ],
)
def test_nothing_is_remembered_for_longer_than_its_bound(outcome: Outcome, seconds: int) -> None:
    cache = Cache()
    cache.put(Kind.A, answer("a.example", outcome), NOW)
    end = NOW + seconds * SECOND_NS
    found = cache.get("a.example", Kind.A, end - 1)
    assert found is not None
    assert (found.outcome, found.expires_at) == (outcome, end)
    assert cache.get("a.example", Kind.A, end) is None
    assert len(cache) == 0


def test_what_holds_for_no_time_is_not_remembered() -> None:
    cache = Cache()
    cache.put(Kind.A, answer("a.example", expires_at=NOW), NOW)
    assert len(cache) == 0


def test_kinds_are_remembered_apart_but_what_does_not_exist_has_neither() -> None:
    cache = Cache()
    cache.put(Kind.A, answer("a.example", Outcome.NODATA), NOW)
    cache.put(Kind.A, answer("b.example", Outcome.NXDOMAIN), NOW)
    assert cache.get("a.example", Kind.AAAA, NOW) is None
    assert cache.get("b.example", Kind.AAAA, NOW) is not None


def test_full_cache_forgets_what_was_used_longest_ago() -> None:
    cache = Cache()
    for number in range(MAX_ANSWERS):
        cache.put(Kind.A, answer(f"n{number}"), NOW)
    cache.get("n0", Kind.A, NOW)
    cache.put(Kind.A, answer("n5"), NOW)
    assert len(cache) == MAX_ANSWERS
    cache.put(Kind.A, answer("new"), NOW)
    assert len(cache) == MAX_ANSWERS
    assert cache.get("n0", Kind.A, NOW) is not None
    assert cache.get("n1", Kind.A, NOW) is None
