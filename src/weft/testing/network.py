"""A network of hosts in memory: addresses, ports, and paths with faults, in virtual time.

For machines that talk to many endpoints. The same seed gives the same run, datagram by datagram; what travelled is in
the trace. UDP is all there is: a datagram is sent from a port of a host to an endpoint, and arrives or does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from ipaddress import ip_address
from random import Random
from typing import Any, NamedTuple, Protocol

from weft.errors import UsageError
from weft.testing.clock import MS, VirtualClock
from weft.testing.driver import STEPS, WITHIN_NS, Driver, EventT, Machine, drive
from weft.testing.faults import FaultInjector, Faults
from weft.testing.trace import ENTRIES, Entry, Fate, Trace

HEADER_BYTES = {4: 28, 6: 48}
"""IP and UDP headers by IP version: they count for MTU and rate (RFC 791, RFC 8200, RFC 768)."""
FIRST_DYNAMIC_PORT = 49_152
"""RFC 6335 section 6."""


class Endpoint(NamedTuple):
    """An address and a port; equal to a plain tuple of the two.

    Attributes:
        address: IPv4 or IPv6 address as text.
        port: UDP port.
    """

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Datagram(NamedTuple):
    """Bytes with the endpoint that they came from, or that they go to.

    Attributes:
        data: the payload.
        endpoint: source of a datagram that was received, destination of one that is to be sent.
    """

    data: bytes
    endpoint: Endpoint


class Translator(Protocol):
    """What stands between hosts and the network and rewrites endpoints, as a NAT does.

    Hosts that are given the same translator reach each other directly; everybody else meets them through it.
    """

    @property
    def name(self) -> str:
        """For the trace and for `Network.set_faults`."""

    @property
    def addresses(self) -> Sequence[str]:
        """Its addresses on the network's side."""

    def outbound(self, source: Endpoint, destination: Endpoint, now: int) -> Endpoint | None:
        """Return the source that the network shall see, or None to drop the datagram."""

    def inbound(self, source: Endpoint, destination: Endpoint, now: int) -> Endpoint | None:
        """Return the endpoint inside that gets the datagram, or None to drop it."""


class Socket:
    """A UDP port of a simulated host.

    Attributes:
        host: where it is bound.
        port: its number.
        received: datagrams that came and that nobody took yet, if no callback takes them; the newest `ENTRIES`.
    """

    def __init__(self, host: Host, port: int) -> None:
        self.host = host
        self.port = port
        self.received: deque[Datagram] = deque(maxlen=ENTRIES)
        self.on_datagram: Callable[[Datagram], object] = self.received.append
        """Takes each datagram that arrives; assign to it instead of reading `received`."""
        self.on_too_big: Callable[[Endpoint, int], object] = lambda destination, mtu_bytes: None
        """Learns of datagrams larger than the path's MTU, if the network reports those: destination and MTU."""

    def send(self, data: bytes, destination: tuple[str, int]) -> None:
        """Send a datagram from the host's first address of the destination's family."""
        self.host.network._send(self, bytes(data), Endpoint(_canonical(destination[0]), destination[1]))

    def drive(self, machine: Machine[Datagram, EventT]) -> Driver[Datagram, EventT]:
        """Put a machine behind this port; what the driver collects is in its `events`."""
        driver: Driver[Datagram, EventT] = Driver(
            machine, self.host.network.clock, lambda datagram: self.send(datagram.data, datagram.endpoint)
        )
        self.on_datagram = driver.receive
        self.host.network._drivers.append(driver)
        return driver

    def close(self) -> None:
        """Free the port; what arrives for it afterwards is dropped."""
        self.host._sockets.pop(self.port, None)


