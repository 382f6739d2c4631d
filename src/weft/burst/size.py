"""How many pieces a burst may have: the receiver's count of what was lost, and the sender's answer to it.

A lost datagram loses its burst, so the number of pieces follows the measured loss: pieces = c / p, from 1 (type 4
messages, exactly WireGuard's) to 64, and never more than the path delivers in 2 ms (`rate`).

    receiver    counts and, at most each 200 ms while anything comes, reports six numbers that only grow:
                [datagrams missing by counter gap, pieces expected, pieces got, bursts opened, given up, bad tags]
    sender      p = lost / sent, of a memory of some hundred losses that is given up for what is new as soon as the
                two contradict each other; while bursts of the present size are lost at 0.033 to 0.08, they keep it
    black hole  none of the bursts of 1 s arrived: type 4 only, one trial burst after 10 s, doubling to 10 min

Why a memory in losses and not in time: chance makes a count of n losses uncertain by its square root, so a measure over
any fixed time is too slow on a fast path or never at rest on a slow one.

Source: wire.md section 4, "Loss". The measure of p and going up by doubling instead of by a quarter a second are ours:
from the size at 1 loss in 20 to whole bursts takes 4 s instead of 19.
"""

from __future__ import annotations

from math import sqrt
from typing import Final, NamedTuple

from weft.burst.header import MAX_PIECES
from weft.burst.rate import DeliveryRate

LOSS_PER_BURST: Final = 0.05
"""c: the loss of whole bursts that is aimed at. At 1 loss in 1,000, 0.03 gave 0.71 of what whole bursts give."""
LEAST_PER_BURST: Final = 0.033
MOST_PER_BURST: Final = 0.08
"""Both are about 1.5 times away from c: the memory holds 128 to 256 losses, of which chance makes 6 to 9 %, and what a
size loses by being a whole number has room too. Whole bursts stay at 1 loss in 1,000."""
REPORT_INTERVAL_NS: Final = 200_000_000
NEGLIGIBLE_LOSS: Final = LEAST_PER_BURST / MAX_PIECES
"""Less leaves bursts whole, wherever the size comes from."""
SAMPLE_LOSSES: Final = 30
"""A sample is judged as soon as so many losses would be in it, were the loss what it was before."""
MEMORY_LOSSES: Final = 256
SIGNIFICANT_MORE: Final = 4
"""Standard deviations that a sample must differ by to be more than chance."""
SIGNIFICANT_LESS: Final = 5
"""The size that a lucky sample asks for is taken back at once, so luck has to be rarer."""
GROW_INTERVAL_NS: Final = 500_000_000
REST_NS: Final = 10_000_000_000
"""Less than doubling waits so long after a change: chance alone may ask for it."""
REPORT_TIMEOUT_NS: Final = 1_000_000_000
BURSTS_BEFORE_HOLE: Final = 3
"""Where type 4 messages arrive, so many bursts have to vanish in a row: fewer may be plain loss."""
FIRST_TRIAL_NS: Final = 10_000_000_000
LAST_TRIAL_NS: Final = 600_000_000_000


class LossReport(NamedTuple):
    """What a receiver has counted since its start; the value of `r` in a notice."""

    missing: int
    """Datagrams that the gaps between counters tell of."""
    expected: int
    """Pieces of all bursts of which at least one piece came."""
    got: int
    opened: int
    given_up: int
    bad_tags: int


