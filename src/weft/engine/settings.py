"""What the engine tells about its configuration; apart from what makes it, so that commands load fast."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from weft.engine.status import SCHEMA


class KeyStatus(Struct, frozen=True, kw_only=True):
    """One key of the configuration."""

    key: str
    """With its section, such as `peer.listen`."""
    value: Any
    """What counts, or will count (`waits`); null for nothing."""
    default: Any
    is_default: bool
    line: int | None
    """Of weft.toml, if that is what sets it."""
    applies: str
    """When a change of it counts."""
    waits: bool = False
    """Whether the daemon or the interface has to start anew for it to count."""


class ConfigStatus(Struct, frozen=True, kw_only=True):
    """The whole configuration."""

    schema: int = SCHEMA
    file: str
    keys: list[KeyStatus]


class Reloaded(Struct, frozen=True, kw_only=True):
    """What became of a change of the configuration."""

    schema: int = SCHEMA
    applied: list[str]
    """Keys that changed and count from now on."""
    needs_restart: list[str]
    """Keys that differ from what the node runs with, and count when the daemon starts anew, or the interface is made
    anew."""
