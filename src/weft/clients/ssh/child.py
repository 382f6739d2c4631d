"""A shell or command that runs for somebody at the other end of SSH, at a terminal of its own or on pipes.

It leads a session of its own, so that signals and the hang-up reach all that it started. What it leaves running when it
ends is left alone; when the connection ends first, it is hung up, and killed if that does not help.

| environment            | from                                                             |
|------------------------|------------------------------------------------------------------|
| HOME SHELL USER …      | the account                                                      |
| PATH TZ                | the server's own                                                 |
| LANG LC_* COLORTERM    | the client, else the server's own                                |
| TERM                   | the client's terminal                                            |
| SSH_CONNECTION SSH_TTY | the connection                                                   |

Sources: RFC 4254 sections 6.2, 6.7 to 6.10; POSIX.1-2017 chapter 11 (terminals).
Not done here: SSH itself (server.py); modes of the client's terminal: a new terminal has its own; Windows.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

READ_BYTES: Final = 32_768
HANG_UP_S: Final = 3.0
"""How long a process has between the hang-up and its end by force."""
SIGNALS: Final = frozenset("ABRT ALRM FPE HUP ILL INT KILL PIPE QUIT SEGV TERM USR1 USR2".split())
"""That a client may send; RFC 4254 section 6.10."""
_FROM_CLIENT: Final = ("LANG", "LC_", "COLORTERM")
_FROM_SERVER: Final = ("PATH", "TZ", "LANG", "LC_")
_TAKES_TERMINAL: Final = (
    "import fcntl,os,sys,termios;fcntl.ioctl(0,termios.TIOCSCTTY,0);os.execv(sys.argv[1],sys.argv[2:])"
)
"""Between fork and exec it can't be done without harm, since this process may have threads."""

TermSize = tuple[int, int, int, int]
"""Columns, lines, and the same in pixels."""


