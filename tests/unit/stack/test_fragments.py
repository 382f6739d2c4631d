"""Reassembly: a model that fills bytes, and scapy as the one who fragments."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.stack import fragments as module
from weft.stack.fragments import (
    LIFETIME_V6_NS,
    MAX_BYTES,
    MAX_BYTES_PER_SOURCE,
    MAX_DATAGRAMS,
    MAX_DATAGRAMS_PER_SOURCE,
    MAX_FRAGMENTS,
    Fragment,
    Fragments,
    Whole,
)

SOURCE = bytes((10, 7, 0, 1))
HEAD = b"head"


def fragment_of(data: bytes, start: int, end: int, key: object = 1, source: bytes = SOURCE) -> Fragment:
    piece = memoryview(data)[start:end]
    return Fragment(source, (source, key), start, end < len(data), piece, piece, HEAD)


def made() -> tuple[Fragments, Counter[str]]:
    drops: Counter[str] = Counter()
    return Fragments(LIFETIME_V6_NS, drops), drops


def is_empty(fragments: Fragments) -> bool:
    held = (fragments._bytes, len(fragments._datagrams), len(fragments._bytes_of), len(fragments._datagrams_of))
    return held == (0, 0, 0, 0)


@given(st.integers(2, 40), st.integers(1, 8), st.randoms(use_true_random=False), st.booleans())
def test_any_order_and_exact_copies_give_the_datagram_once(
    pieces: int, words: int, random: Random, with_copies: bool
) -> None:
    fragments, drops = made()
    data = random.randbytes(pieces * words * 8 - random.randrange(8))
    step = words * 8
    parts = [fragment_of(data, start, min(start + step, len(data))) for start in range(0, len(data), step)]
    random.shuffle(parts)
    whole, copies = None, 0
    for part in parts:
        whole = fragments.receive(part, 0)
        if with_copies and whole is None and random.random() < 0.5:
            assert fragments.receive(part, 0) is None
            copies += 1
    assert whole == Whole(HEAD, data)
    assert drops == ({"ip: fragment twice": copies} if copies else {})
    assert is_empty(fragments)


spans = st.tuples(st.integers(0, 6), st.integers(1, 4)).map(lambda span: (span[0] * 8, (span[0] + span[1]) * 8))


@given(st.lists(spans, min_size=1, max_size=8))
def test_overlap_spoils_the_datagram_and_nothing_of_it_is_ever_given(all_spans: list[tuple[int, int]]) -> None:
    fragments, drops = made()
    data = bytes(range(80))
    seen: set[tuple[int, int]] = set()
    filled: set[int] = set()
    is_spoiled = False
    for start, end in [*all_spans, (72, 80), (0, 72)]:
        whole = fragments.receive(fragment_of(data, start, end), 0)
        if not is_spoiled and (start, end) not in seen:
            is_spoiled = bool(filled & set(range(start, end)))
            seen.add((start, end))
            filled |= set(range(start, end))
        assert (whole is not None) == (not is_spoiled and len(filled) == 80)
        if whole is not None:
            assert whole.payload == data
            return
    assert is_spoiled
    assert drops["ip: overlapping fragments"] == 1
    assert fragments.expire(LIFETIME_V6_NS) == []
    assert is_empty(fragments)


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, 8, True), (16, 24, False), (32, 40, False)],  # two that are the last
        [(0, 8, True), (16, 24, False), (24, 32, True)],  # behind the last
        [(24, 32, True), (8, 16, False)],  # the last before others
        [(16, 24, False), (16, 32, True)],  # the same beginning
    ],
)
def test_contradiction_about_the_end_spoils_the_datagram(pieces: list[tuple[int, int, bool]]) -> None:
    fragments, drops = made()
    data = memoryview(bytes(64))
    for start, end, more in pieces:
        assert fragments.receive(Fragment(SOURCE, 1, start, more, data[start:end], data, HEAD), 0) is None
    assert drops.keys() & {"ip: fragments beyond the last", "ip: overlapping fragments"}
    assert fragments.receive(Fragment(SOURCE, 1, 8, True, data[8:16], data, HEAD), 0) is None
    assert drops["ip: fragment of a spoiled datagram"] == 1
    assert fragments._bytes == 0


def test_what_lacks_fragments_ends_with_its_time_and_the_first_is_given_back() -> None:
    fragments, drops = made()
    data = bytes(range(64))
    fragments.receive(fragment_of(data, 0, 32, key="with the first"), 0)
    fragments.receive(fragment_of(data, 32, 64, key="without"), 5)
    assert fragments.next_timer() == LIFETIME_V6_NS
    assert fragments.expire(LIFETIME_V6_NS - 1) == []
    assert fragments.expire(LIFETIME_V6_NS) == [data[:32]]
    assert fragments.next_timer() == LIFETIME_V6_NS + 5
    # A late one begins anew, even if nobody looked at the time.
    assert fragments.receive(fragment_of(data, 0, 32, key="without"), LIFETIME_V6_NS + 5) is None
    assert fragments.expire(LIFETIME_V6_NS + 5) == []
    assert drops == {"ip: fragments that never came": 1}


def test_too_many_fragments_spoil_their_datagram() -> None:
    fragments, drops = made()
    data = bytes(8 * (MAX_FRAGMENTS + 2))
    for number in range(MAX_FRAGMENTS + 1):
        fragments.receive(fragment_of(data, number * 8, number * 8 + 8), 0)
    assert drops == {"ip: too many fragments": 1}
    assert fragments._bytes == 0


def test_hoarding_source_loses_its_own_oldest_datagrams() -> None:
    fragments, drops = made()
    data = bytes(64_000)
    fragments.receive(fragment_of(data, 0, 8, source=b"modest"), 0)
    for number in range(100):
        fragments.receive(fragment_of(data, 0, 40_000, key=number), 0)
    assert fragments._bytes_of[SOURCE] <= MAX_BYTES_PER_SOURCE
    assert drops["ip: no room for fragments"] > 90
    assert fragments.receive(fragment_of(data, 40_000, 64_000, key=99), 0) is not None
    assert fragments.receive(fragment_of(data, 8, 64_000, source=b"modest"), 0) is not None


def test_datagrams_of_one_source_have_a_bound() -> None:
    fragments, _ = made()
    data = bytes(64)
    for number in range(MAX_DATAGRAMS_PER_SOURCE + 5):
        fragments.receive(fragment_of(data, 0, 8, key=number), 0)
    assert len(fragments._datagrams) == MAX_DATAGRAMS_PER_SOURCE
    assert fragments.receive(fragment_of(data, 8, 64, key=4), 0) is None
    assert fragments.receive(fragment_of(data, 8, 64, key=MAX_DATAGRAMS_PER_SOURCE + 4), 0) is not None


@pytest.mark.parametrize("size", [8, 20_000])
def test_many_sources_stay_within_the_bounds_of_all(size: int) -> None:
    fragments, drops = made()
    data = bytes(64_000)
    for number in range(MAX_DATAGRAMS + 50):
        fragments.receive(fragment_of(data, 0, size, source=number.to_bytes(4, "big")), 0)
        assert fragments._bytes <= MAX_BYTES
        assert len(fragments._datagrams) <= MAX_DATAGRAMS
    assert drops["ip: no room for fragments"]
    assert fragments._bytes == sum(fragments._bytes_of.values())
    fragments.expire(LIFETIME_V6_NS)
    assert is_empty(fragments)


def test_largest_datagram_fits_the_bounds() -> None:
    assert module.MAX_FRAGMENTS * 552 >= 65_535
    assert 3 * 65_535 + MAX_FRAGMENTS * module.FRAGMENT_OVERHEAD_BYTES < MAX_BYTES_PER_SOURCE
