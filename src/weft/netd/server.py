"""The Unix socket on which clients come, and the event loop for their sessions.

A client that does not read what it is told is not read either, until it does; others do not notice. One that says what
can't be a message is told so and let go. When it goes, all that it had goes.

Not done here: what clients ask (session.py); the file of the socket, of whoever makes it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Final, cast

from weft.io.backend import Backend
from weft.netd.frames import encode_status
from weft.netd.messages import Code, code_of_reply
from weft.netd.network import Network
from weft.netd.questions import Lookup
from weft.netd.room import Room
from weft.netd.session import MAX_OUTPUT_BYTES, Session
from weft.netd.status import Status

log = logging.getLogger(__name__)

MAX_CLIENTS: Final = 256
BUFFER_BYTES: Final = 1 << 20
"""Of the Unix socket, in each direction."""

_FAMILIES: Final = {0: socket.AF_UNSPEC, 4: socket.AF_INET, 16: socket.AF_INET6}
_LOOKUP_FAILURES: Final = {socket.EAI_AGAIN: Status.TRY_AGAIN}


class Server:
    """Serves clients for as long as `run` runs.

    Args:
        network: the node.
        listening: a Unix socket that listens; stays the caller's.
        clock: monotonic ns.
    """

    def __init__(
        self, network: Network, listening: socket.socket, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.network = network
        self.clock = clock
        self.room = Room()
        self.clients: set[Conversation] = set()
        self._listening = listening
        self._backend: Backend | None = None

    async def run(self) -> None:
        """Serve, until cancelled."""
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: Conversation(self), sock=self._listening.dup())
        try:
            await loop.create_future()
        finally:
            server.close()
            for client in list(self.clients):
                client.end()
            # Whoever was connected sees it in the next turn.
            await asyncio.sleep(0)

    def follow(self) -> None:
        """The backend may be another than before."""
        backend = self.network.backend
        if backend is not self._backend:
            self._backend = backend
            if backend is not None:
                backend.users.add(_Loss(self, backend))

    def lose(self, backend: Backend) -> None:
        """A backend has gone."""
        for client in list(self.clients):
            client.session.lose(backend)


class _Loss:
    """Hears that a backend goes."""

    def __init__(self, server: Server, backend: Backend) -> None:
        self._server = server
        self._backend = backend

    def close(self) -> None:
        """It is there no longer."""
        self._backend.users.discard(self)
        self._server.lose(self._backend)


class Conversation(asyncio.BufferedProtocol):
    """One client.

    Args:
        server: whose.

    Attributes:
        session: what it asks and has.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self.session = Session(server.network, server.room, server.clock, self._told)
        self._transport: asyncio.Transport
        self._lookups: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: int | None = None
        self._is_going_on = self._was_blocked = False
        self._is_due = self._has_more = self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast(asyncio.Transport, transport)
        if len(self._server.clients) >= MAX_CLIENTS:
            self._transport.write(encode_status(code_of_reply(Code.NONE), 0, Status.NO_RESOURCE))
            self._transport.close()
            return
        self._server.clients.add(self)
        self._transport.set_write_buffer_limits(high=MAX_OUTPUT_BYTES)
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where what it says next is to be written."""
        return self.session.frames.room()

    def buffer_updated(self, nbytes: int) -> None:
        """It has said something."""
        if self.session.is_over:
            return
        self._server.follow()
        self.session.frames.fill(nbytes)
        # What the host makes of it meanwhile goes back with the answers that there are already.
        self._is_due = True
        self._do(self.session.go_on)

    def eof_received(self) -> bool:
        """It says no more, and so it is over."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._server.clients.discard(self)
        self.session.close()
        for task in self._lookups:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """It does not take what it is told."""
        self.session.is_held = self._was_blocked = True
        self._pause_reading()

    def resume_writing(self) -> None:
        """It does again."""
        self.session.is_held = False
        self._do(self._further)

    def end(self) -> None:
        """Let it go."""
        self._transport.abort()

    def _further(self) -> bool:
        """Go on with what the session had to leave."""
        if self._was_blocked:
            self._was_blocked = False
            self.session.unblock()
        return self.session.go_on()

    def _told(self) -> None:
        """There is something to say; what others say in this turn goes with it."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._say)

    def _say(self) -> None:
        self._is_due = False
        self._attempt(self._flush)

    def _do(self, work: Callable[[], bool]) -> None:
        """Have the session do something, and send what it says."""
        self._attempt(work)
        self._say()

    def _attempt(self, work: Callable[[], bool]) -> None:
        """Do a part of what there is to do for the client; it says whether that leaves more."""
        if self._transport.is_closing():
            return
        try:
            self._has_more = work()
        except Exception:
            # One client's request is no reason to stop serving the others.
            log.exception("a client of netd is let go")
            self._transport.abort()

    def _flush(self) -> bool:
        """Send what is to be said; what is left to do is done soon, before anything more is read."""
        session, transport = self.session, self._transport
        # What waits for room among the answers has it soon.
        self._was_blocked |= session.is_blocked
        output = session.take_output()
        if output:
            transport.writelines(output)
        if session.is_over:
            transport.close()
            return False
        while session.questions.lookups:
            task = self._loop.create_task(self._look_up(session.questions.lookups.popleft()))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)
        at = session.next_timer()
        if at != self._timer_at:
            self._arm(at)
        if session.is_held or self._is_going_on:
            return self._has_more
        if self._has_more or self._was_blocked:
            self._is_going_on = True
            self._pause_reading()
            self._loop.call_soon(self._go_on)
        elif self._is_paused:
            self._is_paused = False
            transport.resume_reading()
        return False

    def _go_on(self) -> None:
        self._is_going_on = False
        self._do(self._further)

    async def _look_up(self, lookup: Lookup) -> None:
        addresses, status = [], Status.OK
        try:
            addresses = list(await self._server.network.resolve(lookup.name, _FAMILIES[lookup.length]))
        except socket.gaierror as error:
            status = _LOOKUP_FAILURES.get(error.errno or 0, Status.NO_NAME)
        except (OSError, UnicodeError):
            status = Status.TRY_AGAIN
        self.session.questions.handle_resolved(lookup, addresses, status)
        self._say()

    def _pause_reading(self) -> None:
        self._is_paused = True
        self._transport.pause_reading()

    def _arm(self, at: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, at
        if at is not None:
            delay_s = max(0, at - self._server.clock()) / 1e9
            self._timer = self._loop.call_later(delay_s, self._handle_timer)

    def _handle_timer(self) -> None:
        self._timer = self._timer_at = None
        self.session.handle_timer(self._server.clock())
        self._say()
