"""Drives a host of the stack on an event loop: looks after its timers, tells the users of its sockets, sends.

Whatever is done to the host, by a user or by a packet, is followed by `wake`; all that was done in one turn of the loop
is answered together in the next. So packets that came in one burst are acknowledged once, and what several writers
wrote leaves in as few calls as it can. Who has done all of something together, as a socket that was read to its end,
says so with `run`, and nothing waits for the next turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from weft.io.backend import Closable
    from weft.stack.host import Host
    from weft.stack.tcp.connection import Connection

log = logging.getLogger("weft.engine")

EVENTS_IN_A_TURN = 256
"""Sockets that are looked at in one turn, so that timers and the API get theirs."""
PASSES_IN_A_TURN = 4
"""So often what the host sends to itself comes back in the same turn."""
LINGER_STEP_S: Final = 0.01
LINGER_STEPS: Final = 200
"""How long what was written before its connection was closed may take to arrive, when the host goes: 2 s."""


def rest() -> bool:
    """Send nothing now."""
    return False


class Driver:
    """One host on one loop.

    Args:
        host: what is driven.
        clock: monotonic ns.
        transmit: takes from `host.next_packet` what there is, up to a bound; returns whether there may be more.

    Attributes:
        host: what is driven.
        clock: monotonic ns.
        users: who ends with it, and is closed then.
        transmit: as it was given; whoever replaces it calls `wake`. While it is `rest`, what is to be sent waits.
    """

    def __init__(self, host: Host, clock: Callable[[], int], transmit: Callable[[], bool]) -> None:
        self.host = host
        self.clock = clock
        self.transmit = transmit
        self.users: set[Closable] = set()
        self._loop = asyncio.get_running_loop()
        self._is_looking = self._is_turning = self._is_closed = False
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: int | None = None
        self._is_due = False

    def wake(self) -> None:
        """Something was done to the host; look after it in the next turn of the loop."""
        if self._soon is None and not self._is_looking and not self._is_closed:
            self._soon = self._loop.call_soon(self._turn)

    def run(self) -> None:
        """Something was done to the host, and all of it; look after it now. Whoever calls is a callback of the loop."""
        if self._is_turning:
            self.wake()
            return
        if self._soon is not None:
            self._soon.cancel()
        self._turn()

    async def end(self) -> None:
        """End what programs have open, while the other side can still be told; what they have closed arrives first."""
        for _ in range(LINGER_STEPS):
            if not any(map(_is_leaving, self.host.tcp.connections)):
                break
            await asyncio.sleep(LINGER_STEP_S)
        for connection in self.host.tcp.connections:
            # What is closed and has arrived needs no more, and a reset could cost the other side what it has not read.
            if not connection.has_released or _is_leaving(connection):
                connection.abort(self.clock())
        self.wake()
        # One turn to send that, and another for whoever used the connections to see it.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def close(self) -> None:
        """Drive the host no longer."""
        self._is_closed = True
        for user in list(self.users):
            user.close()
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        self._soon = None
        if self._is_closed:
            return
        self._is_turning = True
        try:
            has_more = self._pass()
        finally:
            self._is_turning = False
        if has_more:
            self.wake()
        self._arm()

    def _pass(self) -> bool:
        """See to the host, and to what it sends to itself; returns whether that leaves more to do."""
        host = self.host
        for _ in range(PASSES_IN_A_TURN):
            self._is_looking = True
            try:
                self._look_around()
            finally:
                # What the users have done until now is seen to in this turn.
                self._is_looking = False
            has_more = host.has_output and self.transmit()
            if has_more or not host.has_looped:
                break
        return has_more or host.has_events or host.has_looped

    def _look_around(self) -> None:
        """Do what is due, and tell the users of sockets what happened."""
        host = self.host
        if self._is_due or host.has_looped:
            self._is_due = False
            host.handle_timer(self.clock())
        for _ in range(EVENTS_IN_A_TURN):
            socket = host.next_event()
            if socket is None:
                break
            if socket.user is not None:
                try:
                    socket.user.handle_event()
                except Exception:
                    # One user's fault is no reason to stop serving the others.
                    log.exception("a user of a socket failed")

    def _arm(self) -> None:
        at = self.host.next_timer()
        # One that ends too early costs less than to begin anew whenever something has become later.
        if at is None or (self._timer_at is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0, at - self.clock()) / 1e9, self._handle_timer)

    def _handle_timer(self) -> None:
        self._timer = self._timer_at = None
        self._is_due = True
        if self._soon is None:
            self._turn()


def _is_leaving(connection: Connection) -> bool:
    """Whether a program has closed a connection and not all of it has arrived yet."""
    is_closed = connection.has_released and not connection.is_closed
    return is_closed and connection.is_established and bool(connection.unsent_bytes or connection.unacknowledged_bytes)
