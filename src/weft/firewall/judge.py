"""The judgement of the firewall on each packet that is of no steady flow.

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

A rule may hold for one peer only, and a flow that a peer began is that peer's alone (`flows`). Who a peer is comes with
each packet that arrives; it is looked at where a rule or a flow is, and means nothing else here.

Source: RFC 5382, RFC 4787, RFC 5508 (behaviour towards TCP, UDP, ICMP), RFC 4890 (ICMPv6 in firewalls).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from enum import Enum, auto
from typing import Final

from weft.errors import DecodeError
from weft.firewall.flows import ENDING, OPENING, FlowTable, State
from weft.firewall.fragments import Fragments, fragment_key
from weft.firewall.glance import echo_of
from weft.firewall.rules import RuleSet
from weft.firewall.summary import IcmpKind, Summary, decode_summary
from weft.packet import icmp
from weft.packet.checksum import Buffer
from weft.packet.ip import addresses, decode_upper_layer, is_one_host
from weft.packet.protocols import TCP, UDP
from weft.packet.tcp import ACK, FIN, RST, SYN
from weft.packet.upper import UpperLayer

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


class Judge:
    """The slow path of the firewall: what becomes of a packet that is of no steady flow.

    Attributes:
        drops: as `Firewall.drops`.
        refusal: what happens to packets that a rule could have allowed.
        reason: why the last packet that did not pass did not, as it was counted.
        adopts_until: when the node has run for long enough to know its flows, monotonic ns; None before the first
            packet.
    """

    def __init__(
        self, rules: RuleSet, flows: FlowTable, fragments: Fragments, drops: Counter[str], refusal: Verdict
    ) -> None:
        """Make a judge.

        Args:
            rules: what is allowed in.
            flows: what is known; changed by what is seen.
            fragments: likewise.
            drops: where what does not pass is counted.
            refusal: what happens to packets that a rule could have allowed.
        """
        self.drops = drops
        self.adopts_until: int | None = None
        self._rules = rules
        self._flows = flows
        self._fragments = fragments
        self.refusal = refusal
        self.reason = ""

    def begin(self, now: int) -> None:
        """The node runs."""
        if self.adopts_until is None:
            self.adopts_until = now + ADOPTION_NS

    def adopts(self, now: int) -> bool:
        """Whether the node may have forgotten flows."""
        return self.adopts_until is not None and now < self.adopts_until

    def _drop(self, reason: str) -> Verdict:
        self._count(reason)
        return Verdict.DROP

    def _keep_in(self, reason: str) -> bool:
        self._count(f"outbound_{reason}")
        return False

    def _refuse(self) -> Verdict:
        self._count("not_allowed")
        return self.refusal

    def _count(self, reason: str) -> None:
        self.drops[reason] += 1
        self.reason = reason

    # What leaves.

    def outbound(self, packet: Buffer, now: int) -> bool:
        """Judge a packet that is of no steady flow."""
        self.begin(now)
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

    def inbound(self, packet: Buffer, peer: Hashable, now: int) -> Verdict:
        """Judge a packet of a peer that is of no steady flow."""
        self.begin(now)
        echo = echo_of(packet)
        if echo is not None:
            return self._echo_inbound(*echo, peer, now)
        try:
            upper = _decode_whole(packet)
            source, destination = addresses(packet)
            if not (is_one_host(source) and is_one_host(destination)):
                return self._drop("address")
            if upper.segments_left:
                return self._drop("routing")
            if upper.fragment is None:
                return self._judge_summary(packet, upper, decode_summary(packet, upper), peer, now)
            key = fragment_key(source, destination, upper.protocol, upper.fragment, peer)
            if upper.fragment.offset:
                allowed = self._fragments.allows(key, upper.fragment.offset, now)
                return _ACCEPT if allowed else self._drop("fragment")
            summary = decode_summary(packet, upper)
            verdict = self._judge_summary(packet, upper, summary, peer, now)
            if verdict is _ACCEPT:
                header_end = upper.start + summary.header_bytes - upper.fragment.start
                self._fragments.open(key, header_end, now)
            return verdict
        except DecodeError:
            return self._drop("malformed")

    def _judge_summary(self, packet: Buffer, upper: UpperLayer, summary: Summary, peer: Hashable, now: int) -> Verdict:
        if summary.icmp is not None:
            return self._icmp_inbound(packet, upper, summary, peer, now)
        if summary.protocol == TCP:
            return self._tcp_inbound(summary, peer, now)
        flow = self._flows.find_inbound(summary.protocol, summary.key, peer, now)
        if flow is not None:
            if flow.state is State.ASKED_OUT:
                self._flows.answer(flow, now)
            else:
                self._flows.refresh(flow, now)
            return _ACCEPT
        if summary.protocol == UDP and self._rules.matching(UDP, summary.port, peer):
            return self._open_inbound(summary, State.ASKED_IN, peer, now)
        return self._drop("no_flow") if self.adopts(now) else self._refuse()

    def _icmp_inbound(self, packet: Buffer, upper: UpperLayer, summary: Summary, peer: Hashable, now: int) -> Verdict:
        if summary.icmp in {IcmpKind.REQUEST, IcmpKind.REPLY}:
            return self._echo_inbound(summary.icmp is IcmpKind.REQUEST, summary.protocol, summary.key, peer, now)
        if summary.icmp is IcmpKind.ERROR:
            return self._icmp_error(memoryview(packet)[upper.start + icmp.HEADER_BYTES :], summary, now)
        return self._drop("icmp")

    def _echo_inbound(self, is_request: bool, protocol: int, key: bytes, peer: Hashable, now: int) -> Verdict:
        if is_request:
            return _ACCEPT if self._rules.matching(protocol, 0, peer) else self._refuse()
        flow = self._flows.find_inbound(protocol, key, peer, now)
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

    def _tcp_inbound(self, summary: Summary, peer: Hashable, now: int) -> Verdict:
        flags = summary.flags
        if flags & SYN and flags & (FIN | RST):
            return self._drop("tcp_flags")
        if _is_opening(flags):
            return self._syn_inbound(summary, peer, now)
        flow = self._flows.find_inbound(TCP, summary.key, peer, now)
        if flow is not None:
            self._flows.follow(flow, flags, now, outbound=False)
            return _ACCEPT
        adopted = flags & ACK and not flags & RST and self.adopts(now)
        if not adopted and not self._rules.matching(TCP, summary.port, peer):
            return self._drop("no_flow")
        return _ACCEPT if flags & RST else self._open_inbound(summary, State.OPENING_IN, peer, now)

    def _syn_inbound(self, summary: Summary, peer: Hashable, now: int) -> Verdict:
        """Judge a TCP packet that begins a connection: by rule, even within a flow, whose port may be another's now."""
        flow = self._flows.find_inbound(TCP, summary.key, peer, now)
        if not self._rules.matching(TCP, summary.port, peer):
            if flow is None or flow.state is not State.OPENING_OUT:
                return self._refuse()
        elif flow is not None and flow.state in ENDING:
            self._flows.remove(flow)
            flow = None
        if flow is None:
            return self._open_inbound(summary, State.OPENING_IN, peer, now)
        self._flows.follow(flow, summary.flags, now, outbound=False)
        return _ACCEPT

    def _open_inbound(self, summary: Summary, state: State, peer: Hashable, now: int) -> Verdict:
        if self._flows.open_inbound(summary.protocol, summary.reverse_key, summary.key, peer, state, now):
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
