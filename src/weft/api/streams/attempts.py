"""Attempts to connect: at the addresses of one name, one after the other or staggered (happy eyeballs).

An attempt that is not wanted any more is aborted, so that nothing is left in the stack of what nobody waits for.

Source: RFC 8305 sections 4 and 5; `asyncio.base_events`, for what is raised.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from weft.api.streams.errors import OF_LOCAL_END, binding_error, error_of
from weft.api.streams.names import AddressInfo
from weft.api.streams.sockaddr import endpoint_of, family_of, sockaddr_of
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError

if TYPE_CHECKING:
    from weft.api.streams.ground import Ground
    from weft.stack.tcp.connection import Connection


class Attempt:
    """One address, tried once.

    Args:
        ground: from where.
        info: where to.
        local: our end may be any of these; None to leave that to the stack.

    Attributes:
        errors: what went wrong.
    """

    def __init__(self, ground: Ground, info: AddressInfo, local: Sequence[AddressInfo] | None) -> None:
        self.errors: list[OSError] = []
        self._ground = ground
        self._address = info[4]
        self._local = local
        self._connection: Connection | None = None
        self._over: asyncio.Future[None] = ground.loop.create_future()

    async def run(self) -> Connection | None:
        """Connect.

        Returns:
            An established connection, which has no user; None if it could not be.
        """
        try:
            connection = self._connection = self._connect()
        except OSError as error:
            self.errors.append(error)
            return None
        connection.user = self
        self._ground.driver.wake()
        self._ground.open[self] = None
        try:
            await self._over
        except BaseException:
            abandon(self._ground, connection)
            raise
        finally:
            self._ground.open.pop(self, None)
            connection.user = None
        if connection.is_established:
            return connection
        self.errors.append(self._failed(connection.failure or Failure.ABORTED))
        return None

    def handle_event(self) -> None:
        """Something happened to the connection."""
        connection = self._connection
        if connection is not None and (connection.is_established or connection.is_closed) and not self._over.done():
            self._over.set_result(None)

    def end(self) -> None:
        """The host goes away."""
        if self._connection is not None and not self._over.done():
            abandon(self._ground, self._connection)
            self._over.set_result(None)

    def _connect(self) -> Connection:
        remote = endpoint_of(self._address)
        for local in self._local_ends(remote):
            try:
                return self._ground.host.tcp.connect(remote, self._ground.now(), local=local)
            except StackError as error:
                if local is None or error.failure not in OF_LOCAL_END:
                    raise self._failed(error.failure) from None
                self.errors.append(binding_error(error.failure, sockaddr_of(local)))
        if self.errors:
            raise self.errors.pop()
        raise OSError(f"no matching local address with family={family_of(remote.address)!r} found")

    def _local_ends(self, remote: Endpoint) -> list[Endpoint | None]:
        if self._local is None:
            return [None]
        ends = (endpoint_of(info[4]) for info in self._local)
        return [end for end in ends if len(end.address) == len(remote.address)]

    def _failed(self, failure: Failure) -> OSError:
        return error_of(failure, f"Connect call failed {self._address}")


async def one_by_one(attempts: Sequence[Attempt]) -> Connection | None:
    """Make one attempt after the other; returns the first connection."""
    for attempt in attempts:
        connection = await attempt.run()
        if connection is not None:
            return connection
    return None


async def race(ground: Ground, attempts: Sequence[Attempt], delay_s: float) -> Connection | None:
    """Begin an attempt when the one before has failed, or has had its time; returns the first connection.

    Args:
        ground: from where.
        attempts: the best first.
        delay_s: the start that each has over the next.
    """
    waiting = deque(attempts)
    running: set[asyncio.Task[Connection | None]] = set()
    connections: list[Connection] = []
    try:
        while (waiting or running) and not connections:
            if waiting:
                running.add(ground.loop.create_task(waiting.popleft().run()))
            done, running = await asyncio.wait(
                running, timeout=delay_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            connections += filter(None, (task.result() for task in done))
    finally:
        for task in running:
            task.cancel()
        late = await asyncio.gather(*running, return_exceptions=True)
        unwanted = connections[1:] + [each for each in late if each is not None and not isinstance(each, BaseException)]
        for connection in unwanted:
            abandon(ground, connection)
    return connections[0] if connections else None


def abandon(ground: Ground, connection: Connection) -> None:
    """Nobody wants a connection any more."""
    connection.user = None
    connection.abort(ground.now())
    ground.driver.wake()


def take_in_turn(infos: Sequence[AddressInfo], first: int) -> list[AddressInfo]:
    """Take the families in turn.

    Args:
        infos: the best first.
        first: how many of the best family come before any of the other one.
    """
    by_family: dict[int, list[AddressInfo]] = {}
    for info in infos:
        by_family.setdefault(info[0], []).append(info)
    best, *others = by_family.values()
    turns = itertools.zip_longest(best[first - 1 :], *others)
    return [*best[: first - 1], *(info for turn in turns for info in turn if info is not None)]


def combined(errors: Sequence[OSError], *, all_errors: bool) -> OSError | ExceptionGroup[OSError]:
    """The one error that says what went wrong with all attempts."""
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)
    texts = [str(error) for error in errors]
    if len(set(texts)) == 1:
        return errors[0]
    return OSError(f"Multiple exceptions: {', '.join(texts)}")
