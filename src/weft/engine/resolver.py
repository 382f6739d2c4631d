"""Names to addresses for programs: what the network knows by itself first, then either of two that may know more.

| resolver       | asks                                                          |
|----------------|---------------------------------------------------------------|
| SystemResolver | the operating system, in a thread of the loop; the default    |
| ServerResolver | servers inside the network, over sockets that lead there      |

Both fail as `socket.getaddrinfo` does, with `socket.gaierror`.

Not done here: ports, services and canonical names (the caller's `getaddrinfo`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

from weft.stack.dns.names import Names
from weft.stack.failure import StackError

if TYPE_CHECKING:
    from weft.io.backend import Backend
    from weft.stack.dns.cache import Answer
    from weft.stack.dns.message import Kind
    from weft.stack.dns.resolver import Exchange, Question
    from weft.stack.endpoint import Endpoint

ADDRESS_BYTES: dict[int, tuple[int, ...]] = {socket.AF_INET: (4,), socket.AF_INET6: (16,), socket.AF_UNSPEC: (16, 4)}
"""By family, and in which order they are tried."""

NO_DATA = getattr(socket, "EAI_NODATA", socket.EAI_NONAME)
"""BSD, and so macOS, does not tell it from a name that does not exist."""
ERRORS = {
    "NXDOMAIN": (socket.EAI_NONAME, "Name or service not known"),
    "TIMEOUT": (socket.EAI_AGAIN, "Temporary failure in name resolution"),
    "SERVFAIL": (socket.EAI_AGAIN, "Temporary failure in name resolution"),
    "NODATA": (NO_DATA, "No address associated with hostname"),
}
"""By outcome; of two the upper one counts, since a name that has no IPv4 address may have another. glibc's texts."""


class SystemResolver:
    """Knows what the node and its operating system know."""

    def __init__(self, names: Names) -> None:
        self._names = names

    async def resolve(self, host: str, family: int = socket.AF_UNSPEC) -> list[bytes]:
        """Find the addresses of a host.

        Args:
            host: an address, a name, or a peer id.
            family: AF_INET, AF_INET6, or AF_UNSPEC for both.

        Returns:
            4 or 16 bytes each, at least one, the best first.

        Raises:
            socket.gaierror: There is none, or it can't be told now.
        """
        if family not in ADDRESS_BYTES:
            raise socket.gaierror(socket.EAI_FAMILY, "ai_family not supported")
        known = self._names.look_up(host)
        if known is None:
            return await self._ask(host, family)
        found = [address for address in known if len(address) in ADDRESS_BYTES[family]]
        if not found:
            raise socket.gaierror(*ERRORS["NODATA" if known else "NXDOMAIN"])
        return found

    def close(self) -> None:
        """Resolve no more."""

    async def _ask(self, host: str, family: int) -> list[bytes]:
        loop = asyncio.get_running_loop()
        # One type of socket, or the system says each address once for every type.
        try:
            infos = await loop.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
        except ValueError as error:
            # Python's own objections to what can't be a name, such as a label that is too long.
            raise socket.gaierror(*ERRORS["NXDOMAIN"]) from error
        return [ip_address(str(address[0])).packed for *_, address in infos]


