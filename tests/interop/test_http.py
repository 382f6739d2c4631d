"""HTTP against nginx and curl, through a tunnel: keep-alive, HTTP/2, TLS, ranges, WebSockets, and a server that goes.

One end is a node without any right, with its own TCP, or a `weft` command on alice, who has a TUN; the other is a
program of bob's machine.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.interop.conftest import DISK
from tests.interop.ends import Ends
from tests.interop.rootless import BIG
from tests.system.node import Node
from tests.system.process import Process
from tests.system.waiting import until
from tests.system.web import Web

pytestmark = [pytest.mark.system, pytest.mark.interop("nginx", "curl", "setpriv"), pytest.mark.timeout(120)]

CURL_TIMED_OUT = 28
SLOW = "http://bob/slow/disk.img"

CHAT = """
import asyncio, sys, aiohttp
async def main(url):
    async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=15, max_msg_size=0) as socket:
        for size in (0, 1, 125, 126, 65535, 65536, 2_000_000):
            await socket.send_str("x" * size)
            assert await socket.receive_str() == "you said " + "x" * size
        await socket.close(code=4000)
    print("well spoken")
asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def nginx(web: Web) -> Iterator[Process]:
    process = web.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def daemon(ends: Ends) -> Node:
    return ends.without_tun()


@contextmanager
def serving(ends: Ends, kind: str, port: int = 80, **options: object) -> Iterator[str]:
    """A server of the node without rights; gives the beginning of its URLs."""
    ends.do("serve", kind, port, **options)
    try:
        yield f"{'https' if 'certificate' in options else 'http'}://[{ends.address}]:{port}"
    finally:
        ends.do("close", port)


def curl(ends: Ends, *words: str) -> str:
    return ends.bob.run("curl", "--silent", "--show-error", "--fail", "--max-time", "30", *words)


class TestNginx:
    def test_file_by_name_and_by_address(self, ends: Ends, nginx: Process) -> None:
        hosts = ("bob", "bob.weft", f"[{ends.pair.bob.address}]")
        answers = ends.do("get", *(f"http://{host}/disk.img" for host in hosts))
        assert [answer["status"] for answer in answers] == [200] * 3
        assert {answer["sha256"] for answer in answers} == {hashlib.sha256(DISK).hexdigest()}

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_one_connection_serves_all(self, ends: Ends, web: Web, nginx: Process, scheme: str) -> None:
        answers = ends.do("get", *([f"{scheme}://bob/notes.txt"] * 20), roots=str(web.roots))
        assert [answer["headers"]["x-request"] for answer in answers] == [str(number) for number in range(1, 21)]
        assert {answer["version"] for answer in answers} == {"HTTP/1.1"}

    def test_http_2(self, ends: Ends, web: Web, nginx: Process) -> None:
        answers = ends.do("get", "https://bob/notes.txt", "https://bob/disk.img", roots=str(web.roots), http2=True)
        assert [answer["version"] for answer in answers] == ["HTTP/2"] * 2
        assert answers[1]["sha256"] == hashlib.sha256(DISK).hexdigest()

    def test_certificate_for_another_name(self, ends: Ends, web: Web, nginx: Process) -> None:
        with pytest.raises(AssertionError, match="its certificate is not trusted: Hostname mismatch"):
            ends.do("get", f"https://{ends.pair.bob.id}/", roots=str(web.roots))

    def test_nobody_there(self, ends: Ends) -> None:
        with pytest.raises(AssertionError, match="ConnectError: bob: connection refused"):
            ends.do("get", "http://bob:81/")


