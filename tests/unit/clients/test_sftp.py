"""Files over SFTP against a server that is made to be slow, cut things short, or lie about names."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import Any

import asyncssh
import msgspec
import pytest

from tests.unit.api.streams.joined import Node
from weft.clients.sftp.bounds import bound_listings
from weft.clients.sftp.copy import BLOCK_BYTES, IN_FLIGHT
from weft.clients.sftp.shell import COMMANDS, Shell
from weft.clients.sftp.tree import Trees
from weft.clients.ssh.client import Tunnel, ssh_connection
from weft.clients.ssh.hosts import KnownHosts
from weft.errors import PeerError, UsageError

KEY = asyncssh.generate_private_key("ssh-ed25519")
SIZE = (IN_FLIGHT + 8) * BLOCK_BYTES
FOLDER = asyncssh.SFTPAttrs(permissions=stat.S_IFDIR | 0o755)


class Files(asyncssh.SFTPServer):
    """As asyncssh's own, and with what a test wants of it."""

    short = False
    names: tuple[bytes, ...] = ()

    def read(self, file_obj: object, offset: int, size: int) -> Any:
        return super().read(file_obj, offset, min(size, 1000) if self.short else size)

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for name in super().scandir(path):
            yield name
        for forged in self.names:
            yield asyncssh.SFTPName(forged, attrs=asyncssh.SFTPAttrs(size=1, permissions=0o100644))


