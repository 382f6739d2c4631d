"""Two nodes with a tunnel between them over a link that loses, doubles, delays and reorders, in virtual time.

Each node drives its machines as the engine has to: it arms one timer with what `next_timer` told, and looks again only
after an input, a timer, or when the fast path asked for it. So a deadline that the machine forgets to report is missed
here too.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random

from weft.burst.header import DATA_HEADER, DATA_HEADER_BYTES, NONCE
from weft.burst.seal import seal_packet
from weft.noise.gate import Gate
from weft.noise.keypair import Keypair
from weft.noise.primitives import StaticKey
from weft.noise.timers import SECOND_NS
from weft.noise.tunnel import Event, Tunnel

MILLISECOND_NS = SECOND_NS // 1000
START_NS = 1_000 * SECOND_NS
WALL_NS = 1_700_000_000 * SECOND_NS


@dataclass
class Link:
    """What happens to datagrams between the two nodes."""

    loss: float = 0.0
    doubled: float = 0.0
    delay_ns: tuple[int, int] = (10 * MILLISECOND_NS, 10 * MILLISECOND_NS)


class Node:
    """One end: gate, tunnel, and a driver in virtual time."""

    def __init__(self, pair: Pair, name: str, static: StaticKey) -> None:
        self.pair = pair
        self.name = name
        self.static = static
        self.gate = Gate(static, tunnel_for=self.tunnel_for, random_bytes=pair.random.randbytes)
        self.tunnel: Tunnel
        self.other: Node
        self.wall_offset_ns = 0
        self.armed: int | None = None
        self.waiting: deque[bytes] = deque(maxlen=1000)
        self.received: list[bytes] = []
        self.sent_types: Counter[int] = Counter()
        self.initiations_at: list[int] = []
        self.events: list[Event] = []
        self.unopened = 0
        self.used: set[tuple[int, int]] = set()

    def tunnel_for(self, public: bytes) -> Tunnel | None:
        return self.tunnel if public == self.tunnel.peer_public else None

    @property
    def wall_ns(self) -> int:
        return WALL_NS + self.pair.now + self.wall_offset_ns

    def initiate(self, *, elsewhere: bool = False) -> bool:
        begun = self.tunnel.initiate(self.pair.now, self.wall_ns, elsewhere=elsewhere)
        self.drain()
        return begun

    def send(self, payload: bytes) -> bool:
        """Seal and send a packet; without a keypair it waits for one."""
        now = self.pair.now
        keypair = self.tunnel.keypair_for_sending(now)
        counter = None if keypair is None else keypair.take_counter()
        if keypair is None or counter is None:
            self.waiting.append(payload)
            self.drain()
            return False
        assert keypair.created_at <= now < keypair.expires_at
        self.transmit(seal_packet(keypair, counter, payload))
        if self.tunnel.handle_sent(now, data=True):
            self.drain()
        return True

    def transmit(self, datagram: bytes) -> None:
        self.sent_types[datagram[0]] += 1
        if datagram[0] == 1:
            self.initiations_at.append(self.pair.now)
        if datagram[0] == 4:
            _, remote_index, counter = DATA_HEADER.unpack_from(datagram)
            assert (remote_index, counter) not in self.used
            self.used.add((remote_index, counter))
        self.pair.carry(self.other, datagram)

    def receive(self, datagram: bytes) -> None:
        if datagram[0] == 4:
            self.receive_data(datagram)
        else:
            self.gate.receive(datagram, self.other.name, self.other.name.encode(), self.pair.now)
            for reply, source in self.gate.datagrams_to_send():
                assert source == self.other.name
                self.transmit(reply)
            self.drain()

    def receive_data(self, datagram: bytes) -> None:
        _, index, counter = DATA_HEADER.unpack_from(datagram)
        keypair = self.gate.keypairs.get(index)
        if keypair is None or not keypair.window.is_fresh(counter):
            self.unopened += 1
            return
        now = self.pair.now
        assert now < keypair.expires_at
        plain = open_packet(keypair, datagram)
        assert keypair.window.accept(counter)
        if plain:
            self.received.append(plain)
        if keypair.tunnel.handle_received(keypair, now, data=bool(plain)):
            self.drain()

    def drain(self) -> None:
        for datagram in self.tunnel.datagrams_to_send():
            self.transmit(datagram)
        while (event := self.tunnel.next_event()) is not None:
            self.events.append(event)
        self.armed = self.tunnel.next_timer()
        if self.tunnel.is_up(self.pair.now):
            while self.waiting:
                self.send(self.waiting.popleft())

    def fire(self) -> None:
        self.tunnel.handle_timer(self.pair.now, self.wall_ns)
        self.drain()
        assert self.armed is None or self.armed > self.pair.now, "a timer that is due again at once never ends"


@dataclass(order=True)
class Flight:
    """A datagram on its way."""

    arrives_at: int
    number: int
    to: Node = field(compare=False)
    datagram: bytes = field(compare=False)


class Pair:
    """The two nodes, the link and the clock."""

    def __init__(
        self,
        seed: int = 0,
        link: Link | None = None,
        *,
        persistent_keepalive_ns: int = 0,
        preshared_keys: tuple[bytes, bytes] = (bytes(range(32)), bytes(range(32))),
    ) -> None:
        self.random = Random(seed)
        self.link = link or Link()
        self.now = START_NS
        self.flights: list[Flight] = []
        self.carried = 0
        self.tap: list[tuple[Node, bytes]] | None = None
        self.a, self.b = (Node(self, name, StaticKey(self.random.randbytes(32))) for name in "ab")
        for node, other, preshared_key in ((self.a, self.b, preshared_keys[0]), (self.b, self.a, preshared_keys[1])):
            node.other = other
            node.tunnel = Tunnel(
                node.static,
                other.static.public,
                table=node.gate.table,
                random_bytes=self.random.randbytes,
                preshared_key=preshared_key,
                persistent_keepalive_ns=persistent_keepalive_ns if node is self.a else 0,
            )

    @property
    def nodes(self) -> tuple[Node, Node]:
        return (self.a, self.b)

    def carry(self, to: Node, datagram: bytes) -> None:
        """Put a datagram on the link; with a tap it is kept there instead."""
        if self.tap is not None:
            self.tap.append((to, datagram))
            return
        for _ in range(1 + (self.random.random() < self.link.doubled)):
            if self.random.random() >= self.link.loss:
                self.carried += 1
                arrives_at = self.now + self.random.randint(*self.link.delay_ns)
                heapq.heappush(self.flights, Flight(arrives_at, self.carried, to, datagram))

    def run(self, duration_ns: int) -> None:
        """Let time pass."""
        self.run_until(self.now + duration_ns)

    def run_until(self, end: int) -> None:
        while True:
            due = [node.armed for node in self.nodes if node.armed is not None]
            if self.flights:
                due.append(self.flights[0].arrives_at)
            if not due or min(due) > end:
                break
            self.now = max(self.now, min(due))
            if self.flights and self.flights[0].arrives_at <= self.now:
                flight = heapq.heappop(self.flights)
                flight.to.receive(flight.datagram)
                continue
            for node in self.nodes:
                if node.armed is not None and node.armed <= self.now:
                    node.fire()
        self.now = end

    def connect(self) -> None:
        """A handshake begun by `a`, without loss."""
        self.a.initiate()
        self.run(SECOND_NS)
        assert all(node.tunnel.is_up(self.now) for node in self.nodes)


def open_packet(keypair: Keypair, datagram: bytes) -> bytes:
    """Open a message of type 4."""
    _, _, counter = DATA_HEADER.unpack_from(datagram)
    return keypair.opener.decrypt(NONCE.pack(counter), datagram[DATA_HEADER_BYTES:], None)
