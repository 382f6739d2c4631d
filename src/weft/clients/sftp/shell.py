"""The commands of an SFTP shell, one line each.

| command                    | does                                                |
|----------------------------|-----------------------------------------------------|
| cd [PATH], lcd [PATH]      | go to a folder there, here; home without one        |
| pwd, lpwd                  | say where one is there, here                        |
| ls, lls [-la] [PATH…]      | list there, here                                    |
| get [-r] PATH… [HERE]      | copy from there; several, with `*` and so on, too   |
| put [-r] PATH… [THERE]     | copy to there                                       |
| mkdir, rmdir PATH…         | make, remove folders there                          |
| rm PATH…                   | remove files there                                  |
| rename FROM TO             | move something there                                |
| chmod MODE PATH…           | change who may what, MODE being octal               |
| stat PATH…                 | say what something there is                         |
| help, exit                 |                                                     |

The last PATH of several of `get` and `put` is where to, if it is a folder there; of two it always is. Words are those
of a shell: quotes and backslashes.

Not done here: reading lines (cli/sftp.py).
"""

from __future__ import annotations

import glob
import os
import posixpath
import shlex
import stat
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import asyncssh

from weft.clients.report import Report
from weft.clients.sftp.tree import Told, Trees
from weft.errors import PeerError, UsageError

COMMANDS: Final = (
    *("cd", "lcd", "pwd", "lpwd", "ls", "lls", "get", "put", "mkdir", "rmdir", "rm", "rename", "chmod", "stat"),
    *("help", "exit"),
)
HELP: Final = (__doc__ or "").split("\n\n")[1]

Progress = Callable[[str], AbstractContextManager[Told]]
"""Shows how far a transfer is, while a block runs."""


class Shell:
    """One person's place there and here.

    Args:
        sftp: the server.
        host: how it is called.
        say: shows a line.
        progress: shows how far a transfer is.
    """

    def __init__(self, sftp: asyncssh.SFTPClient, host: str, say: Callable[[str], None], progress: Progress) -> None:
        self._sftp, self._host, self._say, self._progress = sftp, host, say, progress
        self._here = Path.cwd()
        self._home = ""

    async def do(self, line: str) -> bool:
        """Carry out a line.

        Returns:
            Whether to go on.

        Raises:
            UsageError: there is no such command, or it needs other words.
            PeerError: something was left out.
            asyncssh.Error: the server refused.
            OSError: this machine did.
        """
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise UsageError(str(error).lower()) from None
        if not words:
            return True
        name, *arguments = words
        if name in {"exit", "quit", "bye"}:
            return False
        if name in {"help", "?"}:
            self._say(HELP)
            return True
        work: Callable[[list[str]], Awaitable[None]] | None = (
            getattr(self, f"_do_{name}", None) if name in COMMANDS else None
        )
        if work is None:
            raise UsageError(f"no command {name!r}; `help` shows those that there are")
        await work(arguments)
        return True

    # Where one is.

    async def _do_cd(self, words: list[str]) -> None:
        self._home = self._home or await self._sftp.realpath(".")
        (path,) = _take(words, "cd [PATH]", 0, 1) or (self._home,)
        if not await self._sftp.isdir(path):
            raise PeerError(f"{path}: is no folder there")
        await self._sftp.chdir(path)

    async def _do_lcd(self, words: list[str]) -> None:
        (path,) = _take(words, "lcd [PATH]", 0, 1) or ("~",)
        self._here = _folder(self._local(path))

    async def _do_pwd(self, words: list[str]) -> None:
        _take(words, "pwd", 0, 0)
        self._say(str(await self._sftp.realpath(".")))

    async def _do_lpwd(self, words: list[str]) -> None:
        _take(words, "lpwd", 0, 0)
        self._say(str(self._here))

    # What there is.

    async def _do_ls(self, words: list[str]) -> None:
        flags, paths = _flags(words, "la", "ls [-la] [PATH…]")
        for path in paths or ["."]:
            for name, attrs in await self._list(path, hidden="a" in flags):
                self._say(_long(name, attrs) if "l" in flags else name)

    async def _list(self, path: str, *, hidden: bool) -> list[tuple[str, asyncssh.SFTPAttrs]]:
        if set(path) & set("*?["):
            found = [(str(each), await self._sftp.stat(each)) for each in await self._sftp.glob(path)]
            return sorted(found, key=lambda each: each[0])
        attrs = await self._sftp.stat(path)
        if not stat.S_ISDIR(attrs.permissions or 0):
            return [(path, attrs)]
        found = [(_text(each.filename), each.attrs) for each in await self._sftp.readdir(path)]
        return sorted((each for each in found if hidden or not each[0].startswith(".")), key=lambda each: each[0])

    async def _do_lls(self, words: list[str]) -> None:
        flags, paths = _flags(words, "la", "lls [-la] [PATH…]")
        for path in paths or ["."]:
            for name, found in _list_here(self._local(path)):
                if "a" in flags or not name.startswith("."):
                    self._say(_long(name, asyncssh.SFTPAttrs.from_local(found)) if "l" in flags else name)

    async def _do_stat(self, words: list[str]) -> None:
        for path in _take(words, "stat PATH…", 1):
            attrs = await self._sftp.lstat(path)
            self._say(_long(path, attrs))

    # Copies.

    async def _do_get(self, words: list[str]) -> None:
        flags, paths = _flags(words, "r", "get [-r] PATH… [HERE]", at_least=1)
        target = self._here
        if len(paths) == 2 or (len(paths) > 2 and _is_folder(self._local(paths[-1]))):
            target = self._local(paths.pop())
        elif len(paths) == 1 and not _has_pattern(paths[0]):
            name = posixpath.basename(paths[0].rstrip("/"))
            target = self._here / name if name and name not in {".", ".."} and "r" not in flags else self._here
        with self._progress(paths[0]) as told:
            # From the root on, so that a part is one of the same file wherever somebody stands.
            sources = [posixpath.join(_text(await self._sftp.getcwd()), path) for path in paths]
            self._tell(await self._trees(flags, told).download(sources, target))

    async def _do_put(self, words: list[str]) -> None:
        flags, paths = _flags(words, "r", "put [-r] PATH… [THERE]", at_least=1)
        target = "."
        if len(paths) == 2 or (len(paths) > 2 and await self._sftp.isdir(paths[-1])):
            target = paths.pop()
        sources = [Path(each) for path in paths for each in _expand(self._local(path))]
        with self._progress(paths[0]) as told:
            self._tell(await self._trees(flags, told).upload(sources, target))

    def _trees(self, flags: str, told: Told) -> Trees:
        return Trees(self._sftp, self._host, recursive="r" in flags, told=told)

    def _tell(self, report: Report) -> None:
        for line in report.left_out[1:]:
            self._say(f"left out: {line}")
        if report.left_out:
            raise PeerError(f"left out: {report.left_out[0]}")

    # Changes.

    async def _do_mkdir(self, words: list[str]) -> None:
        for path in _take(words, "mkdir PATH…", 1):
            await self._sftp.mkdir(path)

    async def _do_rmdir(self, words: list[str]) -> None:
        for path in _take(words, "rmdir PATH…", 1):
            await self._sftp.rmdir(path)

    async def _do_rm(self, words: list[str]) -> None:
        for path in _take(words, "rm PATH…", 1):
            names = [_text(each) for each in await self._sftp.glob(path)] if _has_pattern(path) else [path]
            for name in names:
                await self._sftp.remove(name)

    async def _do_rename(self, words: list[str]) -> None:
        old, new = _take(words, "rename FROM TO", 2, 2)
        await self._sftp.rename(old, new)

    async def _do_chmod(self, words: list[str]) -> None:
        mode, *paths = _take(words, "chmod MODE PATH…", 2)
        try:
            bits = int(mode, 8)
        except ValueError:
            bits = -1
        if not 0 <= bits <= 0o7777:
            raise UsageError(f"{mode!r} is no octal mode, such as 644")
        for path in paths:
            await self._sftp.chmod(path, bits)

    # Paths.

    def _local(self, path: str) -> Path:
        return self._here / Path(path).expanduser()


