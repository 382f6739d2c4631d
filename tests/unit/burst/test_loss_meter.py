"""What the receiver counts, under loss, reordering, duplicates and rekeys; the datapath's part is played here."""

from __future__ import annotations

from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from weft.burst.size import LossMeter


class Receiver:
    """Does with a meter what the datapath does."""

    def __init__(self) -> None:
        self.meter = LossMeter()
        self.receiving = -1
        self.accepted: set[tuple[int, int]] = set()

    def receive(self, keypair: int, counter: int, pieces: int = 1) -> None:
        """A message opened; a burst if it has more than one piece. The replay window drops a second one."""
        if (keypair, counter) in self.accepted:
            return
        self.accepted.add((keypair, counter))
        meter = self.meter
        if pieces > 1:
            meter.opened += 1
            meter.expected += pieces
            meter.got += pieces
        if keypair > self.receiving:
            self.receiving = keypair
            meter.start(counter)
        if keypair == self.receiving:
            meter.seen += 1
            meter.highest = max(meter.highest, counter)


def test_nothing_received_is_nothing_counted() -> None:
    assert LossMeter().report() == (0, 0, 0, 0, 0, 0)


def test_gaps_are_counted_until_they_close() -> None:
    receiver = Receiver()
    for counter in (0, 1, 4):
        receiver.receive(0, counter)
    assert receiver.meter.report().missing == 2
    receiver.receive(0, 3)
    assert receiver.meter.report().missing == 1
    receiver.receive(0, 3)
    assert receiver.meter.report().missing == 1


def test_a_burst_that_is_given_up_counts_its_missing_pieces_and_no_gap() -> None:
    receiver = Receiver()
    receiver.receive(0, 0, 8)
    receiver.receive(0, 2, 8)
    assert receiver.meter.report()[:5] == (1, 16, 16, 2, 0)
    receiver.meter.give_up(5, 3)
    assert receiver.meter.report()[:5] == (0, 24, 21, 2, 1)


def test_a_rekey_keeps_the_gaps_of_the_old_keypair() -> None:
    receiver = Receiver()
    for counter in (0, 1, 5):
        receiver.receive(0, counter)
    for counter in (3, 4, 6):
        receiver.receive(1, counter)
    assert receiver.meter.report().missing == 3 + 1
    receiver.receive(0, 6)
    assert receiver.meter.report().missing == 3 + 1


FATES = st.lists(st.sampled_from(["arrives"] * 8 + ["lost", "twice", "late"]), min_size=1, max_size=80)


@given(st.lists(FATES, min_size=1, max_size=3), st.integers(1, 5), st.integers(0, 2**32))
@example([["arrives", "late", "lost", "arrives"]], 3, 0)
def test_all_that_was_lost_between_what_arrived_is_missing(keypairs: list[list[str]], depth: int, seed: int) -> None:
    """Reordering within a keypair leaves no trace once all is there; loss at its end can't be seen."""
    random = Random(seed)
    receiver = Receiver()
    expected = 0
    for keypair, fates in enumerate(keypairs):
        arrivals = [(float(0), 0)]
        for counter, fate in enumerate(fates, 1):
            if fate != "lost":
                arrivals += [(counter + (random.random() * depth if fate == "late" else 0), counter)]
            if fate == "twice":
                arrivals += [(counter + random.random() * depth, counter)]
        for _, counter in sorted(arrivals):
            receiver.receive(keypair, counter)
        arrived = {counter for _, counter in arrivals}
        expected += max(arrived) + 1 - len(arrived)
        assert receiver.meter.report().missing == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300), st.sampled_from([1, 1, 4, 64])), max_size=60))
def test_in_any_order_the_counts_but_the_gaps_only_grow(messages: list[tuple[int, int, int]]) -> None:
    receiver = Receiver()
    last = receiver.meter.report()
    for keypair, counter, pieces in messages:
        receiver.receive(keypair, counter, pieces)
        report = receiver.meter.report()
        assert min(report) >= 0
        assert all(new >= old for new, old in zip(report[1:], last[1:], strict=True))
        last = report


def test_what_was_lost_here_is_forgiven_and_what_was_lost_before_and_after_is_not() -> None:
    receiver = Receiver()
    for counter in (0, 1, 3):
        receiver.receive(0, counter, 4)
    receiver.meter.give_up(1, 3)
    told = receiver.meter.report()
    assert (told.missing, told.expected - told.got) == (0, 3)
    for counter in (8, 9):
        receiver.receive(0, counter, 4)
    receiver.meter.give_up(2, 2)
    receiver.meter.forgive()
    now = receiver.meter.report()
    assert (now.missing, now.expected - now.got) == (0, 3)
    assert now.expected == told.expected + 2 * 4 + 2
    receiver.receive(0, 12, 4)
    receiver.meter.give_up(0, 4)
    later = receiver.meter.report()
    assert (later.missing, later.expected - later.got) == (1, 7)
