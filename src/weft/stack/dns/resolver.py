"""Asks servers for the addresses of names.

One `Question` for a name and a kind of address, however many want it at once. It is asked of one server after the
other, in `len(TIMEOUTS_NS)` rounds, each time in an `Exchange` of its own: another id, another mix of letters, and a
socket of its own, for whose random port the caller sees. What the earlier exchanges still bring is taken too.

What comes to an exchange; the first row that fits holds:

| what                                                          | then                                           |
|---------------------------------------------------------------|------------------------------------------------|
| anything, once it is over; from elsewhere than its server;    | dropped                                        |
| a datagram longer than we allowed                             |                                                |
| too short, another id, no response, another question          | dropped; asked by a stream after `MAX_FORGED`  |
| our question in other letters                                 | dropped; asked by a stream                     |
| a datagram cut short (TC)                                     | asked by a stream                              |
| FORMERR, NOTIMP                                               | the next server, from now on without EDNS      |
| any other failure; malformed; a loop; more than `MAX_ALIASES` | the next server                                |
| an alias without the addresses of its target                  | the target is asked for                        |
| addresses; no such addresses; no such name                    | that is the answer                             |

On a stream whatever is not the answer leads to the next server, as do its end and errors of either socket. A question
is over after `QUESTION_NS` at the latest, or when no exchange is left to it: as failed if a server said so, else as
timed out. The servers are recursive or know all that is asked; the one that answered last is asked first.

Sources: RFC 1034 section 5.3.1, RFC 1035 section 4.2, RFC 2308, RFC 5452 section 9, RFC 7766, RFC 9520.
Not done here: recursion, search lists, several questions on one stream.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from weft.errors import DecodeError, UsageError
from weft.stack.dns.cache import MAX_AGE_NS, SECOND_NS, Answer, Cache, Outcome
from weft.stack.dns.message import (
    EDNS_PAYLOAD_BYTES,
    RANDOM_BYTES,
    Kind,
    Query,
    Standing,
    canonical_name,
    encode_query,
    standing_of,
)
from weft.stack.dns.reply import MAX_ALIASES, Reply, decode_reply
from weft.stack.endpoint import Endpoint

MAX_SERVERS = 4
MAX_QUESTIONS = 256
MAX_EXCHANGES = 32
"""Of one question, over all its aliases."""
MAX_FORGED = 16
MAX_STREAM_BYTES = 16 * 1024
"""Of a reply on a stream; room for many more addresses than are kept."""
TIMEOUTS_NS = (SECOND_NS, 2 * SECOND_NS, 4 * SECOND_NS)
STREAM_TIMEOUT_NS = 5 * SECOND_NS
QUESTION_NS = 15 * SECOND_NS

_LENGTH_BYTES = 2
_UNPROVEN = frozenset({Standing.SHORT, Standing.OTHER_ID, Standing.NO_RESPONSE, Standing.OTHER_QUESTION})


class Exchange:
    """One question to one server over one socket of its own.

    Attributes:
        server: whom to send to.
        is_stream: whether by TCP.
        is_over: whether nothing more is wanted of it.
    """

    __slots__ = ("_buffer", "_forged", "_query", "_question", "is_over", "is_stream", "server")

    def __init__(self, question: Question, server: Endpoint, query: Query, *, is_stream: bool) -> None:
        self.server = server
        self.is_stream = is_stream
        self.is_over = False
        self._question = question
        self._query = query
        self._forged = 0
        self._buffer = bytearray()

    @property
    def data(self) -> bytes:
        """What to send: a datagram, or the first bytes of a stream."""
        message = self._query.message
        return len(message).to_bytes(_LENGTH_BYTES, "big") + message if self.is_stream else message


class Question:
    """What is asked for.

    Attributes:
        name: of a host.
        kind: of addresses.
        answer: how it ended; None until then.
    """

    __slots__ = (
        "_attempts", "_current", "_due_at", "_exchanges", "_expires_at", "_failed", "_first", "_gives_up_at", "_names",
        "_open", "_with_edns", "answer", "kind", "name",
    )  # fmt: skip

    def __init__(self, name: str, kind: Kind, first: int, now: int) -> None:
        self.name = name
        self.kind = kind
        self.answer: Answer | None = None
        self._names = [name]
        self._expires_at = now + MAX_AGE_NS[Outcome.FOUND]
        self._first = first
        self._attempts = 0
        self._exchanges = 0
        self._open: list[Exchange] = []
        self._current: Exchange | None = None
        self._with_edns = True
        self._failed = False
        self._due_at = 0
        self._gives_up_at = now + QUESTION_NS


class Resolver:
    """The resolver of one node.

    Attributes:
        drops: messages that were not taken and questions that were refused, by reason.
    """

    def __init__(
        self,
        servers: Sequence[Endpoint],
        random_bytes: Callable[[int], bytes],
        known: Callable[[str], tuple[bytes, ...] | None],
    ) -> None:
        """Begin with nothing remembered.

        Args:
            servers: whom to ask, in this order.
            random_bytes: gives as many unpredictable bytes as asked for.
            known: `Names.look_up`: what no server is asked for, even if an alias leads there.

        Raises:
            UsageError: There is no server, or there are more than `MAX_SERVERS`.
        """
        if not 1 <= len(servers) <= MAX_SERVERS:
            raise UsageError(f"a resolver has 1 to {MAX_SERVERS} servers, not {len(servers)}")
        self.drops: Counter[str] = Counter()
        self._servers = tuple(servers)
        self._random_bytes = random_bytes
        self._known = known
        self._preferred = 0
        self._cache = Cache()
        self._questions: dict[tuple[str, Kind], Question] = {}
        self._beginning: list[Exchange] = []
        self._ended: list[Exchange] = []
        self._events: deque[Question] = deque()

    def query(self, name: str, kind: Kind, now: int) -> Question:
        """Ask for addresses.

        Args:
            name: of a host, in any case and script.
            kind: of addresses.
            now: monotonic ns.

        Returns:
            The question, maybe one that others wait for too; `next_event` gives it once when it has its answer, even
            if it has it already.
        """
        canonical = canonical_name(name)
        question = self._questions.get((canonical or name, kind))
        if question is not None:
            return question
        question = Question(canonical or name, kind, self._preferred, now)
        if canonical is None:
            self._conclude(question, Outcome.NXDOMAIN, now)
        elif len(self._questions) >= MAX_QUESTIONS:
            self.drops["query: too many"] += 1
            self._conclude(question, Outcome.SERVFAIL, now)
        else:
            self._questions[canonical, kind] = question
            self._go_on(question, now)
        return question

    def receive(self, exchange: Exchange, source: Endpoint, data: bytes, now: int) -> None:
        """Receive a datagram that came to the socket of an exchange.

        Args:
            exchange: by datagrams.
            source: where it came from.
            data: the whole datagram.
            now: monotonic ns.
        """
        if exchange.is_over:
            self.drops["answer: late"] += 1
        elif source != exchange.server:
            self.drops["answer: source"] += 1
        elif len(data) > EDNS_PAYLOAD_BYTES:
            self.drops["answer: too long"] += 1
        else:
            self._receive(exchange, data, now)

    def receive_stream(self, exchange: Exchange, data: bytes, now: int) -> None:
        """Receive the next bytes of the stream of an exchange."""
        if exchange.is_over:
            self.drops["answer: late"] += 1
            return
        buffer = exchange._buffer
        buffer += data[: _LENGTH_BYTES + MAX_STREAM_BYTES - len(buffer)]
        if len(buffer) < _LENGTH_BYTES:
            return
        end = _LENGTH_BYTES + int.from_bytes(buffer[:_LENGTH_BYTES], "big")
        if end > _LENGTH_BYTES + MAX_STREAM_BYTES:
            self.drops["answer: too long"] += 1
            self._fail(exchange, now)
        elif len(buffer) >= end:
            self._receive(exchange, bytes(buffer[_LENGTH_BYTES:end]), now)

    def receive_failure(self, exchange: Exchange, now: int) -> None:
        """The socket of an exchange could not be opened, met an error, or its stream ended.

        Errors of datagrams can be forged: the next server is asked at once, but an answer is still taken.
        """
        if exchange.is_over:
            return
        if exchange.is_stream:
            self._end(exchange)
        if exchange is exchange._question._current:
            self._ask_next(exchange._question, now)

    def handle_timer(self, now: int) -> None:
        """Ask again what was not answered in time."""
        for question in [question for question in self._questions.values() if question._due_at <= now]:
            self._ask_next(question, now)

    def next_timer(self) -> int | None:
        """When to call `handle_timer`, monotonic ns."""
        return min((question._due_at for question in self._questions.values()), default=None)

    def exchanges_to_begin(self) -> list[Exchange]:
        """Take the exchanges whose data shall be sent, each from a fresh socket with a random port."""
        beginning, self._beginning = self._beginning, []
        return [exchange for exchange in beginning if not exchange.is_over]

    def exchanges_ended(self) -> list[Exchange]:
        """Take the exchanges whose sockets can be closed, if they were opened."""
        ended, self._ended = self._ended, []
        return ended

    def next_event(self) -> Question | None:
        """Take the next question that has its answer."""
        return self._events.popleft() if self._events else None

    def _receive(self, exchange: Exchange, data: bytes, now: int) -> None:
        standing = standing_of(data, exchange._query, is_stream=exchange.is_stream)
        if standing is Standing.GOOD:
            self._receive_good(exchange, data, now)
            return
        self.drops[standing.value] += 1
        if exchange.is_stream or standing in {Standing.FAILED, Standing.UNSUPPORTED}:
            exchange._question._with_edns &= standing is not Standing.UNSUPPORTED
            self._fail(exchange, now)
        elif standing in _UNPROVEN and exchange._forged < MAX_FORGED:
            exchange._forged += 1
        else:
            self._turn_to_stream(exchange, now)

    def _receive_good(self, exchange: Exchange, data: bytes, now: int) -> None:
        question = exchange._question
        try:
            reply = decode_reply(data, question._names[-1], question.kind)
        except DecodeError:
            self.drops["answer: malformed"] += 1
            self._fail(exchange, now)
            return
        names = [*question._names, *reply.aliases]
        if len(names) > 1 + MAX_ALIASES or len(set(names)) < len(names):
            self.drops["answer: aliases"] += 1
            self._fail(exchange, now)
            return
        self._preferred = self._servers.index(exchange.server)
        self._take(question, reply, names, now)

    def _take(self, question: Question, reply: Reply, names: list[str], now: int) -> None:
        question._names = names
        question._expires_at = min(question._expires_at, now + reply.ttl_s * SECOND_NS)
        if not reply.is_final:
            self._end(*question._open)
            question._first, question._attempts = self._preferred, 0
            self._go_on(question, now)
        elif reply.addresses:
            self._conclude(question, Outcome.FOUND, now, reply.addresses)
        else:
            self._conclude(question, Outcome.NODATA if reply.exists else Outcome.NXDOMAIN, now)

    def _go_on(self, question: Question, now: int) -> None:
        """Find the addresses of the last name, be it known here, remembered, or asked for."""
        name = question._names[-1]
        known = self._known(name)
        cached = self._cache.get(name, question.kind, now)
        if known is not None:
            addresses = tuple(address for address in known if len(address) == question.kind.address_bytes)
            absent = Outcome.NODATA if known else Outcome.NXDOMAIN
            self._conclude(question, Outcome.FOUND if addresses else absent, now, addresses)
        elif cached is not None:
            question._names += cached.names[1:]
            question._expires_at = min(question._expires_at, cached.expires_at)
            self._conclude(question, cached.outcome, now, cached.addresses)
        else:
            self._ask_next(question, now)

    def _ask_next(self, question: Question, now: int) -> None:
        """Ask the next server, or give up."""
        count = len(self._servers)
        turn, index = divmod(question._attempts, count)
        if turn == len(TIMEOUTS_NS) or now >= question._gives_up_at:
            self._conclude(question, Outcome.SERVFAIL if question._failed else Outcome.TIMEOUT, now)
            return
        question._attempts += 1
        self._begin(question, self._servers[(question._first + index) % count], TIMEOUTS_NS[turn], now)

    def _turn_to_stream(self, exchange: Exchange, now: int) -> None:
        self._end(exchange)
        question = exchange._question
        # If it was an earlier exchange that turned out so, the stream to another server may be on its way already.
        if question._current is None or not question._current.is_stream:
            self._begin(question, exchange.server, STREAM_TIMEOUT_NS, now, is_stream=True)

    def _begin(
        self, question: Question, server: Endpoint, timeout_ns: int, now: int, *, is_stream: bool = False
    ) -> None:
        if question._exchanges >= MAX_EXCHANGES:
            self.drops["query: too many exchanges"] += 1
            self._conclude(question, Outcome.SERVFAIL, now)
            return
        random = self._random_bytes(RANDOM_BYTES)
        query = encode_query(question._names[-1], question.kind, random, with_edns=question._with_edns)
        exchange = question._current = Exchange(question, server, query, is_stream=is_stream)
        question._exchanges += 1
        question._due_at = min(now + timeout_ns, question._gives_up_at)
        question._open.append(exchange)
        self._beginning.append(exchange)

    def _fail(self, exchange: Exchange, now: int) -> None:
        """This server won't do."""
        question = exchange._question
        question._failed = True
        self._end(exchange)
        if exchange is question._current:
            self._ask_next(question, now)

    def _end(self, *exchanges: Exchange) -> None:
        for exchange in exchanges:
            exchange.is_over = True
            exchange._question._open.remove(exchange)
            self._ended.append(exchange)

    def _conclude(self, question: Question, outcome: Outcome, now: int, addresses: Iterable[bytes] = ()) -> None:
        self._end(*question._open)
        question.answer = Answer(outcome, tuple(question._names), tuple(addresses), question._expires_at)
        if self._questions.pop((question.name, question.kind), None) is not None:
            self._cache.put(question.kind, question.answer, now)
        self._events.append(question)
