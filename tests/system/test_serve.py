"""`weft serve`, `forward` and `nc`: other people's programs on both sides of a tunnel.

Bob has a TUN, and nginx; carol's daemon is nobody's, may do nothing, and has the network inside it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.system.lab import Lab
from tests.system.node import EVERYTHING, Node
from tests.system.process import Outcome, Process
from tests.system.sandbox import STATE, USER
from tests.system.test_rootless import RootlessDaemon
from tests.system.waiting import until
from tests.system.web import Web

pytestmark = [
    pytest.mark.system("nginx", "curl", "openssl", "setpriv", "systemd-analyze"),
    pytest.mark.timeout(120),
]

SIZE = 12_000_000
DATA = Random("serve").randbytes(SIZE)
SHA256 = hashlib.sha256(DATA).hexdigest()
PARTIAL, RESET, NOT_TRUSTED = {18, 56}, {7, 55, 56}, 60
"""Exit codes of curl: it got a part; the connection was reset, which it may notice at each step."""


class Ends:
    """Both machines, and what runs there."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        hosts = lab.host("bob"), lab.host("carol")
        cable = lab.veth(*hosts)
        self.bob = Node(hosts[0], lab.directory("bob"))
        self.bob.up(*EVERYTHING)
        self.daemon = RootlessDaemon(lab, hosts[1], "carol")
        self.carol = self.daemon.node
        self.daemon.weft("peer", "connect", self.bob.multiaddr(cable.left), "--name", "bob")
        self.bob.name_peer(self.carol, "carol")
        self.web = Web(hosts[0], lab.directory("web"), "bob", self.bob.address)
        (self.web.files / "disk.img").write_bytes(DATA)
        self.files = self.daemon.directory / "files"
        self.files.mkdir()
        (self.files / "disk.img").write_bytes(DATA)
        self.own(self.files)
        self.work = lab.directory("work")

    def own(self, *paths: Path) -> None:
        """Make something carol's."""
        for path in paths:
            os.chown(path, USER, USER)

    @contextmanager
    def goes_on(self, node: Node, *words: str) -> Iterator[Process]:
        """A command that goes on, once it has said what is open; at its end it is interrupted, and ends in order."""
        process = node.start(*words) if node is self.bob else self.daemon.begin(*words)
        process.wait_for("is open for")
        try:
            yield process
        finally:
            if process.running:
                assert process.stop(signal.SIGINT) == 0, process.output()

    def outcome(self, node: Node, *words: str) -> Outcome:
        return node.outcome(*words) if node is self.bob else self.daemon.outcome(*words)

    def curl(self, node: Node, *words: str) -> Outcome:
        return node.host.outcome("curl", "--silent", "--show-error", "--max-time", "40", *words)

    def digest(self, node: Node, *words: str) -> str:
        """Of what curl gets."""
        path = self.work / "got"
        done = self.curl(node, "--fail", "--output", str(path), *words)
        assert done.code == 0, done.err
        return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    with Lab() as lab:
        yield Ends(lab)


@pytest.fixture
def nginx(ends: Ends) -> Iterator[Process]:
    process = ends.web.start()
    yield process
    process.stop()


