"""SFTP in one folder, which nothing leads out of.

A path goes from the folder down, name by name, each opened in the one above it. `..` ends at the folder. Links are
shown and read, but never followed and never made: so it makes no difference where one leads, or whether somebody puts
it there while a path is being walked. What is neither a file nor a folder is not opened.

| asked for                         | answer                                                       |
|-----------------------------------|--------------------------------------------------------------|
| a path through or to a link       | permission denied; but for its own attributes and its target |
| to make a link to a path          | permission denied                                            |
| a hard link                       | made, inside the folder                                      |
| owner, group, setuid, sticky      | permission denied; left out                                  |
| a name with a NUL                 | no such file                                                 |

Source: draft-ietf-secsh-filexfer-02 (version 3).
Not done here: systems without `openat` (Windows); quotas.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

import asyncssh
from asyncssh.sftp import SFTPVFSAttrs

from weft.clients.beneath import open_top, opened
from weft.clients.sftp.openat import (
    LARGEST,
    LINK,
    attrs_of,
    flags_of,
    mode_of,
    names_of,
    open_any,
    open_file,
    open_folder,
    set_attrs,
)

READ_BYTES: Final = 4 * 1024 * 1024
"""That a client gets of what it asks for at once, and as much as it is told it may."""
HANDLES: Final = 100
"""Files and folders that a client may have open."""


class FolderServer(asyncssh.SFTPServer):
    """SFTP for one client.

    Args:
        channel: of the client.
        root: the folder.
    """

    def __init__(self, channel: Any, root: Path) -> None:
        super().__init__(channel)
        self._root = open_top(root)
        self._files = 0
        # asyncssh forgets a listing without a word.
        self._listings: WeakSet[AsyncIterator[asyncssh.SFTPName]] = WeakSet()

    @staticmethod
    def check(root: Path) -> None:
        """Look whether a folder can be served.

        Raises:
            OSError: it can't be opened.
        """
        os.close(open_top(root))

    def exit(self) -> None:
        """The client has gone."""
        os.close(self._root)

    # Paths.

    def realpath(self, path: bytes) -> bytes:
        """Where a path leads, from the folder on."""
        return b"/" + b"/".join(names_of(path))

    @contextmanager
    def _place(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """The folder in which something is, opened, and its name there.

        Raises:
            OSError: there is no way there.
        """
        names = names_of(path)
        with opened(self._root, names[:-1], enter=open_folder) as folder:
            yield folder, names[-1] if names else b"."

    def _check_handles(self) -> None:
        if self._files + len(self._listings) >= HANDLES:
            raise asyncssh.SFTPFailure("Too many open files")

    # Files.

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        """Open a file."""
        self._check_handles()
        with self._place(path) as (folder, name):
            descriptor = open_file(name, folder, flags_of(pflags), mode_of(attrs, 0o666))
        self._files += 1
        return descriptor

    def close(self, file_obj: object) -> None:
        """Close a file."""
        self._files -= 1
        os.close(_descriptor(file_obj))

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Read from a place of a file."""
        # Beyond that there is nothing, but the system would not say so.
        size = max(0, min(size, READ_BYTES, LARGEST - offset))
        return os.pread(_descriptor(file_obj), size, offset) if size else b""

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write at a place of a file."""
        rest = memoryview(data)
        if offset > LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        while rest:
            written = os.pwrite(_descriptor(file_obj), rest, offset)
            rest, offset = rest[written:], offset + written
        return len(data)

    def fsync(self, file_obj: object) -> None:
        """Force a file to the disk."""
        os.fsync(_descriptor(file_obj))

    # Attributes.

    def lstat(self, path: bytes) -> os.stat_result:
        """What something is, be it a link."""
        with self._place(path) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def stat(self, path: bytes) -> os.stat_result:
        """What something is that is no link."""
        found = self.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            raise asyncssh.SFTPPermissionDenied(LINK)
        return found

    def fstat(self, file_obj: object) -> os.stat_result:
        """What an open file is."""
        return os.fstat(_descriptor(file_obj))

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Change mode, times or size of a file or folder."""
        with self._place(path) as (folder, name):
            descriptor = open_any(name, folder, os.O_WRONLY if attrs.size is not None else os.O_RDONLY)
        try:
            set_attrs(descriptor, attrs)
        finally:
            os.close(descriptor)

    def lsetstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """As `setstat`: nothing of a link can be changed."""
        self.setstat(path, attrs)

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        """Change mode, times or size of an open file."""
        set_attrs(_descriptor(file_obj), attrs)

    def statvfs(self, path: bytes) -> Any:
        """How full the disk is."""
        with self._place(path) as (folder, name):
            descriptor = open_any(name, folder, os.O_RDONLY)
        try:
            return SFTPVFSAttrs.from_local(os.fstatvfs(descriptor))
        finally:
            os.close(descriptor)

    def fstatvfs(self, file_obj: object) -> Any:
        """How full the disk of an open file is."""
        return SFTPVFSAttrs.from_local(os.fstatvfs(_descriptor(file_obj)))

    # Folders.

    def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        """What is in a folder."""
        self._check_handles()
        listing = self._list(path)
        self._listings.add(listing)
        return listing

    async def _list(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        with self._place(path) as (folder, name):
            descriptor = open_folder(name, folder)
        try:
            names = [b".", b"..", *map(os.fsencode, os.listdir(descriptor))]
            found = [(inner, attrs) for inner in names if (attrs := attrs_of(inner, descriptor)) is not None]
        finally:
            os.close(descriptor)
        for inner, attrs in found:
            yield asyncssh.SFTPName(inner, attrs=attrs)

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Make a folder."""
        with self._place(path) as (folder, name):
            os.mkdir(name, mode_of(attrs, 0o777), dir_fd=folder)

    def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""
        with self._place(path) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def remove(self, path: bytes) -> None:
        """Remove a file or a link."""
        with self._place(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Move something to where nothing is."""
        with self._place(oldpath) as (old_folder, old), self._place(newpath) as (new_folder, new):
            try:
                os.stat(new, dir_fd=new_folder, follow_symlinks=False)
            except FileNotFoundError:
                os.rename(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)
            else:
                raise asyncssh.SFTPFailure("File already exists")

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Move something, in place of what may be there."""
        with self._place(oldpath) as (old_folder, old), self._place(newpath) as (new_folder, new):
            os.rename(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)

    # Links.

    def readlink(self, path: bytes) -> bytes:
        """Where a link leads."""
        with self._place(path) as (folder, name):
            return os.readlink(name, dir_fd=folder)

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """Refuse: nobody makes links here."""
        raise asyncssh.SFTPPermissionDenied("Links are not made here")

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        """Give a file a second name."""
        with self._place(oldpath) as (old_folder, old), self._place(newpath) as (new_folder, new):
            if stat.S_ISLNK(os.stat(old, dir_fd=old_folder, follow_symlinks=False).st_mode):
                raise asyncssh.SFTPPermissionDenied(LINK)
            os.link(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder, follow_symlinks=False)


def _descriptor(file_obj: object) -> int:
    assert isinstance(file_obj, int)
    return file_obj
