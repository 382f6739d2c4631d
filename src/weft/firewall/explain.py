"""Why the firewall does with a packet what it does: the same judgement, noted step by step, while nothing changes.

There is no second set of rules here that could differ from the first. The firewall itself judges, on tables that look
where the real ones look, change nothing, and take notes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from weft.firewall.flows import Flow, FlowTable, State
from weft.firewall.fragments import Fragments, Key
from weft.firewall.rules import ALL_PORTS, Rule, RuleSet, encode_rule

REASONS: Final = {
    "malformed": "its headers are malformed",
    "address": "its source or destination is not one host",
    "routing": "it has a routing header with stops to come",
    "fragment": "it is part of a packet whose first fragment was not let in, or overwrites a header",
    "icmp": "this kind of ICMP message does not cross the network",
    "tcp_flags": "SYN with FIN or RST is no TCP",
    "no_flow": "it belongs to no flow, and nothing else lets it in",
    "not_allowed": "no rule allows it",
    "table_full": "there is no room for another flow",
}
"""What `Firewall.drops` counts, in a sentence; of packets that leave, `outbound_` precedes the reason."""


class Step(NamedTuple):
    """One thing that was looked at, and what was found."""

    stage: str
    text: str


@dataclass
class Notes:
    """What was looked at on the way to a verdict.

    Attributes:
        steps: in the order in which it was done.
        rule: which one let the packet in, if one was needed and did.
        drops: why it did not pass, as `Firewall.drops` counts it; empty if it did.
    """

    steps: list[Step] = field(default_factory=list)
    rule: Rule | None = None
    drops: Counter[str] = field(default_factory=Counter)

    @property
    def reason(self) -> str | None:
        """Why it did not pass; None if it did."""
        return next(iter(self.drops), None)

    def add(self, stage: str, text: str) -> None:
        """Note one step; what was looked at twice is one."""
        if Step(stage, text) not in self.steps[-1:]:
            self.steps.append(Step(stage, text))

    def add_flow(self, flow: Flow | None) -> None:
        """Note the flow that a packet belongs to."""
        if flow is None:
            self.add("flow", "it belongs to no flow that is open")
        else:
            begun = "here" if flow.source is None else "by the peer"
            self.add("flow", f"it belongs to a flow begun {begun}, {flow.state.name.lower().replace('_', ' ')}")


class NotedRules(RuleSet):
    """Rules that tell of each one why it fits or not."""

    def __init__(self, rules: RuleSet, notes: Notes) -> None:
        self._asked = rules
        self._notes = notes

    def matching(self, protocol: int, port: int, source: Hashable) -> Rule | None:
        """What the rules say, and a note for each of them."""
        found = self._asked.matching(protocol, port, source)
        rules = tuple(self._asked)
        for rule in rules:
            self._notes.add("rule", f"{encode_rule(rule)}: {_fit(rule, protocol, port, source)}")
        if not rules:
            self._notes.add("rule", "there are none")
        self._notes.rule = found
        return found


class NotedFlows(FlowTable):
    """A flow table that says what the real one would, and leaves it as it is."""

    def __init__(self, table: FlowTable, notes: Notes) -> None:
        self._real = table
        self._notes = notes
        self._gone: set[Flow] = set()

    def find_outbound(self, protocol: int, key: bytes, now: int) -> Flow | None:
        """The flow that an outbound packet belongs to."""
        return self._noted(self._real.by_outbound_key[protocol].get(key), now)

    def find_inbound(self, protocol: int, key: bytes, source: Hashable, now: int) -> Flow | None:
        """The flow that an inbound packet belongs to."""
        flow = self._real.by_inbound_key[protocol].get(key)
        if flow is not None and flow.source is not None and flow.source != source:
            self._notes.add("flow", "the flow of these addresses and ports was begun by another peer, and ends")
            self._gone.add(flow)
        return self._noted(flow, now)

    def open_outbound(self, protocol: int, outbound_key: bytes, inbound_key: bytes, state: State, now: int) -> None:
        """A flow would be opened: that always works."""
        self._notes.add("flow", "it opens a flow, so that answers come in")

    def open_inbound(
        self, protocol: int, outbound_key: bytes, inbound_key: bytes, source: Hashable, state: State, now: int
    ) -> bool:
        """Whether a flow could be opened."""
        has_room = bool(self._gone) or self._real.takes_inbound()
        self._notes.add("flow", "it opens a flow" if has_room else "the table is full of flows that may not go")
        return has_room

    def answer(self, flow: Flow, now: int) -> None:
        """Nothing."""

    def refresh(self, flow: Flow, now: int) -> None:
        """Nothing."""

    def follow(self, flow: Flow, flags: int, now: int, *, outbound: bool) -> None:
        """Nothing."""

    def remove(self, flow: Flow) -> None:
        """The flow counts as gone."""
        self._gone.add(flow)

    def _noted(self, flow: Flow | None, now: int) -> Flow | None:
        if flow is not None and flow.deadline <= now:
            self._gone.add(flow)
        found = None if flow in self._gone else flow
        self._notes.add_flow(found)
        return found


class NotedFragments(Fragments):
    """Fragments that are looked up and not remembered."""

    def __init__(self, fragments: Fragments, notes: Notes) -> None:
        self._real = fragments
        self._notes = notes

    def open(self, key: Key, header_end: int, now: int) -> None:
        """The others would be let in."""
        self._notes.add("fragment", "it is the first fragment of a packet; the others may follow")

    def allows(self, key: Key, offset: int, now: int) -> bool:
        """Whether a later fragment may follow."""
        allowed = self._real.allows(key, offset, now)
        self._notes.add("fragment", f"its first fragment was {'' if allowed else 'not '}let in before")
        return allowed


def _fit(rule: Rule, protocol: int, port: int, source: Hashable) -> str:
    """Why a rule fits a packet or not."""
    openings = rule.openings()
    if all(number != protocol for number, _, _ in openings):
        return "another protocol"
    if rule.port not in {ALL_PORTS, port}:
        return "another port"
    return "fits" if rule.source in {None, source} else "another peer"
