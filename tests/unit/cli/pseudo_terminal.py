"""A program at a real terminal, as far as it can tell."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from typing import Self

TAKES_TERMINAL = (
    "import fcntl, os, struct, sys, termios;"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', int(sys.argv[1]), int(sys.argv[2]), 0, 0));"
    "os.execvp(sys.argv[3], sys.argv[3:])"
)
WEFT = (sys.executable, "-m", "weft")


class PseudoTerminal:
    """Runs a program until the block ends.

    Args:
        command: its words.
        columns, lines: the size of the terminal.
        environment: more variables.
    """

    def __init__(self, command: Sequence[str], *, columns: int = 120, lines: int = 30, **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WEFT_", "NO_COLOR"))}
        for name in ("COLUMNS", "LINES"):
            kept.pop(name, None)
        self._terminal, inside = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", TAKES_TERMINAL, str(lines), str(columns), *command],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={**kept, "TERM": "xterm", **environment},
            start_new_session=True,
        )
        os.close(inside)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.seen = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def send(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def resize(self, columns: int, lines: int) -> None:
        """As somebody does it with a mouse."""
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait_for(self, pattern: str, patience_s: float = 20.0) -> re.Match[str]:
        """Read until a pattern was seen; what came before it, and it, are taken from `seen`."""
        deadline = time.monotonic() + patience_s
        while (match := re.search(pattern, self.seen)) is None:
            assert self._read(deadline), f"{pattern!r} does not come: {self.seen!r}"
        self.seen = self.seen[match.end() :]
        return match

    def end(self, patience_s: float = 20.0) -> int:
        """Read until the program has ended; its exit code."""
        deadline = time.monotonic() + patience_s
        while self._read(deadline):
            pass
        return self._process.wait(max(deadline - time.monotonic(), 0.1))

    def _read(self, deadline: float) -> bool:
        if not select.select([self._terminal], [], [], max(deadline - time.monotonic(), 0))[0]:
            return False
        try:
            more = os.read(self._terminal, 65536)
        except OSError:
            # How Linux says that nobody has the other end any more.
            return False
        self.seen += self._decoder.decode(more).replace("\r\n", "\n")
        return bool(more)


def at_terminal(*command: str, columns: int = 120, lines: int = 30, **environment: str) -> tuple[int, str]:
    """Run `weft` to its end at a terminal; its exit code, and all that was seen."""
    with PseudoTerminal((*WEFT, *command), columns=columns, lines=lines, **environment) as terminal:
        code = terminal.end()
        return code, terminal.seen