class LossMeter:
    """The receiver's counts. The datapath adds to the attributes directly, once per burst.

    `highest` and `seen` belong to the keypair in use; `start` closes the account of the one before. A burst that was
    given up is seen too: its missing pieces are counted as such, not as a gap.

    What a full socket of our own has dropped is forgiven: shorter bursts would cost more time for each byte, of which
    there was too little already.
    """

    __slots__ = (
        "_forgiven_missing",
        "_forgiven_pieces",
        "_missing_before",
        "_told",
        "bad_tags",
        "expected",
        "first",
        "given_up",
        "got",
        "highest",
        "opened",
        "seen",
    )

    def __init__(self) -> None:
        self.first = 0
        self.highest = -1
        self.seen = 0
        self.expected = 0
        self.got = 0
        self.opened = 0
        self.given_up = 0
        self.bad_tags = 0
        self._missing_before = 0
        self._forgiven_missing = 0
        self._forgiven_pieces = 0
        self._told = self._counts()

    def start(self, counter: int) -> None:
        """Begin to count gaps anew, with the first counter of another keypair."""
        self._missing_before += self._missing()
        self.first = counter
        self.highest = counter - 1
        self.seen = 0

    def give_up(self, got: int, missing: int) -> None:
        """Count a burst that was given up."""
        self.given_up += 1
        self.seen += 1
        self.got += got
        self.expected += got + missing

    def report(self) -> LossReport:
        """The counts of now."""
        self._told = self._counts()
        return self._told

    def forgive(self) -> None:
        """Whatever has been lost since the last report was lost in our own socket, and says nothing of the path."""
        told, now = self._told, self._counts()
        self._forgiven_missing += max(0, now.missing - told.missing)
        self._forgiven_pieces += max(0, now.expected - now.got - (told.expected - told.got))

    def _counts(self) -> LossReport:
        return LossReport(
            max(0, self._missing_before + self._missing() - self._forgiven_missing),
            self.expected - self._forgiven_pieces,
            self.got,
            self.opened,
            self.given_up,
            self.bad_tags,
        )

    def _missing(self) -> int:
        return max(0, self.highest - self.first + 1 - self.seen)


