"""The life of a node: what it owns, what runs, and what is built anew when it fails.

    Lifetime    directory, sockets, interface, firewall: as long as the node's user wants
      Session   peers and their machines; thrown away and built anew when a task can't be helped
        Stage   the tasks, each started again by itself when it dies

Source: seed 001, "Layers (like an onion)".
Not done here: what people and programs ask of a running node (verbs/).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from weft.engine import dial
from weft.engine.capture import Captures
from weft.engine.config import Config
from weft.engine.environment import allowed_offloads, fixed_pieces
from weft.engine.events import Events
from weft.engine.given import GivenInterface
from weft.engine.interface import INTERFACE_MTU, OverlayInterface
from weft.engine.making import Terms
from weft.engine.memory import FLOOR_AHEAD_S, Memory
from weft.engine.passed import Passed
from weft.engine.peer import Network
from weft.engine.readers import read_socket
from weft.engine.session import Session
from weft.engine.stage import Stage
from weft.engine.underlay import Underlay
from weft.engine.world import World
from weft.errors import TransportError, UsageError, WeftError
from weft.firewall.firewall import Firewall
from weft.firewall.rules import encode_rule
from weft.io.addresses import local_addresses
from weft.io.clock import monotonic_ns, random_bytes, wall_ns
from weft.io.ephemeral import Ephemeral
from weft.io.store import State
from weft.io.tun import Tun
from weft.io.udp import UdpSocket
from weft.noise.primitives import StaticKey
from weft.noise.tai64n import later_timestamp

if TYPE_CHECKING:
    from weft.engine.host_interface import HostInterface

    AnyInterface = OverlayInterface | HostInterface

log = logging.getLogger("weft.engine")

HOUSEKEEPING_S = 1.0
ROUTES_AT_ONCE = 32
"""Routes that are changed before anything else gets its turn, at 0.2 ms each."""
ROUTES_PAUSE_S = 0.05
"""After them, so that strangers who come and go in a flood cost an eighth of the time at most."""
SESSION_RETRY_S = 2.0
REBUILD_NS = 20_000_000_000
"""How long a node may be without a session before it counts as dead."""


class Lifetime:
    """What a node owns, from its start to its end.

    Attributes:
        config: what `weft.toml` said when it was read last.
        directory: of the node; None if it keeps nothing.
        memory: what is remembered in it.
        identity: of the node.
        terms: what its peers are made with.
        firewall: of the node; outlives sessions, so that connections do.
        drops: what was dropped, by reason.
        events: what happens, for whoever listens.
        captures: the packets, for whoever listens.
        underlay: the listeners.
        dialler: calls the peers that are not up.
        interface: None while it is down.
        opening: held while the interface is made, changed or removed.
        session: None while it is built anew.
        stage: the tasks; None while the session is built anew.
        session_restarts: how often it was.
    """

    def __init__(self, home: Path | Ephemeral, config: Config, passed: Passed | None = None) -> None:
        """Take the directory and read it.

        Args:
            home: the directory of the node, or what stands for it if the node keeps nothing.
            config: of `weft.toml`.
            passed: descriptors that the process was given.

        Raises:
            ConfigError: another daemon has it, or a file in it is wrong.
        """
        self.config = config
        self.memory = Memory(home, self._collect)
        self.directory = self.memory.directory
        self.identity = self.memory.identity
        try:
            psk = self.memory.network_psk(config)
            rules = self.memory.rules()
        except BaseException:
            self.memory.close()
            raise
        self.terms = Terms(
            identity=self.identity,
            static=StaticKey(self.identity.noise_private),
            network_psk=psk,
            keepalive_ns=config.peer.keepalive_s * 1_000_000_000,
            mtu=INTERFACE_MTU,
            accepts_unknown=config.peer.accept == "any",
            fixed_pieces=fixed_pieces(),
            random_bytes=random_bytes,
            clock=monotonic_ns,
            wall_clock=wall_ns,
        )
        self.firewall = Firewall(rules, refuse=config.fc00.refuse)
        self.drops: Counter[str] = Counter()
        self.events = Events()
        self.captures = Captures()
        self._passed = passed or Passed()
        self.underlay = Underlay(self._network_around, self._passed.udp)
        self.interface: AnyInterface | None = None
        self.session: Session | None = None
        self.dialler = dial.Dialler(self.underlay.find_all, self.terms.clock, self.underlay.has_route)
        self.stage: Stage | None = None
        self.session_restarts = 0
        self._lost_at = 0
        self.opening = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the sockets, build the session, call all stored peers.

        Raises:
            TransportError: no listener could be opened; names the first.
            PermissionError: packets are to be marked, which needs root or CAP_NET_ADMIN.
            UsageError: the TUN that was passed is not fit.
        """
        try:
            self.underlay.open(self.config.listeners, self.config.peer.fwmark)
        except BaseException:
            self.memory.close()
            raise
        self.underlay.addresses = await local_addresses()
        self._build_session()
        self._keeper = asyncio.get_running_loop().create_task(self._keep_session(), name="weft session")
        tun = self._passed.take_tun()
        if tun is not None:
            try:
                await self.open_interface(self.config.fc00.ifname, lambda: Tun.adopt(tun))
            except BaseException:
                await self.stop()
                raise

    async def stop(self) -> None:
        """Close everything; the state is saved."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        await self.memory.save_if_possible()
        # What programs have closed can only arrive while there is a session.
        await self.close_interface()
        await self._drop_session()
        self.underlay.close()
        self.memory.close()

    def _build_session(self) -> None:
        session = Session(
            self.terms,
            self.firewall,
            self.drops,
            self.memory.timestamp_floor,
            self.memory.handle_change,
            self.dialler.handle_unanswered,
            self.events,
            self.captures,
            self.underlay.leads_inward,
        )
        stage = Stage(self.events)
        self.session, self.stage = session, stage
        stage.start("peers", session.run)
        stage.start("dial", partial(self.dialler.run, session))
        for socket in self.underlay.sockets:
            self.listen(socket)
        stage.start("store", self.memory.keep)
        stage.start("housekeeping", lambda: self._keep_house(session))
        world = World(session, self.dialler, self.underlay, self.events, self._open_listeners, self.terms.clock)
        stage.start("network", world.watch_network)
        stage.start("clocks", world.watch_clocks)
        stage.start("resolver", world.watch_resolver)
        stage.start("addresses", world.watch_addresses)
        if self.interface is not None:
            self._attach(self.interface)
        self._restore_peers(session)

    def listen(self, socket: UdpSocket) -> None:
        """Read a socket of the underlay."""
        assert self.stage is not None
        assert self.session is not None
        name = _reader_of(socket)
        # A session that was built meanwhile reads it already.
        if name not in self.stage:
            self.stage.start(name, partial(read_socket, socket, self.session))

    async def ignore(self, socket: UdpSocket) -> None:
        """Read a socket of the underlay no longer."""
        if self.stage is not None:
            await self.stage.stop(_reader_of(socket))

    def _restore_peers(self, session: Session) -> None:
        """Take the stored peers; the task `dial` calls them."""
        for stored in self.memory.state.peers:
            if stored.standing == "stranger" and not self.terms.accepts_unknown:
                continue
            try:
                session.contacts.put(stored.noise_public_key, stored)
            except UsageError as error:
                log.warning("a stored peer is left out: %s", error)

    @property
    def is_healthy(self) -> bool:
        """Whether there is a session, or has been one until a moment ago."""
        is_kept = self._keeper is not None and not self._keeper.done()
        return is_kept and (self.session is not None or monotonic_ns() - self._lost_at < REBUILD_NS)

    async def _keep_session(self) -> None:
        """Build the session anew whenever its stage is beyond help."""
        while True:
            assert self.stage is not None
            name = await asyncio.shield(self.stage.failed)
            log.error("task %s keeps dying; building the session anew", name)
            await self.memory.save_if_possible()
            self._lost_at = monotonic_ns()
            self.session_restarts += 1
            await self._rebuild_session()

    async def _rebuild_session(self) -> None:
        while True:
            await self._drop_session()
            await asyncio.sleep(SESSION_RETRY_S)
            try:
                self._build_session()
            except Exception:
                log.exception("the session could not be built; trying again")
            else:
                self.events.publish("session-rebuilt", "a task could not be helped; all sessions begin anew")
                return

    async def _drop_session(self) -> None:
        # What is being changed is saved with the peers of this session, or undone among them.
        async with self.memory.changing:
            if self.stage is not None:
                await self.stage.close()
            if self.session is not None:
                self.session.close()
            self.session = self.stage = None

    @property
    def running(self) -> Session:
        """The session.

        Raises:
            UsageError: it is just being built anew.
        """
        if self.session is None:
            raise UsageError("the node is just being built anew; try again in a moment")
        return self.session

    def total_drops(self) -> Counter[str]:
        """What was dropped anywhere, by reason."""
        total = Counter(self.drops)
        sources = [self.firewall.drops, *(socket.drops for socket in self.underlay.sockets)]
        if self.session is not None:
            sources.append(self.session.gate.drops)
            sources += [peer.tunnel.drops for peer in self.session.contacts if peer.tunnel.drops]
        if self.interface is not None:
            sources.append(self.interface.device.drops)
        for source in sources:
            total.update(source)
        return total

    async def _keep_house(self, session: Session) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self.firewall.expire(monotonic_ns())
            session.proving.look_at_links(session.contacts)
            if session.contacts.last_timestamp_sent > self.memory.timestamp_floor:
                self.memory.handle_change()

    def _open_listeners(self) -> None:
        """Open the listeners whose addresses this machine has got since it started."""
        here = {address for address in self.config.listeners if address.endpoint()[0] in self.underlay.addresses}
        if not here - self.underlay.listening:
            return
        try:
            prepared = self.underlay.prepare(self.config.listeners, self.config.peer.fwmark)
        except (TransportError, PermissionError) as error:
            log.warning("%s", error)
            return
        self.underlay.take(prepared)
        for socket in prepared.opened:
            self.listen(socket)
            self.events.publish("listeners-changed", f"listening on {':'.join(map(str, socket.address))}")

    async def save(self) -> None:
        """Write what is to be remembered; see `Memory.save`."""
        await self.memory.save()

    def _collect(self, old: State) -> State:
        """What is to be remembered now."""
        session = self.session
        floor = self.memory.timestamp_floor
        if session is not None and session.contacts.last_timestamp_sent > floor:
            # Ahead of time, so that it need not be written at each handshake and a crash loses nothing.
            floor = later_timestamp(session.contacts.last_timestamp_sent, FLOOR_AHEAD_S)
        return State(
            peers=session.contacts.stored() if session is not None else old.peers,
            allow=[encode_rule(rule) for rule in self.firewall.rules()],
            timestamp_floor=floor.hex(),
        )

    async def open_interface(self, ifname: str | None, tun: Callable[[], Tun] | None = None) -> AnyInterface:
        """Make the fc00::/8 interface, if there is none yet, with the routes of the peers.

        Args:
            ifname: its name; None for a host inside this program, which needs none.
            tun: opens, in a thread, an interface that somebody else has made, which is then used as it is.

        Raises:
            PermissionError: needs root or CAP_NET_ADMIN.
            UsageError: another interface owns fc00::/8 or a route that a peer needs.
        """
        async with self.opening:
            if self.interface is None:
                interface = await self._make_interface(ifname, tun)
                try:
                    await interface.set_overlay_routes(self.config.fc00.routes)
                    await interface.set_routes(self.running.contacts.networks())
                    await interface.set_addresses(self.config.fc00.interface_addresses)
                    self._attach(interface)
                except BaseException:
                    await interface.close()
                    raise
                self.interface = interface
                self.events.publish("interface-up", f"{interface.device.name} is up")
            return self.interface

    async def _make_interface(self, ifname: str | None, tun: Callable[[], Tun] | None) -> AnyInterface:
        address = self.identity.address
        if ifname is None:
            # Nodes with a TUN do without all of this.
            from weft.engine.host_interface import HostInterface

            return HostInterface(address, monotonic_ns, random_bytes)
        # Before it is there, for what the kernel tells of it is no change of the underlay.
        self.underlay.overlay = ifname
        if tun is not None:
            interface: OverlayInterface = await GivenInterface.use(await asyncio.to_thread(tun), address)
        else:
            interface = await OverlayInterface.open(ifname, address, offloads="tun" in allowed_offloads())
        self.underlay.overlay = interface.device.name
        return interface

    async def close_interface(self) -> None:
        """Remove the interface, if there is one."""
        async with self.opening:
            await self._close_interface()

    async def set_routes(self) -> None:
        """Route what peers have to the interface, before a person is told that they have it.

        Raises:
            UsageError: one of them has a route already.
        """
        if self.interface is not None:
            await self.interface.set_routes(self.running.contacts.networks())

    def _network_around(self, host: str) -> Network | None:
        address = ip_address(host.partition("%")[0])
        own = (each.network for each in self.config.fc00.interface_addresses if address in each.network)
        of_peers = self.session.contacts.network_around(address.packed) if self.session is not None else None
        return next(own, of_peers)

    async def _close_interface(self) -> None:
        interface, self.interface = self.interface, None
        if interface is None:
            return
        await interface.end()
        if self.stage is not None:
            await self.stage.stop(interface.kind)
            await self.stage.stop("routes")
        if self.session is not None:
            self.session.join(None, self.firewall)
        await interface.close()
        self.events.publish("interface-down", f"{interface.device.name} is down")

    def _attach(self, interface: AnyInterface) -> None:
        """Join the interface to the session."""
        session = self.running
        assert self.stage is not None
        session.join(interface.device, interface.firewall or self.firewall, interface.speaker)
        session.say_hello(frozenset({"uso"} if interface.device.takes_udp else ()))
        self.stage.start(interface.kind, partial(self._run_interface, interface, session))
        self.stage.start("routes", partial(self._keep_routes, interface, session))

    async def _keep_routes(self, interface: AnyInterface, session: Session) -> None:
        """Let routes follow the peers that come and go by themselves."""
        while True:
            session.networks_changed.clear()
            is_all = True
            try:
                is_all = await interface.set_routes(session.contacts.networks(), ROUTES_AT_ONCE)
            except WeftError as error:
                log.warning("%s", error)
            await asyncio.sleep(ROUTES_PAUSE_S)
            if is_all:
                await session.networks_changed.wait()

    async def _run_interface(self, interface: AnyInterface, session: Session) -> None:
        """Send what the interface gives; if somebody removed it, the node goes on without one."""
        try:
            await interface.run(session)
        except OSError as error:
            if interface.kind == "stack":
                raise
            log.error("%s is gone (%s); `weft fc00 start` makes it again", interface.device.name, error.strerror)
            # Not awaited here, for it ends this task.
            self._closing = asyncio.create_task(self.close_interface())
            await asyncio.get_running_loop().create_future()


def _reader_of(socket: UdpSocket) -> str:
    """The task that reads it."""
    host, port = socket.address
    return f"udp/{host}/{port}"
