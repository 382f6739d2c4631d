"""What a client asks that is about no socket: names, pings, what the node is like, what is counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING, Final, NamedTuple

from weft.netd import messages
from weft.netd.layout import NOWHERE
from weft.netd.messages import Code
from weft.netd.status import OF_FAILURE, RefusedError, Status
from weft.stack.endpoint import Endpoint

if TYPE_CHECKING:
    from weft.io.backend import Ping
    from weft.netd.network import Network
    from weft.netd.session import Session

MAX_LOOKUPS: Final = 32
MAX_PINGS: Final = 64
MAX_NAME_BYTES: Final = 253
MAX_ADDRESSES: Final = 256
"""Of one name."""
MAX_PING_MS: Final = 60_000

_LENGTHS: Final = {0: 0, 2: 4, 10: 16}


class Lookup(NamedTuple):
    """A name to look up; `length` is that of the addresses that are wanted, 0 for both."""

    request: int
    name: str
    length: int


class Questions:
    """Those of one client.

    Args:
        session: whose.
        network: the node.

    Attributes:
        lookups: names to look up; whoever does it takes them and calls `handle_resolved`.
    """

    def __init__(self, session: Session, network: Network) -> None:
        self.lookups: deque[Lookup] = deque()
        self._session = session
        self._network = network
        self._looking_up = 0
        self._pings: set[_Pinging] = set()

    def handle_resolved(self, lookup: Lookup, addresses: Sequence[bytes], status: Status = Status.OK) -> None:
        """A name was looked up, or could not be."""
        self._looking_up -= 1
        wanted = [each for each in addresses if not lookup.length or len(each) == lookup.length]
        if status is Status.OK and wanted:
            rows = tuple(messages.FoundAddress(Endpoint(each, 0)) for each in wanted[:MAX_ADDRESSES])
            self._session.answer(Code.DNS_RESOLVE, lookup.request, messages.Resolved(rows))
        else:
            self._session.fail(Code.DNS_RESOLVE, lookup.request, status or Status.NO_NAME)

    def end_pings(self) -> None:
        """Wait for none any more."""
        for ping in list(self._pings):
            ping.end(Status.ABORTED)

    def resolve(self, request: int, asked: messages.Resolve) -> None:
        """Look up a name."""
        name = asked.name
        if asked.family not in _LENGTHS or not 0 < len(name) <= MAX_NAME_BYTES or not name.isascii() or b"\0" in name:
            raise RefusedError(Status.INVALID)
        if self._looking_up >= MAX_LOOKUPS:
            raise RefusedError(Status.NO_RESOURCE)
        self._looking_up += 1
        self.lookups.append(Lookup(request, name.decode("ascii"), _LENGTHS[asked.family]))

    def ping(self, request: int, asked: messages.Ping) -> None:
        """Send an echo request."""
        address = asked.destination.address
        if not address or not 0 < asked.timeout_ms <= MAX_PING_MS:
            raise RefusedError(Status.INVALID)
        backend = self._session.backend()
        if len(self._pings) >= MAX_PINGS:
            raise RefusedError(Status.NO_RESOURCE)
        ping = backend.ping(address, asked.timeout_ms / 1000)
        self._pings.add(_Pinging(self._session, self._pings, request, ping))

    def info(self, request: int, asked: messages.Nothing) -> messages.Info:
        """What the node is like."""
        interface = self._network.interface()
        rows = [] if interface.address is None else [ip_interface(ip_address(interface.address))]
        rows += map(ip_interface, interface.addresses)
        return messages.Info(
            mac=bytes(6),
            reserved=0,
            mtu=interface.mtu or 0,
            gateway=NOWHERE,
            dns=NOWHERE,
            addresses=tuple(messages.OwnAddress(Endpoint(row.packed, 0), row.network.prefixlen) for row in rows),
        )

    def stats(self, request: int, asked: messages.Nothing) -> messages.Stats:
        """What is counted."""
        counts = self._session.backend().counts()
        return messages.Stats(
            tx_packets=counts.sent_packets,
            rx_packets=counts.received_packets,
            tx_bytes=counts.sent_bytes,
            rx_bytes=counts.received_bytes,
            drops=counts.drops,
            connections=counts.connections,
            listeners=counts.listeners,
            datagram_sockets=counts.datagrams,
            own_sockets=len(self._session.sockets.handles),
            waiting=self._session.waiting,
        )


class _Pinging:
    """A PING that waits."""

    def __init__(self, session: Session, pings: set[_Pinging], request: int, ping: Ping) -> None:
        self._session = session
        self._pings = pings
        self._request = request
        self._ping = ping
        ping.user = self

    def handle_event(self) -> None:
        """The reply is there, or there will be none."""
        ping = self._ping
        if ping.reply_ns is not None:
            self.end(Status.OK, min(ping.reply_ns // 1000, 0xFFFFFFFF))
        elif ping.failure is not None:
            self.end(OF_FAILURE[ping.failure])
        self._session.told()

    def end(self, status: Status, rtt_us: int = 0) -> None:
        """Answer it."""
        self._ping.user = None
        self._pings.discard(self)
        if status is Status.OK:
            self._session.answer(Code.PING, self._request, messages.Pong(rtt_us))
        else:
            self._session.fail(Code.PING, self._request, status)
