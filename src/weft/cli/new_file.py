"""Files that a person asks for by name: secrets and reports, for their owner alone."""

from __future__ import annotations

import os
from pathlib import Path

from weft.errors import UsageError


def write_new(path: Path, data: bytes) -> None:
    """Write a file with mode 0600 where there is none; on any file system, for copies lie on sticks that know no links.

    Raises:
        UsageError: there is one; it is untouched.
        OSError: the system refused; what was begun is removed.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists already; remove it, or give another") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise
