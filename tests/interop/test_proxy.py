"""`weft proxy` between programs that know proxies and servers that know nothing of it.

On alice curl, OpenBSD's netcat, and Dante's client, which puts SOCKS5 under any program; on bob nginx, dnsmasq and
sshd. Alice's node has a TUN, or else no right at all and the network inside it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator

import msgspec
import pytest

from tests.interop.conftest import DISK
from tests.interop.ends import WITHOUT_RIGHTS, Ends
from tests.interop.openssh import OpenSsh, start_sshd
from tests.system.node import Node
from tests.system.process import Outcome, Process
from tests.system.waiting import until
from tests.system.web import Web
from weft.engine.status import Info

pytestmark = [
    pytest.mark.system,
    pytest.mark.interop("nginx", "curl", "dnsmasq", "socksify", "ssh", "sshd", "nc.openbsd", "setpriv"),
    pytest.mark.timeout(120),
]

SHA256 = hashlib.sha256(DISK).hexdigest()
PORT = 1080
SOCKS_FAILED, HTTP_FAILED = 97, 22
PARTIAL, RESET = 18, 56
"""What curl ends with."""

DANTE = """
resolveprotocol: fake
route {
  from: 0.0.0.0/0 to: 0.0.0.0/0 via: 127.0.0.1 port = 1080
  protocol: tcp udp
  proxyprotocol: socks_v5
  method: none
}
"""
ASK = """
import socket, sys, dns.message
where, name = sys.argv[1:]
query = dns.message.make_query(name, "A")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(10)
    sock.sendto(query.to_wire(), (socket.gethostbyname(where), 53))
    answer = dns.message.from_wire(sock.recv(4096))
assert query.is_response(answer)
print(*(record.address for record in answer.answer[0]))
"""


class Rootless(Node):
    """A node whose commands and whose daemon have no right at all, and so are processes that begin without."""

    def command(self, *arguments: str, **environment: str) -> list[str]:
        return [*WITHOUT_RIGHTS, *super().command(*arguments, **environment)]

    def outcome(self, *arguments: str, **environment: str) -> Outcome:
        return self.host.outcome(*self.command(*arguments, **environment))

    def up(self, *allow: str, **environment: str) -> None:
        said = self.host.run(*self.command("up", "--json", **environment))
        self.info = msgspec.json.decode(said, type=Info)
        if allow:
            self.allow(*allow)


@pytest.fixture(scope="module")
def nginx(web: Web) -> Process:
    return web.start()


@pytest.fixture(scope="module")
def dns(ends: Ends) -> Process:
    """dnsmasq on bob, at his address in the network."""
    return ends.bob.start(
        *("dnsmasq", "--no-daemon", "--user=root", "--no-resolv", "--no-hosts", "--conf-file=/dev/null"),
        *(f"--listen-address={ends.pair.bob.address}", "--bind-interfaces", "--address=/loom.example/192.0.2.7"),
    )


@pytest.fixture(scope="module")
def sshd(ends: Ends) -> OpenSsh:
    """OpenSSH's server on bob."""
    server = OpenSsh(ends.pair.lab.directory("sshd"))
    server.folder.chmod(0o755)
    start_sshd(ends.bob, server, f"[{ends.pair.bob.address}]:2222", account="weaver")
    return server


@pytest.fixture(scope="module", params=["tun", "stack"])
def node(ends: Ends, request: pytest.FixtureRequest) -> Node:
    """Of alice."""
    return ends.alice if request.param == "tun" else ends.without_tun(Rootless)


@pytest.fixture(scope="module")
def proxy(node: Node) -> Iterator[Process]:
    process = running(node)
    yield process
    assert process.stop() == 0, process.output()


def running(node: Node, *words: str) -> Process:
    process = node.host.start(*node.command("proxy", *words), name="weft proxy")
    process.wait_for("proxy for the network on")
    return process


def curl(ends: Ends, *words: str) -> Outcome:
    return ends.alice.host.outcome("curl", "--silent", "--show-error", "--fail", "--max-time", "30", *words)


@pytest.fixture
def under_socks(ends: Ends) -> list[str]:
    """What stands before a program that is to use the proxy and does not know it."""
    config = ends.directory / "dante.conf"
    config.write_text(DANTE)
    return ["env", f"SOCKS_CONF={config}", "LD_PRELOAD=libdsocksd.so.0"]


SOCKS = ["--proxy", f"socks5h://127.0.0.1:{PORT}"]
SOCKS_BY_ADDRESS = ["--proxy", f"socks5://127.0.0.1:{PORT}"]
HTTP = ["--proxy", f"http://127.0.0.1:{PORT}"]
TUNNEL = [*HTTP, "--proxytunnel"]