class TestPorts:
    def test_curl_and_nginx_at_the_ends_of_it(self, ends: Ends, nginx: Process) -> None:
        with ends.goes_on(ends.bob, "serve", "8080", "--to", "80") as served:
            assert "port 8080 is open for everybody; it leads to 127.0.0.1 port 80" in served.output()
            with ends.goes_on(ends.carol, "forward", "8000", "bob:8080"):
                assert ends.digest(ends.carol, "http://127.0.0.1:8000/disk.img") == SHA256
                parallel = "--parallel", *(f"http://127.0.0.1:8000/disk.img?{number}" for number in range(4))
                done = ends.curl(ends.carol, *("--output", "/dev/null") * 4, *parallel)
                assert done.code == 0, done.err
            got = ends.daemon.weft("fetch", "http://bob:8080/disk.img", "-o", str(STATE / "fetched"), "--json")
            assert f'"size_bytes":{SIZE}' in got

    def test_server_that_goes_in_the_middle(self, ends: Ends) -> None:
        path = ends.work / "resumed"
        path.unlink(missing_ok=True)
        words = "--output", str(path), "--continue-at", "-", "http://127.0.0.1:8000/slow/disk.img"
        with (
            ends.goes_on(ends.bob, "serve", "8080", "--to", "80"),
            ends.goes_on(ends.carol, "forward", "8000", "bob:8080") as forwarded,
        ):
            server = ends.web.start()
            curl = ends.carol.host.start("curl", "--silent", "--show-error", *words)
            until(lambda: path.exists() and path.stat().st_size > 0, "something came")
            server.popen.kill()
            assert curl.popen.wait(20) in PARTIAL
            assert 0 < path.stat().st_size < SIZE
            assert ends.curl(ends.carol, *words).code in RESET
            forwarded.wait_for("bob port 8080: connection reset by peer")
            server = ends.web.start()
            assert ends.curl(ends.carol, *words).code == 0
            server.stop()
        assert path.read_bytes() == DATA

    def test_relay_that_goes_in_the_middle(self, ends: Ends, nginx: Process) -> None:
        path = ends.work / "killed"
        path.unlink(missing_ok=True)
        words = "--output", str(path), "--continue-at", "-", "http://127.0.0.1:8000/slow/disk.img"
        with ends.goes_on(ends.carol, "forward", "8000", "bob:8080"):
            with ends.goes_on(ends.bob, "serve", "8080", "--to", "80") as served:
                curl = ends.carol.host.start("curl", "--silent", "--show-error", *words)
                until(lambda: path.exists() and path.stat().st_size > 0, "something came")
                served.popen.kill()
                assert curl.popen.wait(20) in PARTIAL
            with ends.goes_on(ends.bob, "serve", "8080", "--to", "80"):
                assert ends.curl(ends.carol, *words).code == 0
        assert path.read_bytes() == DATA

    def test_tls_of_openssl_goes_through_it(self, ends: Ends) -> None:
        pem = str(ends.web._directory / "server.pem")
        server = ends.bob.host.start("openssl", "s_server", "-accept", "4433", "-cert", pem, "-key", pem, "-rev")
        server.wait_for("ACCEPT")
        client = "openssl s_client -connect 127.0.0.1:8000 -servername bob -verify_return_error -verify_hostname bob"
        with (
            ends.goes_on(ends.bob, "serve", "8445", "--to", "127.0.0.1:4433"),
            ends.goes_on(ends.carol, "forward", "8000", "bob:8445"),
        ):
            said = ends.carol.host.run(
                "sh", "-c", rf"printf 'desrever\nCLOSE\n' | {client} -CAfile {ends.web.roots} -quiet"
            )
        assert "reversed" in said
        server.stop()

    def test_tls_that_ends_at_the_port(self, ends: Ends, nginx: Process) -> None:
        pem = str(ends.web._directory / "server.pem")
        roots = ends.daemon.directory / "roots.pem"
        shutil.copyfile(ends.web.roots, roots)
        roots.chmod(0o644)
        with ends.goes_on(ends.bob, "serve", "8444", "--to", "80", "--cert", pem):
            got = ends.daemon.weft(
                "fetch", "https://bob:8444/disk.img", "--ca", str(STATE / "roots.pem"), "-o", str(STATE / "got")
            )
            assert got
            done = ends.outcome(ends.carol, "fetch", "https://bob:8444/disk.img")
            assert "its certificate is not trusted" in done.err
        assert (ends.daemon.directory / "got").read_bytes() == DATA

    def test_nobody_there_is_a_reset_and_a_line(self, ends: Ends) -> None:
        with ends.goes_on(ends.carol, "forward", "8000", "bob:81") as forwarded:
            for _ in range(30):
                assert ends.curl(ends.carol, "http://127.0.0.1:8000/").code in RESET
            forwarded.wait_for("bob port 81: connection refused")
            assert forwarded.output().count("\n") < 20

    @pytest.mark.parametrize("words", [("serve", "8080", "--to", "80"), ("forward", "127.0.0.1:8000", "carol:80")])
    def test_port_that_is_taken_is_one_line(self, ends: Ends, words: tuple[str, ...]) -> None:
        place = "port 8080" if words[0] == "serve" else "127.0.0.1 port 8000"
        with ends.goes_on(ends.bob, *words):
            assert ends.outcome(ends.bob, *words) == (1, "", f"weft: {place}: address already in use\n")
        with ends.goes_on(ends.bob, *words) as again:
            assert again.stop(signal.SIGTERM) == 0

    def test_port_that_is_taken_in_the_stack_is_one_line(self, ends: Ends) -> None:
        with ends.goes_on(ends.carol, "serve", "8080"):
            assert ends.outcome(ends.carol, "serve", "8080") == (1, "", "weft: port 8080: address already in use\n")

    def test_firewall_that_lets_nobody_in_is_told(self, ends: Ends) -> None:
        ends.bob.weft("fc00", "deny", *EVERYTHING)
        try:
            with ends.goes_on(ends.bob, "serve", "8080") as served:
                assert "open for nobody yet: `weft fc00 allow /tcp/8080` lets others in;" in served.output()
            ends.bob.weft("fc00", "allow", "/tcp/8080", "--from", "carol")
            with ends.goes_on(ends.bob, "serve", "8080") as served:
                assert "port 8080 is open for carol; it leads to 127.0.0.1 port 8080" in served.output()
        finally:
            ends.bob.weft("fc00", "allow", *EVERYTHING)


