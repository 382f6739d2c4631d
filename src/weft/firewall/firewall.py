"""The firewall between the overlay and this node: nothing comes in but what was asked for or is allowed by a rule.

It sees each record once: an IP packet, or a super-packet of one TCP or UDP flow, with or without its checksum. What
leaves is remembered as a flow, and what arrives is let in if it belongs to a flow or if a rule allows it. Most records
belong to a flow in a steady state; for them a look-up by a slice of the packet and a new deadline are all there is to
do. Every other record is decoded and judged in full.

What arrives and is not of a known flow:

| what | allowed by rule | else |
|---|---|---|
| TCP SYN | accepted, opens a flow | rejected with a reset |
| other TCP | accepted, opens a flow (but a reset opens none) | dropped |
| UDP | accepted, opens a flow | rejected: port unreachable |
| ICMP echo request | accepted | rejected: administratively prohibited |
| ICMP error | | dropped, unless the packet that it quotes is of a flow |
| other ICMP: echo reply, neighbour discovery, multicast groups | | dropped |
| other protocols | | rejected: administratively prohibited |
| to or from what is not one host | | dropped |
| first fragment | as the whole packet | as the whole packet |
| later fragment | | dropped, unless the first was accepted and no header is overwritten |

A node that starts again must not break the connections of its programs, and it has forgotten their flows. So TCP
without SYN is never reset; and for the first `ADOPTION_NS` such a packet with an ACK comes in for any port, for a
program that only receives would send nothing that could open the flow again. It can't begin a connection, and a host
that knows none answers it the same on each port. Other packets that would be rejected then are dropped, but for a SYN
and echo requests.

A rule that is taken away stops new flows, and those that it let in but that are not open both ways yet.

Source: RFC 5382, RFC 4787, RFC 5508 (behaviour towards TCP, UDP, ICMP), RFC 4890 (ICMPv6 in firewalls).
Not done here: whether a source address belongs to the peer that sent the packet (the mesh checks that before);
checksums; rules that hold for one peer only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum, auto
from typing import Final, Literal

from weft.errors import DecodeError, UsageError
from weft.firewall.flows import ENDING, OPENING, FlowTable, State
from weft.firewall.fragments import Fragments, fragment_key
from weft.firewall.glance import echo_of, steady_flow
from weft.firewall.rejections import BURST, PER_SECOND, rejection_of
from weft.firewall.rules import Rule, RuleSet
from weft.firewall.summary import IcmpKind, Summary, decode_summary
from weft.packet import icmp
from weft.packet.checksum import Buffer
from weft.packet.ip import addresses, decode_upper_layer, is_one_host
from weft.packet.protocols import TCP, UDP
from weft.packet.tcp import ACK, FIN, RST, SYN
from weft.packet.upper import UpperLayer
from weft.rates import Rate

ADOPTION_NS: Final = 60_000_000_000


class Verdict(Enum):
    """What becomes of an inbound packet."""

    ACCEPT = auto()
    """It comes in."""
    REJECT = auto()
    """It does not, and `Firewall.rejection` makes the answer that says so."""
    DROP = auto()
    """It does not, and nobody is told."""


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
        if refuse not in {"reject", "drop"}:
            raise UsageError(f"refuse is 'reject' or 'drop', not {refuse!r}")
        if max_flows < 1:
            raise UsageError(f"a firewall needs room for at least one flow, not {max_flows}")
        self.drops: Counter[str] = Counter()
        self._rules = RuleSet(rules)
        self._refusal = Verdict.REJECT if refuse == "reject" else Verdict.DROP
        self._flows = FlowTable(max_flows)
        self._fragments = Fragments()
        self._rejections = Rate(PER_SECOND, burst=BURST)
        self._adopts_until: int | None = None

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

    def rules(self) -> tuple[Rule, ...]:
        """What is allowed in, in the order in which it was allowed."""
        return tuple(self._rules)

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
        return self._judge_outbound(packet, now)

    def inbound(self, packet: Buffer, now: int) -> Verdict:
        """Say what becomes of a record that arrived, and count why if it does not come in.

        Args:
            packet: one IP packet or super-packet, which ends with the buffer, from an address that belongs to its peer.
            now: monotonic ns.
        """
        flow = steady_flow(packet, self._flows.by_inbound_key)
        if flow is not None and flow.steady_in and flow.deadline > now:
            flow.deadline = now + flow.idle_ns
            return _ACCEPT
        return self._judge_inbound(packet, now)

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
        self._begin(now)
        self._flows.expire(now)
        self._fragments.expire(now)

    def next_timer(self) -> int | None:
        """When `expire` may next have something to do, monotonic ns; it may be called later, and more often."""
        timers = (self._flows.next_timer(), self._fragments.next_timer())
        return min((timer for timer in timers if timer is not None), default=None)

    def _begin(self, now: int) -> None:
        if self._adopts_until is None:
            self._adopts_until = now + ADOPTION_NS

    def _adopts(self, now: int) -> bool:
        return self._adopts_until is not None and now < self._adopts_until

    def _drop(self, reason: str) -> Verdict:
        self.drops[reason] += 1
        return Verdict.DROP

    def _keep_in(self, reason: str) -> bool:
        self.drops[f"outbound_{reason}"] += 1
        return False

    def _refuse(self) -> Verdict:
        self.drops["not_allowed"] += 1
        return self._refusal

    # What leaves.

    def _judge_outbound(self, packet: Buffer, now: int) -> bool:
        """Judge a packet that is of no steady flow."""
        self._begin(now)
        echo = echo_of(packet)
        if echo is not None and self._is_known_echo_outbound(*echo, now):
            return True
        try:
            upper = _decode_whole(packet)
            if not all(map(is_one_host, addresses(packet))):
                return self._keep_in("address")
            if upper.fragment is not None and upper.fragment.offset:
                return True
            summary = decode_summary(packet, upper)
        except DecodeError:
            return self._keep_in("malformed")
        if summary.icmp is not None:
            return self._icmp_outbound(summary, now)
        if summary.protocol == TCP:
            return self._tcp_outbound(summary, now)
        self._ask(summary, now)
        return True

    def _is_known_echo_outbound(self, is_request: bool, protocol: int, key: bytes, now: int) -> bool:
        """Whether an echo may leave without further thought: a reply, or one of many requests."""
        if is_request:
            flow = self._flows.find_outbound(protocol, key, now)
            if flow is None:
                return False
            self._flows.refresh(flow, now)
        return True

    def _icmp_outbound(self, summary: Summary, now: int) -> bool:
        if summary.icmp is IcmpKind.OTHER:
            return self._keep_in("icmp")
        if summary.icmp is IcmpKind.REQUEST:
            self._ask(summary, now)
        return True

    def _ask(self, summary: Summary, now: int) -> None:
        """Remember a packet of a protocol without connections."""
        flow = self._flows.find_outbound(summary.protocol, summary.key, now)
        if flow is None:
            self._open_outbound(summary, State.ASKED_OUT, now)
        elif flow.state is State.ASKED_IN:
            self._flows.answer(flow, now)
        else:
            self._flows.refresh(flow, now)

    def _tcp_outbound(self, summary: Summary, now: int) -> bool:
        flags = summary.flags
        if flags & SYN and flags & (FIN | RST):
            return self._keep_in("tcp_flags")
        flow = self._flows.find_outbound(TCP, summary.key, now)
        if flow is not None and _is_opening(flags) and flow.state not in OPENING:
            self._flows.remove(flow)
            flow = None
        if flow is not None:
            self._flows.follow(flow, flags, now, outbound=True)
        elif not flags & RST:
            self._open_outbound(summary, State.OPENING_OUT, now)
        return True

    def _open_outbound(self, summary: Summary, state: State, now: int) -> None:
        self._flows.open_outbound(summary.protocol, summary.key, summary.reverse_key, state, now)

    # What arrives.

    def _judge_inbound(self, packet: Buffer, now: int) -> Verdict:
        """Judge a packet that is of no steady flow."""
        self._begin(now)
        echo = echo_of(packet)
        if echo is not None:
            return self._echo_inbound(*echo, now)
        try:
            upper = _decode_whole(packet)
            source, destination = addresses(packet)
            if not (is_one_host(source) and is_one_host(destination)):
                return self._drop("address")
            if upper.segments_left:
                return self._drop("routing")
            if upper.fragment is None:
                return self._judge_summary(packet, upper, decode_summary(packet, upper), now)
            key = fragment_key(source, destination, upper.protocol, upper.fragment)
            if upper.fragment.offset:
                allowed = self._fragments.allows(key, upper.fragment.offset, now)
                return _ACCEPT if allowed else self._drop("fragment")
            summary = decode_summary(packet, upper)
            verdict = self._judge_summary(packet, upper, summary, now)
            if verdict is _ACCEPT:
                header_end = upper.start + summary.header_bytes - upper.fragment.start
                self._fragments.open(key, header_end, now)
            return verdict
        except DecodeError:
            return self._drop("malformed")

    def _judge_summary(self, packet: Buffer, upper: UpperLayer, summary: Summary, now: int) -> Verdict:
        if summary.icmp is not None:
            return self._icmp_inbound(packet, upper, summary, now)
        if summary.protocol == TCP:
            return self._tcp_inbound(summary, now)
        flow = self._flows.find_inbound(summary.protocol, summary.key, now)
        if flow is not None:
            if flow.state is State.ASKED_OUT:
                self._flows.answer(flow, now)
            else:
                self._flows.refresh(flow, now)
            return _ACCEPT
        if summary.protocol == UDP and self._rules.allows(UDP, summary.port):
            return self._open_inbound(summary, State.ASKED_IN, now)
        return self._drop("no_flow") if self._adopts(now) else self._refuse()

    def _icmp_inbound(self, packet: Buffer, upper: UpperLayer, summary: Summary, now: int) -> Verdict:
        if summary.icmp in {IcmpKind.REQUEST, IcmpKind.REPLY}:
            return self._echo_inbound(summary.icmp is IcmpKind.REQUEST, summary.protocol, summary.key, now)
        if summary.icmp is IcmpKind.ERROR:
            return self._icmp_error(memoryview(packet)[upper.start + icmp.HEADER_BYTES :], summary, now)
        return self._drop("icmp")

    def _echo_inbound(self, is_request: bool, protocol: int, key: bytes, now: int) -> Verdict:
        if is_request:
            return _ACCEPT if self._rules.allows(protocol, 0) else self._refuse()
        flow = self._flows.find_inbound(protocol, key, now)
        return _ACCEPT if flow is not None else self._drop("no_flow")

    def _icmp_error(self, quote: memoryview, summary: Summary, now: int) -> Verdict:
        """Judge an ICMP error by the packet that it quotes: it must be one that this node sent in a flow."""
        upper = decode_upper_layer(quote, truncated=True)
        if upper.fragment is not None and upper.fragment.offset:
            return self._drop("fragment")
        quoted = decode_summary(quote, upper, truncated=True)
        flow = self._flows.find_outbound(quoted.protocol, quoted.key, now)
        if flow is None or quoted.source != summary.destination:
            return self._drop("no_flow")
        return _ACCEPT

    def _tcp_inbound(self, summary: Summary, now: int) -> Verdict:
        flags = summary.flags
        if flags & SYN and flags & (FIN | RST):
            return self._drop("tcp_flags")
        if _is_opening(flags):
            return self._syn_inbound(summary, now)
        flow = self._flows.find_inbound(TCP, summary.key, now)
        if flow is not None:
            self._flows.follow(flow, flags, now, outbound=False)
            return _ACCEPT
        adopted = flags & ACK and not flags & RST and self._adopts(now)
        if not adopted and not self._rules.allows(TCP, summary.port):
            return self._drop("no_flow")
        return _ACCEPT if flags & RST else self._open_inbound(summary, State.OPENING_IN, now)

    def _syn_inbound(self, summary: Summary, now: int) -> Verdict:
        """Judge a TCP packet that begins a connection: by rule, even within a flow, whose port may be another's now."""
        flow = self._flows.find_inbound(TCP, summary.key, now)
        if not self._rules.allows(TCP, summary.port):
            if flow is None or flow.state is not State.OPENING_OUT:
                return self._refuse()
        elif flow is not None and flow.state in ENDING:
            self._flows.remove(flow)
            flow = None
        if flow is None:
            return self._open_inbound(summary, State.OPENING_IN, now)
        self._flows.follow(flow, summary.flags, now, outbound=False)
        return _ACCEPT

    def _open_inbound(self, summary: Summary, state: State, now: int) -> Verdict:
        if self._flows.open_inbound(summary.protocol, summary.reverse_key, summary.key, state, now):
            return _ACCEPT
        return self._drop("table_full")


def _decode_whole(packet: Buffer) -> UpperLayer:
    """Decode a packet that ends where its buffer ends.

    Raises:
        DecodeError: it is malformed, or ends before.
    """
    upper = decode_upper_layer(packet)
    if upper.end != len(packet):
        raise DecodeError("the end of the packet", offset=upper.end)
    return upper


def _is_opening(flags: int) -> bool:
    """Whether a TCP packet begins a connection."""
    return flags & (SYN | ACK) == SYN
