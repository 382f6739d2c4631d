"""A file that arrives bit by bit, and is there only once it is whole.

    FILE.weft-part  what came so far
    FILE.weft-note  of what it is a part: where it is from, and how one can tell that it is still the same there

The names are weft's own: other programs have parts too, and one of theirs must not be written over.

The next attempt goes on with them, be it in this run or a later one; both are gone when the file is whole, or nothing
came. While one process has them, another is refused. What is written is in the file at once, so that an end of any kind
leaves what had come.

A disk is never filled to its last byte: `SPARE_BYTES` of it, or of a small one a hundredth, stay free for others.

What is there and no file, such as a pipe, gets what comes at once, and nothing can be taken back.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NoReturn, Protocol, Self

import msgspec

from weft.errors import UsageError
from weft.io.durable import try_lock

PART: Final = ".weft-part"
NOTE: Final = ".weft-note"
_NAME_BYTES: Final = 255 - len(PART)
"""What is kept of a name for those of its part and note."""
SPARE_BYTES: Final = 64 * 1024 * 1024
SPARE_PART: Final = 100
LOOK_BYTES: Final = 8 * 1024 * 1024
"""After how many the disk is looked at again, which others fill too; it may be far away."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Of what a part is a part."""

    source: str
    """Where it is from."""
    version: str = ""
    """What is the same there as long as the file is; empty if there is nothing to tell it by."""
    size_bytes: int | None = None
    """Of the whole; None if that is not known."""


class Sink(Protocol):
    """Where a file goes that arrives bit by bit.

    Attributes:
        origin: of what it is a part.
        size_bytes: of the part.
    """

    origin: Origin
    size_bytes: int

    def begin(self, origin: Origin) -> None:
        """Forget what came, and begin anew.

        Raises:
            OSError: it can't be forgotten any more, or written.
        """

    def expect(self, more_bytes: int) -> None:
        """Look whether there is room for what is to come.

        Raises:
            OSError: there is not.
        """

    def write(self, data: bytes) -> None:
        """Take the next bytes."""


class Partial:
    """A file on a disk.

    Args:
        target: its place.
        source: where it is from; what came from elsewhere is no part of it.

    Attributes:
        origin: of what it is a part.
        size_bytes: of the part.
        resumed_from_bytes: what of it was there before, of an earlier attempt.

    Raises:
        OSError: it can't be written there.
        UsageError: another process is about it.
    """

    def __init__(self, target: Path, source: str) -> None:
        # A link stays, and what it leads to is written.
        self._target = Path(os.path.realpath(target))
        self._room_bytes = 0
        self._part, self._note = (_beside(self._target, suffix) for suffix in (PART, NOTE))
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(self._part, flags, 0o666)
        with ExitStack() as stack:
            stack.callback(self._close)
            if not try_lock(self._descriptor):
                raise UsageError(f"{target}: another weft is writing it")
            self.size_bytes = self.resumed_from_bytes = os.lseek(self._descriptor, 0, os.SEEK_END)
            self.origin = self._read_origin()
            if self.origin.source != source or not self.origin.version:
                self.begin(Origin(source=source))
            stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_kept(self) -> bool:
        """Whether there is something that one can go on with later."""
        return bool(self.size_bytes and self.origin.version)

    def begin(self, origin: Origin) -> None:
        """Forget what came, and begin anew."""
        # First the note, so that what comes is never taken for a part of what it is not.
        with suppress(FileNotFoundError):
            self._note.unlink()
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.size_bytes = self.resumed_from_bytes = 0
        self.origin = origin
        if origin.version:
            # Where it is from may say more than others should know.
            descriptor = os.open(self._note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(origin))

    def expect(self, more_bytes: int) -> None:
        """Look whether there is room for what is to come."""
        room_bytes = self._room()
        if more_bytes > room_bytes:
            self._refuse(f"{more_bytes} bytes are to come, and the disk has room for {max(room_bytes, 0)}")

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        if len(data) > self._room_bytes:
            room_bytes = self._room()
            if len(data) > room_bytes:
                self._refuse(f"{self.size_bytes} bytes have come, and the disk has no room for more")
            self._room_bytes = min(room_bytes, max(len(data), LOOK_BYTES))
        self._room_bytes -= len(data)
        rest = memoryview(data)
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self.size_bytes += written
                rest = rest[written:]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._part)) from error

    def finish(self) -> None:
        """It is whole: put it into its place.

        Raises:
            OSError: it can't be put there, or somebody has put something else into the place of the part.
        """
        os.fsync(self._descriptor)
        if not os.path.samestat(os.fstat(self._descriptor), os.lstat(self._part)):
            raise OSError(errno.ESTALE, "somebody else has put another file there", str(self._part))
        # Some systems move no file that is open.
        self._close()
        os.replace(self._part, self._target)
        with suppress(FileNotFoundError):
            self._note.unlink()

    def close(self) -> None:
        """Let go of it; what came stays, if anything did and it can be gone on with."""
        if self._descriptor >= 0:
            if not self.is_kept:
                for path in (self._part, self._note):
                    with suppress(FileNotFoundError):
                        path.unlink()
            self._close()

    def _room(self) -> int:
        """How much the disk may take yet."""
        disk = shutil.disk_usage(self._part.parent)
        if not disk.total:
            # It does not say, as some that are elsewhere.
            return sys.maxsize
        return disk.free - min(SPARE_BYTES, disk.total // SPARE_PART)

    def _refuse(self, why: str) -> NoReturn:
        raise OSError(errno.ENOSPC, why, str(self._target))

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _read_origin(self) -> Origin:
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self._note.read_bytes(), type=Origin)
        return Origin(source="")


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(os.fsdecode(os.fsencode(target.name)[:_NAME_BYTES]) + suffix)


class Pipe:
    """What is no file, such as the standard output.

    Args:
        file: takes what comes at once.
        source: where that is from.
    """

    def __init__(self, file: BinaryIO, source: str) -> None:
        self._file = file
        self.size_bytes = 0
        self.origin = Origin(source=source)

    def begin(self, origin: Origin) -> None:
        """Begin; it can't be done anew."""
        if self.size_bytes:
            raise OSError("it broke off and can't be gone on with, and what came has been handed on already")
        self.origin = origin

    def expect(self, more_bytes: int) -> None:
        """Nothing: nobody knows how much it takes."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._file.write(data)
        self._file.flush()
        self.size_bytes += len(data)
