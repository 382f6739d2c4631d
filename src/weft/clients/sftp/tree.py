"""Files and folders over SFTP, either way, as `scp -r` copies them.

| what is met               | what is done                                                                        |
|---------------------------|-------------------------------------------------------------------------------------|
| a file, a link to a file  | copied (copy.py), some of them at a time                                            |
| a folder                  | made, if it is not there; what is in it is copied                                   |
| a link to a folder        | left out, since it may lead around in a circle                                      |
| anything else             | left out                                                                            |
| a part of weft's own      | left out: it would be in the way of one here, or be gone on with as if it were one  |
| more than there can be    | the whole is refused (bounds.py)                                                    |
| what can't be copied      | left out                                                                            |
| a name with a `/`, `.` …  | the whole is refused: a server that sends one wants to write elsewhere on this disk |

What is left out is told. To go on with an earlier copy leaves out what is there with the same size and time.
"""

from __future__ import annotations

import asyncio
import errno
import os
import posixpath
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncssh

from weft.clients.http.partial import NOTE, PART
from weft.clients.report import Report
from weft.clients.sftp.bounds import check_depth, check_number
from weft.clients.sftp.copy import Copied, Requests, download, requests_in_flight, upload
from weft.clients.ssh.words import words_of
from weft.errors import PeerError, UsageError, WeftError

AT_ONCE: Final = 8
"""Files at a time: small ones cost round trips, not bytes."""
_BROKEN: Final = (
    *(asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError),
    *(ConnectionError, TimeoutError),
)
"""After which there is no next file."""
_UNREACHABLE: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN})

Told = Callable[[int, int | None], None]
"""Is told how many bytes of how many are there."""


@dataclass(frozen=True)
class Job:
    """One file that is to be copied."""

    name: str
    size: int
    mtime: int | None
    work: Callable[[Callable[[int], None]], Awaitable[Copied]]
    is_there: Callable[[int, int | None], Awaitable[bool]]


