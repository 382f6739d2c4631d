"""The firewall against a slow and simple model of it, and against bytes that nobody meant.

Each time the firewall is asked before what it would say: that must be what it says, and change nothing.
"""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6ExtHdrDestOpt

from tests.unit.firewall.packets import S, arriving, echo_in, echo_out, leaving, tcp_in, tcp_out, udp_in, udp_out
from weft.firewall import Firewall, Rule, Verdict
from weft.packet import tcp as tcp_header

NOW = 10**15
PORTS = (80, 40000)
PEER, HEIR = b"peer" * 8, b"heir" * 8
"""Two peers that have the same address, one after the other: a prefix may be given to somebody else."""
RULES = tuple(
    Rule(protocol, port, source)
    for protocol, port in (("tcp", 80), ("tcp", 0), ("udp", 80), ("udp", 0), ("icmp", 0))
    for source in (None, PEER)
)
FLAGS = ("S", "SA", "A", "PA", "FA", "R", "RA", "F", "", "SF", "SR")
GAPS_S = (1, 29, 30, 59, 60, 239, 240, 299, 300, 7439, 7440)

OUT, IN = "out", "in"


@dataclass
class History:
    """All that was seen of a flow; what it is follows from that each time."""

    protocol: str
    last: int
    packets: list[tuple[str, str]] = field(default_factory=list)
    owner: bytes | None = None

    @property
    def begun(self) -> str:
        return self.packets[0][0]

    @property
    def directions(self) -> set[str]:
        return {direction for direction, _ in self.packets}

    def is_opening(self) -> bool:
        if self.protocol == "udp":
            return len(self.directions) == 1
        answered = False
        for direction, flags in self.packets:
            if "R" in flags:
                return False
            if direction != self.begun:
                answered = True
            elif answered and "S" not in flags:
                return False
        return True

    def idle_s(self) -> int:
        if self.protocol == "echo":
            return 30
        if self.protocol == "udp":
            return 30 if self.is_opening() else 300
        if any("R" in flags for _, flags in self.packets):
            return 60
        if self.is_opening():
            return 240
        finished = {direction for direction, flags in self.packets if "F" in flags}
        return (7440, 240, 60)[len(finished)]

    def is_ending(self) -> bool:
        return not self.is_opening() and self.idle_s() < 7440


class Model:
    """What the firewall should do, without any table, bound or short cut."""

    def __init__(self) -> None:
        self.rules: set[Rule] = set()
        self.flows: dict[tuple[str, bool, int], History] = {}
        self.begun: int | None = None

    def find(self, key: tuple[str, bool, int], now: int) -> History | None:
        flow = self.flows.get(key)
        return flow if flow is not None and now < flow.last + flow.idle_s() * S else None

    def find_of(self, source: bytes, key: tuple[str, bool, int], now: int) -> History | None:
        flow = self.find(key, now)
        return flow if flow is not None and flow.owner in {None, source} else None

    def see(
        self,
        key: tuple[str, bool, int],
        now: int,
        direction: str,
        flags: str,
        *,
        afresh: bool = False,
        source: bytes | None = None,
    ) -> None:
        flow = None if afresh else self.find(key, now)
        if flow is None:
            flow = self.flows[key] = History(key[0], now, owner=source)
        flow.last = now
        flow.packets.append((direction, flags))

    def allows(self, protocol: str, port: int, source: bytes) -> bool:
        return any(
            rule.protocol == protocol and rule.port in {0, port} and rule.source in {None, source}
            for rule in self.rules
        )

    def deny(self, rule: Rule) -> None:
        self.rules.discard(rule)
        self.flows = {k: f for k, f in self.flows.items() if f.begun == OUT or not f.is_opening()}

    def outbound(self, key: tuple[str, bool, int], flags: str, now: int) -> bool:
        if "S" in flags and ("F" in flags or "R" in flags):
            return False
        flow = self.find(key, now)
        if flow is not None or "R" not in flags:
            self.see(key, now, OUT, flags, afresh=flow is not None and flags == "S" and not flow.is_opening())
        return True

    def inbound(self, key: tuple[str, bool, int], flags: str, source: bytes, now: int) -> Verdict:
        protocol, _, port = key
        flow, adopts = self.find_of(source, key, now), self.begun is not None and now < self.begun + 60 * S
        if protocol == "echo":
            return Verdict.DROP if flow is None else Verdict.ACCEPT
        if "S" in flags and ("F" in flags or "R" in flags):
            return Verdict.DROP
        if flow is None:
            self.flows.pop(key, None)
        allowed = self.allows(protocol, port, source)
        if flags == "S":
            if not allowed and not (flow is not None and flow.begun == OUT and flow.is_opening()):
                return Verdict.REJECT
            self.see(key, now, IN, flags, afresh=flow is not None and flow.is_ending(), source=source)
            return Verdict.ACCEPT
        if flow is None and protocol == "udp" and not allowed:
            return Verdict.DROP if adopts else Verdict.REJECT
        if flow is None and not allowed and not ("A" in flags and "R" not in flags and adopts):
            return Verdict.DROP
        if flow is not None or "R" not in flags:
            self.see(key, now, IN, flags, source=source)
        return Verdict.ACCEPT


