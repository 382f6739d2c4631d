"""Everything between the sockets and the interface that can be thrown away and built anew: peers and their machines.

The datapath calls the `Session` for whatever is not a burst. What concerns a peer's machines it only notes; `run`, one
task, drains the machines of the peers that need it and wakes for their timers. So no machine is entered from within
another, and the fast path pays for a set insertion.

Source: seed 001 (Engine, Session, Stage); house.md, "Contract of a state machine".
Not done here: descriptors and their lifetime (engine.py), who the peers are (contacts.py), where they are (proving.py).
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import socket as socket_module
from collections import Counter
from collections.abc import Callable
from itertools import count

from weft.burst.header import MAX_TOTAL_BYTES, TYPE_DATA
from weft.burst.size import REPORT_INTERVAL_NS
from weft.engine.capture import Captures
from weft.engine.contacts import Contacts
from weft.engine.delivery import Delivery
from weft.engine.events import Events
from weft.engine.inbound import Inbound
from weft.engine.making import Terms
from weft.engine.outbound import Outbound
from weft.engine.peer import Endpoint, Peer
from weft.engine.presence import Presence, id_of
from weft.engine.proving import Proving
from weft.engine.transmit import Transmitter
from weft.errors import DecodeError
from weft.firewall.firewall import Firewall
from weft.identity import PeerId
from weft.io.device import Device
from weft.mesh.multigram import NOTICE, PROBE, decode_multigram
from weft.mesh.notices import Hello, HelloReceived
from weft.noise.gate import Gate
from weft.noise.tunnel import HandshakeFailed, KeypairReady, Tunnel, Unanswered
from weft.packet.answers import Unreachable, destination_unreachable, echo_reply, packet_too_big
from weft.paths.mtu import BASE_MTU
from weft.rates import Rate

log = logging.getLogger("weft.engine")

NODE_ITSELF = bytes.fromhex("fc000000000000000000000000000001")
"""fc00::1, which answers pings and is never routed (wire.md section 1)."""

ANSWERS_PER_SECOND = 100
"""ICMP errors into the device."""

HANDSHAKE_MESSAGES = ("initiation", "response", "cookie")
"""Of type 1 to 3."""

PEERS_IN_A_TURN = 32
"""Looked after in one turn of the loop, so that packets and the API get theirs: a handshake takes 0.3 ms."""

Waiter = asyncio.Future[None]


class Session:
    """The peers of a node and all that is known of them.

    Attributes:
        handshakes: how many ended, by result.
        handshake_messages: how many there were, by direction and message.
        contacts: the peers.
        proving: where they are, and how large a datagram gets there.
        gate: where handshakes come in.
        inbound: from the sockets to the interface.
        outbound: from the interface to the sockets.
        transmitter: seals and sends what one peer gets.
        delivery: hands packets to the interface.
        captures: who wants to see what passes.
        networks_changed: set when a peer has come by itself, or gone.
        drops: what was dropped, by reason.
    """

    def __init__(
        self,
        terms: Terms,
        firewall: Firewall,
        drops: Counter[str],
        timestamp_floor: bytes,
        when_changed: Callable[[], None],
        when_unanswered: Callable[[Peer], None] = lambda peer: None,
        events: Events | None = None,
        captures: Captures | None = None,
        leads_inward: Callable[[Endpoint], bool] = lambda endpoint: False,
    ) -> None:
        """Build the machines; nothing is sent before `run` does.

        Args:
            terms: what peers are made with.
            firewall: outlives the session, so that connections do.
            drops: of the node.
            timestamp_floor: 12 bytes; see `Tunnel`.
            when_changed: called when something is to be stored: a peer was learned or moved.
            when_unanswered: called when a peer did not answer an initiation, and may be looked for elsewhere (`aim`).
            events: of the node; what is told here is who comes, moves and goes.
            captures: of the node; who listens goes on listening when the session is built anew.
            leads_inward: whether what is sent to an endpoint would come back by the node's own interface.
        """
        self._terms = terms
        self._firewall = firewall
        self._when_changed = when_changed
        self._when_unanswered = when_unanswered
        self.drops = drops
        self._clock, self._wall_clock = terms.clock, terms.wall_clock
        self.gate = Gate(terms.static, tunnel_for=self._tunnel_for, random_bytes=terms.random_bytes)
        self.contacts = Contacts(terms, self.gate.table, drops, timestamp_floor, self._handle_removed)
        routes = self.contacts.routes
        self.proving = Proving(self, terms.clock, when_changed, drops, leads_inward)
        self.transmitter = Transmitter(self, drops)
        self.captures = captures or Captures()
        self.outbound = Outbound(routes, firewall, self.transmitter, self, terms.clock, drops, self.captures)
        self.delivery = Delivery(drops, routes, self.captures)
        self.inbound = Inbound(
            self.gate.keypairs,
            self.contacts.by_tunnel,
            routes,
            firewall,
            self.delivery,
            self,
            terms.clock,
            drops,
            self.captures,
        )
        self._speaker = terms.identity.address
        self._answers = Rate(ANSWERS_PER_SECOND, burst=ANSWERS_PER_SECOND)
        self._attention: set[Peer] = set()
        self._timers: list[tuple[int, int, Peer]] = []
        self._sequence = count()
        self._wake = asyncio.Event()
        self.networks_changed = asyncio.Event()
        self._up_waiters: dict[Peer, list[Waiter]] = {}
        self._presence = Presence(events or Events())
        self.handshakes: Counter[str] = Counter()
        self.handshake_messages: Counter[tuple[str, ...]] = Counter()

    def join(self, device: Device | None, firewall: Firewall, speaker: bytes | None = None) -> None:
        """Let packets pass between the tunnels and an interface.

        Args:
            device: None where there is none.
            firewall: decides about them from now on.
            speaker: the address from which the node tells the interface what is wrong with its packets, 16 bytes; None
                for its own.
        """
        self.delivery.device = device
        self._speaker = speaker or self._terms.identity.address
        self._firewall = self.inbound.firewall = self.outbound.firewall = firewall

    async def run(self) -> None:
        """Look after the peers until cancelled."""
        loop = asyncio.get_running_loop()
        # A fault may have ended this task before the timer of a peer was armed anew.
        self._attention.update(self.contacts)
        while True:
            now = self._clock()
            for _ in range(PEERS_IN_A_TURN):
                if not self._timers or self._timers[0][0] > now:
                    break
                at, _, peer = heapq.heappop(self._timers)
                if peer.armed_at == at:
                    peer.armed_at = None
                    self._handle_timer(peer, now)
                    self._attention.add(peer)
            for _ in range(PEERS_IN_A_TURN):
                if not self._attention:
                    break
                self._drain(self._attention.pop(), now)
            if self._attention or (self._timers and self._timers[0][0] <= now):
                await asyncio.sleep(0)
                continue
            self._wake.clear()
            handle = None
            if self._timers:
                delay_s = max(0, self._timers[0][0] - self._clock()) / 1e9
                handle = loop.call_later(delay_s, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                if handle is not None:
                    handle.cancel()

    def close(self) -> None:
        """Forget all peers and their keys; whoever waits is told."""
        for peer in self.contacts:
            self.remove(peer)

    # Commands.

    def call(self, peer: Peer, endpoint: Endpoint | None, *, afresh: bool = False) -> None:
        """Start a handshake with a peer, at an endpoint that a person or the store named.

        Args:
            peer: whom.
            endpoint: None for the one that it has.
            afresh: what was sent until now counts for nothing, so one that is under way is begun again.
        """
        now = self._clock()
        is_elsewhere = endpoint is not None and peer.path.endpoint != endpoint
        if endpoint is not None and (is_elsewhere or not peer.path.is_proven):
            self.proving.move(peer, endpoint, proven=True)
        peer.tunnel.initiate(now, self._wall_clock(), elsewhere=is_elsewhere or afresh)
        self.attend(peer)

    def aim(self, peer: Peer, endpoint: Endpoint) -> None:
        """Send what follows to another known endpoint of a peer; the tunnel says when that is."""
        if peer.path.endpoint != endpoint:
            self.proving.move(peer, endpoint, proven=True)

    def end(self, peer: Peer) -> None:
        """End the session with a peer, and leave the next one to it; whoever waits for it is told."""
        peer.tunnel.rest()
        peer.queue.clear()
        self._release(peer)
        self.attend(peer)

    def show_up(self) -> None:
        """Say something to every peer with a session, now: this machine may be reached elsewhere."""
        now = self._clock()
        for peer in self.contacts:
            if peer.tunnel.is_up(now):
                self.ask_for_sign(peer)

    def ask_for_sign(self, peer: Peer) -> None:
        """Say something to a peer with a session, now.

        Who only receives would be silent until its next keepalive, and what is sent to it be lost. A weft node is asked
        for an answer: that it may ask for one itself, it must have got enough from here. A handshake that is under way
        is begun again.
        """
        now = self._clock()
        if peer.tunnel.is_handshaking:
            self.call(peer, None, afresh=True)
        if peer.is_known and peer.prober is not None:
            peer.prober.ping(now)
        else:
            peer.tunnel.keep_alive(now)
        self.attend(peer)

    def handle_resumed(self) -> None:
        """Time has passed in which nothing could be done: look at all timers at once."""
        self._attention.update(self.contacts)
        self._wake.set()

    def wait_until_up(self, peer: Peer) -> Waiter:
        """A future that is done with the next session of a peer, or fails when the peer goes."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        waiting = self._up_waiters.setdefault(peer, [])
        waiting[:] = [other for other in waiting if not other.done()]
        waiting.append(waiter)
        return waiter

    def remove(self, peer: Peer) -> None:
        """Forget a peer; whoever waits for it is told."""
        self.contacts.remove(peer)

    def _handle_removed(self, peer: Peer) -> None:
        """A peer was forgotten, by whatever way."""
        self._release(peer)
        self.networks_changed.set()
        if peer.standing == "stranger":
            self._presence.handle_stranger_forgotten(peer)
        self._attention.discard(peer)
        peer.armed_at = None

    def _release(self, peer: Peer) -> None:
        for waiter in self._up_waiters.pop(peer, []):
            waiter.cancel()
        self.proving.handle_removed(peer)
        self._presence.handle_removed(peer)

    def say_hello(self, capabilities: frozenset[str]) -> None:
        """The node's abilities changed: tell every peer."""
        self.contacts.capabilities = capabilities
        now = self._clock()
        for peer in self.contacts:
            if peer.notices is not None and peer.notices.hello.capabilities != capabilities:
                self._say(peer, now)

    # What the datapath calls.

    def attend(self, peer: Peer) -> None:
        """Drain the peer's machines and arm its timer anew, soon."""
        self._attention.add(peer)
        self._wake.set()

    def handle_unroutable(self, packet: memoryview, now: int) -> None:
        """No peer has the destination: say so, but not to neighbour discovery and multicast."""
        if packet[24:40] == NODE_ITSELF and packet[0] >> 4 == 6:
            self._answer(echo_reply(packet), now)
            return
        self.drops["no peer has the destination"] += 1
        self._answer(destination_unreachable(packet, Unreachable.ADDRESS, self._speaker_to(packet)), now)

    def handle_resting(self, packet: memoryview) -> None:
        """A packet is for a peer that is not called: say so."""
        self.drops["peer is not called"] += 1
        unreachable = destination_unreachable(packet, Unreachable.ADDRESS, self._speaker_to(packet))
        self._answer(unreachable, self._clock())

    def handle_too_big(self, packet: memoryview, room: int, now: int) -> None:
        """A packet is too big for the path to a peer that takes no bursts: say how big it may be."""
        self.drops["too big for the path"] += 1
        # No IPv6 host may be told less than 1,280, and so much crosses anyway, in fragments if need be.
        fits = max(room, BASE_MTU) if packet[0] >> 4 == 6 else room
        self._answer(packet_too_big(packet, fits, self._speaker_to(packet)), now)

    def handle_refused(self, peer: Peer, packet: memoryview, now: int) -> None:
        """Tell the sender of a rejected packet."""
        rejection = self._firewall.rejection(packet, now)
        if rejection is not None:
            if self.captures.listeners:
                self.captures.put("out", peer, [rejection])
            self.transmitter.send_packet(peer, rejection, now)

    def handle_moved(self, peer: Peer, endpoint: Endpoint, now: int) -> None:
        """Follow a peer to another endpoint, unless that is inside the overlay: the tunnel would lead into itself."""
        if self.contacts.network_around(_source_bytes(endpoint)[:-2]) is None:
            self.proving.follow(peer, endpoint, now)
        else:
            self.drops["source is of the overlay"] += 1

    def handle_readdressed(self, peer: Peer, endpoint: Endpoint) -> None:
        """A peer addressed us by another of our addresses."""
        self.proving.readdress(peer, endpoint)

    def handle_unproven(self, peer: Peer, now: int) -> None:
        """Ask at the endpoint of a peer whether it is there."""
        self.proving.ask(peer, now)

    def receive_control(self, endpoint: Endpoint, datagram: memoryview, now: int) -> None:
        """Take a handshake message; whatever else it is, nobody here knows it."""
        if not 1 <= int.from_bytes(datagram[:4], "little") <= 3:
            self.drops["unknown"] += 1
            return
        source_bytes = _source_bytes(endpoint)
        if self.contacts.network_around(source_bytes[:-2]) is not None:
            self.drops["source is of the overlay"] += 1
            return
        self._count_message("received", datagram)
        tunnel = self.gate.receive(datagram, endpoint, source_bytes, now)
        for reply, source in self.gate.datagrams_to_send():
            assert isinstance(source, Endpoint)
            self._count_message("sent", reply)
            source.socket.send(reply, len(reply), source.address, local=source.local)
        if tunnel is None:
            return
        peer = self.contacts.by_tunnel[tunnel]
        if peer.path.endpoint != endpoint:
            self.proving.move(peer, endpoint, proven=False)
        else:
            self.proving.readdress(peer, endpoint)
        peer.path.handle_received(len(datagram))
        self.attend(peer)

    def receive_multigram(self, peer: Peer, data: memoryview, now: int) -> None:
        """Take what a weft peer says beside packets."""
        if peer.notices is None or peer.prober is None:
            self.drops["multigram of a stock peer"] += 1
            return
        try:
            codec, body = decode_multigram(data)
        except DecodeError:
            self.drops["multigram: undecodable"] += 1
            return
        if codec == NOTICE:
            peer.notices.receive(body, now)
        elif codec == PROBE:
            hello = peer.notices.their_hello
            peer.prober.receive(body, hello.public_key if hello else None, peer.notices.hello.burst, now)
        else:
            self.drops["multigram: unknown codec"] += 1
        self.attend(peer)

    def send_report(self, peer: Peer, now: int) -> None:
        """Tell a peer what was lost of its datagrams."""
        if peer.notices is None:
            return
        endpoint = peer.path.endpoint
        overflows = endpoint.socket.overflows() if isinstance(endpoint, Endpoint) else peer.overflows
        if overflows != peer.overflows:
            peer.overflows = overflows
            peer.meter.forgive()
        peer.notices.report(peer.meter.report())
        self.attend(peer)

    def refuse_bursts(self, peer: Peer, now: int) -> None:
        """Ask a peer for type 4 messages until its bursts may be tried again."""
        self._say(peer, now)
        self.attend(peer)

    # What `run` does.

    def _handle_timer(self, peer: Peer, now: int) -> None:
        peer.tunnel.handle_timer(now, self._wall_clock())
        peer.joiner.handle_timer(now)
        pieces = peer.path.size.pieces
        peer.path.size.handle_timer(now)
        if peer.path.size.pieces < pieces:
            # Bursts vanish: the path may have become too small for their pieces.
            peer.path.mtu.suspect(now)
        if peer.notices is not None:
            peer.notices.handle_timer(now)
            self.proving.handle_timer(peer, now)
        if peer.report_due and now >= peer.report_at:
            peer.report_due = False
            peer.report_at = now + REPORT_INTERVAL_NS
            self.send_report(peer, now)
        if peer.refusing_until and now >= peer.refusing_until:
            peer.refusing_until = 0
            self._say(peer, now)

    def _drain(self, peer: Peer, now: int) -> None:
        """Take what a peer's machines have to send and to tell, and arm its timer."""
        if peer.tunnel not in self.contacts.by_tunnel:
            return
        for datagram in peer.tunnel.datagrams_to_send():
            if datagram[0] != TYPE_DATA:
                peer.handshake_endpoint = peer.path.endpoint
                self._count_message("sent", datagram)
            self.transmitter.send_raw(peer, datagram)
        while (event := peer.tunnel.next_event()) is not None:
            if isinstance(event, KeypairReady):
                self._handle_up(peer, now)
            elif isinstance(event, Unanswered):
                self._when_unanswered(peer)
            elif isinstance(event, HandshakeFailed):
                self.handshakes["failed"] += 1
                self.drops["no answer to handshakes"] += len(peer.queue)
                peer.queue.clear()
                if peer.standing == "stranger":
                    # It called by itself and will do so again.
                    self.remove(peer)
                    self._when_changed()
                    return
                if peer.standing == "known":
                    peer.tunnel.rest()
        if peer.queue and peer.tunnel.keypair_for_sending(now) is not None:
            self.outbound.send_queued(peer, now)
        if peer.notices is not None and peer.prober is not None:
            self._drain_notices(peer, now)
            if peer.tunnel not in self.contacts.by_tunnel:
                return
            self.proving.take_answers(peer, now)
            # Probes first: at an unproven endpoint there may not be room for more.
            for message in (*peer.prober.datagrams_to_send(), *peer.notices.datagrams_to_send()):
                self.transmitter.send_message(peer, message, now)
        self._presence.look(peer, now)
        self._arm(peer)

    def _drain_notices(self, peer: Peer, now: int) -> None:
        assert peer.notices is not None
        while peer.tunnel in self.contacts.by_tunnel and (event := peer.notices.next_event()) is not None:
            if isinstance(event, HelloReceived):
                self._handle_hello(peer, event.hello, now)
            else:
                peer.path.size.receive_report(event.report, now)

    def _handle_up(self, peer: Peer, now: int) -> None:
        """A session came up: its handshake proved the endpoint, unless what ended it came from another one."""
        self.handshakes["completed"] += 1
        peer.handshakes += 1
        peer.handshake_wall_ns = self._wall_clock()
        if peer.path.endpoint == peer.handshake_endpoint:
            self.proving.prove(peer, now)
        if peer.notices is not None:
            peer.notices.start(now)
        for waiter in self._up_waiters.pop(peer, []):
            if not waiter.done():
                waiter.set_result(None)

    def _handle_hello(self, peer: Peer, hello: Hello, now: int) -> None:
        """A peer said who it is; believed only if that gives the Noise key of its tunnel."""
        if peer.peer_id is None or peer.peer_id.public_key != hello.public_key:
            peer_id = _id_of(hello, peer)
            if peer_id is None:
                self.drops["notice: id of another key"] += 1
                log.debug("a peer claims an identity that is not of its key", extra={"peer": id_of(peer)})
                if peer.standing == "stranger":
                    self.remove(peer)
                else:
                    self.end(peer)
                return
            peer.peer_id = peer_id
            self._when_changed()
        peer.refresh()
        if hello.burst == 0:
            peer.path.size.receive_refusal(now)
        self.proving.handle_known(peer, now)

    def _say(self, peer: Peer, now: int) -> None:
        """Tell a peer anew what this node is and takes."""
        if peer.notices is None:
            return
        old = peer.notices.hello
        hello = Hello(
            old.public_key, 0 if peer.refusing_until else MAX_TOTAL_BYTES, old.mtu, self.contacts.capabilities
        )
        peer.notices.say(hello, now)
        self.attend(peer)

    def _count_message(self, direction: str, datagram: bytes | memoryview) -> None:
        self.handshake_messages[direction, HANDSHAKE_MESSAGES[datagram[0] - 1]] += 1

    def _arm(self, peer: Peer) -> None:
        at = peer.next_timer()
        if at is not None and (peer.armed_at is None or at < peer.armed_at):
            peer.armed_at = at
            heapq.heappush(self._timers, (at, next(self._sequence), peer))

    def _tunnel_for(self, noise_public_key: bytes) -> Tunnel | None:
        is_new = self.contacts.by_key(noise_public_key) is None
        tunnel = self.contacts.tunnel_for(noise_public_key)
        if is_new and tunnel is not None:
            self._presence.handle_stranger(self.contacts.by_tunnel[tunnel])
            self.networks_changed.set()
        return tunnel

    def _speaker_to(self, packet: memoryview) -> bytes:
        return self._speaker if packet[0] >> 4 == 6 else packet[16:20].tobytes()

    def _answer(self, packet: bytes | None, now: int) -> None:
        if packet is not None and self.delivery.device is not None and self._answers.allows(now):
            self.delivery.device.write([packet])
            # What it says to that leaves behind what is being sent now.
            self.delivery.device.wake()


def _id_of(hello: Hello, peer: Peer) -> PeerId | None:
    """The peer id that a peer claims, or None if that is not of its Noise key."""
    try:
        peer_id = PeerId(hello.public_key)
    except DecodeError:
        return None
    return peer_id if peer_id.noise_public_key == peer.tunnel.peer_public else None


def _source_bytes(endpoint: Endpoint) -> bytes:
    """What a cookie covers: address and port in 6 or 18 bytes."""
    family = socket_module.AF_INET6 if endpoint.socket.is_ipv6 else socket_module.AF_INET
    host: str = endpoint.address[0].partition("%")[0]
    port: int = endpoint.address[1]
    return socket_module.inet_pton(family, host) + port.to_bytes(2, "big")
