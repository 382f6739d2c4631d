"""The firewall between the overlay and this node: nothing comes in but what was asked for or is allowed by a rule.

It sees each record once: an IP packet, or a super-packet of one TCP or UDP flow, with or without its checksum. What
leaves is remembered as a flow, and what arrives is let in if it belongs to a flow or if a rule allows it. Most records
belong to a flow in a steady state; for them a look-up by a slice of the packet and a new deadline are all there is to
do. Every other record is decoded and judged in full; the table at the head of `judge.py` says how.

Not done here: whether a source address belongs to the peer that sent the packet (the datapath checks that before);
checksums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Final, Literal

from weft.errors import UsageError
from weft.firewall.explain import NotedFlows, NotedFragments, NotedRules, Notes
from weft.firewall.flows import FlowTable
from weft.firewall.fragments import Fragments
from weft.firewall.glance import steady_flow
from weft.firewall.judge import Judge, Verdict
from weft.firewall.rejections import BURST, PER_SECOND, rejection_of
from weft.firewall.rules import Rule, RuleSet
from weft.packet.checksum import Buffer
from weft.rates import Rate

_ACCEPT: Final = Verdict.ACCEPT


class Firewall:
    """The flows and rules of one node.

    Attributes:
        drops: packets that did not pass, by reason: `malformed`, `address`, `routing`, `fragment`, `icmp`, `tcp_flags`,
            `no_flow`, `not_allowed`, `table_full`; outbound ones as `outbound_malformed` and so on; and
            `rejection_rate`, rejections that were not sent because there were too many.
    """

    def __init__(
        self, rules: Iterable[Rule], *, refuse: Literal["reject", "drop"] = "reject", max_flows: int = 65536
    ) -> None:
        """Make a firewall without flows.

        Args:
            rules: what is allowed in.
            refuse: what happens to packets that a rule could have allowed: "reject" tells the peer, "drop" does not.
            max_flows: flows remembered at most, 1 or more.

        Raises:
            UsageError: `refuse` or `max_flows` is none of these.
        """
        if max_flows < 1:
            raise UsageError(f"a firewall needs room for at least one flow, not {max_flows}")
        self.drops: Counter[str] = Counter()
        self._rules = RuleSet(rules)
        self._flows = FlowTable(max_flows)
        self._fragments = Fragments()
        self._judge = Judge(self._rules, self._flows, self._fragments, self.drops, _refusal(refuse))
        self._rejections = Rate(PER_SECOND, burst=BURST)

    def set_refuse(self, refuse: Literal["reject", "drop"]) -> None:
        """Change what happens to packets that a rule could have allowed.

        Raises:
            UsageError: it is neither "reject" nor "drop".
        """
        self._judge.refusal = _refusal(refuse)

    def allow(self, rule: Rule) -> None:
        """Allow something in; nothing changes if it is allowed already."""
        self._rules.allow(rule)

    def deny(self, rule: Rule) -> None:
        """Take an allowance away, exactly as it was given.

        Flows that are open both ways go on; those that peers began and that are not are judged again.

        Raises:
            UsageError: there is no such allowance.
        """
        self._rules.deny(rule)
        self._flows.remove_half_open()

    def set_rules(self, rules: Iterable[Rule]) -> None:
        """Allow these in their order, and nothing else; what `deny` says of flows holds here too."""
        wanted = dict.fromkeys(rules)
        is_less = any(rule not in wanted for rule in self._rules)
        self._rules.replace(wanted)
        if is_less:
            self._flows.remove_half_open()

    def rules(self) -> tuple[Rule, ...]:
        """What is allowed in, in the order in which it was allowed."""
        return tuple(self._rules)

    @property
    def reason(self) -> str:
        """Why the last packet that did not pass did not, as `drops` counts it."""
        return self._judge.reason

    @property
    def flows(self) -> int:
        """How many flows are remembered."""
        return len(self._flows)

    def outbound(self, packet: Buffer, now: int) -> bool:
        """Say whether a record may leave, and remember its flow so that the replies come in.

        Args:
            packet: one IP packet or super-packet, which ends with the buffer.
            now: monotonic ns.
        """
        flow = steady_flow(packet, self._flows.by_outbound_key)
        if flow is not None and flow.steady_out and flow.deadline > now:
            flow.deadline = now + flow.idle_ns
            return True
        return self._judge.outbound(packet, now)

    def inbound(self, packet: Buffer, now: int, source: Hashable = None) -> Verdict:
        """Say what becomes of a record that arrived, and count why if it does not come in.

        Args:
            packet: one IP packet or super-packet, which ends with the buffer, from an address that belongs to its peer.
            now: monotonic ns.
            source: the peer, as in `Rule.source`; None for nobody in particular.
        """
        flow = steady_flow(packet, self._flows.by_inbound_key)
        if (
            flow is not None
            and flow.steady_in
            and flow.deadline > now
            and (flow.source is None or flow.source == source)
        ):
            flow.deadline = now + flow.idle_ns
            return _ACCEPT
        return self._judge.inbound(packet, source, now)

    def explain_outbound(self, packet: Buffer, now: int) -> tuple[bool, Notes]:
        """What `outbound` would say, and why; nothing changes."""
        flow = steady_flow(packet, self._flows.by_outbound_key)
        notes = Notes()
        if flow is not None and flow.steady_out and flow.deadline > now:
            notes.add_flow(flow)
            return True, notes
        return self._onlooker(notes, now).outbound(packet, now), notes

    def explain_inbound(self, packet: Buffer, now: int, source: Hashable = None) -> tuple[Verdict, Notes]:
        """What `inbound` would say, and why; nothing changes."""
        flow = steady_flow(packet, self._flows.by_inbound_key)
        notes = Notes()
        if flow is not None and flow.steady_in and flow.deadline > now and flow.source in {None, source}:
            notes.add_flow(flow)
            return _ACCEPT, notes
        onlooker = self._onlooker(notes, now)
        if onlooker.adopts(now):
            notes.add("start", "the node has just begun: what may be of a connection from before is let in")
        return onlooker.inbound(packet, source, now), notes

    def _onlooker(self, notes: Notes, now: int) -> Judge:
        """A judge who says what this firewall's says now, and changes nothing."""
        onlooker = Judge(
            NotedRules(self._rules, notes),
            NotedFlows(self._flows, notes),
            NotedFragments(self._fragments, notes),
            notes.drops,
            self._judge.refusal,
        )
        onlooker.adopts_until = self._judge.adopts_until
        onlooker.begin(now)
        return onlooker

    def rejection(self, packet: Buffer, now: int) -> bytes | None:
        """The packet that goes back to the sender of one that `inbound` said to reject.

        Args:
            packet: as it was given to `inbound`.
            now: monotonic ns.

        Returns:
            A whole IP packet with its checksums; None where nothing may be sent, or too much was sent lately.
        """
        answer = rejection_of(packet)
        if answer is not None and not self._rejections.allows(now):
            self.drops["rejection_rate"] += 1
            return None
        return answer

    def expire(self, now: int) -> None:
        """Forget what is over, a bounded amount of it: to be called each second or so."""
        self._judge.begin(now)
        self._flows.expire(now)
        self._fragments.expire(now)

    def next_timer(self) -> int | None:
        """When `expire` may next have something to do, monotonic ns; it may be called later, and more often."""
        timers = (self._flows.next_timer(), self._fragments.next_timer())
        return min((timer for timer in timers if timer is not None), default=None)


def _refusal(refuse: str) -> Verdict:
    if refuse not in {"reject", "drop"}:
        raise UsageError(f"refuse is 'reject' or 'drop', not {refuse!r}")
    return Verdict.REJECT if refuse == "reject" else Verdict.DROP
