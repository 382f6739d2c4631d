"""asyncio in virtual time: a program that waits an hour waits no time at all.

    weft.testing.run(main())        as asyncio.run, on a loop of its own

Whenever nothing is ready to run, time jumps to what is due next: a timer of the loop, or a callback of its clock. So
timers, time-outs and periods of a program take the virtual time that they say, to the nanosecond, and each run is the
same. When nothing is due any more, those who wait would wait for ever: that is an error, which says where they wait.

| what                                       | takes                                              |
|--------------------------------------------|----------------------------------------------------|
| sleeping, time-outs, timers                | virtual time                                       |
| computing                                  | none                                               |
| work in threads (`asyncio.to_thread`)      | none; the loop waits for it, and time stands still |
| what another thread does by itself         | unknown to the loop, which does not wait for it    |

Source: `asyncio.base_events`; the idea is the autojump clock of Trio.
Not done here: descriptors: sockets of the kernel, pipes, processes. `weft.testing.SimulatedNetwork` has sockets for
programs on this loop. What reads `time.time()` or `time.monotonic()` sees real time; `loop.time()` and `loop.clock` are
virtual.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple, cast

from weft.errors import UsageError
from weft.testing.clock import S, VirtualClock
from weft.testing.driver import Stuck

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

TURNS_PER_INSTANT: Final = 1_000_000
"""More turns of the loop than this without time moving are a livelock, not a busy program."""
TASKS_SHOWN: Final = 20


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose time is that of a virtual clock.

    It is a loop factory: `asyncio.Runner(loop_factory=VirtualLoop)`, or `asyncio.run(…, loop_factory=VirtualLoop)` from
    Python 3.12 on.

    Args:
        clock: virtual time; a new one by default. What is called by it, such as a `weft.testing.Network`, goes on
            while the loop runs.

    Attributes:
        clock: virtual time.
    """

    # asyncio's, which type checkers do not know of.
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, clock: VirtualClock | None = None) -> None:
        super().__init__()
        self.clock = clock or VirtualClock()
        self._selector = self  # whom asyncio asks to wait
        self._was_called = threading.Event()
        self._threads = 0
        self._at_close: list[Callable[[], object]] = []
        self._note_instant()

    def time(self) -> float:
        """Virtual time, monotonic seconds."""
        return self.clock.now / S

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Run until a future is done.

        Raises:
            Stuck: nothing is left that could happen, or it is a livelock; the future was cancelled, and what it still
                did then has been done.
        """
        task = asyncio.ensure_future(cast(Awaitable[T], future), loop=self)
        try:
            return super().run_until_complete(task)
        except Stuck:
            if not task.done():
                task.cancel()
                with suppress(Exception, asyncio.CancelledError):
                    super().run_until_complete(task)
            raise

    def call_at_close(self, callback: Callable[[], object]) -> None:
        """Call back when the loop is about to close, for what can't outlive it."""
        self._at_close.append(callback)

    def close(self) -> None:
        """End; nothing can run any more."""
        if self._at_close:
            while self._at_close:
                self._at_close.pop()()
            # Whoever had something open is told of its end in the next turn.
            self.run_until_complete(asyncio.sleep(0))
        super().close()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], T], *args: *Arguments
    ) -> asyncio.Future[T]:
        """Let a thread work; time stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._handle_thread_done)
        return future

    async def shutdown_default_executor(self, *arguments: Any) -> None:
        """Wait for the threads to end."""
        self._threads += 1
        try:
            await super().shutdown_default_executor(*arguments)
        finally:
            self._threads -= 1

    async def create_connection(self, *arguments: Any, **named: Any) -> NoReturn:
        """Refuse: there is no kernel."""
        _refuse("create_connection")

    async def create_server(self, *arguments: Any, **named: Any) -> NoReturn:
        """Refuse: there is no kernel."""
        _refuse("create_server")

    async def create_datagram_endpoint(self, *arguments: Any, **named: Any) -> NoReturn:
        """Refuse: there is no kernel."""
        _refuse("create_datagram_endpoint")

    # What asyncio asks of a loop's implementation.

    def select(self, timeout: float | None) -> None:
        """Let time pass until there is something to do; asyncio calls it in each turn."""
        self._count_turn()
        if timeout is not None and timeout <= 0:
            self.clock.advance_to(self.clock.now)
        elif self._threads:
            self._was_called.wait()
            self._was_called.clear()
        else:
            self._jump()

    def _jump(self) -> None:
        """Go on to what is due next, by the loop or by the clock."""
        due = [at for at in (self._timer_at(), self.clock.next_at()) if at is not None]
        if not due:
            # What another thread asked for just now is there with the next turn.
            if not self._was_called.is_set():
                raise Stuck(f"nothing is left to happen, and these wait:\n{self._waiting()}")
            self._was_called.clear()
        else:
            self.clock.advance_to(min(due))
            self._note_instant()

    def _timer_at(self) -> int | None:
        """When the next timer of the loop is due, ns; asyncio has taken away those that were cancelled."""
        if not self._scheduled:
            return None
        when = self._scheduled[0].when()
        return max(round(when * S), self.clock.now)

    def _note_instant(self) -> None:
        self._instant, self._turns = self.clock.now, 0
        # asyncio runs what is due before this has passed; seconds of many digits are coarser than nanoseconds.
        self._clock_resolution = max(1 / S, 2 * math.ulp(self.time()))

    def _count_turn(self) -> None:
        self._turns += 1
        if self._turns > TURNS_PER_INSTANT:
            self._turns = 0
            raise Stuck(f"livelock: the loop turns and turns, and time stays at {self.clock.now} ns\n{self._waiting()}")

    def _waiting(self) -> str:
        """All tasks, each with where it waits."""
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: (len(task.get_name()), task.get_name()))
        lines = [f"  {task.get_name()}: {' > '.join(_places(task.get_coro()))}" for task in tasks[:TASKS_SHOWN]]
        if len(tasks) > TASKS_SHOWN:
            lines.append(f"  … and {len(tasks) - TASKS_SHOWN} more")
        return "\n".join(lines) or "  no task at all"

    def _process_events(self, event_list: None) -> None:
        """There are no descriptors about which to be told anything."""

    def _write_to_self(self) -> None:
        self._was_called.set()

    def _handle_thread_done(self, future: asyncio.Future[Any]) -> None:
        self._threads -= 1


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a program in virtual time, as `asyncio.run` does in real time.

    Raises:
        Stuck: nothing is left that could happen, and the program has not ended.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def _refuse(method: str) -> NoReturn:
    raise UsageError(f"a virtual loop has no sockets; use {method} of a node of a SimulatedNetwork")


def _places(awaited: object) -> Iterator[str]:
    """Where a coroutine waits, from the outside in."""
    while isinstance(awaited, Coroutine | Generator):
        kind = "cr" if isinstance(awaited, Coroutine) else "gi"
        code: CodeType | None = getattr(awaited, f"{kind}_code", None)
        frame = getattr(awaited, f"{kind}_frame", None)
        if code is not None and frame is not None:
            yield f"{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_name}"
        awaited = getattr(awaited, "cr_await" if kind == "cr" else "gi_yieldfrom", None)