class TestBreaking:
    """A server that goes in the middle."""

    def test_fetch_goes_on_when_it_is_back(self, ends: Ends, web: Web) -> None:
        server = web.start()
        target = ends.directory / "rootless.img"
        wish = json.dumps({"do": "fetch", "words": [SLOW, str(target)]})
        assert ends.rootless.popen.stdin
        said = ends.rootless.output()
        ends.rootless.popen.stdin.write(f"{wish}\n".encode())
        ends.rootless.popen.stdin.flush()
        part = target.with_name("rootless.img.weft-part")
        until(lambda: part.exists() and part.stat().st_size > 0, "something came")
        server.popen.kill()
        server.popen.wait()
        server = web.start()
        until(lambda: len(ends.rootless.output()) > len(said), "it is over", timeout_s=20)
        server.stop()
        assert "error" not in ends.rootless.output()[len(said) :]
        assert target.read_bytes() == DISK

    def test_command_goes_on_where_it_broke_off(self, ends: Ends, web: Web) -> None:
        target = ends.directory / "command.img"
        part = target.with_name("command.img.weft-part")
        words = ends.alice.command("fetch", SLOW, "-o", str(target), "--json")
        server = web.start()
        first = ends.alice.host.start(*words)
        until(lambda: part.exists() and part.stat().st_size > 0, "something came")
        first.popen.kill()
        first.popen.wait()
        kept = part.stat().st_size
        assert 0 < kept < len(DISK)
        told = json.loads(ends.alice.host.run(*words))
        server.stop()
        assert (told["resumed_from_bytes"], told["size_bytes"]) == (kept, len(DISK))
        assert target.read_bytes() == DISK

    @pytest.mark.long
    def test_command_says_so_when_the_server_does_not_come_back(self, ends: Ends, web: Web) -> None:
        target = ends.directory / "gone.img"
        part = target.with_name("gone.img.weft-part")
        server = web.start()
        process = ends.alice.host.start(*ends.alice.command("fetch", SLOW, "-o", str(target)))
        until(lambda: part.exists() and part.stat().st_size > 0, "something came")
        server.popen.kill()
        said = process.wait_for("\n", timeout_s=40)
        assert process.popen.wait(10) == 1
        assert re.search(r"broke off after \d+ of 3000000 bytes: .*refused; the same command goes on from there", said)


class TestCommand:
    def test_https(self, ends: Ends, web: Web, nginx: Process) -> None:
        assert ends.alice.weft("fetch", "https://bob/notes.txt", "--ca", str(web.roots)) == "hello\n"
        refused = ends.alice.outcome("fetch", "https://bob/notes.txt")
        assert (refused.code, refused.out) == (1, "")
        assert "its certificate is not trusted" in refused.err

    def test_redirects_lead_to_nothing_that_is_only_on_this_machine(self, ends: Ends, web: Web, nginx: Process) -> None:
        (ends.directory / "secret").write_text("secret\n")
        words = ("http.server", "8999", "--bind", "127.0.0.1", "--directory", str(ends.directory))
        local = ends.alice.host.start(sys.executable, "-u", "-m", *words)
        local.wait_for("Serving")
        for there in (
            "http://127.0.0.1:8999/secret",
            "http://localhost:8999/secret",
            "http://[::ffff:127.0.0.1]:8999/",
        ):
            seen = ends.alice.outcome("fetch", f"http://bob/away?to={there}")
            assert (seen.code, seen.out) == (1, "")
            assert "which can't be had: " in seen.err
            assert seen.err.endswith("network is unreachable\n")
        inside = f"http://[{ends.pair.bob.address}]/notes.txt"
        assert ends.alice.weft("fetch", f"http://bob/away?to={inside}") == "hello\n"
        downgrade = ends.alice.outcome("fetch", f"https://bob/away?to={inside}", "--ca", str(web.roots))
        local.stop()
        assert "where there is no TLS any more" in downgrade.err
        assert "GET" not in local.output()

    def test_what_there_is_not(self, ends: Ends, nginx: Process) -> None:
        seen = ends.alice.outcome("fetch", "http://bob/nothing")
        assert (seen.code, seen.out, seen.err) == (1, "", "weft: http://bob/nothing: 404 Not Found\n")


