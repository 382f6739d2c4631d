"""Files that a power cut leaves whole and that nobody else can read, and a lock on the directory they are in.

A file is written beside its place under a temporary name, forced to the disk, moved into its place in one step, and
the directory is forced to the disk after it. Whatever fails, and whenever: the place holds the old content or the new,
whole.

Sources: POSIX.1-2017 rename(), link(), fsync(); flock(2).

Not done here: what the files mean (`weft.io.store`), and file systems without hard links, where nothing can be created.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from weft.errors import ConfigError

SIZE_LIMIT = 16 << 20
"""Bytes that `read_private` reads at most."""
TEMPORARY = (".weft-", ".tmp")
"""How the names of temporary files begin and end."""


def replace_file(path: Path, data: bytes) -> None:
    """Write a file, with mode 0600, in place of the one that may be there.

    Args:
        path: the place; its directory exists.
        data: the new content.

    Raises:
        ConfigError: The system refused, for want of room, say; the old content is untouched unless the very last step
            failed.
    """
    with _system_errors(path, "written"):
        with _temporary(path, data) as temporary:
            os.replace(temporary, path)
        _sync_directory(path.parent)


def create_file(path: Path, data: bytes) -> None:
    """Write a file, with mode 0600, where there is none.

    Args:
        path: the place; its directory exists.
        data: the content.

    Raises:
        FileExistsError: There is one, even if it came a moment ago; it is untouched.
        ConfigError: The system refused.
    """
    with _system_errors(path, "created", passing=FileExistsError):
        with _temporary(path, data) as temporary:
            # Unlike a rename, a link never takes the place of what is there.
            os.link(temporary, path)
        _sync_directory(path.parent)


def read_private(path: Path) -> bytes:
    """Read a file that is to be a secret of its owner.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: Its group or others may read or write it (POSIX), it is no regular file, too large, or unreadable.
    """
    with _system_errors(path, "read", passing=FileNotFoundError), path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError("is not a regular file", file=str(path))
        if os.name == "posix" and status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise ConfigError(f"others can use this secret (mode {mode:04o}); run: chmod 600 '{path}'", file=str(path))
        data = file.read(SIZE_LIMIT + 1)
    if len(data) > SIZE_LIMIT:
        raise ConfigError(f"is larger than {SIZE_LIMIT} bytes", file=str(path))
    return data


def make_directory(path: Path) -> None:
    """Make a directory with mode 0700, and what is missing above it; one that exists stays as it is.

    Raises:
        ConfigError: The system refused.
    """
    with _system_errors(path, "created"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            return
        if not path.is_dir():
            raise ConfigError("is not a directory", file=str(path))


class DirectoryLock:
    """The right to be the only daemon of a directory, held until `close` or the end of the process.

    The lock file stays behind, holding the number of the last process: to remove it would let two hold the lock.

    Args:
        path: the lock file; its directory exists.

    Raises:
        ConfigError: Another process holds the lock; the message names it. Or the system refused.
    """

    def __init__(self, path: Path) -> None:
        with _system_errors(path, "locked"):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if not try_lock(self._descriptor):
                    holder = os.read(self._descriptor, 20).decode("ascii", "replace").strip() or "unknown"
                    message = f"another weft uses this directory (process {holder}); stop it or choose another one"
                    raise ConfigError(message, file=str(path.parent))
                os.ftruncate(self._descriptor, 0)
                os.write(self._descriptor, b"%d\n" % os.getpid())
                _sweep(path.parent)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Let go of the lock; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _system_errors(path: Path, done: str, passing: type[OSError] | None = None) -> Iterator[None]:
    """Say in one line which file could not be read or written, and why; `passing` is for the caller to tell apart."""
    try:
        yield
    except OSError as error:
        if passing is not None and isinstance(error, passing):
            raise
        raise ConfigError(f"can't be {done}: {error.strerror or error}", file=str(path)) from error


@contextmanager
def _temporary(path: Path, data: bytes) -> Iterator[str]:
    """A file of mode 0600 beside `path`, its content on the disk; gone afterwards, unless it was moved."""
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY[0], suffix=TEMPORARY[1], dir=path.parent)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield name
    finally:
        with suppress(OSError):
            os.unlink(name)


def _sync_directory(path: Path) -> None:
    """Force a change of names to the disk, where directories can be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(directory: Path) -> None:
    """Remove what a power cut left half-written."""
    for leftover in directory.glob("*".join(TEMPORARY)):
        with suppress(OSError):
            leftover.unlink()


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process until it is closed, or tell that another has done so.

    Args:
        descriptor: of the file; for reading and writing.

    Returns:
        Whether it is locked now.
    """
    if sys.platform == "win32":
        import msvcrt

        # A locked byte can't be read there, so it lies far behind the process number.
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            locked = False
        else:
            locked = True
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            locked = False
        else:
            locked = True
    return locked
