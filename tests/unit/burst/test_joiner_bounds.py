"""The joiner against a plain slow model of its bounds: any order of pieces, sources, peers and time."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.unit.burst.keys import plain_text
from weft.burst.header import PIECE_HEADER, decode_piece_header
from weft.burst.join import MAX_BYTES_PER_NODE, Budget, Joiner, Whole
from weft.burst.size import LossMeter

MS = 1_000_000
INDICES = (1, 2)
SHAPES = (
    (64_400, 1212),
    (64_400, 1007),
    (40_000, 1000),
    (1536, 512),
    (1535, 512),
    (1500, 800),
    (1500, 900),
    (700, 700),
)
"""Total and size of the pieces; two shapes differ in the size of the pieces alone."""


def datagrams_of(index: int, counter: int, total: int, size: int) -> list[bytes]:
    data = plain_text(total, counter)
    count = -(-total // size)
    return [
        PIECE_HEADER.pack(5, index, counter, total, number, count) + data[number * size : (number + 1) * size]
        for number in range(count)
    ]


@dataclass
class ModelBurst:
    key: tuple[int, int, str, int, int]
    size: int
    proven: bool
    first_at: int
    last_at: int
    met_congestion: bool = False
    pieces: dict[int, bytes] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.key[3]

    def deadline(self) -> int:
        return min(self.last_at + 250 * MS, self.first_at + 2000 * MS)


class ModelPeer:
    """What the wire format says of one peer, written down without any thought of speed."""

    def __init__(self, node: ModelNode) -> None:
        self.node = node
        self.bursts: list[ModelBurst] = []
        self.given_up: list[tuple[int, int]] = []
        self.drops: Counter[str] = Counter()
        self.since = 0
        """Since when it has held bursts without a break; decides among those that hold the same."""

    def held(self) -> int:
        return sum(burst.total for burst in self.bursts)

    def give_up(self, burst: ModelBurst) -> None:
        self.bursts.remove(burst)
        if burst.proven:
            count = burst.key[4]
            self.given_up.append((len(burst.pieces), count - len(burst.pieces)))

    def fits(self, total: int) -> bool:
        return len(self.bursts) < 8 and self.held() + total <= 512 * 1024

    def receive(
        self, datagram: bytes, size: int, source: str, now: int, *, proven: bool, marked: bool
    ) -> tuple[bytes, bool] | None:
        _, index, counter, total, number, count = PIECE_HEADER.unpack_from(datagram)
        key = (index, counter, source, total, count)
        burst = next((burst for burst in self.bursts if burst.key == key), None)
        if burst is None:
            if not proven:
                for other in [other for other in self.bursts if not other.proven]:
                    self.give_up(other)
            while proven and self.bursts and not self.fits(total):
                self.give_up(self.bursts[0])
            while proven and self.node.held() + total > self.node.limit and self.node.held():
                greedy = max(self.node.holders(), key=ModelPeer.held)
                greedy.give_up(greedy.bursts[0])
            if not self.fits(total) or self.node.held() + total > self.node.limit:
                self.drops["join: no room"] += 1
                return None
            burst = ModelBurst(key, size, proven, now, now)
            if not self.bursts:
                self.since = next(self.node.moments)
            self.bursts.append(burst)
        if burst.size != size:
            self.drops["join: other size"] += 1
            return None
        burst.met_congestion |= marked
        if number in burst.pieces:
            self.drops["join: twice"] += 1
            return None
        burst.pieces[number] = datagram[20:]
        burst.last_at = now
        if len(burst.pieces) < count:
            return None
        self.bursts.remove(burst)
        return b"".join(burst.pieces[number] for number in range(count)), burst.met_congestion

    def handle_timer(self, now: int) -> None:
        for burst in [burst for burst in self.bursts if burst.deadline() <= now]:
            self.give_up(burst)


class ModelNode:
    def __init__(self, limit: int, peers: int) -> None:
        self.limit = limit
        self.moments = itertools.count()
        self.peers = [ModelPeer(self) for _ in range(peers)]

    def holders(self) -> list[ModelPeer]:
        return sorted((peer for peer in self.peers if peer.bursts), key=lambda peer: peer.since)

    def held(self) -> int:
        return sum(peer.held() for peer in self.peers)


class RecordingMeter(LossMeter):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, int]] = []

    def give_up(self, got: int, missing: int) -> None:
        super().give_up(got, missing)
        self.calls.append((got, missing))


def follow(
    joiner: Joiner, datagrams: list[bytes], source: str = "proven", now: int = 0, *, marked: bool = False
) -> tuple[Whole | None, int]:
    """Give datagrams as one receive call would: only the last of them may be shorter. Returns how many were taken."""
    segment = len(datagrams[0])
    run = []
    for datagram in datagrams:
        if len(datagram) > segment:
            break
        run.append(datagram)
        if len(datagram) < segment:
            break
    view = memoryview(b"".join([b"before", *run, b"behind"]))
    end = len(view) - 6
    whole, stop = joiner.receive_following(view, 6, end, segment, source, now, met_congestion=marked)
    assert (stop - 6) % segment == 0 or stop == end
    return whole, -(-(stop - 6) // segment)


class JoinerAgainstModel(RuleBasedStateMachine):
    @initialize(limit=st.sampled_from([MAX_BYTES_PER_NODE, 600_000, 130_000]))
    def begin(self, limit: int) -> None:
        self.now = 1000 * MS
        self.limit = limit
        self.budget = Budget(limit)
        self.meters = [RecordingMeter(), RecordingMeter()]
        self.joiners = [Joiner(self.budget, meter, Counter()) for meter in self.meters]
        self.model = ModelNode(limit, 2)

    @rule(
        peer=st.integers(0, 1),
        index=st.sampled_from(INDICES),
        counter=st.integers(0, 11),
        shape=st.sampled_from(SHAPES),
        first=st.integers(0, 63),
        many=st.sampled_from([1, 1, 1, 2, 64]),
        source=st.sampled_from(["proven", "proven", "proven", "other", "third"]),
        quickly=st.booleans(),
        marked=st.sampled_from([-1, -1, 0, 5]),
    )
    def pieces_come(
        self,
        peer: int,
        index: int,
        counter: int,
        shape: tuple[int, int],
        first: int,
        many: int,
        source: str,
        quickly: bool,
        marked: int,
    ) -> None:
        joiner = self.joiners[peer]
        datagrams = datagrams_of(index, counter, *shape)
        left = [(first + offset) % len(datagrams) for offset in range(min(many, len(datagrams)))]
        while left:
            proven, ce = source == "proven", left[0] == marked
            whole, taken = None, 0
            if quickly:
                whole, taken = follow(joiner, [datagrams[number] for number in left], source, self.now, marked=ce)
            if not taken:
                datagram, taken = datagrams[left[0]], 1
                header, view = decode_piece_header(datagram), memoryview(datagram)
                whole = joiner.receive(header, view, source, self.now, proven=proven, met_congestion=ce)
            taken_now, left = left[:taken], left[taken:]
            expected = [
                self.model.peers[peer].receive(datagrams[number], shape[1], source, self.now, proven=proven, marked=ce)
                for number in taken_now
            ]
            assert not any(expected[:-1])
            assert (None if whole is None else (bytes(whole.sealed), whole.met_congestion)) == expected[-1]
            if whole is not None:
                assert (whole.receiver_index, whole.counter, whole.prefix) == (index, counter, datagrams[0][:18])
                assert whole.pieces == len(datagrams)
            beyond = PIECE_HEADER.pack(5, index, counter, shape[0], len(datagrams), len(datagrams))
            assert follow(joiner, [beyond + bytes(shape[1])], source, self.now) == (None, 0)

    @rule(span=st.sampled_from([1, 10, 100, 249, 250, 251, 1000, 2000]))
    def time_passes(self, span: int) -> None:
        self.now += span * MS
        for joiner, peer in zip(self.joiners, self.model.peers, strict=True):
            joiner.handle_timer(self.now)
            peer.handle_timer(self.now)

    @rule(peer=st.integers(0, 1))
    def peer_is_gone(self, peer: int) -> None:
        self.joiners[peer].close()
        self.model.peers[peer].bursts = []
        assert self.joiners[peer].unfinished == 0

    @invariant()
    def all_bounds_hold_and_nothing_leaks(self) -> None:
        if not hasattr(self, "budget"):
            return
        assert self.budget.free == self.limit - self.model.held()
        assert self.budget.free >= 0
        for joiner, peer, meter in zip(self.joiners, self.model.peers, self.meters, strict=True):
            assert joiner.unfinished == len(peer.bursts) <= 8
            assert peer.held() <= 512 * 1024
            assert sum(not burst.proven for burst in peer.bursts) <= 1
            assert joiner.next_timer() == min((burst.deadline() for burst in peer.bursts), default=None)
            assert joiner.drops == peer.drops
            assert meter.calls == peer.given_up

    def teardown(self) -> None:
        if hasattr(self, "budget"):
            for joiner in self.joiners:
                joiner.close()
            assert self.budget.free == self.limit


TestJoinerAgainstModel = JoinerAgainstModel.TestCase
TestJoinerAgainstModel.settings = settings(stateful_step_count=60)


def receive(joiner: Joiner, datagram: bytes, source: str = "proven", now: int = 0) -> bool:
    header = decode_piece_header(datagram)
    return joiner.receive(header, memoryview(datagram), source, now, proven=source == "proven") is not None


def begun() -> tuple[Joiner, list[bytes]]:
    """A joiner that has the first of three pieces of 600, 600 and 300 bytes."""
    joiner = Joiner(Budget(), LossMeter(), Counter())
    burst = datagrams_of(1, 7, 1500, 600)
    receive(joiner, burst[0])
    return joiner, burst


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("number", [None, 1, 2])
def test_the_pieces_that_follow_carry_on_a_burst(number: int | None, together: bool) -> None:
    joiner, burst = begun()
    if together:
        whole, taken = follow(joiner, burst[1:], now=1, marked=number is not None)
        assert taken == 2
    else:
        for datagram in burst[1:]:
            whole, taken = follow(joiner, [datagram], now=1, marked=number is not None and datagram is burst[number])
            assert taken == 1
    assert whole is not None
    assert bytes(whole.sealed) == plain_text(1500, 7)
    assert whole.met_congestion is (number is not None)
    assert follow(joiner, [burst[0]]) == (None, 0)


def test_what_follows_ends_where_another_burst_begins() -> None:
    joiner, burst = begun()
    whole, taken = follow(joiner, [*burst[1:], *datagrams_of(1, 8, 1500, 600)])
    assert taken == 2
    assert whole is not None
    joiner, burst = begun()
    other = datagrams_of(1, 8, 1800, 600)
    assert follow(joiner, [burst[1], other[0], burst[2]]) == (None, 1)
    assert follow(joiner, [other[0], burst[2]]) == (None, 0)
    whole, taken = follow(joiner, [burst[2]])
    assert whole is not None
    assert bytes(whole.sealed) == plain_text(1500, 7)


def test_what_follows_is_taken_only_where_nothing_of_it_is_there() -> None:
    joiner = Joiner(Budget(), LossMeter(), Counter())
    burst = datagrams_of(1, 7, 3000, 600)
    for number in (2, 0):
        receive(joiner, burst[number])
    assert follow(joiner, burst[1:4]) == (None, 0)
    assert not receive(joiner, burst[1])
    assert joiner.drops == {}
    assert follow(joiner, [burst[3]]) == (None, 0)
    receive(joiner, burst[3])
    whole, _ = follow(joiner, [burst[4]])
    assert whole is not None
    assert bytes(whole.sealed) == plain_text(3000, 7)


FOLLOWS = PIECE_HEADER.pack(5, 1, 7, 1500, 1, 3)


@pytest.mark.parametrize(
    "datagram",
    [
        PIECE_HEADER.pack(4, 1, 7, 1500, 1, 3) + bytes(600),
        PIECE_HEADER.pack(5, 2, 7, 1500, 1, 3) + bytes(600),
        PIECE_HEADER.pack(5, 1, 8, 1500, 1, 3) + bytes(600),
        PIECE_HEADER.pack(5, 1, 7 + (1 << 56), 1500, 1, 3) + bytes(600),
        PIECE_HEADER.pack(5, 1, 7, 1501, 1, 3) + bytes(600),
        PIECE_HEADER.pack(5, 1, 7, 1500, 0, 3) + bytes(600),
        PIECE_HEADER.pack(5, 1, 7, 1500, 2, 3) + bytes(300),
        PIECE_HEADER.pack(5, 1, 7, 1500, 1, 2) + bytes(600),
        FOLLOWS + bytes(599),
        FOLLOWS + bytes(601),
        FOLLOWS,
        FOLLOWS[:19],
        b"x",
    ],
)
def test_whatever_is_not_the_piece_that_follows_does_not_carry_on_a_burst(datagram: bytes) -> None:
    joiner, burst = begun()
    assert follow(joiner, [datagram]) == (None, 0)
    assert follow(joiner, burst[1:])[1] == 2


@pytest.mark.parametrize(("total", "size"), [(1500, 600), (1800, 600), (64_400, 1212), (64 * 1006, 1006)])
def test_nothing_follows_the_last_piece(total: int, size: int) -> None:
    """A number beyond the count would be written behind the end of the buffer."""
    budget = Budget()
    joiner = Joiner(budget, LossMeter(), Counter())
    burst = datagrams_of(1, 7, total, size)
    receive(joiner, burst[-1])
    beyond = PIECE_HEADER.pack(5, 1, 7, total, len(burst), len(burst))
    for length in (0, 1, total % size, size - 1, size, total):
        assert follow(joiner, [beyond + bytes(length)] * 2) == (None, 0)
    assert budget.free == MAX_BYTES_PER_NODE - total
    for datagram in burst[:-2]:
        assert not receive(joiner, datagram)
    assert receive(joiner, burst[-2])
    assert budget.free == MAX_BYTES_PER_NODE


def test_the_piece_that_follows_from_another_source_does_not_carry_on_a_burst() -> None:
    joiner, burst = begun()
    assert follow(joiner, [burst[1]], "other") == (None, 0)


@pytest.mark.parametrize("length", [0, 1, 299, 301, 600, 900])
def test_a_last_piece_of_a_wrong_length_does_not_carry_on_a_burst(length: int) -> None:
    joiner, burst = begun()
    receive(joiner, burst[1])
    assert follow(joiner, [burst[2][:20] + bytes(length)]) == (None, 0)
    whole, _ = follow(joiner, [burst[2]])
    assert whole is not None


def test_nothing_carries_on_a_burst_that_was_given_up() -> None:
    joiner, burst = begun()
    joiner.handle_timer(2000 * MS)
    assert follow(joiner, [burst[1]]) == (None, 0)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("marked", [None, 0, 1, 2])
def test_a_mark_of_any_piece_is_one_of_the_burst(order: tuple[int, ...], marked: int | None) -> None:
    joiner = Joiner(Budget(), LossMeter(), Counter())
    burst = datagrams_of(1, 7, 1500, 600)
    for number in order:
        header = decode_piece_header(burst[number])
        whole = joiner.receive(header, memoryview(burst[number]), "a", 0, proven=True, met_congestion=number == marked)
    assert whole is not None
    assert whole.met_congestion is (marked is not None)


def test_the_ninth_burst_takes_the_place_of_the_oldest() -> None:
    budget, meter = Budget(), LossMeter()
    joiner = Joiner(budget, meter, Counter())
    bursts = [datagrams_of(1, counter, 1500, 800) for counter in range(9)]
    for burst in bursts:
        receive(joiner, burst[0])
    assert joiner.unfinished == 8
    assert (meter.given_up, meter.expected, meter.got) == (1, 2, 1)
    assert all(receive(joiner, burst[1]) for burst in bursts[1:])
    assert not receive(joiner, bursts[0][1])


def test_unproven_sources_share_one_burst_and_cost_proven_ones_nothing() -> None:
    joiner = Joiner(Budget(), LossMeter(), Counter())
    mine = datagrams_of(1, 0, 1500, 800)
    receive(joiner, mine[0])
    for counter in range(100):
        receive(joiner, datagrams_of(1, counter, 64_400, 1212)[0], f"forger {counter}")
        assert joiner.unfinished == 2
    assert receive(joiner, mine[1])


def test_unproven_sources_are_turned_away_while_eight_proven_bursts_wait() -> None:
    joiner = Joiner(Budget(), LossMeter(), Counter())
    for counter in range(8):
        receive(joiner, datagrams_of(1, counter, 1500, 800)[0])
    receive(joiner, datagrams_of(1, 0, 64_400, 1212)[0], "forger")
    assert joiner.drops == {"join: no room": 1}


def test_bursts_of_an_unproven_source_that_are_given_up_are_no_loss() -> None:
    meter = LossMeter()
    joiner = Joiner(Budget(), meter, Counter())
    receive(joiner, datagrams_of(1, 0, 64_400, 1212)[0], "forger")
    joiner.handle_timer(250 * MS)
    assert joiner.unfinished == 0
    assert (meter.given_up, meter.expected, meter.got) == (0, 0, 0)


def test_a_node_holds_16_mib_whatever_the_peers() -> None:
    budget = Budget()
    joiners = [Joiner(budget, LossMeter(), Counter()) for _ in range(40)]
    for joiner in joiners:
        for counter in range(8):
            receive(joiner, datagrams_of(1, counter, 64_400, 1212)[0])
    assert 0 <= budget.free < 64_400
    assert sum(joiner.unfinished for joiner in joiners) == 16 * 1024 * 1024 // 64_400
    for joiner in joiners:
        joiner.close()
    assert budget.free == 16 * 1024 * 1024


@pytest.mark.parametrize(("last_ms", "now_ms", "left"), [(0, 249, 1), (0, 250, 0), (200, 449, 1), (200, 450, 0)])
def test_a_burst_is_given_up_250_ms_after_its_last_piece(last_ms: int, now_ms: int, left: int) -> None:
    joiner = Joiner(Budget(), LossMeter(), Counter())
    burst = datagrams_of(1, 0, 64_400, 1212)
    receive(joiner, burst[0])
    if last_ms:
        receive(joiner, burst[1], now=last_ms * MS)
    joiner.handle_timer(now_ms * MS)
    assert joiner.unfinished == left


def test_a_burst_is_given_up_2_s_after_its_first_piece() -> None:
    meter = LossMeter()
    joiner = Joiner(Budget(), meter, Counter())
    burst = datagrams_of(1, 0, 64_400, 1212)
    for number in range(20):
        receive(joiner, burst[number], now=number * 100 * MS)
        joiner.handle_timer(number * 100 * MS)
    assert joiner.next_timer() == 2000 * MS
    joiner.handle_timer(2000 * MS - 1)
    assert joiner.unfinished == 1
    joiner.handle_timer(2000 * MS)
    assert joiner.unfinished == 0
    assert (meter.given_up, meter.got, meter.expected) == (1, 20, 54)
