"""One file over SFTP, either way: many requests in flight, and an end in the middle costs nothing but the rest.

| direction | until it is whole it is                 | one knows by what that it is a part of the same file |
|-----------|-----------------------------------------|------------------------------------------------------|
| download  | `FILE.weft-part`, see http/partial.py   | size and time of the file there, in the note         |
| upload    | `FILE.XXXXXXXX.part` over there         | the X are a hash of size and time of the file here   |

`IN_FLIGHT` requests are under way at a time, each of `BLOCK_BYTES`, or of `SAFE_BYTES` if the server does not say that
it takes more. They are sent and their answers are taken in order: what is there of a file is always its beginning. As a
server may carry writes out in another order, an upload goes on as far before the end of the part as could have been
under way.

A file that is no longer the same when it was copied is refused. What is there and no file, such as a pipe or /dev/null,
gets the bytes at once.

Source: draft-ietf-secsh-filexfer-02 (version 3), sections 6.3, 6.4 and 7.
Not done here: folders (tree.py); taking away the part of an upload whose file has changed here since.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import posixpath
import stat
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Generic, TypeVar

import asyncssh

from weft.clients.http.partial import Origin, Partial, Pipe, Sink
from weft.errors import PeerError

BLOCK_BYTES: Final = 131_072
"""Of a request; larger ones wait for each other, smaller ones cost more."""
SAFE_BYTES: Final = 32_768
"""Of a request that every server takes."""
IN_FLIGHT: Final = 64
"""Requests at a time."""
_HASH: Final = 8
_NAME_BYTES: Final = 200
"""What is kept of a name for that of its part; most systems have room for 255."""
_MODE: Final = 0o777

T = TypeVar("T")
Requests = asyncio.Semaphore
Told = Callable[[int], None]
"""Is told how many bytes more are there."""


def requests_in_flight() -> Requests:
    """For one connection."""
    return Requests(IN_FLIGHT)


@dataclass(frozen=True)
class Copied:
    """One file that was copied."""

    size_bytes: int
    resumed_from_bytes: int
    """What was there already of an attempt before."""


async def download(
    sftp: asyncssh.SFTPClient, source: bytes, target: Path, *, host: str, told: Told, requests: Requests
) -> Copied:
    """Copy a file from the server.

    Args:
        sftp: the server.
        source: there.
        target: here, the name of the file itself.
        host: how the server is called; a part of a file of another one is not gone on with.
        told: how far it is.
        requests: how many may be under way, of all files together.

    Raises:
        asyncssh.Error: the server refused.
        OSError: it can't be written here, or the connection broke off.
        PeerError: it was changed in the meantime.
    """
    block = _block_bytes(sftp.limits.max_read_len)
    async with await sftp.open(source, "rb", block_size=0) as file:
        before = await file.stat()
        place = f"sftp://{host}/{source.decode('utf-8', 'replace')}"
        if _is_device(target):
            with target.open("wb") as device:
                return await _take(file, before, Pipe(device, place), told, requests, block)
        with Partial(target, place) as part:
            copied = await _take(file, before, part, told, requests, block)
            part.finish()
    _adopt(target, before)
    return copied


async def _take(
    file: Any, before: asyncssh.SFTPAttrs, sink: Sink, told: Told, requests: Requests, block: int
) -> Copied:
    """Read a file from where the part of it ends."""
    version, size = _version(before), before.size or 0
    if sink.origin.version != version or sink.size_bytes > size:
        sink.begin(Origin(source=sink.origin.source, version=version, size_bytes=size))
    resumed = sink.size_bytes
    told(resumed)
    async for data in _read(file, resumed, size, requests, block):
        sink.write(data)
        told(len(data))
    if _version(await file.stat()) != version:
        raise PeerError("it was changed there while it was copied; copy it again")
    return Copied(size, resumed)


async def _read(file: Any, start: int, end: int, requests: Requests, block: int) -> AsyncIterator[bytes]:
    """The blocks of a file, in order, with the requests for the next ones under way."""

    async def read(offset: int, size: int) -> bytes:
        data = b""
        while len(data) < size:
            # A server may give less than was asked for.
            async with requests:
                more: bytes = await file.read(size - len(data), offset + len(data))
            if not more:
                raise PeerError("it was cut there while it was copied; copy it again")
            if len(more) > size - len(data):
                raise PeerError("the server gives more of it than it was asked for")
            data += more
        return data

    window = _Window[bytes]()
    try:
        for offset in range(start, end, block):
            if window.is_full:
                yield await window.next()
            window.add(read(offset, min(block, end - offset)))
        while not window.is_empty:
            yield await window.next()
    finally:
        await window.close()


async def upload(sftp: asyncssh.SFTPClient, source: Path, target: bytes, *, told: Told, requests: Requests) -> Copied:
    """Copy a file to the server.

    Args:
        sftp: the server.
        source: here.
        target: there, the name of the file itself.
        told: how far it is.
        requests: how many may be under way, of all files together.

    Raises:
        asyncssh.Error: the server refused.
        OSError: it can't be read here, or the connection broke off.
        PeerError: it was changed in the meantime.
    """
    block = _block_bytes(sftp.limits.max_write_len)
    with source.open("rb") as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise PeerError(f"{source}: is no file")
        there = await _attrs(sftp, target)
        is_file = there is None or stat.S_ISREG(there.permissions or stat.S_IFREG)
        # A link stays, and what it leads to is written.
        target = await sftp.realpath(target) if there is not None else target
        part = _part_name(target, before) if is_file else target
        resumed = await _resumable(sftp, part, before.st_size, IN_FLIGHT * block) if is_file else 0
        async with await sftp.open(part, _flags(resumed, is_file=is_file), encoding=None, block_size=0) as remote:
            told(resumed)
            await _write(file, remote, resumed, before.st_size, told, requests, block)
        after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        if is_file:
            await sftp.remove(part)
        raise PeerError(f"{source}: it was changed while it was copied; copy it again")
    if is_file:
        mode = before.st_mode if there is None or there.permissions is None else there.permissions
        await _put_in_place(sftp, part, target, before, mode & _MODE)
    return Copied(before.st_size, resumed)


async def _write(file: BinaryIO, remote: Any, start: int, end: int, told: Told, requests: Requests, block: int) -> None:
    window = _Window[int]()
    file.seek(start)

    async def write(offset: int, data: bytes) -> int:
        async with requests:
            await remote.write(data, offset)
        return len(data)

    try:
        for offset in range(start, end, block):
            if window.is_full:
                told(await window.next())
            data = file.read(min(block, end - offset))
            if not data:
                raise PeerError("it was cut while it was copied; copy it again")
            window.add(write(offset, data))
        while not window.is_empty:
            told(await window.next())
    finally:
        await window.close()


async def _put_in_place(
    sftp: asyncssh.SFTPClient, part: bytes, target: bytes, source: os.stat_result, mode: int
) -> None:
    seconds = int(source.st_mtime)
    await sftp.setstat(part, asyncssh.SFTPAttrs(permissions=mode, atime=seconds, mtime=seconds))
    try:
        await sftp.posix_rename(part, target)
    except asyncssh.SFTPOpUnsupported:
        if await sftp.exists(target):
            await sftp.remove(target)
        await sftp.rename(part, target)


def _block_bytes(limit: int) -> int:
    return min(BLOCK_BYTES, max(limit, SAFE_BYTES))


async def _attrs(sftp: asyncssh.SFTPClient, path: bytes) -> asyncssh.SFTPAttrs | None:
    try:
        return await sftp.stat(path)
    except asyncssh.SFTPNoSuchFile:
        return None


async def _resumable(sftp: asyncssh.SFTPClient, part: bytes, size: int, unsure: int) -> int:
    """From where on an upload has to be done, because of one before."""
    found = await _attrs(sftp, part)
    there = (found.size or 0) if found is not None else 0
    return max(0, there - unsure) if there <= size else 0


def _flags(start: int, *, is_file: bool) -> int:
    create = asyncssh.FXF_CREAT if is_file else 0
    return asyncssh.FXF_WRITE | create | (asyncssh.FXF_TRUNC if is_file and not start else 0)


def _part_name(target: bytes, source: os.stat_result) -> bytes:
    folder, name = posixpath.split(target)
    version = hashlib.sha256(f"{source.st_size} {source.st_mtime_ns}".encode()).hexdigest()[:_HASH]
    return posixpath.join(folder, name[:_NAME_BYTES] + f".{version}.part".encode())


def _version(attrs: asyncssh.SFTPAttrs) -> str:
    """What is the same as long as a file is."""
    return f"{attrs.size} {attrs.mtime}"


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _adopt(target: Path, source: asyncssh.SFTPAttrs) -> None:
    """Give a new file the time that it has there, and let those who may read it run it, if they may there."""
    if source.mtime is not None:
        os.utime(target, (source.mtime, source.mtime))
    mode = stat.S_IMODE(target.stat().st_mode)
    runs = (mode >> 2) & (source.permissions or 0) & 0o111
    if runs & ~mode:
        target.chmod(mode | runs)


class _Window(Generic[T]):
    """Requests that are under way, in order."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: deque[asyncio.Task[T]] = deque()

    @property
    def is_full(self) -> bool:
        return len(self._tasks) >= IN_FLIGHT

    @property
    def is_empty(self) -> bool:
        return not self._tasks

    def add(self, request: Coroutine[Any, Any, T]) -> None:
        """Send one more."""
        self._tasks.append(asyncio.get_running_loop().create_task(request))

    async def next(self) -> T:
        """The answer to the oldest one."""
        answer = await self._tasks[0]
        self._tasks.popleft()
        return answer

    async def close(self) -> None:
        """Wait for none of those that are left any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
