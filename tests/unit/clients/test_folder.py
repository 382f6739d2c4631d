"""A folder over HTTP: what is answered to whatever may be asked for, byte for byte on the wire."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from tests.unit.api.streams.joined import Node
from weft.clients.folder import page as folder_page
from weft.clients.folder import walk as folder_walk
from weft.clients.folder.folder import PIECE_BYTES, Folder
from weft.clients.http.client import http_client
from weft.clients.http.fetch import fetch
from weft.clients.http.partial import Origin, Partial
from weft.clients.serving import serve_app

DATA = Random("folder").randbytes(3 * PIECE_BYTES + 123)
ODD = [
    b"a b&c<d>.txt",
    b"caf\xc3\xa9",
    b"latin-\xe9",
    b"line\nbreak",
    b"100%2F",
    b"?q#f",
    b"-rf",
    b"javascript:x",
    b"...",
]


def write_odd(folder: Path) -> None:
    for name in ODD:
        (folder / os.fsdecode(name)).write_bytes(name)


class Answer:
    """One answer, as it came."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


class Site:
    """The folder that is served by `right`."""

    def __init__(self, left: Node, root: Path, told: list[str]) -> None:
        self.left, self.root, self.told = left, root, told

    async def ask(self, path: str | bytes, method: str = "GET", **headers: str) -> Answer:
        """Ask for a path exactly as it is written."""
        reader, writer = await self.left.streams.open_connection("right", 80)
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        raw = path if isinstance(path, bytes) else path.encode()
        writer.write(b"%b %b HTTP/1.1\r\nHost: right\r\nConnection: close\r\n" % (method.encode(), raw))
        writer.write(f"{''.join(lines)}\r\n".encode())
        try:
            return Answer(await asyncio.wait_for(reader.read(), 10))
        finally:
            writer.close()


@asynccontextmanager
async def site_of(left: Node, right: Node, root: Path, left_out: list[Path]) -> AsyncIterator[Site]:
    told: list[str] = []
    async with await serve_app(right.streams, Folder(root, left_out, told.append).app(), 80):
        yield Site(left, root, told)


@pytest_asyncio.fixture
async def site(left: Node, right: Node, tmp_path: Path) -> AsyncIterator[Site]:
    root = tmp_path / "root"
    (root / "deep" / "deeper").mkdir(parents=True)
    (root / "site").mkdir()
    (root / "site" / "index.html").write_text("<p>home")
    (root / "disk.img").write_bytes(DATA)
    (root / "empty").touch()
    (root / "deep" / "inner.txt").write_text("inner")
    (root / "linked").symlink_to("deep/inner.txt")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("secret")
    for name, target in {"out": "../secret", "abs": "/etc/hostname", "up": "..", "beside": "../outside"}.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe")
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
    (root / "node").mkdir()
    (root / "node" / "weft.key").write_text("secret")
    async with site_of(left, right, root, [root / "node"]) as site:
        yield site


