"""The underlay of a node: the sockets that it listens on, and which of them reaches an address.

Listeners change in two steps, so that all of a change happens or nothing: `prepare` opens what is new beside what there
is, and may fail; `take` puts it in its place, and can't.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable
from socket import socket as Socket  # noqa: N812 - `socket` is one of ours here
from typing import Literal

from weft.engine import dial
from weft.engine.environment import allowed_offloads
from weft.engine.listeners import ListenerList, ListenerStatus
from weft.engine.peer import Endpoint, Network
from weft.engine.status import Listener
from weft.errors import TransportError, UsageError, WeftError
from weft.identity import PeerId
from weft.io.routes import Route, interface_index, route_to
from weft.io.udp import UdpSocket
from weft.multiaddr import Multiaddr

log = logging.getLogger("weft.engine")

UNSPECIFIED = {"0.0.0.0", "::"}
LOOPBACK = ["127.0.0.1", "::1"]

_FAMILY_MISSING = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""A machine without IPv6 is no reason not to start."""


class Prepared:
    """Listeners that are ready to take the place of those that there are.

    Attributes:
        opened: those that are new.
        leaving: those that are to be closed.
    """

    def __init__(
        self, sockets: dict[Multiaddr, UdpSocket], leaving: list[UdpSocket], mark: int, passed: dict[Multiaddr, Socket]
    ) -> None:
        self.sockets = sockets
        self._passed = passed
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
        socket = self.sockets[address] = _bound(address, shared=bool(rivals), passed=self._passed.pop(address, None))
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
        passed: UDP sockets that are bound; each serves the listener of its address.

    Attributes:
        addresses: of this machine, worth telling others.
        overlay: name of the node's own interface, or that it had last.
    """

    def __init__(self, network_around: Callable[[str], Network | None], passed: Iterable[Socket] = ()) -> None:
        self._network_around = network_around
        self._passed = {Multiaddr.from_endpoint(*socket.getsockname()[:2]): socket for socket in passed}
        self._sockets: dict[Multiaddr, UdpSocket] = {}
        self.addresses: list[str] = []
        self.overlay = ""

    @property
    def sockets(self) -> list[UdpSocket]:
        """One for each listener that is open."""
        return list(self._sockets.values())

    @property
    def listening(self) -> set[Multiaddr]:
        """The listeners that are open, as they are configured."""
        return set(self._sockets)

    def open(self, listen: list[Multiaddr], mark: int = 0) -> None:
        """Open the first listeners; see `prepare`."""
        try:
            self.take(self.prepare(listen, mark))
        except TransportError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
                raise TransportError(f"{error}; {_other_ports(listen)}") from error
            raise
        for address, socket in self._passed.items():
            log.warning("a socket was passed for %s, where peer.listen has no listener; it is not used", address)
            socket.close()
        self._passed.clear()

    def prepare(self, listen: Iterable[Multiaddr], mark: int = 0, must_open: Multiaddr | None = None) -> Prepared:
        """Open what is to be listened on and is not yet.

        Args:
            listen: UDP addresses without a peer: all that are to be listened on.
            mark: SO_MARK of all sockets; 0 for none.
            must_open: one that has to be opened, even if this machine has no such address now.

        Returns:
            What `take` puts into effect, and `abandon` undoes.

        Raises:
            TransportError: one could not be opened, or none of the families that this machine has.
            PermissionError: the mark needs root or CAP_NET_ADMIN.
        """
        listen = list(listen)
        staying = {address: self._sockets[address] for address in listen if address in self._sockets}
        leaving = [socket for address, socket in self._sockets.items() if address not in staying]
        prepared = Prepared(staying, leaving, mark, self._passed)
        try:
            missing = None
            for address in listen:
                try:
                    if address not in staying:
                        prepared.open(address)
                except TransportError as error:
                    missing = error
                    is_absent = isinstance(error.__cause__, OSError) and error.__cause__.errno in _FAMILY_MISSING
                    if not is_absent or address == must_open:
                        raise
                    log.warning("%s", error)
            if missing is not None and not prepared.sockets:
                raise missing
            prepared.set_marks()
            prepared.sockets = {each: prepared.sockets[each] for each in listen if each in prepared.sockets}
        except BaseException:
            prepared.abandon()
            raise
        return prepared

    def take(self, prepared: Prepared) -> None:
        """Use the listeners that were prepared; whoever calls closes those that leave."""
        # What was opened meanwhile, because its address had come, is not lost.
        self._sockets = prepared.sockets | {
            address: socket for address, socket in self._sockets.items() if socket not in prepared.leaving
        }
        for socket in prepared.opened:
            socket.share(False)

    def close(self) -> None:
        """Close all sockets."""
        for socket in self.sockets:
            socket.close()
        self._sockets.clear()

    async def find(self, address: Multiaddr) -> Endpoint:
        """The first of what `find_all` finds; raises as that does."""
        return (await self.find_all(address))[0]

    async def find_all(self, address: Multiaddr) -> list[Endpoint]:
        """The sockets that reach an address, and the address as those sockets take it.

        Args:
            address: if it has a name, that is resolved anew, and may lead to several endpoints.

        Returns:
            One at least, the best first.

        Raises:
            PeerError: the name has no address.
            UsageError: no listener reaches it, or it is inside the overlay.
            TransportError: it is of a link that this machine does not have.
        """
        failure: WeftError | None = None
        endpoints = []
        for found in await dial.resolve(address, [socket.is_ipv6 for socket in self.sockets]):
            try:
                endpoints.append(self._endpoint(found))
            except WeftError as error:
                failure = failure or error
        if failure is not None and not endpoints:
            raise failure
        return endpoints

    def _endpoint(self, found: Multiaddr) -> Endpoint:
        dial.check_underlay(found)
        host, port = found.endpoint()
        inside = self._network_around(host)
        if inside is not None:
            raise UsageError(f"{host} is inside {inside}, which is of the network itself: a tunnel would carry itself")
        for socket in self.sockets:
            if socket.is_ipv6 == (":" in host):
                endpoint = Endpoint(socket, socket.address_of(host, port))
                if self.leads_inward(endpoint):
                    raise UsageError(
                        f"the route to {host} leads into {self.overlay}: the tunnel would carry itself; give {host} a "
                        "route of its own, or see fwmark in weft.toml"
                    )
                return endpoint
        raise UsageError(f"no listener of this node can reach {host}; see [peer] listen in weft.toml")

    @staticmethod
    def route_to(endpoint: Endpoint) -> Route | None:
        """The way of what is sent to an endpoint, as routes are now."""
        return route_to(endpoint.multiaddr.endpoint()[0], endpoint.socket.mark)

    def leads_inward(self, endpoint: Endpoint) -> bool:
        """Whether what is sent to an endpoint would come back by the node's own interface."""
        overlay = interface_index(self.overlay)
        route = self.route_to(endpoint) if overlay else None
        return route is not None and route.ifindex == overlay

    def has_route(self, endpoint: Endpoint) -> bool:
        """Whether what is sent to an endpoint leaves this machine."""
        route = self.route_to(endpoint)
        return route is not None and route.is_running

    def listeners(self) -> list[Listener]:
        """What is listened on."""
        return [
            Listener(multiaddr=str(Multiaddr.from_endpoint(*socket.address)), offloads=socket.offloads)
            for socket in self.sockets
        ]

    def is_open(self, address: Multiaddr) -> bool:
        """Whether there is a listener of that configured address."""
        return address in self._sockets

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

    def _is_outside(self, host: str) -> bool:
        return self._network_around(host) is None

    def multiaddrs(self, peer_id: PeerId, *, loopback: bool = False) -> list[str]:
        """What others can dial: a listener on all addresses stands for each of this machine.

        Args:
            peer_id: of this node.
            loopback: whether it stands for the address of the loopback interface where this machine has no other.
        """
        found = []
        addresses = self.addresses or (LOOPBACK if loopback else [])
        for socket in self.sockets:
            host, port = socket.address
            hosts = [each for each in addresses if (":" in each) == socket.is_ipv6 and self._is_outside(each)]
            found += [
                str(Multiaddr.from_endpoint(each, port, peer_id)) for each in (hosts if host in UNSPECIFIED else [host])
            ]
        return found


def _other_ports(listen: list[Multiaddr]) -> str:
    """What to do if another node of this machine has the ports."""
    others = (Multiaddr.from_endpoint(host, port % 0xFFFF + 1) for host, port in (each.endpoint() for each in listen))
    return f"choose another port: weft --dir DIR config set peer.listen {','.join(map(str, others))}"


def _bound(address: Multiaddr, *, shared: bool, passed: Socket | None) -> UdpSocket:
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
        passed=passed,
    )
