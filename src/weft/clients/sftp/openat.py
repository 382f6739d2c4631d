"""Files and folders of an SFTP server, opened by name in a folder that is open: no link is followed.

Source: POSIX.1-2017 openat().
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from typing import Final

import asyncssh

from weft.clients.beneath import open_inner

LINK: Final = "Links are not followed here"
LARGEST: Final = 2**63 - 1
"""Offset and size of a file for the system."""
_FILE: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_PERMISSIONS: Final = 0o777


def names_of(path: bytes) -> list[bytes]:
    """The names on the way, from the folder on.

    Raises:
        SFTPNoSuchFile: there can't be such a file.
    """
    if b"\0" in path:
        raise asyncssh.SFTPNoSuchFile("No such file")
    return [name for name in posixpath.normpath(b"/" + path).split(b"/") if name]


def attrs_of(name: bytes, folder: int) -> asyncssh.SFTPAttrs | None:
    """Of what is in a folder; None if it has gone."""
    try:
        # The folder above the root is nobody's business.
        return asyncssh.SFTPAttrs.from_local(
            os.stat(b"." if name == b".." else name, dir_fd=folder, follow_symlinks=False)
        )
    except FileNotFoundError:
        return None


def open_folder(name: bytes, folder: int) -> int:
    """Open a folder that is in a folder.

    Raises:
        OSError: it can't be opened, or is none.
        SFTPPermissionDenied: it is a link.
    """
    try:
        return open_inner(name, folder)
    except OSError as error:
        raise _as_link(error, name, folder) from None


def open_file(name: bytes, folder: int, flags: int, mode: int) -> int:
    """Open a file that is in a folder, or is made there.

    Raises:
        OSError: it can't be opened.
        SFTPPermissionDenied: it is a link.
        SFTPFailure: it is neither that nor a file.
    """
    try:
        descriptor = os.open(name, flags | _FILE, mode, dir_fd=folder)
    except OSError as error:
        raise _as_link(error, name, folder) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise asyncssh.SFTPFailure("Is no file")
    return descriptor


def open_any(name: bytes, folder: int, flags: int) -> int:
    """Open a file or a folder that is in a folder; it raises as `open_file` does."""
    try:
        descriptor = os.open(name, flags | _FILE, dir_fd=folder)
    except OSError as error:
        raise _as_link(error, name, folder) from None
    if not (stat.S_ISREG(mode := os.fstat(descriptor).st_mode) or stat.S_ISDIR(mode)):
        os.close(descriptor)
        raise asyncssh.SFTPFailure("Is neither a file nor a folder")
    return descriptor


def _as_link(error: OSError, name: bytes, folder: int) -> Exception:
    """What to say of something that could not be opened: the system's words for a link mislead."""
    if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}:
        try:
            if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                return asyncssh.SFTPPermissionDenied(LINK)
        except OSError:
            pass
    return error


def flags_of(pflags: int) -> int:
    """What SFTP's flags for opening are for the system."""
    reads, writes = pflags & asyncssh.FXF_READ, pflags & asyncssh.FXF_WRITE
    flags = os.O_RDWR if reads and writes else os.O_WRONLY if writes else os.O_RDONLY
    for theirs, ours in (
        (asyncssh.FXF_APPEND, os.O_APPEND),
        (asyncssh.FXF_CREAT, os.O_CREAT),
        (asyncssh.FXF_TRUNC, os.O_TRUNC),
        (asyncssh.FXF_EXCL, os.O_EXCL),
    ):
        if pflags & theirs and writes:
            flags |= ours
    return flags


def mode_of(attrs: asyncssh.SFTPAttrs, default: int) -> int:
    """The mode that a client wants for something new."""
    return default if attrs.permissions is None else attrs.permissions & _PERMISSIONS


def set_attrs(descriptor: int, attrs: asyncssh.SFTPAttrs) -> None:
    """Change size, mode and times of what is open.

    Raises:
        OSError: the system refused.
        SFTPPermissionDenied: the owner is to be another one.
    """
    if attrs.uid is not None or attrs.gid is not None:
        raise asyncssh.SFTPPermissionDenied("Owners are not changed here")
    if attrs.size is not None:
        if attrs.size > LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        os.ftruncate(descriptor, attrs.size)
    if attrs.permissions is not None:
        os.fchmod(descriptor, attrs.permissions & _PERMISSIONS)
    if attrs.atime is not None and attrs.mtime is not None:
        os.utime(descriptor, ns=(_ns(attrs.atime, attrs.atime_ns), _ns(attrs.mtime, attrs.mtime_ns)))


def _ns(seconds: int, further: int | None) -> int:
    return seconds * 10**9 + (further or 0)
