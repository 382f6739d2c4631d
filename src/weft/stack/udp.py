"""UDP sockets of the host.

| bound to | takes |
|---|---|
| 16 zero bytes | datagrams of both versions of IP; those of IPv4 show a source of 4 bytes |
| 4 zero bytes | datagrams of IPv4 to any address of ours |
| an address | datagrams to that address; it may be a multicast group or a broadcast address |

A socket with a remote endpoint takes datagrams of that one only. Of several that a datagram would suit, the most
particular gets it: one with the remote, then with the address, then of the version; of equals that share a port, the
one that was opened first. Multicast goes to all sockets that joined the group, broadcast to all that suit.

A super-packet is cut into its datagrams when it comes; datagrams of one size that are sent in a row leave as one
(`train`). Longer ones than the way takes are fragmented.

Source: RFC 768; RFC 1122 section 4.1; RFC 8200 section 8.1; RFC 8085 section 5 (errors).
Not done here: checksums (`arrivals`), UDP-Lite.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Final

from weft.errors import UsageError
from weft.packet.checksum import Buffer
from weft.packet.protocols import UDP
from weft.packet.udp import HEADER_BYTES
from weft.stack.addresses import ANY_V4, ANY_V6, is_any, is_multicast
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.header import DEFAULT_HOP_LIMIT
from weft.stack.icmp import Icmp
from weft.stack.icmp_error import PathError
from weft.stack.ip import Ip
from weft.stack.ports import pick_port
from weft.stack.socket import Socket
from weft.stack.train import UDP_HEADER, Flow, Train
from weft.stack.udp_socket import UdpSocket

MAX_SOCKETS: Final = 16_384
MAX_DATAGRAM_BYTES: Final = {4: 65_507, 16: 65_527}
"""Payload, by bytes of an address."""
MULTICAST_HOP_LIMIT: Final = 1

_PORTS: Final = Struct("!HH")


class Udp:
    """All UDP sockets of a host."""

    def __init__(self, ip: Ip, icmp: Icmp, random_bytes: Callable[[int], bytes], events: deque[Socket]) -> None:
        """Begin without sockets.

        Args:
            ip: sends.
            icmp: refuses what is for nobody.
            random_bytes: gives that many random bytes.
            events: of the host.
        """
        self._ip = ip
        self._icmp = icmp
        self._drops = ip.drops
        self._random_bytes = random_bytes
        self._events = events
        self._by_port: dict[int, list[UdpSocket]] = {}
        self._count = 0

    @property
    def sockets(self) -> list[UdpSocket]:
        """All of them."""
        return [socket for sockets in self._by_port.values() for socket in sockets]

    def open(
        self,
        local: Endpoint | None,
        remote: Endpoint | None = None,
        *,
        reuse: bool = False,
        broadcast: bool = False,
    ) -> UdpSocket:
        """Open a socket.

        Args:
            local: where it receives; None for any address and port. Port 0 is picked.
            remote: the only one it talks to; its way decides over an address that `local` leaves open.
            reuse: share the port with others that do so too.
            broadcast: whether it may send to broadcast addresses.

        Raises:
            StackError: IN_USE, NOT_OURS, NO_ROUTE, NO_PORTS, NO_ROOM; PROHIBITED for a broadcast remote.
        """
        if self._count >= MAX_SOCKETS:
            raise StackError(Failure.NO_ROOM, f"{MAX_SOCKETS} sockets")
        if local is None:
            local = Endpoint(ANY_V4 if remote is not None and remote.is_ipv4 else ANY_V6, 0)
        if remote is not None:
            local = self._local_towards(local, remote, broadcast=broadcast)
        elif not is_any(local.address) and not self._may_bind(local.address):
            raise StackError(Failure.NOT_OURS, str(local))
        port = local.port or pick_port(lambda port: self._is_free(local.address, port, reuse=reuse), self._random_bytes)
        if not self._is_free(local.address, port, reuse=reuse):
            raise StackError(Failure.IN_USE, str(local))
        socket = UdpSocket(self, self._events, Endpoint(local.address, port), remote, reuse=reuse, broadcast=broadcast)
        self._by_port.setdefault(port, []).append(socket)
        self._count += 1
        return socket

    def receive(
        self, packet: memoryview, start: int, source: bytes, destination: bytes, segment: int, now: int
    ) -> None:
        """Take a datagram, or a super-packet of them.

        Args:
            packet: a whole IP packet that ends where UDP says; its checksums are right.
            start: of the UDP header.
            source: who sent it.
            destination: an address of ours, a multicast group or a broadcast address.
            segment: payload bytes of each datagram but the last, of a super-packet.
            now: monotonic ns.
        """
        source_port, port = _PORTS.unpack_from(packet, start)
        sockets = self._by_port.get(port)
        remote = Endpoint(source, source_port)
        is_local = self._ip.addresses.is_local(destination)
        if sockets is None:
            takers = []
        elif is_local:
            takers = _most_particular(sockets, destination, remote)
        else:
            takers = [socket for socket in sockets if socket.suits(destination, remote) and socket.hears(destination)]
        if not takers:
            self._drops["udp: no such port"] += 1
            if is_local:
                self._icmp.refuse_port(packet, start, now)
            return
        first, end = start + HEADER_BYTES, len(packet)
        for at in range(first, end, segment) if segment else (first,):
            data = bytes(packet[at : min(at + segment, end) if segment else end])
            for socket in takers:
                if not socket.put(data, remote):
                    self._drops["udp: receive queue full"] += 1

    def has_socket(self, local: Endpoint, remote: Endpoint) -> bool:
        """Whether there is a socket that may have sent a datagram which an ICMP error quotes.

        Args:
            local: where the datagram was sent from.
            remote: where to.
        """
        return bool(_most_particular(self._by_port.get(local.port, []), local.address, remote))

    def receive_error(self, error: PathError, local: Endpoint, remote: Endpoint, now: int) -> None:
        """An ICMP error quotes a datagram of a socket; see `has_socket`.

        Args:
            error: what it says.
            local: where the datagram was sent from.
            remote: where to.
            now: monotonic ns.
        """
        for socket in _most_particular(self._by_port.get(local.port, []), local.address, remote):
            socket.put_failure(error.failure, remote)

    def send(self, socket: UdpSocket, data: Buffer, remote: Endpoint) -> None:
        """Send a datagram; `UdpSocket.send` is how."""
        if len(data) > MAX_DATAGRAM_BYTES[len(remote.address)]:
            raise StackError(Failure.TOO_LONG)
        if not 0 < remote.port <= 0xFFFF:
            raise UsageError(f"no port to send to: {remote.port}")
        flow, mtu = self._flow(socket, remote)
        ip = self._ip
        data = bytes(data)
        length = len(data) + HEADER_BYTES + (40 if len(flow.source) == 16 else 20)
        tail = ip.tail()
        if isinstance(tail, Train) and tail.takes(flow, len(data)) and length <= mtu and ip.has_room(len(data)):
            tail.add(data)
            ip.lengthen_tail(len(data))
        elif length <= mtu:
            ip.enqueue(Train(flow, data), length)
        else:
            header = UDP_HEADER.pack(flow.source_port, flow.destination_port, len(data) + HEADER_BYTES, 0)
            ip.send(flow.source, flow.destination, UDP, [header, data], hop_limit=flow.hop_limit)

    def join(self, group: bytes) -> None:
        """A socket joins a multicast group."""
        if not is_multicast(group):
            raise UsageError("not a multicast group")
        self._ip.groups.join(group)

    def leave(self, group: bytes) -> None:
        """A socket leaves a multicast group."""
        self._ip.groups.leave(group)

    def close(self, socket: UdpSocket) -> None:
        """A socket is closed."""
        sockets = self._by_port[socket.local.port]
        sockets.remove(socket)
        if not sockets:
            del self._by_port[socket.local.port]
        self._count -= 1

    def _flow(self, socket: UdpSocket, remote: Endpoint) -> tuple[Flow, int]:
        """From where to where, the same object as last time if nothing has changed; and the MTU."""
        source = socket.local.address
        if source == ANY_V4 and not remote.is_ipv4:
            raise StackError(Failure.NO_ROUTE, f"from {socket.local}")
        path = self._ip.path(remote.address, None if self._ip.addresses.is_many(source) else source)
        flow = socket.flow
        if (
            flow is None
            or flow.destination != remote.address
            or flow.destination_port != remote.port
            or flow.source != path.source
        ):
            if not socket.broadcast and remote.address in self._ip.addresses.broadcasts:
                raise StackError(Failure.PROHIBITED, "broadcast")
            hop_limit = MULTICAST_HOP_LIMIT if is_multicast(remote.address) else DEFAULT_HOP_LIMIT
            flow = socket.flow = Flow(path.source, socket.local.port, remote.address, remote.port, hop_limit)
        return flow, path.mtu

    def _local_towards(self, local: Endpoint, remote: Endpoint, *, broadcast: bool) -> Endpoint:
        """The local endpoint of a socket with a remote one."""
        if not broadcast and remote.address in self._ip.addresses.broadcasts:
            raise StackError(Failure.PROHIBITED, "broadcast")
        if local.address == ANY_V4 and not remote.is_ipv4:
            raise StackError(Failure.NO_ROUTE, f"from {local}")
        path = self._ip.path(remote.address, local.address)
        return Endpoint(path.source, local.port)

    def _may_bind(self, address: bytes) -> bool:
        addresses = self._ip.addresses
        return addresses.is_local(address) or addresses.is_many(address)

    def _is_free(self, address: bytes, port: int, *, reuse: bool) -> bool:
        return not any(
            _overlap(address, other.local.address) and not (reuse and other.reuse)
            for other in self._by_port.get(port, ())
        )


def _overlap(one: bytes, other: bytes) -> bool:
    """Whether there are datagrams for both of two bound addresses."""
    if ANY_V6 in {one, other} or one == other:
        return True
    return len(one) == len(other) and (is_any(one) or is_any(other))


def _most_particular(sockets: list[UdpSocket], destination: bytes, remote: Endpoint) -> list[UdpSocket]:
    """The one socket that a datagram to one host is for, or none."""
    best, best_rank = None, 0
    for socket in sockets:
        if socket.suits(destination, remote) and socket.rank > best_rank:
            best, best_rank = socket, socket.rank
    return [] if best is None else [best]
