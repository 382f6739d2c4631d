"""The search for the path MTU against a model path, in virtual time."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weft.paths.mtu import CONFIRM_INTERVAL_NS, SIZES, PathMtu

S = 1_000_000_000
MS = 1_000_000
RTT_NS = 30 * MS
TIMEOUT_NS = 2 * S
REKEY_S = 120


class ModelPath:
    """What carries the probes.

    Attributes:
        mtu: the machine.
        limit: larger packets vanish on the way, silently.
        link: larger packets are refused by the kernel, at once.
        loss: share of probes that get lost or whose answers do.
        probes: sizes in the order of their probes.
        refused: how often the kernel refused one.
        best_ns: how long the machine has used the best size that it can find.
    """

    def __init__(self, limit: int, ceiling: int, *, link: int = 65_535, loss: float = 0, seed: int = 0) -> None:
        self.mtu = PathMtu(ceiling)
        self.limit = limit
        self.link = link
        self.loss = loss
        self.in_use = True
        self.probes: list[int] = []
        self.refused = 0
        self.best_ns = 0
        self.now = 1000 * S
        self._random = Random(seed)
        self._first_ceiling = ceiling
        self._outcome: tuple[int, int, bool] | None = None
        self.check()

    @property
    def best(self) -> int:
        """The largest size of the table that fits."""
        fits = min(self.limit, self.link, self._first_ceiling)
        return max((size for size in SIZES if size <= fits), default=min(1280, self._first_ceiling))

    def check(self) -> None:
        mtu = self.mtu
        assert mtu.ceiling <= self._first_ceiling
        assert min(1280, self._first_ceiling) <= mtu.mtu <= mtu.ceiling

    def start(self) -> None:
        self.mtu.start(self.now)

    def run(self, seconds: float) -> None:
        end = self.now + int(seconds * S)
        steps = 0
        while self.now < end:
            times = [at for at in (self.mtu.next_timer(), self._outcome and self._outcome[0]) if at is not None]
            then = min([max(self.now, at) for at in times] + [end])
            steps = steps + 1 if then == self.now else 0
            assert steps < 100, "the timer stays due whatever is done"
            if self.mtu.mtu >= self.best:
                self.best_ns += then - self.now
            self.now = then
            if self._outcome is not None and self._outcome[0] <= self.now:
                self._end_probe()
            elif (size := self.mtu.probe_due(self.now, in_use=self.in_use)) is not None:
                self._probe(size)
            self.check()

    def _probe(self, size: int) -> None:
        assert self._outcome is None, "one probe at a time"
        assert min(1280, self._first_ceiling) <= size <= self.mtu.ceiling
        self.probes.append(size)
        if size > self.link:
            self.refused += 1
            self.mtu.handle_too_big(size, self.now)
        elif size <= self.limit and self._random.random() >= self.loss:
            self._outcome = (self.now + RTT_NS, size, True)
        else:
            self._outcome = (self.now + TIMEOUT_NS, size, False)

    def _end_probe(self) -> None:
        assert self._outcome is not None
        _, size, answered = self._outcome
        self._outcome = None
        if answered:
            self.mtu.handle_answered(size, self.now)
        else:
            self.mtu.handle_lost(size, self.now)


LIMITS = (1280, 1340, 1400, 1420, 1492, 1500, 9000, 65_535)
CEILINGS = (1500, 9000, 65_535)


@pytest.mark.parametrize("ceiling", CEILINGS)
@pytest.mark.parametrize("limit", LIMITS)
def test_the_search_ends_at_the_largest_size_that_fits(limit: int, ceiling: int) -> None:
    path = ModelPath(limit, ceiling)
    path.start()
    path.run(40)
    assert path.mtu.mtu == path.best == min(limit, ceiling)
    path.run(600)
    assert path.mtu.mtu == path.best


def test_an_ordinary_path_takes_one_probe() -> None:
    path = ModelPath(1500, 1500)
    path.start()
    path.run(1)
    assert (path.mtu.mtu, path.probes) == (1500, [1500])


def test_jumbo_frames_take_two_probes() -> None:
    path = ModelPath(9000, 9000)
    path.start()
    path.run(1)
    assert (path.mtu.mtu, path.probes) == (9000, [1500, 9000])


@given(st.integers(1280, 65_535), st.integers(1280, 65_535))
def test_on_any_path_the_search_ends_at_that_size_or_better(limit: int, ceiling: int) -> None:
    path = ModelPath(limit, ceiling)
    path.start()
    path.run(60)
    assert path.best <= path.mtu.mtu <= limit


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limit", LIMITS)
def test_with_5_percent_loss_the_best_size_is_in_use_most_of_the_time(limit: int, seed: int) -> None:
    """Two probes lost in a row tell a lie once in a hundred; the next session puts it right."""
    path = ModelPath(limit, max(limit, 1500), loss=0.0975, seed=seed)
    for _ in range(20):
        path.start()
        path.run(REKEY_S)
        assert path.mtu.mtu <= limit
    assert path.best_ns > 0.8 * 20 * REKEY_S * S


@pytest.mark.parametrize("after", [1280, 1300, 1400, 1492])
def test_a_path_that_shrinks_while_in_use_is_found_by_the_confirmation(after: int) -> None:
    path = ModelPath(1500, 1500)
    path.start()
    path.run(100)
    path.limit = after
    path.run(20)
    assert path.mtu.mtu <= after
    path.run(40)
    assert path.mtu.mtu == path.best


def test_a_confirmation_that_began_is_finished_though_nothing_is_sent_meanwhile() -> None:
    """Who sends over a path that shrank is silent between two retransmissions."""
    path = ModelPath(1500, 1500)
    path.start()
    path.run(CONFIRM_INTERVAL_NS / S + 1)
    path.limit = 1400
    path.run(CONFIRM_INTERVAL_NS / S)
    path.in_use = False
    path.run(5)
    assert path.mtu.mtu <= 1400


def test_an_idle_path_is_not_confirmed() -> None:
    path = ModelPath(1500, 1500)
    path.in_use = False
    path.start()
    path.run(3600)
    assert path.probes == [1500]


def test_a_path_in_use_is_confirmed_each_15_s() -> None:
    path = ModelPath(1500, 1500)
    path.start()
    path.run(3600)
    assert set(path.probes) == {1500}
    assert 200 <= len(path.probes) <= 241


def test_one_lost_confirmation_changes_nothing() -> None:
    mtu = PathMtu()
    mtu.start(S)
    assert mtu.probe_due(S, in_use=True) == 1500
    mtu.handle_answered(1500, S)
    now = mtu.next_timer()
    assert now == 16 * S
    assert mtu.probe_due(now, in_use=True) == 1500
    mtu.handle_lost(1500, now + 2 * S)
    assert mtu.mtu == 1500
    now = mtu.next_timer()
    assert now == 18 * S + 200 * MS
    assert mtu.probe_due(now, in_use=True) == 1500
    mtu.handle_answered(1500, now)
    assert mtu.mtu == 1500
    assert mtu.probe_due(now + 15 * S, in_use=True) == 1500
    mtu.handle_lost(1500, now + 17 * S)
    assert mtu.mtu == 1500, "lost ones count in a row"


def test_a_lost_probe_of_another_size_changes_nothing() -> None:
    mtu = PathMtu()
    mtu.start(S)
    mtu.probe_due(S, in_use=True)
    for _ in range(5):
        mtu.handle_lost(1280, 2 * S)
        mtu.handle_lost(1492, 2 * S)
    mtu.handle_lost(1500, 3 * S)
    assert mtu.probe_due(4 * S, in_use=True) == 1500


def test_a_path_that_grows_is_found_with_the_next_session() -> None:
    path = ModelPath(1400, 1500)
    path.start()
    path.run(60)
    path.limit = 1500
    path.start()
    path.run(10)
    assert path.mtu.mtu == 1500


@pytest.mark.parametrize("link", [1280, 1300, 1420, 1499, 1500, 9000])
def test_a_link_that_refuses_is_believed_at_once(link: int) -> None:
    path = ModelPath(65_535, 65_535, link=link)
    path.start()
    path.run(1)
    assert path.mtu.mtu == path.best
    assert path.refused <= len(SIZES), "not byte by byte"
    assert path.mtu.ceiling <= link


def test_a_refusal_of_the_size_in_use_lowers_it_at_once() -> None:
    path = ModelPath(1500, 1500)
    path.start()
    path.run(3)
    path.link = 1420
    path.mtu.handle_too_big(1500, path.now)
    assert path.mtu.mtu <= 1420
    path.run(5)
    assert path.mtu.mtu == 1420
    path.start()
    path.run(5)
    assert path.mtu.mtu == 1420
    assert path.mtu.ceiling == 1420


def test_a_refusal_of_less_than_1280_bytes_leaves_1280() -> None:
    mtu = PathMtu()
    mtu.start(S)
    mtu.handle_too_big(600, S)
    assert (mtu.mtu, mtu.ceiling) == (1280, 1280)


@pytest.mark.parametrize("ceiling", [576, 1279, 1280])
def test_a_link_of_less_than_1280_is_used_as_it_is(ceiling: int) -> None:
    """Links that small carry IPv4 alone."""
    path = ModelPath(ceiling, ceiling)
    path.start()
    path.mtu.handle_too_big(ceiling, path.now)
    path.run(100)
    assert path.mtu.mtu == ceiling
    assert set(path.probes) <= {ceiling}


def test_more_than_an_ip_packet_is_never_tried() -> None:
    """The MTU of a loopback interface is 65,536."""
    path = ModelPath(65_536, 65_536)
    path.start()
    path.run(3)
    assert path.mtu.mtu == 65_535


def test_an_answer_above_a_ceiling_that_was_lowered_meanwhile_stays_below_it() -> None:
    mtu = PathMtu()
    mtu.start(S)
    assert mtu.probe_due(S, in_use=True) == 1500
    mtu.handle_too_big(1480, S)
    mtu.handle_answered(1500, S + RTT_NS)
    assert mtu.mtu <= mtu.ceiling < 1480


def test_while_a_probe_is_on_its_way_no_timer_is_due() -> None:
    mtu = PathMtu()
    mtu.start(S)
    mtu.probe_due(S, in_use=True)
    assert mtu.next_timer() is None
    mtu.handle_too_big(9000, S)
    assert mtu.next_timer() is None
    assert mtu.probe_due(100 * S, in_use=True) is None


def test_a_search_that_begins_anew_forgets_the_probe_before() -> None:
    mtu = PathMtu()
    mtu.start(S)
    assert mtu.probe_due(S, in_use=True) == 1500
    mtu.handle_lost(1500, 3 * S)
    mtu.start(4 * S)
    assert mtu.probe_due(4 * S, in_use=True) == 1500
    mtu.handle_lost(1500, 6 * S)
    assert mtu.probe_due(7 * S, in_use=True) == 1500, "it was lost once since"


def test_a_search_that_begins_anew_waits_for_no_probe_of_the_one_before() -> None:
    mtu = PathMtu()
    mtu.start(S)
    assert mtu.probe_due(S, in_use=True) == 1500
    mtu.start(S + 1)
    assert mtu.next_timer() == S + 1
    assert mtu.probe_due(S + 1, in_use=True) == 1500


def test_nothing_is_probed_before_the_start() -> None:
    mtu = PathMtu()
    assert mtu.next_timer() is None
    assert mtu.probe_due(100 * S, in_use=True) is None
    assert mtu.mtu == 1280


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["answered", "lost", "too big"]), st.none() | st.integers(500, 10_000)),
        st.tuples(st.sampled_from(["start", "due", "due", "idle"]), st.none()),
    ),
    max_size=40,
)


@example(1500, [("answered", 1450), ("too big", 1452)])
@given(st.sampled_from([576, 1280, 1400, 1500, 9000, 65_536]), EVENTS)
def test_whatever_happens_the_bounds_hold(ceiling: int, events: list[tuple[str, int | None]]) -> None:
    mtu = PathMtu(ceiling)
    now = S
    probing = 1280
    for name, other in events:
        now += S
        size = probing if other is None else other
        if name == "start":
            mtu.start(now)
        elif name == "answered":
            # An answer tells of a probe that was sent, which is never above the ceiling of its time.
            mtu.handle_answered(min(size, ceiling), now)
        elif name == "lost":
            mtu.handle_lost(size, now)
        elif name == "too big":
            mtu.handle_too_big(size, now)
        elif (probe := mtu.probe_due(now + 20 * S, in_use=name == "due")) is not None:
            assert min(1280, ceiling) <= probe <= mtu.ceiling
            probing = probe
        assert min(1280, ceiling) <= mtu.mtu <= mtu.ceiling <= min(ceiling, 65_535)
