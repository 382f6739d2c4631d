"""How lines look and where they go; standard error is a child's, never that of the tests."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from weft.errors import ConfigError
from weft.io import logs
from weft.io.logs import JournalFormatter, JsonFormatter, LogFile, TextFormatter, start_logging


def a_record(message: str = "hello", *, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": "weft.engine", "levelno": level, "msg": message} | extra)
    record.levelname = logging.getLevelName(level)
    record.created = 1_800_000_000.25
    return record


def a_failure() -> logging.LogRecord:
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        return a_record("it failed", level=logging.ERROR, exc_info=sys.exc_info())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogFile]:
    made = LogFile(tmp_path / "weft.log")
    made.setFormatter(logging.Formatter("%(message)s"))
    yield made
    made.close()


def test_json_line_has_time_level_logger_message_and_what_the_code_gave() -> None:
    line = JsonFormatter().format(a_record('says "hi"\n', peer="12D3KooW", path=Path("/x")))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "info",
        "logger": "weft.engine",
        "message": 'says "hi"\n',
        "peer": "12D3KooW",
        "path": "/x",
    }


def test_json_line_keeps_its_own_fields_and_has_the_exception() -> None:
    record = a_failure()
    record.level = "mine"
    line = json.loads(JsonFormatter().format(record))
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: bad\nvalue")


def test_text_that_quotes_line_ends_and_escapes_can_not_look_like_another_line() -> None:
    said = TextFormatter("%(levelname)s %(message)s").format(a_record("name \x1b[2J\r\x9b\n2027 ERROR weft: forged"))
    assert said == "INFO name \\x1b[2J\\r\\x9b\n    2027 ERROR weft: forged"


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_journal_gets_the_priority_in_front(level: int, priority: int) -> None:
    said = JournalFormatter(TextFormatter("%(message)s")).format(a_record(level=level))
    assert said == f"<{priority}>hello"


def test_each_line_of_a_traceback_has_the_priority() -> None:
    lines = JournalFormatter(TextFormatter("%(message)s")).format(a_failure()).split("\n")
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)


def test_file_is_its_owner_s_alone(tmp_path: Path, log: LogFile) -> None:
    log.emit(a_record())
    assert (tmp_path / "weft.log").read_text() == "hello\n"
    assert stat.S_IMODE((tmp_path / "weft.log").stat().st_mode) == 0o600


def test_file_never_grows_past_its_bound_and_so_many_are_kept(
    tmp_path: Path, log: LogFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 20)
    for number in range(20):
        log.emit(a_record(f"line {number:03d}"))
    found = {path.name: path.read_text().split("\n")[:-1] for path in tmp_path.iterdir()}
    assert found == {
        "weft.log": ["line 018", "line 019"],
        "weft.log.1": ["line 016", "line 017"],
        "weft.log.2": ["line 014", "line 015"],
        "weft.log.3": ["line 012", "line 013"],
    }


def test_line_that_is_longer_than_the_bound_is_written_all_the_same(
    tmp_path: Path, log: LogFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 20)
    log.emit(a_record("x" * 50))
    assert (tmp_path / "weft.log").read_text() == "x" * 50 + "\n"


def test_file_that_logrotate_has_moved_is_made_anew(tmp_path: Path, log: LogFile) -> None:
    path = tmp_path / "weft.log"
    log.emit(a_record("old"))
    path.rename(tmp_path / "moved")
    log.emit(a_record("new"))
    assert (path.read_text(), (tmp_path / "moved").read_text()) == ("new\n", "old\n")
    path.rename(tmp_path / "moved")
    log.reopen()
    assert path.read_text() == ""
    assert not os.path.samestat(os.fstat(log._descriptor), (tmp_path / "moved").stat())


def test_directory_that_is_gone_leaves_the_open_file(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = LogFile(tmp_path / "logs" / "weft.log")
    (tmp_path / "logs").rename(tmp_path / "elsewhere")
    log.emit(a_record())
    log.close()
    assert (tmp_path / "elsewhere" / "weft.log").read_text() == "hello\n"


def test_disk_that_is_full_costs_lines_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    log = LogFile(Path("/dev/full"))
    log.emit(a_record())
    log.close()
    assert capfd.readouterr() == ("", "")


def test_file_that_can_not_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/weft\.log: can't be opened: No such file or directory"):
        start_logging("info", "text", tmp_path / "nowhere" / "weft.log", tmp_path / "daemon.log")


PROGRAM = """
import logging, os, sys
from pathlib import Path
from weft.io import logs
level, style, file, background, stream = sys.argv[1:]
if stream == "journal":
    status = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
logs.start_logging(level, style, Path(file) if file else None, Path(background))
log = logging.getLogger("weft.engine")
log.debug("detail"), log.info("note"), log.warning("warning")
logging.getLogger("asyncio").debug("detail of another")
logs.set_level("error")
log.warning("no more"), logging.getLogger("aiohttp").warning("nor this")
if stream == "rotate":
    logs.MAX_BYTES = 1
    log.error("after")
    os.write(2, b"crash\\n")
"""


def run(tmp_path: Path, *words: str, stderr: Path | None = None) -> str:
    """What standard error says of a program that logs; `stderr` is the file that it is joined to."""
    command = [sys.executable, "-c", PROGRAM, *words]
    if stderr is None:
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stderr
    with stderr.open("ab") as file:
        subprocess.run(command, check=True, stderr=file, cwd=tmp_path)
    return stderr.read_text()


def test_standard_error_has_the_time_in_front(tmp_path: Path) -> None:
    lines = run(tmp_path, "info", "text", "", "daemon.log", "").splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO weft.engine: note", "WARNING weft.engine: warning"]
    assert all(line[:2] == "20" for line in lines)


def test_journal_gets_priority_and_no_time(tmp_path: Path) -> None:
    assert run(tmp_path, "debug", "text", "", "daemon.log", "journal").splitlines() == [
        "<7>weft.engine: detail",
        "<6>weft.engine: note",
        "<4>weft.engine: warning",
    ]


def test_json_goes_to_the_configured_file(tmp_path: Path) -> None:
    assert run(tmp_path, "warning", "json", "weft.log", "daemon.log", "journal") == ""
    (line,) = map(json.loads, (tmp_path / "weft.log").read_text().splitlines())
    assert (line["level"], line["message"]) == ("warning", "warning")


def test_log_of_the_background_rotates_and_a_crash_says_its_last_words_in_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    said = run(tmp_path, "info", "text", "", "daemon.log", "rotate", stderr=path)
    assert "ERROR weft.engine: after\n" in said
    assert said.endswith("crash\n")
    assert "INFO weft.engine: note\n" in (tmp_path / "daemon.log.1").read_text()
