"""Where a node keeps its files if nobody says otherwise.

A module of its own, so that a command finds the daemon without loading what only the daemon needs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "WEFT_DIR"
"""The environment variable that says otherwise."""


def default_directory() -> Path:
    """The directory of this machine's node, for root on POSIX, or of this person's.

    Returns:
        `$WEFT_DIR` if that is set and not empty; for root `/etc/weft`; else `weft` below the place where the system
        keeps a person's settings. It need not exist.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    home = Path.home()
    settings: str | Path
    if sys.platform == "win32":
        settings = os.environ.get("APPDATA") or home / "AppData" / "Roaming"
    elif os.geteuid() == 0:
        settings = Path("/etc")
    elif sys.platform == "darwin":
        settings = home / "Library" / "Application Support"
    else:
        settings = os.environ.get("XDG_CONFIG_HOME") or home / ".config"
    return Path(settings) / "weft"
