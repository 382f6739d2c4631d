"""`weft.Node`: a Python program as a participant of the network, without any privilege.

    async with weft.Node() as node:
        peer = await node.connect_peer("/ip4/192.0.2.1/udp/1312/p2p/12D3KooW…")
        reader, writer = await node.open_connection(peer, 80)

A node has a key and tunnels to its peers, and either a TCP/IP host of its own or a TUN:

| device  | sockets                     | what others may reach here             | needs                 |
|---------|-----------------------------|----------------------------------------|-----------------------|
| `stack` | of a host inside the node   | the ports that somebody listens on     | nothing               |
| `tun`   | of the kernel               | what `allow` lets in                   | root or CAP_NET_ADMIN |

Not done here: the sockets themselves (streams/, kernel.py); a daemon that runs already (attached.py); everything that a
node does (engine/).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from ipaddress import IPv6Address, ip_address, ip_interface
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, get_args

from msgspec.structs import replace

from weft.api.kernel import KernelSockets
from weft.api.overlay import Host, Overlay, Sockets, host_of
from weft.api.streams import Streams
from weft.engine.config import FILE_NAME, Config, PeerSection, check_config, load_config
from weft.engine.engine import Engine
from weft.engine.initial import ensure_initialised
from weft.engine.resolver import ServerResolver, SystemResolver
from weft.engine.status import DeviceKind, Event, EventKind, Interface, PeerStatus, Pong, Ports, Status
from weft.engine.verbs.names import DNS_PORT
from weft.errors import UsageError
from weft.identity import Identity, PeerId, generate
from weft.io.ephemeral import Ephemeral
from weft.stack.dns.names import DOMAIN, Names
from weft.stack.endpoint import Endpoint

if TYPE_CHECKING:
    from weft.api.attached import AttachedNode

ANYWHERE: Final = ("/ip4/0.0.0.0/udp/0", "/ip6/::/udp/0")
"""Where a node without files listens that was told nothing: on a free port of each family."""
ANY_TUN: Final = "weft%d"
"""What the TUN of a node without files is called; the kernel numbers it."""


class Node(Overlay):
    """One node inside this program, from `async with` to its end.

    Args:
        dir: of its key, its weft.toml and its state, made if need be; None for a node that keeps nothing and has a new
            key each time.
        device: `stack` or `tun`; see the head of this file.
        listen: UDP listeners, as multiaddrs; None for those of weft.toml, or free ports for a node that has none.
        accept: whether `any` peer may call, or `known` ones only; None for what weft.toml says, else `any`.
        addresses: of the node in the network besides its own, each with its prefix length, such as `10.7.0.1/24`; None
            for those of weft.toml.
        identity: of a node that keeps nothing, in place of a new one.
        network_secret: that a node which keeps nothing shares with the others of its network.
        dns: peers or addresses in the network whose servers of DNS know names that the node does not, in the order in
            which they are asked; without any, those of weft.toml, else the operating system is asked.

    Raises:
        UsageError: one of these makes no sense.
    """

    def __init__(
        self,
        dir: str | os.PathLike[str] | None = None,  # noqa: A002 - its name everywhere
        device: DeviceKind = "stack",
        *,
        listen: Sequence[str] | None = None,
        accept: Literal["any", "known"] | None = None,
        addresses: Sequence[str] | None = None,
        identity: Identity | None = None,
        network_secret: str | bytes | None = None,
        dns: Sequence[Host] = (),
    ) -> None:
        if device not in get_args(DeviceKind):
            raise UsageError(f"device is 'stack' or 'tun', not {device!r}")
        if dir is not None and not (identity is None and network_secret is None):
            raise UsageError("a node with a directory has its key and its secret there; give neither of them")
        self._dns = [str(host_of(server)) for server in dns]
        self._directory = Path(dir).expanduser() if dir is not None else None
        self._device: DeviceKind = device
        self._listen, self._accept, self._addresses = listen, accept, addresses
        self._identity = identity
        self._secret = network_secret.encode() if isinstance(network_secret, str) else network_secret
        self._running: Engine | None = None
        self._stack = AsyncExitStack()
        if self._directory is None:
            self._config(Config(peer=PeerSection(listen=ANYWHERE)))

    @staticmethod
    def attach(socket: str | os.PathLike[str] | None = None) -> AttachedNode:
        """A node that runs already, in a daemon; to be used as a `Node` is.

        Args:
            socket: of the daemon's API; None for the one of this machine's node, or of this person's.
        """
        from weft.api.attached import AttachedNode

        return AttachedNode(socket)

    def __repr__(self) -> str:
        return f"<weft.Node {self.identity if self._running is not None else 'that does not run'}>"

    async def __aenter__(self) -> Self:
        """Open its sockets and its interface, and call the peers that it knows.

        Raises:
            PermissionError: a TUN needs root or CAP_NET_ADMIN.
            ConfigError: the directory is in use, or a file in it is wrong.
            TransportError: a port is in use.
            UsageError: it runs, or something that was given makes no sense.
        """
        if self._running is not None:
            raise UsageError("the node runs already")
        async with AsyncExitStack() as stack:
            engine = await self._make_engine()
            await engine.start()
            stack.push_async_callback(engine.stop)
            ifname = ANY_TUN if self._device == "tun" and self._directory is None else None
            await engine.fc00.start(ifname, device=self._device)
            stack.callback(self._forget)
            self._running = engine
            resolver = self._make_resolver(engine)
            stack.callback(resolver.close)
            self._sockets = self._make_sockets(engine, resolver)
            stack.callback(self._sockets.close)
            stack.push_async_callback(self._end_served)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it: what is open is aborted, what was closed before arrives first, for two seconds at most."""
        await self._stack.aclose()

    # Who it is, and where.

    @property
    def identity(self) -> PeerId:
        """Who it is: its public key, whose text is `12D3KooW…`."""
        return self._engine.peer_id

    @property
    def address(self) -> IPv6Address:
        """Its own in the network, which follows from its key."""
        return IPv6Address(self.identity.address)

    @property
    def multiaddrs(self) -> list[str]:
        """What other nodes can dial; addresses of the loopback interface where this machine has no others."""
        return self._engine.multiaddrs(loopback=True)

    async def status(self) -> Status:
        """Everything at one glance."""
        return self._engine.status()

    def events(self, *kinds: EventKind) -> AsyncIterator[Event]:
        """What happens from the first `anext` on, until the iterator is closed; only of some kinds, or all."""
        return self._engine.events(frozenset(kinds))

    # Its peers.

    @property
    def peers(self) -> list[PeerStatus]:
        """All that it knows."""
        return self._engine.peers.list().peers

    async def add_peer(self, peer: str | PeerId, *endpoints: str, name: str | None = None) -> PeerStatus:
        """Want a node as a peer and call it now and whenever it is missed, without waiting for it.

        Args:
            peer: its multiaddr, or its id.
            *endpoints: where else it may be: multiaddrs, or `host:port`; without any, it has to call.
            name: what to call it here; `NAME.weft` is its name for programs.

        Raises:
            UsageError: something can't be so.
        """
        return await self._engine.peers.add(str(peer), list(endpoints), name=name)

    async def connect_peer(self, multiaddr: str, *, name: str | None = None, timeout_s: float = 10.0) -> PeerStatus:
        """Call a node, and return when its tunnel is up; it is a peer from then on.

        Args:
            multiaddr: where it is and who, as `weft info` or `multiaddrs` shows it; or a peer that there is.
            name: what to call it here.
            timeout_s: how long.

        Raises:
            UsageError: that can't be dialled.
            TimeoutError: no answer; the message says what may be the reason.
        """
        return await self._engine.peers.connect(multiaddr, timeout_s, name=name)

    async def remove_peer(self, peer: str) -> None:
        """Forget a peer."""
        await self._engine.peers.remove(peer)

    async def ping(self, peer: Host, *, timeout_s: float = 5.0, size: int | None = None) -> Pong:
        """Send one probe to a peer and wait for its answer.

        Raises:
            TimeoutError: there is none.
            UsageError: there is no such peer.
        """
        peers, name = self._engine.peers, str(host_of(peer)).removesuffix(f".{DOMAIN}")
        at = next(iter(peers.addresses_of(name)), None)
        return await peers.ping(name if at is None else str(ip_address(at)), timeout_s=timeout_s, size=size)

    # What others may reach, of a node with a TUN.

    async def allow(self, *rules: str) -> Ports:
        """Let others reach ports of this machine, such as `/tcp/80`; of no effect with the stack, see above."""
        return await self._engine.fc00.allow(list(rules))

    async def deny(self, *rules: str) -> Ports:
        """Take rules back."""
        return await self._engine.fc00.deny(list(rules))

    # How it is made.

    @property
    def _engine(self) -> Engine:
        if self._running is None:
            raise UsageError("the node does not run; use it inside `async with`")
        return self._running

    async def _make_engine(self) -> Engine:
        if self._directory is None:
            config = self._config(Config(peer=PeerSection(listen=ANYWHERE)))
            if self._identity is None:
                self._identity = await asyncio.to_thread(generate, os.urandom)
            return Engine(Ephemeral(self._identity, self._secret), config, keeps_log=False)
        await asyncio.to_thread(ensure_initialised, self._directory)
        config = self._config(load_config(self._directory / FILE_NAME))
        return Engine(self._directory, config, keeps_log=False)

    def _config(self, config: Config) -> Config:
        """A configuration, with what was given in place of what it says."""
        if self._listen is not None:
            config = replace(config, peer=replace(config.peer, listen=tuple(self._listen)))
        if self._accept is not None:
            config = replace(config, peer=replace(config.peer, accept=self._accept))
        if self._addresses is not None:
            config = replace(config, fc00=replace(config.fc00, addresses=tuple(self._addresses)))
        check_config(config)
        return config

    def _make_resolver(self, engine: Engine) -> SystemResolver:
        names, asked = Names(engine.peers.addresses_of), self._dns or engine.names.servers
        if not asked:
            return SystemResolver(names)
        backend, servers = engine.backend, []
        assert backend is not None
        for server in asked:
            found = names.look_up(server) or engine.peers.addresses_of(server)
            if not found:
                raise UsageError(f"{server}: neither an address nor a peer that is known, so no server of DNS")
            servers.append(Endpoint(found[0], DNS_PORT))
        return ServerResolver(names, servers, backend)

    @staticmethod
    def _make_sockets(engine: Engine, resolver: SystemResolver) -> Sockets:
        if engine.driver is None:
            return KernelSockets(resolver.resolve, lambda: _addresses_of(engine.fc00.status()))
        return Streams(engine.driver, resolver.resolve, engine.peers.at)

    def _forget(self) -> None:
        self._running = self._sockets = None


def _addresses_of(interface: Interface) -> list[str]:
    further = [str(ip_interface(address).ip) for address in interface.addresses]
    return [interface.address, *further] if interface.address is not None else further
