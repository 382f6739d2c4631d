"""The node: what a program or the daemon starts, asks and stops.

Not done here: what it is made of (lifetime.py); the HTTP API (api/), which calls the methods of this class.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from ipaddress import IPv6Address, ip_network
from pathlib import Path

from weft import __version__
from weft.burst.header import DATA_OVERHEAD_BYTES
from weft.engine import dial
from weft.engine.config import Config
from weft.engine.lifetime import Lifetime
from weft.engine.peer import Endpoint, Peer
from weft.engine.report import describe
from weft.engine.session import Session
from weft.engine.status import Info, Interface, Listener, PeerList, PeerStatus, Pong, Ports, Status, TaskStatus
from weft.errors import DecodeError, PeerError, TransportError, UsageError
from weft.firewall.rules import Rule, decode_rule, encode_rule
from weft.identity import decode_wireguard_key, encode_wireguard_key
from weft.io.clock import monotonic_ns
from weft.mesh.probe import MIN_PING_BYTES
from weft.multiaddr import Multiaddr
from weft.noise.primitives import KEY_BYTES

log = logging.getLogger("weft.engine")

UNSPECIFIED = {"0.0.0.0", "::"}
PROBE_S = 2.0
"""How long a peer that is to be connected again may take to show that its session still stands."""
MAX_PING_BYTES = 65_507 - DATA_OVERHEAD_BYTES
"""What the largest datagram of UDP over IPv4 carries inside the tunnel."""


class Engine:
    """One node.

    Args:
        directory: key and state; made by `weft init`.
        config: of `weft.toml`.

    Raises:
        ConfigError: another daemon has the directory, or a file in it is wrong.
    """

    def __init__(self, directory: Path, config: Config) -> None:
        self._directory = directory
        self._config = config
        self._life = Lifetime(directory, config)
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Open the sockets, build the session, call all stored peers.

        Raises:
            TransportError: a listener's port is in use, or none could be opened.
        """
        await self._life.start()

    async def stop(self) -> None:
        """Close everything; the state is saved."""
        await self._life.stop()

    async def wait_stopped(self) -> None:
        """Return when the node was asked to end."""
        await self._stopping.wait()

    def request_stop(self) -> None:
        """Ask the node to end; returns at once."""
        self._stopping.set()

    def info(self) -> Info:
        """Who this node is and where it can be reached."""
        return Info(
            id=str(self._life.identity.peer_id),
            address=str(IPv6Address(self._life.identity.address)),
            wireguard_public_key=encode_wireguard_key(self._life.identity.noise_public),
            multiaddrs=self._multiaddrs(),
            version=__version__,
            dir=str(self._directory),
            pid=os.getpid(),
        )

    def status(self) -> Status:
        """Everything at one glance."""
        listeners = [
            Listener(multiaddr=str(Multiaddr.from_endpoint(*socket.address)), offloads=socket.offloads)
            for socket in self._life.sockets
        ]
        return Status(
            info=self.info(),
            listeners=listeners,
            interface=self.fc00_status(),
            peers=self.peers().peers,
            tasks=self.tasks(),
            session_restarts=self._life.session_restarts,
            drops=self._all_drops(),
        )

    def peers(self) -> PeerList:
        """All peers; none while the session is built anew."""
        now = monotonic_ns()
        session = self._life.session
        return PeerList(peers=[describe(peer, now) for peer in session.contacts] if session is not None else [])

    async def connect(self, multiaddr: str, timeout_s: float = 10.0) -> PeerStatus:
        """Call a weft node and return when its tunnel is up.

        Raises:
            UsageError: the multiaddr is not one that can be dialled.
            TimeoutError: no answer; the message says what may be the reason.
            PeerError: it was removed meanwhile.
        """
        session = self._life.running
        address, peer_id = dial.decode_target(multiaddr)
        endpoint = await self._life.find(address)
        old = session.contacts.by_key(peer_id.noise_public_key)
        was_wanted = old is not None and old.is_wanted
        peer = session.contacts.add_weft(peer_id.noise_public_key, peer_id, is_wanted=True)
        if peer.path.endpoint != endpoint or not await self._answers(session, peer):
            try:
                await self._call(session, peer, endpoint, timeout_s)
            except (TimeoutError, PeerError):
                peer.is_wanted = was_wanted
                if old is None and peer.tunnel in session.contacts.by_tunnel:
                    session.remove(peer)
                raise
        peer.endpoints.lead(address, endpoint.multiaddr)
        peer.endpoints.configure(address)
        await self._life.save()
        return describe(peer, monotonic_ns())

    @staticmethod
    async def _answers(session: Session, peer: Peer) -> bool:
        """Whether the session with a peer is of use: the peer answers a probe."""
        if not (peer.is_known and peer.path.is_proven and peer.tunnel.is_up(monotonic_ns())):
            return False
        pong = session.proving.ping(peer, MIN_PING_BYTES)
        await asyncio.wait({pong}, timeout=PROBE_S)
        return pong.done() and not pong.cancelled()

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
        session = self._life.running
        session.remove(session.contacts.find(peer))
        await self._life.save()
        await self._life.set_routes()

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

        Its endpoint may have a name that has no address yet.

        Raises:
            UsageError: a key, a prefix or the endpoint is wrong, or belongs to another peer.
        """
        session = self._life.running
        try:
            key = decode_wireguard_key(public_key)
            psk = decode_wireguard_key(preshared_key) if preshared_key else bytes(KEY_BYTES)
            allowed = tuple(ip_network(prefix, strict=False) for prefix in allowed_ips)
        except (DecodeError, ValueError) as error:
            raise UsageError(str(error)) from error
        if not name.isprintable():
            raise UsageError("the name of a device has printable characters only")
        if not allowed:
            raise UsageError("a WireGuard device needs at least one allowed address")
        address = dial.decode_endpoint(endpoint) if endpoint is not None else None
        if address is not None and not dial.is_name(address):
            await self._life.find(address)
        peer = session.contacts.add_wireguard(key, name, allowed, psk, round((keepalive_s or 0) * 1_000_000_000))
        try:
            await self._life.set_routes()
        except (UsageError, TransportError):
            session.remove(peer)
            await self._life.set_routes()
            raise
        if address is not None:
            peer.endpoints.configure(address)
            self._life.dialler.call(peer)
        await self._life.save()
        return describe(peer, monotonic_ns())

    async def ping(self, peer: str, *, timeout_s: float = 5.0, size: int | None = None) -> Pong:
        """Send one probe to a peer and wait for its answer.

        Raises:
            UsageError: no such peer, a stock device, which has no probes, or a size that no datagram has.
            TimeoutError: no answer.
        """
        session = self._life.running
        found = session.contacts.find(peer)
        if not found.is_weft:
            raise UsageError(f"{peer} is a WireGuard device; ping its address instead")
        if size is not None and size > MAX_PING_BYTES:
            raise UsageError(f"a probe has at most {MAX_PING_BYTES:,} bytes: more fits no datagram")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        if not found.tunnel.is_up(monotonic_ns()):
            up = session.wait_until_up(found)
            session.call(found, None)
            await asyncio.wait({up}, timeout=timeout_s)
            if not up.done() or up.cancelled():
                up.cancel()
                raise TimeoutError(f"no session with {peer} within {timeout_s:g} s")
        pong = session.proving.ping(found, size or MIN_PING_BYTES)
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
        interface = self._life.interface
        if interface is not None and ifname not in {None, interface.tun.name}:
            raise UsageError(f"the interface is up already, as {interface.tun.name}; `weft fc00 stop` first")
        return (await self._life.open_interface(ifname or self._config.fc00.ifname)).status()

    async def fc00_stop(self) -> None:
        """Remove the interface."""
        await self._life.close_interface()

    def fc00_status(self) -> Interface:
        """The interface as it is."""
        return self._life.interface.status() if self._life.interface is not None else Interface(up=False)

    async def fc00_allow(self, rules: list[str]) -> Ports:
        """Let these in from the overlay.

        Raises:
            UsageError: one of them is not a rule; none is added then.
        """
        for rule in _decode_rules(rules):
            self._life.firewall.allow(rule)
        await self._life.save()
        return self.fc00_ports()

    async def fc00_deny(self, rules: list[str]) -> Ports:
        """Take rules back.

        Raises:
            UsageError: one of them is not a rule that is allowed; none is taken back then.
        """
        decoded = _decode_rules(rules)
        missing = [encode_rule(rule) for rule in decoded if rule not in self._life.firewall.rules()]
        if missing:
            raise UsageError(f"{', '.join(missing)}: not allowed anyway; `weft fc00 ports` shows what is")
        for rule in decoded:
            self._life.firewall.deny(rule)
        await self._life.save()
        return self.fc00_ports()

    def fc00_ports(self) -> Ports:
        """What the firewall lets in."""
        return Ports(allow=[encode_rule(rule) for rule in self._life.firewall.rules()], refuse=self._config.fc00.refuse)

    def tasks(self) -> list[TaskStatus]:
        """The tasks of the node."""
        return self._life.stage.tasks() if self._life.stage is not None else []

    async def restart_task(self, name: str) -> TaskStatus:
        """Stop one task and let it start anew.

        Raises:
            UsageError: there is none of that name.
        """
        if self._life.stage is None:
            raise UsageError("the node is just being built anew; try again in a moment")
        return self._life.stage.kill(name)

    def _multiaddrs(self) -> list[str]:
        found = []
        for socket in self._life.sockets:
            host, port = socket.address
            hosts = [a for a in self._life.addresses if (":" in a) == socket.is_ipv6] if host in UNSPECIFIED else [host]
            found += [str(Multiaddr.from_endpoint(each, port, self._life.identity.peer_id)) for each in hosts]
        return found

    def _all_drops(self) -> dict[str, int]:
        total = Counter(self._life.drops)
        sources = [self._life.firewall.drops, *(socket.drops for socket in self._life.sockets)]
        if self._life.session is not None:
            sources.append(self._life.session.gate.drops)
            sources += [peer.tunnel.drops for peer in self._life.session.contacts]
        if self._life.interface is not None:
            sources.append(self._life.interface.tun.drops)
        for source in sources:
            total.update(source)
        return dict(sorted(total.items()))


def _decode_rules(texts: list[str]) -> list[Rule]:
    try:
        return [decode_rule(text) for text in texts]
    except DecodeError as error:
        raise UsageError(str(error)) from error
