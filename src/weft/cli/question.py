"""A question to the person at the terminal, which holds nothing up meanwhile."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Final

TERMINAL: Final = "/dev/tty"
_LINE_BYTES: Final = 1000


def has_terminal() -> bool:
    """Whether there is anybody to ask, wherever the standard streams lead."""
    try:
        os.close(os.open(TERMINAL, os.O_RDWR))
    except OSError:
        return False
    return True


async def confirm(question: str) -> bool:
    """Ask what can be answered with yes or no, and is no without an answer.

    Args:
        question: one line.

    Raises:
        OSError: there is no terminal.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    def settle(line: bytes) -> None:
        if not answer.done():
            answer.set_result(line)

    def ask() -> None:
        line = b""
        with suppress(OSError), open(TERMINAL, "r+b", buffering=0) as terminal:
            terminal.write(f"{question} [y/N] ".encode())
            line = terminal.read(_LINE_BYTES)
        with suppress(RuntimeError):  # the loop may be over by now
            loop.call_soon_threadsafe(settle, line)

    # An executor would be waited for at the end, and nobody can end what it waits for.
    threading.Thread(target=ask, daemon=True).start()
    return (await answer).strip().lower() in {b"y", b"yes"}
