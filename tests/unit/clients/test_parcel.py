"""Files from host to host: what arrives, what is gone on with, what stays, and what breaks off."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.unit.api.streams.joined import Node
from weft.clients import parcel_inbox, parcel_link
from weft.clients.parcel import PORT, Inbox, Offered, SendError, open_inbox, send
from weft.clients.parcel_folder import Folder, Part
from weft.clients.parcel_link import BLOCK_BYTES
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
        assert list(received.names) == ["photos"]
        assert told.count((total, total)) == 2

    async def test_several_and_an_empty_one(self, left: Node, right: Node, here: Path, there: Path) -> None:
        (here / "a").write_bytes(b"")
        (here / "b").write_bytes(b"b")
        async with receiving(right, there) as inbox:
            sent, received = await asyncio.gather(
                send(left.streams, right.ipv6, [here / "a", here / "b"]), inbox.next()
            )
        assert tree_of(there) == {"a": b"", "b": b"b"}
        assert (sent.files, received.files, list(received.names)) == (2, 2, ["a", "b"])
