"""A socket that a client has: what all kinds share, and what is refused of those that can't do it.

    level   `flags` says what it is ready for now
    edge    what it was not ready for before, or what came since, is noted twice: for POLL, and for events; each is told
            once

Not done here: the kinds (stream.py, listening.py, datagram.py); who is told (polling.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from weft.netd import messages
from weft.netd.layout import NOWHERE
from weft.netd.messages import Mode, Ready, SocketStatus
from weft.netd.status import RefusedError, Status
from weft.stack.endpoint import Endpoint

if TYPE_CHECKING:
    from weft.io.backend import Backend
    from weft.netd.polling import Waiting
    from weft.netd.session import Session

# As plain numbers, since the operators of enum take longer than what they are used for.
READABLE: Final = int(Ready.READABLE)
WRITABLE: Final = int(Ready.WRITABLE)
AT_END: Final = int(Ready.END)
FAILED: Final = int(Ready.ERROR)


class Handle:
    """One socket.

    Args:
        session: whose it is.
        number: by which the client knows it.
        backend: where it comes from.

    Attributes:
        session: whose it is.
        number: by which the client knows it.
        backend: where it comes from.
        polls: those that wait for it.
        poll_edges: what the next POLL for edges tells.
        event_edges: what the next event tells.
        interest: of the client in events.
        mode: of the events.
        subscription: request that the events have.
        is_watched: whether anybody ever wanted to be told; until then nothing is noted.
    """

    __slots__ = (
        "_last", "_mark", "backend", "event_edges", "interest", "is_watched", "mode", "number", "poll_edges", "polls",
        "session", "subscription",
    )  # fmt: skip

    def __init__(self, session: Session, number: int, backend: Backend) -> None:
        self.session = session
        self.number = number
        self.backend = backend
        self.polls: dict[Waiting, None] = {}
        self.poll_edges = self.event_edges = self.interest = 0
        self.mode = Mode.OFF
        self.subscription = 0
        self.is_watched = False
        self._last = self._mark = 0

    def flags(self) -> int:
        """What it is ready for; bits of `Ready`."""
        raise NotImplementedError

    def mark(self) -> int:
        """A number that grows whenever something comes."""
        raise NotImplementedError

    def status(self) -> SocketStatus:
        """What it is like."""
        raise NotImplementedError

    def close(self, *, abort: bool = False) -> None:
        """End it; what waits is answered."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Answer what waits, as far as that can be done now."""

    def handle_event(self) -> None:
        """Something happened to the socket of the backend."""
        self.go_on()
        self.note()
        self.session.told()

    def watch(self) -> None:
        """Somebody wants to be told of it, from now on: all that is so is new."""
        if not self.is_watched:
            self.is_watched = True
            self._last = self.poll_edges = self.event_edges = self.flags()
            self._mark = self.mark()

    def note(self) -> None:
        """See whether there is something to tell."""
        if not self.is_watched:
            return
        flags, mark = self.flags(), self.mark()
        edges = flags & ~self._last
        if mark != self._mark:
            edges |= flags & READABLE
        self._last, self._mark = flags, mark
        if edges:
            self.poll_edges |= edges
            self.event_edges |= edges
        if self.polls or self.mode is not Mode.OFF:
            self.session.polling.look(self)

    # What a client asks; each gives the reply, or None if it comes later.

    def connect(self, request: int, asked: messages.Connect) -> messages.Bound | None:
        """Connect."""
        _refuse()

    def bind(self, request: int, asked: messages.Bind) -> messages.Bound:
        """Say where it is."""
        _refuse()

    def listen(self, request: int, asked: messages.Listen) -> messages.Bound:
        """Take connections."""
        _refuse()

    def accept(self, request: int, asked: messages.Accept) -> messages.Accepted | None:
        """Take one of them."""
        _refuse()

    def send(self, request: int, asked: messages.Send) -> messages.Sent | None:
        """Send data."""
        _refuse()

    def receive(self, request: int, asked: messages.Receive) -> messages.Received | None:
        """Take data."""
        _refuse()

    def shutdown(self, request: int, asked: messages.Shutdown) -> messages.Nothing:
        """Send nothing more."""
        _refuse()


def _refuse() -> NoReturn:
    raise RefusedError(Status.NOT_SUPPORTED)


def check_flags(flags: int, allowed: int) -> None:
    """Refuse what is not known.

    Raises:
        RefusedError: INVALID.
    """
    if flags & ~allowed:
        raise RefusedError(Status.INVALID)


def place(endpoint: Endpoint | None) -> Endpoint:
    """An end, as messages have it."""
    return endpoint if endpoint is not None else NOWHERE


class Family:
    """What addresses a socket takes.

    Args:
        number: of the message.
    """

    __slots__ = ("_length",)

    def __init__(self, number: int) -> None:
        lengths = {0: None, 2: 4, 10: 16}
        if number not in lengths:
            raise RefusedError(Status.NOT_SUPPORTED)
        self._length = lengths[number]

    def remote(self, endpoint: Endpoint) -> Endpoint:
        """An other end that may be.

        Raises:
            RefusedError: INVALID.
        """
        if not endpoint.port or len(endpoint.address) not in self._lengths():
            raise RefusedError(Status.INVALID)
        return endpoint

    def local(self, endpoint: Endpoint) -> Endpoint:
        """An own end that may be.

        Raises:
            RefusedError: INVALID.
        """
        if not endpoint.address:
            return Endpoint(bytes(self._length or 16), endpoint.port)
        if len(endpoint.address) not in self._lengths():
            raise RefusedError(Status.INVALID)
        return endpoint

    def _lengths(self) -> tuple[Any, ...]:
        return (self._length,) if self._length is not None else (4, 16)