class BurstSize:
    """The sender's side for one path.

    Attributes:
        pieces: how many datagrams a burst may have now; 1 means type 4 messages only.
        vanish: whether bursts do not arrive or are refused, whatever their size.
        wanted: how many the loss alone would allow.
        loss: share of lost datagrams, 0 to 1.
        datagrams_sent: counted up by the datapath, once per burst.
    """

    __slots__ = (
        "_changed_at",
        "_first_unreported_at",
        "_hole_for",
        "_hole_until",
        "_is_trial",
        "_last",
        "_last_sent",
        "_lost",
        "_rate",
        "_refused_for",
        "_refused_until",
        "_sample_late",
        "_sample_lost",
        "_sample_sent",
        "_sent",
        "_unreported",
        "datagrams_sent",
        "fixed",
        "loss",
        "pieces",
        "vanish",
        "wanted",
    )

    def __init__(self, *, fixed: int | None = None) -> None:
        """Start with whole bursts.

        Args:
            fixed: a size that no report changes, for measurements; 0 and 1 both mean type 4 messages only.
        """
        self.fixed = None if fixed is None else max(1, min(fixed, MAX_PIECES))
        self.pieces = self.wanted = self.fixed or MAX_PIECES
        self.vanish = False
        self.loss = 0.0
        self.datagrams_sent = 0
        self._last: LossReport | None = None
        self._last_sent = 0
        self._sent = self._lost = 0
        self._sample_sent = self._sample_lost = self._sample_late = 0
        self._changed_at = 0
        self._rate = DeliveryRate()
        self._first_unreported_at: int | None = None
        self._unreported = 0
        self._hole_until = 0
        self._hole_for = FIRST_TRIAL_NS
        self._is_trial = False
        self._refused_until = 0
        self._refused_for = FIRST_TRIAL_NS

    def handle_burst_sent(self, now: int) -> bool:
        """Note that a burst of more than one piece left; the first since the last report starts the watch.

        Returns:
            True if that set a timer.
        """
        self._unreported += 1
        if self._first_unreported_at is not None:
            return False
        self._first_unreported_at = now
        self._settle(now)
        return True

    def receive_report(self, report: LossReport, now: int) -> None:
        """Take the other side's counts."""
        last = self._last
        if last is not None and any(new < old for new, old in zip(report[1:], last[1:], strict=True)):
            last = None
        self._last = report
        sent = self.datagrams_sent - self._last_sent
        self._last_sent = self.datagrams_sent
        self._note_arrivals(report.got - (last.got if last else 0))
        if last is None:
            self._rate.start(now)
        else:
            lost = report.missing - last.missing + (report.expected - last.expected) - (report.got - last.got)
            self._sample_sent += sent
            self._sample_lost += lost
            self._rate.add(sent - lost, now)
            self._judge(sent)
            self._adapt(now)
        self._settle(now)

    def receive_refusal(self, now: int) -> None:
        """The other side asks for type 4 only (`burst` 0): three bad tags in a second."""
        self._refused_until = now + self._refused_for
        self._refused_for = min(2 * self._refused_for, LAST_TRIAL_NS)
        self._settle(now)

    def handle_timer(self, now: int) -> None:
        """Look for a black hole, and for the end of one."""
        since = self._first_unreported_at
        if since is not None and now - since >= REPORT_TIMEOUT_NS:
            self._first_unreported_at = None
            self._is_trial = True
            self._hole_until = now + self._hole_for
            self._hole_for = min(2 * self._hole_for, LAST_TRIAL_NS)
        self._settle(now)

    def next_timer(self) -> int | None:
        """When `handle_timer` has something to do, monotonic ns."""
        times = [at for at in (self._hole_until, self._refused_until) if at]
        if self._first_unreported_at is not None:
            times.append(self._first_unreported_at + REPORT_TIMEOUT_NS)
        return min(times, default=None)

    def _note_arrivals(self, pieces: int) -> None:
        """End the watch: pieces of bursts arrived, or at least the other side is there and few bursts are in doubt."""
        if pieces > 0:
            self._unreported = 0
            self._first_unreported_at = None
            self._is_trial = False
            self._hole_until = 0
            self._hole_for = FIRST_TRIAL_NS
        elif not self._is_trial and self._unreported < BURSTS_BEFORE_HOLE:
            self._first_unreported_at = None

    def _judge(self, newest: int) -> None:
        """Add a sample that is large enough to the memory, or let it take the place of one that it contradicts.

        Of the datagrams sent just before the sample began (`newest` of the one before), some were on their way when
        the report was made, so their losses are in this one: many of them, where a fast flow ended there.
        """
        sent, lost = self._sample_sent, self._sample_lost
        rate = max(self.loss, NEGLIGIBLE_LOSS)
        expected = sent * rate
        chance = sqrt(expected)
        late = self._sample_late * rate
        is_more = lost > expected + late + SIGNIFICANT_MORE * (sqrt(expected + late) + 1)
        if sent <= 0 or not (is_more or expected >= SAMPLE_LOSSES):
            return
        if is_more or lost < expected - SIGNIFICANT_LESS * chance:
            self._sent = self._lost = 0
        elif (self._sent + sent) * rate > MEMORY_LOSSES:
            self._sent //= 2
            self._lost //= 2
        self._sent += sent
        self._lost += max(0, lost)
        self._sample_sent = self._sample_lost = 0
        self._sample_late = newest
        self.loss = min(1.0, self._lost / self._sent)

    def _adapt(self, now: int) -> None:
        """Move the wanted size towards c / p: down at once, up only as far as one more loss would allow."""
        if self.wanted * self.loss > MOST_PER_BURST:
            self.wanted = max(1, int(LOSS_PER_BURST / self.loss))
            self._changed_at = now
        elif self.wanted * self.loss < LEAST_PER_BURST:
            sent = self._sent + self._sample_sent
            goal = min(MAX_PIECES, int(LOSS_PER_BURST * sent / (self._lost + max(0, self._sample_lost) + 1)))
            pause = GROW_INTERVAL_NS if goal >= min(2 * self.wanted, MAX_PIECES) else REST_NS
            if goal > self.wanted and now - self._changed_at >= pause:
                self.wanted = min(goal, 2 * self.wanted)
                self._changed_at = now

    def _settle(self, now: int) -> None:
        """Derive `pieces` from the wanted size, the rate and what forbids bursts."""
        if self._refused_until and now >= self._refused_until:
            self._refused_until = 0
        if self._hole_until and now >= self._hole_until:
            self._hole_until = 0
        is_tried = self._is_trial and self._first_unreported_at is not None
        self.vanish = self.fixed is None and bool(self._refused_until or self._hole_until or is_tried)
        if self.fixed is not None:
            self.pieces = self.fixed
        elif self.vanish:
            self.pieces = 1
        else:
            self.pieces = min(self.wanted, self._rate.limit(now))
