"""The underlay of a node: the sockets that it listens on, and which of them reaches an address.

Listeners change in two steps, so that all of a change happens or nothing: `prepare` opens what is new beside what there
is, and may fail; `take` puts it in its place, and can't.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct

from weft.engine import dial
from weft.engine.environment import allowed_offloads
from weft.engine.peer import Endpoint, Network
from weft.engine.status import SCHEMA, Listener
from weft.errors import TransportError, UsageError
from weft.identity import PeerId
from weft.io.udp import UdpSocket
from weft.multiaddr import Multiaddr

log = logging.getLogger("weft.engine")

UNSPECIFIED = {"0.0.0.0", "::"}

_FAMILY_MISSING = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""A machine without IPv6 is no reason not to start."""


class ListenerStatus(Struct, frozen=True, kw_only=True):
    """One listener of the configuration."""

    multiaddr: str
    """As it is configured."""
    transport: Literal["ip4", "ip6"]
    state: Literal["open", "off", "closed"]
    """`off`: its transport is switched off; `closed`: this machine does not have its address, or not its family."""
    bound: str | None = None
    """The real address and port of one that is open."""
    offloads: list[str] = []
    """What the kernel gave: any of `gso`, `gro`, `recvmmsg`."""
    drops: dict[str, int] = {}
    """What could not be sent, by reason."""


class ListenerList(Struct, frozen=True, kw_only=True):
    """All listeners."""

    schema: int = SCHEMA
    listeners: list[ListenerStatus]


class Prepared:
    """Listeners that are ready to take the place of those that there are.

    Attributes:
        opened: those that are new.
        leaving: those that are to be closed.
    """

    def __init__(self, sockets: dict[Multiaddr, UdpSocket], leaving: list[UdpSocket], mark: int) -> None:
        self.sockets = sockets
        self.opened: list[UdpSocket] = []
        self.leaving = leaving
        self.mark = mark
        self._old_marks = {socket: socket.mark for socket in sockets.values()}

    def open(self, address: Multiaddr) -> None:
        """Open one more, on the port of one that leaves, if need be."""
        is_ipv6, port = ":" in address.endpoint()[0], address.endpoint()[1]
        rivals = [each for each in self.leaving if each.is_ipv6 == is_ipv6 and each.address[1] == port]
        for rival in rivals:
            rival.share(True)
        socket = self.sockets[address] = _bound(address, shared=bool(rivals))
        self.opened.append(socket)

    def set_marks(self) -> None:
        """Mark what goes out by them."""
        for socket in self.sockets.values():
            socket.set_mark(self.mark)

    def abandon(self) -> None:
        """Leave everything as it was."""
        for socket in self.opened:
            socket.close()
        for socket, mark in self._old_marks.items():
            socket.set_mark(mark)
        for socket in self.leaving:
            socket.share(False)


class Underlay:
    """The listeners of a node.

    Args:
        network_around: the network of the overlay that an address lies in, if it does.

    Attributes:
        addresses: of this machine, worth telling others.
    """

    def __init__(self, network_around: Callable[[str], Network | None]) -> None:
        self._network_around = network_around
        self._sockets: dict[Multiaddr, UdpSocket] = {}
        self.addresses: list[str] = []

    @property
    def sockets(self) -> list[UdpSocket]:
        """One for each listener that is open."""
        return list(self._sockets.values())

    def open(self, listen: list[Multiaddr], mark: int = 0) -> None:
        """Open the first listeners; see `prepare`."""
        self.take(self.prepare(listen, mark))

    def prepare(self, listen: Iterable[Multiaddr], mark: int = 0) -> Prepared:
        """Open what is to be listened on and is not yet.

        Args:
            listen: UDP addresses without a peer: all that are to be listened on.
            mark: SO_MARK of all sockets; 0 for none.

        Returns:
            What `take` puts into effect, and `abandon` undoes.

        Raises:
            TransportError: one could not be opened, or none of the families that this machine has.
            PermissionError: the mark needs root or CAP_NET_ADMIN.
        """
        listen = list(listen)
        staying = {address: self._sockets[address] for address in listen if address in self._sockets}
        leaving = [socket for address, socket in self._sockets.items() if address not in staying]
        prepared = Prepared(staying, leaving, mark)
        try:
            missing = None
            for address in listen:
                try:
                    if address not in staying:
                        prepared.open(address)
                except TransportError as error:
                    missing = error
                    if not (isinstance(error.__cause__, OSError) and error.__cause__.errno in _FAMILY_MISSING):
                        raise
                    log.warning("%s", error)
            if missing is not None and not prepared.sockets:
                raise missing
            prepared.set_marks()
        except BaseException:
            prepared.abandon()
            raise
        return prepared

    def take(self, prepared: Prepared) -> None:
        """Use the listeners that were prepared; whoever calls closes those that leave."""
        self._sockets = prepared.sockets
        for socket in prepared.opened:
            socket.share(False)

    def close(self) -> None:
        """Close all sockets."""
        for socket in self.sockets:
            socket.close()
        self._sockets.clear()

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
        inside = self._network_around(host)
        if inside is not None:
            raise UsageError(f"{host} is inside {inside}, which leads to a peer: a tunnel there would carry itself")
        for socket in self.sockets:
            if socket.is_ipv6 == (":" in host):
                return Endpoint(socket, socket.address_of(host, port))
        raise UsageError(f"no listener of this node can reach {host}; see [peer] listen in weft.toml")

    def listeners(self) -> list[Listener]:
        """What is listened on."""
        return [
            Listener(multiaddr=str(Multiaddr.from_endpoint(*socket.address)), offloads=socket.offloads)
            for socket in self.sockets
        ]

    def describe(self, listen: list[Multiaddr], wanted: list[Multiaddr]) -> ListenerList:
        """What became of the listeners of the configuration.

        Args:
            listen: all of them.
            wanted: those among them whose transport is on.
        """
        return ListenerList(listeners=[self._describe(address, is_on=address in wanted) for address in listen])

    def _describe(self, address: Multiaddr, *, is_on: bool) -> ListenerStatus:
        socket = self._sockets.get(address)
        transport: Literal["ip4", "ip6"] = "ip6" if ":" in address.endpoint()[0] else "ip4"
        if socket is None:
            return ListenerStatus(multiaddr=str(address), transport=transport, state="closed" if is_on else "off")
        return ListenerStatus(
            multiaddr=str(address),
            transport=transport,
            state="open",
            bound=str(Multiaddr.from_endpoint(*socket.address)),
            offloads=socket.offloads,
            drops=dict(sorted(socket.drops.items())),
        )

    def multiaddrs(self, peer_id: PeerId) -> list[str]:
        """What others can dial: a listener on all addresses stands for each of this machine."""
        found = []
        for socket in self.sockets:
            host, port = socket.address
            hosts = [each for each in self.addresses if (":" in each) == socket.is_ipv6]
            found += [
                str(Multiaddr.from_endpoint(each, port, peer_id)) for each in (hosts if host in UNSPECIFIED else [host])
            ]
        return found


def _bound(address: Multiaddr, *, shared: bool) -> UdpSocket:
    host, port = address.endpoint()
    offloads = allowed_offloads()
    return UdpSocket(
        host,
        port,
        gso="gso" in offloads,
        gro="gro" in offloads,
        sendmsg="sendmsg" in offloads,
        recvmmsg="recvmmsg" in offloads,
        shared=shared,
    )
