"""One client: what it asks, what it is answered, and what it has, from its connection to its end. Sans-IO.

    in      receive (bytes), handle_timer, events of sockets; unblock, when it reads again; questions.handle_resolved
    out     take_output, next_timer; told (a callback) says that there is something to take; questions.lookups

What takes time is answered when it is done, so that nothing holds up what comes behind it. Answers have no order but
that of what is sent and received at one socket.

| bound                                         | what happens at it                                     |
|-----------------------------------------------|--------------------------------------------------------|
| MAX_WAITING                                   | -12                                                    |
| those of sockets.py, questions.py, polling.py | -12                                                    |
| MAX_RESERVED_BYTES, of SENDs                  | -12                                                    |
| MAX_OUTPUT_BYTES not taken                    | nothing is read of the client, nothing is taken for it |

Not done here: sockets (sockets.py), what is no socket (questions.py), transport (server.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from weft.errors import DecodeError
from weft.netd import messages
from weft.netd.frames import REPLIES, Encoder, Frames, encode_status
from weft.netd.handle import check_flags
from weft.netd.messages import ABORT, MESSAGES, Code, code_of_reply
from weft.netd.polling import Polling
from weft.netd.questions import Questions
from weft.netd.sockets import Sockets
from weft.netd.status import OF_FAILURE, RefusedError, Status
from weft.stack.failure import StackError

if TYPE_CHECKING:
    from weft.io.backend import Backend
    from weft.netd.network import Network
    from weft.netd.room import Room

MAX_WAITING: Final = 8192
MAX_RESERVED_BYTES: Final = 8 << 20
MAX_OUTPUT_BYTES: Final = 1 << 20
REQUESTS_IN_A_TURN: Final = 256
BYTES_IN_A_TURN: Final = 256 * 1024
"""Of requests, before others get their turn."""


class Session:
    """One client.

    Args:
        network: the node.
        room: of all clients.
        clock: monotonic ns.
        told: is called when something is said besides what `receive` answers.

    Attributes:
        frames: what it says; whoever writes into it calls `go_on` then.
        sockets: that it has.
        polling: what it waits for.
        questions: what it asks of the node and the network.
        waiting: how many requests are not answered.
        is_held: the client does not take what it was given.
        is_over: it has said what can't be read; when all is sent, that was it.
    """

    def __init__(self, network: Network, room: Room, clock: Callable[[], int], told: Callable[[], None]) -> None:
        self.told = told
        self.sockets = Sockets(self, room)
        self.polling = Polling(self)
        self.questions = Questions(self, network)
        self.frames = Frames()
        self.is_held = False
        self.is_over = False
        self._network = network
        self._room = room
        self._clock = clock
        self._output: list[bytes] = []
        self._output_bytes = 0
        self.waiting = 0
        self._reserved = 0

    # What a server does.

    def receive(self, data: bytes) -> bool:
        """Take what a client says.

        Args:
            data: anything.

        Returns:
            Whether `go_on` has more to do, now or when the client reads again.
        """
        self.frames.feed(data)
        return self.go_on()

    def go_on(self) -> bool:
        """Do what was asked, up to a bound; returns whether there may be more."""
        try:
            if self.is_blocked or self.is_over:
                return not self.is_over
            size = 0
            for requests, (code, request, body) in enumerate(self.frames, 1):
                self._handle(code, request, body)
                size += len(body)
                if requests >= REQUESTS_IN_A_TURN or size >= BYTES_IN_A_TURN or self._output_bytes >= MAX_OUTPUT_BYTES:
                    return True
        except DecodeError:
            self._refuse(Code.NONE, 0, Status.INVALID)
            self.is_over = True
            return False
        finally:
            backend = self._network.backend
            if backend is not None:
                backend.run()
        return False

    @property
    def is_blocked(self) -> bool:
        """Whether the client has to take something first."""
        return self.is_held or self._output_bytes >= MAX_OUTPUT_BYTES

    def take_output(self) -> list[bytes]:
        """What is to be sent to the client, in order."""
        self.polling.tell()
        output, self._output, self._output_bytes = self._output, [], 0
        return output

    def unblock(self) -> None:
        """The client has taken what it was given: go on with what waited for that."""
        for handle in list(self.sockets.handles.values()):
            if self.is_blocked:
                break
            handle.go_on()
            handle.note()

    def next_timer(self) -> int | None:
        """When to call `handle_timer`, monotonic ns; None for never."""
        return self.polling.next_timer()

    def handle_timer(self, now: int) -> None:
        """Do what is due."""
        self.polling.handle_timer(now)

    def lose(self, backend: Backend) -> None:
        """A backend has gone: so have its sockets, and the client is told."""
        self.sockets.lose(backend)
        self.questions.end_pings()
        self.told()

    def close(self) -> None:
        """The client has gone, and with it all that it had; what it sent still arrives."""
        self.is_held = self.is_over = True
        self.sockets.close()
        self.questions.end_pings()
        backend = self._network.backend
        if backend is not None:
            backend.wake()

    # What its sockets do.

    def answer(self, code: int, request: int, reply: Any) -> None:
        """Answer what waited."""
        self.waiting -= 1
        self.say(REPLIES[code], request, reply)

    def fail(self, code: int, request: int, status: Status) -> None:
        """Answer what waited and can't be done."""
        self.waiting -= 1
        self._refuse(code, request, status)

    def say(self, reply: Encoder, request: int, fields: Any) -> None:
        """Have something sent to the client."""
        message, data = reply(fields, request)
        self._output.append(message)
        self._output_bytes += len(message)
        if data:
            self._output.append(data)
            self._output_bytes += len(data)

    def reserve(self, size: int) -> None:
        """Keep data that waits to be sent.

        Raises:
            RefusedError: NO_RESOURCE, it would be too much.
        """
        if self._reserved + size > MAX_RESERVED_BYTES or size > self._room.reserved_bytes:
            raise RefusedError(Status.NO_RESOURCE)
        self._reserved += size
        self._room.reserved_bytes -= size

    def give_back(self, size: int) -> None:
        """It is sent."""
        self._reserved -= size
        self._room.reserved_bytes += size

    # What the client asks.

    def _handle(self, code: int, request: int, body: memoryview) -> None:
        served = _SERVED.get(code)
        if served is None:
            self._refuse(Code.NONE, request, Status.NOT_SUPPORTED)
            return
        decode, is_of_socket, verb, reply = served
        handle = fields = refused = None
        try:
            if self.waiting >= MAX_WAITING:
                raise RefusedError(Status.NO_RESOURCE)
            asked = decode(body)
            if is_of_socket:
                handle = self.sockets.find(asked.socket)
                fields = verb(handle, request, asked)
            else:
                fields = verb(self, request, asked)
        except DecodeError:
            refused = Status.INVALID
        except StackError as error:
            refused = OF_FAILURE[error.failure]
        except RefusedError as error:
            refused = error.status
        if handle is not None and handle.is_watched:
            # It may have become another one, or none.
            known = self.sockets.handles.get(handle.number)
            if known is not None:
                known.note()
        if fields is not None:
            self.say(reply, request, fields)
        elif refused is not None:
            self._refuse(code, request, refused)
        else:
            self.waiting += 1

    def _refuse(self, code: int, request: int, status: Status) -> None:
        message = encode_status(code_of_reply(code), request, status)
        self._output.append(message)
        self._output_bytes += len(message)

    def _close(self, request: int, asked: messages.Close) -> messages.Nothing:
        check_flags(asked.flags, ABORT)
        self.sockets.end(self.sockets.find(asked.socket), abort=bool(asked.flags & ABORT))
        return messages.Nothing()

    def _poll(self, request: int, asked: messages.Poll) -> messages.Polled | None:
        return self.polling.poll(request, asked, self._clock())

    def _status(self, request: int, asked: messages.OfSocket) -> messages.SocketStatus:
        return self.sockets.find(asked.socket).status()

    def _subscribe(self, request: int, asked: messages.Subscribe) -> messages.Nothing:
        self.polling.subscribe(request, asked.socket, asked.interest, asked.mode)
        return messages.Nothing()

    def backend(self) -> Backend:
        """Where the sockets of the node come from.

        Raises:
            RefusedError: NO_INTERFACE.
        """
        backend = self._network.backend
        if backend is None:
            raise RefusedError(Status.NO_INTERFACE)
        return backend


