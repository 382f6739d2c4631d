"""Files that arrive bit by bit: what is kept of an attempt, for whom, and what is never taken for a part."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from weft.clients.http.partial import LOOK_BYTES, SPARE_BYTES, Origin, Partial, Pipe
from weft.errors import UsageError

HERE = "http://loom/disk.img"
ORIGIN = Origin(source=HERE, version='"v1"', size_bytes=10)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "disk.img"


def attempt(target: Path, data: bytes, origin: Origin = ORIGIN) -> None:
    """An attempt that broke off after some bytes."""
    with Partial(target, origin.source) as partial:
        partial.begin(origin)
        partial.write(data)


class TestWhole:
    def test_is_there_only_when_it_is_finished(self, target: Path) -> None:
        with Partial(target, HERE) as partial:
            partial.begin(ORIGIN)
            partial.write(b"01234")
            assert not target.exists()
            assert names(target.parent) == ["disk.img.weft-note", "disk.img.weft-part"]
            partial.write(b"56789")
            partial.finish()
        assert target.read_bytes() == b"0123456789"
        assert names(target.parent) == ["disk.img"]

    def test_takes_the_place_of_another(self, target: Path) -> None:
        target.write_bytes(b"old")
        with Partial(target, HERE) as partial:
            partial.begin(ORIGIN)
            partial.write(b"new")
            assert target.read_bytes() == b"old"
            partial.finish()
        assert target.read_bytes() == b"new"

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
    def test_has_the_mode_that_new_files_have(self, target: Path) -> None:
        before = os.umask(0o027)
        try:
            with Partial(target, HERE) as partial:
                partial.begin(ORIGIN)
                partial.finish()
        finally:
            os.umask(before)
        assert stat.S_IMODE(target.stat().st_mode) == 0o640

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
    def test_note_is_for_nobody_else(self, target: Path) -> None:
        attempt(target, b"01234")
        assert stat.S_IMODE((target.parent / "disk.img.weft-note").stat().st_mode) == 0o600

    def test_link_stays_and_what_it_leads_to_is_written(self, target: Path, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(target)
        with Partial(link, HERE) as partial:
            partial.begin(ORIGIN)
            partial.write(b"x")
            partial.finish()
        assert link.is_symlink()
        assert target.read_bytes() == b"x"


class TestGoingOn:
    def test_part_of_the_same_is_kept(self, target: Path) -> None:
        attempt(target, b"01234")
        with Partial(target, HERE) as partial:
            assert (partial.size_bytes, partial.resumed_from_bytes, partial.origin) == (5, 5, ORIGIN)
            assert partial.is_kept
            partial.write(b"56789")
            assert partial.resumed_from_bytes == 5
            partial.finish()
        assert target.read_bytes() == b"0123456789"

    def test_what_is_written_is_there_although_nobody_closes_it(self, target: Path) -> None:
        partial = Partial(target, HERE)
        partial.begin(ORIGIN)
        partial.write(b"01234")
        assert (target.parent / "disk.img.weft-part").read_bytes() == b"01234"
        partial.close()

    def test_part_of_what_is_elsewhere_is_none(self, target: Path) -> None:
        attempt(target, b"01234")
        with Partial(target, "http://other/disk.img") as partial:
            assert (partial.size_bytes, partial.origin) == (0, Origin(source="http://other/disk.img"))

    @pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"source":1}', b'{"source":"http://loom/disk.img"}'])
    def test_part_whose_note_is_broken_is_none(self, target: Path, note: bytes) -> None:
        attempt(target, b"01234")
        (target.parent / "disk.img.weft-note").write_bytes(note)
        with Partial(target, HERE) as partial:
            assert partial.size_bytes == 0

    def test_part_without_a_note_is_none(self, target: Path) -> None:
        (target.parent / "disk.img.weft-part").write_bytes(b"who knows")
        with Partial(target, HERE) as partial:
            assert partial.size_bytes == 0

    def test_part_of_another_program_is_untouched(self, target: Path) -> None:
        theirs = target.with_name("disk.img.part")
        theirs.write_bytes(b"theirs")
        attempt(target, b"01234")
        with Partial(target, HERE) as partial:
            partial.write(b"56789")
            partial.finish()
        assert (theirs.read_bytes(), target.read_bytes()) == (b"theirs", b"0123456789")

    @pytest.mark.skipif(sys.platform == "win32", reason="links")
    def test_link_in_the_place_of_a_part_is_not_followed(self, target: Path, tmp_path: Path) -> None:
        (tmp_path / "precious").write_bytes(b"precious")
        target.with_name("disk.img.weft-part").symlink_to("precious")
        with pytest.raises(OSError, match="symbolic links"):
            Partial(target, HERE)
        assert (tmp_path / "precious").read_bytes() == b"precious"

    @pytest.mark.parametrize("name", ["x" * 255, "ü" * 127 + "x"])
    def test_name_as_long_as_there_may_be(self, tmp_path: Path, name: str) -> None:
        attempt(tmp_path / name, b"01234")
        with Partial(tmp_path / name, HERE) as partial:
            partial.write(b"56789")
            partial.finish()
        assert names(tmp_path) == [name]
        assert (tmp_path / name).read_bytes() == b"0123456789"

    @pytest.mark.parametrize(
        ("data", "origin"), [(b"", ORIGIN), (b"01234", Origin(source=HERE, size_bytes=10)), (b"", Origin(source=HERE))]
    )
    def test_what_can_not_be_gone_on_with_is_not_kept(self, target: Path, data: bytes, origin: Origin) -> None:
        attempt(target, data, origin)
        assert names(target.parent) == []

    def test_beginning_anew_forgets(self, target: Path) -> None:
        attempt(target, b"01234")
        other = Origin(source=HERE, version='"v2"')
        with Partial(target, HERE) as partial:
            partial.begin(other)
            partial.write(b"ab")
        assert (target.parent / "disk.img.weft-part").read_bytes() == b"ab"
        with Partial(target, HERE) as partial:
            assert (partial.size_bytes, partial.origin) == (2, other)


class TestOthers:
    def test_two_at_once_are_one_too_many(self, target: Path) -> None:
        with Partial(target, HERE) as partial:
            partial.begin(ORIGIN)
            partial.write(b"01234")
            with pytest.raises(UsageError, match="another weft"):
                Partial(target, HERE)
            partial.write(b"56789")
            partial.finish()
        assert target.read_bytes() == b"0123456789"

    def test_other_file_in_the_place_of_the_part_is_not_taken_for_it(self, target: Path) -> None:
        with Partial(target, HERE) as partial:
            partial.begin(ORIGIN)
            partial.write(b"0123456789")
            os.replace(target.with_name("disk.img.weft-note"), target.with_name("disk.img.weft-part"))
            with pytest.raises(OSError, match="somebody else has put another file there"):
                partial.finish()
        assert not target.exists()

    def test_directory_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as raised:
            Partial(tmp_path / "missing" / "disk.img", HERE)
        assert "missing" in raised.value.filename

    def test_full_disk_is_told_with_the_name(self, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(descriptor: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with Partial(target, HERE) as partial:
            monkeypatch.setattr(os, "write", fail)
            with pytest.raises(OSError, match="No space left") as raised:
                partial.write(b"x")
        assert raised.value.filename.endswith("disk.img.weft-part")


class Disk:
    """One that others fill too.

    Attributes:
        total: bytes; 0 for one that does not say.
        free: as it is next.
        looks: how often it was looked at.
    """

    def __init__(self, total: int, free: int) -> None:
        self.total, self.free, self.looks = total, free, 0

    def __call__(self, path: Path) -> Disk:
        self.looks += 1
        return self


class TestRoom:
    @pytest.fixture
    def disk(self, monkeypatch: pytest.MonkeyPatch) -> Disk:
        disk = Disk(total=1000 * SPARE_BYTES, free=SPARE_BYTES + 100)
        monkeypatch.setattr(shutil, "disk_usage", disk)
        return disk

    def test_what_does_not_fit_is_not_begun(self, target: Path, disk: Disk) -> None:
        with Partial(target, HERE) as partial:
            partial.expect(100)
            with pytest.raises(OSError, match="101 bytes are to come, and the disk has room for 100") as raised:
                partial.expect(101)
        assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(target))

    def test_nothing_is_spared_of_what_is_full_already(self, target: Path, disk: Disk) -> None:
        disk.free = 5
        with Partial(target, HERE) as partial:
            with pytest.raises(OSError, match="1 bytes are to come, and the disk has room for 0"):
                partial.expect(1)
            with pytest.raises(OSError, match="0 bytes have come, and the disk has no room for more"):
                partial.write(b"x")

    def test_without_a_size_it_ends_before_the_disk_is_full_and_what_came_is_kept(
        self, target: Path, disk: Disk
    ) -> None:
        with Partial(target, HERE) as partial:
            partial.begin(ORIGIN)
            partial.write(b"x" * 60)
            partial.write(b"x" * 40)
            disk.free = SPARE_BYTES
            with pytest.raises(OSError, match="100 bytes have come, and the disk has no room for more"):
                partial.write(b"x")
        assert target.with_name("disk.img.weft-part").stat().st_size == 100

    def test_others_who_fill_it_are_seen_soon(self, target: Path, disk: Disk) -> None:
        disk.free = 100 * SPARE_BYTES
        piece = bytes(LOOK_BYTES // 4)
        with Partial(target, HERE) as partial:
            for _ in range(4):
                partial.write(piece)
            assert disk.looks == 1
            disk.free = 0
            with pytest.raises(OSError, match="no room for more"):
                partial.write(piece)

    def test_piece_that_is_longer_than_a_look_is_taken(self, target: Path, disk: Disk) -> None:
        disk.free = 100 * SPARE_BYTES
        with Partial(target, HERE) as partial:
            partial.write(bytes(LOOK_BYTES + 1))
            assert partial.size_bytes == LOOK_BYTES + 1

    def test_of_a_small_disk_less_is_spared(self, target: Path, disk: Disk) -> None:
        disk.total, disk.free = 1_000_000, 11_000
        with Partial(target, HERE) as partial:
            partial.expect(1000)
            with pytest.raises(OSError, match="has room for 1000"):
                partial.expect(1001)

    def test_disk_that_does_not_say_how_large_it_is(self, target: Path, disk: Disk) -> None:
        disk.total = disk.free = 0
        with Partial(target, HERE) as partial:
            partial.expect(1 << 40)
            partial.write(b"x")


class TestPipe:
    def test_passes_on_at_once(self) -> None:
        file = io.BytesIO()
        pipe = Pipe(file, HERE)
        pipe.begin(ORIGIN)
        pipe.expect(1 << 60)
        pipe.write(b"01234")
        assert file.getvalue() == b"01234"
        assert pipe.size_bytes == 5

    def test_takes_nothing_back(self) -> None:
        pipe = Pipe(io.BytesIO(), HERE)
        pipe.begin(ORIGIN)
        pipe.begin(ORIGIN)
        pipe.write(b"0")
        with pytest.raises(OSError, match="handed on already"):
            pipe.begin(ORIGIN)
