"""A folder over HTTP, as an application of aiohttp: files, and pages that list what is in a folder.

| asked for                               | answer                                                     |
|-----------------------------------------|------------------------------------------------------------|
| a file                                  | it, or the part that is wanted (range.py)                  |
| a folder                                | its `index.html`, else a page (page.py)                    |
| a folder without a `/` at the end       | 301, to the one with it                                    |
| a name with a `/`, a NUL, `.` or `..`   | 404; encoded or not                                        |
| what leads out, or is no file or folder | 403 (walk.py)                                              |
| what can't be read                      | 403; whoever serves it is told                             |
| another method than GET and HEAD        | 405                                                        |

What a name ends in says what type a file is of. A file that is changed is another version at once, with another `ETag`.
"""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from aiohttp import web

from weft.clients.beneath import open_top
from weft.clients.folder.page import page_of
from weft.clients.folder.range import Part, date_of, part_of, tag_of
from weft.clients.folder.walk import open_below, place_of
from weft.clients.relay import reset
from weft.clients.sparing import Told

PIECE_BYTES: Final = 256 * 1024
INDEX: Final = b"index.html"

_EVERY_PATH: Final = "/{path:(?s:.*)}"
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL})
_REFUSED: Final = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.EMLINK})
_PACKED: Final = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "br": "application/x-brotli",
}
"""Of files that are packed: they are served as they are, and a browser is not to unpack them."""


class Folder:
    """A folder, and what is answered for it.

    Args:
        root: the folder.
        left_out: folders that are not shown, wherever they lie.
        told: is told in a line what can't be read.

    Raises:
        OSError: a folder can't be opened.
    """

    def __init__(self, root: Path, left_out: Iterable[Path], told: Told) -> None:
        self._told = told
        self._left_out = set()
        for each in left_out:
            with suppress(FileNotFoundError):
                descriptor = open_top(each)
                self._left_out.add(place_of(descriptor))
                os.close(descriptor)
        self._top = open_top(root)
        if place_of(self._top) in self._left_out:
            os.close(self._top)
            raise PermissionError(errno.EACCES, "is left out", str(root))

    def app(self) -> web.Application:
        """The application; at its end the folder is closed."""
        app = web.Application()
        app.router.add_get(_EVERY_PATH, self.answer)
        app.on_cleanup.append(self._close)
        return app

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        path = request.rel_url.raw_path
        try:
            found = await asyncio.to_thread(self._find, path)
        except OSError as error:
            return self._failed(error, path)
        if isinstance(found, _File):
            try:
                return await self._send(request, found)
            finally:
                os.close(found.descriptor)
        if isinstance(found, str):
            return web.Response(status=301, headers={"Location": found})
        return web.Response(body=found, content_type="text/html", charset="utf-8")

    def _find(self, path: str) -> _File | str | bytes:
        """A file, or where else to look, or a page.

        Raises:
            OSError: there is none, or it can't be read.
        """
        names = _names(path)
        opened = self._open(names)
        if opened is not None:
            if path.endswith("/"):
                os.close(opened.descriptor)
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            return opened
        if not path.endswith("/"):
            return f"./{quote_from_bytes(names[-1], safe='')}/"
        with suppress(FileNotFoundError):
            index = self._open([*names, INDEX])
            if index is not None:
                return index
        folder = open_below(self._top, names, self._left_out)
        try:
            return page_of(folder, names)
        finally:
            os.close(folder)

    def _open(self, names: list[bytes]) -> _File | None:
        """A file; None if there is a folder."""
        descriptor = open_below(self._top, names, self._left_out)
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            return _File(descriptor, found, os.fsdecode(names[-1]))
        os.close(descriptor)
        return None

    async def _send(self, request: web.Request, file: _File) -> web.StreamResponse:
        part = part_of(request, file.status)
        response = web.StreamResponse(status=part.status, headers=_headers(file, part))
        response.etag, response.last_modified = tag_of(file.status), date_of(file.status)
        await response.prepare(request)
        if request.method != "HEAD":
            start, end = part.start, part.start + part.count
            while start < end:
                piece = await self._read(request, file, start, min(PIECE_BYTES, end - start))
                await response.write(piece)
                start += len(piece)
        await response.write_eof()
        return response

    async def _read(self, request: web.Request, file: _File, start: int, count: int) -> bytes:
        try:
            piece = await asyncio.to_thread(os.pread, file.descriptor, count, start)
            why = "it became shorter while it was sent"
        except OSError as error:
            piece, why = b"", error.strerror or str(error)
        if not piece:
            self._told(f"{file.name}: {why}")
            if request.transport is not None:
                reset(request.transport)
            raise ConnectionResetError(why)
        return piece

    def _failed(self, error: OSError, path: str) -> web.Response:
        if error.errno in _ABSENT:
            return _plain(404)
        self._told(f"{unquote_to_bytes(path).decode(errors='replace')}: {error.strerror or error}")
        return _plain(403 if error.errno in _REFUSED else 500)

    async def _close(self, app: web.Application) -> None:
        os.close(self._top)


@dataclass(frozen=True)
class _File:
    """A file that is open."""

    descriptor: int
    status: os.stat_result
    name: str


def _names(path: str) -> list[bytes]:
    """The names that the path of a URL consists of.

    Raises:
        FileNotFoundError: there can't be such a file.
    """
    names = [unquote_to_bytes(each) for each in path.split("/") if each]
    if not path.startswith("/") or any(b"/" in name or b"\0" in name or name in {b".", b".."} for name in names):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return names


def _headers(file: _File, part: Part) -> dict[str, str]:
    headers = {"Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff"}
    size = file.status.st_size
    if part.status in {200, 206}:
        headers["Content-Type"] = _type_of(file.name)
    if part.status != 304:
        headers["Content-Length"] = str(part.count)
    if part.status == 206:
        headers["Content-Range"] = f"bytes {part.start}-{part.start + part.count - 1}/{size}"
    elif part.status == 416:
        headers["Content-Range"] = f"bytes */{size}"
    return headers


def _type_of(name: str) -> str:
    kind, packing = mimetypes.guess_type(f"./{name}")
    if packing is not None:
        return _PACKED.get(packing, "application/octet-stream")
    if kind is None:
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _plain(status: int) -> web.Response:
    return web.Response(status=status, text=f"{HTTPStatus(status).phrase}\n")
