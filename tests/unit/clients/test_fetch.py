"""Fetching goes on where it broke off, byte for byte, and never joins what does not belong together."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.api.streams.joined import Node
from tests.unit.clients.certificates import Files
from weft.clients.http import fetch as fetch_module
from weft.clients.http.client import http_client
from weft.clients.http.fetch import FetchError, TooLargeError, fetch
from weft.clients.http.partial import Origin, Partial, Pipe
from weft.clients.http.redirects import Fence
from weft.clients.tls.connect import client_context
from weft.errors import PeerError

URL = "http://right/disk.img"
SIZE = 1_000_000
DATA = Random("disk").randbytes(SIZE)
OTHER = Random("other").randbytes(SIZE)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "PAUSES_S", (0.0, 0.0, 0.0))


class Server:
    """A server of one file, with faults.

    Attributes:
        breaks: after how many bytes of its body each answer breaks off; those after the last are whole.
        headers: of each answer, besides its length.
        takes_ranges: whether it knows them.
        answer: whole answers in place of what it would say, by turns.
        asked: the ranges it was asked for.
    """

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.breaks: list[int] = []
        self.headers = {"ETag": '"v1"'}
        self.takes_ranges = True
        self.answers: list[bytes | None] = []
        self.asked: list[str | None] = []
        self.requests: list[bytes] = []
        self.before: Callable[[int], None] = lambda number: None

    async def speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        self.before(len(self.requests))
        wanted = re.search(rb"\r\nrange: bytes=(\d+)-\r\n", head, re.IGNORECASE)
        condition = re.search(rb"\r\nif-range: ([^\r]*)", head, re.IGNORECASE)
        self.asked.append(wanted[1].decode() if wanted else None)
        answer = self.answers.pop(0) if self.answers else None
        writer.write(answer if answer is not None else self._answer(wanted, condition))
        await writer.drain()
        writer.close()

    def _answer(self, wanted: Any, condition: Any) -> bytes:
        same = condition is None or condition[1].decode() in self.headers.values()
        start = int(wanted[1]) if wanted and self.takes_ranges and same else 0
        headers = {**self.headers, "Content-Length": str(len(self.data) - start), "Connection": "close"}
        status = "200 OK"
        if start >= len(self.data) and wanted:
            return b"HTTP/1.1 416 No\r\nContent-Length: 0\r\nContent-Range: bytes */%d\r\n\r\n" % len(self.data)
        if start:
            status = "206 Partial Content"
            headers["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        body = self.data[start:]
        if self.breaks:
            body = body[: self.breaks.pop(0)]
        return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


@asynccontextmanager
async def serving(right: Node, server: Server) -> AsyncIterator[Server]:
    listening = await right.streams.start_server(server.speak, None, 80)
    yield server
    listening.close()


def read(path: Path) -> bytes:
    return path.read_bytes()


def names(target: Path) -> list[str]:
    """What is in its directory."""
    return sorted(path.name for path in target.parent.iterdir())


async def got(left: Node, target: Path, **arguments: Any) -> bytes:
    """What is fetched."""
    async with http_client(left.streams, follow_redirects=True) as client:
        with Partial(target, URL) as sink:
            await fetch(client, URL, sink, **arguments)
            sink.finish()
    return read(target)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "disk.img"


def leave(target: Path, data: bytes, version: str = '"v1"', size_bytes: int | None = SIZE) -> None:
    """What an attempt before has left."""
    with Partial(target, URL) as sink:
        sink.begin(Origin(source=URL, version=version, size_bytes=size_bytes))
        sink.write(data)


class TestWhole:
    async def test_comes_as_it_is(self, left: Node, right: Node, target: Path) -> None:
        async with serving(right, Server()) as server:
            assert await got(left, target) == DATA
        assert server.asked == [None]
        assert names(target) == ["disk.img"]

    async def test_progress_is_told(self, left: Node, right: Node, target: Path) -> None:
        told = []
        async with serving(right, Server()):
            await got(left, target, told=lambda *figures: told.append(figures))
        assert told[0] == (0, SIZE)
        assert told[-1] == (SIZE, SIZE)
        assert told == sorted(told)

    async def test_headers_are_sent_and_compression_is_declined(self, left: Node, right: Node, target: Path) -> None:
        async with serving(right, Server()) as server:
            await got(left, target, headers=[("X-Own", "1"), ("X-Own", "2")])
        assert server.requests[0].count(b"X-Own: ") == 2
        assert b"Accept-Encoding: identity\r\n" in server.requests[0]

    async def test_body_that_is_compressed_all_the_same_is_kept_as_it_is(
        self, left: Node, right: Node, target: Path
    ) -> None:
        server = Server()
        server.headers["Content-Encoding"] = "gzip"
        async with serving(right, server):
            assert await got(left, target) == DATA

    async def test_body_without_a_length(self, left: Node, right: Node, target: Path) -> None:
        server = Server()
        server.answers = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
        told = []
        async with serving(right, server):
            assert await got(left, target, told=lambda *figures: told.append(figures)) == b"hello"
        assert told == [(0, None), (5, None)]

    async def test_empty_file(self, left: Node, right: Node, target: Path) -> None:
        async with serving(right, Server(b"")):
            assert await got(left, target) == b""

    async def test_redirect(self, left: Node, right: Node, target: Path) -> None:
        server = Server()
        server.answers = [b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]
        async with serving(right, server), http_client(left.streams, follow_redirects=True) as client:
            with Partial(target, URL) as sink:
                assert str(await fetch(client, URL, sink)) == "http://right/there"


class TestRedirects:
    """`right` is asked, which has two addresses; what else there is depends on what lies in the network."""

    INSIDE = ("fc00::/8",)
    OWN = (("X-Token", "secret"),)

    async def lead(
        self, left: Node, right: Node, target: Path, *locations: str, asked: str = URL, **arguments: Any
    ) -> Server:
        server = Server()
        server.answers = [
            f"HTTP/1.1 302 Found\r\nLocation: {where}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
            for where in locations
        ]
        fence = Fence(left.streams, lambda: self.INSIDE, asked)
        async with serving(right, server), http_client(fence, **arguments) as client:
            with Partial(target, asked) as sink:
                await fetch(client, asked, sink, headers=self.OWN)
                sink.finish()
        return server

    async def test_at_the_same_host(self, left: Node, right: Node, target: Path) -> None:
        server = await self.lead(left, right, target, "/there", "//right/further", "http://right:80/last")
        assert [request.split()[1] for request in server.requests] == [b"/disk.img", b"/there", b"/further", b"/last"]
        assert all(b"X-Token: secret" in request for request in server.requests)
        assert read(target) == DATA

    async def test_elsewhere_in_the_network_without_what_is_the_persons(
        self, left: Node, right: Node, target: Path
    ) -> None:
        server = await self.lead(left, right, target, "http://[fc00::2]/there")
        assert [b"X-Token" in request for request in server.requests] == [True, False]

    async def test_out_of_the_network_is_refused_and_nothing_is_sent(
        self, left: Node, right: Node, target: Path
    ) -> None:
        with pytest.raises(FetchError, match=r"leads to http://10\.7\.0\.2/x, which can't be had: .*unreachable"):
            await self.lead(left, right, target, "http://10.7.0.2/x")
        assert names(target) == []

    async def test_who_is_asked_may_be_outside_but_who_that_leads_to_may_not(
        self, left: Node, right: Node, target: Path
    ) -> None:
        asked = "http://10.7.0.2/disk.img"
        await self.lead(left, right, target, "/there", asked=asked)
        with pytest.raises(FetchError, match=r"leads to http://127\.0\.0\.1/x, which can't be had"):
            await self.lead(left, right, target, "http://127.0.0.1/x", asked=asked)

    @pytest.mark.parametrize("where", ["ftp://right/x", "file:///etc/passwd", "unix:/run/x", "http://[::1/"])
    async def test_to_what_is_no_place_is_refused(self, left: Node, right: Node, target: Path, where: str) -> None:
        with pytest.raises(PeerError, match=r"leads to .*, which is no (place|URL)"):
            await self.lead(left, right, target, where)

    async def test_from_https_to_http_is_refused(self, left: Node, right: Node, target: Path, files: Files) -> None:
        server = Server()
        server.answers = [b"HTTP/1.1 301 Moved\r\nLocation: http://right/x\r\nContent-Length: 0\r\n\r\n"]
        listening = await right.streams.start_server(server.speak, None, 443, ssl=files.server())
        context = client_context(roots=files.roots)
        async with http_client(left.streams, verify=context) as client, serving(right, Server()) as other:
            with Partial(target, URL) as sink, pytest.raises(PeerError, match="where there is no TLS any more"):
                await fetch(client, "https://right/disk.img", sink)
        listening.close()
        assert other.requests == []

    async def test_from_http_to_https_takes_all_along(
        self, left: Node, right: Node, target: Path, files: Files
    ) -> None:
        server = Server()
        listening = await right.streams.start_server(server.speak, None, 443, ssl=files.server())
        await self.lead(left, right, target, "https://right/x", verify=client_context(roots=files.roots))
        listening.close()
        assert b"X-Token: secret" in server.requests[0]

    async def test_part_is_gone_on_with_where_it_leads(self, left: Node, right: Node, target: Path) -> None:
        leave(target, DATA[:300_000])
        server = await self.lead(left, right, target, "/there")
        assert server.asked == ["300000", "300000"]
        assert read(target) == DATA


def chunked(data: bytes, *head: str) -> bytes:
    """An answer that does not say how long it is."""
    lines = "".join(f"{line}\r\n" for line in (*head, "Transfer-Encoding: chunked"))
    return f"HTTP/1.1 {lines}\r\n{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n"


class TestTooMuch:
    async def test_said_before_it_comes(self, left: Node, right: Node, target: Path) -> None:
        async with serving(right, Server()) as server:
            with pytest.raises(TooLargeError, match="at least 1000000 bytes of it, and 999999 are taken at most"):
                await got(left, target, max_bytes=SIZE - 1)
            assert names(target) == []
            assert await got(left, target, max_bytes=SIZE) == DATA
        assert len(server.requests) == 2

    async def test_body_without_a_length(self, left: Node, right: Node, target: Path) -> None:
        server = Server()
        server.answers = [chunked(DATA, "200 OK"), chunked(b"hello", "200 OK")]
        async with serving(right, server):
            with pytest.raises(TooLargeError, match=r"bytes of it, and 5 are taken at most"):
                await got(left, target, max_bytes=5)
            assert names(target) == []
            assert await got(left, target, max_bytes=5) == b"hello"

    async def test_with_what_was_there_before(self, left: Node, right: Node, target: Path) -> None:
        leave(target, DATA[:300_000], size_bytes=None)
        rest = DATA[300_000:]
        server = Server()
        server.answers = [chunked(rest, "206 Partial Content", f"Content-Range: bytes 300000-{SIZE - 1}/*")]
        async with serving(right, server):
            with pytest.raises(TooLargeError, match="300001 are taken at most"):
                await got(left, target, max_bytes=300_001)

    async def test_more_than_the_server_said_is_not_written(self, left: Node, right: Node, target: Path) -> None:
        leave(target, DATA[:999_000])
        server = Server()
        server.answers = [
            chunked(DATA[999_000:] + b"more", "206 Partial Content", f"Content-Range: bytes 999000-{SIZE - 1}/{SIZE}")
        ]
        async with serving(right, server):
            with pytest.raises(TooLargeError, match="more of it comes than the 1000000 bytes"):
                await got(left, target)
        assert len(read(target.with_name("disk.img.weft-part"))) <= SIZE
        async with serving(right, Server()):
            assert await got(left, target) == DATA

    async def test_file_for_which_there_is_no_room_is_not_begun(
        self, left: Node, right: Node, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        leave(target, DATA[:300_000])
        monkeypatch.setattr(Partial, "_room", lambda _: 699_999)
        async with serving(right, Server()):
            with pytest.raises(OSError, match="700000 bytes are to come, and the disk has room for 699999"):
                await got(left, target)
            assert read(target.with_name("disk.img.weft-part")) == DATA[:300_000]
            monkeypatch.setattr(Partial, "_room", lambda _: 700_000)
            assert await got(left, target) == DATA


class TestBreaking:
    @pytest.mark.parametrize("breaks", [[0], [1], [SIZE - 1], [300_000, 300_000], [1, 1, 1, 1, 1, 1, 1, 1]])
    async def test_it_goes_on_by_itself(self, left: Node, right: Node, target: Path, breaks: list[int]) -> None:
        server = Server()
        server.breaks = [*breaks]
        if breaks == [0]:
            # Nothing came, so nobody knows whether anything ever will.
            with pytest.raises(FetchError):
                async with serving(right, server):
                    await got(left, target)
            return
        async with serving(right, server):
            assert await got(left, target) == DATA
        assert server.asked == [None, *(str(sum(breaks[: number + 1])) for number in range(len(breaks)))]

    async def test_next_run_goes_on(self, left: Node, right: Node, target: Path) -> None:
        leave(target, DATA[:123_456])
        async with serving(right, Server()) as server:
            assert await got(left, target) == DATA
        assert server.asked == ["123456"]
        assert b'If-Range: "v1"\r\n' in server.requests[0]

    async def test_server_that_is_gone_for_good(self, left: Node, right: Node, target: Path) -> None:
        server = Server()
        server.breaks = [300_000]
        listening: list[Any] = []

        def leave_too(number: int) -> None:
            listening[0].close()

        server.before = leave_too
        listening.append(await right.streams.start_server(server.speak, None, 80))
        with pytest.raises(FetchError, match=r"broke off after 300000 of 1000000 bytes: right: connection refused"):
            await got(left, target)
        async with serving(right, Server()) as again:
            assert await got(left, target) == DATA
        assert again.asked == ["300000"]

    async def test_server_that_never_gets_further_is_given_up(self, left: Node, right: Node, target: Path) -> None:
        server = Server()
        server.breaks = [1000] * 100
        server.takes_ranges = False
        with pytest.raises(FetchError, match="broke off after 1000 of 1000000 bytes"):
            async with serving(right, server):
                await got(left, target)
        assert len(server.requests) == 1 + len(fetch_module.PAUSES_S)

    async def test_server_without_ranges_sends_all_of_it_again(self, left: Node, right: Node, target: Path) -> None:
        server = Server()
        server.breaks, server.takes_ranges = [300_000], False
        async with serving(right, server):
            assert await got(left, target) == DATA
        assert server.asked == [None, "300000"]

    async def test_server_that_says_no_version_sends_all_of_it_again(
        self, left: Node, right: Node, target: Path
    ) -> None:
        server = Server()
        server.breaks, server.headers = [300_000], {}
        async with serving(right, server):
            assert await got(left, target) == DATA
        assert server.asked == [None, None]

    async def test_reset_in_the_middle(self, left: Node, right: Node, target: Path) -> None:
        server = Server()
        is_first = True

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal is_first
            if not is_first:
                await server.speak(reader, writer)
                return
            is_first = False
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b'HTTP/1.1 200 OK\r\nETag: "v1"\r\nContent-Length: %d\r\n\r\n' % SIZE + DATA[:400_000])
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(DATA[400_000:])
            writer.transport.abort()

        listening = await right.streams.start_server(speak, None, 80)
        assert await got(left, target) == DATA
        assert int(server.asked[0] or 0) > 0
        listening.close()


class TestChanges:
    async def test_file_that_is_another_by_now_is_fetched_anew(self, left: Node, right: Node, target: Path) -> None:
        leave(target, DATA[:300_000])
        server = Server(OTHER)
        server.headers = {"ETag": '"v2"'}
        async with serving(right, server):
            assert await got(left, target) == OTHER
        assert server.asked == ["300000"]

    async def test_file_that_changes_while_it_is_fetched(self, left: Node, right: Node, target: Path) -> None:
        server = Server()
        server.breaks = [300_000]

        def change(number: int) -> None:
            if number == 2:
                server.data, server.headers = OTHER, {"ETag": '"v2"'}

        server.before = change
        async with serving(right, server):
            assert await got(left, target) == OTHER

    @pytest.mark.parametrize(
        "header",
        [
            b"Content-Range: bytes 299999-999999/1000000",
            b"Content-Range: bytes 300001-999999/1000000",
            b"Content-Range: bytes 300000-999999/2000000",
            b"Content-Range: bytes 300000-999998/1000000",
            b"Content-Range: bytes */1000000",
            b"Content-Range: nonsense",
            b'Content-Range: bytes 300000-999999/1000000\r\nETag: "v2"',
            b"X: no range at all",
        ],
    )
    async def test_rest_that_is_none_is_not_joined(self, left: Node, right: Node, target: Path, header: bytes) -> None:
        leave(target, DATA[:300_000])
        server = Server()
        server.answers = [b"HTTP/1.1 206 Partial\r\n%b\r\nConnection: close\r\n\r\n" % header + OTHER[300_000:], None]
        async with serving(right, server):
            assert await got(left, target) == DATA
        assert server.asked == ["300000", None]

    async def test_rest_of_unknown_length(self, left: Node, right: Node, target: Path) -> None:
        leave(target, DATA[:300_000], size_bytes=None)
        server = Server()
        server.answers = [
            b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 300000-999999/*\r\nConnection: close\r\n\r\n"
            + DATA[300_000:]
        ]
        async with serving(right, server):
            assert await got(left, target) == DATA

    async def test_part_that_nobody_asked_for_is_refused(self, left: Node, right: Node, target: Path) -> None:
        server = Server()
        server.answers = [b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nhello"]
        async with serving(right, server):
            with pytest.raises(FetchError, match="not asked for"):
                await got(left, target)
        assert names(target) == []

    async def test_part_that_is_the_whole(self, left: Node, right: Node, target: Path) -> None:
        leave(target, DATA)
        async with serving(right, Server()) as server:
            assert await got(left, target) == DATA
        assert server.asked == [str(SIZE)]

    async def test_part_that_is_longer_than_the_whole(self, left: Node, right: Node, target: Path) -> None:
        leave(target, DATA + b"more", size_bytes=None)
        async with serving(right, Server()) as server:
            assert await got(left, target) == DATA
        assert server.asked == [str(SIZE + 4), None]


class TestVersions:
    NOON, NEXT = "Mon, 30 Nov 2026 12:00:00 GMT", "Mon, 30 Nov 2026 12:00:01 GMT"

    @pytest.mark.parametrize(
        ("headers", "version"),
        [
            ({"ETag": '"v1"'}, '"v1"'),
            ({"ETag": 'W/"v1"'}, ""),
            ({"ETag": "v1"}, ""),
            ({"ETag": 'W/"v1"', "Last-Modified": NOON, "Date": NEXT}, ""),
            ({"Last-Modified": NOON, "Date": NEXT}, NOON),
            ({"Last-Modified": NOON, "Date": NOON}, ""),
            ({"Last-Modified": NEXT, "Date": NOON}, ""),
            ({"Last-Modified": NOON}, ""),
            ({"Last-Modified": "yesterday", "Date": NEXT}, ""),
            ({"Last-Modified": NOON, "Date": "nonsense"}, ""),
            ({}, ""),
        ],
    )
    async def test_what_tells_them_apart(
        self, left: Node, right: Node, target: Path, headers: dict[str, str], version: str
    ) -> None:
        server = Server()
        server.headers, server.breaks = headers, [300_000]
        async with serving(right, server):
            assert await got(left, target) == DATA
        assert server.asked == [None, "300000" if version else None]
        if version:
            assert f"If-Range: {version}\r\n".encode() in server.requests[1]


class TestRefusals:
    @pytest.mark.parametrize("status", ["404 Not Found", "401 Unauthorized", "500 Oops", "304 Not Modified"])
    async def test_status_is_told_and_nothing_is_left(self, left: Node, right: Node, target: Path, status: str) -> None:
        server = Server()
        server.answers = [f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()]
        async with serving(right, server):
            with pytest.raises(FetchError, match=re.escape(f"{URL}: {status}")):
                await got(left, target)
        assert names(target) == []

    async def test_part_outlives_a_refusal(self, left: Node, right: Node, target: Path) -> None:
        leave(target, DATA[:300_000])
        server = Server()
        server.answers = [b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"]
        async with serving(right, server):
            with pytest.raises(FetchError, match="503 Busy"):
                await got(left, target)
        async with serving(right, Server()) as again:
            assert await got(left, target) == DATA
        assert again.asked == ["300000"]

    async def test_nobody_there_is_told_at_once(self, left: Node, target: Path) -> None:
        with pytest.raises(FetchError, match=r"^right: connection refused$"):
            await got(left, target)

    async def test_redirects_without_end(self, left: Node, right: Node, target: Path) -> None:
        server = Server()
        server.answers = [b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"] * 99
        async with serving(right, server):
            with pytest.raises(FetchError, match="redirects"):
                await got(left, target)

    @pytest.mark.parametrize("url", ["ftp://right/", "http://[::1/", "http://", "right"])
    async def test_what_is_no_url(self, left: Node, url: str) -> None:
        async with http_client(left.streams) as client:
            with pytest.raises(FetchError):
                await fetch(client, url, Pipe(io.BytesIO(), url))


class TestPipes:
    async def test_go_on_too(self, left: Node, right: Node) -> None:
        server = Server()
        server.breaks = [300_000]
        file = io.BytesIO()
        async with serving(right, server), http_client(left.streams) as client:
            await fetch(client, URL, Pipe(file, URL))
        assert file.getvalue() == DATA

    async def test_can_not_begin_anew(self, left: Node, right: Node) -> None:
        server = Server()
        server.breaks, server.takes_ranges = [300_000], False
        async with serving(right, server), http_client(left.streams) as client:
            with pytest.raises(OSError, match="handed on already"):
                await fetch(client, URL, Pipe(io.BytesIO(), URL))


@settings(max_examples=30)
@given(
    size=st.integers(0, 3000),
    breaks=st.lists(st.integers(1, 1000), max_size=8),
    takes_ranges=st.booleans(),
    changes_at=st.none() | st.integers(2, 6),
)
def test_file_is_always_one_of_those_that_there_were(
    size: int, breaks: list[int], takes_ranges: bool, changes_at: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However connections break and the file changes: what is finished is a whole version of it, byte for byte."""
    target = tmp_path_factory.mktemp("fetch") / "file"
    first, second = Random(size).randbytes(size), Random(size + 1).randbytes(size + 7)
    server = Server(first)
    server.breaks, server.takes_ranges = [*breaks], takes_ranges

    def change(number: int) -> None:
        if number == changes_at:
            server.data, server.headers = second, {"ETag": '"v2"'}

    server.before = change

    def handle(request: httpx2.Request) -> httpx2.Response:
        server.requests.append(b"")
        server.before(len(server.requests))
        wanted = re.match(r"bytes=(\d+)-", request.headers.get("range", ""))
        head = "".join(f"\r\n{name}: {value}" for name, value in request.headers.items()).encode() + b"\r\n"
        condition = re.search(rb"\r\nif-range: ([^\r]*)", head)
        answer = server._answer(re.search(rb"(\d+)", wanted[1].encode()) if wanted else None, condition)
        lines, _, body = answer.partition(b"\r\n\r\n")
        first_line, *rest = lines.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in rest)

        async def parts() -> AsyncIterator[bytes]:
            yield body
            if len(body) < int(headers["Content-Length"]):
                raise httpx2.RemoteProtocolError("it broke off")

        return httpx2.Response(int(first_line.split()[1]), headers=headers, content=parts())

    async def run() -> bool:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as client:
            with Partial(target, URL) as sink:
                try:
                    await fetch(client, URL, sink)
                except FetchError:
                    return False
                sink.finish()
        return True

    whole = False
    for _ in range(12):
        whole = asyncio.run(run())
        if whole:
            break
    assert whole
    assert target.read_bytes() in {first, second}
