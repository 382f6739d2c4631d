"""What a node needs in its directory before its first start: a key, and a commented weft.toml."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from weft.engine.config import FILE_NAME
from weft.engine.manual import render_default
from weft.errors import ConfigError
from weft.identity import generate
from weft.io.durable import create_file, make_directory
from weft.io.store import Store


def ensure_initialised(directory: Path) -> bool:
    """Make what is missing of key and configuration.

    Returns:
        Whether a key was made.

    Raises:
        ConfigError: the system refused.
    """
    make_directory(directory)
    store = Store(directory)
    missing = not store.key_path.exists()
    if missing:
        try:
            store.create_key(generate(secrets.token_bytes))
        except ConfigError:
            # Another `weft` was faster; its key is as good.
            if not store.key_path.exists():
                raise
            missing = False
    if not (directory / FILE_NAME).exists():
        with suppress(FileExistsError):
            create_file(directory / FILE_NAME, render_default().encode())
    return missing
