"""The kernel's sockets for one network: those of a node with a TUN.

Nobody gets out of the network by them, and nothing comes in but from there: addresses are held against it (inside.py),
and what is sent to a peer leaves by the interface alone. What is bound is bound to addresses of this node, never to
any: zeros stand for all that it has in the network, each with a socket of its own and all with the same port.

Who may reach what listens is the firewall's affair, as with every port of a machine with a TUN.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from typing import Final

from weft.io.backend import Closable, Counts
from weft.io.kernel.connection import KernelConnection
from weft.io.kernel.datagrams import KernelDatagrams
from weft.io.kernel.echo import KernelPing
from weft.io.kernel.inside import Inside, Networks, Own
from weft.io.kernel.listener import KernelListener
from weft.io.kernel.options import address_of, endpoint_of, hold_to, opened, stack_error
from weft.io.kernel.poller import Poller
from weft.io.link import counters
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.ping import MAX_PINGS

MAX_LEAVING_BYTES: Final = 64 << 20
"""What connections that were closed have yet to send, here; one more than that is reset."""
LEAVING_S: Final = 60.0
"""How long they have."""
LINGER_STEP_S: Final = 0.01
LINGER_STEPS: Final = 200
"""How long they have when the interface goes: 2 s."""
PORT_ATTEMPTS: Final = 16
"""At a port that is free at all addresses."""

_IP_BIND_ADDRESS_NO_PORT: Final = 24
_IN_PROGRESS: Final = frozenset({0, errno.EINPROGRESS})


class KernelBackend:
    """Sockets on the loop on which this is made.

    Args:
        ifname: of the interface.
        own: addresses of this node.
        networks: of its peers.
        clock: monotonic ns.
        random_bytes: unpredictable ones.

    Attributes:
        ifname: of the interface.
        index: of the interface.
        inside: what lies in the network.
        clock: monotonic ns.
        random_bytes: unpredictable ones.
        users: who ends with it, and is closed then.
        poller: tells sockets what happened.
        connections: all that there are, as are those that follow.
    """

    def __init__(
        self,
        ifname: str,
        own: Own,
        networks: Networks,
        clock: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.ifname = ifname
        self.index = socket.if_nametoindex(ifname)
        self.inside = Inside(own, networks)
        self.clock = clock
        self.random_bytes = random_bytes
        self.users: set[Closable] = set()
        self.poller = Poller()
        self.connections: set[KernelConnection] = set()
        self.listeners: set[KernelListener] = set()
        self.datagrams: set[KernelDatagrams] = set()
        self.pings: set[KernelPing] = set()
        self._leaving: dict[KernelConnection, asyncio.TimerHandle] = {}
        self._is_over = False

    def wake(self) -> None:
        """Nothing: what was done is done."""

    def run(self) -> None:
        """Nothing, too."""

    def is_own(self, address: bytes) -> bool:
        """Whether an address is one of this node."""
        return self.inside.is_own(address)

    def connect(self, remote: Endpoint, local: Endpoint | None) -> KernelConnection:
        """Begin a connection."""
        self._check_open()
        source = self.inside.source_for(remote.address)
        port = local.port if local is not None else 0
        if local is not None and any(local.address):
            (source,) = self.inside.own_for(local.address)
        sock = _made(len(source), socket.SOCK_STREAM)
        try:
            self._hold(sock, remote)
            if port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind(address_of(Endpoint(source, port)))
            if (number := sock.connect_ex(address_of(remote))) not in _IN_PROGRESS:
                raise OSError(number, "connect")
            local = endpoint_of(sock, sock.getsockname())
            return KernelConnection(self, sock, local, remote, is_established=False)
        except OSError as error:
            sock.close()
            raise stack_error(error) from error

    def listen(self, local: Endpoint, backlog: int) -> KernelListener:
        """Take connections."""
        self._check_open()
        sockets, port = self._bound(local, socket.SOCK_STREAM, lambda sock: sock.listen(backlog))
        return KernelListener(self, list(sockets.values()), Endpoint(local.address, port))

    def open_udp(self, local: Endpoint | None, remote: Endpoint | None) -> KernelDatagrams:
        """Open a UDP socket."""
        self._check_open()
        if remote is None:
            local = local or Endpoint(bytes(16), 0)
            sockets, port = self._bound(local, socket.SOCK_DGRAM, lambda sock: None)
            return KernelDatagrams(self, sockets, Endpoint(local.address, port), None)
        source = self.inside.source_for(remote.address)
        if local is not None and any(local.address):
            (source,) = self.inside.own_for(local.address)
        sock = _made(len(source), socket.SOCK_DGRAM)
        try:
            self._hold(sock, remote)
            sock.bind(address_of(Endpoint(source, local.port if local is not None else 0)))
            sock.connect(address_of(remote))
            return KernelDatagrams(self, {source: sock}, endpoint_of(sock, sock.getsockname()), remote)
        except OSError as error:
            sock.close()
            raise stack_error(error) from error

    def ping(self, destination: bytes, timeout_s: float) -> KernelPing:
        """Send an echo request."""
        self._check_open()
        source = self.inside.source_for(destination)
        if len(self.pings) >= MAX_PINGS:
            raise StackError(Failure.NO_ROOM)
        try:
            return KernelPing(self, source, destination, timeout_s)
        except OSError as error:
            raise stack_error(error) from error

    def counts(self) -> Counts:
        """What is counted now: what passes the interface, of all programs, and the sockets that are of this."""
        passed = counters(self.ifname)
        return Counts(
            sent_packets=passed.sent_packets,
            received_packets=passed.received_packets,
            sent_bytes=passed.sent_bytes,
            received_bytes=passed.received_bytes,
            drops=passed.drops,
            connections=len(self.connections),
            listeners=len(self.listeners),
            datagrams=len(self.datagrams),
        )

    def forget(self, connection: KernelConnection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        timer = self._leaving.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def leave(self, connection: KernelConnection) -> None:
        """A connection was closed and has something to send yet."""
        waiting = sum(each.waiting_bytes for each in self._leaving)
        if waiting + connection.waiting_bytes > MAX_LEAVING_BYTES:
            connection.abort(0)
        else:
            self._leaving[connection] = self.poller.loop.call_later(LEAVING_S, connection.abort, 0)

    async def end(self) -> None:
        """End what programs have open, while the other side can still be told; what they have closed arrives first."""
        steps = 0
        while self._leaving and steps < LINGER_STEPS:
            await asyncio.sleep(LINGER_STEP_S)
            steps += 1
        for user in list(self.users):
            user.close()
        for connection in list(self.connections):
            connection.abort(0)
        for listener in list(self.listeners):
            listener.close(0)
        for datagrams in list(self.datagrams):
            datagrams.close()
        for ping in list(self.pings):
            ping.end(Failure.ABORTED)
        self.poller.close()
        self._is_over = True
        # What resets there are leave by the interface.
        await asyncio.sleep(LINGER_STEP_S)

    def _check_open(self) -> None:
        """Refuse what nobody would ever answer."""
        if self._is_over:
            raise StackError(Failure.ABORTED)

    def _hold(self, sock: socket.socket, remote: Endpoint) -> None:
        """Let a socket reach a peer by the interface alone; what is for this node itself does not leave the machine."""
        if not self.is_own(remote.address):
            hold_to(sock, self.ifname)

    def _bound(
        self, local: Endpoint, kind: int, begin: Callable[[socket.socket], object]
    ) -> tuple[dict[bytes, socket.socket], int]:
        """Sockets at each address that is meant, all at one port, and that."""
        addresses = self.inside.own_for(local.address)
        for _ in range(PORT_ATTEMPTS):
            try:
                return _bound_at(addresses, local.port, kind, begin)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or local.port:
                    raise stack_error(error) from error
        raise StackError(Failure.NO_PORTS)


def _made(length: int, kind: int) -> socket.socket:
    try:
        return opened(length, kind)
    except OSError as error:
        raise stack_error(error) from error


def _bound_at(
    addresses: Sequence[bytes], port: int, kind: int, begin: Callable[[socket.socket], object]
) -> tuple[dict[bytes, socket.socket], int]:
    sockets: dict[bytes, socket.socket] = {}
    try:
        for address in addresses:
            sock = sockets[address] = opened(len(address), kind)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address_of(Endpoint(address, port)))
            begin(sock)
            port = int(sock.getsockname()[1])
    except OSError:
        for sock in sockets.values():
            sock.close()
        raise
    return sockets, port
