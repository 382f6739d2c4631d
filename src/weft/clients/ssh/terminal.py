r"""A command or a shell at the other end of SSH, joined to the standard streams of this process.

| this side                   | with a terminal there                   | without                                  |
|-----------------------------|-----------------------------------------|------------------------------------------|
| a key                       | goes there as it is                     | a line goes there when it is whole       |
| Ctrl-C, Ctrl-\, Ctrl-Z      | keys, for the terminal there            | INT, QUIT go there; stops this process   |
| a second SIGINT             |                                         | ends the connection                      |
| SIGTERM, SIGHUP             | ends the connection                     | go there, a second one ends it           |
| the window changes          | the terminal there changes              |                                          |
| `~.` at the head of a line  | ends the connection                     |                                          |
| `~~` at the head of a line  | `~`                                     |                                          |

Its exit code is that of the command, and 128 and the number of the signal that ended it, as shells have it.

Sources: RFC 4254 sections 6.2 to 6.10; ssh(1), ESCAPE CHARACTERS.
Not done here: Windows, whose terminals are other things.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import asyncssh

from weft.clients.standard_streams import STDERR, STDIN, STDOUT, read_input, write_output

READ_BYTES: Final = 32_768
FORWARDED: Final = ("INT", "TERM", "HUP", "QUIT")
LOST: Final = 255
"""The exit code if there is none, as with ssh(1)."""


async def run_joined(connection: asyncssh.SSHClientConnection, command: str | None, *, terminal: bool) -> int:
    """Run something there, until it has ended or somebody ends it here.

    Args:
        connection: to the server.
        command: None for a shell.
        terminal: give it one, like the one here.

    Returns:
        An exit code.

    Raises:
        asyncssh.Error: the server refused, or the connection broke off.
    """
    process: asyncssh.SSHClientProcess[bytes] = await connection.create_process(
        command,
        encoding=None,
        request_pty="force" if terminal else False,
        term_type=os.environ.get("TERM", "dumb") if terminal else None,
        term_size=_size() if terminal else (),
        env=_environment(),
    )
    with _raw(enabled=terminal):
        joined = _Joined(connection, process, has_terminal=terminal)
        with joined.signals():
            await joined.run()
    return _code(process) if joined.has_readers else 128 + signal.SIGPIPE


class _Joined:
    """The streams and signals of this process and one there."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        process: asyncssh.SSHClientProcess[bytes],
        *,
        has_terminal: bool,
    ) -> None:
        self._connection, self._process = connection, process
        self._has_terminal = has_terminal
        self._loop = asyncio.get_running_loop()
        self._seen: set[str] = set()
        self._is_ended_here = False
        self.has_readers = True

    async def run(self) -> None:
        """Return when it is over."""
        process = self._process
        giving = asyncio.create_task(self._give())
        taking = [
            asyncio.create_task(_take(process.stdout, STDOUT)),
            asyncio.create_task(_take(process.stderr, STDERR)),
        ]
        try:
            self.has_readers = all(await asyncio.gather(*taking))
            if not self.has_readers:
                # What runs there gets to know.
                process.close()
            await process.wait_closed()
        except asyncssh.Error:
            if not self._is_ended_here:
                raise
        finally:
            for task in (giving, *taking):
                task.cancel()
            await asyncio.gather(giving, *taking, return_exceptions=True)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """While the block runs, signals go where the table says."""
        numbers = [signal.Signals[f"SIG{name}"] for name in FORWARDED]
        for number, name in zip(numbers, FORWARDED, strict=True):
            self._loop.add_signal_handler(number, self._signalled, name)
        if self._has_terminal:
            self._loop.add_signal_handler(signal.SIGWINCH, self._resized)
        try:
            yield
        finally:
            for number in (*numbers, signal.SIGWINCH):
                self._loop.remove_signal_handler(number)

    def _signalled(self, name: str) -> None:
        if self._has_terminal or name in self._seen:
            self._end()
            return
        self._seen.add(name)
        with suppress(OSError, asyncssh.Error):
            self._process.send_signal(name)

    def _resized(self) -> None:
        with suppress(OSError, asyncssh.Error):
            self._process.change_terminal_size(*_size())

    def _end(self) -> None:
        self._is_ended_here = True
        self._connection.abort()

    async def _give(self) -> None:
        """What comes in here goes there."""
        escape = Escape()
        with suppress(asyncssh.Error, BrokenPipeError, ConnectionError):
            async for data in read_input(READ_BYTES):
                if self._has_terminal:
                    data = escape.passed(data)
                if escape.is_over:
                    self._end()
                    return
                self._process.stdin.write(data)
                await self._process.stdin.drain()
            self._process.stdin.write_eof()


class Escape:
    """Finds `~.` at the head of a line, in what a person types.

    Attributes:
        is_over: whether it was typed.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._at_head = True
        self._has_tilde = False

    def passed(self, data: bytes) -> bytes:
        """What goes on of what was typed."""
        out = bytearray()
        for byte in data:
            if self._has_tilde:
                self._has_tilde = False
                if byte == ord("."):
                    self.is_over = True
                    return bytes(out)
                if byte != ord("~"):
                    out += b"~"
            elif self._at_head and byte == ord("~"):
                self._has_tilde = True
                continue
            out.append(byte)
            self._at_head = byte in b"\r\n"
        return bytes(out)


async def _take(reader: asyncssh.SSHReader[bytes], descriptor: int) -> bool:
    """What comes from there goes out here; whether somebody read it to the end."""
    while data := await reader.read(READ_BYTES):
        try:
            await write_output(data, descriptor)
        except BrokenPipeError:
            return False
    return True


@contextmanager
def _raw(*, enabled: bool) -> Iterator[None]:
    """Take keys as they come while the block runs."""
    if not enabled or not os.isatty(STDIN):
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(STDIN)
    tty.setraw(STDIN)
    try:
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


def _size() -> tuple[int, int]:
    for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            size = os.get_terminal_size(stream.fileno())  # type: ignore[union-attr]
            return size.columns, size.lines
    usual = shutil.get_terminal_size()
    return usual.columns, usual.lines


def _environment() -> dict[str, str]:
    """What the programs there shall know of the person here."""
    return {name: value for name, value in os.environ.items() if name.startswith(("LANG", "LC_", "COLORTERM"))}


def _code(process: asyncssh.SSHClientProcess[Any]) -> int:
    if process.exit_signal is not None:
        with suppress(KeyError):
            return 128 + signal.Signals[f"SIG{process.exit_signal[0]}"]
    code = process.exit_status
    # What fits no exit code must not become 0 when it is cut.
    return LOST if code is None or not 0 <= code < LOST else code
