"""The configuration that counts, key by key: value, default, and where it comes from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from weft.engine.config import Config, decode_config, line_of, read_text
from weft.engine.keys import KEYS
from weft.engine.settings import ConfigStatus, KeyStatus
from weft.errors import ConfigError


def describe_config(config: Config, path: Path, waiting: Collection[str] = ()) -> ConfigStatus:
    """Tell of each key what it is.

    Args:
        config: the one that counts.
        path: of weft.toml, which may have been edited since.
        waiting: keys that count only after a new start.
    """
    try:
        text = read_text(path)
        written = decode_config(text, str(path))
    except ConfigError:
        text, written = "", Config()
    default = Config()
    return ConfigStatus(
        file=str(path),
        keys=[
            KeyStatus(
                key=key.name,
                value=config.value(key.name),
                default=default.value(key.name),
                is_default=config.value(key.name) == default.value(key.name),
                line=line_of(key.name, text) if config.value(key.name) == written.value(key.name) else None,
                applies=key.applies,
                waits=key.name in waiting,
            )
            for key in KEYS
        ],
    )