class Child:
    """The process; `start` makes it.

    Attributes:
        has_terminal: whether its three streams are one terminal.
    """

    def __init__(self, process: asyncio.subprocess.Process, terminal: int | None) -> None:
        self._process = process
        self._terminal = terminal
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()
        self.has_terminal = terminal is not None

    @classmethod
    async def start(
        cls, command: str | None, environment: Mapping[str, str], terminal: TermSize | None = None
    ) -> Child:
        """Run a command by the shell of this account, or that shell itself.

        Args:
            command: None for a login shell.
            environment: all of it.
            terminal: its size; None for pipes.

        Raises:
            OSError: there are no more processes or terminals.
            ValueError: there is a NUL in what it is given.
        """
        if any("\0" in word for word in (command or "", *environment, *environment.values())):
            # Some event loops would run what stands before it.
            raise ValueError("embedded null byte")
        shell = environment["SHELL"]
        name = os.path.basename(shell)
        arguments = [f"-{name}"] if command is None else [name, "-c", command]
        where = _folder(environment["HOME"])
        if terminal is None:
            pipe = subprocess.PIPE
            process = await asyncio.create_subprocess_exec(
                *arguments,
                executable=shell,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=dict(environment),
                cwd=where,
                start_new_session=True,
            )
            return cls(process, None)
        outside, inside = os.openpty()
        try:
            os.set_blocking(outside, False)
            _set_size(inside, terminal)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _TAKES_TERMINAL, shell, *arguments),
                stdin=inside,
                stdout=inside,
                stderr=inside,
                env={**environment, "SSH_TTY": os.ttyname(inside)},
                cwd=where,
                start_new_session=True,
            )
        except BaseException:
            os.close(outside)
            raise
        finally:
            os.close(inside)
        return cls(process, outside)

    async def read(self) -> bytes:
        """What it wrote, errors included if it has a terminal; b"" at the end."""
        if self._terminal is None:
            assert self._process.stdout is not None
            return await self._process.stdout.read(READ_BYTES)
        while self._terminal is not None:
            try:
                return os.read(self._terminal, READ_BYTES)
            except BlockingIOError:
                # What it leaves behind may hold the terminal for ever; it is over when nothing comes after its end.
                if self._process.returncode is not None:
                    break
                await self._until(self._loop.add_reader, self._loop.remove_reader)
            except OSError:
                # How Linux says that nobody has the other end any more.
                break
        return b""

    async def read_errors(self) -> bytes:
        """What it wrote to its standard error, if it has no terminal; b"" at the end."""
        if self._process.stderr is None:
            return b""
        return await self._process.stderr.read(READ_BYTES)

    async def write(self, data: bytes) -> None:
        """Give it something to read; what it does not want is lost."""
        if self._terminal is None:
            assert self._process.stdin is not None
            with suppress(BrokenPipeError, ConnectionResetError):
                self._process.stdin.write(data)
                await self._process.stdin.drain()
            return
        rest = memoryview(data)
        while rest and self._terminal is not None:
            try:
                rest = rest[os.write(self._terminal, rest) :]
            except BlockingIOError:
                await self._until(self._loop.add_writer, self._loop.remove_writer)
            except OSError:
                return

    async def write_end(self) -> None:
        """Tell it that nothing more comes."""
        if self._terminal is not None:
            await self.write(b"\x04")
        elif self._process.stdin is not None:
            self._process.stdin.close()

    def resize(self, size: TermSize) -> None:
        """Its terminal has another size."""
        if self._terminal is not None:
            _set_size(self._terminal, size)

    def send_signal(self, name: str) -> None:
        """Send a signal, such as `INT`, to it and what runs with it; to what is in front, if it has a terminal."""
        if name in SIGNALS and self._process.returncode is None:
            self._kill(signal.Signals[f"SIG{name}"])

    async def wait(self) -> int:
        """Its exit code; below zero, it is the signal that ended it."""
        code = await self._process.wait()
        if self._terminal is not None:
            # Who waits for more of it looks again.
            self._loop.call_soon(self._wake)
        return code

    async def hang_up(self) -> None:
        """The other end has gone: end it, by force if need be."""
        self._kill(signal.SIGHUP)
        self._close()
        try:
            async with asyncio.timeout(HANG_UP_S):
                await self._process.wait()
        except TimeoutError:
            self._kill(signal.SIGKILL)
            await self._process.wait()
        # What it leaves running may hold its pipes for ever; asyncio has no public way to let go of our ends.
        self._process._transport.close()  # type: ignore[attr-defined]

    def close(self) -> None:
        """Let go of its terminal or pipes."""
        self._close()

    def _close(self) -> None:
        terminal, self._terminal = self._terminal, None
        if terminal is not None:
            self._loop.remove_reader(terminal)
            self._loop.remove_writer(terminal)
            self._wake()
            os.close(terminal)
        elif self._process.stdin is not None:
            self._process.stdin.close()

    def _kill(self, number: signal.Signals) -> None:
        groups = {self._process.pid}
        in_front = self._in_front()
        if in_front is not None:
            groups = groups | {in_front} if number in {signal.SIGHUP, signal.SIGKILL} else {in_front}
        for group in groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)

    def _in_front(self) -> int | None:
        """The process group that has the terminal; None if none of this session has it."""
        if self._terminal is None:
            return None
        with suppress(OSError):
            group = os.tcgetpgrp(self._terminal)
            # There is none before the session has taken the terminal, and then this is 0, which would be ourselves.
            if group > 1 and os.getsid(group) == self._process.pid:
                return group
        return None

    async def _until(self, add: Callable[..., None], remove: Callable[[int], object]) -> None:
        """Return when the terminal can be read, or written, or it is over."""
        terminal, ready = self._terminal, self._loop.create_future()
        assert terminal is not None
        self._waiting.add(ready)
        add(terminal, self._wake)
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            if self._terminal is not None:
                remove(terminal)

    def _wake(self) -> None:
        for each in self._waiting:
            if not each.done():
                each.set_result(None)


def environment_of(
    given: Mapping[str, str], *, term: str | None, peer: tuple[str, int], own: tuple[str, int]
) -> dict[str, str]:
    """The environment of a process; see the head of this file.

    Args:
        given: what the client wants.
        term: kind of the client's terminal.
        peer: where the connection is from.
        own: where it came in.
    """
    import pwd

    account = pwd.getpwuid(os.geteuid())
    environment = {name: value for name, value in os.environ.items() if name.startswith(_FROM_SERVER)}
    environment |= {name: value for name, value in given.items() if name.startswith(_FROM_CLIENT)}
    environment |= {
        "HOME": account.pw_dir,
        "SHELL": account.pw_shell or "/bin/sh",
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SSH_CLIENT": f"{peer[0]} {peer[1]} {own[1]}",
        "SSH_CONNECTION": f"{peer[0]} {peer[1]} {own[0]} {own[1]}",
    }
    return environment | ({"TERM": term} if term else {})


def _folder(home: str) -> str:
    """Where a process begins."""
    return home if os.path.isdir(home) else "/"


def _set_size(terminal: int, size: TermSize) -> None:
    import fcntl
    import termios

    columns, lines, width, height = (min(max(each, 0), 65_535) for each in size)
    with suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, width, height))
