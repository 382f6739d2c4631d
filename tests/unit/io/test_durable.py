import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from weft.errors import ConfigError
from weft.io import durable
from weft.io.durable import DirectoryLock, create_file, make_directory, read_private, replace_file

OLD, NEW = b"old content", b"the new content, which is longer"


class PowerCut(BaseException):
    """Nothing happens after it, no cleaning up either."""


class FailingDisk:
    """The calls of `os` that `durable` makes, one of which fails.

    After a power cut every later call fails too, and what was written but not forced to the disk is lost.
    """

    STEPS = frozenset({"write", "fsync", "close", "replace", "link", "unlink", "open"})

    def __init__(self, directory: Path, failing_step: int, error: BaseException) -> None:
        self.directory = directory
        self.failing_step = failing_step
        self.error = error
        self.calls: list[str] = []
        self.unforced: set[int] = set()
        self.dark = False

    @property
    def failed(self) -> bool:
        return len(self.calls) >= self.failing_step

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        return self._step(name, real) if name in self.STEPS else real

    def _step(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object) -> object:
            self.calls.append(name)
            fails = len(self.calls) == self.failing_step
            if name == "close" or (name == "write" and fails and not self.dark):
                # Half of the data reaches the file; a descriptor is gone even where close() fails.
                real(*(a[: len(a) // 2] if isinstance(a, memoryview) else a for a in arguments))
            if self.dark or fails:
                self._fail()
            if name == "write":
                self.unforced.add(os.fstat(arguments[0]).st_ino)  # type: ignore[arg-type]
            if name == "fsync":
                self.unforced.discard(os.fstat(arguments[0]).st_ino)  # type: ignore[arg-type]
            return None if name == "close" else real(*arguments)

        return step

    def _fail(self) -> None:
        if isinstance(self.error, PowerCut) and not self.dark:
            self.dark = True
            for file in self.directory.iterdir():
                if file.stat().st_ino in self.unforced:
                    os.truncate(file, 0)
        raise self.error


def outcomes(directory: Path, error: BaseException, act: Callable[[], None]) -> list[str]:
    """How `act` ends with its first step failing, its second, and so on until no step is left to fail."""
    found: list[str] = []
    while True:
        disk = FailingDisk(directory, len(found) + 1, error)
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(durable, "os", disk)
            try:
                act()
                ending = "done"
            except (PowerCut, ConfigError) as caught:
                ending = type(caught).__name__
        found.append(ending)
        if not disk.failed:
            return found


def leftovers(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir() if file.name.endswith(".tmp")]


# --- writing ---


def test_replaced_file_holds_the_new_content_with_mode_0600(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_bytes(OLD)
    replace_file(place, NEW)
    assert place.read_bytes() == NEW
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert leftovers(tmp_path) == []


def test_file_is_forced_to_the_disk_before_it_is_moved_and_the_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingDisk(tmp_path, 1000, PowerCut())
    monkeypatch.setattr(durable, "os", disk)
    replace_file(tmp_path / "file", NEW)
    assert disk.calls == ["write", "fsync", "close", "replace", "unlink", "open", "fsync", "close"]
    disk.calls.clear()
    create_file(tmp_path / "another", NEW)
    assert disk.calls == ["write", "fsync", "close", "link", "unlink", "open", "fsync", "close"]


def test_power_cut_at_any_step_of_replacing_leaves_old_or_new_content(tmp_path: Path) -> None:
    place = tmp_path / "file"

    seen: list[bytes] = []

    def act() -> None:
        place.write_bytes(OLD)
        try:
            replace_file(place, NEW)
        finally:
            seen.append(place.read_bytes())

    assert outcomes(tmp_path, PowerCut(), act) == ["PowerCut"] * 8 + ["done"]
    assert seen == [OLD] * 4 + [NEW] * 5


def test_power_cut_at_any_step_of_creating_leaves_nothing_or_the_whole(tmp_path: Path) -> None:
    place = tmp_path / "file"
    seen: list[bytes | None] = []

    def act() -> None:
        place.unlink(missing_ok=True)
        try:
            create_file(place, NEW)
        finally:
            seen.append(place.read_bytes() if place.exists() else None)

    assert outcomes(tmp_path, PowerCut(), act) == ["PowerCut"] * 8 + ["done"]
    assert seen == [None] * 4 + [NEW] * 5


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_system_error_at_any_step_is_told_and_leaves_old_or_new_content(tmp_path: Path, code: int) -> None:
    place = tmp_path / "file"
    seen: list[bytes] = []

    def act() -> None:
        place.write_bytes(OLD)
        try:
            replace_file(place, NEW)
        finally:
            seen.append(place.read_bytes())

    found = outcomes(tmp_path, OSError(code, os.strerror(code)), act)
    # Step 5 removes the temporary name, which is gone by then.
    assert found == [*["ConfigError"] * 4, "done", *["ConfigError"] * 3, "done"]
    assert seen == [OLD] * 4 + [NEW] * 5
    assert leftovers(tmp_path) == []


def test_full_disk_is_reported_with_file_and_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "file"
    monkeypatch.setattr(durable, "os", FailingDisk(tmp_path, 1, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(ConfigError, match="can't be written: No space left on device") as caught:
        replace_file(place, NEW)
    assert caught.value.file == str(place)
    assert list(tmp_path.iterdir()) == []


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    replace_file(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_bytes() == NEW


def test_creating_over_a_file_is_refused_and_leaves_it(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_bytes(OLD)
    with pytest.raises(FileExistsError):
        create_file(place, NEW)
    assert place.read_bytes() == OLD
    assert leftovers(tmp_path) == []


def test_writing_into_a_missing_directory_is_a_config_error(tmp_path: Path) -> None:
    for write in (replace_file, create_file):
        with pytest.raises(ConfigError, match="No such file"):
            write(tmp_path / "missing" / "file", NEW)


# --- reading ---


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604, 0o660, 0o601])
def test_secret_that_others_can_use_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "file"
    place.write_bytes(OLD)
    place.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}.*chmod 600 '{place}'"):
        read_private(place)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_secret_of_its_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "file"
    place.write_bytes(OLD)
    place.chmod(mode)
    assert read_private(place) == OLD


def test_reading_what_is_missing_no_file_or_too_large_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError):
        read_private(tmp_path / "file")
    with pytest.raises(ConfigError, match="directory"):
        read_private(tmp_path)
    with pytest.raises(ConfigError, match="not a regular file"):
        read_private(Path(os.devnull))
    replace_file(tmp_path / "file", NEW)
    monkeypatch.setattr(durable, "SIZE_LIMIT", len(NEW) - 1)
    with pytest.raises(ConfigError, match="larger"):
        read_private(tmp_path / "file")


# --- the directory and its lock ---


def test_directory_is_made_for_its_owner_alone_and_an_existing_one_kept(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    make_directory(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    directory.chmod(0o755)
    make_directory(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755


def test_file_in_the_place_of_the_directory_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=r"directory|File exists"):
            make_directory(place)


def test_second_lock_is_refused_with_the_holder_until_the_first_is_closed(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path / "lock"):
        with pytest.raises(ConfigError, match=rf"another weft uses this directory \(process {os.getpid()}\)") as caught:
            DirectoryLock(tmp_path / "lock")
        assert caught.value.file == str(tmp_path)
    second = DirectoryLock(tmp_path / "lock")
    second.close()
    second.close()


def test_lock_file_of_an_earlier_process_tells_the_new_holder_only(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("12345678901234567890\nmore\n")
    with DirectoryLock(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_refused_lock_leaves_no_descriptor_open(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path / "lock"):
        before = len(os.listdir("/dev/fd"))
        with pytest.raises(ConfigError):
            DirectoryLock(tmp_path / "lock")
        assert len(os.listdir("/dev/fd")) == before


def test_lock_of_another_process_holds_until_that_dies(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\nfrom weft.io.durable import DirectoryLock\n"
        f"lock = DirectoryLock(pathlib.Path({str(tmp_path / 'lock')!r}))\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=rf"process {other.pid}\)"):
            DirectoryLock(tmp_path / "lock")
        other.kill()
        other.wait()
    DirectoryLock(tmp_path / "lock").close()


def test_lock_sweeps_what_a_power_cut_left_and_nothing_else(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(durable, "os", FailingDisk(tmp_path, 2, PowerCut()))
        with pytest.raises(PowerCut):
            replace_file(tmp_path / "file", NEW)
    (tmp_path / ".mine.tmp").write_bytes(OLD)
    assert len(leftovers(tmp_path)) == 2
    DirectoryLock(tmp_path / "lock").close()
    assert leftovers(tmp_path) == [".mine.tmp"]


def test_refused_lock_sweeps_nothing(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path / "lock"):
        (tmp_path / ".weft-now.tmp").write_bytes(NEW)
        with pytest.raises(ConfigError):
            DirectoryLock(tmp_path / "lock")
        assert leftovers(tmp_path) == [".weft-now.tmp"]


def test_lock_on_windows_locks_a_byte_behind_the_process_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked: list[tuple[int, int]] = []

    def locking(descriptor: int, mode: int, size: int) -> None:
        byte = os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        if byte in locked:
            raise OSError(errno.EACCES, "Permission denied")
        locked.append(byte)

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr(durable, "sys", SimpleNamespace(platform="win32"))
    with DirectoryLock(tmp_path / "lock"):
        assert locked[0][1] > 1000
        with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
            DirectoryLock(tmp_path / "lock")


def test_lock_in_a_missing_directory_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be locked"):
        DirectoryLock(tmp_path / "missing" / "lock")
