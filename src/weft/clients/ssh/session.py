"""What one session of our SSH server is for its peer: a shell, a command, or SFTP.

| it is asked for                  | with a root folder | without                                        |
|----------------------------------|--------------------|------------------------------------------------|
| a shell, a command, a terminal   | refused in a line  | runs as the one who serves (child.py)          |
| SFTP                             | in that folder     | everywhere, as the one who serves              |
| another subsystem, forwarding    | refused            | refused                                        |

What a client may say before it says what is to run is bounded, and so is what waits to be sent to it.

Source: RFC 4254 section 6.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import asyncssh

from weft.clients.sftp.folder import READ_BYTES, FolderServer
from weft.clients.ssh.child import Child, environment_of

GIVEN_BYTES: Final = 65_536
VARIABLES: Final = 64
VARIABLE_BYTES: Final = 4096
"""Of the name and the value of a variable; larger ones, and more, are not heard."""


class _Environment(dict[bytes, bytes]):
    """What the client wants there to be in the environment."""

    def __setitem__(self, name: bytes, value: bytes) -> None:
        if len(self) < VARIABLES and len(name) + len(value) <= VARIABLE_BYTES:
            super().__setitem__(name, value)


def served_session(
    root: Path | None, count: Callable[[int], None], follow: Callable[[asyncio.Task[Any]], None]
) -> asyncssh.SSHServerProcess[bytes]:
    """Make one.

    Args:
        root: folder that is served and nothing else; None for shells and all files.
        count: is told one more at the beginning, and one less at the end.
        follow: is given the task of a process, which may outlive the session.
    """
    return _Session(root, count, follow)


def _files_for(channel: Any, root: Path | None) -> asyncssh.SFTPServer:
    return _Files(channel) if root is None else _Folder(channel, root)


class _Files(asyncssh.SFTPServer):
    """SFTP everywhere; its end is a success, as scp(1) wants to hear."""

    def read(self, file_obj: object, offset: int, size: int) -> Any:
        return super().read(file_obj, offset, min(size, READ_BYTES))

    def exit(self) -> None:
        with suppress(OSError):
            self.channel.exit(0)


class _Folder(FolderServer):
    """SFTP in a folder, likewise."""

    def exit(self) -> None:
        super().exit()
        with suppress(OSError):
            self.channel.exit(0)


class _Session(asyncssh.SSHServerProcess[bytes]):
    """One shell, command or SFTP."""

    def __init__(
        self, root: Path | None, count: Callable[[int], None], follow: Callable[[asyncio.Task[Any]], None]
    ) -> None:
        super().__init__(self._begin, lambda channel: _files_for(channel, root), 3, False)
        self._count, self._follow = count, follow
        self._has_shells = root is None
        self._child: Child | None = None

    def connection_made(self, chan: Any) -> None:
        super().connection_made(chan)
        # asyncssh keeps what the client says before it says what is to run.
        chan._env = _Environment()
        self._count(1)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._count(-1)

    async def read(self, datatype: Any, n: int, exact: bool) -> bytes:
        """As of asyncssh; the next request of SFTP has to wait until the answers to those before are on their way."""
        if self.subsystem is not None:
            await self.drain(None)
        data: bytes = await super().read(datatype, n, exact)
        return data

    # What may be asked for.

    def pty_requested(self, term_type: str, term_size: Any, term_modes: Any) -> bool:
        return self._has_shells

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    # What reaches the process at once, before what it has not read yet.

    def signal_received(self, signal: str) -> None:
        if self._child is not None:
            self._child.send_signal(signal)

    def break_received(self, msec: int) -> bool:
        self.signal_received("INT")
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._child is not None:
            self._child.resize((width, height, pixwidth, pixheight))

    # The process.

    def _begin(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        if not self._has_shells:
            self.stderr.write(b"weft: only SFTP is served here\n")
            self.exit(1)
            return
        # A task of asyncssh's would be cancelled with the connection, and the process would be left.
        self._follow(asyncio.get_running_loop().create_task(self._run()))

    async def _run(self) -> None:
        own, peer = self.get_extra_info("sockname"), self.get_extra_info("peername")
        given = {_text(name): _text(value) for name, value in self.env.items()}
        environment = environment_of(given, term=self.term_type, peer=peer[:2], own=own[:2])
        try:
            child = await Child.start(self.command, environment, self.term_size if self.term_type else None)
        except (OSError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            self.stderr.write(f"weft: {environment['SHELL']}: {reason}\n".encode())
            self.exit(255)
            return
        self._child = child
        gone = asyncio.ensure_future(self.channel.wait_closed())
        giving = asyncio.ensure_future(self._give(child))
        ended = asyncio.ensure_future(self._take(child))
        try:
            await asyncio.wait({gone, ended}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                await child.hang_up()
            else:
                self._end(ended.result())
        finally:
            for each in (gone, giving, ended):
                each.cancel()
            await asyncio.gather(gone, giving, ended, return_exceptions=True)
            child.close()

    async def _give(self, child: Child) -> None:
        """What the client sends goes to the process."""
        with suppress(asyncssh.Error, OSError):
            while data := await self.stdin.read(GIVEN_BYTES):
                await child.write(data)
            await child.write_end()

    async def _take(self, child: Child) -> int:
        """What the process writes goes to the client; its exit code."""

        async def carry(read: Callable[[], Awaitable[bytes]], writer: asyncssh.SSHWriter[bytes]) -> None:
            with suppress(asyncssh.Error, OSError):
                while data := await read():
                    writer.write(data)
                    await writer.drain()

        code, _, _ = await asyncio.gather(
            child.wait(), carry(child.read, self.stdout), carry(child.read_errors, self.stderr)
        )
        return code

    def _end(self, code: int) -> None:
        if code < 0:
            self.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        else:
            self.exit(code)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
