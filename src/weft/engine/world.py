"""What changes around a node, and what is done then: so that a path that is gone costs a second, and not a minute.

| change                         | seen by                            | what is done                                   |
|--------------------------------|------------------------------------|------------------------------------------------|
| interface, address, route      | rtnetlink, also of rules; 20 ms    | peers whose way is another than before: with a |
|                                | after the first                    | session, asked for a sign, the path MTU looked |
|                                |                                    | for anew; without one, called. Listeners whose |
|                                |                                    | address is there again are opened              |
| a route into our own interface | the same                           | endpoints behind it are left, and counted      |
| the machine slept, or we hung  | two clocks that drift apart, or    | all timers are looked at; all peers are asked  |
|                                | one that leaps, each half second   | or called                                      |
| the resolver                   | /etc/resolv.conf, each second      | peers with a name: asked, or called            |

A peer that gives no sign is called as if it had no session (dial.py). Who is at the other end of a way that is as it
was is left in peace, so that a container that comes or goes on this machine is no event for all peers.

Rules of the file: what is told often is told together (io/changes.py), and each telling costs a peer one datagram.

Source: wire.md section 3 (roaming).
Not done here: finding peers (dial.py), proving endpoints (proving.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Hashable
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from weft.engine import dial
from weft.engine.dial import Dialler
from weft.engine.events import Events
from weft.engine.peer import Endpoint, Peer
from weft.engine.session import Session
from weft.engine.underlay import Underlay
from weft.io.addresses import local_addresses
from weft.io.changes import Change, watch_changes
from weft.io.clock import HAS_BOOT_CLOCK, monotonic_ns
from weft.io.routes import Route, route_to
from weft.io.udp import link_mtu
from weft.multiaddr import Multiaddr

log = logging.getLogger("weft.engine")

CLOCK_S: Final = 0.5
"""How often the clocks are looked at."""
LEAP_S: Final = 2.0
"""So much later than it should be, something stood still: the machine, or this process."""
RESOLVER_S: Final = 1.0
"""How often the file of the resolver is looked at."""
ADDRESSES_S: Final = 60.0
"""How often this machine's own addresses are looked up where nobody tells that they have changed."""
RESOLVER: Final = "/etc/resolv.conf"
AT_ONCE: Final = 64
"""Peers that are looked at before anything else gets its turn."""
_ANYWHERE: Final = ("192.0.2.1", "2001:db8::1")
"""Stand for wherever a name may lead (RFC 5737, RFC 3849)."""


class Way(NamedTuple):
    """How what is sent to one address leaves this machine."""

    route: Route | None
    mtu: int = 0
    """Of the link."""


class Ways(NamedTuple):
    """The ways to a peer when they were looked at last."""

    endpoint: Hashable | None
    """That it had then."""
    by_host: dict[str, Way]