class Gauge:
    """How many requests of the client are under way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.most = 0
        for name in ("read", "write"):
            monkeypatch.setattr(asyncssh.SFTPClientFile, name, self._counted(getattr(asyncssh.SFTPClientFile, name)))

    def _counted(self, request: Any) -> Any:
        async def counted(*arguments: Any) -> Any:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                return await request(*arguments)
            finally:
                self.now -= 1

        return counted


@pytest.fixture
def gauge(monkeypatch: pytest.MonkeyPatch) -> Gauge:
    return Gauge(monkeypatch)


@asynccontextmanager
async def files_of(left: Node, right: Node, **behaviour: Any) -> AsyncIterator[asyncssh.SFTPClient]:
    server: type[Files] = type("Server", (Files,), behaviour)

    class Open(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

    acceptor = await asyncssh.listen(
        "",
        22,
        tunnel=Tunnel(right.streams),
        config=None,
        server_host_keys=[KEY],
        server_factory=Open,
        sftp_factory=server,
    )
    async with (
        acceptor,
        ssh_connection(left.streams, "right", hosts=KnownHosts(), trust=True) as connection,
        connection.start_sftp_client() as sftp,
    ):
        yield sftp


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(Random(1).randbytes(SIZE))
    return path


class TestCopies:
    @pytest.mark.parametrize("direction", ["download", "upload"])
    async def test_64_requests_are_under_way(
        self, left: Node, right: Node, source: Path, gauge: Gauge, direction: str
    ) -> None:
        target = source.with_name("target")
        async with files_of(left, right) as sftp:
            if direction == "upload":
                await Trees(sftp, "right").upload([source], str(target))
            else:
                await Trees(sftp, "right").download([str(source)], target)
        assert gauge.most == IN_FLIGHT
        assert same(target, source)

    async def test_64_are_under_way_with_many_files_too(
        self, left: Node, right: Node, tmp_path: Path, gauge: Gauge
    ) -> None:
        (tmp_path / "tree").mkdir()
        for number in range(20):
            (tmp_path / "tree" / str(number)).write_bytes(Random(number).randbytes(8 * BLOCK_BYTES))
        async with files_of(left, right) as sftp:
            report = await Trees(sftp, "right", recursive=True).download([str(tmp_path / "tree")], tmp_path / "copy")
        assert report.files == 20
        assert IN_FLIGHT // 2 < gauge.most <= IN_FLIGHT

    async def test_server_that_gives_less_than_asked(self, left: Node, right: Node, tmp_path: Path) -> None:
        data = Random(2).randbytes(3 * BLOCK_BYTES + 7)
        (tmp_path / "source").write_bytes(data)
        async with files_of(left, right, short=True) as sftp:
            await Trees(sftp, "right").download([str(tmp_path / "source")], tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == data

    @pytest.mark.parametrize("name", [b"../evil", b"/tmp/evil", b"a/b", b"a\0b", b""])
    async def test_name_that_leads_elsewhere_ends_it(
        self, left: Node, right: Node, tmp_path: Path, name: bytes
    ) -> None:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "fine").write_text("fine")
        async with files_of(left, right, names=(name,)) as sftp:
            with pytest.raises(PeerError, match="as the name of a file, which it can't be"):
                await Trees(sftp, "right", recursive=True).download([str(tmp_path / "there")], tmp_path / "here")
        assert not (tmp_path / "evil").exists()
        assert os.listdir(tmp_path / "here") == []

    async def test_folders_without_end_end_it(self, left: Node, right: Node, tmp_path: Path) -> None:
        """A server may say that there is a folder in each folder, which the disk here has no room for either."""

        def attrs(self: Files, path: bytes) -> asyncssh.SFTPAttrs:
            return FOLDER

        async def scandir(self: Files, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            yield asyncssh.SFTPName(b"d", attrs=FOLDER)

        async with files_of(left, right, stat=attrs, lstat=attrs, scandir=scandir) as sftp:
            with pytest.raises(PeerError, match="folders of the server are more than 128 deep"):
                await Trees(sftp, "right", recursive=True).download(["/there"], tmp_path / "here")

    async def test_names_without_end_end_it(
        self, left: Node, right: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("weft.clients.sftp.bounds.ENTRIES", 1000)
        given = 0

        async def scandir(self: Files, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            nonlocal given
            while True:
                given += 1
                yield asyncssh.SFTPName(b"%d" % given, attrs=asyncssh.SFTPAttrs(size=1, permissions=0o100644))

        async with files_of(left, right, scandir=scandir) as sftp:
            with pytest.raises(PeerError, match="names more than 1000 files"):
                await Trees(sftp, "right", recursive=True).download([str(tmp_path)], tmp_path / "here")
            bound_listings(sftp)
            with pytest.raises(PeerError, match="names more than 1000 files"):
                await Trees(sftp, "right").download([f"{tmp_path}/*"], tmp_path / "here")
            with pytest.raises(PeerError, match="names more than 1000 files"):
                await Shell(sftp, "right", print, lambda _: nullcontext(lambda done, total: None)).do(f"ls {tmp_path}")
        assert given < 6000

    async def test_server_that_gives_more_than_asked_is_left_out(self, left: Node, right: Node, tmp_path: Path) -> None:
        def read(self: Files, file_obj: object, offset: int, size: int) -> bytes:
            return bytes(size + 1)

        (tmp_path / "source").write_bytes(b"source")
        async with files_of(left, right, read=read) as sftp:
            report = await Trees(sftp, "right").download([str(tmp_path / "source")], tmp_path / "target")
        assert report.left_out == [
            f"right:{tmp_path}/source: the server gives more of it than it was asked for",
        ]
        assert not (tmp_path / "target").exists()

    async def test_parts_are_neither_taken_nor_in_the_way(self, left: Node, right: Node, tmp_path: Path) -> None:
        """Else a server could have prepared a part of what is fetched from another one later."""
        (tmp_path / "there").mkdir()
        for name in ("file", "file.part", "file.weft-part", "file.weft-note"):
            (tmp_path / "there" / name).write_text(name)
        async with files_of(left, right) as sftp:
            report = await Trees(sftp, "right", recursive=True).download([str(tmp_path / "there")], tmp_path / "here")
        assert sorted(os.listdir(tmp_path / "here")) == ["file", "file.part"]
        assert [line.rpartition("/")[2] for line in report.left_out] == [
            "file.weft-note: is a part of a copy that broke off",
            "file.weft-part: is a part of a copy that broke off",
        ]
        assert (tmp_path / "here" / "file").read_text() == "file"

    async def test_link_that_the_server_shows_is_never_made_here(self, left: Node, right: Node, tmp_path: Path) -> None:
        """It can't lead what comes next to where nobody wanted it, not even under the same name."""
        (tmp_path / "out").mkdir()
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "x").symlink_to(tmp_path / "out")

        async def scandir(self: Files, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            link = asyncssh.SFTPAttrs(permissions=stat.S_IFLNK | 0o777)
            names = [(b"x", link), (b"x", FOLDER)] if path.endswith(b"there") else [(b"evil", asyncssh.SFTPAttrs())]
            for name, attrs in names:
                yield asyncssh.SFTPName(name, attrs=attrs)

        (tmp_path / "out" / "evil").write_text("evil")
        async with files_of(left, right, scandir=scandir) as sftp:
            await Trees(sftp, "right", recursive=True).download([str(tmp_path / "there")], tmp_path / "here")
        assert os.listdir(tmp_path / "out") == ["evil"]
        assert not any(path.is_symlink() for path in (tmp_path / "here").rglob("*"))

    async def test_name_that_is_no_text_is_told_as_text(self, left: Node, right: Node, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        async with files_of(left, right, names=(b"a\xff\x1b[2J\nb",)) as sftp:
            report = await Trees(sftp, "right", recursive=True).download([str(tmp_path / "there")], tmp_path / "here")
        assert report.left_out == [f"right:{tmp_path}/there/a\ufffd\x1b[2J\nb: no such file or directory"]
        assert msgspec.json.encode(report)

    async def test_full_disk_over_there_is_told_and_the_rest_is_copied(
        self, left: Node, right: Node, tmp_path: Path
    ) -> None:
        async def write(self: Files, file_obj: object, offset: int, data: bytes) -> int:
            if b"large" in data:
                raise OSError(errno.ENOSPC, "No space left on device")
            return asyncssh.SFTPServer.write(self, file_obj, offset, data)  # type: ignore[return-value]

        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "a").write_text("large" * 100_000)
        (tmp_path / "tree" / "b").write_text("small")
        async with files_of(left, right, write=write) as sftp:
            report = await Trees(sftp, "right", recursive=True).upload([tmp_path / "tree"], str(tmp_path / "copy"))
        assert report.left_out == [f"{tmp_path}/tree/a: no space left on device"]
        assert (tmp_path / "copy" / "b").read_text() == "small"
        assert not (tmp_path / "copy" / "a").exists()

    async def test_targets_and_sources_that_can_not_be(self, left: Node, right: Node, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("a")
        async with files_of(left, right) as sftp:
            trees = Trees(sftp, "right")
            with pytest.raises(UsageError, match="is no folder"):
                await trees.download([str(tmp_path / "a"), str(tmp_path / "a")], tmp_path / "b")
            with pytest.raises(UsageError, match="is no folder"):
                await trees.upload([tmp_path / "a"], f"{tmp_path}/b/")
            report = await trees.download([str(tmp_path), f"{tmp_path}/x*"], tmp_path)
            assert report.left_out == [
                f"right:{tmp_path}/x*: no matches found",
                f"right:{tmp_path}: is a folder; -r copies folders",
            ]
            trees = Trees(sftp, "right")
            report = await trees.upload([tmp_path / "none", tmp_path], str(tmp_path))
            assert report.left_out == [
                f"{tmp_path}/none: no such file or directory",
                f"{tmp_path}: is a folder; -r copies folders",
            ]

    async def test_progress_goes_to_the_end_and_counts_what_was_there(
        self, left: Node, right: Node, source: Path
    ) -> None:
        told: list[tuple[int, int | None]] = []
        async with files_of(left, right) as sftp:
            trees = Trees(sftp, "right", told=lambda done, total: told.append((done, total)))
            await trees.download([str(source)], source.with_name("target"))
        assert told[0][0] == 0
        assert told[-1] == (SIZE, SIZE)
        assert [done for done, _ in told] == sorted(done for done, _ in told)


class TestShell:
    @asynccontextmanager
    async def shell(self, left: Node, right: Node, tmp_path: Path) -> AsyncIterator[tuple[Shell, list[str]]]:
        said: list[str] = []
        async with files_of(left, right) as sftp:
            shell = Shell(sftp, "right", said.append, lambda _: nullcontext(lambda done, total: None))
            for line in (f"cd {tmp_path}", f"lcd {tmp_path}"):
                await shell.do(line)
            yield shell, said

    async def test_commands(self, left: Node, right: Node, tmp_path: Path) -> None:
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / "a b").write_text("hello")
        async with self.shell(left, right, tmp_path) as (shell, said):
            for line in (
                *("lcd here", "mkdir 'the re'", "cd 'the re'", 'put "a b"', "ls", 'rename "a b" c', "chmod 640 c"),
                *("stat c", "get c", "put c d", "ls -a", "ls -l c", "lls", "rm *", "ls", "cd ..", "rmdir 'the re'"),
                *("pwd", "lpwd", "", "# nothing"),
            ):
                assert await shell.do(line), line
        words = [each.split()[0] if each.startswith("-") else each for each in said]
        assert words[:2] == ["a b", "-rw-r-----"]
        assert words[2:] == [".", "..", "c", "d", "-rw-r-----", "a b", "c", str(tmp_path), str(tmp_path / "here")]
        assert (tmp_path / "here" / "c").read_text() == "hello"

    async def test_trees(self, left: Node, right: Node, tmp_path: Path) -> None:
        (tmp_path / "one" / "two").mkdir(parents=True)
        (tmp_path / "one" / "two" / "file").write_text("hello")
        async with self.shell(left, right, tmp_path) as (shell, _):
            await shell.do("put -r one copy")
            await shell.do("get -r copy back")
            with pytest.raises(PeerError, match=r"left out: .*: is a folder; -r copies folders"):
                await shell.do("get copy more")
        assert (tmp_path / "back" / "two" / "file").read_text() == "hello"

    @pytest.mark.parametrize(
        "line",
        [
            *("nonsense", "do", "cd a b", "pwd x", "ls -x", "get", "put -q x", "rename a", "chmod 644", "chmod 9 a"),
            *("mkdir", "rm", "stat", '"unclosed', "lcd nowhere", "__init__", "_do_ls"),
        ],
    )
    async def test_wrong_line_is_told_and_changes_nothing(
        self, left: Node, right: Node, tmp_path: Path, line: str
    ) -> None:
        async with self.shell(left, right, tmp_path) as (shell, said):
            with pytest.raises(UsageError):
                await shell.do(line)
            assert said == []

    @pytest.mark.parametrize("line", ["cd nowhere", "ls nowhere", "rm nowhere", "stat nowhere", "chmod 600 nowhere"])
    async def test_what_is_not_there_is_told(self, left: Node, right: Node, tmp_path: Path, line: str) -> None:
        async with self.shell(left, right, tmp_path) as (shell, _):
            with pytest.raises((asyncssh.SFTPNoSuchFile, PeerError)):
                await shell.do(line)

    async def test_help_names_every_command_and_exit_ends_it(self, left: Node, right: Node, tmp_path: Path) -> None:
        async with self.shell(left, right, tmp_path) as (shell, said):
            assert await shell.do("help")
            assert all(name in said[0] for name in COMMANDS)
            assert not await shell.do("exit")
