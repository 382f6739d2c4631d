"""`weft task`: what runs inside the daemon, for operators."""

from __future__ import annotations

import click

from weft.api.v0 import task as task_api
from weft.api.v0.task import RestartTask, TaskList, TaskReply
from weft.cli.command import Group
from weft.cli.names import TASK
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import table
from weft.engine.status import TaskStatus


@click.group(
    cls=Group,
    examples=(
        "weft task list",
        "weft task restart resolver",
    ),
)
def task() -> None:
    """See and restart the tasks inside the daemon."""


@task.command(
    "list",
    result=task_api.LIST,
    examples=("weft task list", "weft task list --json | jq '.tasks[] | select(.restarts > 0)'"),
)
@pass_settings
def list_(settings: Settings) -> None:
    """List the tasks, their states, and how often each was restarted."""

    def show(listed: TaskList) -> None:
        _show_tasks(listed.tasks)

    settings.answer(task_api.LIST, None, show)


@task.command(
    short_help="Stop the task NAME and let it start anew.",
    result=task_api.RESTART,
    examples=("weft task restart resolver", "weft task restart udp/0.0.0.0/1312"),
)
@click.argument("name", type=TASK)
@pass_settings
def restart(settings: Settings, name: str) -> None:
    """Stop the task NAME and let it start anew; sessions with peers survive it."""

    def show(reply: TaskReply) -> None:
        _show_tasks([reply.task])

    settings.answer(task_api.RESTART, RestartTask(name=name), show)


def _show_tasks(tasks: list[TaskStatus]) -> None:
    table([(task.name, task.state, str(task.restarts)) for task in tasks], header=("TASK", "STATE", "RESTARTS"))
