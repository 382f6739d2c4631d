"""One peer, as the engine sees it: its machines side by side, and what the datapath reads of them.

The machines know nothing of each other; this is where they meet. `burst_limit` is derived from them whenever one of
them says something new, so that the fast path reads a number.
"""

from __future__ import annotations

import socket as socket_module
from collections import Counter, deque
from collections.abc import Hashable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from weft.burst.header import DATA_OVERHEAD_BYTES, MAX_TOTAL_BYTES, PIECE_HEADER_BYTES
from weft.burst.join import Joiner
from weft.burst.size import LossMeter
from weft.engine.endpoints import Endpoints
from weft.identity import PeerId
from weft.io.recvmmsg import Address, by_any_interface
from weft.io.store import Standing
from weft.io.udp import UdpSocket
from weft.mesh.notices import BURST_VERSION, Notices
from weft.mesh.probe import Prober
from weft.multiaddr import Multiaddr
from weft.noise.keypair import Keypair
from weft.noise.tunnel import Tunnel
from weft.paths.path import IP_UDP_BYTES, Path

Network = IPv4Network | IPv6Network

MAX_QUEUED_PACKETS = 64
MAX_BURST_PACKED_PIECES = 4
"""Small packets that share a burst fill at most so many pieces."""
BAD_TAGS_BEFORE_REFUSAL = 3
REFUSAL_NS = 10_000_000_000
LAST_REFUSAL_NS = 600_000_000_000


class _Where(NamedTuple):
    socket: UdpSocket
    address: Address


class Endpoint(_Where):
    """Where datagrams go: a socket of ours and an address behind it.

    Attributes:
        local: our address that they leave from, as `UdpSocket.send` takes it; where it is empty the system chooses.
        arrival: our address and interface that something came to from there, as `Received` has it; empty if nothing
            did. Neither makes another endpoint of it.
    """

    local: bytes = b""
    arrival: bytes = b""

    @classmethod
    def heard(cls, socket: UdpSocket, address: Address, arrival: bytes) -> Endpoint:
        """Where something came from; what answers it leaves from our address that it came to."""
        endpoint = cls(socket, address)
        if arrival:
            endpoint.arrival = arrival
            endpoint.local = by_any_interface(arrival)
        return endpoint

    @property
    def multiaddr(self) -> Multiaddr:
        """The address as it is stored and shown, without the peer; one of a single link with its zone."""
        host, port, *rest = self.address
        zone = rest[1] if rest else 0
        return Multiaddr.from_endpoint(f"{host}%{_name_of(zone)}" if zone else host, port)

    def __str__(self) -> str:
        return self.multiaddr.host_and_port


class Queued(NamedTuple):
    """A packet that waits for a session."""

    packet: bytes
    kind: int
    segment: int


