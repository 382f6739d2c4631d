"""The last lines of the log, kept in memory so that `weft logs` can show them wherever the log itself goes.

Not done here: where the log goes and how its lines look there (io/logs.py).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from weft.engine.events import Events
from weft.engine.status import LOG_LINES, LogLevel, LogLine, LogList

TEXT_CHARACTERS: Final = 8192
"""A longer line is cut, with a sign."""

_NUMBERS: Final[dict[LogLevel, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Logbook:
    """The last `LOG_LINES` lines that the process logged, and those that are yet to come.

    Args:
        events: is told each line too.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._lines: deque[LogLine] = deque(maxlen=LOG_LINES)
        self._grown = asyncio.Event()
        self._handler: _Handler | None = None

    def open(self) -> None:
        """Begin to keep lines; called on the event loop."""
        self._handler = _Handler(self)
        logging.getLogger().addHandler(self._handler)

    def close(self) -> None:
        """Keep no more of them."""
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            self._handler = None

    def list(self, lines: int, level: LogLevel) -> LogList:
        """The last lines, the oldest first.

        Args:
            lines: how many at most.
            level: the least that counts.
        """
        wanted = [line for line in self._lines if _NUMBERS[line.level] >= _NUMBERS[level]]
        return LogList(lines=wanted[max(len(wanted) - lines, 0) :])

    async def follow(self, lines: int, level: LogLevel) -> AsyncIterator[LogLine]:
        """As `list`, and then each line as it comes, until the iterator is closed.

        A listener that is so slow that lines were forgotten sees it by their numbers.
        """
        last = self._lines[-1].number if self._lines else 0
        for line in self.list(lines, level).lines:
            yield line
        while True:
            grown = self._grown
            for line in [line for line in self._lines if line.number > last]:
                last = line.number
                if _NUMBERS[line.level] >= _NUMBERS[level]:
                    yield line
            await grown.wait()

    def keep(self, line: LogLine) -> None:
        """Remember a line and tell it to those who listen; called on the event loop."""
        self._lines.append(line)
        self._events.publish("log", line.text, level=line.level)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()


class _Handler(logging.Handler):
    """Makes lines of what any thread logs, and hands them to the loop's thread."""

    def __init__(self, book: Logbook) -> None:
        super().__init__()
        self._book = book
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._number = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._number += 1
        line = LogLine(
            number=self._number,
            at=record.created,
            level=next((name for name in reversed(_NUMBERS) if record.levelno >= _NUMBERS[name]), "debug"),
            logger=record.name,
            text=text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…",
        )
        if threading.get_ident() == self._thread:
            self._book.keep(line)
        else:
            # A loop that has ended needs no more of it.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._book.keep, line)