class TestFile:
    async def test_is_sent_byte_for_byte(self, site: Site) -> None:
        answer = await site.ask("/disk.img")
        assert (answer.status, answer.body) == (200, DATA)
        assert answer.headers["content-length"] == str(len(DATA))
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert re.fullmatch(r'"[0-9a-f-]+"', answer.headers["etag"])
        assert parsedate_to_datetime(answer.headers["last-modified"])

    @pytest.mark.parametrize("path", ["/deep/inner.txt", "//deep//inner.txt", "/deep/inner%2Etxt", "/linked?x=/../.."])
    async def test_ways_to_one(self, site: Site, path: str) -> None:
        assert (await site.ask(path)).body == b"inner"

    async def test_head_is_the_same_without_the_file(self, site: Site) -> None:
        got, head = await site.ask("/disk.img"), await site.ask("/disk.img", "HEAD", Range="bytes=1-2")
        assert (head.status, head.body) == (200, b"")
        assert {**head.headers, "date": ""} == {**got.headers, "date": ""}

    async def test_empty_one(self, site: Site) -> None:
        answer = await site.ask("/empty")
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("a.html", "text/html; charset=utf-8"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.png", "image/png"),
            ("a.json", "application/json"),
            ("a.pdf", "application/pdf"),
            ("a.tar.gz", "application/gzip"),
            ("a.tar.xz", "application/x-xz"),
            ("a", "application/octet-stream"),
            ("a.what", "application/octet-stream"),
            ("data:text%2fhtml,", None),
        ],
    )
    async def test_type(self, site: Site, name: str, kind: str | None) -> None:
        if kind is not None:
            (site.root / name).write_text("x")
        answer = await site.ask(f"/{name}")
        assert answer.headers.get("content-type") == kind or (kind is None and answer.status == 404)
        assert "content-encoding" not in answer.headers

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
    async def test_nothing_is_changed(self, site: Site, method: str) -> None:
        answer = await site.ask("/disk.img", method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET,HEAD")

    async def test_that_gets_shorter_is_no_whole_one(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.pread

        def pread(descriptor: int, count: int, offset: int) -> bytes:
            os.truncate(site.root / "disk.img", PIECE_BYTES)
            return real(descriptor, count, offset)

        monkeypatch.setattr(os, "pread", pread)
        with pytest.raises(ConnectionResetError):
            await site.ask("/disk.img")
        assert site.told == ["disk.img: it became shorter while it was sent"]


class TestPart:
    @pytest.mark.parametrize(
        ("wanted", "start", "end"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=5-", 5, len(DATA)),
            ("bytes=-7", len(DATA) - 7, len(DATA)),
            ("bytes=10-999999999", 10, len(DATA)),
            ("bytes=-999999999", 0, len(DATA)),
            (f"Bytes={PIECE_BYTES - 1}-{PIECE_BYTES}", PIECE_BYTES - 1, PIECE_BYTES + 1),
        ],
    )
    async def test_range(self, site: Site, wanted: str, start: int, end: int) -> None:
        answer = await site.ask("/disk.img", Range=wanted)
        assert (answer.status, answer.body) == (206, DATA[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"

    @pytest.mark.parametrize("wanted", [f"bytes={len(DATA)}-", "bytes=-0", "bytes=99999999-"])
    async def test_range_behind_the_end(self, site: Site, wanted: str) -> None:
        answer = await site.ask("/disk.img", Range=wanted)
        assert (answer.status, answer.body) == (416, b"")
        assert answer.headers["content-range"] == f"bytes */{len(DATA)}"

    @pytest.mark.parametrize(
        "wanted", ["bytes=5-2", "bytes=-", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b", f"bytes={'9' * 30}-", "bytes=²-"]
    )
    async def test_what_is_no_range_is_not_looked_at(self, site: Site, wanted: str) -> None:
        answer = await site.ask("/disk.img", Range=wanted)
        assert (answer.status, answer.body) == (200, DATA)

    async def test_only_of_the_version_that_is_known(self, site: Site) -> None:
        headers = (await site.ask("/disk.img", "HEAD")).headers
        for known in (headers["etag"], headers["last-modified"]):
            assert (await site.ask("/disk.img", Range="bytes=5-", If_Range=known)).status == 206
        os.utime(site.root / "disk.img", ns=(1, 1))
        for known in (headers["etag"], headers["last-modified"], f"W/{headers['etag']}", "nonsense"):
            answer = await site.ask("/disk.img", Range="bytes=5-", If_Range=known)
            assert (answer.status, answer.body) == (200, DATA)

    async def test_conditions(self, site: Site) -> None:
        headers = (await site.ask("/disk.img", "HEAD")).headers
        tag, date = headers["etag"], parsedate_to_datetime(headers["last-modified"])
        later, sooner = (format_datetime(date.replace(year=year), usegmt=True) for year in (date.year + 1, 2001))
        for status, asked in (
            (304, {"If_None_Match": f'"x", W/{tag}'}),
            (304, {"If_None_Match": "*"}),
            (304, {"If_Modified_Since": headers["last-modified"]}),
            (304, {"If_Modified_Since": later}),
            (200, {"If_Modified_Since": sooner}),
            (200, {"If_None_Match": '"x"', "If_Modified_Since": later}),
            (412, {"If_Match": '"x"'}),
            (412, {"If_Match": f"W/{tag}"}),
            (200, {"If_Match": tag}),
            (200, {"If_Match": "*"}),
            (412, {"If_Unmodified_Since": sooner}),
            (200, {"If_Match": tag, "If_Unmodified_Since": sooner}),
        ):
            answer = await site.ask("/disk.img", **asked)
            assert (answer.status, answer.body) == (status, DATA if status == 200 else b""), asked

    @pytest.mark.parametrize("is_changed", [False, True])
    async def test_fetch_goes_on_with_the_version_that_it_knows(
        self, site: Site, tmp_path: Path, is_changed: bool
    ) -> None:
        url, target, part = "http://right/disk.img", tmp_path / "copy.img", b"x" * PIECE_BYTES
        version = (await site.ask("/disk.img", "HEAD")).headers["etag"]
        if is_changed:
            os.utime(site.root / "disk.img", ns=(1, 1))
        async with http_client(site.left.streams) as client:
            with Partial(target, url) as sink:
                sink.begin(Origin(source=url, version=version, size_bytes=len(DATA)))
                sink.write(part)
                await fetch(client, url, sink)
                sink.finish()
        assert target.read_bytes() == (DATA if is_changed else part + DATA[len(part) :])


class TestPage:
    async def test_lists_folders_and_then_files(self, site: Site) -> None:
        answer = await site.ask("/")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        names = re.findall(r'<a href="\./[^"]*">([^<]*)</a>', answer.body.decode())
        assert names[:3] == ["deep/", "node/", "site/"]
        assert set(names[3:]) >= {"disk.img", "empty", "linked"}
        assert f"<td>{len(DATA)}</td>" in answer.body.decode()
        inner = await site.ask("/deep/")
        assert b'<a href="../">' in inner.body
        assert b"<h1>/deep/</h1>" in inner.body

    async def test_leads_to_every_name_that_a_file_may_have(self, site: Site) -> None:
        write_odd(site.root / "deep" / "deeper")
        page = (await site.ask("/deep/deeper/")).body.decode()
        links = re.findall(r'href="\./([^"]*)"', page)
        assert len(links) == len(ODD)
        assert {(await site.ask(f"/deep/deeper/{link}")).body for link in links} == set(ODD)
        assert "<d>" not in page
        assert "line\nbreak" not in page

    async def test_index_is_shown_in_its_place(self, site: Site) -> None:
        answer = await site.ask("/site/")
        assert (answer.body, answer.headers["content-type"]) == (b"<p>home", "text/html; charset=utf-8")

    async def test_index_that_is_a_folder_is_none(self, site: Site) -> None:
        (site.root / "deep" / "index.html").mkdir()
        assert b"index.html/" in (await site.ask("/deep/")).body

    @pytest.mark.parametrize("path", ["/deep", "/deep/deeper", "//deep", "/deep%2Fdeeper", "/a%0d%0ab"])
    async def test_folder_has_a_slash_at_its_end(self, site: Site, path: str) -> None:
        (site.root / "a\r\nb").mkdir(exist_ok=True)
        answer = await site.ask(path)
        if "%2F" in path:
            assert answer.status == 404
        else:
            last = path.rpartition("/")[2].replace("%0d%0a", "%0D%0A")
            assert (answer.status, answer.headers["location"]) == (301, f"./{last}/")

    @pytest.mark.parametrize("changed_s", [-(1 << 40), 1 << 33])
    async def test_files_of_odd_times(self, site: Site, changed_s: int) -> None:
        os.utime(site.root / "empty", (changed_s, changed_s))
        assert b"empty" in (await site.ask("/")).body
        assert (await site.ask("/empty")).status == 200

    async def test_has_a_bound(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(folder_page, "ENTRIES", 2)
        page = (await site.ask("/")).body.decode()
        assert len(re.findall(r'href="\./', page)) == 2
        assert "there are more" in page


class TestRefused:
    @pytest.mark.parametrize(
        "path",
        [
            "/../secret",
            "/deep/../../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/deep/%2e%2E/inner.txt",
            "/./disk.img",
            "/deep%2Finner.txt",
            "/disk.img%00.txt",
            "/disk.img/",
            "/disk.img/x",
            "/missing",
            "/" + "x" * 300,
            "/%2fetc/hostname",
            "/..;/secret",
            "/\\..\\secret",
        ],
    )
    async def test_nothing_is_there(self, site: Site, path: str) -> None:
        answer = await site.ask(path)
        assert (answer.status, answer.body) == (404, b"Not Found\n")
        assert site.told == []

    @pytest.mark.parametrize(
        "path",
        ["/out", "/abs", "/up/", "/up/secret", "/beside/file", "/pipe", "/socket", "/node/", "/node/weft.key"],
    )
    async def test_what_is_no_part_of_it(self, site: Site, path: str) -> None:
        answer = await asyncio.wait_for(site.ask(path), 5)
        assert (answer.status, answer.body) == (403, b"Forbidden\n")
        assert len(site.told) == 1
        assert site.told[0].startswith(f"{path}: ")

    async def test_what_can_not_be_read_is_told(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        # As root, who can read everything, by a system that refuses; see tests/system/test_serve.py for a real one.
        real = folder_walk._open

        def refuse(name: bytes, *arguments: Any) -> int:
            if name in {b"empty", b"deep"}:
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(name, *arguments)

        monkeypatch.setattr(folder_walk, "_open", refuse)
        paths = ["/empty", "/deep/", "/deep/inner.txt"]
        for path in paths:
            assert (await site.ask(path)).status == 403
        assert site.told == [f"{path}: Permission denied" for path in paths]

    @pytest.mark.parametrize("request_target", [b"*", b"disk.img", b"http://other/disk.img", b"/\xff", b"/%ff", b"/%"])
    async def test_odd_targets_harm_nothing(
        self, site: Site, request_target: bytes, complaints: list[dict[str, object]]
    ) -> None:
        answer = await site.ask(request_target)
        assert answer.status in {200, 400, 404}
        assert answer.status != 200 or request_target.startswith(b"http:")
        assert complaints == []


class TestRoot:
    def test_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            Folder(tmp_path / "none", [], print)
        assert caught.value.filename == str(tmp_path / "none")

    def test_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError):
            Folder(tmp_path / "file", [], print)

    def test_that_is_to_be_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(".")
        with pytest.raises(PermissionError):
            Folder(tmp_path / "link", [tmp_path], print)