class TestWithoutTun:
    """The same commands where the daemon has no TUN, but the network inside it."""

    def test_fetch(self, ends: Ends, web: Web, nginx: Process, daemon: Node) -> None:
        target = ends.directory / "without.img"
        told = json.loads(daemon.weft("fetch", "http://bob/disk.img", "-o", str(target), "--json"))
        assert told["size_bytes"] == len(DISK)
        assert target.read_bytes() == DISK
        assert daemon.weft("fetch", "https://bob/notes.txt", "--ca", str(web.roots)) == "hello\n"
        assert daemon.outcome("fetch", "http://bob:81/").err == "weft: bob: connection refused\n"

    def test_tls(self, ends: Ends, web: Web, nginx: Process, daemon: Node) -> None:
        said = daemon.weft("tls", "bob", "--ca", str(web.roots))
        assert said.startswith(f"bob port 443 ({ends.pair.bob.address}): TLSv1.3, TLS_AES_256_GCM_SHA384\n")
        assert "\ntrusted: it is for bob, and " in said


@pytest.mark.parametrize("kind", ["asgi", "aiohttp"])
class TestServed:
    """curl on bob, and what the node without rights serves."""

    @pytest.mark.parametrize("with_tls", [False, True])
    def test_get_keeps_the_connection(self, ends: Ends, kind: str, with_tls: bool) -> None:
        options = {"certificate": str(ends.certificate("alice", ends.address))} if with_tls else {}
        with serving(ends, kind, **options) as url:
            said = curl(ends, "--verbose", "--stderr", "-", "--cacert", str(ends.roots), *([f"{url}/"] * 3))
        assert said.count("hello GET\n") == 3
        assert said.count("Re-using existing connection") == 2

    def test_much(self, ends: Ends, kind: str) -> None:
        file = ends.directory / "big"
        with serving(ends, kind) as url:
            curl(ends, f"{url}/big", "--output", str(file))
        assert file.read_bytes() == BIG

    def test_upload_that_waits_to_be_let(self, ends: Ends, kind: str) -> None:
        file = ends.directory / "upload"
        file.write_bytes(DISK)
        with serving(ends, kind) as url:
            said = curl(
                ends, "--verbose", "--stderr", "-", "--expect100-timeout", "20", "-T", str(file), f"{url}/digest"
            )
        assert "HTTP/1.1 100 Continue" in said
        assert hashlib.sha256(DISK).hexdigest() in said

    @pytest.mark.parametrize("words", [["--http1.0"], ["--http1.1"], ["--http2"], ["--head"]])
    def test_other_ways_to_ask(self, ends: Ends, kind: str, words: list[str]) -> None:
        with serving(ends, kind) as url:
            said = curl(ends, "--include", *words, f"{url}/")
        assert re.match(r"HTTP/1\.[01] 200 OK\r?\n", said)
        assert ("hello GET" in said) == (words != ["--head"])

    def test_client_that_goes_in_the_middle(self, ends: Ends, kind: str) -> None:
        with serving(ends, kind) as url:
            words = ("--max-time", "0.2", "--limit-rate", "100k", "--output", "/dev/null")
            assert ends.bob.outcome("curl", "--silent", *words, f"{url}/big").code == CURL_TIMED_OUT
            assert curl(ends, f"{url}/") == "hello GET\n"

    @pytest.mark.parametrize("with_tls", [False, True])
    def test_websocket(self, ends: Ends, kind: str, with_tls: bool) -> None:
        options = {"certificate": str(ends.certificate("alice", ends.address))} if with_tls else {}
        with serving(ends, kind, **options) as url:
            environment = ("env", f"SSL_CERT_FILE={ends.roots}")
            said = ends.bob.run(*environment, sys.executable, "-c", CHAT, f"{url}/chat".replace("http", "ws", 1))
        assert said == "well spoken\n"

    def test_end_waits_for_nobody_who_is_idle(self, ends: Ends, kind: str) -> None:
        ends.do("serve", kind, 81)
        idle = ends.bob.start("bash", "-c", f"exec 3<>/dev/tcp/{ends.address}/81; echo connected; cat <&3; echo closed")
        idle.wait_for("connected")
        began = time.monotonic()
        ends.do("close", 81)
        assert time.monotonic() - began < 3
        idle.wait_for("closed")
