"""Pings to peers, and what their answers prove: that a peer is at an endpoint, and how large a datagram gets there.

An endpoint is proven by the handshake or the ping that was answered from it; one that a person or the store named is
taken for the peer's, and a stock device, which answers no pings, is believed. Once it is proven, padded pings look for
the path MTU. What a person wants to know is asked the same way (`ping`).

Source: wire.md sections 3 (roaming), 4 ("Path MTU") and 6.
Not done here: pings and pongs themselves (mesh/probe.py); how far an endpoint is trusted (paths/path.py) and which size
is probed when (paths/mtu.py); sending (session.py); where else a peer may be (dial.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from weft.burst.header import DATA_OVERHEAD_BYTES
from weft.engine.peer import Endpoint, Peer
from weft.io.recvmmsg import arrival_interface, local_address
from weft.io.routes import route_to
from weft.io.udp import UdpSocket, link_mtu
from weft.mesh.probe import MIN_PING_BYTES, Answered, Lost, Prober
from weft.paths.mtu import PathMtu
from weft.paths.path import IP_UDP_BYTES

log = logging.getLogger("weft.engine")

PingWaiter = asyncio.Future[Answered]


class Attendant(Protocol):
    """Who sends what a peer's machines have to send; the Session."""

    def attend(self, peer: Peer) -> None:
        """Drain the peer's machines and arm its timer anew."""