class ServerResolver(SystemResolver):
    """Knows what the node and servers inside the network know.

    Attributes:
        resolver: what is asked and remembered.
        backend: whose sockets are used.
    """

    def __init__(self, names: Names, servers: Sequence[Endpoint], backend: Backend) -> None:
        """Begin.

        Args:
            names: of the node.
            servers: whom to ask, in this order.
            backend: whose sockets are used.

        Raises:
            UsageError: There is no server, or there are too many.
        """
        super().__init__(names)
        # dnspython takes as long to import as asyncio does, and few nodes need it.
        from weft.stack.dns.resolver import Resolver

        self.resolver = Resolver(servers, os.urandom, names.look_up)
        self.backend = backend
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[Exchange, _Datagrams | _Stream] = {}
        self._waiting: dict[Question, asyncio.Future[Answer]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Close the sockets; whoever waits is told that nothing can be told now."""
        from weft.stack.dns.cache import Answer, Outcome

        now = self.backend.clock()
        if self._timer is not None:
            self._timer.cancel()
        while self._sockets:
            self._sockets.popitem()[1].close(now)
        while self._waiting:
            question, future = self._waiting.popitem()
            if not future.done():
                future.set_result(Answer(Outcome.TIMEOUT, (question.name,), (), now))
        self.backend.wake()

    def pump(self, now: int) -> None:
        """Do what the resolver wants done, after anything was told to it."""
        resolver = self.resolver
        while beginning := resolver.exchanges_to_begin():
            for exchange in beginning:
                try:
                    self._sockets[exchange] = (_Stream if exchange.is_stream else _Datagrams)(self, exchange, now)
                except StackError:
                    resolver.receive_failure(exchange, now)
        for exchange in resolver.exchanges_ended():
            if exchange in self._sockets:
                self._sockets.pop(exchange).close(now)
        while (question := resolver.next_event()) is not None:
            future = self._waiting.pop(question, None)
            if future is not None and question.answer is not None:
                future.set_result(question.answer)
        self.backend.wake()
        self._arm(now)

    async def _ask(self, host: str, family: int) -> list[bytes]:
        from weft.stack.dns.message import Kind

        kinds = [Kind.A if length == 4 else Kind.AAAA for length in ADDRESS_BYTES[family]]
        answers = await asyncio.gather(*[self._answer_to(host, kind) for kind in kinds])
        addresses = [address for answer in answers for address in answer.addresses]
        if not addresses:
            outcomes = {answer.outcome.name for answer in answers}
            raise socket.gaierror(*next(error for outcome, error in ERRORS.items() if outcome in outcomes))
        return addresses

    async def _answer_to(self, host: str, kind: Kind) -> Answer:
        now = self.backend.clock()
        question = self.resolver.query(host, kind, now)
        future = self._waiting.get(question)
        if future is None:
            future = self._waiting[question] = self._loop.create_future()
        self.pump(now)
        # Others may wait for the same answer.
        return await asyncio.shield(future)

    def _arm(self, now: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = self.resolver.next_timer()
        self._timer = None if at is None else self._loop.call_later(max(0, at - now) / 1e9, self._handle_timer)

    def _handle_timer(self) -> None:
        now = self.backend.clock()
        self.resolver.handle_timer(now)
        self.pump(now)


class _Datagrams:
    """The UDP socket of one exchange; connected, so that it hears its server only, and errors on the way there."""

    __slots__ = ("_exchange", "_owner", "_socket")

    def __init__(self, owner: ServerResolver, exchange: Exchange, now: int) -> None:
        self._owner = owner
        self._exchange = exchange
        self._socket = owner.backend.open_udp(None, exchange.server)
        self._socket.user = self
        try:
            self._socket.send(exchange.data, None, now)
        except StackError:
            self._socket.close()
            raise

    def handle_event(self) -> None:
        """Something came."""
        resolver, now = self._owner.resolver, self._owner.backend.clock()
        while (received := self._socket.receive()) is not None:
            data, source = received
            resolver.receive(self._exchange, source, data, now)
        if self._socket.take_failure() is not None:
            resolver.receive_failure(self._exchange, now)
        self._owner.pump(now)

    def close(self, now: int) -> None:
        """Hear no more."""
        self._socket.user = None
        self._socket.close()


class _Stream:
    """The TCP connection of one exchange."""

    __slots__ = ("_connection", "_exchange", "_owner")

    def __init__(self, owner: ServerResolver, exchange: Exchange, now: int) -> None:
        self._owner = owner
        self._exchange = exchange
        self._connection = owner.backend.connect(exchange.server, None)
        self._connection.user = self
        self._connection.send(exchange.data)

    def handle_event(self) -> None:
        """Something came, or it ended."""
        connection, resolver, now = self._connection, self._owner.resolver, self._owner.backend.clock()
        for data in connection.receive():
            resolver.receive_stream(self._exchange, data, now)
        if connection.is_at_end or connection.is_closed:
            resolver.receive_failure(self._exchange, now)
        self._owner.pump(now)

    def close(self, now: int) -> None:
        """Hear no more."""
        self._connection.user = None
        self._connection.close(now)