def _take(words: Sequence[str], usage: str, at_least: int, at_most: int | None = None) -> Sequence[str]:
    if not at_least <= len(words) <= (len(words) if at_most is None else at_most):
        raise UsageError(f"it is `{usage}`")
    return words


def _flags(words: Sequence[str], known: str, usage: str, *, at_least: int = 0) -> tuple[str, list[str]]:
    flags, paths = "", list(words)
    while paths and paths[0].startswith("-") and len(paths[0]) > 1:
        flag = paths.pop(0)
        if flag == "--":
            break
        flags += flag[1:]
    if set(flags) - set(known) or len(paths) < at_least:
        raise UsageError(f"it is `{usage}`")
    return flags, paths


def _text(name: str | bytes) -> str:
    return os.fsdecode(name)


def _has_pattern(path: str) -> bool:
    return bool(set(path) & set("*?["))


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise UsageError(f"{path}: is no folder here")
    return path.resolve()


def _is_folder(path: Path) -> bool:
    return path.is_dir()


def _expand(path: Path) -> list[str]:
    return sorted(glob.glob(str(path))) or [str(path)]


def _list_here(path: Path) -> list[tuple[str, os.stat_result]]:
    if path.is_dir():
        return sorted(((each.name, each.lstat()) for each in path.iterdir()), key=lambda each: each[0])
    return [(path.name, path.lstat())]


def _long(name: str, attrs: asyncssh.SFTPAttrs) -> str:
    """`-rw-r--r--  1000 1000     5 2026-11-30 08:00 name`."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(attrs.mtime)) if attrs.mtime is not None else "?"
    who = f"{attrs.uid if attrs.uid is not None else '?':>5} {attrs.gid if attrs.gid is not None else '?':>5}"
    return f"{stat.filemode(attrs.permissions or 0)} {who} {attrs.size or 0:>12} {when} {name}"
