"""A resolver in virtual time, with a test in the place of its network."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import dns.flags
import dns.message
import dns.rcode

from tests.unit.stack.dns.server import Server, rrsets_of
from weft.stack.dns.cache import Answer
from weft.stack.dns.message import Kind
from weft.stack.dns.names import Names
from weft.stack.dns.resolver import Exchange, Question, Resolver
from weft.stack.endpoint import Endpoint

S = 1_000_000_000
FIRST = Endpoint(bytes([0xFC]) + bytes(14) + b"\x35", 53)
SECOND = Endpoint(bytes([10, 0, 0, 53]), 53)
STRANGER = Endpoint(bytes([10, 0, 0, 99]), 53)


class Asking:
    def __init__(
        self, *servers: Endpoint, seed: int = 1, known: Callable[[str], tuple[bytes, ...] | None] | None = None
    ) -> None:
        self.now = S
        self.resolver = Resolver(servers or (FIRST,), Random(seed).randbytes, known or Names().look_up)

    def ask(self, name: str, kind: Kind = Kind.A) -> Question:
        return self.resolver.query(name, kind, self.now)

    def begun(self) -> list[Exchange]:
        return self.resolver.exchanges_to_begin()

    def one(self) -> Exchange:
        (exchange,) = self.begun()
        return exchange

    def deliver(self, exchange: Exchange, data: bytes, source: Endpoint | None = None) -> None:
        if exchange.is_stream:
            self.resolver.receive_stream(exchange, len(data).to_bytes(2, "big") + data, self.now)
        else:
            self.resolver.receive(exchange, source or exchange.server, data, self.now)

    def serve(self, server: Server) -> list[Exchange]:
        """Answer whatever is asked, until nothing is; returns what was asked."""
        served: list[Exchange] = []
        while begun := self.begun():
            for exchange in begun:
                served.append(exchange)
                self.deliver(exchange, server.answer(message_of(exchange), is_stream=exchange.is_stream))
        return served

    def result(self, name: str, server: Server, kind: Kind = Kind.A) -> Answer:
        question = self.ask(name, kind)
        self.serve(server)
        assert question.answer is not None
        return question.answer

    def events(self) -> list[Question]:
        events = []
        while (event := self.resolver.next_event()) is not None:
            events.append(event)
        return events

    def run_to_timer(self) -> None:
        at = self.resolver.next_timer()
        assert at is not None
        assert at > self.now
        self.now = at
        self.resolver.handle_timer(at)


def message_of(exchange: Exchange) -> bytes:
    return exchange.data[2:] if exchange.is_stream else exchange.data


def reply_to(exchange: Exchange, records: str = "", *, authority: str = "", rcode: int = 0, flags: int = 0) -> bytes:
    """A reply with exactly those records."""
    query = dns.message.from_wire(message_of(exchange))
    reply = dns.message.make_response(query, recursion_available=True)
    reply.flags |= dns.flags.Flag(flags)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    reply.answer = rrsets_of(records)
    reply.authority = rrsets_of(authority)
    return reply.to_wire(max_size=65535)