class Trees:
    """Copies between this machine and a server.

    Args:
        sftp: the server.
        host: how it is called.
        recursive: take folders too.
        resume: leave out what is there with the same size and time.
        told: how far it is.
    """

    def __init__(
        self,
        sftp: asyncssh.SFTPClient,
        host: str,
        *,
        recursive: bool = False,
        resume: bool = False,
        told: Told | None = None,
    ) -> None:
        self._sftp, self._host = sftp, host
        self._recursive, self._resume = recursive, resume
        self._told = told
        self._requests: Requests = requests_in_flight()
        self.report = Report()

    async def download(self, sources: Sequence[str], target: Path) -> Report:
        """Copy from the server; a source may have `*`, `?` and `[…]` in it.

        Raises:
            asyncssh.Error: the connection broke off.
            UsageError: the target can't be one.
            PeerError: the server gives names that are none.
        """
        paths = [path for source in sources for path in await self._expand(source)]
        into = _is_folder(target)
        _check_target(str(target), len(paths), is_folder=into)
        jobs: list[Job] = []
        for path in paths:
            name = posixpath.basename(path.rstrip(b"/")) or b"root"
            if name in {b".", b".."}:
                name = posixpath.basename(await self._sftp.realpath(path)) or b"root"
            place = target / _local(name) if into else target
            async for job in self._to_download(path, place):
                jobs.append(job)
                check_number(len(jobs))
        return await self._run(jobs)

    async def upload(self, sources: Sequence[Path], target: str) -> Report:
        """Copy to the server.

        Raises:
            asyncssh.Error: the connection broke off.
            UsageError: the target can't be one.
        """
        there = os.fsencode(target) or b"."
        into = await self._sftp.isdir(there)
        _check_target(target, len(sources), is_folder=into)
        jobs: list[Job] = []
        for source in sources:
            name = os.fsencode(_name_of(source))
            jobs += [job async for job in self._to_upload(source, posixpath.join(there, name) if into else there)]
        return await self._run(jobs)

    # What there is to do.

    async def _expand(self, source: str) -> list[bytes]:
        path = os.fsencode(source) or b"."
        if not set(path) & set(b"*?["):
            return [path]
        try:
            found = await self._sftp.glob(path)
        except asyncssh.SFTPNoSuchFile as error:
            self._leave_out(f"{self._host}:{source}", error)
            return []
        return sorted(each if isinstance(each, bytes) else os.fsencode(each) for each in found)

    async def _to_download(self, path: bytes, place: Path, depth: int = 0) -> AsyncIterator[Job]:
        shown = f"{self._host}:{os.fsdecode(path)}"
        try:
            attrs = await self._sftp.stat(path)
        except asyncssh.SFTPError as error:
            self._leave_out(shown, error)
            return
        if stat.S_ISREG(attrs.permissions or stat.S_IFREG):
            yield self._download_of(path, place, attrs, shown)
        elif not stat.S_ISDIR(attrs.permissions or 0):
            self._leave_out(shown, "is no file")
        elif not self._recursive:
            self._leave_out(shown, "is a folder; -r copies folders")
        else:
            try:
                check_depth(depth)
                _make_folder(place)
                entries = await self._entries(path)
            except (asyncssh.SFTPError, OSError) as error:
                self._leave_out(shown, error)
                return
            for name, inner in entries:
                inside = posixpath.join(path, name)
                if stat.S_ISLNK(inner.permissions or 0) and await self._sftp.isdir(inside):
                    self._leave_out(f"{self._host}:{os.fsdecode(inside)}", "is a link to a folder")
                    continue
                if name.endswith((PART.encode(), NOTE.encode())):
                    self._leave_out(f"{self._host}:{os.fsdecode(inside)}", "is a part of a copy that broke off")
                    continue
                async for job in self._to_download(inside, place / _local(name), depth + 1):
                    yield job

    async def _entries(self, folder: bytes) -> list[tuple[bytes, asyncssh.SFTPAttrs]]:
        """Names and attributes of what is in a folder over there."""
        found = []
        async for entry in self._sftp.scandir(folder):
            name = entry.filename if isinstance(entry.filename, bytes) else os.fsencode(entry.filename)
            if name not in {b".", b".."}:
                found.append((_checked(name), entry.attrs))
                check_number(len(found))
        return sorted(found, key=lambda each: each[0])

    async def _to_upload(self, source: Path, place: bytes) -> AsyncIterator[Job]:
        try:
            found = os.stat(source)
        except OSError as error:
            self._leave_out(str(source), error)
            return
        if stat.S_ISREG(found.st_mode):
            yield self._upload_of(source, place, found)
        elif not stat.S_ISDIR(found.st_mode):
            self._leave_out(str(source), "is no file")
        elif not self._recursive:
            self._leave_out(str(source), "is a folder; -r copies folders")
        else:
            try:
                if not await self._sftp.isdir(place):
                    await self._sftp.mkdir(place)
                names = sorted(os.listdir(source))
            except (asyncssh.SFTPError, OSError) as error:
                self._leave_out(str(source), error)
                return
            for name in names:
                inside = source / name
                if _is_link_to_folder(inside):
                    self._leave_out(str(inside), "is a link to a folder")
                    continue
                async for job in self._to_upload(inside, posixpath.join(place, os.fsencode(name))):
                    yield job

    def _download_of(self, path: bytes, place: Path, attrs: asyncssh.SFTPAttrs, shown: str) -> Job:
        async def work(told: Callable[[int], None]) -> Copied:
            return await download(self._sftp, path, place, host=self._host, told=told, requests=self._requests)

        async def is_there(size: int, mtime: int | None) -> bool:
            return _is_same(place, size, mtime)

        return Job(shown, attrs.size or 0, attrs.mtime, work, is_there)

    def _upload_of(self, source: Path, place: bytes, found: os.stat_result) -> Job:
        async def work(told: Callable[[int], None]) -> Copied:
            return await upload(self._sftp, source, place, told=told, requests=self._requests)

        async def is_there(size: int, mtime: int | None) -> bool:
            try:
                attrs = await self._sftp.stat(place)
            except asyncssh.SFTPNoSuchFile:
                return False
            return (attrs.size, attrs.mtime) == (size, mtime)

        return Job(str(source), found.st_size, int(found.st_mtime), work, is_there)

    # The work.

    async def _run(self, jobs: Sequence[Job]) -> Report:
        total, done = sum(job.size for job in jobs), 0

        def told(size_bytes: int) -> None:
            nonlocal done
            done += size_bytes
            if self._told is not None:
                self._told(done, total)

        queue = iter(jobs)
        workers = [asyncio.create_task(self._work(queue, told)) for _ in range(min(AT_ONCE, len(jobs)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return self.report

    async def _work(self, jobs: Iterator[Job], told: Callable[[int], None]) -> None:
        for job in jobs:
            try:
                if self._resume and await job.is_there(job.size, job.mtime):
                    self.report.unchanged += 1
                    told(job.size)
                    continue
                copied = await job.work(told)
            except _BROKEN:
                raise
            except (asyncssh.SFTPError, OSError, WeftError) as error:
                if isinstance(error, OSError) and error.errno in _UNREACHABLE:
                    raise
                self._leave_out(job.name, error)
                continue
            self.report.files += 1
            self.report.size_bytes += copied.size_bytes
            self.report.resumed_from_bytes += copied.resumed_from_bytes

    def _leave_out(self, name: str, why: str | BaseException) -> None:
        check_number(len(self.report.left_out))
        text = f"{name}: {why if isinstance(why, str) else words_of(why)}"
        # A name need not be text.
        self.report.left_out.append(os.fsencode(text).decode("utf-8", "replace"))


def _checked(name: bytes) -> bytes:
    """A name that a server gave.

    Raises:
        PeerError: it leads elsewhere.
    """
    if not name or b"/" in name or b"\0" in name or os.sep.encode() in name:
        raise PeerError(
            f"the server gives {name!r} as the name of a file, which it can't be; nothing was written there"
        )
    return name


def _local(name: bytes) -> str:
    return os.fsdecode(_checked(name))


def _name_of(source: Path) -> str:
    return source.name or source.resolve().name or "root"


def _is_folder(path: Path) -> bool:
    return path.is_dir()


def _make_folder(path: Path) -> None:
    path.mkdir(exist_ok=True)


def _is_link_to_folder(path: Path) -> bool:
    return path.is_symlink() and path.is_dir()


def _is_same(path: Path, size: int, mtime: int | None) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_size, int(found.st_mtime)) == (size, mtime)


def _check_target(target: str, sources: int, *, is_folder: bool) -> None:
    if not is_folder and (sources > 1 or target.endswith("/")):
        raise UsageError(f"{target or '.'}: is no folder")
