"""The node inside a daemon under test; `FAKE_FAILS` names the verb that it refuses, and how: `fc00_start usage`."""

from __future__ import annotations

import os
from pathlib import Path

from tests.unit.api.fake_engine import FakeEngine
from weft.engine.config import Config
from weft.engine.passed import Passed
from weft.errors import UsageError
from weft.io.store import Store


class Engine(FakeEngine):
    def __init__(self, directory: Path, config: Config, passed: Passed) -> None:
        super().__init__(directory, config)
        self.settings.config = config
        self.lock = Store(directory).lock()
        verb, _, kind = os.environ.get("FAKE_FAILS", "").partition(" ")
        self.fails[verb] = (UsageError if kind == "usage" else PermissionError)(f"{verb} was refused")

    async def stop(self) -> None:
        await super().stop()
        self.lock.close()
