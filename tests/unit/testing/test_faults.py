from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import UsageError
from weft.testing.clock import MS, S
from weft.testing.faults import FaultInjector, Faults
from weft.testing.trace import Fate

PACKETS = 10_000


def carry_many(faults: Faults, *, every_ns: int = MS, size: int = 1_000, seed: int = 1) -> list[tuple[int, ...]]:
    injector = FaultInjector(faults, Random(seed))
    return [injector.carry(size, number * every_ns).arrivals for number in range(PACKETS)]


def test_no_faults_delivers_at_once() -> None:
    injector = FaultInjector(Faults(), Random(0))
    assert injector.carry(1_500, 7) == (Fate.IN_FLIGHT, (7,), False)


def test_latency_shifts_every_packet_by_the_same() -> None:
    assert carry_many(Faults(latency_ns=5 * MS))[:3] == [(5 * MS,), (6 * MS,), (7 * MS,)]


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5])
def test_loss_takes_about_its_share(share: float) -> None:
    lost = sum(not arrivals for arrivals in carry_many(Faults(loss=share)))
    assert abs(lost - share * PACKETS) < 4 * (PACKETS * share) ** 0.5


def test_loss_of_everything_loses_everything() -> None:
    assert not any(carry_many(Faults(loss=1)))


def test_duplication_delivers_about_its_share_twice() -> None:
    doubled = sum(len(arrivals) == 2 for arrivals in carry_many(Faults(duplication=0.1)))
    assert 900 < doubled < 1_100


def test_jitter_alone_spreads_arrivals_and_keeps_the_order() -> None:
    times = [arrivals[0] for arrivals in carry_many(Faults(latency_ns=10 * MS, jitter_ns=5 * MS))]
    late = [time - number * MS - 10 * MS for number, time in enumerate(times)]
    assert times == sorted(times)
    assert 0 <= min(late) < MS
    assert 4 * MS < max(late) <= 5 * MS


def test_reordering_lets_packets_behind_overtake_its_share() -> None:
    times = [arrivals[0] for arrivals in carry_many(Faults(reordering=0.1, held_back_ns=3 * MS // 2))]
    overtaken = sum(later < earlier for earlier, later in pairwise(times))
    assert 0.07 * PACKETS < overtaken < 0.11 * PACKETS


def test_rate_spaces_packets_and_its_queue_drops_what_does_not_fit() -> None:
    injector = FaultInjector(Faults(rate_bps=8_000_000, queue_bytes=3_000), Random(0))
    passages = [injector.carry(1_000, 0) for _ in range(5)]
    assert [arrival for passage in passages for arrival in passage.arrivals] == [1 * MS, 2 * MS, 3 * MS]
    assert injector.fates == {Fate.IN_FLIGHT: 3, Fate.QUEUE_FULL: 2}
    assert injector.carry(1_000, 3 * MS).arrivals == (4 * MS,)


def test_rate_carries_a_packet_larger_than_its_queue_when_that_is_empty() -> None:
    injector = FaultInjector(Faults(rate_bps=8_000_000, queue_bytes=100), Random(0))
    assert injector.carry(1_000, 0).arrivals == (MS,)
    assert injector.carry(1_000, 0).fate is Fate.QUEUE_FULL


def test_packet_over_the_mtu_is_too_big() -> None:
    injector = FaultInjector(Faults(mtu_bytes=1_280), Random(0))
    assert injector.carry(1_280, 0).fate is Fate.IN_FLIGHT
    assert injector.carry(1_281, 0).fate is Fate.TOO_BIG
    assert injector.carry(60_000, 0, largest=1_280).fate is Fate.IN_FLIGHT


def test_faults_changed_while_running_hold_for_the_next_packet() -> None:
    injector = FaultInjector(Faults(), Random(0))
    injector.faults = Faults(loss=1)
    assert injector.carry(1, 0).fate is Fate.LOST
    injector.faults = Faults()
    assert injector.carry(1, 0).fate is Fate.IN_FLIGHT


@pytest.mark.parametrize(
    "values", [{"loss": 1.1}, {"loss": -0.1}, {"duplication": 2}, {"latency_ns": -1}, {"rate_bps": 0}]
)
def test_faults_out_of_range_refuse(values: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Faults(**values)  # type: ignore[arg-type]


@given(
    faults=st.builds(
        Faults,
        latency_ns=st.integers(0, S),
        jitter_ns=st.integers(0, S),
        loss=st.floats(0, 1),
        reordering=st.floats(0, 1),
        duplication=st.floats(0, 1),
        rate_bps=st.none() | st.integers(1_000, 10**10),
    ),
    sizes=st.lists(st.integers(1, 65_535), max_size=50),
    seed=st.integers(),
)
def test_any_faults_repeat_by_seed_and_never_deliver_into_the_past(faults: Faults, sizes: list[int], seed: int) -> None:
    runs = []
    for _ in range(2):
        injector = FaultInjector(faults, Random(seed))
        runs.append([injector.carry(size, number * MS) for number, size in enumerate(sizes)])
    assert runs[0] == runs[1]
    for number, passage in enumerate(runs[0]):
        assert all(arrival >= number * MS + faults.latency_ns for arrival in passage.arrivals)
        assert bool(passage.arrivals) == (passage.fate is Fate.IN_FLIGHT)
