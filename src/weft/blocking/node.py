"""`weft.blocking.Node` and `attach`: the nodes of weft.api, asked from threads that block.

Everything here may be called from any thread, from many at once.

Not done here: the thread (background.py), the sockets (stream.py, listener.py, datagrams.py).
"""

from __future__ import annotations

import os
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from weft.api.attached import AttachedNode as AsyncAttachedNode
from weft.api.node import Node as AsyncNode
from weft.api.overlay import Host
from weft.blocking.background import Background
from weft.blocking.datagrams import DatagramSocket, open_mailbox
from weft.blocking.face import DEFAULT, Address, timeout_of, within
from weft.blocking.listener import Arrivals, Listener
from weft.blocking.pipe import Pipe
from weft.blocking.stream import Stream
from weft.engine.status import PeerStatus, Pong, Ports, Status
from weft.errors import UsageError
from weft.identity import PeerId

P = ParamSpec("P")
T = TypeVar("T")

BACKLOG = 128


class BlockingNode:
    """What both kinds of node have.

    Args:
        node: is not entered yet.
    """

    def __init__(self, node: AsyncNode | AsyncAttachedNode) -> None:
        self._node = node
        self._running: Background | None = None

    def __repr__(self) -> str:
        return f"<weft.blocking.Node of {self._node!r}>"

    def __enter__(self) -> Self:
        """Start it, in a thread of its own.

        Raises:
            UsageError: it runs already.
            Exception: what entering a node of asyncio raises.
        """
        if self._running is not None:
            raise UsageError("the node runs already")
        background = Background(self._node)
        background.start()
        self._running = background
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it: what is open is aborted, what was closed before arrives first, for some seconds at most."""
        background, self._running = self._running, None
        if background is not None:
            background.stop()

    # Who it is, and where.

    @property
    def identity(self) -> PeerId:
        """Who it is: its public key, whose text is `12D3KooW…`."""
        return self._get("identity")  # type: ignore[no-any-return]

    @property
    def address(self) -> IPv6Address:
        """Its own in the network, which follows from its key."""
        return self._get("address")  # type: ignore[no-any-return]

    @property
    def multiaddrs(self) -> list[str]:
        """What other nodes can dial."""
        return self._get("multiaddrs")  # type: ignore[no-any-return]

    def status(self) -> Status:
        """Everything at one glance."""
        return self._call(self._node.status)

    # Its peers.

    @property
    def peers(self) -> list[PeerStatus]:
        """All that it knows."""
        return list(self._get("peers"))

    def add_peer(self, peer: str | PeerId, *endpoints: str, name: str | None = None) -> PeerStatus:
        """Want a node as a peer, and call it, without waiting for it; see `weft.Node.add_peer`."""
        return self._call(self._node.add_peer, peer, *endpoints, name=name)

    def connect_peer(self, multiaddr: str, *, name: str | None = None, timeout_s: float = 10.0) -> PeerStatus:
        """Call a node, and return when its tunnel is up; see `weft.Node.connect_peer`."""
        return self._call(self._node.connect_peer, multiaddr, name=name, timeout_s=timeout_s)

    def remove_peer(self, peer: str) -> None:
        """Forget a peer."""
        self._call(self._node.remove_peer, peer)

    def ping(self, peer: Host, *, timeout_s: float = 5.0, size: int | None = None) -> Pong:
        """Send one probe to a peer and wait for its answer; see `weft.Node.ping`."""
        return self._call(self._node.ping, peer, timeout_s=timeout_s, size=size)

    def allow(self, *rules: str) -> Ports:
        """Let others reach ports of this machine, where there is a TUN; see `weft.Node.allow`."""
        return self._call(self._node.allow, *rules)

    def deny(self, *rules: str) -> Ports:
        """Take rules back."""
        return self._call(self._node.deny, *rules)

    # Sockets.

    def create_connection(
        self,
        address: Address,
        timeout: object = DEFAULT,
        source_address: Address | None = None,
        *,
        ssl: ssl_module.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> Stream:
        """Connect to a port of a peer; see `socket.create_connection`.

        Args:
            address: host and port; a host is a peer, by whatever names one, an address or a name.
            timeout: s, for all of it; then of the stream. None for ever; without it that of `socket.setdefaulttimeout`.
            source_address: host and port of our end.
            ssl: speak TLS.
            server_hostname: whose certificate is expected; None for the host's.

        Raises:
            OSError: `ConnectionRefusedError`, `TimeoutError`, `ssl.SSLError` and so on; `socket.gaierror` if there is
                no such name.
            UsageError: the node does not run.
        """
        background, (host, port) = self._background, address[:2]

        async def connect() -> Pipe:
            async with within(timeout_of(timeout)):
                _, pipe = await self._node.create_connection(
                    lambda: Pipe(background),
                    host,
                    port,
                    ssl=ssl,
                    server_hostname=server_hostname,
                    local_addr=source_address,
                )
            assert isinstance(pipe, Pipe)
            return pipe

        return Stream(background.call(connect), timeout)

    def create_server(
        self, address: Address, *, backlog: int = BACKLOG, ssl: ssl_module.SSLContext | None = None
    ) -> Listener:
        """Listen on a port of this node; see `socket.create_server`.

        Args:
            address: host and port; "" or None for all addresses that this node has in the network; port 0 for a free
                one.
            backlog: connections that may wait to be accepted.
            ssl: speak TLS; a connection can be accepted when its handshake is done.

        Raises:
            OSError: it can't be had; EADDRINUSE and so on.
            UsageError: the node does not run.
        """
        background, (host, port) = self._background, address[:2]

        async def listen() -> tuple[Arrivals, Address]:
            arrivals = Arrivals(background, backlog)
            server = await self._node.create_server(arrivals.make_pipe, host or None, port, backlog=backlog, ssl=ssl)
            arrivals.open(server)
            sockets: Any = server
            return arrivals, sockets.sockets[0].getsockname()

        return Listener(*background.call(listen))

    def create_datagram_socket(self, address: Address | None = None, family: int = socket.AF_INET6) -> DatagramSocket:
        """Open a UDP socket.

        Args:
            address: host and port where it receives; "" or None for all addresses; None for a free port too.
            family: of its addresses, where it is not told one.

        Raises:
            OSError: it can't be had; EADDRINUSE and so on.
            UsageError: the node does not run.
        """
        background = self._background
        local = None if address is None else (address[0] or _ANY[family], address[1])
        mailbox = background.call(open_mailbox, self._node, background, local, None, family)
        return DatagramSocket(self._node, mailbox, local and local[0])

    def getaddrinfo(
        self,
        host: Host,
        port: int | str | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - its name in the socket module
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, Address]]:
        """Look up a name; see `socket.getaddrinfo`."""
        found: list[tuple[socket.AddressFamily, socket.SocketKind, int, str, Address]] = self._call(
            self._node.getaddrinfo, host, port, family=family, type=type, proto=proto, flags=flags
        )
        return found

    # How it is done.

    @property
    def _background(self) -> Background:
        if self._running is None:
            raise UsageError("the node does not run; use it inside `with`")
        return self._running

    def _call(self, function: Callable[P, Awaitable[T]], *arguments: P.args, **options: P.kwargs) -> T:
        return self._background.call(function, *arguments, **options)

    def _get(self, name: str) -> Any:
        """What the node says of itself, which changes in its own thread."""

        async def get() -> Any:
            return getattr(self._node, name)

        return self._call(get)


class Node(BlockingNode):
    """One node inside this program, from `with` to its end.

    Args:
        *arguments: as of `weft.Node`.
        **options: as of `weft.Node`.

    Raises:
        UsageError: one of these makes no sense.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(AsyncNode(*arguments, **options))


class AttachedNode(BlockingNode):
    """A node that runs in a daemon, from `with` to its end, which the daemon outlives.

    Args:
        socket: of the daemon's API; None for the one of this machine's node, or of this person's.
    """

    def __init__(self, socket: str | os.PathLike[str] | None = None) -> None:
        super().__init__(AsyncAttachedNode(socket))


def attach(socket: str | os.PathLike[str] | None = None) -> AttachedNode:
    """A node that runs already, in a daemon; see `weft.Node.attach`."""
    return AttachedNode(socket)


_ANY = {int(socket.AF_INET): "0.0.0.0", int(socket.AF_INET6): "::"}
