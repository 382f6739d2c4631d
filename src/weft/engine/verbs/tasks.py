"""What runs inside the node."""

from __future__ import annotations

import builtins

from weft.engine.lifetime import Lifetime
from weft.engine.status import TaskStatus
from weft.errors import UsageError


class Tasks:
    """The tasks of a node."""

    def __init__(self, life: Lifetime) -> None:
        self._life = life

    def list(self) -> builtins.list[TaskStatus]:
        """All tasks; none while the session is built anew."""
        return self._life.stage.tasks() if self._life.stage is not None else []

    async def restart(self, name: str) -> TaskStatus:
        """Stop one task and let it start anew.

        Raises:
            UsageError: there is none of that name.
        """
        if self._life.stage is None:
            raise UsageError("the node is just being built anew; try again in a moment")
        return self._life.stage.kill(name)
