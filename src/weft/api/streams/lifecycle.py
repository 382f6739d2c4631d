"""From `connection_made` to `connection_lost`: what transports of streams and of datagrams have in common.

    made ──start──> open ──close──> closing, until what was written has left ──> lost
                     │                 │
                     └──── abort, a failure, a fault of the protocol ──────────> lost

The protocol is told of its end once, in a turn of the loop of its own. Its methods run in the context (`contextvars`)
in which the transport was made, whoever woke the host. What it raises goes to the exception handler of the loop and
ends the transport, as asyncio's own transports have it.

While more than the high-water mark waits to be sent, the protocol is asked to pause; at the low-water mark, to go on.

Source: PEP 3156; `asyncio.selector_events` for what it leaves open.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import constants, transports
from contextvars import Context, copy_context
from typing import Any, Final

from weft.api.streams.ground import Ground
from weft.api.streams.sockaddr import sockaddr_of
from weft.api.streams.sockets import TransportSocket
from weft.stack.endpoint import Endpoint

WARN_AFTER_WRITES: Final = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
"""To a transport that is lost; a program that goes on and on is told."""

log = logging.getLogger("weft.api")


class OverlayTransport(transports._FlowControlMixin):
    """One transport over a socket of the stack.

    Args:
        ground: what it stands on.
        protocol: whom it serves.
        context: in which the protocol runs; None for a copy of the present one.
    """

    __slots__ = ("__weakref__", "_context", "_ground", "_is_closing", "_is_paused", "_losses", "_protocol", "_socket")

    # Declared by asyncio's class, as slots, but for type checkers.
    _loop: asyncio.AbstractEventLoop
    _protocol_paused: bool
    _high_water: int
    _low_water: int

    def __init__(self, ground: Ground, protocol: asyncio.BaseProtocol, context: Context | None) -> None:
        super().__init__(None, ground.loop)
        self._ground = ground
        self._context = copy_context() if context is None else context
        self._protocol: Any = None
        self._socket: TransportSocket | None = None
        self._is_closing = False
        self._is_paused = False
        self._losses = 0  # more than 0 once the end is due; counts what is written from then on
        self.set_protocol(protocol)
        ground.open[self] = None

    def __repr__(self) -> str:
        state = "lost" if self._losses else "closing" if self._is_closing else "open"
        local, remote = self._ends()
        between = f"{local} -> {remote}" if remote is not None else f"{local}"
        return f"<{self.__class__.__name__} {between} {state} write={self.get_write_buffer_size()}>"

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Serve another protocol from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whom it serves; None once that was told of the end."""
        return self._protocol  # type: ignore[no-any-return]

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._is_closing

    def is_reading(self) -> bool:
        """Whether the protocol is given what comes."""
        return not self._is_closing and not self._is_paused

    def pause_reading(self) -> None:
        """Give the protocol nothing until `resume_reading`."""
        if self.is_reading():
            self._is_paused = True

    def resume_reading(self) -> None:
        """Give the protocol what comes."""
        if self._is_paused and not self._is_closing:
            self._is_paused = False
            self._loop.call_soon(self._look_again, context=self._context)

    def _look_again(self) -> None:
        self._look()
        # What was taken opens the window, for which the other side may wait.
        self._ground.driver.wake()

    def abort(self) -> None:
        """End at once; what was not sent yet is lost."""
        self._force_close(None)

    def end(self) -> None:
        """The host goes away: the protocol is told that its connection was aborted."""
        self._force_close(ConnectionAbortedError("the node was closed"))

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low-water and the high-water mark, bytes."""
        return self._low_water, self._high_water

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks between which the protocol is asked to pause and to go on, bytes.

        Raises:
            ValueError: not high >= low >= 0.
        """
        super().set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the transport.

        Args:
            name: "sockname", "peername", "socket", or "peer": the participant at the other end, as the node knows it.
            default: what is returned where nothing is known.
        """
        local, remote = self._ends()
        if name == "sockname":
            return sockaddr_of(local)
        if name == "socket":
            if self._socket is None:
                self._socket = self._make_socket()
            return self._socket
        if remote is not None and name == "peername":
            return sockaddr_of(remote)
        if remote is not None and name == "peer":
            peer = self._ground.describe_peer(remote.address)
            return default if peer is None else peer
        return default

    def handle_event(self) -> None:
        """Something happened to the socket."""
        self._context.run(self._look)

    def _call_soon_start(self, waiter: asyncio.Future[None] | None) -> None:
        self._loop.call_soon(self._start, waiter, context=self._context)

    def _start(self, waiter: asyncio.Future[None] | None) -> None:
        self._attach()
        try:
            self._protocol.connection_made(self)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report("protocol.connection_made() failed", error)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        self._look_again()

    def _pause_if_full(self) -> None:
        if not self._protocol_paused and self.get_write_buffer_size() > self._high_water:
            self._protocol_paused = True
            self._ask("pause_writing")

    def _resume_if_drained(self) -> None:
        if self._protocol_paused and self.get_write_buffer_size() <= self._low_water:
            self._protocol_paused = False
            self._ask("resume_writing")

    # asyncio's class calls it when the marks change.
    _maybe_pause_protocol = _pause_if_full

    def _ask(self, what: str) -> None:
        try:
            getattr(self._protocol, what)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(f"protocol.{what}() failed", error)

    def _report(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    def _is_lost_for_writing(self) -> bool:
        """Whether what is written goes nowhere any more; a program that goes on is told now and then."""
        if not self._losses:
            return False
        if self._losses >= WARN_AFTER_WRITES:
            log.warning("something is written to %r, which is lost", self)
        self._losses += 1
        return True

    def _fatal_error(self, error: BaseException, message: str = "Fatal error on transport") -> None:
        # What the network does is no news; what a protocol does wrong is.
        if not isinstance(error, OSError):
            self._report(message, error)
        elif self._loop.get_debug():
            log.debug("%r: %s", self, message, exc_info=error)
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        """End at once; asyncio's TLS calls it by this name."""
        if not self._losses:
            self._drop()
            self._lose(error)

    def _lose(self, error: BaseException | None) -> None:
        self._is_closing = True
        self._losses += 1
        self._loop.call_soon(self._tell_end, error, context=self._context)

    def _tell_end(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._protocol = None
            self._ground.open.pop(self, None)
            self._detach()

    # What streams and datagrams each have of their own.

    def _ends(self) -> tuple[Endpoint, Endpoint | None]:
        """The local endpoint, and the remote one if there is one."""
        raise NotImplementedError

    def _make_socket(self) -> TransportSocket:
        """What `get_extra_info("socket")` gives."""
        raise NotImplementedError

    def _attach(self) -> None:
        """Become the user of the socket."""
        raise NotImplementedError

    def _look(self) -> None:
        """Look what has become of the socket."""
        raise NotImplementedError

    def _drop(self) -> None:
        """End the socket now, with what it still has to send."""
        raise NotImplementedError

    def _detach(self) -> None:
        """The protocol has been told of the end: let go of the socket."""
        raise NotImplementedError
