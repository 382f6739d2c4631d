"""The tasks of a node, each watched: one that dies starts again by itself, and only if that does not help its parent.

    running     it does its work
    waiting     it died; it starts again after 50 ms, doubling to 5 s while it keeps dying
    stopped     it was taken away

A task that dies `MAX_DEATHS` times within `WINDOW_S` is beyond its own means: `Stage.failed` ends, and the Engine
builds the Session anew.

Source: seed 001, "Layers (like an onion)".
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal

from weft.engine.events import Events
from weft.engine.status import TaskStatus
from weft.errors import UsageError

log = logging.getLogger("weft.engine")

FIRST_DELAY_S = 0.05
LAST_DELAY_S = 5.0
HEALTHY_S = 10.0
"""A task that ran so long begins with the first delay again."""
MAX_DEATHS = 8
WINDOW_S = 20.0

Work = Callable[[], Awaitable[None]]


class _Actor:
    """One named task and its watcher."""

    def __init__(self, name: str, work: Work, stage: Stage) -> None:
        self.name = name
        self.restarts = 0
        self.state: Literal["running", "waiting", "stopped"] = "running"
        self._work = work
        self._stage = stage
        self._inner: asyncio.Task[None] | None = None
        self._is_ending = False
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self.watcher = asyncio.get_running_loop().create_task(self._watch(), name=f"weft {name}")

    def kill(self) -> None:
        """End the task as a fault would; the watcher starts it again."""
        if self._inner is not None:
            self._inner.cancel()

    async def end(self) -> None:
        """End the task for good; whoever else waits for that goes on waiting."""
        if not self._is_ending:
            self._is_ending = True
            self.watcher.cancel()
        await asyncio.wait({self.watcher})

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        delay_s = FIRST_DELAY_S
        try:
            while True:
                started = loop.time()
                self.state = "running"
                self._inner = loop.create_task(self._run(), name=self.name)
                await asyncio.wait({self._inner})
                self._log_end(self._inner)
                self.restarts += 1
                self._deaths.append(loop.time())
                if len(self._deaths) == MAX_DEATHS and loop.time() - self._deaths[0] < WINDOW_S:
                    self._stage.handle_hopeless(self.name)
                if loop.time() - started > HEALTHY_S:
                    delay_s = FIRST_DELAY_S
                self.state = "waiting"
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, LAST_DELAY_S)
        finally:
            self.state = "stopped"
            if self._inner is not None and not self._inner.done():
                self._inner.cancel()
                await asyncio.gather(self._inner, return_exceptions=True)

    async def _run(self) -> None:
        await self._work()

    def _log_end(self, inner: asyncio.Task[None]) -> None:
        error = None if inner.cancelled() else inner.exception()
        self._stage.handle_death(self.name, f"died ({type(error).__name__})" if error is not None else "ended")
        if error is not None:
            log.error("task %s died and starts again: %s: %s", self.name, type(error).__name__, error, exc_info=error)
        else:
            log.warning("task %s ended and starts again", self.name)


class Stage:
    """The tasks of one session.

    Args:
        events: of the node; what is told here is which tasks die.

    Attributes:
        failed: done when a task could not be helped by starting it again.
    """

    def __init__(self, events: Events | None = None) -> None:
        self._actors: dict[str, _Actor] = {}
        self._is_closed = False
        self._events = events or Events()
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def __contains__(self, name: str) -> bool:
        return name in self._actors

    def start(self, name: str, work: Work) -> None:
        """Start a task; nothing, once the stage is closed, for then it is up to the next one.

        Args:
            name: what people see.
            work: runs until it is cancelled; it is called anew after each death.
        """
        if not self._is_closed:
            self._actors[name] = _Actor(name, work, self)

    async def stop(self, name: str) -> None:
        """End a task for good, and return when it has ended, whoever ends it."""
        actor = self._actors.get(name)
        if actor is not None:
            await actor.end()
            if self._actors.get(name) is actor:
                del self._actors[name]

    async def close(self) -> None:
        """End all tasks."""
        self._is_closed = True
        for name in list(self._actors):
            await self.stop(name)

    def kill(self, name: str) -> TaskStatus:
        """End a task as a fault would.

        Raises:
            UsageError: there is no task of that name.
        """
        actor = self._actors.get(name)
        if actor is None:
            raise UsageError(f"no task {name!r}; there are: {', '.join(self._actors)}")
        actor.kill()
        return TaskStatus(name=name, state=actor.state, restarts=actor.restarts)

    def tasks(self) -> list[TaskStatus]:
        """All tasks, in the order of their start."""
        return [
            TaskStatus(name=actor.name, state=actor.state, restarts=actor.restarts) for actor in self._actors.values()
        ]

    def handle_death(self, name: str, reason: str) -> None:
        """A task died and starts again."""
        self._events.publish("task-died", f"task {name} {reason} and starts again")

    def handle_hopeless(self, name: str) -> None:
        """A task keeps dying."""
        if not self.failed.done():
            self.failed.set_result(name)
