"""Files from host to host: what arrives, what is gone on with, what stays, and what breaks off."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.unit.api.streams.joined import Node
from weft.clients.parcel import link as parcel_link
from weft.clients.parcel.folder import NOTHING, Folder, Part
from weft.clients.parcel.inbox import Inbox, Offered, open_inbox
from weft.clients.parcel.link import BLOCK_BYTES
from weft.clients.parcel.send import SendError, send
from weft.errors import UsageError

SIZE = 3 * BLOCK_BYTES + 1000
DATA = Random("parcel").randbytes(SIZE)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


@asynccontextmanager
async def receiving(right: Node, there: Path, **arguments: Any) -> AsyncIterator[Inbox]:
    async with await open_inbox(right.streams, there, **{"allowed": {"fc00::1"}.__contains__, **arguments}) as inbox:
        yield inbox


def tree_of(folder: Path) -> dict[str, bytes | None]:
    """What is in a folder: files with their content, links with None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(folder.rglob("*"))
    }


class TestWhole:
    async def test_file_arrives_with_its_time_and_may_be_run(
        self, left: Node, right: Node, here: Path, there: Path
    ) -> None:
        source = here / "tool.sh"
        source.write_bytes(DATA)
        source.chmod(0o700)
        os.utime(source, (1_000_000_000, 1_000_000_000))
        async with receiving(right, there) as inbox:
            sent, received = await asyncio.gather(send(left.streams, right.ipv6, [source]), inbox.next())
        assert tree_of(there) == {"tool.sh": DATA}
        status = (there / "tool.sh").stat()
        assert status.st_mtime == 1_000_000_000
        assert status.st_mode & stat.S_IXUSR
        assert (sent.files, sent.size_bytes, sent.resumed_from_bytes, sent.left_out) == (1, SIZE, 0, [])
        assert (received.files, received.size_bytes, list(received.names)) == (1, SIZE, ["tool.sh"])
        assert (received.address, received.error) == (left.ipv6, None)

    async def test_file_is_forced_to_the_disk_before_it_gets_its_name(
        self, left: Node, right: Node, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (here / "x").write_bytes(DATA)
        done: list[str] = []
        fsync, replace = os.fsync, os.replace

        def noted_fsync(descriptor: int) -> None:
            done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"{os.fstat(descriptor).st_size}")
            fsync(descriptor)

        def noted_replace(*arguments: Any, **more: Any) -> None:
            done.append("name")
            replace(*arguments, **more)

        monkeypatch.setattr(os, "fsync", noted_fsync)
        monkeypatch.setattr(os, "replace", noted_replace)
        async with receiving(right, there) as inbox:
            await asyncio.gather(send(left.streams, right.ipv6, [here / "x"]), inbox.next())
        assert done == [str(SIZE), "name", "folder"]

    async def test_file_that_has_come_is_put_into_its_place_though_the_end_comes_meanwhile(
        self, left: Node, right: Node, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (here / "x").write_bytes(DATA)
        settle, goes_on = Part.settle, threading.Event()
        loop, has_come = asyncio.get_running_loop(), asyncio.Event()

        def slow(part: Part, *arguments: Any, **more: Any) -> None:
            loop.call_soon_threadsafe(has_come.set)
            goes_on.wait(10)
            settle(part, *arguments, **more)

        monkeypatch.setattr(Part, "settle", slow)
        async with receiving(right, there) as inbox:
            coming = asyncio.create_task(inbox.next())
            sending = asyncio.create_task(send(left.streams, right.ipv6, [here / "x"]))
            await has_come.wait()
            closing = asyncio.create_task(inbox.close())
            for _ in range(100):
                await asyncio.sleep(0)
            assert not closing.done()
            goes_on.set()
            await closing
            assert tree_of(there) == {"x": DATA}
        coming.cancel()
        with pytest.raises(SendError, match="it was ended there"):
            await sending

    async def test_folder_arrives_with_all_that_is_in_it(
        self, left: Node, right: Node, here: Path, there: Path
    ) -> None:
        folder = here / "photos"
        for number in range(150):
            path = folder / str(number % 7) / f"é {number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(Random(number).randbytes(number * 100))
        (folder / "empty" / "inner").mkdir(parents=True)
        told: list[tuple[int, int | None]] = []

        @contextmanager
        def progress(what: str) -> Iterator[Any]:
            assert what == "photos"
            yield lambda size_bytes, of_bytes: told.append((size_bytes, of_bytes))

        async with receiving(right, there, progress=progress) as inbox:
            sent, received = await asyncio.gather(
                send(left.streams, right.ipv6, [folder], progress=progress), inbox.next()
            )
        assert tree_of(there / "photos") == tree_of(folder)
        total = sum(number * 100 for number in range(150))
        assert (sent.files, sent.size_bytes) == (received.files, received.size_bytes) == (150, total)
        assert received.names == {"photos"}
        assert told.count((total, total)) == 2

    async def test_several_and_an_empty_one(self, left: Node, right: Node, here: Path, there: Path) -> None:
        (here / "a").write_bytes(b"")
        (here / "b").write_bytes(b"b")
        async with receiving(right, there) as inbox:
            sent, received = await asyncio.gather(
                send(left.streams, right.ipv6, [here / "a", here / "b"]), inbox.next()
            )
        assert tree_of(there) == {"a": b"", "b": b"b"}
        assert (sent.files, received.files, received.names) == (2, 2, {"a", "b"})


def cut_after(monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    """From now on a sender goes away after so many blocks; once."""
    give, given = parcel_link.Link.give, 0

    async def counted(link: parcel_link.Link, data: bytes) -> None:
        nonlocal given
        await give(link, data)
        given += 1
        if given == blocks:
            link._writer.transport.abort()

    monkeypatch.setattr(parcel_link.Link, "give", counted)


class TestGoingOn:
    async def test_what_broke_off_is_a_part_and_the_same_again_goes_on_from_there(
        self, left: Node, right: Node, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (here / "disk.img").write_bytes(DATA)
        async with receiving(right, there) as inbox:
            cut_after(monkeypatch, 2)
            coming = asyncio.create_task(inbox.next())
            with pytest.raises(SendError, match=r"broke off after 524288 of 787432 bytes: .* goes on from there"):
                await send(left.streams, right.ipv6, [here / "disk.img"])
            received = await coming
            part = part_in(there)
            came = part.stat().st_size
            assert part.name.startswith("disk.img.")
            assert part.suffix == ".part"
            assert 0 < came < SIZE
            assert DATA.startswith(part.read_bytes())
            assert re.match(rf"it broke off after {came} of {SIZE} bytes: ", str(received.error))
            monkeypatch.undo()
            sent, received = await asyncio.gather(send(left.streams, right.ipv6, [here / "disk.img"]), inbox.next())
        assert tree_of(there) == {"disk.img": DATA}
        assert (sent.files, sent.resumed_from_bytes) == (received.files, received.resumed_from_bytes) == (1, came)

    async def test_receiver_that_ends_says_so_and_goes_on_another_time(
        self, left: Node, right: Node, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (here / "disk.img").write_bytes(DATA)
        write, came = Part.write, asyncio.Event()

        def noted(part: Part, data: bytes) -> None:
            write(part, data)
            came.set()

        monkeypatch.setattr(Part, "write", noted)
        async with receiving(right, there) as inbox:
            coming = asyncio.create_task(inbox.next())
            sending = asyncio.create_task(send(left.streams, right.ipv6, [here / "disk.img"]))
            await came.wait()
        coming.cancel()
        with pytest.raises(SendError, match="it was ended there; send it again, and it goes on from there"):
            await sending
        size = part_in(there).stat().st_size
        async with receiving(right, there) as inbox:
            sent, _ = await asyncio.gather(send(left.streams, right.ipv6, [here / "disk.img"]), inbox.next())
        assert sent.resumed_from_bytes == size
        assert tree_of(there) == {"disk.img": DATA}

    @pytest.mark.parametrize("there_is", [b"x" * 1000, DATA[:1000] + b"x", DATA + b"x", b""])
    async def test_part_that_is_of_another_file_does_not_count(
        self, left: Node, right: Node, here: Path, there: Path, there_is: bytes
    ) -> None:
        (here / "file").write_bytes(DATA)
        part = there / part_name(there, left.ipv6, "file")
        part.write_bytes(there_is)
        async with receiving(right, there) as inbox:
            sent, _ = await asyncio.gather(send(left.streams, right.ipv6, [here / "file"]), inbox.next())
        assert sent.resumed_from_bytes == 0
        assert tree_of(there) == {"file": DATA}

    async def test_part_that_is_whole_is_put_into_its_place(
        self, left: Node, right: Node, here: Path, there: Path
    ) -> None:
        (here / "file").write_bytes(DATA)
        (there / part_name(there, left.ipv6, "file")).write_bytes(DATA)
        async with receiving(right, there) as inbox:
            _, received = await asyncio.gather(send(left.streams, right.ipv6, [here / "file"]), inbox.next())
        assert received.resumed_from_bytes == SIZE
        assert tree_of(there) == {"file": DATA}

    async def test_part_that_somebody_changed_since_it_was_looked_at_is_not_gone_on_with(self, there: Path) -> None:
        part = there / part_name(there, "fc00::1", "file")
        part.write_bytes(DATA[:1000])
        folder = Folder(there, "rename", "fc00::1")
        found = await folder.find(["file"], SIZE)
        assert found is not None
        os.utime(part, ns=(1, 1))
        with pytest.raises(UsageError, match="another weft is writing it"):
            folder.begin(["file"], found)
        folder.close()
        assert part.read_bytes() == DATA[:1000]

    async def test_parts_of_others_stay(self, left: Node, right: Node, here: Path, there: Path) -> None:
        (here / "file").write_bytes(DATA)
        other = part_name(there, "fc00::3", "file")
        (there / other).write_bytes(b"of another sender")
        (there / "file.part").write_bytes(b"of a download")
        async with receiving(right, there) as inbox:
            await asyncio.gather(send(left.streams, right.ipv6, [here / "file"]), inbox.next())
        assert tree_of(there) == {"file": DATA, other: b"of another sender", "file.part": b"of a download"}

    async def test_part_that_another_process_writes_is_not_touched(
        self, left: Node, right: Node, here: Path, there: Path
    ) -> None:
        (here / "file").write_bytes(DATA)
        folder = Folder(there, "rename", left.ipv6)
        part = folder.begin(["file"], NOTHING)
        part.write(b"mine")
        async with receiving(right, there) as inbox:
            coming = asyncio.create_task(inbox.next())
            with pytest.raises(SendError, match="another weft is writing it"):
                await send(left.streams, right.ipv6, [here / "file"])
            assert isinstance((await coming).error, UsageError)
        part.close(keep=True)
        folder.close()
        assert list(tree_of(there).values()) == [b"mine"]

    async def test_files_that_are_there_are_not_sent_again(
        self, left: Node, right: Node, here: Path, there: Path
    ) -> None:
        for name in ("a", "b", "c"):
            (here / name).write_bytes(name.encode() * 1000)
        (there / "b").write_bytes(b"b" * 1000)
        before = (there / "b").stat().st_ino
        async with receiving(right, there) as inbox:
            sent, received = await asyncio.gather(
                send(left.streams, right.ipv6, [here / name for name in "abc"]), inbox.next()
            )
        assert (sent.files, sent.unchanged) == (received.files, received.unchanged) == (2, 1)
        assert received.names == {"a", "b", "c"}
        assert (there / "b").stat().st_ino == before
        assert sorted(os.listdir(there)) == ["a", "b", "c"]


class TestConflict:
    """A file comes where something else is already."""

    @pytest.mark.parametrize("old", [b"another one", b"o" * 1000], ids=["other size", "same size"])
    @pytest.mark.parametrize(
        ("conflict", "expected"),
        [
            ("rename", {"notes.txt": "old", "notes (1).txt": "new"}),
            ("overwrite", {"notes.txt": "new"}),
            ("skip", {"notes.txt": "old"}),
        ],
    )
    async def test_with_another_file(
        self, left: Node, right: Node, here: Path, there: Path, conflict: Any, expected: dict[str, str], old: bytes
    ) -> None:
        new = b"n" * 1000
        (here / "notes.txt").write_bytes(new)
        (there / "notes.txt").write_bytes(old)
        async with receiving(right, there, conflict=conflict) as inbox:
            sent, received = await asyncio.gather(send(left.streams, right.ipv6, [here / "notes.txt"]), inbox.next())
        assert tree_of(there) == {name: {"old": old, "new": new}[which] for name, which in expected.items()}
        if conflict == "skip":
            assert sent.left_out == [f"{here}/notes.txt: another file of this name is there"]
            assert received.left_out == ["notes.txt: another file of this name is there"]
        else:
            assert sent.left_out == received.left_out == []
            assert received.names == {"notes (1).txt" if conflict == "rename" else "notes.txt"}

    @pytest.mark.parametrize("conflict", ["rename", "overwrite", "skip"])
    @pytest.mark.parametrize("what", ["link", "dangling", "folder", "pipe"])
    async def test_with_what_is_no_file(
        self, left: Node, right: Node, here: Path, there: Path, conflict: Any, what: str
    ) -> None:
        (here / "x").write_bytes(b"new")
        (here / "secret").write_bytes(b"old")
        target = there / "x"
        if what == "folder":
            target.mkdir()
        elif what == "pipe":
            os.mkfifo(target)
        else:
            target.symlink_to(here / ("secret" if what == "link" else "nothing"))
        before = target.lstat()
        async with receiving(right, there, conflict=conflict) as inbox:
            sent, _ = await asyncio.gather(send(left.streams, right.ipv6, [here / "x"]), inbox.next())
        assert target.lstat() == before
        assert (here / "secret").read_bytes() == b"old"
        assert sorted(os.listdir(here)) == ["secret", "x"]
        if conflict == "rename":
            assert (there / "x (1)").read_bytes() == b"new"
        else:
            assert sent.left_out == [f"{here}/x: another file of this name is there"]
            assert os.listdir(there) == ["x"]

    async def test_names_are_counted_on(self, left: Node, right: Node, here: Path, there: Path) -> None:
        (here / "a.tar.gz").write_bytes(b"3")
        (there / "a.tar.gz").write_bytes(b"1")
        (there / "a.tar (1).gz").write_bytes(b"2")
        async with receiving(right, there) as inbox:
            await asyncio.gather(send(left.streams, right.ipv6, [here / "a.tar.gz"]), inbox.next())
        assert tree_of(there) == {"a.tar.gz": b"1", "a.tar (1).gz": b"2", "a.tar (2).gz": b"3"}

    async def test_folder_that_is_a_link_here_is_not_gone_into(
        self, left: Node, right: Node, here: Path, there: Path
    ) -> None:
        (here / "photos" / "deep").mkdir(parents=True)
        (here / "photos" / "a").write_bytes(b"a")
        (here / "photos" / "deep" / "b").write_bytes(b"b")
        (here / "outside").mkdir()
        (there / "photos").mkdir()
        (there / "photos" / "deep").symlink_to(here / "outside")
        async with receiving(right, there) as inbox:
            sent, received = await asyncio.gather(send(left.streams, right.ipv6, [here / "photos"]), inbox.next())
        assert sent.left_out == [f"{here}/photos/deep/b: not a directory"]
        assert received.left_out == ["photos/deep/b: not a directory"]
        assert os.listdir(here / "outside") == []
        assert (there / "photos" / "a").read_bytes() == b"a"

    async def test_file_that_comes_here_meanwhile_is_not_overwritten(
        self, left: Node, right: Node, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (here / "x").write_bytes(b"new")
        settle = Part.settle

        def meanwhile(part: Part, *arguments: Any, **more: Any) -> None:
            (there / "x").write_bytes(b"mine")
            settle(part, *arguments, **more)

        monkeypatch.setattr(Part, "settle", meanwhile)
        async with receiving(right, there, conflict="skip") as inbox:
            sent, received = await asyncio.gather(send(left.streams, right.ipv6, [here / "x"]), inbox.next())
        assert tree_of(there) == {"x": b"mine"}
        assert len(sent.left_out) == len(received.left_out) == 1


class TestSource:
    """What is sent is not as it should be."""

    async def test_file_that_changes_while_it_is_sent_is_left_out(
        self, left: Node, right: Node, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (here / "log").write_bytes(DATA)
        (here / "other").write_bytes(b"other")
        give = parcel_link.Link.give

        async def meanwhile(link: parcel_link.Link, data: bytes) -> None:
            await give(link, data)
            with (here / "log").open("ab") as file:
                file.write(b"more")

        monkeypatch.setattr(parcel_link.Link, "give", meanwhile)
        async with receiving(right, there) as inbox:
            sent, received = await asyncio.gather(
                send(left.streams, right.ipv6, [here / "log", here / "other"]), inbox.next()
            )
        assert sent.left_out == [f"{here}/log: was changed while it was sent; send it again"]
        assert received.left_out == ["log: was changed while it was sent; send it again"]
        assert tree_of(there) == {"other": b"other"}
        monkeypatch.undo()
        async with receiving(right, there) as inbox:
            await asyncio.gather(send(left.streams, right.ipv6, [here / "log"]), inbox.next())
        assert tree_of(there)["log"] == (here / "log").read_bytes()

    @pytest.mark.parametrize("what", ["gone", "cut", "pipe"])
    async def test_file_that_is_another_by_the_time_it_is_its_turn(
        self, left: Node, right: Node, here: Path, there: Path, what: str
    ) -> None:
        for name in ("a", "b"):
            (here / name).write_bytes(b"12345")

        async def accept(offered: Offered) -> bool:
            (here / "a").unlink() if what != "cut" else (here / "a").write_bytes(b"123")
            if what == "pipe":
                os.mkfifo(here / "a")
            return True

        async with receiving(right, there, accept=accept) as inbox:
            sent, received = await asyncio.gather(
                send(left.streams, right.ipv6, [here / "a", here / "b"]), inbox.next()
            )
        why = "no such file or directory" if what == "gone" else "was changed while it was sent; send it again"
        assert sent.left_out == [f"{here}/a: {why}"]
        assert received.left_out == [f"a: {why}"]
        assert tree_of(there) == {"b": b"12345"}

    async def test_in_a_folder_what_can_not_be_sent_is_left_out(
        self, left: Node, right: Node, here: Path, there: Path
    ) -> None:
        folder = here / "folder"
        (folder / "in\\side").mkdir(parents=True)
        (folder / "in\\side" / "a").touch()
        for name in ("fine", "Fine", "con.txt", "x.part", "new\nline", os.fsdecode(b"\xff")):
            (folder / name).touch()
        (folder / "link").symlink_to("fine")
        (folder / "out").symlink_to("/etc")
        os.mkfifo(folder / "pipe")
        async with receiving(right, there) as inbox:
            sent, received = await asyncio.gather(send(left.streams, right.ipv6, [folder]), inbox.next())
        assert sent.left_out == [
            f"{folder}/con.txt: has the name of a device on Windows",
            f"{folder}/fine: differs from Fine only in the form of its letters",
            f"{folder}/in\\side: has a slash, a backslash or a NUL in its name",
            f"{folder}/link: is a link",
            f"{folder}/new\nline: has control characters in its name",
            f"{folder}/out: is a link",
            f"{folder}/pipe: is neither a file nor a folder",
            f"{folder}/x.part: ends in .part, as what has not come as a whole yet",
            f"{folder}/{os.fsdecode(bytes([255]))}: has a name that is no text",
        ]
        assert tree_of(there) == {"folder": None, "folder/Fine": b""}
        assert received.left_out == []

    @pytest.mark.parametrize("name", ["con.txt", "x.part", "new\nline", "pipe", "twice/x.txt"])
    async def test_what_is_named_and_can_not_be_sent_is_told_before_anybody_is_asked(
        self, left: Node, right: Node, here: Path, name: str
    ) -> None:
        (here / "x.txt").touch()
        (here / "twice").mkdir()
        os.mkfifo(here / "pipe") if name == "pipe" else (here / name).touch()
        with pytest.raises(UsageError, match=re.escape(f"{here}/{name}: ")):
            await send(left.streams, right.ipv6, [here / "x.txt", here / name])
        with pytest.raises(FileNotFoundError):
            await send(left.streams, right.ipv6, [here / "nothing"])

    async def test_what_is_hidden_is_sent_by_itself(self, left: Node, right: Node, here: Path, there: Path) -> None:
        (here / ".profile").write_bytes(b"hidden")
        (here / "a").touch()
        with pytest.raises(UsageError, match=r"^\.profile: is hidden; send it by itself"):
            await send(left.streams, right.ipv6, [here / "a", here / ".profile"])
        async with receiving(right, there) as inbox:
            await asyncio.gather(send(left.streams, right.ipv6, [here / ".profile"]), inbox.next())
        assert tree_of(there) == {".profile": b"hidden"}

    async def test_link_that_is_named_leads_to_what_is_sent(
        self, left: Node, right: Node, here: Path, there: Path
    ) -> None:
        (here / "file").write_bytes(b"file")
        (here / "link").symlink_to("file")
        async with receiving(right, there) as inbox:
            await asyncio.gather(send(left.streams, right.ipv6, [here / "link"]), inbox.next())
        assert tree_of(there) == {"link": b"file"}


class TestWho:
    async def test_nobody_receives_there(self, left: Node, right: Node, here: Path) -> None:
        (here / "x").touch()
        with pytest.raises(SendError, match="nobody receives at right; there run `weft receive`"):
            await send(left.streams, "right", [here / "x"])

    async def test_who_is_not_allowed_is_refused_and_nothing_is_written(
        self, left: Node, right: Node, here: Path, there: Path
    ) -> None:
        (here / "x").touch()
        asked: list[str] = []

        def allowed(address: str) -> bool:
            asked.append(address)
            return False

        async with receiving(right, there, allowed=allowed):
            with pytest.raises(SendError, match="nothing is taken from you there"):
                await send(left.streams, right.ipv6, [here / "x"])
        assert asked == [left.ipv6]
        assert os.listdir(there) == []

    async def test_what_is_not_wanted_is_not_sent_and_the_next_may(
        self, left: Node, right: Node, here: Path, there: Path
    ) -> None:
        for name in ("a", "b"):
            (here / name).write_bytes(b"12345")
        offers: list[Offered] = []

        async def accept(offered: Offered) -> bool:
            offers.append(offered)
            return offered.name == "b"

        async with receiving(right, there, accept=accept) as inbox:
            coming = asyncio.create_task(inbox.next())
            with pytest.raises(SendError, match="it is not wanted there"):
                await send(left.streams, right.ipv6, [here / "a"])
            await send(left.streams, right.ipv6, [here / "b"])
            assert (await coming).files == 1
        assert offers == [Offered(left.ipv6, "a", 1, 5), Offered(left.ipv6, "b", 1, 5)]
        assert tree_of(there) == {"b": b"12345"}

    async def test_who_leaves_before_an_answer_is_no_longer_asked_about_and_the_next_one_is(
        self, left: Node, right: Node, here: Path, there: Path
    ) -> None:
        for name in ("a", "b", "c"):
            (here / name).write_bytes(b"12345")
        asked: asyncio.Queue[str] = asyncio.Queue()
        withdrawn: list[str] = []

        async def accept(offered: Offered) -> bool:
            asked.put_nowait(offered.name)
            try:
                return offered.name == "c" or await asyncio.Future()
            except asyncio.CancelledError:
                withdrawn.append(offered.name)
                raise

        async with receiving(right, there, accept=accept) as inbox:
            coming = asyncio.create_task(inbox.next())
            first = asyncio.create_task(send(left.streams, right.ipv6, [here / "a"]))
            assert await asked.get() == "a"
            waiting = asyncio.create_task(send(left.streams, right.ipv6, [here / "b"]))
            while len(inbox._tasks) < 2:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
            for task in (waiting, first):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await send(left.streams, right.ipv6, [here / "c"])
            await coming
        assert withdrawn[:1] == ["a"]
        assert tree_of(there) == {"c": b"12345"}

    async def test_one_parcel_comes_at_a_time(self, left: Node, right: Node, here: Path, there: Path) -> None:
        for name in ("a", "b"):
            (here / name).write_bytes(b"12345")
        async with receiving(right, there) as inbox:
            sending = [asyncio.create_task(send(left.streams, right.ipv6, [here / name])) for name in ("a", "b")]
            first = await inbox.next()
            done, waiting = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == len(waiting) == 1
            assert sorted(os.listdir(there)) == sorted(first.names)
            second = await inbox.next()
            await asyncio.gather(*sending)
        assert sorted([*first.names, *second.names]) == ["a", "b"]

    async def test_disk_that_is_full_ends_it_and_the_part_stays(
        self, left: Node, right: Node, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (here / "disk.img").write_bytes(DATA)
        write = Part.write

        def full(part: Part, data: bytes) -> None:
            if part.size_bytes >= BLOCK_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(part, data)

        monkeypatch.setattr(Part, "write", full)
        async with receiving(right, there) as inbox:
            coming = asyncio.create_task(inbox.next())
            with pytest.raises(SendError, match="it can't be written there: no space left on device"):
                await send(left.streams, right.ipv6, [here / "disk.img"])
            assert isinstance((await coming).error, OSError)
            monkeypatch.undo()
            sent, _ = await asyncio.gather(send(left.streams, right.ipv6, [here / "disk.img"]), inbox.next())
        assert sent.resumed_from_bytes == BLOCK_BYTES
        assert tree_of(there) == {"disk.img": DATA}

    async def test_port_that_is_taken_and_a_folder_that_is_none_are_told_at_once(
        self, right: Node, there: Path
    ) -> None:
        async with receiving(right, there):
            with pytest.raises(OSError, match="in use"):
                await open_inbox(right.streams, there, allowed=bool)
        with pytest.raises(FileNotFoundError):
            await open_inbox(right.streams, there / "nothing", allowed=bool)


def part_in(folder: Path) -> Path:
    """The only file there is."""
    (part,) = folder.iterdir()
    return part


def part_name(folder: Path, sender: str, *path: str) -> str:
    opened = Folder(folder, "rename", sender)
    try:
        return opened._part_name(path)
    finally:
        opened.close()
