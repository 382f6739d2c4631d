"""A node on an event loop in a thread of its own, and how other threads ask it.

    not started ──start──> running ──stop──> ending: what was closed leaves, the rest is aborted ──> over

| who asks               | how                                        | waits for the loop |
|------------------------|--------------------------------------------|--------------------|
| a call of the node     | `call`                                     | yes                |
| a socket               | `soon`, when the loop has something to do  | no                 |

The thread is a daemon, so that nothing keeps a program that ends from ending. A node that runs then is stopped first.
After a fork there is no thread in the child: what it asks fails there, and the parent is not disturbed.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final, ParamSpec, Protocol, TypeVar
from weakref import WeakSet

from weft.errors import UsageError

P = ParamSpec("P")
T = TypeVar("T")

LINGER_S: Final = 2.0
"""How long what was closed may take to leave when the node ends; as long as the node itself lingers."""


class Member(Protocol):
    """What is open, and ends with the node at the latest."""

    over: asyncio.Future[None]
    is_closed: bool

    def end(self) -> None:
        """The node goes away; called in the loop's thread."""

    def abandon(self) -> None:
        """This process is a child that was forked, and has no node."""


class Background:
    """One node in its thread.

    Args:
        node: entered and left in the thread.

    Attributes:
        open: what ends with the node.
    """

    def __init__(self, node: AbstractAsyncContextManager[object]) -> None:
        self.open: set[Member] = set()
        self._node = node
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._is_running = False
        self._started: Future[None] = Future()
        self._stop_wanted: Future[None] = Future()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="weft node", daemon=True)

    def start(self) -> None:
        """Return when the node runs.

        Raises:
            Exception: what entering the node raises.
        """
        assert self._thread is not None
        self._thread.start()
        _all.add(self)
        try:
            self._started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the node, and return when it has ended; nothing, if it has, or in a child that was forked.

        Raises:
            Exception: what leaving the node raises.
        """
        _all.discard(self)
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop_wanted.set_result(None)
        thread.join()
        if self._error is not None:
            raise self._error

    def call(self, function: Callable[P, Awaitable[T]], *arguments: P.args, **options: P.kwargs) -> T:
        """Call a function in the loop's thread, and wait for what it gives.

        Raises:
            UsageError: the node does not run.
            ConnectionAbortedError: it ended meanwhile.
            Exception: what the function raises.
        """

        async def work() -> T:
            return await function(*arguments, **options)

        with self._lock:
            # What is given to the loop while the node runs is begun, and so ends at the latest with the loop.
            if not self._is_running or self._loop is None:
                raise UsageError("the node does not run; use it inside `with`, in the process that made it")
            future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise closed_error() from None
        except BaseException:
            # Nobody waits for it any more, as after Ctrl-C.
            future.cancel()
            raise

    def soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have something done in the loop's thread, without waiting; nothing, once the loop is closed."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(function, *arguments)

    def abandon(self) -> None:
        """This process is a child that was forked: the node is the parent's."""
        self._lock = threading.Lock()
        self._is_running = False
        self._loop = self._thread = None
        for member in self.open:
            member.abandon()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if self._started.done():
                self._error = error
            else:
                self._started.set_exception(error)

    async def _main(self) -> None:
        async with self._node:
            self._loop = asyncio.get_running_loop()
            self._is_running = True
            self._started.set_result(None)
            try:
                await asyncio.wrap_future(self._stop_wanted)
            finally:
                with self._lock:
                    self._is_running = False
                await self._end_open()

    async def _end_open(self) -> None:
        """What was closed leaves, if it can; the rest is aborted."""
        leaving = [member.over for member in self.open if member.is_closed]
        if leaving:
            await asyncio.wait(leaving, timeout=LINGER_S)
        for member in list(self.open):
            member.end()


def closed_error() -> OSError:
    """What somebody gets who waits for a node that ends."""
    return OSError(errno.ECONNABORTED, "the node was closed")


_all: WeakSet[Background] = WeakSet()


@atexit.register
def _stop_all() -> None:
    for background in list(_all):
        # There is nobody to tell any more.
        with suppress(Exception):
            background.stop()


def _abandon_all() -> None:
    for background in list(_all):
        background.abandon()
    _all.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
