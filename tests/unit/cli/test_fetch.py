"""`weft fetch`: what it writes and says, and how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest

from tests.unit.cli import loopback
from tests.unit.cli.loopback import serving
from tests.unit.cli.pseudo_terminal import PseudoTerminal
from tests.unit.cli.terminal import Terminal
from tests.unit.clients.certificates import Files
from tests.unit.clients.test_fetch import Server
from weft.cli import main
from weft.cli.schemas import schemas
from weft.clients.http import fetch as fetch_module
from weft.clients.http.partial import Partial

DATA = Random("disk").randbytes(1_000_000)
IN_LOOPBACK = (sys.executable, "-m", "tests.unit.cli.loopback")


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.cli.fetch.attached", loopback.attached)
    monkeypatch.setattr(fetch_module, "PAUSES_S", (0.0, 0.0))


@pytest.fixture
def server() -> Server:
    return Server(DATA)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "tls").mkdir()
    return Files(tmp_path / "tls")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "disk.img"


class TestFile:
    def test_it_is_written_and_told(self, weft: Terminal, server: Server, target: Path) -> None:
        with serving(server.speak) as port:
            seen = weft("fetch", f"http://loom:{port}/disk.img", "-o", str(target))
        assert (seen.code, seen.err) == (0, "")
        assert re.fullmatch(rf"{target}: 976\.6 KiB in \d+\.\d s, .*/s\n", seen.out)
        assert target.read_bytes() == DATA
        assert [path.name for path in target.parent.iterdir()] == ["disk.img"]

    def test_json(self, weft: Terminal, server: Server, target: Path) -> None:
        with serving(server.speak) as port:
            seen = weft("fetch", f"http://loom:{port}/disk.img", "-o", str(target), "--json")
        told = json.loads(seen.out)
        jsonschema.validate(told, schemas()["weft fetch"], cls=jsonschema.Draft202012Validator)
        assert (told["schema"], told["file"]) == (1, str(target))
        assert told["url"] == f"http://loom:{port}/disk.img"
        assert (told["size_bytes"], told["resumed_from_bytes"]) == (len(DATA), 0)

    def test_what_breaks_off_goes_on_with_the_same_command(self, weft: Terminal, server: Server, target: Path) -> None:
        server.breaks = [300_000, 0, 0, 0]
        with serving(server.speak) as port:
            words = "fetch", f"http://loom:{port}/disk.img", "-o", str(target)
            broken = weft(*words)
            assert broken.code == 1
            assert "broke off after 300000 of 1000000 bytes" in broken.err
            assert broken.err.endswith("; the same command goes on from there\n")
            assert not target.exists()
            again = weft(*words)
        assert again.code == 0
        assert "976.6 KiB, 293.0 KiB of it before in " in again.out
        assert target.read_bytes() == DATA

    def test_disk_that_would_be_full_is_one_line_and_what_came_stays(
        self, weft: Terminal, server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.breaks = [300_000, 0, 0, 0]
        with serving(server.speak) as port:
            words = "fetch", f"http://loom:{port}/disk.img", "-o", str(target)
            weft(*words)
            with monkeypatch.context() as patched:
                patched.setattr(Partial, "_room", lambda _: 500_000)
                full = weft(*words)
            what = "700000 bytes are to come, and the disk has room for 500000"
            assert (full.code, full.out) == (1, "")
            assert full.err == f"weft: {target}: {what}; the same command goes on from there\n"
            assert weft(*words).code == 0
        assert target.read_bytes() == DATA

    @pytest.mark.parametrize("size", ["976K", "976 KiB", "0", "999999"])
    def test_more_than_is_taken_is_one_line(self, weft: Terminal, server: Server, target: Path, size: str) -> None:
        with serving(server.speak) as port:
            seen = weft("fetch", f"http://loom:{port}/disk.img", "-o", str(target), "--max-size", size)
        assert (seen.code, seen.out) == (1, "")
        assert re.fullmatch(r"weft: there are at least 1000000 bytes of it, and \d+ are taken at most\n", seen.err)
        assert list(target.parent.iterdir()) == []

    @pytest.mark.parametrize("size", ["1000000", "977K", "1m", "1 GiB", "3TB"])
    def test_as_much_as_is_taken(self, weft: Terminal, server: Server, target: Path, size: str) -> None:
        with serving(server.speak) as port:
            assert weft("fetch", f"http://loom:{port}/disk.img", "-o", str(target), "--max-size", size).code == 0
        assert target.read_bytes() == DATA

    @pytest.mark.parametrize("size", ["much", "-1", "1.5G", "5X", ""])
    def test_size_that_is_none(self, weft: Terminal, size: str) -> None:
        seen = weft("fetch", "http://loom/disk.img", "--max-size", size)
        assert (seen.code, seen.err.count("\n")) == (2, 1)
        assert f"--max-size: {size!r} is no size, such as 500M" in seen.err

    def test_device_is_written_as_it_is(self, weft: Terminal, server: Server) -> None:
        with serving(server.speak) as port:
            seen = weft("fetch", f"http://loom:{port}/disk.img", "-o", "/dev/null")
        assert (seen.code, seen.out) == (0, "")
        assert not Path("/dev/null.weft-part").exists()

    def test_directory_is_no_file(self, weft: Terminal, target: Path) -> None:
        seen = weft("fetch", "http://loom/disk.img", "-o", str(target.parent))
        assert seen.code == 2
        assert "is a directory" in seen.err

    def test_place_that_is_not_there(self, weft: Terminal, target: Path) -> None:
        seen = weft("fetch", "http://loom/disk.img", "-o", str(target / "deeper"))
        assert seen.code == 1
        assert "deeper.weft-part: No such file or directory" in seen.err


class TestOutput:
    def test_is_what_was_fetched_and_nothing_else(
        self, server: Server, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        with serving(server.speak) as port:
            assert main(["fetch", f"loom:{port}/disk.img"]) == 0
        assert capfdbinary.readouterr() == (DATA, b"")

    def test_json_needs_a_file(self, weft: Terminal) -> None:
        seen = weft("fetch", "http://loom/disk.img", "--json")
        assert seen.code == 2
        assert "-o" in seen.err


class TestRequest:
    def test_headers(self, weft: Terminal, server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving(server.speak) as port:
            url = f"http://loom:{port}/disk.img"
            weft("fetch", url, "-o", str(target), "-H", "X-One: 1", "--header", "X-Two:2")
            monkeypatch.setenv("WEFT_FETCH_HEADER", "X-One: a b\nX-Two: c")
            weft("fetch", url, "-o", str(target))
        assert b"X-One: 1\r\nX-Two: 2\r\n" in server.requests[0]
        assert b"X-One: a b\r\nX-Two: c\r\n" in server.requests[1]

    @pytest.mark.parametrize("header", ["nonsense", ": x", ""])
    def test_header_that_is_none(self, weft: Terminal, header: str) -> None:
        seen = weft("fetch", "http://loom/", "-H", header)
        assert seen.code == 2
        assert "--header" in seen.err

    def test_header_with_a_line_in_it_is_not_sent(self, weft: Terminal, server: Server, target: Path) -> None:
        with serving(server.speak) as port:
            seen = weft("fetch", f"http://loom:{port}/", "-o", str(target), "-H", "X: a\r\nY: b")
        assert seen.code == 1
        assert server.requests == []

    @pytest.mark.parametrize("url", ["ftp://loom/x", "file:///etc/passwd"])
    def test_other_schemes(self, weft: Terminal, url: str) -> None:
        seen = weft("fetch", url)
        assert seen.code == 2
        assert "only http and https" in seen.err

    @pytest.mark.parametrize("url", ["http://[::1/", "http://loom:nonsense/", "http://"])
    def test_url_that_is_none(self, weft: Terminal, url: str) -> None:
        seen = weft("fetch", url)
        assert seen.code in {1, 2}
        assert seen.err.startswith("weft: ")
        assert "bug" not in seen.err


class TestFailures:
    def test_status(self, weft: Terminal, server: Server, target: Path) -> None:
        server.answers = [b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"]
        with serving(server.speak) as port:
            seen = weft("fetch", f"http://loom:{port}/x", "-o", str(target))
        assert (seen.code, seen.err) == (1, f"weft: http://loom:{port}/x: 404 Not Found\n")
        assert list(target.parent.iterdir()) == []

    def test_what_one_logs_in_with_is_not_shown(self, weft: Terminal, server: Server, target: Path) -> None:
        server.answers = [b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"]
        with serving(server.speak) as port:
            failed = weft("fetch", f"http://anna:secret@loom:{port}/x", "-o", str(target))
            done = weft("fetch", f"http://anna:secret@loom:{port}/x", "-o", str(target), "--json")
        assert failed.err == f"weft: http://loom:{port}/x: 404 Not Found\n"
        assert json.loads(done.out)["url"] == f"http://loom:{port}/x"
        assert b"Authorization: Basic YW5uYTpzZWNyZXQ=" in server.requests[0]

    @pytest.mark.parametrize("there", ["http://127.0.0.2:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/"])
    def test_redirect_out_of_the_network(self, weft: Terminal, server: Server, target: Path, there: str) -> None:
        """Whatever its name says: what counts is where it leads, which for this network is the same machine."""
        with serving(server.speak) as port:
            there = there.format(port=port)
            server.answers = [f"HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode()]
            seen = weft("fetch", f"http://loom:{port}/x", "-o", str(target))
        assert seen.code == 1
        assert f"weft: http://loom:{port}/x leads to {there}, which can't be had: " in seen.err
        assert seen.err.endswith("network is unreachable\n")
        assert len(server.requests) == 1
        assert list(target.parent.iterdir()) == []

    def test_nobody_there(self, weft: Terminal, server: Server) -> None:
        with serving(server.speak) as port:
            pass
        seen = weft("fetch", f"http://loom:{port}/x")
        assert (seen.code, seen.err) == (1, "weft: loom: connection refused\n")

    def test_extra_that_is_not_installed(self, weft: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "httpx2", None)
        monkeypatch.delitem(sys.modules, "weft.clients.http.fetch")
        seen = weft("fetch", "http://loom/x")
        assert seen.code == 2
        assert "pip install 'weft[http]'" in seen.err


class TestTls:
    @pytest.fixture
    def https(self, server: Server, files: Files) -> Callable[[], Any]:
        return lambda: serving(server.speak, files.server())

    def test_certificate_that_nobody_vouches_for(self, weft: Terminal, https: Any) -> None:
        with https() as port:
            seen = weft("fetch", f"https://right:{port}/x")
        assert seen.code == 1
        assert "its certificate is not trusted: unable to get local issuer certificate; `weft tls` shows it" in seen.err

    def test_authority_that_is_given(self, weft: Terminal, https: Any, files: Files, target: Path) -> None:
        with https() as port:
            seen = weft("fetch", f"https://right:{port}/x", "-o", str(target), "--ca", str(files.roots))
        assert seen.code == 0, seen.err
        assert target.read_bytes() == DATA

    def test_any_certificate_if_asked_for(self, weft: Terminal, https: Any, target: Path) -> None:
        with https() as port:
            assert weft("fetch", f"https://right:{port}/x", "-o", str(target), "-k").code == 0

    def test_authority_that_is_not_there(self, weft: Terminal, https: Any, tmp_path: Path) -> None:
        seen = weft("fetch", "https://right/x", "--ca", str(tmp_path / "none.pem"))
        assert seen.code == 1
        assert "none.pem: No such file or directory" in seen.err


class TestAtTerminal:
    def test_progress_is_shown_and_gone(self, server: Server, target: Path) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA) + DATA[: len(DATA) // 2])
            await asyncio.sleep(0.7)
            writer.write(DATA[len(DATA) // 2 :])

        with serving(speak) as port:
            words = (*IN_LOOPBACK, "fetch", f"http://loom:{port}/disk.img", "-o", str(target))
            with PseudoTerminal(words, NO_COLOR="1") as terminal:
                terminal.wait_for(r"disk\.img .*0\.5/1\.0 MB")
                assert terminal.end() == 0
                assert re.search(r"disk\.img: 976\.6 KiB in ", terminal.seen)
                assert "\x1b[3" not in terminal.seen

    def test_what_is_no_text_is_not_shown(self, server: Server) -> None:
        with serving(server.speak) as port, PseudoTerminal((*IN_LOOPBACK, "fetch", f"loom:{port}/x")) as terminal:
            assert terminal.end() == 2
            assert "no text; give a file with -o" in terminal.seen

    def test_text_moves_no_cursor(self, server: Server) -> None:
        """It sets no title, asks for no answers of the terminal, overwrites no line and turns none around."""
        server.data = "ä\r\nb\tc\x1b]0;x\x07\x1b[6n\x9b2Jgood\revil\u202ed\u00a0e\n".encode()
        with serving(server.speak) as port, PseudoTerminal((*IN_LOOPBACK, "fetch", f"loom:{port}/x")) as terminal:
            assert terminal.end() == 0
        assert "\x1b" not in terminal.seen
        shown = terminal.seen[terminal.seen.index("ä") :].replace("\r", "")
        assert shown == "ä\nb\tc\ufffd]0;x\ufffd\ufffd[6n\ufffd2Jgood\nevil\ufffdd\u00a0e\n"

    def test_interrupt_keeps_what_came(self, server: Server, target: Path) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = b'HTTP/1.1 200 OK\r\nETag: "v1"\r\nContent-Length: %d\r\n\r\n' % len(DATA)
            writer.write(head + DATA[:500_000])
            await asyncio.sleep(60)

        with serving(speak) as port:
            url = f"http://loom:{port}/disk.img"
            with PseudoTerminal((*IN_LOOPBACK, "fetch", url, "-o", str(target))) as terminal:
                terminal.wait_for(r"0\.5/1\.0 MB")
                terminal.send("\x03")
                assert terminal.end() == 130
                assert terminal.seen.endswith("weft: interrupted\n")
        assert (target.parent / "disk.img.weft-part").read_bytes() == DATA[:500_000]