class World:
    """Watches what changes around a node, for one session."""

    def __init__(
        self,
        session: Session,
        dialler: Dialler,
        underlay: Underlay,
        events: Events,
        open_missing: Callable[[], None],
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        """Begin without knowing anything.

        Args:
            session: whose peers are looked after.
            dialler: calls them.
            underlay: the listeners.
            events: what is told.
            open_missing: opens the listeners whose addresses this machine has got since.
            clock: monotonic ns, which goes on while the machine sleeps where that can be.
        """
        self._session = session
        self._dialler = dialler
        self._underlay = underlay
        self._events = events
        self._open_missing = open_missing
        self._clock = clock
        self._ways: dict[Peer, Ways] = {}

    # The network.

    async def watch_network(self) -> None:
        """Act on changes of interfaces, addresses, routes and rules, until cancelled."""
        self._note_new_ways()
        await watch_changes(self.handle_change, lambda ifname: ifname == self._underlay.overlay)

    async def handle_change(self, change: Change, *, is_resumed: bool = False) -> None:
        """Something has changed.

        Args:
            change: what.
            is_resumed: whether nobody has looked for a while, so that everybody is asked or called.
        """
        peers = list(self._session.contacts)
        self._ways = {peer: self._ways[peer] for peer in peers if peer in self._ways}
        for number, peer in enumerate(peers, 1):
            is_peer = peer.tunnel in self._session.contacts.by_tunnel
            # Of somebody who came or moved a moment ago nobody knows what the way was.
            is_unknown = peer.tunnel.is_up(self._clock()) and not self._has_noted(peer)
            if is_peer and (self._note_ways(peer) or is_unknown or is_resumed):
                self._session.proving.handle_way_changed(peer, self._clock())
                self._look_for(peer)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        if Change.UNDERLAY in change:
            await self.look_up_addresses()

    async def watch_addresses(self) -> None:
        """Look up the addresses of this machine now and then, for systems that don't tell; until cancelled."""
        while True:
            await self.look_up_addresses()
            await asyncio.sleep(ADDRESSES_S if self._underlay.addresses else RESOLVER_S)

    async def look_up_addresses(self) -> None:
        """Learn the addresses of this machine, and tell if they are others than before."""
        addresses = await local_addresses()
        if addresses != self._underlay.addresses:
            self._underlay.addresses = addresses
            self._events.publish("addresses-changed", f"this machine has {', '.join(addresses) or 'no address'}")
            self._open_missing()

    def _note_new_ways(self) -> None:
        """Note the ways to some of those who are new or elsewhere, to see later whether they have changed."""
        for peer in islice((peer for peer in self._session.contacts if not self._has_noted(peer)), AT_ONCE):
            self._note_ways(peer)

    def _has_noted(self, peer: Peer) -> bool:
        """Whether the ways to a peer were looked at since it is where it is."""
        return peer in self._ways and self._ways[peer].endpoint == peer.path.endpoint

    def _note_ways(self, peer: Peer) -> bool:
        """Note the ways to where a peer is and may be; whether any is another than before."""
        endpoint = peer.path.endpoint
        marks = {socket.is_ipv6: socket.mark for socket in self._underlay.sockets}
        hosts = dict.fromkeys(host for each in peer.endpoints.known for host in _hosts(each))
        ways = {host: Way(route_to(host, marks.get(":" in host, 0))) for host in hosts}
        if isinstance(endpoint, Endpoint):
            host, port = endpoint.multiaddr.endpoint()
            mtu = link_mtu(host, port, endpoint.socket.mark)
            ways[str(endpoint)] = Way(self._underlay.route_to(endpoint), mtu)
        before, self._ways[peer] = self._ways.get(peer), Ways(endpoint, ways)
        return before is not None and any(before.by_host.get(host, way) != way for host, way in ways.items())

    def _look_for(self, peer: Peer) -> None:
        """A peer may be reached by another way than before, or not be there any more."""
        if not peer.tunnel.is_up(self._clock()):
            self._dialler.call_again(peer)
            return
        endpoint = peer.path.endpoint
        has_route = isinstance(endpoint, Endpoint) and self._underlay.has_route(endpoint)
        if has_route:
            self._session.ask_for_sign(peer)
        if peer.is_known or not has_route:
            self._dialler.doubt(peer)

    # The clocks.

    async def watch_clocks(self) -> None:
        """Act when the machine has slept or this process has stood still, until cancelled."""
        awake_ns, boot_ns, wall_ns = time.monotonic_ns(), self._clock(), time.time_ns()
        while True:
            await asyncio.sleep(CLOCK_S)
            before = awake_ns, boot_ns, wall_ns
            awake_ns, boot_ns, wall_ns = time.monotonic_ns(), self._clock(), time.time_ns()
            self._note_new_ways()
            lost_s = lost_time_s(awake_ns - before[0], boot_ns - before[1], wall_ns - before[2])
            if lost_s is not None:
                await self.handle_resumed(lost_s)

    async def handle_resumed(self, lost_s: float) -> None:
        """Time has passed in which nothing could be done.

        Args:
            lost_s: how much.
        """
        log.info("%.1f s have passed in which this machine slept, or this process stood still", lost_s)
        self._events.publish("resumed", f"after {lost_s:.1f} s without running")
        self._session.handle_resumed()
        await self.handle_change(Change.UNDERLAY, is_resumed=True)

    # The resolver.

    async def watch_resolver(self) -> None:
        """Act when the configuration of the system's resolver has changed, until cancelled."""
        state = _state_of(Path(RESOLVER))
        while True:
            await asyncio.sleep(RESOLVER_S)
            before, state = state, _state_of(Path(RESOLVER))
            if state != before:
                self.handle_resolver_changed()

    def handle_resolver_changed(self) -> None:
        """Names may lead elsewhere now."""
        log.info("%s has changed: names are resolved anew", RESOLVER)
        for peer in self._session.contacts:
            if any(map(dial.is_name, peer.endpoints.known)):
                self._look_for(peer)


def lost_time_s(awake_ns: int, boot_ns: int, wall_ns: int, *, has_boot_clock: bool = HAS_BOOT_CLOCK) -> float | None:
    """How much of the time between two looks at the clocks nobody could use; None if all is as it should be.

    The clock that goes on in sleep tells how long the machine slept and how long this process stood still. Where there
    is none the wall clock stands in, which a person may also have set: then peers are asked for nothing.

    Args:
        awake_ns: by the clock that timers go by.
        boot_ns: by the clock that keys grow older by.
        wall_ns: by the clock on the wall.
        has_boot_clock: whether the second of them goes on in sleep.
    """
    passed_ns = max(awake_ns, boot_ns if has_boot_clock else wall_ns)
    lost_s = passed_ns / 1e9 - CLOCK_S
    return lost_s if lost_s >= LEAP_S else None


def _hosts(address: Multiaddr) -> tuple[str, ...]:
    """The addresses whose routes matter for an endpoint."""
    return _ANYWHERE if dial.is_name(address) else (address.endpoint()[0],)


def _state_of(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ino, found.st_size