_Verb = Callable[[Any, int, Any], Any]
"""Of whom, the number of the request, and what it says; gives the fields of the reply, or None if it comes later."""

_VERBS: Final[dict[int, _Verb]] = {
    Code.CONNECT: lambda handle, request, asked: handle.connect(request, asked),
    Code.BIND: lambda handle, request, asked: handle.bind(request, asked),
    Code.LISTEN: lambda handle, request, asked: handle.listen(request, asked),
    Code.ACCEPT: lambda handle, request, asked: handle.accept(request, asked),
    Code.SEND: lambda handle, request, asked: handle.send(request, asked),
    Code.RECV: lambda handle, request, asked: handle.receive(request, asked),
    Code.SHUTDOWN: lambda handle, request, asked: handle.shutdown(request, asked),
}
"""What is asked of a socket."""

_OWN: Final[dict[int, _Verb]] = {
    Code.SOCKET_CREATE: lambda session, request, asked: session.sockets.create(asked),
    Code.CLOSE: Session._close,
    Code.POLL: Session._poll,
    Code.STATUS: Session._status,
    Code.DNS_RESOLVE: lambda session, request, asked: session.questions.resolve(request, asked),
    Code.PING: lambda session, request, asked: session.questions.ping(request, asked),
    Code.GET_INFO: lambda session, request, asked: session.questions.info(request, asked),
    Code.INFO: lambda session, request, asked: session.questions.info(request, asked),
    Code.SUBSCRIBE_EVENTS: Session._subscribe,
    Code.STATS: lambda session, request, asked: session.questions.stats(request, asked),
}
"""What is asked of the daemon."""


class _Served(NamedTuple):
    """How requests of one code are served."""

    decode: Callable[[memoryview], Any]
    is_of_socket: bool
    verb: _Verb
    reply: Encoder


_SERVED: Final = {
    int(code): _Served(message.request.decode, code in _VERBS, (_VERBS | _OWN)[code], REPLIES[code])
    for code, message in MESSAGES.items()
}
"""All of them, by their codes: plain numbers, which are found the fastest."""