class Host:
    """A machine of the simulated network; made by `Network.host`.

    Attributes:
        network: where it lives.
        name: how the trace calls it.
        translator: what stands between it and the network, or None.
    """

    def __init__(self, network: Network, name: str, translator: Translator | None) -> None:
        self.network = network
        self.name = name
        self.translator = translator
        self._addresses: tuple[str, ...] = ()
        self._sockets: dict[int, Socket] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses, in the order of preference."""
        return self._addresses

    def move_to(self, *addresses: str) -> None:
        """Give up all addresses and take others, as a laptop does that changes its network; ports stay bound.

        Raises:
            UsageError: one of them is taken.
        """
        inside = self.network._inside.setdefault(self.translator, {})
        wanted = tuple(_canonical(address) for address in addresses)
        taken = [address for address in wanted if inside.get(address, self) is not self]
        if taken:
            raise UsageError(f"{taken[0]} is the address of {inside[taken[0]].name}")
        for address in self._addresses:
            del inside[address]
        self._addresses = wanted
        inside.update(dict.fromkeys(wanted, self))

    def bind(self, port: int = 0) -> Socket:
        """Open a port; 0 takes a free one.

        Raises:
            UsageError: the port is taken.
        """
        if not port:
            port = next(port for port in range(FIRST_DYNAMIC_PORT, 65_536) if port not in self._sockets)
        if port in self._sockets:
            raise UsageError(f"port {port} of {self.name} is taken")
        self._sockets[port] = Socket(self, port)
        return self._sockets[port]


class Network:
    """Hosts and the paths between them.

    Args:
        clock: virtual time; a new one by default.
        seed: the same seed gives the same run.
        faults: of every path that has none of its own. Sizes count with IP and UDP headers.
        reports_too_big: whether the sender of a datagram larger than the MTU hears of it, one latency later, as an
            ICMP message would tell it. If not, such a datagram just vanishes, as behind many firewalls.

    Attributes:
        clock: virtual time.
        faults: see above; may be changed while datagrams travel.
        reports_too_big: likewise.
        trace: every datagram.
    """

    def __init__(
        self,
        clock: VirtualClock | None = None,
        *,
        seed: int = 0,
        faults: Faults = Faults(latency_ns=10 * MS, mtu_bytes=1_500),  # noqa: B008 - frozen
        reports_too_big: bool = False,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.faults = faults
        self.reports_too_big = reports_too_big
        self.trace = Trace(self.clock.now)
        self._seed = seed
        self._names: set[str] = set()
        self._inside: dict[Translator | None, dict[str, Host]] = {None: {}}
        self._own_faults: dict[tuple[str, str], Faults] = {}
        self._injectors: dict[tuple[str, str], FaultInjector] = {}
        self._drivers: list[Driver[Datagram, Any]] = []

    def host(self, name: str, *addresses: str, translator: Translator | None = None) -> Host:
        """Add a host.

        Args:
            name: how traces call it; unique.
            addresses: IPv4 and IPv6 addresses, unique among hosts and translators that reach each other directly.
            translator: what stands between the host and the network.

        Raises:
            UsageError: the name or an address is taken.
        """
        if name in self._names:
            raise UsageError(f"there is a host {name} already")
        host = Host(self, name, translator)
        host.move_to(*addresses)
        self._names.add(name)
        return host

    def set_faults(self, source: str, destination: str, faults: Faults, *, one_way: bool = False) -> None:
        """Change the path between two hosts, for datagrams sent from now on.

        Args:
            source: name of a host.
            destination: name of a host, or of the translator by which others reach it.
            faults: what the path does from now on.
            one_way: leave the way back as it is.
        """
        self._own_faults[source, destination] = faults
        if not one_way:
            self._own_faults[destination, source] = faults

    def flush(self) -> None:
        """Drain every machine, after commands that the test gave them."""
        for driver in self._drivers:
            driver.flush()

    def drive(self, until: Callable[[], bool], *, within_ns: int = WITHIN_NS, steps: int = STEPS) -> None:
        """Jump from wake-up to wake-up until a condition holds.

        Raises:
            Stuck: nothing is left that could happen, or a bound was passed, as in a livelock.
        """
        self.flush()
        drive(self.clock, until, trace=self.trace, within_ns=within_ns, steps=steps)

    def advance(self, span_ns: int) -> None:
        """Let a span of virtual time pass, with all that happens in it."""
        self.flush()
        self.clock.advance(span_ns)

    def _send(self, socket: Socket, data: bytes, destination: Endpoint) -> None:
        host, version = socket.host, _version(destination.address)
        address = next((own for own in host.addresses if _version(own) == version), "")
        source: Endpoint | None = Endpoint(address, socket.port)
        entry = Entry(self.clock.now, f"{host.name} {source}", str(destination), len(data), Fate.UNREACHABLE)
        self.trace.add(entry)
        realm = host.translator
        if realm is not None and destination.address not in self._inside[realm]:
            source, realm = realm.outbound(Endpoint(address, socket.port), destination, self.clock.now), None
        owner = self._owner(realm, destination.address)
        if source is None:
            entry.fate = Fate.NOT_TRANSLATED
        elif address and owner is not None:
            self._carry(socket, entry, Datagram(data, source), destination, owner)

    def _owner(self, realm: Translator | None, address: str) -> Host | Translator | None:
        translators = (inside for inside in self._inside if inside is not None and realm is None)
        return self._inside[realm].get(address) or next(
            (translator for translator in translators if address in translator.addresses), None
        )

    def _carry(
        self, socket: Socket, entry: Entry, datagram: Datagram, destination: Endpoint, owner: Host | Translator
    ) -> None:
        injector = self._injector(socket.host.name, owner.name)
        size = len(datagram.data) + HEADER_BYTES[_version(destination.address)]
        passage = injector.carry(size, self.clock.now)
        entry.fate = passage.fate
        entry.note = "held back" if passage.held_back else ""
        for number, arrival in enumerate(passage.arrivals):
            copy = self.trace.add(replace(entry, note="duplicate")) if number else entry
            self.clock.call_at(arrival, partial(self._arrive, copy, datagram, destination, owner))
        if passage.fate is Fate.TOO_BIG and self.reports_too_big:
            mtu_bytes = injector.faults.mtu_bytes
            self.clock.call_later(injector.faults.latency_ns, lambda: socket.on_too_big(destination, mtu_bytes))

    def _injector(self, source: str, destination: str) -> FaultInjector:
        key = (source, destination)
        if key not in self._injectors:
            self._injectors[key] = FaultInjector(self.faults, Random(f"{self._seed} {key}"))
        injector = self._injectors[key]
        injector.faults = self._own_faults.get(key, self.faults)
        return injector

    def _arrive(self, entry: Entry, datagram: Datagram, destination: Endpoint, owner: Host | Translator) -> None:
        inside: Endpoint | None = destination
        realm = owner.translator if isinstance(owner, Host) else owner
        if not isinstance(owner, Host):
            inside = owner.inbound(datagram.endpoint, destination, self.clock.now)
        if inside is None:
            entry.fate = Fate.NOT_TRANSLATED
            return
        host = self._inside[realm].get(inside.address)
        socket = host._sockets.get(inside.port) if host else None
        if socket is None:
            entry.fate = Fate.NO_SUCH_PORT if host else Fate.UNREACHABLE
            return
        entry.fate = Fate.DELIVERED
        entry.arrived_at = self.clock.now
        socket.on_datagram(datagram)


@lru_cache(maxsize=4096)
def _canonical(address: str) -> str:
    return str(ip_address(address))


@lru_cache(maxsize=4096)
def _version(address: str) -> int:
    return ip_address(address).version
