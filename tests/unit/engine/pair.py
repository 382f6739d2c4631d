"""Nodes without descriptors: real sessions between fake sockets and fake TUNs, in virtual time.

    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        alice.tun.program_sends(packet)
        net.run(0.1)
        assert bob.tun.received == [packet]

Everything between the fakes is the engine's own code, `Session.run` included. The sockets model what the kernel does
about many datagrams in one call: cutting on send, merging of what one source sent in a row on receive.

Checked in every test, when the block ends: nothing raised, and no (key, nonce) sealed two messages.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, wraps
from random import Random
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from unittest.mock import patch

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

import weft.engine.proving
import weft.noise.keypair
from tests.unit.engine import packets
from weft.burst.records import KIND_PACKET, KIND_TCP, KIND_UDP
from weft.engine.contacts import Contacts
from weft.engine.making import Terms
from weft.engine.peer import Endpoint, Peer
from weft.engine.session import Session
from weft.firewall.firewall import Firewall
from weft.firewall.rules import decode_rule
from weft.identity import Identity, encode_wireguard_key, generate
from weft.io.device import Read
from weft.io.recvmmsg import Address, Received
from weft.io.store import StoredPeer
from weft.io.udp import MAX_SEGMENTS
from weft.noise.primitives import StaticKey

S = 1_000_000_000
START_NS = 1_000 * S
WALL_NS = 1_750_000_000 * S
LIVELOCK = 20_000
"""So many turns of the loop without time moving are no work but a timer that is never served."""
THREAD_S = 10
"""What a thread may take, real seconds."""
OVERLAY_MTU = 1352
EVERYTHING = ("/tcp/0", "/udp/0", "/icmp")

Buffer = bytes | bytearray | memoryview
T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time moves only when there is nothing to do, and then at once to the next timer."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        self.in_threads = 0
        super().__init__(_VirtualSelector(self))

    def time(self) -> float:
        return self.now_ns / S

    def run_in_executor(self, *arguments: Any) -> asyncio.Future[Any]:
        """What a thread does takes no virtual time, but is waited for."""
        future = super().run_in_executor(*arguments)
        self.in_threads += 1
        future.add_done_callback(self._end_thread)
        return future

    def _end_thread(self, _: asyncio.Future[Any]) -> None:
        self.in_threads -= 1


class _VirtualSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(THREAD_S if self._loop.in_threads and (timeout is None or timeout > 0) else 0)
        if ready or (timeout is not None and timeout <= 0):
            self._turns += 1
            assert self._turns < LIVELOCK, "livelock: the loop turns and time stands still"
            return ready
        assert timeout is not None, "deadlock: nothing is due, ever"
        self._turns = 0
        self._loop.now_ns += -int(-timeout * S // 1)
        return ready


@cache
def identity(name: str) -> Identity:
    """The same name has the same key, and finding one costs time."""
    return generate(Random(f"identity {name}").randbytes)


class Datagram(NamedTuple):
    """One datagram on the wire."""

    data: bytes
    source: Address
    destination: Address
    ecn: int = 0


@dataclass
class Call:
    """One call of `send`: what the kernel was asked for."""

    datagrams: list[bytes]
    address: Address
    ecn: int


class FakeSocket:
    """What `UdpSocket` is to the engine, with a kernel of its own behind it."""

    def __init__(self, net: Net, node: Node, host: str, port: int = 1312, *, gro: bool = True) -> None:
        self.net = net
        self.node = node
        self.is_ipv6 = ":" in host
        self.source: Address = (host, port, 0, 0) if self.is_ipv6 else (host, port)
        self.address = (host, port)
        self.gro = gro
        self.link_mtu = net.link_mtu
        self.mark = 0
        self.calls: list[Call] = []
        self.overflown = 0
        self._inbox: deque[Datagram] = deque()
        net.sockets[self.source] = self

    def send(self, data: Buffer, segment: int, address: Address, ecn: int = 0, local: bytes = b"") -> bool:
        assert data, "an empty send"
        datagrams = [bytes(data[start : start + segment]) for start in range(0, len(data), segment)]
        assert len(datagrams) <= MAX_SEGMENTS
        assert len(data) <= 65_507
        if len(datagrams[0]) + (48 if self.is_ipv6 else 28) > self.link_mtu:
            return False
        self.calls.append(Call(datagrams, address, ecn))
        for datagram in datagrams:
            self.net.carry(Datagram(datagram, self.source, address, ecn))
        return True

    def send_fragmentable(self, datagram: Buffer, address: Address, local: bytes = b"") -> None:
        self.calls.append(Call([bytes(datagram)], address, 0))
        self.net.carry(Datagram(bytes(datagram), self.source, address), fragmentable=True)

    def receive(self) -> list[Received]:
        if not self._inbox:
            return []
        first = self._inbox.popleft()
        data, segment, count = first.data, len(first.data), 1
        while self.gro and self._inbox and count < MAX_SEGMENTS and len(data) == count * segment:
            following = self._inbox[0]
            if (following.source, following.ecn) != (first.source, first.ecn) or len(following.data) > segment:
                break
            if len(data) + len(following.data) > 65_507:
                break
            data += self._inbox.popleft().data
            count += 1
        return [Received(memoryview(bytearray(data)), segment, first.source, first.ecn)]

    @property
    def was_full(self) -> bool:
        return bool(self._inbox)

    def overflows(self) -> int:
        return self.overflown

    def address_of(self, host: str, port: int) -> Address:
        return (host, port, 0, 0) if ":" in host else (host, port)

    def move(self, host: str) -> None:
        """Another address from now on, as behind a NAT that forgot; nothing arrives at the old one."""
        del self.net.sockets[self.source]
        self.source = (host, *self.source[1:])
        self.net.sockets[self.source] = self

    def arrive(self, datagram: Datagram) -> None:
        """A datagram comes in; the event loop is told that the descriptor is readable."""
        if not self._inbox:
            self.net.loop.call_soon(self.read)
        self._inbox.append(datagram)

    def read(self) -> None:
        """What `add_reader` would call, as often as there is something left."""
        if not self._inbox:
            return
        try:
            self.node.session.inbound.drain(self)  # type: ignore[arg-type]
        except Exception as error:
            self.net.errors.append(error)
            raise
        if self._inbox:
            self.net.loop.call_soon(self.read)


class Written(NamedTuple):
    """One write to a TUN, as the virtio header described it."""

    kind: str
    """plain, partial, tcp or udp"""
    packet: bytes
    segment: int
    parts: int


class FakeTun:
    """What `Tun` is to the engine, with the host's own stack behind it."""

    def __init__(self, node: Node, *, tso: bool = True, uso: bool = True, csum: bool = True) -> None:
        self.node = node
        self.takes_partial = csum
        self.needs_pseudo_header = True
        self.takes_tcp = csum and tso
        self.takes_udp = csum and tso and uso
        self.written: list[Written] = []
        self._received: list[bytes] = []
        self._unread: list[Callable[[], list[bytes]]] = []
        self.reads = self.settled = 0
        self._outbox: deque[tuple[bytes, Read]] = deque()

    @property
    def received(self) -> list[bytes]:
        """What the host's stack makes of what was written: packets one by one, complete."""
        for make in self._unread:
            self._received += make()
        self._unread.clear()
        return self._received

    def program_sends(self, *given: bytes, segment: int = 0) -> None:
        """The host routes packets here; with `segment` these are super-packets.

        Segments and checksums are left to the device as far as it said that it takes them.
        """
        for packet in given:
            protocol, at = packets.upper(packet) if len(packet) >= 40 else (-1, 0)
            if segment and len(packet) - at > segment:
                kind = KIND_TCP if protocol == packets.TCP else KIND_UDP
                if self.takes_tcp if kind == KIND_TCP else self.takes_udp:
                    partial = packets.as_partial(packet)
                    self.put(partial, Read(len(packet), kind, segment, True))
                else:
                    self.program_sends(*packets.segments(packet, segment))
                continue
            is_whole = packet[0] >> 4 == 6 or not int.from_bytes(packet[6:8], "big") & 0x3FFF
            may_be_partial = protocol == packets.TCP or (protocol == packets.UDP and any(packet[at + 6 : at + 8]))
            if self.takes_partial and may_be_partial and is_whole:
                self.put(packets.as_partial(packet), Read(len(packet), KIND_PACKET, 0, True))
            else:
                self.put(packet, Read(len(packet), KIND_PACKET, 0, False))

    def put(self, packet: bytes, read: Read) -> None:
        """The device gives a packet exactly so."""
        if not self._outbox:
            self.node.net.loop.call_soon(self._drain)
        self._outbox.append((packet, read))

    def read(self, into: memoryview) -> Read | None:
        if not self._outbox:
            return None
        packet, read = self._outbox.popleft()
        into[: len(packet)] = packet
        self.reads += 1
        return read

    def write(self, parts: Sequence[Buffer]) -> bool:
        packet = b"".join(parts)
        return self._take(Written("plain", packet, 0, len(parts)), lambda: [packet])

    def write_partial(self, parts: Sequence[Buffer], transport: int, checksum_offset: int) -> bool:
        assert self.takes_partial
        packet = b"".join(parts)
        written = Written("partial", packet, 0, len(parts))
        return self._take(written, lambda: [packets.finish(packet, transport, checksum_offset)])

    def write_super(self, parts: Sequence[Buffer], kind: int, segment: int, transport: int, headers: int) -> bool:
        packet = b"".join(parts)
        assert self.takes_tcp if kind == KIND_TCP else self.takes_udp
        protocol, at = packets.upper(packet)
        assert protocol == (packets.TCP if kind == KIND_TCP else packets.UDP)
        assert transport == at
        assert headers == at + ((packet[at + 12] >> 4) * 4 if kind == KIND_TCP else 8)
        assert 0 < segment < len(packet) - headers
        assert len(packet) <= 65_535
        assert packets.as_partial(packet) == packet, "the checksum field holds the pseudo-header's sum"
        assert len(parts[0]) >= headers
        written = Written("tcp" if kind == KIND_TCP else "udp", packet, segment, len(parts))
        return self._take(written, lambda: packets.segments(packet, segment))

    def settle(self) -> None:
        self.settled += 1

    def wake(self) -> None:
        pass

    def _take(self, written: Written, result: Callable[[], list[bytes]]) -> bool:
        self.written.append(written)
        self._unread.append(result)
        return True

    def _drain(self) -> None:
        if not self._outbox:
            return
        try:
            self.node.session.outbound.drain(self)  # type: ignore[arg-type]
        except Exception as error:
            self.node.net.errors.append(error)
            raise
        if self._outbox:
            self.node.net.loop.call_soon(self._drain)


