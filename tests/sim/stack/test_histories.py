"""Random histories of two hosts: whatever happens, what arrives is what was said, everything ends, nothing is left.

1,000 of them in `make test`, 10,000 in `make long`; half with super-packets that cross whole, half with single packets.
In a third of them, connections to one host may have so little on the way together that they wait for each other.
The invariants are those of `world.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.sim.stack.world import KEEPALIVE, MS, OWN_PORTS, S, User, World
from tests.unit.stack.wire import Faults
from weft.stack.tcp import macroflow

STEPS = 16
MOST_CONVERSATIONS = 4
LITTLE_BYTES = 3000
"""What connections to one host may have on the way together, of a path without delay, where they are to wait."""

SPANS = st.sampled_from((0, 1 * MS, 15 * MS, 60 * MS, 300 * MS, 2 * S, 20 * S))
SIZES = st.one_of(st.integers(1, 4000), st.sampled_from((1, 1280, 1292, 20_000, 64_000, 150_000)))
FAULTS = st.builds(
    Faults,
    latency_ns=st.sampled_from((0, 1 * MS, 10 * MS, 80 * MS)),
    jitter_ns=st.sampled_from((0, 0, 5 * MS)),
    loss=st.sampled_from((0.0, 0.0, 0.01, 0.05, 0.2)),
    reordering=st.sampled_from((0.0, 0.0, 0.1, 0.5)),
    held_back_ns=st.sampled_from((2 * MS, 40 * MS, 3 * S)),
    duplication=st.sampled_from((0.0, 0.0, 0.1, 1.0)),
    rate_bps=st.sampled_from((None, None, None, 10_000_000)),
)


class Histories(RuleBasedStateMachine):
    """What users do, and what becomes of the wire, in any order."""

    whole: bool

    @initialize(
        seed=st.integers(0, 9), answers_too_big=st.booleans(), takes_turns=st.sampled_from((False, False, True))
    )
    def begin(self, seed: int, answers_too_big: bool, takes_turns: bool) -> None:
        self.patch = pytest.MonkeyPatch()
        self.world = World(seed=seed, whole=self.whole, answers_too_big=answers_too_big)
        if takes_turns:
            self.patch.setattr(macroflow, "HELD_BYTES", LITTLE_BYTES)
            for _ in range(MOST_CONVERSATIONS - 1):
                mine = self.world.connect(ipv4=False, own_port=None)
                assert mine is not None
                mine.opened.say(4 * LITTLE_BYTES)

    @precondition(lambda self: len(self.world.conversations) < MOST_CONVERSATIONS)
    @rule(ipv4=st.booleans(), own_port=st.sampled_from((None, *OWN_PORTS)), size=SIZES, span=SPANS)
    def connect(self, ipv4: bool, own_port: int | None, size: int, span: int) -> None:
        mine = self.world.connect(ipv4=ipv4, own_port=own_port)
        if mine is not None:
            mine.opened.say(size)
        self.world.advance(span)

    @precondition(lambda self: len(self.world.conversations) < MOST_CONVERSATIONS)
    @rule(ipv4=st.booleans(), span=SPANS)
    def connect_both(self, ipv4: bool, span: int) -> None:
        self.world.connect_both(ipv4=ipv4)
        self.world.advance(span)

    @precondition(lambda self: self.world.conversations)
    @rule(which=st.integers(0, 7), size=SIZES, span=SPANS)
    def say(self, which: int, size: int, span: int) -> None:
        self.do(which, lambda user: user.say(size), span)

    @precondition(lambda self: self.world.conversations)
    @rule(which=st.integers(0, 7), size=SIZES, count=st.integers(2, 6), span=SPANS)
    def request_and_respond(self, which: int, size: int, count: int, span: int) -> None:
        for turn in range(count):
            self.do(which + turn, lambda user: user.say(size), span // count)

    @precondition(lambda self: self.world.conversations)
    @rule(which=st.integers(0, 7), limit=st.sampled_from((None, 0, 100, 900, 5000)), span=SPANS)
    def read(self, which: int, limit: int | None, span: int) -> None:
        def change(user: User) -> None:
            user.limit = limit
            user.read()

        self.do(which, change, span)

    @precondition(lambda self: self.world.conversations)
    @rule(which=st.integers(0, 7), span=SPANS)
    def shut(self, which: int, span: int) -> None:
        self.do(which, lambda user: user.shut(self.world.now), span)

    @precondition(lambda self: self.world.conversations)
    @rule(which=st.integers(0, 7), span=SPANS)
    def close(self, which: int, span: int) -> None:
        self.do(which, lambda user: user.close(self.world.now), span)

    @precondition(lambda self: self.world.conversations)
    @rule(which=st.integers(0, 7), span=SPANS)
    def abort(self, which: int, span: int) -> None:
        self.do(which, lambda user: user.abort(self.world.now), span)

    @precondition(lambda self: self.world.conversations)
    @rule(which=st.integers(0, 7), is_on=st.booleans())
    def keepalive(self, which: int, is_on: bool) -> None:
        self.do(which, lambda user: user.connection.set_keepalive(KEEPALIVE if is_on else None, self.world.now), 0)

    @precondition(lambda self: self.world.conversations)
    @rule(which=st.integers(0, 7), no_delay=st.booleans())
    def no_delay(self, which: int, no_delay: bool) -> None:
        self.do(which, lambda user: user.connection.set_no_delay(no_delay), 0)

    @rule(faults=FAULTS, is_right=st.booleans())
    def change_faults(self, faults: Faults, is_right: bool) -> None:
        way = self.world.wire.to_right if is_right else self.world.wire.to_left
        mtu_bytes = way.faults.mtu_bytes
        way.faults = faults
        self.world.change_mtu(way, mtu_bytes)

    @rule(mtu_bytes=st.sampled_from((1280, 1300, 65_535)), is_right=st.booleans())
    def change_mtu(self, mtu_bytes: int, is_right: bool) -> None:
        self.world.change_mtu(self.world.wire.to_right if is_right else self.world.wire.to_left, mtu_bytes)

    @rule(span=st.sampled_from((100 * MS, 1 * S, 8 * S, 120 * S, 1200 * S)))
    def outage(self, span: int) -> None:
        self.world.outage(span)

    @rule(listens=st.booleans())
    def listen(self, listens: bool) -> None:
        if listens:
            self.world.listen()
        else:
            self.world.stop_listening()

    @rule(span=SPANS)
    def wait(self, span: int) -> None:
        self.world.advance(span)

    def do(self, which: int, act: Callable[[User], Any], span: int) -> None:
        """Let one of the users do something, and time pass."""
        users = [user for each in self.world.conversations for user in each.users]
        act(users[which % len(users)])
        self.world.advance(span)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.world.finish()
            finally:
                self.patch.undo()


class SplitHistories(Histories):
    whole = False


class WholeHistories(Histories):
    whole = True


class ManySplitHistories(SplitHistories):
    """For `make long`, whose profile looks at ten times as many, and at others each time."""


class ManyWholeHistories(WholeHistories):
    """The same."""


def some(machine: type[Histories]) -> Any:
    """The test of a machine: five times as many examples as others have, which need no more time."""
    case = machine.TestCase
    case.settings = settings(
        max_examples=5 * settings().max_examples,
        stateful_step_count=STEPS,
        # What explains a failure costs as much as all else, on this version of Python.
        phases=tuple(set(Phase) - {Phase.explain}),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    return case


TestSplit = some(SplitHistories)
TestWhole = some(WholeHistories)
TestManySplit = pytest.mark.long(some(ManySplitHistories))
TestManyWhole = pytest.mark.long(some(ManyWholeHistories))