class TestFolder:
    def test_curl_over_tls(self, ends: Ends) -> None:
        with ends.goes_on(ends.carol, "serve", "8443", "--tls", "--dir", str(STATE / "files")) as served:
            line = served.output()
            url = f"https://[{ends.carol.address}]:8443"
            assert f"port 8443 is open for everybody; {STATE}/files is at {url}/; its certificate is {STATE}/" in line
            sha256 = re.findall(r"sha256 ([0-9A-F:]{95})$", line, re.MULTILINE)
            shown = ends.bob.outcome("tls", "carol:8443")
            assert f"sha256  {sha256[0]}\n" in shown.out
            openssl = f"openssl s_client -connect [{ends.carol.address}]:8443 </dev/null"
            said = ends.bob.host.run("sh", "-c", f"{openssl} | openssl x509 -noout -fingerprint -sha256")
            assert said.strip().endswith(f"={sha256[0]}")
            trusted = "--cacert", str(ends.daemon.directory / "serve_cert.pem")
            assert ends.digest(ends.bob, *trusted, f"{url}/disk.img") == SHA256
            assert ends.curl(ends.bob, f"{url}/disk.img").code == NOT_TRUSTED
            page = ends.curl(ends.bob, *trusted, f"{url}/").out
            assert f'<a href="./disk.img">disk.img</a></td><td>{SIZE}</td>' in page
            head = ends.curl(ends.bob, *trusted, "--head", f"{url}/disk.img").out
            assert f"\nContent-Length: {SIZE}\n" in head
            part = ends.curl(ends.bob, *trusted, "--range", "5-9", f"{url}/disk.img", "--output", "/dev/null", "-v")
            assert "206 Partial Content" in part.err
            assert served.stop(signal.SIGTERM) == 0
        with ends.goes_on(ends.carol, "serve", "8443", "--tls", "--dir", str(STATE / "files")) as served:
            assert sha256[0] in served.output()

    def test_server_that_goes_in_the_middle(self, ends: Ends) -> None:
        path = ends.work / "middle.img"
        words = "curl", "--silent", "--limit-rate", "4M", "--continue-at", "-", "--output", str(path)
        url = f"http://[{ends.carol.address}]:8080/disk.img"
        serve = "serve", "8080", "--dir", str(STATE / "files")
        with ends.goes_on(ends.carol, *serve) as served:
            curl = ends.bob.host.start(*words, url)
            until(lambda: path.exists() and path.stat().st_size > 0, "something came")
            served.popen.kill()
            assert curl.popen.wait(20) in PARTIAL
            assert 0 < path.stat().st_size < SIZE
        with ends.goes_on(ends.carol, *serve):
            assert ends.bob.host.outcome(*words, url).code == 0
        assert path.read_bytes() == DATA

    def test_nothing_leads_out_of_it(self, ends: Ends) -> None:
        (ends.daemon.directory / "secret").write_text("secret")
        root = ends.files / "tree"
        (root / "inner").mkdir(parents=True)
        (root / "inner" / "file").write_text("inner")
        links = {"out": "../../secret", "away": str(STATE / "secret"), "up": "../..", "in": "inner/file", "etc": "/etc"}
        for name, target in links.items():
            (root / name).symlink_to(target)
        os.mkfifo(root / "pipe")
        self._own_all(ends, root)
        url = f"http://[{ends.carol.address}]:8080"
        with ends.goes_on(ends.carol, "serve", "8080", "--dir", str(STATE / "files" / "tree")):

            def status(path: str) -> str:
                words = "--path-as-is", "--write-out", "%{http_code}", "--output", str(ends.work / "out")
                return ends.curl(ends.bob, *words, f"{url}/{path}").out

            assert status("in") == "200"
            assert (ends.work / "out").read_text() == "inner"
            for path in ("out", "away", "up/secret", "etc/hostname", "pipe"):
                assert status(path) == "403", path
            for path in ("../../secret", "..%2f..%2fsecret", "%2e%2e/%2e%2e/secret", "inner/../../../secret"):
                assert status(path) == "404", path
            assert "secret" not in (ends.work / "out").read_text()

    def test_what_can_not_be_read_is_told_at_both_ends(self, ends: Ends) -> None:
        root = ends.files / "closed"
        (root / "folder").mkdir(parents=True)
        (root / "file").write_text("secret")
        self._own_all(ends, root)
        for path in (root / "folder", root / "file"):
            path.chmod(0)
        url = f"http://[{ends.carol.address}]:8080"
        with ends.goes_on(ends.carol, "serve", "8080", "--dir", str(STATE / "files" / "closed")) as served:
            for path in ("file", "folder/"):
                assert ends.curl(ends.bob, "--write-out", "%{http_code}", f"{url}/{path}").out == "Forbidden\n403"
                served.wait_for(f"/{path}: Permission denied")
        root.chmod(0)
        done = ends.outcome(ends.carol, "serve", "8080", "--dir", str(STATE / "files" / "closed"))
        assert done == (1, "", f"weft: {STATE}/files/closed: Permission denied\n")
        root.chmod(0o700)
        shutil.rmtree(root)

    def test_key_of_the_node_is_served_to_nobody(self, ends: Ends) -> None:
        done = ends.outcome(ends.carol, "serve", "8080", "--dir", str(STATE))
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"weft: {STATE} is the node's directory, with its key; which node is meant says")
        url = f"http://[{ends.carol.address}]:8080"
        with ends.goes_on(ends.carol, "serve", "8080", "--dir", str(STATE.parent)):
            for path in ("weft/", "weft/weft.key", "weft/files/disk.img"):
                assert ends.curl(ends.bob, "--write-out", "%{http_code}", f"{url}/{path}").out == "Forbidden\n403"

    def _own_all(self, ends: Ends, root: Path) -> None:
        ends.own(root, *(path for path in root.rglob("*") if not path.is_symlink()))


