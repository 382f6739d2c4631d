"""The configuration of a running node: read anew, shown, changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from weft.engine.config import FILE_NAME, Config, load_config
from weft.engine.edit import key_named, prepare_change
from weft.engine.effective import describe_config
from weft.engine.lifetime import Lifetime
from weft.engine.reload import Reloading
from weft.engine.settings import ConfigStatus, Reloaded
from weft.errors import UsageError
from weft.io.durable import replace_file
from weft.multiaddr import Multiaddr

Plan = Callable[[Config], Mapping[str, Any]]


class Settings:
    """The configuration of a node."""

    def __init__(self, life: Lifetime) -> None:
        self._life = life
        self._reloading = Reloading(life)

    def show(self) -> ConfigStatus:
        """What counts, key by key.

        Raises:
            UsageError: this node has no weft.toml; so do all verbs here.
        """
        return describe_config(self._life.config, self._file(), self._reloading.waiting())

    async def reload(self) -> Reloaded:
        """Read weft.toml anew.

        Raises:
            ConfigError: it is wrong; nothing has changed.
            WeftError: it can't be applied, a port is in use, say; likewise.
            PermissionError: likewise.
        """

        def prepare() -> tuple[Config, Callable[[], Awaitable[None]]]:
            return load_config(self._file()), _nothing

        return await self._reloading.take(prepare)

    async def set(self, key: str, value: Any) -> Reloaded:
        """Change one key, in weft.toml and at once.

        Args:
            key: such as `peer.listen`.
            value: None for the default.

        Raises:
            UsageError: there is no such key, or the value makes no sense.
            ConfigError: weft.toml is wrong already, or can't be written.
            WeftError: it can't be applied; as for all of these, nothing has changed.
            PermissionError: likewise.
        """
        key_named(key)
        return await self.change(lambda config: {key: value})

    async def change(self, plan: Plan, must_open: Multiaddr | None = None) -> Reloaded:
        """As `set`, for some keys together.

        Args:
            plan: says which, from what the file says when the changes before this one have been made.
            must_open: as in `Reloading.take`.
        """

        def prepare() -> tuple[Config, Callable[[], Awaitable[None]]]:
            file = self._file()
            config, text = prepare_change(file, plan(load_config(file)))

            async def write() -> None:
                await asyncio.to_thread(replace_file, file.resolve(), text.encode())

            return config, write

        return await self._reloading.take(prepare, must_open)

    def _file(self) -> Path:
        if self._life.directory is None:
            raise UsageError("this node keeps nothing, so there is no weft.toml; say what it needs when it is made")
        return self._life.directory / FILE_NAME


async def _nothing() -> None:
    pass
