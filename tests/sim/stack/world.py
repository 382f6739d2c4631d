"""Two hosts, the conversations between them, and what their users do, for random histories in virtual time.

A conversation is one connection as both of its users see it. What each says is a stretch of one known pattern, so each
chunk that arrives is held against what must be there: everything once, in order, nothing of another connection.

How a connection ended is held against what was done to it. Without a reset by a user, and without an outage that would
explain a time-out, both ends must end in order, with all that was said. See `Conversation.check_end`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Final, Literal

from tests.unit.stack.wire import MS, Faults, Stuck, Way, Wire, make_host, v4, v6
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.host import Host
from weft.stack.tcp.connection import Connection, Keepalive
from weft.stack.tcp.listener import Listener
from weft.stack.tcp.time_wait import DURATION_NS
from weft.testing import S

PORT: Final = 80
OWN_PORTS: Final = (5001, 5002)
"""Ports that clients insist on, so that connections follow each other at the same ends."""
ANY: Final = bytes(16)
KEEPALIVE: Final = Keepalive(idle_s=2, interval_s=1, probes=3)
LONG_OUTAGE_NS: Final = 2 * S
"""Below that no timer gives up: keepalives take 5 s, the answer to a SYN half a minute."""
HEALED: Final = Faults(latency_ns=5 * MS)
PAUSE_NS: Final = 3 * MS
"""Of a reader that takes little at a time."""
MOST_STEPS: Final = 20_000
END_WITHIN_NS: Final = 1800 * S
FORGET_NS: Final = DURATION_NS + 700 * S
"""TIME_WAIT, and what is remembered of path MTUs."""

_PERIOD: Final = 65_521
_PATTERN: Final = memoryview(Random(4).randbytes(_PERIOD) * 8)

SideName = Literal["left", "right"]

EXPECTED_DROPS: Final = frozenset(
    {
        "icmp: error about nothing that was sent",
        "tcp: old timestamp",
        "tcp: outside of the window",
        "tcp: challenge rate",
        "tcp: no such port",
        "tcp: no connection",
        "tcp: backlog is full",
        "tcp: too many half-open connections",
        "tcp: error about nothing that is on the way",
    }
)


def pattern(start: int, size: int) -> memoryview:
    """What a user says from one byte on."""
    at = start % _PERIOD
    assert at + size <= len(_PATTERN)
    return _PATTERN[at : at + size]


class User:
    """Who uses one end of a conversation: reads as told, and checks what comes.

    Attributes:
        connection: what is used.
        said: bytes that were given to it.
        heard: bytes that came out of it.
        limit: bytes to read each time it is looked at; None for all, 0 for none.
    """

    def __init__(self, wire: Wire, connection: Connection, offset: int, other_offset: int) -> None:
        self.connection = connection
        self._wire = wire
        self._is_waiting = False
        self.said = self.heard = 0
        self.limit: int | None = None
        self.has_shut = self.has_closed = self.has_left = self.has_given_up = self.has_aborted = False
        self._offset, self._other_offset = offset, other_offset
        connection.user = self

    def handle_event(self) -> None:
        self.read()

    def read(self) -> None:
        if self.limit == 0 or self.has_closed or self.has_left:
            return
        for chunk in self.connection.receive(self.limit):
            assert chunk == pattern(self._other_offset + self.heard, len(chunk)), f"not what was said at {self.heard}"
            self.heard += len(chunk)
        if self.connection.readable_bytes and not self._is_waiting:
            # Nothing more need happen for the rest to be there.
            self._is_waiting = True
            self._wire.clock.call_later(PAUSE_NS, self._read_on)

    def _read_on(self) -> None:
        self._is_waiting = False
        self.read()
        self._wire.flush()

    def say(self, size: int) -> None:
        try:
            self.connection.send(pattern(self._offset + self.said, size))
        except StackError:
            assert self.has_shut or self.has_closed or self.connection.is_closed or self.connection.failure
        else:
            assert not self.has_shut
            assert not self.has_closed
            self.said += size

    def shut(self, now: int) -> None:
        self.has_shut = True
        self.connection.shutdown(now)

    def close(self, now: int) -> None:
        self.has_aborted |= self.connection.readable_bytes > 0
        self.has_closed = True
        self.connection.close(now)

    def leave(self, now: int) -> None:
        """Close when there is nothing more to hear, or the other one has failed: that takes nothing from it."""
        self.has_left = True
        self.has_given_up = not self.connection.is_at_end
        self.connection.close(now)

    def abort(self, now: int) -> None:
        self.has_aborted = self.has_closed = True
        self.connection.abort(now)


class Conversation:
    """A connection and both of its users, as far as there are two."""

    def __init__(self, number: int, opened: User) -> None:
        self.number = number
        self.opened = opened
        self.answered: User | None = None
        self.is_simultaneous = False
        self.has_keepalive = False
        self.lost_its_listener = False

    @property
    def users(self) -> list[User]:
        return [self.opened] if self.answered is None else [self.opened, self.answered]

    @property
    def is_over(self) -> bool:
        return all(user.connection.is_closed for user in self.users)

    def check_end(self, *, longest_outage_ns: int) -> None:
        """Hold how it ended against what was done to it."""
        had_outage = longest_outage_ns >= LONG_OUTAGE_NS
        if self.answered is None:
            # Nobody took it: the listener had gone or was full, an outage was longer than the handshake had patience,
            # or the opener gave it up before it was established.
            assert self.opened.has_closed or had_outage or self.lost_its_listener, self
            assert self.opened.heard == 0
            return
        for user, other in ((self.opened, self.answered), (self.answered, self.opened)):
            failure = user.connection.failure
            assert user.heard <= other.said
            if failure is Failure.ABORTED:
                assert user.has_aborted, self
            elif failure is Failure.RESET:
                # The other side took no more, or had given up; or it is ourselves who take no more.
                assert other.has_closed or user.has_closed or other.connection.failure is Failure.TIMED_OUT, self
            elif failure is Failure.REFUSED:
                # Both opened, and the other gave it up before it heard of us.
                assert other.has_closed, self
                assert self.is_simultaneous
            elif failure is Failure.TIMED_OUT:
                assert had_outage or other.connection.failure is not None, self
            else:
                assert failure is None, (failure, self)
                if user.has_given_up:
                    assert user.has_closed or other.connection.failure is not None, self
                elif not user.has_closed:
                    assert user.heard == other.said, f"the end came after {user.heard} of {other.said} bytes: {self}"

    def __repr__(self) -> str:
        ends = [
            f"{user.connection} {user.connection.failure} said {user.said} heard {user.heard}"
            f"{' shut' * user.has_shut}{' closed' * user.has_closed}{' aborted' * user.has_aborted}"
            for user in self.users
        ]
        return f"{self.number}: " + " | ".join(ends)


class World:
    """Two hosts on a wire, and the conversations that they have."""

    def __init__(self, *, seed: int, whole: bool, answers_too_big: bool) -> None:
        self.wire = Wire(
            make_host(1, seed=seed),
            make_host(2, seed=seed),
            faults=HEALED,
            seed=seed,
            whole=whole,
            answers_too_big=answers_too_big,
        )
        self.conversations: list[Conversation] = []
        self.longest_outage_ns = 0
        self.listener: Listener | None = None
        self.listen()

    @property
    def now(self) -> int:
        return self.wire.now

    def listen(self) -> None:
        if self.listener is None:
            self.listener = self.wire.right.tcp.listen(Endpoint(ANY, PORT), backlog=3)
            self.listener.user = self

    def stop_listening(self) -> None:
        if self.listener is not None:
            for each in self.conversations:
                each.lost_its_listener |= each.answered is None
            self.listener.close(self.now)
            self.listener = None

    def handle_event(self) -> None:
        """Somebody came to the listener."""
        while self.listener is not None and (connection := self.listener.accept()) is not None:
            mine = next(
                each
                for each in reversed(self.conversations)
                if each.opened.connection.local == connection.remote
                and each.opened.connection.remote == connection.local
            )
            assert mine.answered is None, f"two connections for one: {mine}"
            mine.answered = User(self.wire, connection, *self._offsets(mine.number, is_opener=False))
            mine.answered.read()

    def connect(self, *, ipv4: bool, own_port: int | None) -> Conversation | None:
        address = v4 if ipv4 else v6
        local = None if own_port is None else Endpoint(address(1), own_port)
        try:
            connection = self.wire.left.tcp.connect(Endpoint(address(2), PORT), self.now, local=local)
        except StackError as error:
            if error.failure is not Failure.IN_USE or own_port is None:
                raise
            return None
        return self._add(connection)

    def connect_both(self, *, ipv4: bool) -> Conversation | None:
        """Both sides open the same connection, at once, unless one of them has it still."""
        address = v4 if ipv4 else v6
        ends = Endpoint(address(1), 6001), Endpoint(address(2), 6002)
        ours = None
        try:
            ours = self.wire.left.tcp.connect(ends[1], self.now, local=ends[0])
            theirs = self.wire.right.tcp.connect(ends[0], self.now, local=ends[1])
        except StackError as error:
            if error.failure is not Failure.IN_USE:
                raise
            if ours is not None:
                # It has sent nothing yet, and would meet an old one.
                ours.abort(self.now)
            return None
        mine = self._add(ours)
        mine.is_simultaneous = True
        mine.answered = User(self.wire, theirs, *self._offsets(mine.number, is_opener=False))
        return mine

    def _add(self, connection: Connection) -> Conversation:
        number = len(self.conversations)
        mine = Conversation(number, User(self.wire, connection, *self._offsets(number, is_opener=True)))
        mine.lost_its_listener = self.listener is None
        self.conversations.append(mine)
        return mine

    @staticmethod
    def _offsets(number: int, *, is_opener: bool) -> tuple[int, int]:
        offsets = 7919 * number, 7919 * number + 31_013
        return offsets if is_opener else (offsets[1], offsets[0])

    def advance(self, span_ns: int) -> None:
        """Let time pass; where the hosts only answer each other it never would."""
        self.wire.flush()
        clock, until = self.wire.clock, self.now + span_ns
        for _ in range(MOST_STEPS):
            at = clock.next_at()
            if at is None or at > until:
                break
            clock.run_next()
        else:
            raise Stuck(f"they talk for ever\n{self.wire.trace}")
        clock.advance_to(until)
        for host in (self.wire.left, self.wire.right):
            assert not list(unfair(host)), list(unfair(host))

    def outage(self, span_ns: int) -> None:
        """Nothing passes for a while."""
        self.longest_outage_ns = max(self.longest_outage_ns, span_ns)
        before = self.wire.to_left.faults, self.wire.to_right.faults
        self.wire.to_left.faults = self.wire.to_right.faults = Faults(loss=1)
        self.advance(span_ns)
        self.wire.to_left.faults, self.wire.to_right.faults = before

    @staticmethod
    def change_mtu(way: Way, mtu_bytes: int) -> None:
        """Larger packets do not pass from now on."""
        way.faults = replace(way.faults, mtu_bytes=mtu_bytes)

    def finish(self) -> None:
        """The wire is mended, readers read, and all say goodbye: then everything ends, and nothing is left."""
        wire = self.wire
        mtu = wire.to_left.faults.mtu_bytes, wire.to_right.faults.mtu_bytes
        wire.to_left.faults = Faults(latency_ns=5 * MS, mtu_bytes=mtu[0])
        wire.to_right.faults = Faults(latency_ns=5 * MS, mtu_bytes=mtu[1])
        for each in self.conversations:
            for user in each.users:
                user.limit = None
                user.read()
                user.shut(self.now)
        wire.drive(self._say_goodbye, within_ns=END_WITHIN_NS, steps=MOST_STEPS)
        self.advance(S)
        self.stop_listening()
        for each in self.conversations:
            each.check_end(longest_outage_ns=self.longest_outage_ns)
        self.advance(FORGET_NS)
        for host in (wire.left, wire.right):
            assert not set(host.drops) - EXPECTED_DROPS, host.drops
            assert not list(leaks(host)), list(leaks(host))
        for each in self.conversations:
            for user in each.users:
                assert not list(leftovers(user.connection)), (each, list(leftovers(user.connection)))

    def _say_goodbye(self) -> bool:
        """Each user says that it has no more to say, and closes when it has heard all; whether everything is over."""
        for each in self.conversations:
            # Who has nothing to send would never learn that the other one has given up.
            has_failed = any(user.connection.failure is not None for user in each.users)
            for user in each.users:
                user.shut(self.now)
                if not user.has_left and (has_failed or user.has_closed or user.connection.is_at_end):
                    user.leave(self.now)
        return all(each.is_over for each in self.conversations)


def unfair(host: Host) -> Iterator[str]:
    """What is wrong with how connections share what they may have on the way, when nobody has anything to send now."""
    for address, flow in host.tcp._macroflows.items():
        members = [each for each in host.tcp.connections if each.macroflow is flow]
        if flow.connections != len(members) or any(each.remote.address != address for each in members):
            yield f"not all connections, or others: {members}"
        if flow.on_the_way != sum(each.sender.pipe for each in members):
            yield f"{flow.on_the_way} bytes on the way of {members}"
        if flow.waiting and (flow.has_room or set(flow.waiting) - set(members)):
            yield f"they wait for nothing: {list(flow.waiting)}"
    if host.tcp._with_room:
        yield "somebody may go and does not"


def leaks(host: Host) -> Iterator[str]:
    """What a host still holds, or waits for, when all its connections should be over."""
    tcp = host.tcp
    if (at := host.next_timer()) is not None:
        yield f"a timer at {at}"
    if host.next_packet(0) is not None:
        yield "a packet"
    if host.next_event() is not None:
        yield "an event"
    yield from (f"connection {each}" for each in tcp._connections.values())
    yield from (f"wait {each}" for each in tcp._waits)
    yield from (f"listener {each.local}" for each in tcp.listeners)
    yield from (f"armed {each}" for each in tcp._timers)
    yield from (f"to send {each}" for each in tcp.to_send)
    yield from (f"macroflow to {address!r}" for address in tcp._macroflows)
    yield from (f"looped {each}" for each in host._looped)
    if host.ip._queued_bytes or host._looped_bytes:
        yield "bytes in a queue"


def leftovers(connection: Connection) -> Iterator[str]:
    """What a connection that is over still holds, though nobody will ask for it."""
    sender, receiver = connection.sender, connection.receiver
    if connection.timers.next() is not None:
        yield "timer"
    if sender.buffer._chunks or sender.buffer.start != sender.buffer.end:
        yield "data to send"
    if receiver._pieces or receiver._starts:
        yield "data behind a hole"
    if connection.listener is not None:
        yield "listener"
    flow = connection.macroflow
    if flow.connections or flow.on_the_way or flow.waiting:
        yield f"{flow.on_the_way} bytes on the way, and {len(flow.waiting)} that wait"
