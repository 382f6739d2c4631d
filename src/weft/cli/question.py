"""Questions to the person at the terminal, which hold nothing up meanwhile."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

TERMINAL: Final = "/dev/tty"
_LINE_BYTES: Final = 1000


def has_terminal() -> bool:
    """Whether there is anybody to ask, wherever the standard streams lead."""
    try:
        os.close(os.open(TERMINAL, os.O_RDWR))
    except OSError:
        return False
    return True


class Questions:
    """Asks one after the other; a question that is cancelled is withdrawn."""

    def __init__(self) -> None:
        self._line: asyncio.Future[bytes] | None = None

    async def confirm(self, question: str) -> bool:
        """Ask what can be answered with yes or no, and is no without an answer.

        Args:
            question: one line.
        """
        import asyncio

        _write(f"{question} [y/N] ")
        # The line for which a question that was withdrawn still waits is the answer to this one.
        line = self._line = self._line or _read_line(asyncio.get_running_loop())
        try:
            answer = await asyncio.shield(line)
        except asyncio.CancelledError:
            _write("\n")
            raise
        self._line = None
        return answer.strip().lower() in {b"y", b"yes"}


def _write(text: str) -> None:
    with suppress(OSError), open(TERMINAL, "wb", buffering=0) as terminal:
        terminal.write(text.encode())


def _read_line(loop: asyncio.AbstractEventLoop) -> asyncio.Future[bytes]:
    """What will be typed; nothing if there is no terminal any more."""
    typed: asyncio.Future[bytes] = loop.create_future()

    def settle(line: bytes) -> None:
        if not typed.done():
            typed.set_result(line)

    def read() -> None:
        line = b""
        with suppress(OSError), open(TERMINAL, "rb", buffering=0) as terminal:
            line = terminal.read(_LINE_BYTES)
        with suppress(RuntimeError):  # the loop may be over by now
            loop.call_soon_threadsafe(settle, line)

    # An executor would be waited for at the end, and nobody can end what it waits for.
    threading.Thread(target=read, daemon=True).start()
    return typed
