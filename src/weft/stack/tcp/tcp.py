"""TCP of a host: all connections and listeners, and what is for none of them.

A segment goes to the connection of its two ends; else to the place where one was until lately; else, if it is a SYN, to
a listener; else it is answered by a reset, and that is how a port refuses.

Source: RFC 9293 sections 3.5.2 (resets), 3.10.7.1, 3.10.7.2; RFC 6528 (initial sequence numbers); RFC 7323 section 5.4
(offsets of timestamps).
Not done here: what a segment does to its connection (arrival.py).
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable
from hashlib import blake2s
from typing import Final

from weft.errors import DecodeError
from weft.packet.ip import is_one_host
from weft.packet.protocols import TCP
from weft.packet.tcp import ACK, RST, SYN, TcpHeader, encode_tcp
from weft.rates import Rate
from weft.stack.addresses import is_loopback
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.icmp_error import PathError
from weft.stack.ip import Ip
from weft.stack.outgoing import Outgoing
from weft.stack.ports import pick_port
from weft.stack.socket import Socket
from weft.stack.tcp import arrival, cookie, departure, expiry, time_wait
from weft.stack.tcp.budget import Budget
from weft.stack.tcp.connection import Connection
from weft.stack.tcp.listener import Listener
from weft.stack.tcp.macroflow import Macroflow
from weft.stack.tcp.options import Options, encode_options, encode_timestamps
from weft.stack.tcp.receiver import SHIFT, UNSCALED_MAX
from weft.stack.tcp.segment import Segment, decode_segment
from weft.stack.tcp.sequence import MASK
from weft.stack.tcp.states import TRANSITIONS, State, Step
from weft.stack.tcp.time_wait import TimeWait
from weft.stack.tcp.timers import MS

MAX_CONNECTIONS: Final = 65_536
WINDOWS_BYTES: Final = 256 * 1024 * 1024
"""What all receive windows may grow by together."""
RESETS_PER_SECOND: Final = 1000
LATE_PER_SECOND: Final = 1000
"""Acknowledgments for what comes again after the end; that of the first FIN is not among them."""
SEQUENCE_TICK_NS: Final = 4000
COOKIES_AFTER_NS: Final = 2 * cookie.TICK_NS
"""For so long after cookies were given, acknowledgments that nobody waits for may bring one back."""
SECRET_BYTES: Final = 32
ANY_V4: Final = bytes(4)
ANY: Final = bytes(16)


class Tcp:
    """All connections and listeners of a host.

    Attributes:
        ip: what they stand on.
        drops: segments that were dropped, by reason.
        to_send: connections that may have something to send, in turn.
        budget: of the receive windows.
    """

    def __init__(self, ip: Ip, random_bytes: Callable[[int], bytes], events: deque[Socket]) -> None:
        """Make it without connections.

        Args:
            ip: of the host.
            random_bytes: gives that many random bytes, which nobody can guess.
            events: of the host.
        """
        self.ip = ip
        self.drops: Counter[str] = Counter()
        self.to_send: deque[Connection] = deque()
        self.budget = Budget(WINDOWS_BYTES)
        self._random_bytes = random_bytes
        self._secret = random_bytes(SECRET_BYTES)
        self._events = events
        self._connections: dict[bytes, Connection | TimeWait] = {}
        self._macroflows: dict[bytes, Macroflow] = {}
        self._with_room: deque[Macroflow] = deque()
        self._waits: deque[TimeWait] = deque()
        self._listeners: dict[Endpoint, Listener] = {}
        self._timers: list[tuple[int, int, Connection]] = []
        self._armed = 0
        self._resets = Rate(RESETS_PER_SECOND, burst=RESETS_PER_SECOND)
        self._late = Rate(LATE_PER_SECOND, burst=LATE_PER_SECOND)
        self._cookies_at: int | None = None

    # Verbs.

    def connect(self, remote: Endpoint, now: int, *, local: Endpoint | None = None) -> Connection:
        """Begin a connection.

        Args:
            remote: the other end.
            now: monotonic ns.
            local: our end; None, or zeros in it, to have it chosen.

        Raises:
            StackError: NO_ROUTE, NOT_OURS, IN_USE, NO_PORTS, NO_ROOM.
        """
        is_host = is_one_host(remote.address) or is_loopback(remote.address)
        if not is_host or remote.address in self.ip.addresses.broadcasts:
            raise StackError(Failure.NO_ROUTE, f"{remote} is no host")
        path = self.ip.path(remote.address, local.address if local is not None and any(local.address) else None)
        if len(self._connections) >= MAX_CONNECTIONS:
            raise StackError(Failure.NO_ROOM)
        port = local.port if local is not None else 0
        if port:
            if not self._is_free(path.source, port, remote, now):
                raise StackError(Failure.IN_USE, str(Endpoint(path.source, port)))
        else:
            port = pick_port(lambda port: self._is_free(path.source, port, remote, now), self._random_bytes)
        connection = self._make(Endpoint(path.source, port), remote, path.mtu, now)
        connection.heard_at = now
        connection.step(Step.OPEN)
        connection.owes_syn = True
        connection.queue_to_send()
        return connection

    def listen(self, local: Endpoint, *, backlog: int = 128) -> Listener:
        """Take connections.

        Args:
            local: where; sixteen zeros are all addresses of both versions, port 0 is any free one.
            backlog: how many may wait to be accepted.

        Raises:
            StackError: IN_USE, NOT_OURS, NO_PORTS.
        """
        if any(local.address) and not self.ip.addresses.is_local(local.address):
            raise StackError(Failure.NOT_OURS, str(local))
        if not local.port:
            port = pick_port(lambda port: self._may_listen(Endpoint(local.address, port)), self._random_bytes)
            local = Endpoint(local.address, port)
        elif not self._may_listen(local):
            raise StackError(Failure.IN_USE, str(local))
        listener = self._listeners[local] = Listener(self, self._events, local, backlog)
        return listener

    @property
    def listeners(self) -> list[Listener]:
        """All of them."""
        return list(self._listeners.values())

    @property
    def connections(self) -> list[Connection]:
        """Those that are not over."""
        return [each for each in self._connections.values() if isinstance(each, Connection)]

    # What IP calls.

    def receive(
        self, packet: memoryview, start: int, source: bytes, destination: bytes, segment: int, now: int
    ) -> None:
        """Take a segment; see `arrivals.Transport`."""
        try:
            decoded = decode_segment(packet, start, segment)
        except DecodeError:
            self.drops["tcp: bad header"] += 1
            return
        ports = packet[start : start + 4]
        key = b"".join((source, destination, ports))
        known = self._connections.get(key)
        if isinstance(known, Connection):
            arrival.receive(known, decoded, now)
            known.macroflow.count(known, now)
            return
        remote = Endpoint(source, ports[0] << 8 | ports[1])
        local = Endpoint(destination, ports[2] << 8 | ports[3])
        if known is not None and not self._receive_late(known, key, decoded, now):
            return
        listener = self._listener_of(local)
        if listener is None:
            self.drops["tcp: no such port"] += 1
            self.refuse(local, remote, decoded, now)
        else:
            initial = None if known is None else known.above_all_sent
            self._receive_for_listener(listener, key, local, remote, decoded, now, initial)

    def receive_error(self, error: PathError, local: Endpoint, remote: Endpoint) -> None:
        """Take what an ICMP message says of a segment that is on the way.

        Args:
            error: what became of it.
            local: our end.
            remote: the other end.
        """
        known = self._connections.get(_key(local, remote))
        if isinstance(known, Connection):
            arrival.receive_error(known, error)

    def is_on_the_way(self, local: Endpoint, remote: Endpoint, sequence: int) -> bool:
        """Whether a segment that an ICMP message quotes was sent and is not acknowledged.

        Args:
            local: our end.
            remote: the other end.
            sequence: of the segment, 32 bits.
        """
        known = self._connections.get(_key(local, remote))
        return isinstance(known, Connection) and arrival.is_on_the_way(known, sequence)

    def handle_timer(self, now: int) -> None:
        """Do what is due."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            at, _, connection = heapq.heappop(timers)
            if connection.armed_at == at:
                connection.armed_at = None
                expiry.handle_timer(connection, now)
                connection.macroflow.count(connection, now)
        while self._waits and self._waits[0].until <= now:
            self._forget_wait(self._waits.popleft())

    def next_timer(self) -> int | None:
        """When to call `handle_timer`, monotonic ns; None for never."""
        timers = self._timers
        while timers and timers[0][2].armed_at != timers[0][0]:
            heapq.heappop(timers)
        at = timers[0][0] if timers else None
        if self._waits and (at is None or self._waits[0].until < at):
            return self._waits[0].until
        return at

    @property
    def has_output(self) -> bool:
        """Whether `next_packet` may give something."""
        return bool(self.to_send or self._with_room)

    def next_packet(self, now: int) -> Outgoing | None:
        """The next packet of the connection whose turn it is; None if none has anything to send now."""
        to_send, with_room = self.to_send, self._with_room
        while to_send or with_room:
            if with_room:
                # Who may go joins the others: these may never run out of data.
                with_room.popleft().admit(now)
                continue
            connection = to_send.popleft()
            packet = None
            if not connection.is_closed:
                packet = departure.next_packet(connection, now)
                connection.macroflow.end_turn(connection, now)
            if packet is not None and connection.has_to_send:
                to_send.append(connection)
            else:
                connection.is_queued_to_send = False
            if packet is not None:
                return packet
        return None

    # What connections and listeners call.

    def arm(self, connection: Connection) -> None:
        """Look at the timers of a connection when the next one ends."""
        at = connection.timers.next()
        if at is not None and (connection.armed_at is None or at < connection.armed_at):
            connection.armed_at = at
            self._armed += 1
            heapq.heappush(self._timers, (at, self._armed, connection))

    def twin_of(self, connection: Connection) -> Connection | None:
        """The connection at the other end of one, if that is in this host."""
        if not self.ip.addresses.is_local(connection.remote.address):
            return None
        known = self._connections.get(_key(connection.remote, connection.local))
        return known if isinstance(known, Connection) else None

    def forget(self, connection: Connection) -> None:
        """A connection is over."""
        connection.armed_at = None
        connection.receiver.give_back(self.budget)
        connection.macroflow.remove(connection)
        if not connection.macroflow.connections:
            del self._macroflows[connection.remote.address]
        if self._connections.get(connection.key) is connection:
            del self._connections[connection.key]
        if connection.listener is not None:
            connection.listener.handle_gone(connection)

    def begin_time_wait(self, connection: Connection, now: int) -> None:
        """A connection is over, but for what is still on the way; the last acknowledgment leaves from here."""
        wait = TimeWait(
            connection.local,
            connection.remote,
            connection.sender.highest,
            connection.receiver.next,
            connection.recent,
            connection.offset,
            now + time_wait.DURATION_NS,
        )
        owes_ack = connection.owes_ack
        connection.end(None)
        self._keep_wait(connection.key, wait)
        if owes_ack:
            self._acknowledge_late(wait, now)

    def reset(self, connection: Connection, now: int) -> None:
        """Tell the other side of a connection that it is over."""
        sender = connection.sender
        header = TcpHeader(
            connection.local.port,
            connection.remote.port,
            sender.nxt & MASK,
            connection.receiver.next & MASK,
            RST | ACK,
            0,
        )
        self.ip.send(
            connection.local.address,
            connection.remote.address,
            TCP,
            [encode_tcp(header)],
            hop_limit=connection.hop_limit,
            traffic_class=connection.traffic_class,
        )

    def refuse(self, local: Endpoint, remote: Endpoint, segment: Segment, now: int) -> None:
        """Answer a segment that is for nothing here by a reset, unless it is one (RFC 9293 section 3.10.7.1)."""
        if segment.flags & RST:
            return
        if not self._resets.allows(now):
            self.drops["tcp: reset rate"] += 1
            return
        if segment.flags & ACK:
            header = TcpHeader(local.port, remote.port, segment.acknowledgment, 0, RST, 0)
        else:
            acknowledgment = (segment.sequence + segment.length) & MASK
            header = TcpHeader(local.port, remote.port, 0, acknowledgment, RST | ACK, 0)
        self.ip.send(local.address, remote.address, TCP, [encode_tcp(header)])

    def close_listener(self, listener: Listener) -> None:
        """Take no more SYNs for a listener."""
        del self._listeners[listener.local]

    def of_listener(self, listener: Listener) -> list[Connection]:
        """The connections of a listener that were not accepted."""
        return [each for each in self.connections if each.listener is listener]

    # Listeners.

    def _listener_of(self, local: Endpoint) -> Listener | None:
        listeners = self._listeners
        listener = listeners.get(local)
        if listener is None and local.is_ipv4:
            listener = listeners.get(Endpoint(ANY_V4, local.port))
        return listener or listeners.get(Endpoint(ANY, local.port))

    def _may_listen(self, local: Endpoint) -> bool:
        """Whether no other listener would share the place: one for all addresses shares it with each."""
        for other in self._listeners:
            if other.port == local.port and _overlap(other.address, local.address):
                return False
        return True

    def _receive_for_listener(
        self,
        listener: Listener,
        key: bytes,
        local: Endpoint,
        remote: Endpoint,
        segment: Segment,
        now: int,
        initial_sequence: int | None,
    ) -> None:
        flags = segment.flags
        if flags & RST:
            return
        if flags & ACK:
            if not self._receive_cookie(listener, key, local, remote, segment, now):
                self.refuse(local, remote, segment, now)
            return
        if not flags & SYN:
            self.drops["tcp: no connection"] += 1
            return
        if listener.is_full or len(self._connections) >= MAX_CONNECTIONS:
            self.drops["tcp: backlog is full"] += 1
            return
        if listener.half_open >= listener.backlog:
            self._send_cookie(key, local, remote, segment, now)
            return
        connection = self._make(local, remote, self.ip.mtu(remote.address), now, initial_sequence)
        connection.listener = listener
        listener.half_open += 1
        connection.state = TRANSITIONS[State.LISTEN, Step.RECEIVE_SYN]
        arrival.agree(connection, segment, now)
        connection.owes_syn = True
        connection.queue_to_send()

    def _send_cookie(self, key: bytes, local: Endpoint, remote: Endpoint, segment: Segment, now: int) -> None:
        self.drops["tcp: too many half-open connections"] += 1
        self._cookies_at = now
        options = segment.options
        least = arrival.DEFAULT_SEGMENT_V4 if local.is_ipv4 else arrival.DEFAULT_SEGMENT_V6
        initial = cookie.make_cookie(self._secret, key, segment.sequence, options.maximum_segment or least, now)
        timestamps = None
        if options.timestamps is not None:
            ours = (now // MS + self._offset(key)) & MASK
            timestamps = cookie.note_options(ours, options), options.timestamps[0]
        answer = Options(
            maximum_segment=self.ip.mtu(remote.address) - (40 if local.is_ipv4 else 60),
            shift=SHIFT if options.shift is not None and timestamps is not None else None,
            sack_permitted=options.sack_permitted and timestamps is not None,
            timestamps=timestamps,
        )
        header = TcpHeader(
            local.port,
            remote.port,
            initial,
            (segment.sequence + 1) & MASK,
            SYN | ACK,
            UNSCALED_MAX,
            options=encode_options(answer),
        )
        self.ip.send(local.address, remote.address, TCP, [encode_tcp(header)])

    def _receive_cookie(
        self, listener: Listener, key: bytes, local: Endpoint, remote: Endpoint, segment: Segment, now: int
    ) -> bool:
        """Make the connection that a cookie of ours stands for; whether it was one."""
        if segment.flags & SYN or self._cookies_at is None or now - self._cookies_at > COOKIES_AFTER_NS:
            return False
        initial, theirs = (segment.acknowledgment - 1) & MASK, (segment.sequence - 1) & MASK
        maximum = cookie.check_cookie(self._secret, key, theirs, initial, now)
        if maximum is None:
            return False
        if listener.is_full:
            self.drops["tcp: backlog is full"] += 1
            return True
        timestamps = segment.options.timestamps
        shift, selective = cookie.read_note(timestamps[1]) if timestamps is not None else (None, False)
        agreed = Options(maximum, shift, selective, (), timestamps)
        connection = self._make(local, remote, self.ip.mtu(remote.address), now, initial)
        connection.listener = listener
        listener.half_open += 1
        connection.state = TRANSITIONS[State.LISTEN, Step.RECEIVE_SYN]
        connection.sender.handle_syn_sent(now)
        syn = segment._replace(sequence=theirs, options=agreed)
        arrival.agree(connection, syn, now)
        connection.receiver.edge = connection.receiver.next + UNSCALED_MAX
        arrival.receive(connection, segment, now)
        return True

    # Connections that are over.

    def _receive_late(self, wait: TimeWait, key: bytes, segment: Segment, now: int) -> bool:
        """A segment for a connection that is over; whether it is for a new one."""
        if wait.is_reopened_by(segment) and self._listener_of(wait.local) is not None:
            del self._connections[key]
            return True
        if not segment.flags & RST:
            if wait.is_ended_again_by(segment):
                wait = wait.begun_anew(now)
                self._keep_wait(key, wait)
            # What was the last acknowledgment may have been lost. What only acknowledges may come from one that is over
            # as well, and the two would answer each other for as long as they are kept.
            if segment.length or segment.sequence != wait.next_expected & MASK:
                if self._late.allows(now):
                    self._acknowledge_late(wait, now)
                else:
                    self.drops["tcp: rate of late acknowledgments"] += 1
        return False

    def _keep_wait(self, key: bytes, wait: TimeWait) -> None:
        self._connections[key] = wait
        self._waits.append(wait)
        if len(self._waits) > time_wait.MOST:
            self._forget_wait(self._waits.popleft())

    def _acknowledge_late(self, wait: TimeWait, now: int) -> None:
        options = b""
        if wait.offset is not None:
            options = encode_timestamps((now // MS + wait.offset) & MASK, wait.recent)
        header = TcpHeader(
            wait.local.port,
            wait.remote.port,
            wait.next_sent & MASK,
            wait.next_expected & MASK,
            ACK,
            UNSCALED_MAX >> SHIFT,
            options=options,
        )
        self.ip.send(wait.local.address, wait.remote.address, TCP, [encode_tcp(header)])

    def _forget_wait(self, wait: TimeWait) -> None:
        key = _key(wait.local, wait.remote)
        if self._connections.get(key) is wait:
            del self._connections[key]

    # New ones.

    def _is_free(self, source: bytes, port: int, remote: Endpoint, now: int) -> bool:
        """Whether a connection from there may be made."""
        return _key(Endpoint(source, port), remote) not in self._connections

    def _make(
        self, local: Endpoint, remote: Endpoint, mtu: int, now: int, initial_sequence: int | None = None
    ) -> Connection:
        key = _key(local, remote)
        if initial_sequence is None:
            initial_sequence = (now // SEQUENCE_TICK_NS + self._keyed(key, b"sequence")) & MASK
        macroflow = self._macroflows.get(remote.address)
        if macroflow is None:
            macroflow = self._macroflows[remote.address] = Macroflow(self._with_room)
        macroflow.connections += 1
        connection = Connection(self, self._events, key, local, remote, initial_sequence, mtu, macroflow)
        connection.offset = self._offset(key)
        self._connections[key] = connection
        return connection

    def _offset(self, key: bytes) -> int:
        """Of the timestamps between two ends; the same for all their connections, so that they grow."""
        return self._keyed(key[:-4], b"clock")

    def _keyed(self, content: bytes, purpose: bytes) -> int:
        """32 bits that nobody can guess who does not have the secret."""
        return int.from_bytes(blake2s(content, key=self._secret, person=purpose, digest_size=4).digest(), "big")


def _key(local: Endpoint, remote: Endpoint) -> bytes:
    """What a connection is found by: the addresses and ports of a segment that comes for it."""
    ports = remote.port.to_bytes(2, "big") + local.port.to_bytes(2, "big")
    return b"".join((remote.address, local.address, ports))


def _overlap(first: bytes, second: bytes) -> bool:
    """Whether two places to listen share an address."""
    if first == second or ANY in {first, second}:
        return True
    return len(first) == len(second) and not (any(first) and any(second))