class TestNc:
    def test_file_goes_from_one_to_the_other(self, ends: Ends) -> None:
        got = ends.daemon.directory / "got.nc"
        source = ends.web.files / "disk.img"
        listen = " ".join(ends.daemon._words("nc", "-l", "9000"))
        listener = ends.carol.host.start("sh", "-c", f"exec {listen} > {got} < /dev/null")
        listener.wait_for("port 9000 is open for everybody")
        send = " ".join(ends.bob.command("nc", "carol", "9000"))
        assert ends.bob.host.outcome("sh", "-c", f"{send} < {source}") == (0, "", "")
        assert listener.popen.wait(10) == 0
        assert got.read_bytes() == DATA

    def test_pipes_carry_both_ways_at_once(self, ends: Ends) -> None:
        source = ends.web.files / "disk.img"
        listen = " ".join(ends.bob.command("nc", "-l", "9000"))
        listener = ends.bob.host.start("bash", "-c", f"cat {source} | {listen} | sha256sum")
        listener.wait_for("port 9000 is open")
        shutil.copyfile(source, ends.daemon.directory / "source")
        connect = " ".join(ends.daemon._words("nc", "bob", "9000"))
        said = ends.carol.host.run("bash", "-c", f"cat {ends.daemon.directory}/source | {connect} | sha256sum")
        assert said.split()[0] == SHA256
        assert SHA256 in listener.wait_for(SHA256)
        assert listener.popen.wait(10) == 0

    def test_nginx_answers_it(self, ends: Ends, nginx: Process) -> None:
        connect = " ".join(ends.daemon._words("nc", "bob", "80"))
        said = ends.carol.host.outcome("sh", "-c", rf"printf 'HEAD /disk.img HTTP/1.0\r\n\r\n' | {connect}")
        assert said.code == 0
        assert f"Content-Length: {SIZE}" in said.out

    def test_nobody_there_is_one_line(self, ends: Ends) -> None:
        assert ends.outcome(ends.carol, "nc", "bob", "81") == (1, "", "weft: bob port 81: connection refused\n")

    def test_who_breaks_off_is_told(self, ends: Ends) -> None:
        listener = ends.bob.start("nc", "-l", "9000")
        listener.wait_for("is open for")
        client = ends.carol.host.start(*ends.daemon._words("nc", "bob", "9000"))
        assert client.popen.stdin
        client.popen.stdin.write(b"hello\n")
        client.popen.stdin.flush()
        listener.wait_for("hello")
        client.popen.kill()
        assert listener.popen.wait(10) == 1
        assert "weft: port 9000: connection reset by peer\n" in listener.output()
