"""Where the log of a daemon goes, and how a line of it looks.

    a file is configured           that file
    standard error is the journal  there, each line with `<N>` for its priority in front, and without the time
    standard error is daemon.log   that file; standard error follows it, for a crash says its last words there
    otherwise                      standard error

A file has mode 0600. At `MAX_BYTES` it is renamed to FILE.1, and so on up to FILE.`KEPT`; one that somebody else has
moved, as logrotate does, is made anew. A disk that is full costs lines, and nothing else.

What a message quotes can't look like another line: control characters are escaped, and further lines are indented.

Source: sd-daemon(3) for the priorities, RFC 3339 for the time in JSON.
Not done here: which events are worth a line.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from weft.errors import ConfigError
from weft.io.systemd import is_journal

Level = Literal["debug", "info", "warning", "error"]
Style = Literal["text", "json"]

MAX_BYTES: Final = 8 << 20
KEPT: Final = 3
STDERR: Final = 2

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_JOURNAL = "%(name)s: %(message)s"
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_USUAL = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})


def start_logging(level: Level, style: Style, file: Path | None, background: Path) -> None:
    """Send what this process logs where it belongs; see the table at the head of this file.

    Args:
        level: the least that is logged.
        style: `text` for people, `json` for programs: one object a line.
        file: None for standard error.
        background: the file that standard error is joined to if the daemon runs in the background.

    Raises:
        ConfigError: the file can't be opened.
    """
    handler: logging.Handler
    to_journal = file is None and is_journal(STDERR)
    if file is not None:
        handler = LogFile(file)
    elif not to_journal and _is_same(STDERR, background):
        handler = LogFile(background, takes_stderr=True)
    else:
        handler = logging.StreamHandler(sys.stderr)
    formatter = JsonFormatter() if style == "json" else TextFormatter(_JOURNAL if to_journal else _TEXT)
    handler.setFormatter(JournalFormatter(formatter) if to_journal else formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    set_level(level)


def set_level(level: Level) -> None:
    """Log this and what is worse from now on; of other packages nothing below `info`."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger("weft").setLevel(number)
    logging.getLogger().setLevel(max(number, logging.INFO))


def reopen_files() -> None:
    """Let go of log files that somebody has moved, as logrotate expects after SIGHUP."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFile):
            handler.reopen()


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and indented ones if there is more to say."""
        return _CONTROL.sub(_escaped, super().format(record)).replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what the code gave as `extra`, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The object."""
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _USUAL and name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class JournalFormatter(logging.Formatter):
    """Another one's lines with the priority in front, which the journal takes off again."""

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """The lines."""
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in self._lines.format(record).split("\n"))


class LogFile(logging.Handler):
    """A file that never grows past its bound.

    Args:
        path: of the file.
        takes_stderr: whether standard error goes there too, wherever it went before.

    Raises:
        ConfigError: it can't be opened.
    """

    def __init__(self, path: Path, *, takes_stderr: bool = False) -> None:
        super().__init__()
        self._path = path
        self._takes_stderr = takes_stderr
        self._descriptor = -1
        try:
            self._open()
        except OSError as error:
            raise ConfigError(f"can't be opened: {error.strerror}", file=str(path)) from error

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or do without."""
        try:
            line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
        except Exception:
            self.handleError(record)
            return
        self._keep_bound(len(line))
        with suppress(OSError):
            os.write(self._descriptor, line)

    def reopen(self) -> None:
        """Make the file anew if somebody has moved it."""
        self.acquire()
        try:
            self._keep_bound(0)
        finally:
            self.release()

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        super().close()

    def _keep_bound(self, coming: int) -> None:
        # Where the directory can't be changed, the file that is open has to do.
        with suppress(OSError):
            if not _is_same(self._descriptor, self._path):
                self._open()
            elif (size := os.fstat(self._descriptor).st_size) > 0 and size + coming > MAX_BYTES:
                self._shift()
                self._open()

    def _shift(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{number}") for number in range(1, KEPT + 1))]
        for newer, older in reversed(list(pairwise(names))):
            with suppress(FileNotFoundError):
                newer.replace(older)

    def _open(self) -> None:
        opened = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = opened
        if self._takes_stderr:
            os.dup2(opened, STDERR)


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether a descriptor is that of the file that lies at a path now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
