"""A daemon without any rights, with an interface and sockets that somebody with more of them has opened for it."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.lab import Host, Interface, Lab
from tests.system.node import EVERYTHING, Node, Pair
from tests.system.nursery import outcome_of
from tests.system.process import Outcome
from tests.system.sandbox import STATE, USER
from tests.system.waiting import until
from weft.api.v0 import node as node_api
from weft.engine.initial import ensure_initialised

pytestmark = pytest.mark.system

WEFT = (sys.executable, "-m", "weft", "--dir", str(STATE))
KEY = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="


class Weak:
    """A node whose daemon is nobody, and may do nothing."""

    def __init__(self, host: Host, directory: Path, end: Interface) -> None:
        ensure_initialised(directory)
        for path in (directory, *directory.iterdir()):
            os.chown(path, USER, USER)
        self.host, self.end = host, end
        self.node = Node(host, directory)

    def words(self, *arguments: str, root: bool = False) -> list[str]:
        """A command of the daemon's user, or of root, with the daemon's view of the files."""
        sandbox = [sys.executable, "-m", "tests.system.sandbox", "root" if root else "-all"]
        return [*sandbox, str(self.node.directory), *WEFT, *arguments]

    def start(self) -> None:
        self.host.start(*self.words("daemon"), name="daemon").wait_for("ready;")
        self.node.info = self.node.client.call(node_api.INFO)
        self.node.allow(*EVERYTHING)

    def outcome(self, *arguments: str, root: bool = False) -> Outcome:
        if root:
            return self.host.outcome(*self.words(*arguments, root=True))
        return outcome_of(self.host, ["--dir", str(STATE), *arguments], {}, self.node.directory)

    def refused(self, *arguments: str, root: bool = False) -> str:
        """The one line with which a command fails."""
        done = self.outcome(*arguments, root=root)
        assert (done.out, done.err.count("\n")) == ("", 1), done
        assert done.code in {1, 2}
        return done.err

    def ip(self, command: str) -> None:
        self.host.ip(*command.split())

    def make_tun(self, *words: str, user: int = USER) -> None:
        """What somebody with rights does once."""
        self.ip(f"tuntap add weft0 mode tun user {user} {' '.join(words)}")
        self.ip(f"addr add {self.node.address}/128 dev weft0")
        self.ip("link set weft0 mtu 1352 up")
        self.ip("route add fc00::/8 dev weft0")


@pytest.fixture
def weak(lab: Lab) -> Iterator[Weak]:
    host = lab.host("alice")
    cable = lab.veth(host, lab.host("bob"))
    made = Weak(host, lab.directory("alice"), cable.left)
    made.start()
    yield made
    os.kill(made.node.info.pid, signal.SIGTERM)


def connected(lab: Lab, weak: Weak) -> Pair:
    """The node and another one, which calls it."""
    host = lab.hosts["bob"]
    bob = Node(host, lab.directory("bob"))
    bob.up(*EVERYTHING)
    bob.connect(weak.node, weak.end)
    return Pair(lab, weak.node, bob, weak.end, host.interfaces[0])


@pytest.mark.parametrize("kind", ["", "multi_queue vnet_hdr"])
def test_persistent_interface_is_used_as_it_is_and_left_in_place(lab: Lab, weak: Weak, kind: str) -> None:
    weak.make_tun(*kind.split())
    done = weak.outcome("fc00", "start", "--existing", "weft0")
    assert done.out == f"weft0 is up: {weak.node.address}, MTU 1352, offloads vnet_hdr csum tso4 tso6 uso\n", done
    pair = connected(lab, weak)
    assert pair.crosses()
    if kind == "":
        # The kernel makes larger super-packets for it than weft asks for.
        pair.transfer(8_000_000)
        assert weak.node.outcome("fc00", "stop").code == 0
        assert weak.node.address in weak.host.ip("addr", "show", "weft0")
        assert not pair.crosses()
        assert weak.outcome("fc00", "start", "--existing", "weft0").code == 0
        assert pair.crosses()


def test_interface_that_is_not_fit_is_one_line_that_says_what_to_do(weak: Weak) -> None:
    assert f"ip tuntap add dev weft0 mode tun user {user_name()}" in weak.refused(
        "fc00", "start", "--existing", "weft0"
    )
    assert "no TUN device" in weak.refused("fc00", "start", "--existing", "eth0")
    weak.ip(f"tuntap add weft0 mode tun user {USER}")
    address = weak.refused("fc00", "start", "--existing", "weft0")
    weak.ip(re.search(r"as root: ip (.*)\n", address)[1])
    down = weak.refused("fc00", "start", "--existing", "weft0")
    weak.ip(re.search(r"as root: ip (.*)\n", down)[1])
    assert weak.outcome("fc00", "start", "--existing", "weft0").code == 0
    assert "is up already, as weft0" in weak.refused("fc00", "start", "--existing", "tun9")
    weak.ip("tuntap add weft1 mode tun user 1")
    weak.ip("tuntap add weft2 mode tap user 65534")
    assert weak.node.outcome("fc00", "stop").code == 0
    assert "to be its owner" in weak.refused("fc00", "start", "--existing", "weft1")
    assert "no TUN device" in weak.refused("fc00", "start", "--existing", "weft2")
    assert weak.node.outcome("fc00", "status").out == "no interface\n"


def user_name() -> str:
    import pwd

    return pwd.getpwuid(USER).pw_name


def test_routes_that_the_daemon_may_not_add_are_left_to_whoever_may(weak: Weak) -> None:
    weak.make_tun()
    weak.ip("route add 10.8.0.0/24 dev weft0")
    weak.outcome("fc00", "start", "--existing", "weft0")
    added = weak.node.outcome("peer", "add-wireguard", KEY, "--name", "hub", "--allowed-ips", "10.8.0.0/24,10.9.0.0/24")
    assert added.code == 0, added
    log = weak.host.lab.processes[-1].output()
    assert "as root: ip route add 10.9.0.0/24 dev weft0" in log
    assert "10.8.0.0/24" not in log
    assert weak.node.outcome("peer", "disconnect", "hub").code == 0
    assert "10.8.0.0/24" in weak.host.ip("route")


def test_root_makes_the_interface_and_passes_it_to_the_daemon(lab: Lab, weak: Weak) -> None:
    weak.node.outcome("config", "set", "fc00.device", "tun")
    assert "needs root or CAP_NET_ADMIN" in weak.refused("fc00", "start")
    weak.node.outcome("peer", "add-wireguard", KEY, "--name", "hub", "--allowed-ips", "10.9.0.0/24")
    done = weak.outcome("fc00", "start", root=True)
    assert done == (0, f"weft0 is up: {weak.node.address}, MTU 1352, offloads vnet_hdr csum tso4 tso6 uso\n", "")
    assert "10.9.0.0/24 dev weft0" in weak.host.ip("route")
    pair = connected(lab, weak)
    assert pair.crosses()
    pair.transfer(2_000_000)
    assert weak.outcome("fc00", "start", root=True).code == 0
    assert not list(weak.node.directory.glob(".pass-*"))
    assert weak.node.outcome("fc00", "stop").code == 0
    until(lambda: "weft0" not in weak.host.ip("link"), "the interface is gone")


def test_routes_of_peers_alone_are_those_that_root_makes_for_the_daemon(weak: Weak) -> None:
    weak.node.outcome("config", "set", "fc00.routes", "peers")
    weak.node.outcome("peer", "add-wireguard", KEY, "--name", "hub", "--allowed-ips", "fc12:3456::/64,10.9.0.0/24")
    assert weak.outcome("fc00", "start", root=True).code == 0
    routes = weak.host.ip("-6", "route")
    assert "fc12:3456::/64 dev weft0" in routes
    assert "fc00::/8" not in routes
    assert "10.9.0.0/24 dev weft0" in weak.host.ip("route")
    # That the daemon can't do so itself is told once, for a thousand more may come.
    for number in (1, 2):
        assert weak.node.outcome("peer", "set", "hub", "--allowed-ips", f"fc12:3456::/64,fc78:{number}::/64").code == 0
    log = weak.host.lab.processes[-1].output()
    assert log.count("needs root or CAP_NET_ADMIN") == 1


OPEN = """
import fcntl, os, struct, subprocess, sys
name, flags, address, *command = sys.argv[1:]
fd = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), int(flags, 16)))
if address:
    subprocess.run(["ip", "addr", "add", address + "/128", "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
sys.exit(subprocess.run([*command, "--fd", str(fd)], pass_fds=[fd]).returncode)
"""


def test_descriptor_that_a_caller_has_open_is_passed(weak: Weak) -> None:
    def pass_one(flags: str, address: str = "") -> Outcome:
        words = weak.words("fc00", "start", root=True)
        # Within the sandbox of the command, so that the wrapper is what a person has.
        place = words.index(WEFT[0], 1)
        return weak.host.outcome(*words[:place], sys.executable, "-c", OPEN, "mine", flags, address, *words[place:])

    assert "is a TAP device" in pass_one("1002").err
    assert "packet information" in pass_one("0001").err
    assert "does not have this node's address" in pass_one("1001").err
    done = pass_one("1001", weak.node.address)
    assert (done.code, done.out) == (0, f"mine is up: {weak.node.address}, MTU 1500\n"), done
    assert "mine" in weak.host.ip("link")
    status = json.loads(weak.node.outcome("fc00", "status", "--json").out)
    assert (status["ifname"], status["offloads"]) == ("mine", [])


START = """
import fcntl, os, socket, struct, subprocess, sys
address, *command = sys.argv[1:]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 1312))
api = socket.socket(socket.AF_UNIX)
api.bind(command[command.index("--dir") + 1] + "/given.sock")
api.listen()
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"given0", 0x5001))
subprocess.run(["ip", "addr", "add", address + "/128", "dev", "given0"], check=True)
subprocess.run(["ip", "link", "set", "given0", "up"], check=True)
subprocess.run(["ip", "route", "add", "fc00::/8", "dev", "given0"], check=True)
copies = [fcntl.fcntl(each, fcntl.F_DUPFD, 20) for each in (udp.fileno(), api.fileno(), tun)]
for number, each in enumerate(copies, 3):
    os.dup2(each, number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "udp:api:tun"}
os.execvp(command[0], command)
"""


def test_daemon_takes_the_descriptors_that_systemd_passes(lab: Lab) -> None:
    host = lab.host("alice")
    cable = lab.veth(host, lab.host("bob"))
    node = Node(host, lab.directory("alice"))
    (node.directory / "weft.toml").write_text('[peer]\nlisten = ["/ip4/0.0.0.0/udp/1312"]\n')
    address = json.loads(host.run(*node.command("init", "--json")))["address"]
    process = host.start(sys.executable, "-c", START, address, *node.command("daemon")[1:], name="daemon")
    process.wait_for(f"ready; the API is at {node.directory}/given.sock")
    node.client.socket = node.directory / "given.sock"
    node.info = node.client.call(node_api.INFO)
    node.allow(*EVERYTHING)
    bob = Node(lab.hosts["bob"], lab.directory("bob"))
    bob.up(*EVERYTHING)
    bob.connect(node, cable.left)
    assert Pair(lab, node, bob, cable.left, cable.right).crosses()
    assert node.status().interface.ifname == "given0"
    assert process.stop() == 0
    assert (node.directory / "given.sock").exists()
