"""The way down from a folder, name by name, each opened in the one above it, so that no link leads out of it.

It makes no difference when a link is put there: what is opened is a folder, or it is refused.

Source: POSIX.1-2017 openat().
Not done here: what the names may be; systems without `openat` (Windows).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import AnyStr, Final

_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_INNER: Final = _FOLDER | getattr(os, "O_NOFOLLOW", 0)


def open_top(path: Path) -> int:
    """Open the folder from which ways go down; it may be a link itself.

    Raises:
        OSError: there is none, or it can't be read.
    """
    return os.open(path, _FOLDER)


def open_inner(name: str | bytes, folder: int) -> int:
    """Open a folder that is in a folder.

    Raises:
        OSError: there is none, or a link in its place (`ENOTDIR` or `ELOOP`).
    """
    return os.open(name, _INNER, dir_fd=folder)


@contextmanager
def opened(
    top: int, names: Sequence[AnyStr], *, make: bool = False, enter: Callable[[AnyStr, int], int] = open_inner
) -> Iterator[int]:
    """The folder that names lead to, open for the time of the block.

    Args:
        top: where it begins, open.
        names: of folders, each in the one before; none of them `..`.
        make: make those that are missing.
        enter: opens each, for a caller that has words of its own for what can't be.

    Raises:
        OSError: as `open_inner`, or as `enter` does.
    """
    folder = os.dup(top)
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=folder)
            inner = enter(name, folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)