class Peer:
    """A weft node or a stock WireGuard device.

    Attributes:
        address: of a weft node, which nothing else can have; empty for a stock device.
        tunnel: handshakes, keypairs, timers.
        path: endpoint, path MTU, burst size.
        joiner: its unfinished bursts.
        meter: what was lost on the way to us.
        notices: None for a stock device.
        prober: None for a stock device.
        burst_limit: the largest total of a burst that may go there now; 0 means type 4 messages only.
        takes_udp: whether bursts may hold UDP super-packets.
        receiving: the keypair that the gaps are counted in.
        queue: packets that wait for a session, bounded.
        handshakes: how many were completed.
        in_use: whether data was sent since the path MTU was last looked at.
        standing: what it is to this node; the table is in contacts.py.
        allowed: the networks that it may use as its source, its own address first if it is a weft node.
        endpoints: where it may be: what a person named, and what it proved.
        preshared_key: of a stock device that has one.
        keepalive_s: what a person set, 0 being none; None is what the node gives peers of that kind.
        handshake_wall_ns: when its last session came up, ns since 1970; None before the first.
        proving: the ping that proves an endpoint, and that endpoint.
        handshake_endpoint: where the last handshake message went; a session that comes up proves it.
        overflows: what the socket towards it had dropped when the last report was made.
        mtu_probe: the ping that probes the path MTU, and the IP packet size that it has.
    """

    __slots__ = (
        "_bad_tag_times",
        "_refusal_for",
        "address",
        "allowed",
        "armed_at",
        "burst_limit",
        "drops",
        "endpoints",
        "handshake_endpoint",
        "handshake_wall_ns",
        "handshakes",
        "in_use",
        "joiner",
        "keepalive_s",
        "meter",
        "mtu_probe",
        "name",
        "notices",
        "overflows",
        "path",
        "peer_id",
        "preshared_key",
        "prober",
        "proving",
        "queue",
        "receiving",
        "refusing_until",
        "report_at",
        "report_due",
        "standing",
        "takes_udp",
        "tunnel",
    )

    def __init__(
        self,
        tunnel: Tunnel,
        path: Path,
        joiner: Joiner,
        meter: LossMeter,
        *,
        notices: Notices | None,
        prober: Prober | None,
        allowed: tuple[Network, ...],
        name: str | None = None,
        peer_id: PeerId | None = None,
        standing: Standing = "stranger",
    ) -> None:
        self.tunnel = tunnel
        self.path = path
        self.joiner = joiner
        self.meter = meter
        self.notices = notices
        self.prober = prober
        self.allowed = allowed
        self.address = allowed[0].network_address.packed if notices is not None else b""
        self.name = name
        self.peer_id = peer_id
        self.standing: Standing = standing
        self.burst_limit = 0
        self.takes_udp = False
        self.receiving: Keypair | None = None
        self.queue: deque[Queued] = deque(maxlen=MAX_QUEUED_PACKETS)
        self.in_use = False
        self.handshakes = 0
        self.overflows = 0
        self.report_at = 0
        self.report_due = False
        self.armed_at: int | None = None
        self.endpoints = Endpoints()
        self.preshared_key: bytes | None = None
        self.keepalive_s: int | None = None
        self.handshake_wall_ns: int | None = None
        self.proving: tuple[bytes, Endpoint] | None = None
        self.handshake_endpoint: Hashable | None = None
        self.mtu_probe: tuple[bytes, int] | None = None
        self.refusing_until = 0
        self.drops: Counter[str] = Counter()
        self._bad_tag_times: deque[int] = deque(maxlen=BAD_TAGS_BEFORE_REFUSAL)
        self._refusal_for = REFUSAL_NS

    @property
    def is_wanted(self) -> bool:
        """Whether this node calls it."""
        return self.standing == "wanted"

    @property
    def is_weft(self) -> bool:
        """Whether it may speak more than WireGuard."""
        return self.notices is not None

    @property
    def is_known(self) -> bool:
        """Whether a notice proved that it is a weft node."""
        return self.notices is not None and self.notices.their_hello is not None

    def refresh(self) -> None:
        """Derive `burst_limit` and `takes_udp` anew: a notice came, or the endpoint was proven or changed."""
        hello = self.notices.their_hello if self.notices is not None else None
        if hello is None or BURST_VERSION not in hello.versions or not self.path.is_proven:
            self.burst_limit = 0
        else:
            self.burst_limit = min(hello.burst, MAX_TOTAL_BYTES)
            self.takes_udp = "uso" in hello.capabilities

    @property
    def piece(self) -> int:
        """Ciphertext bytes of each piece of a burst."""
        return self.path.datagram_bytes - PIECE_HEADER_BYTES

    @property
    def packet_room(self) -> int:
        """The largest packet that one type 4 message carries there, bytes.

        While bursts take what doesn't fit, the path MTU that was found; else what the local link allows, as WireGuard.
        """
        mtu = self.path.mtu
        return (mtu.mtu if self.burst_limit else mtu.ceiling) - IP_UDP_BYTES[self.path.is_ipv6] - DATA_OVERHEAD_BYTES

    def handle_bad_tag(self, now: int) -> bool:
        """A burst did not open; True at the third in a second: then the peer shall send type 4 messages only."""
        self.meter.bad_tags += 1
        times = self._bad_tag_times
        times.append(now)
        if len(times) < BAD_TAGS_BEFORE_REFUSAL or now - times[0] > 1_000_000_000 or now < self.refusing_until:
            return False
        self.refusing_until = now + self._refusal_for
        self._refusal_for = min(2 * self._refusal_for, LAST_REFUSAL_NS)
        return True

    def next_timer(self) -> int | None:
        """When `Session.handle_timer` has something to do for this peer, monotonic ns."""
        times = [self.tunnel.next_timer(), self.joiner.next_timer(), self.path.size.next_timer()]
        if self.notices is not None and self.prober is not None:
            times += [self.notices.next_timer(), self.prober.next_timer(), self.path.mtu.next_timer()]
        if self.report_due:
            times.append(self.report_at)
        if self.refusing_until:
            times.append(self.refusing_until)
        return min((at for at in times if at is not None), default=None)


def _name_of(zone: int) -> str:
    """The interface with that index; where it is gone, or not ASCII, the index itself, which systems take as well."""
    name = ""
    with suppress(OSError):
        name = socket_module.if_indextoname(zone)
    return name if name.isascii() and name else str(zone)