class Node:
    """One participant: session, sockets, TUN."""

    def __init__(self, net: Net, name: str, host: str, *, tun: bool, rules: Sequence[str], **terms: Any) -> None:
        self.net = net
        self.name = name
        self.identity = identity(name)
        self.drops: Counter[str] = Counter()
        self.firewall = Firewall([decode_rule(rule) for rule in rules])
        self.firewall.expire(net.now)
        self.changes = 0
        random = Random(f"random {name} {len(net.nodes)}")
        keywords: dict[str, Any] = {
            "identity": self.identity,
            "static": StaticKey(self.identity.noise_private),
            "network_psk": bytes(32),
            "keepalive_ns": 25 * S,
            "mtu": OVERLAY_MTU,
            "accepts_unknown": True,
            "fixed_pieces": None,
            "random_bytes": random.randbytes,
            "clock": lambda: net.loop.now_ns,
            "wall_clock": lambda: WALL_NS + net.loop.now_ns + self.wall_offset_ns,
        }
        self.wall_offset_ns = 0
        self.terms = Terms(**(keywords | terms))
        self.session = Session(self.terms, self.firewall, self.drops, bytes(12), self._note_change)
        self.socket = FakeSocket(net, self, host)
        self.tun = FakeTun(self)
        if tun:
            self.attach(self.tun)
        self.task = net.loop.create_task(self.session.run())

    @property
    def address(self) -> bytes:
        """Of the overlay."""
        return self.identity.address

    def attach(self, tun: FakeTun) -> None:
        """Take a TUN, as the engine does when the interface comes up."""
        self.tun = tun
        self.session.delivery.device = tun  # type: ignore[assignment]
        self.session.say_hello(frozenset({"uso"} if tun.takes_udp else ()))

    def peer(self, other: Node) -> Peer:
        """What this node knows of another."""
        found = self.session.contacts.by_key(other.identity.noise_public)
        assert found is not None
        return found

    def call(self, other: Node, socket: FakeSocket | None = None) -> Peer:
        """Start a handshake, as `weft peer connect` does."""
        peer = self.session.contacts.add_weft(other.identity.noise_public, other.identity.peer_id, is_wanted=True)
        self.session.call(peer, Endpoint(self.socket, (socket or other.socket).source))  # type: ignore[arg-type]
        return peer

    def endpoint(self, socket: FakeSocket) -> Endpoint:
        """Another node's socket as this node's path to it."""
        return Endpoint(self.socket, socket.source)  # type: ignore[arg-type]

    def calls_to(self, other: FakeSocket) -> list[Call]:
        """What was sent there, call by call."""
        return [call for call in self.socket.calls if call.address == other.source]

    def _note_change(self) -> None:
        self.changes += 1


