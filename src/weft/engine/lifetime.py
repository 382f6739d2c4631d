"""The life of a node: what it owns, what runs, and what is built anew when it fails.

    Lifetime    directory, sockets, interface, firewall: as long as the node's user wants
      Session   peers and their machines; thrown away and built anew when a task can't be helped
        Stage   the tasks, each started again by itself when it dies

Source: seed 001, "Layers (like an onion)".
Not done here: what people and programs ask of a running node (engine.py).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import Counter
from functools import partial
from ipaddress import ip_network
from itertools import count
from pathlib import Path

from weft.engine import dial
from weft.engine.config import Config, load_network_psk
from weft.engine.contacts import Terms
from weft.engine.endpoints import Endpoints
from weft.engine.interface import INTERFACE_MTU, OverlayInterface
from weft.engine.peer import Endpoint, Network
from weft.engine.readers import read_socket, read_tun
from weft.engine.session import Session
from weft.engine.stage import Stage
from weft.errors import ConfigError, DecodeError, TransportError, UsageError
from weft.firewall.firewall import Firewall
from weft.firewall.rules import decode_rule, encode_rule
from weft.identity import decode_wireguard_key
from weft.io.clock import monotonic_ns, random_bytes, wall_ns
from weft.io.netlink import local_addresses, watch_addresses
from weft.io.store import State, Store
from weft.io.udp import UdpSocket
from weft.multiaddr import Multiaddr, decode_multiaddr
from weft.noise.primitives import KEY_BYTES, StaticKey
from weft.noise.tai64n import later_timestamp

log = logging.getLogger("weft.engine")

_FAMILY_MISSING = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""A machine without IPv6 is no reason not to start."""

SAVE_DELAY_S = 0.1
HOUSEKEEPING_S = 1.0
SESSION_RETRY_S = 2.0
FLOOR_AHEAD_S = 60
"""How far the stored timestamp is ahead of the last one that was sent."""
ADDRESSES_S = 60
"""How often this machine's own addresses are looked up."""


