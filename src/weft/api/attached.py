"""`weft.Node.attach()`: a program that uses the network by a daemon which runs already, under that daemon's name.

    async with weft.Node.attach() as node:
        reader, writer = await node.open_connection("loom", 80)

Where the daemon has a TUN its sockets are those of the system; where it has the stack they are lent by it (lent/), and
end when either side does.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from ipaddress import IPv6Address, ip_address, ip_interface
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from weft.api.async_client import AsyncClient
from weft.api.kernel import KernelSockets
from weft.api.lent.borrower import BorrowedGround, Borrower
from weft.api.overlay import Host, Overlay, Sockets, host_of
from weft.api.streams import Streams
from weft.api.unix_socket import FILE_NAME
from weft.api.v0 import fc00 as fc00_api
from weft.api.v0 import name as name_api
from weft.api.v0 import node as node_api
from weft.api.v0 import observe
from weft.api.v0 import peer as peer_api
from weft.api.v0.observe import Watch
from weft.api.v0.route import Nothing
from weft.api.v0.sockets import SOCKETS
from weft.engine.directory import default_directory
from weft.engine.resolver import ERRORS, SystemResolver
from weft.engine.status import Event, EventKind, Info, Interface, PeerStatus, Pong, Ports, Status
from weft.errors import UsageError, WeftError
from weft.identity import PeerId
from weft.stack.dns.names import DOMAIN, Names

VARIABLE: Final = "WEFT_SOCKET"
"""The environment variable that says where the daemon listens, as for commands."""
GRACE_S: Final = 5.0
"""More than the daemon waits for another node itself."""

LOOKUP_S: Final = 20.0
"""More than the daemon waits for servers of DNS."""

_FAMILIES: Final = {number: name for name, number in name_api.FAMILIES.items()}
_CHANGES: Final[list[EventKind]] = [
    "peer-added",
    "peer-up",
    "peer-down",
    "peer-moved",
    "peer-changed",
    "peer-removed",
    "addresses-changed",
    "listeners-changed",
    "config-changed",
    "session-rebuilt",
    "missed",
]
"""After which the daemon is asked anew whom it knows and where it is."""


class AttachedNode(Overlay):
    """A node that runs in a daemon, from `async with` to its end, which the daemon outlives.

    Args:
        socket: of the daemon's API; None for the one of this machine's node, or of this person's.
    """

    def __init__(self, socket: str | os.PathLike[str] | None = None) -> None:
        chosen = socket or os.environ.get(VARIABLE)
        self._path = Path(chosen).expanduser() if chosen else default_directory() / FILE_NAME
        self._stack = AsyncExitStack()
        self._asked: AsyncClient | None = None
        self._info: Info | None = None
        self._peers: list[PeerStatus] = []
        self._has_servers = False

    def __repr__(self) -> str:
        return f"<weft.Node {self.identity} at {self._path}>" if self._info else "<weft.Node that is not attached>"

    async def __aenter__(self) -> Self:
        """Find the daemon.

        Raises:
            NoDaemon: there is none.
            UsageError: it has no interface, or this node is attached already.
        """
        if self._asked is not None:
            raise UsageError("the node is attached already")
        async with AsyncExitStack() as stack:
            client = self._asked = await stack.enter_async_context(AsyncClient(self._path))
            stack.callback(self._forget)
            await self._learn()
            interface = await client.call(fc00_api.STATUS, Nothing())
            if not interface.up:
                raise UsageError(f"the daemon at {self._path} has no interface; `weft fc00 start` makes it")
            self._sockets = await self._make_sockets(client, interface, stack)
            following = asyncio.get_running_loop().create_task(self._follow(), name="weft attached")
            stack.push_async_callback(_end, following)
            stack.push_async_callback(self._end_served)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go of the daemon; what is open of its stack is aborted."""
        await self._stack.aclose()

    # Who it is, and where.

    @property
    def identity(self) -> PeerId:
        """Who it is: its public key, whose text is `12D3KooW…`."""
        return PeerId.from_text(self._known.id)

    @property
    def address(self) -> IPv6Address:
        """Its own in the network, which follows from its key."""
        return IPv6Address(self._known.address)

    @property
    def multiaddrs(self) -> list[str]:
        """What other nodes can dial."""
        return self._known.multiaddrs

    async def status(self) -> Status:
        """Everything at one glance."""
        return await self._client.call(node_api.STATUS, Nothing())

    def events(self, *kinds: EventKind) -> AsyncIterator[Event]:
        """What happens from the first `anext` on, until the iterator is closed; only of some kinds, or all."""
        return self._client.stream(observe.EVENTS, Watch(kinds=list(kinds)))

    # Its peers.

    @property
    def peers(self) -> list[PeerStatus]:
        """All that it knows, as they were when one of them last came, went or changed."""
        return self._peers

    async def add_peer(self, peer: str | PeerId, *endpoints: str, name: str | None = None) -> PeerStatus:
        """Want a node as a peer, and call it, without waiting for it; see `Node.add_peer`."""
        asked = peer_api.Add(target=str(peer), endpoints=list(endpoints), name=name)
        return await self._changed(await self._client.call(peer_api.ADD, asked))

    async def connect_peer(self, multiaddr: str, *, name: str | None = None, timeout_s: float = 10.0) -> PeerStatus:
        """Call a node, and return when its tunnel is up; see `Node.connect_peer`."""
        asked = peer_api.Connect(target=multiaddr, name=name, timeout_s=timeout_s)
        return await self._changed(await self._client.call(peer_api.CONNECT, asked, patience_s=timeout_s + GRACE_S))

    async def remove_peer(self, peer: str) -> None:
        """Forget a peer."""
        await self._client.call(peer_api.REMOVE, peer_api.Whom(peer=peer))
        await self._learn()

    async def ping(self, peer: Host, *, timeout_s: float = 5.0, size: int | None = None) -> Pong:
        """Send one probe to a peer and wait for its answer; see `Node.ping`."""
        name = str(host_of(peer)).removesuffix(f".{DOMAIN}")
        at = next(iter(self._addresses_of(name)), None)
        asked = peer_api.Ping(peer=name if at is None else str(ip_address(at)), timeout_s=timeout_s, size=size)
        return await self._client.call(peer_api.PING, asked, patience_s=timeout_s + GRACE_S)

    # What others may reach, of a node with a TUN.

    async def allow(self, *rules: str) -> Ports:
        """Let others reach ports of this machine; see `Node.allow`."""
        return await self._client.call(fc00_api.ALLOW, fc00_api.ChangePorts(rules=list(rules)))

    async def deny(self, *rules: str) -> Ports:
        """Take rules back."""
        return await self._client.call(fc00_api.DENY, fc00_api.ChangePorts(rules=list(rules)))

    # How it is done.

    @property
    def _client(self) -> AsyncClient:
        if self._asked is None:
            raise UsageError("the node is not attached; use it inside `async with`")
        return self._asked

    @property
    def _known(self) -> Info:
        if self._info is None:
            raise UsageError("the node is not attached; use it inside `async with`")
        return self._info

    async def _make_sockets(self, client: AsyncClient, interface: Interface, stack: AsyncExitStack) -> Sockets:
        resolver = _Resolver(self)
        if interface.device != "stack":
            own = [interface.address or "", *(str(ip_interface(each).ip) for each in interface.addresses)]
            return KernelSockets(resolver.resolve, lambda: own)
        borrower = Borrower(await client.leave(SOCKETS), lambda: None)
        stack.callback(borrower.close)
        streams = Streams.on(BorrowedGround(borrower, resolver.resolve, self._at))
        stack.callback(streams.close)
        return streams

    async def _learn(self) -> None:
        """Ask the daemon who it is and whom it knows."""
        self._info = await self._client.call(node_api.INFO, Nothing())
        self._peers = (await self._client.call(peer_api.LIST, Nothing())).peers
        self._has_servers = bool((await self._client.call(fc00_api.STATUS, Nothing())).dns)

    async def _changed(self, reply: peer_api.PeerReply) -> PeerStatus:
        # So that its name can be used at once.
        await self._learn()
        return reply.peer

    async def _follow(self) -> None:
        """Keep what is known of the peers up to date."""
        with suppress(WeftError, TimeoutError):
            async for _ in self._client.stream(observe.EVENTS, Watch(kinds=_CHANGES)):
                await self._learn()

    def _addresses_of(self, name: str) -> list[bytes]:
        """The addresses of the peer that is called so, in any case."""
        for peer in self._peers:
            if peer.name is not None and peer.name.lower() == name.lower():
                return [ip_address(each).packed for each in peer.addresses if "/" not in each]
        return []

    async def _ask(self, host: str, family: int) -> list[bytes] | None:
        """The addresses of a host, by the servers in the network that the daemon has; None if it has none."""
        if not self._has_servers:
            return None
        asked = name_api.Resolve(name=host, family=_FAMILIES[family])
        try:
            found = (await self._client.call(name_api.RESOLVE, asked, patience_s=LOOKUP_S)).addresses
        except (WeftError, TimeoutError) as error:
            raise socket.gaierror(*ERRORS["TIMEOUT"]) from error
        if not found:
            raise socket.gaierror(*ERRORS["NXDOMAIN"])
        return [ip_address(each).packed for each in found]

    def _at(self, address: bytes) -> PeerStatus | None:
        """Who has an address."""
        text = str(ip_address(address))
        return next((peer for peer in self._peers if text in peer.addresses), None)

    def _forget(self) -> None:
        self._asked = self._info = self._sockets = None


class _Resolver(SystemResolver):
    """Knows what the daemon and either its servers or the system know."""

    def __init__(self, node: AttachedNode) -> None:
        super().__init__(Names(node._addresses_of))
        self._node = node

    async def _ask(self, host: str, family: int) -> list[bytes]:
        found = await self._node._ask(host, family)
        return found if found is not None else await super()._ask(host, family)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