@dataclass
class Faults:
    """What happens on the wire; shares of one datagram in one."""

    loss: float = 0.0
    double: float = 0.0
    late: float = 0.0
    """Share that arrives after others that were sent later."""
    latency_ns: int = 1_000_000
    drops: Callable[[Datagram], bool] = field(default=lambda datagram: False)
    marks: Callable[[Datagram], bool] = field(default=lambda datagram: False)
    """Which datagrams a router marks CE, if they are ECT."""
    mtu: int = 65_535


class Net:
    """The wire, the clock, and all nodes."""

    def __init__(self, seed: int = 0, *, link_mtu: int = 1500) -> None:
        self.link_mtu = link_mtu
        self.loop = VirtualLoop()
        self.random = Random(seed)
        self.faults = Faults()
        self.nodes: list[Node] = []
        self.sockets: dict[Address, FakeSocket] = {}
        self.wire: list[Datagram] = []
        """All that was ever sent."""
        self._arrivals: dict[int, list[Datagram]] = {}
        self.held: list[Datagram] | None = None
        """Where datagrams go instead of to their destination, if this is a list."""
        self.errors: list[BaseException] = []
        self.sealed: Counter[tuple[bytes, bytes]] = Counter()
        """How often each (key, nonce) was used."""

    def __enter__(self) -> Self:
        record = self.sealed

        class RecordingAead:
            """The real cipher, and a note of what it sealed."""

            def __init__(self, key: bytes) -> None:
                self._key = key
                self._aead = ChaCha20Poly1305(key)
                self.decrypt_into = self._aead.decrypt_into

            def encrypt_into(self, nonce: bytes, data: Buffer, associated_data: bytes | None, buf: Buffer) -> int:
                record[self._key, bytes(nonce)] += 1
                return self._aead.encrypt_into(nonce, data, associated_data, buf)

        self._patches = (
            patch.object(weft.engine.proving, "link_mtu", lambda host, port, mark: self.link_mtu),
            patch.object(weft.noise.keypair, "ChaCha20Poly1305", RecordingAead),
        )
        for each in self._patches:
            each.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each in self._patches:
            each.stop()
        results = self.loop.run_until_complete(self._end_tasks())
        self.loop.close()
        if error is None:
            self.errors += [result for result in results if isinstance(result, Exception)]
            assert not self.errors, self.errors
            assert max(self.sealed.values(), default=0) <= 1, "a counter was used again"

    @property
    def now(self) -> int:
        """Monotonic ns."""
        return self.loop.now_ns

    def node(
        self,
        name: str,
        host: str = "",
        *,
        tun: bool = True,
        rules: Sequence[str] = EVERYTHING,
        **terms: Any,
    ) -> Node:
        """Add a node; `terms` replace those of `Terms`."""
        made = Node(self, name, host or f"10.0.0.{len(self.nodes) + 1}", tun=tun, rules=rules, **terms)
        self.nodes.append(made)
        return made

    def run(self, seconds: float = 0.02) -> None:
        """Let virtual time pass."""
        self.loop.run_until_complete(asyncio.sleep(seconds))
        for node in self.nodes:
            if node.task.done() and not node.task.cancelled():
                node.task.result()
        if self.errors:
            raise self.errors[0]

    def connect(self, *nodes: Node) -> None:
        """Join the first with each other one, until bursts may go both ways and the path MTU is found."""
        first = nodes[0]
        for other in nodes[1:]:
            first.call(other)
        self.run(0.5)
        for other in nodes[1:]:
            for one, two in ((first, other), (other, first)):
                assert one.peer(two).tunnel.is_up(self.now)
                assert one.peer(two).burst_limit > 0

    async def _end_tasks(self) -> list[BaseException | None]:
        tasks = [node.task for node in self.nodes]
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    def carry(self, datagram: Datagram, *, fragmentable: bool = False) -> None:
        """Take a datagram from its sender towards its destination."""
        self.wire.append(datagram)
        faults, random = self.faults, self.random
        if not fragmentable and len(datagram.data) + (48 if len(datagram.source) == 4 else 28) > faults.mtu:
            return
        if faults.drops(datagram) or random.random() < faults.loss:
            return
        if datagram.ecn and faults.marks(datagram):
            datagram = datagram._replace(ecn=3)
        if self.held is not None:
            self.held.append(datagram)
            return
        for _ in range(2 if random.random() < faults.double else 1):
            latency = faults.latency_ns
            if random.random() < faults.late:
                latency += random.randrange(faults.latency_ns)
            # Timers of one instant run in any order, so all that arrives at one instant shares a timer.
            at = self.now + latency
            if at not in self._arrivals:
                self._arrivals[at] = []
                self.loop.call_later(latency / S, self._arrive, at)
            self._arrivals[at].append(datagram)

    def _arrive(self, at: int) -> None:
        self.deliver(*self._arrivals.pop(at))

    def deliver(self, *datagrams: Datagram) -> None:
        """Let datagrams arrive now, in this order."""
        for datagram in datagrams:
            socket = self.sockets.get(datagram.destination)
            if socket is not None:
                socket.arrive(datagram)

    def hold(self) -> None:
        """Keep what is sent from now on; see `release`."""
        self.held = []

    def release(self) -> list[Datagram]:
        """Take what was held; nothing is held any more."""
        held, self.held = self.held or [], None
        return held


def in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop of its own, whose time moves only when there is nothing to do."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Let a test that is a coroutine run in virtual time."""

    @wraps(test)
    def run(*arguments: object, **keywords: object) -> None:
        in_virtual_time(test(*arguments, **keywords))

    return run


def add_device(
    contacts: Contacts, key: bytes, name: str, networks: Iterable[Any], psk: bytes = bytes(32), keepalive_ns: int = 0
) -> Peer:
    """Take a stock WireGuard device as a peer, as `weft peer add-wireguard` does."""
    record = StoredPeer(
        key=encode_wireguard_key(key),
        kind="wireguard",
        name=name,
        allowed_ips=[str(network) for network in networks],
        psk=encode_wireguard_key(psk) if any(psk) else None,
        keepalive_s=keepalive_ns // S,
    )
    contacts.put(key, record)
    peer = contacts.by_key(key)
    assert peer is not None
    return peer