class Lifetime:
    """What a node owns, from its start to its end.

    Attributes:
        identity: of the node.
        firewall: of the node; outlives sessions, so that connections do.
        drops: what was dropped, by reason.
        dialler: calls the peers that are not up.
        sockets: listeners of the underlay.
        addresses: of this machine, worth telling others.
        interface: None while it is down.
        stage: the tasks; None while the session is built anew.
        session_restarts: how often it was.
    """

    def __init__(self, directory: Path, config: Config) -> None:
        """Take the directory and read it.

        Raises:
            ConfigError: another daemon has it, or a file in it is wrong.
        """
        self._config = config
        self._store = Store(directory)
        self._lock = self._store.lock()
        try:
            self.identity = self._store.load_key()
            self._state = self._store.load_state()
            psk = load_network_psk(config, directory)
            rules = [decode_rule(text) for text in self._state.allow]
        except DecodeError as error:
            self._lock.close()
            raise ConfigError(str(error), file=str(self._store.state_path), key="allow") from error
        except BaseException:
            self._lock.close()
            raise
        self._terms = Terms(
            identity=self.identity,
            static=StaticKey(self.identity.noise_private),
            network_psk=psk or bytes(KEY_BYTES),
            keepalive_ns=config.peer.keepalive_s * 1_000_000_000,
            mtu=INTERFACE_MTU,
            accepts_unknown=config.peer.accept == "any",
            fixed_pieces=_fixed_pieces(),
            random_bytes=random_bytes,
            clock=monotonic_ns,
            wall_clock=wall_ns,
        )
        self.firewall = Firewall(rules, refuse=config.fc00.refuse)
        self.drops: Counter[str] = Counter()
        self.sockets: list[UdpSocket] = []
        self.interface: OverlayInterface | None = None
        self.session: Session | None = None
        self.dialler = dial.Dialler(self.find, self._terms.clock)
        self.stage: Stage | None = None
        self.session_restarts = 0
        self._changed = asyncio.Event()
        self._saving = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self.addresses: list[str] = []

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
                self.sockets.append(
                    UdpSocket(
                        host,
                        port,
                        gso="gso" in offload,
                        gro="gro" in offload,
                        sendmsg="sendmsg" in offload,
                        recvmmsg="recvmmsg" in offload,
                    )
                )
            except TransportError as error:
                failures.append(error)
                if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FAMILY_MISSING:
                    log.warning("%s", error)
                    continue
                break
        else:
            failures = failures if not self.sockets else []
        if failures:
            self._close_sockets()
            self._lock.close()
            raise failures[-1]
        self.addresses = await local_addresses()
        self._build_session()
        self._keeper = asyncio.get_running_loop().create_task(self._keep_session(), name="weft session")

    async def stop(self) -> None:
        """Close everything; the state is saved."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        await self._save_if_possible()
        await self._drop_session()
        await self.close_interface()
        self._close_sockets()
        self._lock.close()

    def _close_sockets(self) -> None:
        for socket in self.sockets:
            socket.close()
        self.sockets.clear()

    def _build_session(self) -> None:
        floor = bytes.fromhex(self._state.timestamp_floor)
        session = Session(
            self._terms, self.firewall, self.drops, floor, self._changed.set, self.dialler.handle_unanswered
        )
        stage = Stage()
        self.session, self.stage = session, stage
        stage.start("peers", session.run)
        stage.start("dial", partial(self.dialler.run, session))
        for socket in self.sockets:
            host, port = socket.address
            stage.start(f"udp/{host}/{port}", partial(read_socket, socket, session))
        stage.start("store", self._keep_stored)
        stage.start("housekeeping", lambda: self._keep_house(session))
        stage.start("addresses", lambda: watch_addresses(partial(self._handle_addresses, session)))
        if self.interface is not None:
            self._attach(self.interface)
        self._restore_peers(session)

    def _restore_peers(self, session: Session) -> None:
        """Take the stored peers; the task `dial` calls them."""
        for stored in self._state.peers:
            if stored.stranger and not self._terms.accepts_unknown:
                continue
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
            peer.endpoints = Endpoints(
                map(decode_multiaddr, stored.endpoints), map(decode_multiaddr, stored.configured)
            )

    async def _keep_session(self) -> None:
        """Build the session anew whenever its stage is beyond help."""
        while True:
            assert self.stage is not None
            name = await asyncio.shield(self.stage.failed)
            log.error("task %s keeps dying; building the session anew", name)
            await self._save_if_possible()
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
                return

    async def _drop_session(self) -> None:
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

    async def _keep_stored(self) -> None:
        """Write the state soon after it changed."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(SAVE_DELAY_S)
            self._changed.clear()
            await self._save_if_possible()

    async def _keep_house(self, session: Session) -> None:
        for second in count():
            if second % ADDRESSES_S == 0 or not self.addresses:
                self.addresses = await local_addresses()
            await asyncio.sleep(HOUSEKEEPING_S)
            self.firewall.expire(monotonic_ns())
            session.proving.look_at_links(session.contacts)
            if session.contacts.last_timestamp_sent.hex() > self._state.timestamp_floor:
                self._changed.set()

    async def _handle_addresses(self, session: Session) -> None:
        """The addresses or routes of this machine changed."""
        session.show_up()
        self.addresses = await local_addresses()

    async def save(self) -> None:
        """Write what is to be remembered; returns when a power cut can't take it any more.

        Raises:
            ConfigError: the disk is full, say; the old state is still there.
        """
        async with self._saving:
            session = self.session
            floor = bytes.fromhex(self._state.timestamp_floor)
            if session is not None and session.contacts.last_timestamp_sent > floor:
                # Ahead of time, so that it need not be written at each handshake and a crash loses nothing.
                floor = later_timestamp(session.contacts.last_timestamp_sent, FLOOR_AHEAD_S)
            self._state = State(
                peers=session.contacts.stored() if session is not None else self._state.peers,
                allow=[encode_rule(rule) for rule in self.firewall.rules()],
                timestamp_floor=floor.hex(),
            )
            await asyncio.to_thread(self._store.save_state, self._state)

    async def _save_if_possible(self) -> None:
        try:
            await self.save()
        except ConfigError as error:
            log.error("%s", error)

    async def open_interface(self, ifname: str) -> OverlayInterface:
        """Make the fc00::/8 interface, if there is none yet, with the routes of the peers.

        Raises:
            PermissionError: needs root or CAP_NET_ADMIN.
            UsageError: another interface owns fc00::/8 or a route that a peer needs.
        """
        async with self._opening:
            if self.interface is None:
                offloads = "tun" in _allowed_offloads()
                interface = await OverlayInterface.open(ifname, self.identity.address, offloads=offloads)
                try:
                    await interface.set_routes(self._stock_networks())
                    self._attach(interface)
                except BaseException:
                    await interface.close()
                    raise
                self.interface = interface
            return self.interface

    async def close_interface(self) -> None:
        """Remove the interface, if there is one."""
        async with self._opening:
            await self._close_interface()

    async def set_routes(self) -> None:
        """Route the allowed addresses of stock devices to the interface.

        Raises:
            UsageError: one of them has a route already.
        """
        if self.interface is not None:
            await self.interface.set_routes(self._stock_networks())

    def _stock_networks(self) -> set[Network]:
        return {network for peer in self.running.contacts if not peer.is_weft for network in peer.allowed}

    async def _close_interface(self) -> None:
        interface, self.interface = self.interface, None
        if interface is None:
            return
        if self.stage is not None:
            await self.stage.stop("tun")
        if self.session is not None:
            self.session.delivery.tun = None
        await interface.close()

    def _attach(self, interface: OverlayInterface) -> None:
        """Join the interface to the session."""
        session = self.running
        assert self.stage is not None
        session.delivery.tun = interface.tun
        session.say_hello(frozenset({"uso"} if interface.tun.takes_udp else ()))
        self.stage.start("tun", partial(self._read_interface, interface, session))

    async def _read_interface(self, interface: OverlayInterface, session: Session) -> None:
        """Send what the interface gives; if somebody removed it, the node goes on without one."""
        try:
            await read_tun(interface.tun, session)
        except OSError as error:
            log.error("%s is gone (%s); `weft fc00 start` makes it again", interface.tun.name, error.strerror)
            # Not awaited here, for it ends this task.
            self._closing = asyncio.create_task(self.close_interface())
            await asyncio.get_running_loop().create_future()

    async def find(self, address: Multiaddr) -> Endpoint:
        """The socket that reaches an address, and the address as that socket takes it.

        Args:
            address: if it has a name, that is resolved anew.

        Raises:
            PeerError: the name has no address.
            UsageError: no listener reaches it, or it is inside the overlay.
            TransportError: it is of a link that this machine does not have.
        """
        found = await dial.resolve(address, [socket.is_ipv6 for socket in self.sockets])
        dial.check_underlay(found)
        host, port = found.endpoint()
        for socket in self.sockets:
            if socket.is_ipv6 == (":" in host):
                return Endpoint(socket, socket.address_of(host, port))
        raise UsageError(f"no listener of this node can reach {host}; see [peer] listen in weft.toml")


def _fixed_pieces() -> int | None:
    """WEFT_BURST_PIECES fixes the burst size for measurements: 0 is type 4 messages only."""
    text = os.environ.get("WEFT_BURST_PIECES", "")
    return int(text) if text.isdigit() else None


def _allowed_offloads() -> set[str]:
    """WEFT_WITHOUT lists what is not to be used although the system has it: any of gso, gro, sendmsg, recvmmsg, tun."""
    without = set(os.environ.get("WEFT_WITHOUT", "").replace(",", " ").split())
    return {"gso", "gro", "sendmsg", "recvmmsg", "tun"} - without