def steps_of(
    protocols: tuple[str, ...], versions: tuple[bool, ...], ports: tuple[int, ...]
) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Sequences of steps about some flows: few flows meet deep states, many meet each other."""
    protocol, v4, port = map(st.sampled_from, (protocols, versions, ports))
    peer = st.sampled_from([PEER, PEER, PEER, HEIR])
    packet = st.tuples(st.sampled_from([OUT, IN]), protocol, v4, port, st.sampled_from(FLAGS), st.booleans(), peer)
    step = st.one_of(
        packet,
        packet,
        packet,
        st.tuples(st.just("wait"), st.sampled_from(GAPS_S)),
        st.tuples(st.sampled_from(["allow", "deny"]), st.sampled_from(RULES)),
        st.tuples(st.just("error"), protocol, v4, port),
        st.tuples(st.just("ping"), v4, peer),
    )
    return st.lists(step, min_size=1, max_size=40)


STEPS = st.one_of(
    *(steps_of((protocol,), (v4,), (80,)) for protocol in ("tcp", "udp", "echo") for v4 in (False, True)),
    steps_of(("tcp", "udp", "echo"), (False, True), PORTS),
)


def packet_of(direction: str, protocol: str, v4: bool, port: int, flags: str, plain: bool) -> bytes:
    """A packet, with options or extension headers if not plain, so that a glance is not enough."""
    if protocol == "echo":
        return echo_out(port, v4=v4) if direction == OUT else echo_in(port, reply=True, v4=v4)
    here, peer = {"sport": port, "dport": 443}, {"sport": 443, "dport": port}
    layer = (TCP(flags=flags) if protocol == "tcp" else UDP()) / b"payload"
    for name, value in (here if direction == OUT else peer).items():
        layer.setfieldval(name, value)
    make = leaving if direction == OUT else arriving
    if v4:
        return make(layer, v4=True, **({} if plain else {"options": [IPOption_NOP()] * 4}))
    return make(layer) if plain else make(IPv6ExtHdrDestOpt(), layer)


@settings(max_examples=300)
@given(STEPS)
def test_any_sequence_of_packets_is_judged_as_the_model_does(steps: list[tuple[Any, ...]]) -> None:
    wall, model, now = Firewall([]), Model(), NOW
    for step in steps:
        if step[0] == "wait":
            now += step[1] * S
            if step[1] % 2:
                wall.expire(now)
                model.begun = now if model.begun is None else model.begun
        elif step[0] == "allow":
            wall.allow(step[1])
            model.rules.add(step[1])
        elif step[0] == "deny":
            if step[1] in model.rules:
                wall.deny(step[1])
                model.deny(step[1])
        else:
            model.begun = now if model.begun is None else model.begun
            judge(step, wall, model, now)
    assert wall.flows >= sum(model.find(key, now) is not None for key in model.flows)


def judge(step: tuple[Any, ...], wall: Firewall, model: Model, now: int) -> None:
    if step[0] == "ping":
        expected = Verdict.ACCEPT if model.allows("icmp", 0, step[2]) else Verdict.REJECT
        assert inbound(wall, echo_in(v4=step[1]), now, step[2]) is expected
    elif step[0] == "error":
        _, protocol, v4, port = step
        quoted = packet_of(OUT, protocol, v4, port, "A", True)
        error = arriving(ICMP(type=3, code=1) if v4 else ICMPv6DestUnreach(), quoted, v4=v4)
        known = model.find((protocol, v4, port), now) is not None
        assert inbound(wall, error, now, HEIR) is (Verdict.ACCEPT if known else Verdict.DROP)
    else:
        *made, source = step
        direction, protocol, v4, port, flags, _ = made
        key, flags = (protocol, v4, port), flags if protocol == "tcp" else ""
        packet = packet_of(*made)
        if direction == OUT:
            assert outbound(wall, packet, now) is model.outbound(key, flags, now)
        else:
            assert inbound(wall, packet, now, source) is model.inbound(key, flags, source, now)


def inbound(wall: Firewall, packet: bytes, now: int, source: bytes | None = None) -> Verdict:
    """What the firewall says, having been asked twice what it would say."""
    for _ in range(2):
        expected, notes = wall.explain_inbound(packet, now, source)
    drops = wall.drops.copy()
    verdict = wall.inbound(packet, now, source)
    assert verdict is expected
    assert wall.drops - drops == notes.drops
    assert notes.steps or verdict is not Verdict.ACCEPT
    return verdict


def outbound(wall: Firewall, packet: bytes, now: int) -> bool:
    """Likewise."""
    for _ in range(2):
        expected, notes = wall.explain_outbound(packet, now)
    drops = wall.drops.copy()
    passes = wall.outbound(packet, now)
    assert passes is expected
    assert wall.drops - drops == notes.drops
    return passes


TEMPLATES = (
    *(tcp_in(flags, v4=v4) for flags in ("S", "A", "FA") for v4 in (False, True)),
    *(make(v4=v4) for make in (udp_in, udp_out, echo_in, echo_out) for v4 in (False, True)),
    tcp_out("A"),
    packet_of(IN, "tcp", True, 80, "S", False),
    packet_of(IN, "udp", False, 80, "", False),
    arriving(ICMPv6DestUnreach(), tcp_out("A")),
    arriving(ICMP(type=11), tcp_out("A", v4=True), v4=True),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A packet with a few bytes changed, cut off or added."""
    packet = bytearray(draw(st.sampled_from(TEMPLATES)))
    for _ in range(draw(st.integers(0, 4))):
        packet[draw(st.integers(0, min(len(packet), 70) - 1))] = draw(st.sampled_from([0, 1, 4, 43, 44, 60, 255]))
    return bytes(packet[: draw(st.integers(0, len(packet)))] if draw(st.booleans()) else packet) + draw(
        st.sampled_from([b"", b"", b"\0", bytes(600)])
    )


@given(st.lists(st.tuples(st.booleans(), damaged() | st.binary(max_size=100)), max_size=15))
def test_any_bytes_never_raise_and_every_refusal_is_counted(packets: list[tuple[bool, bytes]]) -> None:
    wall = Firewall([Rule("tcp", 80), Rule("udp", 53)], max_flows=3)
    wall.expire(NOW - 100 * S)
    refused = 0
    for step, (leaves, packet) in enumerate(packets):
        now = NOW + step * 10 * S
        if leaves:
            refused += not outbound(wall, packet, now)
        else:
            verdict = inbound(wall, packet, now)
            refused += verdict is not Verdict.ACCEPT
            answer = wall.rejection(packet, now)
            assert answer is None or len(answer) <= 1280
        wall.expire(now)
        assert wall.flows <= 3
    assert wall.drops.total() == refused


def test_flags_of_the_model_are_those_of_the_header() -> None:
    assert tcp_in("SA")[40 + tcp_header.FLAGS] == tcp_header.SYN | tcp_header.ACK
