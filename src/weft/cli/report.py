"""What a bug report consists of."""

from __future__ import annotations

from typing import Any

import msgspec


class BugReport(msgspec.Struct, frozen=True, kw_only=True):
    """A node and its machine, for those who look for a fault; every name in it is a pseudonym."""

    schema: int = 1
    at: str
    """When it was made, UTC."""
    running: bool
    """Whether a daemon answered; if not, what only a daemon knows is missing."""
    versions: dict[str, str]
    """Of weft, Python, the system and the libraries."""
    environment: list[str]
    """Names of the variables that are set for weft."""
    config: dict[str, Any] | None
    """What `weft.toml` says, with the defaults."""
    status: dict[str, Any] | None
    """As `weft status --json`."""
    state: dict[str, Any] | None
    """What is stored of peers and rules."""
    metrics: list[str]
    log: list[str]
    """The last lines, the oldest first."""
    interfaces: list[str]
    routes: list[str]
    legend: dict[str, str]
    """What kind of address a pseudonym stands for."""
    missing: dict[str, str]
    """What could not be found out, and why."""
