"""The log of a daemon that runs no more, read from its file."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from weft.engine.status import LogLevel, LogLine
from weft.errors import ConfigError, WeftError

BACKGROUND = "daemon.log"
"""Where a daemon that `weft up` started logs, if the configuration names no other file."""
TAIL_BYTES = 1 << 20
"""What is read from the end of the file."""

_TEXT = re.compile(r"(?P<time>\d{4}-\d\d-\d\d[ T][\d:,.]+) (?P<level>[A-Z]+) (?P<logger>[\w.]+): (?P<text>.*)")
_LEVELS = ("debug", "info", "warning", "error")


class _Written(msgspec.Struct):
    """A line of a structured log."""

    time: str
    level: str
    logger: str
    message: str
    exception: str = ""


def read_log(directory: Path, lines: int, level: LogLevel) -> list[LogLine]:
    """The last lines of a node's log file, the oldest first.

    Args:
        directory: of the node.
        lines: how many at most.
        level: the least that counts.

    Raises:
        ConfigError: there is no such file, or it can't be read.
    """
    found = [line for line in _decode(_tail(log_path(directory))) if _LEVELS.index(line.level) >= _LEVELS.index(level)]
    return found[max(len(found) - lines, 0) :]


def log_path(directory: Path) -> Path:
    """The file that the daemon of a directory logs to, if it logs to one."""
    from weft.engine.config import FILE_NAME, load_config

    with suppress(WeftError):
        if file := load_config(directory / FILE_NAME).log.file:
            return directory / file
    return directory / BACKGROUND


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES)
            file.seek(start)
            lines = file.read().decode(errors="replace").removesuffix("\n").split("\n")
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", file=str(path)) from None
    return lines[1:] if start else lines


def _decode(lines: list[str]) -> list[LogLine]:
    """What was logged; a line of another shape belongs to the one before it."""
    found: list[LogLine] = []
    for line in lines:
        begun = _of_json(line) if line.startswith("{") else _of_text(line)
        if begun is not None:
            found.append(begun)
        elif found:
            found[-1] = msgspec.structs.replace(found[-1], text=f"{found[-1].text}\n{line.removeprefix('    ')}")
        else:
            found.append(LogLine(number=0, at=None, level="info", logger="", text=line))
    return found


def _of_text(line: str) -> LogLine | None:
    match = _TEXT.fullmatch(line)
    return match and _line(match["time"], match["level"], match["logger"], match["text"])


def _of_json(line: str) -> LogLine | None:
    try:
        written = msgspec.json.decode(line, type=_Written)
    except msgspec.DecodeError:
        return None
    text = "\n".join(part for part in (written.message, written.exception) if part)
    return _line(written.time, written.level, written.logger, text)


def _line(time: str, level: str, logger: str, text: str) -> LogLine | None:
    try:
        at = datetime.fromisoformat(time).timestamp()
    except ValueError:
        return None
    known: dict[str, LogLevel] = {"debug": "debug", "info": "info", "warning": "warning"}
    return LogLine(number=0, at=at, level=known.get(level.lower(), "error"), logger=logger, text=text)
