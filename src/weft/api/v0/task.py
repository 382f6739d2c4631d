"""`/v0/task/…`: what runs inside the daemon."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from weft.api.facade import Facade
from weft.api.v0.route import Nothing, Route
from weft.engine.status import SCHEMA, TaskStatus


class RestartTask(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which task to restart."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]


class TaskList(Struct, frozen=True, kw_only=True):
    """All tasks."""

    schema: int = SCHEMA
    tasks: list[TaskStatus]


class TaskReply(Struct, frozen=True, kw_only=True):
    """One task."""

    schema: int = SCHEMA
    task: TaskStatus


async def _list(node: Facade, _: Nothing) -> TaskList:
    return TaskList(tasks=node.tasks.list())


async def _restart(node: Facade, asked: RestartTask) -> TaskReply:
    return TaskReply(task=await node.tasks.restart(asked.name))


LIST = Route("GET", "/v0/task/list", Nothing, TaskList, _list, "The tasks of the node")
RESTART = Route("POST", "/v0/task/restart", RestartTask, TaskReply, _restart, "Restart one task")

ROUTES = (LIST, RESTART)
