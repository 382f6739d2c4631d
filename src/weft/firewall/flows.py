"""Flows: what the firewall remembers of the packets that it let through, so that replies come in.

A flow is a TCP connection, or the packets between two UDP ports, of one ICMP echo, or of another protocol between two
addresses. It has a key in each direction, the bytes of a packet that name it (`Summary`), and both keys lead to one
`Flow`, so that either direction finds it with one look-up and moves one deadline.

Addresses are bound to peers, but a prefix may go from one peer to another. So a flow that a peer began is that peer's:
for packets of anybody else it does not exist, and if they open the same one, it is gone. A flow that began here goes on
with whoever has the address now, to whom this side's packets go as well.

| state | what was seen | idle time |
|---|---|---|
| OPENING_OUT | TCP: packets of the handshake, begun on this side | 4 min |
| OPENING_IN | TCP: packets of the handshake, begun by the peer | 4 min |
| ESTABLISHED | TCP: both sides, and then the one that began again | 2 h 4 min |
| CLOSING | TCP: a FIN of one side | 4 min |
| CLOSED | TCP: a RST, or a FIN of both sides | 1 min |
| ASKED_OUT | other: this side only; and ICMP echo, answered or not | 30 s |
| ASKED_IN | other: the peer only | 30 s |
| ANSWERED | other: both sides | 5 min |

A flow whose deadline has passed does not exist any more for `find_*`, whenever it leaves the table.

Each state has a queue, in the order of joining, that serves expiry and eviction. Packets do not touch it: a flow whose
turn comes and that was used since goes back to the end ("second chance"). Thus the fast path writes one number per
packet, and making room costs the same whatever the size of the table.

Room is made by evicting. A flow that a peer begins evicts only what is closed or what peers began and nobody here has
answered, so that no flood from outside pushes out a connection; if there is nothing of that kind, it is not opened. A
flow that begins here may evict anything, the most worthless state first.

Source: RFC 5382 REQ-5 (TCP: 2 h 4 min, 4 min), RFC 4787 REQ-5 (UDP: 5 min; 30 s before an answer is this firewall's
own, as in Linux), RFC 5508 REQ-1 asks 60 s of a NAT for ICMP, where 30 s suffice because each request renews them.
Not done here: sequence numbers and windows of TCP, which the hosts check.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum, auto
from typing import Final

from weft.packet.tcp import FIN, RST, SYN

_S: Final = 1_000_000_000
SECOND_CHANCES: Final = 8
EXPIRE_MAX: Final = 4096


class State(Enum):
    """What was seen of a flow; see the table of the module."""

    OPENING_OUT = auto()
    OPENING_IN = auto()
    ESTABLISHED = auto()
    CLOSING = auto()
    CLOSED = auto()
    ASKED_OUT = auto()
    ASKED_IN = auto()
    ANSWERED = auto()


IDLE_NS: Final = {
    State.OPENING_OUT: 240 * _S,
    State.OPENING_IN: 240 * _S,
    State.ESTABLISHED: 7440 * _S,
    State.CLOSING: 240 * _S,
    State.CLOSED: 60 * _S,
    State.ASKED_OUT: 30 * _S,
    State.ASKED_IN: 30 * _S,
    State.ANSWERED: 300 * _S,
}

EVICTED_FOR_PEERS: Final = (State.CLOSED, State.OPENING_IN, State.ASKED_IN)
EVICTED_FOR_US: Final = (
    *EVICTED_FOR_PEERS,
    State.ASKED_OUT,
    State.OPENING_OUT,
    State.CLOSING,
    State.ANSWERED,
    State.ESTABLISHED,
)

OPENING: Final = frozenset({State.OPENING_OUT, State.OPENING_IN})
ENDING: Final = frozenset({State.CLOSING, State.CLOSED})
_CHANGED_BY_OUTBOUND: Final = OPENING | {State.ASKED_IN}
_CHANGED_BY_INBOUND: Final = OPENING | {State.ASKED_OUT}


class Flow:
    """One flow. Only `FlowTable` changes it, but for `deadline`, which the fast path moves.

    Attributes:
        protocol: IP protocol number.
        outbound_key: names it in packets that leave.
        inbound_key: names it in packets that arrive.
        source: the peer that began it; None if it began here.
        state: see the table of the module.
        idle_ns: how long the state lasts without a packet.
        deadline: when it ends without another packet, monotonic ns.
        steady_out: whether an outbound packet (of TCP: without SYN, FIN, RST) leaves the state as it is.
        steady_in: likewise for an inbound one.
        answered: TCP: whether the side that did not begin has sent.
        finished: TCP: which sides sent a FIN; 1 this one, 2 the peer.
        queued: the last packet that the queue of its state knows of, monotonic ns.
    """

    state: State
    idle_ns: int
    deadline: int
    steady_out: bool
    steady_in: bool
    queued: int

    __slots__ = (
        "answered",
        "deadline",
        "finished",
        "idle_ns",
        "inbound_key",
        "outbound_key",
        "protocol",
        "queued",
        "source",
        "state",
        "steady_in",
        "steady_out",
    )

    def __init__(self, protocol: int, outbound_key: bytes, inbound_key: bytes, source: Hashable = None) -> None:
        self.protocol = protocol
        self.source = source
        self.outbound_key = outbound_key
        self.inbound_key = inbound_key
        self.answered = False
        self.finished = 0


class FlowTable:
    """All flows, found by the key of either direction.

    Attributes:
        by_outbound_key: for each IP protocol number, the flows by outbound key. The fast path reads it; a flow found
            may be past its deadline.
        by_inbound_key: likewise by inbound key.
    """

    def __init__(self, max_flows: int) -> None:
        self.by_outbound_key: list[dict[bytes, Flow]] = [{} for _ in range(256)]
        self.by_inbound_key: list[dict[bytes, Flow]] = [{} for _ in range(256)]
        self._max_flows = max_flows
        self._queues: dict[State, OrderedDict[Flow, None]] = {state: OrderedDict() for state in State}
        self._count = 0

    def __len__(self) -> int:
        """How many flows it keeps, those past their deadline included until they are cleared away."""
        return self._count

    def find_outbound(self, protocol: int, key: bytes, now: int) -> Flow | None:
        """The flow that an outbound packet belongs to."""
        return self._alive(self.by_outbound_key[protocol].get(key), now)

    def find_inbound(self, protocol: int, key: bytes, source: Hashable, now: int) -> Flow | None:
        """The flow that an inbound packet of a peer belongs to; one of another peer's is forgotten."""
        flow = self._alive(self.by_inbound_key[protocol].get(key), now)
        if flow is not None and flow.source is not None and flow.source != source:
            self.remove(flow)
            return None
        return flow

    def open_outbound(self, protocol: int, outbound_key: bytes, inbound_key: bytes, state: State, now: int) -> None:
        """Open a flow for an outbound packet that belongs to none; something else is evicted if there is no room."""
        self._make_room(EVICTED_FOR_US)
        self._add(Flow(protocol, outbound_key, inbound_key), state, now)

    def open_inbound(
        self, protocol: int, outbound_key: bytes, inbound_key: bytes, source: Hashable, state: State, now: int
    ) -> bool:
        """Open a flow for an inbound packet that belongs to none, and say whether there is room for it."""
        if not self._make_room(EVICTED_FOR_PEERS):
            return False
        self._add(Flow(protocol, outbound_key, inbound_key, source), state, now)
        return True

    def takes_inbound(self) -> bool:
        """Whether there is room for a flow that a peer begins."""
        return self._count < self._max_flows or any(self._queues[state] for state in EVICTED_FOR_PEERS)

    def answer(self, flow: Flow, now: int) -> None:
        """Both sides of a flow other than TCP have been seen."""
        self._move(flow, State.ANSWERED, now)

    def refresh(self, flow: Flow, now: int) -> None:
        """A packet was seen that changes nothing else."""
        flow.deadline = now + flow.idle_ns

    def follow(self, flow: Flow, flags: int, now: int, *, outbound: bool) -> None:
        """A TCP packet of a flow was seen.

        Args:
            flow: of TCP.
            flags: of the packet.
            now: monotonic ns.
            outbound: the direction of the packet.
        """
        state = flow.state
        if flags & FIN:
            flow.finished |= 1 if outbound else 2
        if state in OPENING:
            if outbound is not (state is State.OPENING_OUT):
                flow.answered = True
            elif flow.answered and not flags & SYN:
                state = State.ESTABLISHED
        if flags & RST:
            state = State.CLOSED
        elif flow.finished and state in {State.ESTABLISHED, State.CLOSING}:
            state = State.CLOSED if flow.finished == 3 else State.CLOSING
        if state is flow.state:
            self.refresh(flow, now)
        else:
            self._move(flow, state, now)

    def remove(self, flow: Flow) -> None:
        """Forget a flow."""
        del self.by_outbound_key[flow.protocol][flow.outbound_key]
        del self.by_inbound_key[flow.protocol][flow.inbound_key]
        del self._queues[flow.state][flow]
        self._count -= 1

    def remove_half_open(self) -> None:
        """Forget what peers began and what is not open both ways: all of it, at once."""
        for state in (State.OPENING_IN, State.ASKED_IN):
            for flow in list(self._queues[state]):
                self.remove(flow)

    def expire(self, now: int) -> None:
        """Clear away flows that ended, looking at no more than `EXPIRE_MAX`."""
        looks = EXPIRE_MAX
        for state, queue in self._queues.items():
            idle_ns = IDLE_NS[state]
            while queue and looks:
                flow = next(iter(queue))
                if flow.queued + idle_ns > now:
                    break
                looks -= 1
                if flow.deadline <= now:
                    self.remove(flow)
                else:
                    flow.queued = flow.deadline - idle_ns
                    queue.move_to_end(flow)

    def next_timer(self) -> int | None:
        """When `expire` may next have something to do, monotonic ns."""
        return min(
            (next(iter(queue)).queued + IDLE_NS[state] for state, queue in self._queues.items() if queue), default=None
        )

    def _alive(self, flow: Flow | None, now: int) -> Flow | None:
        if flow is not None and flow.deadline <= now:
            self.remove(flow)
            return None
        return flow

    def _add(self, flow: Flow, state: State, now: int) -> None:
        self.by_outbound_key[flow.protocol][flow.outbound_key] = flow
        self.by_inbound_key[flow.protocol][flow.inbound_key] = flow
        self._count += 1
        self._enter(flow, state, now)

    def _move(self, flow: Flow, state: State, now: int) -> None:
        del self._queues[flow.state][flow]
        self._enter(flow, state, now)

    def _enter(self, flow: Flow, state: State, now: int) -> None:
        flow.state = state
        flow.idle_ns = IDLE_NS[state]
        flow.deadline = now + flow.idle_ns
        flow.steady_out = state not in _CHANGED_BY_OUTBOUND
        flow.steady_in = state not in _CHANGED_BY_INBOUND
        flow.queued = now
        self._queues[state][flow] = None

    def _make_room(self, states: tuple[State, ...]) -> bool:
        """Evict a flow of the first of `states` that there is, if the table is full."""
        if self._count < self._max_flows:
            return True
        for state in states:
            if self._queues[state]:
                self._evict(state)
                return True
        return False

    def _evict(self, state: State) -> None:
        """Evict the flow of a state that was not used for longest, or nearly: of the first ones in its queue."""
        queue, idle_ns = self._queues[state], IDLE_NS[state]
        for _ in range(SECOND_CHANCES):
            flow = next(iter(queue))
            if flow.deadline - idle_ns <= flow.queued:
                break
            flow.queued = flow.deadline - idle_ns
            queue.move_to_end(flow)
        self.remove(next(iter(queue)))