class Proving:
    """Moves peers to endpoints, asks there, and takes the answers."""

    def __init__(
        self,
        attendant: Attendant,
        clock: Callable[[], int],
        when_changed: Callable[[], None],
        drops: Counter[str],
        leads_inward: Callable[[Endpoint], bool],
    ) -> None:
        """Begin without a question.

        Args:
            attendant: is told of each peer that is to be asked something.
            clock: monotonic ns.
            when_changed: called when an endpoint was proven that is to be stored.
            drops: of the node.
            leads_inward: whether what is sent to an endpoint would come back by the node's own interface.
        """
        self._attendant = attendant
        self._clock = clock
        self._when_changed = when_changed
        self._drops = drops
        self._leads_inward = leads_inward
        self._waiters: dict[Peer, dict[bytes, PingWaiter]] = {}

    # Endpoints.

    def move(self, peer: Peer, endpoint: Endpoint, *, proven: bool) -> None:
        """Use another endpoint of a peer, or none if that is behind the tunnel itself.

        Args:
            peer: whose.
            endpoint: the new one.
            proven: whether it is known to be the peer's; see `Path.move`.
        """
        if self._leads_inward(endpoint):
            self._leave_inward(peer)
            return
        endpoint = _answered(endpoint)
        host, port = endpoint.multiaddr.endpoint()
        ceiling = link_mtu(host, port, endpoint.socket.mark)
        peer.path.move(endpoint, is_ipv6=endpoint.socket.is_ipv6, ceiling=ceiling, proven=proven)
        peer.mtu_probe = peer.proving = None
        peer.refresh()

    @staticmethod
    def readdress(peer: Peer, endpoint: Endpoint) -> None:
        """Answer a peer from the address that it sent to, if that is of use."""
        peer.path.endpoint = _answered(endpoint)

    def follow(self, peer: Peer, endpoint: Endpoint, now: int) -> None:
        """Use the endpoint that a message of a peer came from; a stock device is believed."""
        self.move(peer, endpoint, proven=False)
        if not peer.is_weft and peer.path.endpoint is not None:
            self.prove(peer, now)
        self._attendant.attend(peer)

    def ask(self, peer: Peer, now: int) -> None:
        """Ask at the endpoint of a peer whether it is there, if so much may go there already.

        A question that is lost is asked again when more comes.
        """
        endpoint = peer.path.endpoint
        may_ask = peer.is_known and peer.path.has_room(DATA_OVERHEAD_BYTES + MIN_PING_BYTES)
        if may_ask and peer.prober is not None and isinstance(endpoint, Endpoint):
            peer.proving = (peer.prober.ping(now), endpoint)
            self._attendant.attend(peer)

    def prove(self, peer: Peer, now: int) -> None:
        """A peer is at its endpoint: everything may go there, and it is worth keeping."""
        peer.proving = None
        was_proven = peer.path.is_proven
        peer.path.prove()
        peer.refresh()
        self._search_mtu(peer, now)
        endpoint = peer.path.endpoint
        if isinstance(endpoint, Endpoint):
            is_news = peer.endpoints.prove(endpoint.multiaddr)
            if is_news or not was_proven:
                self._when_changed()

    # Pings.

    def ping(self, peer: Peer, size: int) -> PingWaiter:
        """Ping a weft peer; the future is done with the answer, and cancelled when that is lost or the peer goes.

        Args:
            peer: whom.
            size: of the whole multigram, bytes.
        """
        waiter: PingWaiter = asyncio.get_running_loop().create_future()
        assert peer.prober is not None
        self._waiters.setdefault(peer, {})[peer.prober.ping(self._clock(), size)] = waiter
        self._attendant.attend(peer)
        return waiter

    def handle_known(self, peer: Peer, now: int) -> None:
        """A peer said who it is, so it can be asked: how large its path is, or first whether it is there."""
        self._search_mtu(peer, now)
        if not peer.path.is_proven and peer.proving is None:
            self.ask(peer, now)

    def handle_timer(self, peer: Peer, now: int) -> None:
        """Give up what was not answered in time, and probe the path MTU when that is due."""
        if peer.prober is not None:
            peer.prober.handle_timer(now)
            self._probe_mtu(peer, peer.prober, now)

    def take_answers(self, peer: Peer, now: int) -> None:
        """Draw the conclusions from what became of the pings to a peer."""
        assert peer.prober is not None
        while (event := peer.prober.next_event()) is not None:
            waiter = self._waiters.get(peer, {}).pop(event.id, None)
            if isinstance(event, Answered):
                peer.path.handle_rtt(event.rtt_ns)
                if peer.proving == (event.id, peer.path.endpoint):
                    self.prove(peer, now)
                if waiter is not None and not waiter.done():
                    waiter.set_result(event)
            else:
                if peer.proving is not None and peer.proving[0] == event.id:
                    peer.proving = None
                if waiter is not None:
                    waiter.cancel()
            self._end_mtu_probe(peer, event, now)

    def handle_removed(self, peer: Peer) -> None:
        """A peer was forgotten: whoever waits for its answers is told."""
        for waiter in self._waiters.pop(peer, {}).values():
            waiter.cancel()

    # Path MTU.

    def handle_way_changed(self, peer: Peer, now: int) -> None:
        """Other routes or links lead to the endpoint of a peer: what is known of them is looked for anew."""
        endpoint = peer.path.endpoint
        if not isinstance(endpoint, Endpoint):
            return
        if self._leads_inward(endpoint):
            self._leave_inward(peer)
            return
        # Our address there may be gone, or not be the one for that way.
        self.readdress(peer, Endpoint.heard(endpoint.socket, endpoint.address, endpoint.arrival))
        host, port = endpoint.multiaddr.endpoint()
        peer.path.mtu = PathMtu(link_mtu(host, port, endpoint.socket.mark))
        peer.mtu_probe = None
        peer.refresh()
        self._search_mtu(peer, now)
        self._attendant.attend(peer)

    def handle_socket_changed(self, peer: Peer, socket: UdpSocket, now: int) -> None:
        """Another socket of ours leads to where a peer is, which is trusted as far as before.

        Who is to prove it may still hear at once where this node is now: what may go there is not forgotten.
        """
        endpoint = peer.path.endpoint
        assert isinstance(endpoint, Endpoint)
        # Our address there may not be the other socket's, so it is left to the system.
        peer.path.endpoint = Endpoint(socket, endpoint.address)
        peer.proving = None
        self.handle_way_changed(peer, now)

    def leave(self, peer: Peer) -> None:
        """Nothing may go to the endpoint of a peer any more."""
        peer.path.endpoint = None
        peer.path.is_proven = False
        peer.mtu_probe = peer.proving = None
        peer.refresh()

    def _leave_inward(self, peer: Peer) -> None:
        """The endpoint of a peer is behind the tunnel itself: what is sent there would be sealed again and again."""
        self._drops["endpoint behind the tunnel itself"] += 1
        if peer.path.endpoint is not None:
            log.error("the route to %s leads into the tunnel itself; nothing is sent there", peer.path.endpoint)
        self.leave(peer)

    def look_at_links(self, peers: Iterable[Peer]) -> None:
        """Ask the kernel anew how much fits a datagram to each stock device in use; for the engine, once a second.

        Such a device answers no probes, but routers tell the kernel when a link on the way is too small.
        """
        for peer in peers:
            endpoint = peer.path.endpoint
            if not peer.is_weft and peer.in_use and isinstance(endpoint, Endpoint):
                peer.in_use = False
                peer.path.mtu = PathMtu(link_mtu(*endpoint.multiaddr.endpoint(), endpoint.socket.mark))

    @staticmethod
    def _search_mtu(peer: Peer, now: int) -> None:
        """Probe the path of a peer that answers probes, once something may be sent there."""
        if peer.is_known and peer.path.is_proven:
            peer.path.mtu.start(now)

    @staticmethod
    def _probe_mtu(peer: Peer, prober: Prober, now: int) -> None:
        path = peer.path
        due_at = path.mtu.next_timer()
        if due_at is None or now < due_at:
            return
        size = path.mtu.probe_due(now, in_use=peer.in_use)
        peer.in_use = False
        if size is not None:
            multigram = size - IP_UDP_BYTES[path.is_ipv6] - DATA_OVERHEAD_BYTES
            peer.mtu_probe = (prober.ping(now, multigram), size)

    @staticmethod
    def _end_mtu_probe(peer: Peer, event: Answered | Lost, now: int) -> None:
        if peer.mtu_probe is None or peer.mtu_probe[0] != event.id:
            return
        size = peer.mtu_probe[1]
        peer.mtu_probe = None
        if isinstance(event, Answered):
            peer.path.mtu.handle_answered(size, now)
        else:
            peer.path.mtu.handle_lost(size, now)


def _answered(endpoint: Endpoint) -> Endpoint:
    """An endpoint with the address that it is answered from: the one that it sent to, unless routes lead another way.

    Then that address is of no use: the network behind the other interface may not even let it out.
    """
    if endpoint.local:
        host, _ = endpoint.multiaddr.endpoint()
        route = route_to(host, endpoint.socket.mark, local_address(endpoint.arrival))
        if route is None or route.ifindex != arrival_interface(endpoint.arrival):
            answered = Endpoint(endpoint.socket, endpoint.address)
            answered.arrival = endpoint.arrival
            return answered
    return endpoint