@pytest.mark.usefixtures("proxy", "nginx")
class TestCurl:
    @pytest.mark.parametrize("way", [SOCKS, HTTP, TUNNEL], ids=["socks", "http", "tunnel"])
    def test_file_by_each_name(self, ends: Ends, way: list[str]) -> None:
        for host in ("bob", "bob.weft", ends.pair.bob.id, f"[{ends.pair.bob.address}]"):
            file = ends.directory / "curled"
            done = curl(ends, *way, f"http://{host}/disk.img", "--output", str(file))
            assert done.code == 0, done.err
            assert hashlib.sha256(file.read_bytes()).hexdigest() == SHA256

    def test_by_address(self, ends: Ends) -> None:
        assert curl(ends, *SOCKS_BY_ADDRESS, f"http://[{ends.pair.bob.address}]/notes.txt").out == "hello\n"

    @pytest.mark.parametrize("way", [SOCKS, HTTP], ids=["socks", "http"])
    def test_tls_is_between_the_two(self, ends: Ends, web: Web, way: list[str]) -> None:
        done = curl(ends, *way, "--cacert", str(web.roots), *(["https://bob/notes.txt"] * 2))
        assert done == (0, "hello\nhello\n", "")

    def test_requests_over_one_proxy_go_to_different_servers(self, ends: Ends) -> None:
        done = curl(ends, *HTTP, "http://bob/notes.txt", f"http://[{ends.pair.bob.address}]/notes.txt")
        assert done == (0, "hello\nhello\n", "")

    @pytest.mark.parametrize(
        ("way", "code", "said"),
        [(SOCKS, SOCKS_FAILED, "(5)"), (HTTP, HTTP_FAILED, "502"), (TUNNEL, HTTP_FAILED, "502")],
    )
    def test_port_that_is_closed(self, ends: Ends, way: list[str], code: int, said: str) -> None:
        done = curl(ends, *way, "http://bob:81/")
        assert (done.code, done.out) == (code, "")
        assert said in done.err

    def test_name_that_nobody_has(self, ends: Ends) -> None:
        done = curl(ends, *SOCKS, "http://nobody.weft/")
        assert (done.code, "(4)" in done.err) == (SOCKS_FAILED, True)

    def test_machine_beside_the_network_is_not_reached(self, ends: Ends) -> None:
        beside = [f"http://{ends.pair.right.ip4}/notes.txt", f"http://[{ends.pair.right.ip6}]/notes.txt"]
        own = "http://127.0.0.1/"
        # It is there, for everybody but the proxy.
        assert curl(ends, *beside).out == "hello\nhello\n"
        for url in (*beside, own):
            seen = curl(ends, *SOCKS_BY_ADDRESS, url)
            assert (seen.code, "(3)" in seen.err) == (SOCKS_FAILED, True)
            assert "502" in curl(ends, *HTTP, url).err

    def test_server_that_goes_in_the_middle(self, ends: Ends, web: Web) -> None:
        other = Web(ends.bob, ends.pair.lab.directory(f"web-{os.urandom(2).hex()}"), "bob")
        config = (web_config := other.files.parent / "nginx.conf").read_text()
        web_config.write_text(
            config.replace("[::]:80 ", "[::]:82 ").replace("[::]:443", "[::]:444").replace("[::]:8443", "[::]:8444")
        )
        (other.files / "disk.img").write_bytes(DISK)
        server = other.start()
        file = ends.directory / "broken"
        file.unlink(missing_ok=True)
        words = ["curl", "--silent", "--show-error", "--output", str(file), *SOCKS, "http://bob:82/slow/disk.img"]
        download = ends.alice.host.start(*words)
        until(lambda: file.exists() and file.stat().st_size > 0, "something came")
        server.popen.kill()
        assert download.popen.wait(20) in {PARTIAL, RESET}
        assert 0 < file.stat().st_size < len(DISK)


@pytest.mark.usefixtures("proxy", "nginx", "dns")
class TestDante:
    def test_tcp(self, ends: Ends, under_socks: list[str]) -> None:
        said = ends.alice.host.run(*under_socks, "curl", "--silent", "--ipv4", "http://bob.weft/notes.txt")
        assert said == "hello\n"

    def test_udp(self, ends: Ends, under_socks: list[str]) -> None:
        asking = [*under_socks, sys.executable, "-c", ASK]
        assert ends.alice.host.run(*asking, "bob.weft", "loom.example") == "192.0.2.7\n"


@pytest.mark.usefixtures("proxy")
@pytest.mark.parametrize("way", ["5", "connect"], ids=["socks", "http"])
def test_ssh_by_netcat(ends: Ends, sshd: OpenSsh, way: str) -> None:
    options = {
        "ProxyCommand": f"nc.openbsd -X {way} -x 127.0.0.1:{PORT} %h %p",
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": str(sshd.folder / "known"),
        "LogLevel": "ERROR",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    done = ends.alice.host.outcome(
        *("ssh", "-F", "none", *words, "-i", str(sshd.user_key), "-p", "2222", "bob.weft", "echo in; exit 7")
    )
    assert (done.code, done.out, done.err) == (7, "in\n", "")


@pytest.mark.parametrize("end", [("down",), ("fc00", "stop")], ids=" ".join)
def test_it_ends_with_the_network(ends: Ends, end: tuple[str, ...]) -> None:
    node = ends.without_tun(Rootless, f"to-{end[0]}", 1314)
    process = running(node, "--listen", "1090")
    node.weft(*end)
    assert process.popen.wait(10) == 1
    said = process.output().splitlines()[-1]
    assert said == "weft: the network has ended: its daemon or its interface went down"
