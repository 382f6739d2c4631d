"""The folder in which a parcel arrives: nothing leads out of it, and nothing in it is overwritten unasked.

    FILE                 is there when it is whole, and forced to the disk
    FILE.XXXXXXXX.part   what came so far; the X are a hash of the sender and the path

| what is there by the name of the file  | skip                 | overwrite               | rename               |
|----------------------------------------|----------------------|-------------------------|----------------------|
| nothing                                | it is taken          | it is taken             | it is taken          |
| the same file                          | it stays             | it stays                | it stays             |
| another file                           | it stays             | it is replaced          | both, `FILE (1)`     |
| a link, a folder, a device             | it stays             | it stays                | both, `FILE (1)`     |

What came so far is gone on with if the sender has the same bytes, whatever they are a part of; so a part needs no note
of where it is from. One process at a time has it.

Source: POSIX.1-2017 openat(), rename(), fsync().
Not done here: systems without `openat` (Windows).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from weft.clients.beneath import open_top, opened
from weft.clients.parcel.digest import Hash, digest_of
from weft.clients.parcel.names import PART
from weft.errors import UsageError
from weft.io.durable import try_lock

Conflict = Literal["skip", "overwrite", "rename"]
NUMBERS: Final = 1000
"""Files with the same name that are told apart by a number."""

_SAFELY: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NAME_BYTES: Final = 200
"""What is kept of a name for that of its part; most systems have room for 255."""
_HASH: Final = 8


@dataclass(frozen=True)
class Beginning:
    """What came of a file another time."""

    size_bytes: int
    digest: Hash
    version: tuple[int, ...]


NOTHING: Final = Beginning(0, hashlib.sha256(), ())


class Folder:
    """Where files of one sender arrive.

    Args:
        path: of the folder.
        conflict: what to do about other files of the same names.
        sender: tells its parts from those of others.

    Attributes:
        conflict: see above.

    Raises:
        OSError: there is no such folder.
    """

    def __init__(self, path: Path, conflict: Conflict, sender: str) -> None:
        self.conflict, self._sender = conflict, sender
        self._top = open_top(path)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._top)

    def make(self, path: Sequence[str]) -> None:
        """Make a folder in it, if it is not there.

        Raises:
            OSError: it can't be made.
        """
        with opened(self._top, path, make=True):
            pass

    async def find(self, path: Sequence[str], size_bytes: int) -> Beginning | None:
        """Look what there is of a file that is to come.

        Returns:
            What came of it another time; None if a file of its name and size is in its place.

        Raises:
            FileExistsError: there is another one, which stays.
            OSError: it can't be had there.
        """
        with opened(self._top, path[:-1], make=True) as folder:
            there = _lstat(path[-1], folder)
            is_file = there is not None and stat.S_ISREG(there.st_mode)
            stays = there is not None and (self.conflict == "skip" or (self.conflict == "overwrite" and not is_file))
            is_same_size = there is not None and is_file and there.st_size == size_bytes
            if stays and not is_same_size:
                raise _exists()
            part = None if stays else _lstat(self._part_name(path), folder)
            if part is not None and 0 < part.st_size <= size_bytes:
                with _open_file(self._part_name(path), folder) as file:
                    version = _version(os.fstat(file.fileno()))
                    return Beginning(part.st_size, await digest_of(file, part.st_size), version)
            return None if is_same_size else NOTHING

    async def hash_of(self, path: Sequence[str]) -> str:
        """The hash of a file that is in its place.

        Raises:
            OSError: there is none any more, or it can't be read.
        """
        with opened(self._top, path[:-1]) as folder, _open_file(path[-1], folder) as file:
            return (await digest_of(file, os.fstat(file.fileno()).st_size)).hexdigest()

    def begin(self, path: Sequence[str], beginning: Beginning) -> Part:
        """Go on with what there is of a file.

        Args:
            path: of the file.
            beginning: what counts of it.

        Raises:
            OSError: it can't be written there.
            UsageError: another process is about it, or was.
        """
        with opened(self._top, path[:-1], make=True) as folder:
            return Part(os.dup(folder), self._part_name(path), path[-1], self.conflict, beginning)

    def _part_name(self, path: Sequence[str]) -> str:
        version = hashlib.sha256("\0".join((self._sender, *path)).encode()).hexdigest()[:_HASH]
        kept = path[-1].encode()[:_NAME_BYTES].decode("utf-8", "ignore")
        return f"{kept}.{version}{PART}"


class Part:
    """A file that is coming; `Folder.begin` makes it.

    Attributes:
        digest: of what is there.
        size_bytes: likewise.
    """

    def __init__(self, folder: int, name: str, target: str, conflict: Conflict, beginning: Beginning) -> None:
        self._folder, self._name, self._target, self._conflict = folder, name, target, conflict
        self._is_finished = False
        self.digest, self.size_bytes = beginning.digest.copy(), beginning.size_bytes
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | _SAFELY, 0o666, dir_fd=folder)
        except OSError:
            os.close(folder)
            raise
        self._file = FileIO(descriptor, "r+")
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _exists()
            is_ours = try_lock(descriptor) and beginning.version in {(), _version(status)}
            # Who had it a moment ago may have put it into its place.
            there = _lstat(name, folder)
            if not is_ours or there is None or not os.path.samestat(status, there):
                raise UsageError(f"{name}: another weft is writing it")
            self._file.truncate(self.size_bytes)
            self._file.seek(self.size_bytes)
        except BaseException:
            self._let_go()
            raise

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            OSError: they can't be written.
        """
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._name) from error
        self.digest.update(data)
        self.size_bytes += len(data)

    def settle(self, time_s: int, *, is_program: bool) -> None:
        """It is whole: give it its time, and force it to the disk, which may take long.

        This and `finish` may be done by another thread.
        """
        descriptor = self._file.fileno()
        os.utime(descriptor, (time_s, time_s))
        if is_program:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            # Who may read it may run it.
            os.fchmod(descriptor, mode | (mode >> 2) & 0o111)
        os.fsync(descriptor)

    def finish(self) -> str:
        """Put it into its place.

        Returns:
            Its name there.

        Raises:
            FileExistsError: there is another one, which stays.
        """
        for name in self._names():
            if self._conflict != "overwrite":
                try:
                    # So that what comes at the same moment is not overwritten.
                    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600, dir_fd=self._folder))
                except FileExistsError:
                    continue
            os.replace(self._name, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            self._is_finished = True
            os.fsync(self._folder)
            return name
        raise _exists()

    def close(self, *, keep: bool) -> None:
        """Let go of it.

        Args:
            keep: leave what came for another time, if anything did and it is not in its place.
        """
        if not self._is_finished and not (keep and self.size_bytes):
            with suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._folder)
        self._let_go()

    def _let_go(self) -> None:
        self._file.close()
        os.close(self._folder)

    def _names(self) -> Iterator[str]:
        yield self._target
        if self._conflict == "rename":
            path = PurePosixPath(self._target)
            yield from (f"{path.stem} ({number}){path.suffix}" for number in range(1, NUMBERS))


def _lstat(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _open_file(name: str, folder: int) -> FileIO:
    file = FileIO(os.open(name, os.O_RDONLY | _SAFELY, dir_fd=folder))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _exists()
    return file


def _exists() -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _version(status: os.stat_result) -> tuple[int, ...]:
    """What is the same as long as nobody writes to a file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
