"""The node: what a program or the daemon starts, asks and stops.

    Engine      owns directory, sockets, interface, firewall; lives as long as its user wants
      Session   peers and their machines; thrown away and built anew when a task can't be helped
        Stage   the tasks, each started again by itself when it dies

Source: seed 001, "Layers (like an onion)".
Not done here: the HTTP API (api/), which calls the methods of this class.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from functools import partial
from ipaddress import IPv6Address, ip_network
from pathlib import Path

from weft import __version__
from weft.engine import dial
from weft.engine.config import Config, load_network_psk
from weft.engine.contacts import Terms
from weft.engine.interface import INTERFACE_MTU, OverlayInterface
from weft.engine.peer import Endpoint, Peer
from weft.engine.report import describe
from weft.engine.session import Session
from weft.engine.stage import Stage
from weft.engine.status import Info, Interface, Listener, PeerList, PeerStatus, Pong, Ports, Status, TaskStatus
from weft.errors import ConfigError, DecodeError, PeerError, TransportError, UsageError
from weft.firewall.firewall import Firewall
from weft.firewall.rules import Rule, decode_rule, encode_rule
from weft.identity import decode_wireguard_key, encode_wireguard_key
from weft.io.clock import monotonic_ns, random_bytes
from weft.io.netlink import local_addresses
from weft.io.store import State, Store
from weft.io.udp import UdpSocket
from weft.mesh.probe import MIN_PING_BYTES
from weft.multiaddr import Multiaddr, decode_multiaddr
from weft.noise.primitives import KEY_BYTES, StaticKey

log = logging.getLogger("weft.engine")

SAVE_DELAY_S = 1.0
HOUSEKEEPING_S = 1.0
SESSION_RETRY_S = 2.0
UNSPECIFIED = {"0.0.0.0", "::"}


class Engine:
    """One node.

    Args:
        directory: key and state; made by `weft init`.
        config: of `weft.toml`.
        tuning: for measurements and tests, from the environment.
    """

    def __init__(self, directory: Path, config: Config) -> None:
        self._directory = directory
        self._config = config
        self._store = Store(directory)
        self._lock = self._store.lock()
        try:
            self._identity = self._store.load_key()
            self._state = self._store.load_state()
            psk = load_network_psk(config, directory)
            rules = [decode_rule(text) for text in self._state.allow]
        except BaseException:
            self._lock.close()
            raise
        self._terms = Terms(
            identity=self._identity,
            static=StaticKey(self._identity.noise_private),
            boot=random_bytes(8),
            network_psk=psk or bytes(KEY_BYTES),
            keepalive_ns=config.peer.keepalive_s * 1_000_000_000,
            mtu=INTERFACE_MTU,
            accepts_unknown=config.peer.accept == "any",
            fixed_pieces=_fixed_pieces(),
            random_bytes=random_bytes,
        )
        self._firewall = Firewall(rules, refuse=config.fc00.refuse)
        self._drops: Counter[str] = Counter()
        self._sockets: list[UdpSocket] = []
        self._interface: OverlayInterface | None = None
        self._session: Session | None = None
        self._stage: Stage | None = None
        self._session_restarts = 0
        self._changed = asyncio.Event()
        self._saving = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._addresses: list[str] = []

    # Lifetime.

    async def start(self) -> None:
        """Open the sockets, build the session, call all stored peers.

        Raises:
            TransportError: no listener could be opened; names the first.
        """
        offload = _allowed_offloads()
        failures: list[TransportError] = []
        for address in self._config.peer.listen_multiaddrs:
            host, port = address.endpoint()
            try:
                self._sockets.append(
                    UdpSocket(host, port, gso="gso" in offload, gro="gro" in offload, sendmsg="sendmsg" in offload)
                )
            except TransportError as error:
                failures.append(error)
                log.error("%s", error)
        if failures and (len(self._sockets) == 0 or any("in use" in str(error) for error in failures)):
            self._close_sockets()
            self._lock.close()
            raise failures[0]
        self._addresses = await local_addresses()
        self._build_session()
        self._keeper = asyncio.get_running_loop().create_task(self._keep_session(), name="weft session")

    async def stop(self) -> None:
        """Close everything; the state is saved."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        await self._save_if_possible()
        await self._drop_session()
        if self._interface is not None:
            await self._interface.close()
            self._interface = None
        self._close_sockets()
        self._lock.close()

    async def wait_stopped(self) -> None:
        """Return when the node was asked to end."""
        await self._stopping.wait()

    def request_stop(self) -> None:
        """Ask the node to end; returns at once."""
        self._stopping.set()

    def _close_sockets(self) -> None:
        for socket in self._sockets:
            socket.close()
        self._sockets.clear()

    # Session and stage.

    def _build_session(self) -> None:
        floor = bytes.fromhex(self._state.timestamp_floor)
        session = Session(self._terms, self._firewall, self._drops, floor, self._changed.set)
        stage = Stage()
        self._session, self._stage = session, stage
        stage.start("peers", session.run)
        for socket in self._sockets:
            host, port = socket.address
            stage.start(f"udp {host} {port}", partial(self._read_socket, socket, session))
        stage.start("store", self._keep_stored)
        stage.start("housekeeping", lambda: self._keep_house(session))
        if self._interface is not None:
            self._attach(self._interface)
        self._restore_peers(session)

    def _restore_peers(self, session: Session) -> None:
        """Take the stored peers, and call those whose endpoint is known."""
        for stored in self._state.peers:
            key = stored.noise_public_key
            try:
                if stored.kind == "weft":
                    peer = session.contacts.add_weft(key, stored.peer_id, is_wanted=not stored.stranger)
                    peer.name = stored.name
                else:
                    peer = session.contacts.add_wireguard(
                        key,
                        stored.name,
                        tuple(ip_network(prefix) for prefix in stored.allowed_ips),
                        decode_wireguard_key(stored.psk) if stored.psk else bytes(KEY_BYTES),
                        stored.keepalive_s * 1_000_000_000,
                    )
            except UsageError as error:
                log.warning("a stored peer is left out: %s", error)
                continue
            if stored.endpoints:
                peer.known_endpoint = stored.endpoints[0]
                endpoint = self._endpoint_of(decode_multiaddr(stored.endpoints[0]))
                if endpoint is not None:
                    session.call(peer, endpoint)

    async def _keep_session(self) -> None:
        """Build the session anew whenever its stage is beyond help."""
        while True:
            assert self._stage is not None
            name = await asyncio.shield(self._stage.failed)
            log.error("task %s keeps dying; building the session anew", name)
            await self._save_if_possible()
            await self._drop_session()
            self._session_restarts += 1
            await asyncio.sleep(SESSION_RETRY_S)
            self._build_session()

    async def _drop_session(self) -> None:
        if self._stage is not None:
            await self._stage.close()
        if self._session is not None:
            self._session.close()
        self._session = self._stage = None

    @property
    def _running(self) -> Session:
        if self._session is None:
            raise UsageError("the node is just being built anew; try again in a moment")
        return self._session

    # Tasks.

    async def _read_socket(self, socket: UdpSocket, session: Session) -> None:
        loop = asyncio.get_running_loop()
        died: asyncio.Future[None] = loop.create_future()

        def read() -> None:
            try:
                session.inbound.drain(socket)
            except Exception as error:
                _fail(died, error)

        def write() -> None:
            try:
                if socket.flush():
                    loop.remove_writer(socket)
            except OSError as error:
                _fail(died, error)

        socket.when_blocked = lambda: loop.add_writer(socket, write)
        loop.add_reader(socket, read)
        try:
            await died
        finally:
            socket.when_blocked = None
            loop.remove_reader(socket)
            loop.remove_writer(socket)

    async def _read_tun(self, interface: OverlayInterface, session: Session) -> None:
        loop = asyncio.get_running_loop()
        died: asyncio.Future[None] = loop.create_future()

        def read() -> None:
            try:
                session.outbound.drain(interface.tun)
            except Exception as error:
                _fail(died, error)

        session.inbound.tun = interface.tun
        loop.add_reader(interface.tun, read)
        try:
            await died
        finally:
            loop.remove_reader(interface.tun)

    async def _keep_stored(self) -> None:
        """Write the state soon after it changed."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(SAVE_DELAY_S)
            self._changed.clear()
            await self._save_if_possible()

    async def _keep_house(self, session: Session) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self._firewall.expire(monotonic_ns())
            if session.contacts.last_timestamp_sent.hex() > self._state.timestamp_floor:
                self._changed.set()

    async def _save(self) -> None:
        """Write what is to be remembered; returns when a power cut can't take it any more.

        Raises:
            ConfigError: the disk is full, say; the old state is still there.
        """
        async with self._saving:
            session = self._session
            floor = self._state.timestamp_floor
            self._state = State(
                peers=session.contacts.stored() if session is not None else self._state.peers,
                allow=[encode_rule(rule) for rule in self._firewall.rules()],
                timestamp_floor=max(floor, session.contacts.last_timestamp_sent.hex())
                if session is not None
                else floor,
            )
            await asyncio.to_thread(self._store.save_state, self._state)

    async def _save_if_possible(self) -> None:
        try:
            await self._save()
        except ConfigError as error:
            log.error("%s", error)

    # What the API asks.

    def info(self) -> Info:
        """Who this node is and where it can be reached."""
        return Info(
            id=str(self._identity.peer_id),
            address=str(IPv6Address(self._identity.address)),
            wireguard_public_key=encode_wireguard_key(self._identity.noise_public),
            multiaddrs=self._multiaddrs(),
            version=__version__,
            dir=str(self._directory),
            pid=os.getpid(),
        )

    def status(self) -> Status:
        """Everything at one glance."""
        listeners = [
            Listener(multiaddr=str(Multiaddr.from_endpoint(*socket.address)), offloads=socket.offloads)
            for socket in self._sockets
        ]
        return Status(
            info=self.info(),
            listeners=listeners,
            interface=self.fc00_status(),
            peers=self.peers().peers,
            tasks=self.tasks(),
            session_restarts=self._session_restarts,
            drops=self._all_drops(),
        )

    def peers(self) -> PeerList:
        """All peers."""
        now = monotonic_ns()
        return PeerList(peers=[describe(peer, now) for peer in self._running.contacts])

    async def connect(self, multiaddr: str, timeout_s: float = 10.0) -> PeerStatus:
        """Call a weft node and return when its tunnel is up.

        Raises:
            UsageError: the multiaddr is not one that can be dialled.
            TimeoutError: no answer; the message says what may be the reason.
            PeerError: it was removed meanwhile.
        """
        session = self._running
        address, peer_id = dial.decode_target(multiaddr)
        address = await dial.resolve(address, [socket.is_ipv6 for socket in self._sockets])
        dial.check_underlay(address)
        endpoint = self._endpoint_of(address)
        if endpoint is None:
            raise UsageError(f"no listener of this node can reach {address}; see [peer] listen in weft.toml")
        is_new = session.contacts.by_key(peer_id.noise_public_key) is None
        peer = session.contacts.add_weft(peer_id.noise_public_key, peer_id, is_wanted=True)
        if not (peer.path.endpoint == endpoint and peer.path.is_proven and peer.tunnel.is_up(monotonic_ns())):
            try:
                await self._call(session, peer, endpoint, timeout_s)
            except (TimeoutError, PeerError):
                if is_new and peer.tunnel in session.contacts.by_tunnel:
                    session.remove(peer)
                raise
        await self._save()
        return describe(peer, monotonic_ns())

    async def _call(self, session: Session, peer: Peer, endpoint: Endpoint, timeout_s: float) -> None:
        waiter = session.wait_until_up(peer)
        session.call(peer, endpoint)
        await asyncio.wait({waiter}, timeout=timeout_s)
        if waiter.cancelled():
            raise PeerError("the peer was disconnected meanwhile, or is not who it claims to be")
        if not waiter.done():
            waiter.cancel()
            raise TimeoutError(
                f"no answer from {endpoint} within {timeout_s:g} s: nobody listens there, a firewall is between, "
                "or it does not accept this node (its peer id and network secret must be right)"
            )

    async def disconnect(self, peer: str) -> None:
        """Forget a peer.

        Raises:
            UsageError: there is none of that name.
        """
        session = self._running
        session.remove(session.contacts.find(peer))
        await self._save()
        await self._set_routes()

    async def add_wireguard(
        self,
        public_key: str,
        *,
        name: str,
        allowed_ips: list[str],
        endpoint: str | None,
        preshared_key: str | None,
        keepalive_s: float | None = None,
    ) -> PeerStatus:
        """Take a stock WireGuard device as a peer, and route its addresses to it.

        Raises:
            UsageError: a key, a prefix or the endpoint is wrong, or belongs to another peer.
        """
        session = self._running
        try:
            key = decode_wireguard_key(public_key)
            psk = decode_wireguard_key(preshared_key) if preshared_key else bytes(KEY_BYTES)
            allowed = tuple(ip_network(prefix, strict=False) for prefix in allowed_ips)
        except (DecodeError, ValueError) as error:
            raise UsageError(str(error)) from error
        if not allowed:
            raise UsageError("a WireGuard device needs at least one allowed address")
        target = None
        if endpoint is not None:
            underlay = dial.decode_endpoint(endpoint)
            dial.check_underlay(underlay)
            target = self._endpoint_of(underlay)
            if target is None:
                raise UsageError(f"no listener of this node can reach {endpoint}")
        peer = session.contacts.add_wireguard(key, name, allowed, psk, round((keepalive_s or 0) * 1_000_000_000))
        try:
            await self._set_routes()
        except UsageError:
            session.remove(peer)
            raise
        if target is not None:
            session.call(peer, target)
        await self._save()
        return describe(peer, monotonic_ns())

    async def ping(self, peer: str, *, timeout_s: float = 5.0, size: int | None = None) -> Pong:
        """Send one probe to a peer and wait for its answer.

        Raises:
            UsageError: no such peer, or a stock device, which has no probes.
            TimeoutError: no answer.
        """
        session = self._running
        found = session.contacts.find(peer)
        if not found.is_weft:
            raise UsageError(f"{peer} is a WireGuard device; ping its address instead")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        if not found.tunnel.is_up(monotonic_ns()):
            up = session.wait_until_up(found)
            session.call(found, None)
            await asyncio.wait({up}, timeout=timeout_s)
            if not up.done() or up.cancelled():
                up.cancel()
                raise TimeoutError(f"no session with {peer} within {timeout_s:g} s")
        pong = session.ping(found, size or MIN_PING_BYTES)
        await asyncio.wait({pong}, timeout=max(0.0, deadline - loop.time()))
        if not pong.done() or pong.cancelled():
            pong.cancel()
            raise TimeoutError(f"no answer from {peer} within {timeout_s:g} s")
        answer = pong.result()
        return Pong(
            peer=peer,
            address=str(IPv6Address(found.address)),
            path="direct",
            endpoint=str(found.path.endpoint),
            rtt_ms=answer.rtt_ns / 1e6,
            size=answer.size,
        )

    async def fc00_start(self, ifname: str | None = None) -> Interface:
        """Make the fc00::/8 interface, and return when packets can use it.

        Raises:
            PermissionError: needs root or CAP_NET_ADMIN.
            UsageError: it is up under another name, or another interface owns fc00::/8.
        """
        name = ifname or self._config.fc00.ifname
        if self._interface is not None:
            if ifname is not None and self._interface.tun.name != ifname:
                raise UsageError(f"the interface is up already, as {self._interface.tun.name}; `weft fc00 stop` first")
            return self._interface.status()
        offloads = "tun" in _allowed_offloads()
        self._interface = await OverlayInterface.open(name, self._identity.address, offloads=offloads)
        self._attach(self._interface)
        await self._set_routes()
        return self._interface.status()

    async def fc00_stop(self) -> None:
        """Remove the interface."""
        interface, self._interface = self._interface, None
        if interface is None:
            return
        if self._stage is not None:
            await self._stage.stop("tun")
        if self._session is not None:
            self._session.inbound.tun = None
        await interface.close()

    def fc00_status(self) -> Interface:
        """The interface as it is."""
        return self._interface.status() if self._interface is not None else Interface(up=False)

    async def fc00_allow(self, rules: list[str]) -> Ports:
        """Let these in from the overlay.

        Raises:
            UsageError: one of them is not a rule; none is added then.
        """
        for rule in _decode_rules(rules):
            self._firewall.allow(rule)
        await self._save()
        return self.fc00_ports()

    async def fc00_deny(self, rules: list[str]) -> Ports:
        """Take rules back.

        Raises:
            UsageError: one of them is not a rule that is allowed; none is taken back then.
        """
        decoded = _decode_rules(rules)
        missing = [encode_rule(rule) for rule in decoded if rule not in self._firewall.rules()]
        if missing:
            raise UsageError(f"{', '.join(missing)}: not allowed anyway; `weft fc00 ports` shows what is")
        for rule in decoded:
            self._firewall.deny(rule)
        await self._save()
        return self.fc00_ports()

    def fc00_ports(self) -> Ports:
        """What the firewall lets in."""
        return Ports(allow=[encode_rule(rule) for rule in self._firewall.rules()], refuse=self._config.fc00.refuse)

    def tasks(self) -> list[TaskStatus]:
        """The tasks of the node."""
        return self._stage.tasks() if self._stage is not None else []

    async def restart_task(self, name: str) -> TaskStatus:
        """Stop one task and let it start anew.

        Raises:
            UsageError: there is none of that name.
        """
        if self._stage is None:
            raise UsageError("the node is just being built anew; try again in a moment")
        return self._stage.kill(name)

    # Parts of the above.

    def _attach(self, interface: OverlayInterface) -> None:
        """Join the interface to the session."""
        assert self._session is not None
        assert self._stage is not None
        session = self._session
        session.inbound.tun = interface.tun
        session.say_hello(frozenset({"uso"} if interface.tun.takes_udp else ()))
        self._stage.start("tun", lambda: self._read_tun(interface, session))

    async def _set_routes(self) -> None:
        if self._interface is not None:
            peers = self._running.contacts
            await self._interface.set_routes(
                {network for peer in peers if not peer.is_weft for network in peer.allowed}
            )

    def _endpoint_of(self, address: Multiaddr) -> Endpoint | None:
        """The socket that reaches an address, and the address as that socket takes it."""
        host, port = address.endpoint()
        for socket in self._sockets:
            if socket.is_ipv6 == (":" in host):
                return Endpoint(socket, socket.address_of(host, port))
        return None

    def _multiaddrs(self) -> list[str]:
        found = []
        for socket in self._sockets:
            host, port = socket.address
            hosts = [a for a in self._addresses if (":" in a) == socket.is_ipv6] if host in UNSPECIFIED else [host]
            found += [str(Multiaddr.from_endpoint(each, port, self._identity.peer_id)) for each in hosts]
        return found

    def _all_drops(self) -> dict[str, int]:
        total = Counter(self._drops)
        sources = [self._firewall.drops, *(socket.drops for socket in self._sockets)]
        if self._session is not None:
            sources.append(self._session.gate.drops)
            sources += [peer.tunnel.drops for peer in self._session.contacts]
        if self._interface is not None:
            sources.append(self._interface.tun.drops)
        for source in sources:
            total.update(source)
        return dict(sorted(total.items()))


def _fail(died: asyncio.Future[None], error: Exception) -> None:
    if not died.done():
        died.set_exception(error)


def _decode_rules(texts: list[str]) -> list[Rule]:
    try:
        return [decode_rule(text) for text in texts]
    except DecodeError as error:
        raise UsageError(str(error)) from error


def _fixed_pieces() -> int | None:
    """WEFT_BURST_PIECES fixes the burst size for measurements: 0 is type 4 messages only."""
    text = os.environ.get("WEFT_BURST_PIECES", "")
    return int(text) if text.isdigit() else None


def _allowed_offloads() -> set[str]:
    """WEFT_WITHOUT lists what is not to be used although the system has it: any of gso, gro, sendmsg, tun."""
    without = set(os.environ.get("WEFT_WITHOUT", "").replace(",", " ").split())
    return {"gso", "gro", "sendmsg", "tun"} - without
