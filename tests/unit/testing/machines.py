"""Small machines to drive: they follow the contract, and fail in the ways that a harness must survive."""

from __future__ import annotations

from collections import deque

from weft.testing.clock import MS
from weft.testing.network import Datagram, Endpoint

RESEND_NS = 100 * MS


class Caller:
    """Sends `hello` until an `ack` comes, at most `tries` times; tells `answered` or `gave up`."""

    def __init__(self, tries: int = 100) -> None:
        self.tries = tries
        self.events: deque[str] = deque()
        self.out: list[bytes] = []
        self.due: int | None = None

    def call(self, now: int) -> None:
        self.handle_timer(now)

    def receive_datagram(self, data: bytes, now: int) -> None:
        if data == b"ack" and self.due is not None:
            self.due = None
            self.events.append("answered")

    def handle_timer(self, now: int) -> None:
        if not self.tries:
            self.due = None
            self.events.append("gave up")
            return
        self.tries -= 1
        self.out.append(b"hello")
        self.due = now + RESEND_NS

    def datagrams_to_send(self) -> list[bytes]:
        out, self.out = self.out, []
        return out

    def next_event(self) -> str | None:
        return self.events.popleft() if self.events else None

    def next_timer(self) -> int | None:
        return self.due


class Answerer(Caller):
    """Answers each `hello`."""

    def receive_datagram(self, data: bytes, now: int) -> None:
        if data == b"hello":
            self.out.append(b"ack")
            self.events.append(f"called at {now}")


class Echo(Caller):
    """Sends back whatever comes: two of them never end."""

    def receive_datagram(self, data: bytes, now: int) -> None:
        self.out.append(data)


class Broken(Caller):
    """Its timer stays due whatever is done."""

    def handle_timer(self, now: int) -> None:
        self.due = now


class ToEndpoint:
    """The adapter that puts a machine with one peer behind a port of a network."""

    def __init__(self, machine: Caller, peer: Endpoint | None = None) -> None:
        self.machine = machine
        self.peer = peer

    def receive_datagram(self, datagram: Datagram, now: int) -> None:
        self.peer = datagram.endpoint
        self.machine.receive_datagram(datagram.data, now)

    def handle_timer(self, now: int) -> None:
        self.machine.handle_timer(now)

    def datagrams_to_send(self) -> list[Datagram]:
        assert self.peer or not self.machine.out
        return [Datagram(data, self.peer) for data in self.machine.datagrams_to_send() if self.peer]

    def next_event(self) -> str | None:
        return self.machine.next_event()

    def next_timer(self) -> int | None:
        return self.machine.next_timer()
