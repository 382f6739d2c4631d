"""The underlay of a node: the sockets that it listens on, and which of them reaches an address."""

from __future__ import annotations

import errno
import logging

from weft.engine import dial
from weft.engine.environment import allowed_offloads
from weft.engine.peer import Endpoint
from weft.engine.status import Listener
from weft.errors import TransportError, UsageError
from weft.identity import PeerId
from weft.io.udp import UdpSocket
from weft.multiaddr import Multiaddr

log = logging.getLogger("weft.engine")

UNSPECIFIED = {"0.0.0.0", "::"}

_FAMILY_MISSING = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""A machine without IPv6 is no reason not to start."""


class Underlay:
    """The listeners of a node.

    Attributes:
        sockets: one for each listener.
        addresses: of this machine, worth telling others.
    """

    def __init__(self) -> None:
        self.sockets: list[UdpSocket] = []
        self.addresses: list[str] = []

    def open(self, listen: list[Multiaddr]) -> None:
        """Open the listeners.

        Args:
            listen: UDP addresses without a peer.

        Raises:
            TransportError: one could not be opened, or none of the families that this machine has; none is open then.
        """
        failures: list[TransportError] = []
        for address in listen:
            try:
                self.sockets.append(_bound(address))
            except TransportError as error:
                failures.append(error)
                if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FAMILY_MISSING:
                    log.warning("%s", error)
                    continue
                break
        else:
            failures = failures if not self.sockets else []
        if failures:
            self.close()
            raise failures[-1]

    def close(self) -> None:
        """Close all sockets."""
        for socket in self.sockets:
            socket.close()
        self.sockets.clear()

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

    def listeners(self) -> list[Listener]:
        """What is listened on."""
        return [
            Listener(multiaddr=str(Multiaddr.from_endpoint(*socket.address)), offloads=socket.offloads)
            for socket in self.sockets
        ]

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


def _bound(address: Multiaddr) -> UdpSocket:
    host, port = address.endpoint()
    offloads = allowed_offloads()
    return UdpSocket(
        host,
        port,
        gso="gso" in offloads,
        gro="gro" in offloads,
        sendmsg="sendmsg" in offloads,
        recvmmsg="recvmmsg" in offloads,
    )
