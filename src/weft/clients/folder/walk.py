"""What a path in a folder means, for others who ask for it: nothing outside of the folder is ever opened.

A path goes down name by name, each opened in the one above it. Links are followed by hand and as far as they stay in
the folder, so that it makes no difference where one leads, or whether somebody puts it there while a path is walked.

| on the way                                                | what is raised         |
|-----------------------------------------------------------|------------------------|
| nothing of that name, or a file where a folder has to be  | `FileNotFoundError`    |
| a link to an absolute path, one that leads above the      | `PermissionError`      |
| folder, or one too many                                   |                        |
| something else than a file or a folder                    | `PermissionError`      |
| a folder that is left out                                 | `PermissionError`      |
| what the system refuses                                   | as the system says it  |

Source: POSIX.1-2017 openat().
Not done here: systems without `openat` (Windows).
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Collection, Iterable
from typing import Final

LINKS: Final = 8
"""To follow on the way of one path."""

_OPENED: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)

Place = tuple[int, int]
"""Device and number of a folder."""


def place_of(descriptor: int) -> Place:
    """Which folder is open."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def open_below(top: int, names: Iterable[bytes], left_out: Collection[Place] = ()) -> int:
    """Open the file or folder that names lead to.

    Args:
        top: the folder, open.
        names: each in the one before; none of them has a `/` or a NUL in it, and `..` goes up, if there is an up.
        left_out: folders that are not to be entered.

    Returns:
        A descriptor for reading.

    Raises:
        OSError: see the head of this file.
    """
    pending, folders, links = deque(names), [os.dup(top)], 0
    try:
        while pending:
            name = pending.popleft()
            if name in {b"", b"."}:
                continue
            if name == b"..":
                os.close(folders.pop())
                if not folders:
                    raise _refused("leads out of the folder")
                continue
            target = _target_of(name, folders[-1])
            if target is None:
                folders.append(_open(name, folders[-1], left_out))
                continue
            links += 1
            if links > LINKS or target.startswith(b"/"):
                raise _refused("a link that leads out of the folder, or nowhere")
            pending.extendleft(reversed(target.split(b"/")))
        return folders.pop()
    finally:
        for folder in folders:
            os.close(folder)


def _target_of(name: bytes, folder: int) -> bytes | None:
    """Where a link leads; None if there is none, but a file or a folder."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except NotADirectoryError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
    if stat.S_ISLNK(mode):
        return os.readlink(name, dir_fd=folder)
    # To open a device or a pipe may have consequences.
    _check_kind(mode)
    return None


def _open(name: bytes, folder: int, left_out: Collection[Place]) -> int:
    opened = os.open(name, _OPENED, dir_fd=folder)
    try:
        _check_kind(os.fstat(opened).st_mode)
        if place_of(opened) in left_out:
            raise _refused("left out")
    except BaseException:
        os.close(opened)
        raise
    return opened


def _check_kind(mode: int) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise _refused("neither a file nor a folder")


def _refused(why: str) -> PermissionError:
    return PermissionError(errno.EACCES, why)
