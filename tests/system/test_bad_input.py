"""What a person, a program or a stranger gets wrong: one clear line or a counted drop, and the daemon goes on."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import pytest

from tests.system.fuzzing import Ear, Voice, hostile_datagrams
from tests.system.lab import Lab
from tests.system.node import PORT, Node, Trio
from tests.system.process import Outcome
from tests.system.traffic import MB, transfer
from tests.system.waiting import until

pytestmark = pytest.mark.system

WITHOUT_NET_ADMIN = ("setpriv", "--bounding-set", "-net_admin")


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A node that is up, alone with its host."""
    with Lab() as lab:
        host = lab.host("alice")
        lab.veth(host, lab.host("bob"))
        node = Node(host, lab.directory("node"))
        node.up()
        yield node


@pytest.fixture
def other(node: Node) -> Node:
    """Another node of the same host, that does not run."""
    return Node(node.host, node.host.lab.directory(f"other{random.randrange(10**6)}"))


def one_line(outcome: Outcome, code: int, *words: str) -> str:
    """Check that a command failed with one clear line, which has these words in it."""
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (code, "", 1), outcome
    assert outcome.err.startswith("weft: ")
    for word in words:
        assert word in outcome.err, (word, outcome.err)
    return outcome.err


def test_busy_port_is_one_line(node: Node, other: Node) -> None:
    one_line(other.outcome("up"), 1, f"can't listen on UDP 0.0.0.0:{PORT}", "in use")
    one_line(other.outcome("daemon"), 1, f"can't listen on UDP 0.0.0.0:{PORT}", "in use")
    assert not (other.directory / "api.sock").exists()
    assert node.weft("info")


def test_second_daemon_on_a_directory_is_one_line(node: Node) -> None:
    said = one_line(node.outcome("daemon"), 1, str(node.directory))
    assert str(node.info.pid) in said
    assert node.weft("fc00", "status").startswith("weft0 is up")


def test_interface_without_permission_is_one_line_and_the_daemon_runs(lab: Lab) -> None:
    host = lab.host("alice")
    node = Node(host, lab.directory("node"))
    up = host.outcome(*WITHOUT_NET_ADMIN, *node.command("up"))
    assert up.code == 0
    assert up.out.startswith("weft is up: fc")
    assert up.err.count("\n") == 1
    assert up.err.startswith("weft: no TUN: ")
    assert "needs root or CAP_NET_ADMIN" in up.err
    assert node.weft("fc00", "status").startswith("the stack is up")
    node.weft("fc00", "stop")
    assert node.weft("fc00", "status") == "no interface\n"
    node.weft("config", "set", "fc00.device", "tun")
    start = host.outcome(*WITHOUT_NET_ADMIN, *node.command("fc00", "start"))
    one_line(start, 1, "needs root or CAP_NET_ADMIN")
    assert "weft0" not in host.ip("link")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[peer\n", ("not valid TOML", "line 1")),
        ("[peer]\nlisten = 7\n", ("peer.listen", "line 2")),
        ('[peer]\nlisten = ["/ip4/0.0.0.0/tcp/1"]\n', ("peer.listen", "line 2")),
        ('[peer]\nacept = "any"\n', ("peer.acept", "did you mean accept", "line 2")),
        ('[peer]\naccept = "some"\n', ("peer.accept", "line 2")),
        ('[fc00]\nifname = "much-too-long-a-name"\n', ("fc00.ifname", "line 2")),
    ],
)
def test_broken_configuration_is_one_line_with_its_place(other: Node, text: str, words: tuple[str, ...]) -> None:
    (other.directory / "weft.toml").write_text(text)
    one_line(other.outcome("daemon"), 2, str(other.directory / "weft.toml"), *words)


def test_broken_configuration_is_one_line_of_up_too(other: Node) -> None:
    (other.directory / "weft.toml").write_text("listen")
    one_line(other.outcome("up"), 1, "the daemon did not start", str(other.directory / "weft.toml"), "daemon.log")


def test_secret_files_that_are_missing_or_that_others_can_read_are_refused(other: Node) -> None:
    other.weft("init")
    (other.directory / "weft.toml").write_text('[network]\nsecret_file = "a.secret"\n')
    one_line(other.outcome("daemon"), 1, str(other.directory / "a.secret"), "network.secret_file: does not exist")
    (other.directory / "a.secret").write_text("a secret that is long enough")
    (other.directory / "a.secret").chmod(0o644)
    one_line(other.outcome("daemon"), 1, str(other.directory / "a.secret"))
    (other.directory / "key").chmod(0o644)
    one_line(other.outcome("daemon"), 1, str(other.directory / "key"))


def test_wrong_targets_and_unknown_peers_are_one_line(node: Node) -> None:
    own = node.multiaddr(node.host.interfaces[0])
    for multiaddr in (
        "192.0.2.1:1312",
        "/ip4/192.0.2.1/udp/1312",
        "/ip4/192.0.2/udp/1312/p2p/" + node.id,
        "/ip4/192.0.2.1/tcp/1312/ws/p2p/" + node.id,
        "/ip4/192.0.2.1/udp/70000/p2p/" + node.id,
        "/ip4/192.0.2.1/udp/1312/p2p/12D3KooWnot",
        f"/ip6/{node.address}/udp/1312/p2p/{node.id}",
        own,
    ):
        one_line(node.outcome("peer", "connect", multiaddr), 2)
    for command in (("ping", "nobody"), ("ping", "fc00::7"), ("peer", "disconnect", "nobody")):
        one_line(node.outcome(*command), 2, "no peer")
    one_line(node.outcome("task", "restart", "nothing"), 2)
    assert node.peers() == []


def test_other_owner_of_the_prefix_is_one_line_and_keeps_it(lab: Lab) -> None:
    host = lab.host("alice")
    lab.veth(host, lab.host("bob"))
    host.ip("-6", "route", "add", "fc00::/8", "dev", "eth0")
    node = Node(host, lab.directory("node"))
    up = node.outcome("up")
    assert (up.code, up.err.count("\n")) == (1, 1)
    assert "eth0 has the route fc00::/8 already" in up.err
    one_line(node.outcome("fc00", "start"), 2, "eth0 has the route fc00::/8 already")
    assert "fc00::/8 dev eth0" in host.ip("-6", "route")
    assert "weft0" not in host.ip("link")
    host.ip("-6", "route", "del", "fc00::/8", "dev", "eth0")
    assert node.weft("fc00", "start").startswith("weft0 is up")


API_GARBAGE = [
    b"",
    b"\0" * 5000,
    b"GET\r\n\r\n",
    b"GET /v0/info HTTP/1.1\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /v0/info HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    b"BREW /v0/info HTTP/1.1\r\n\r\n",
    b"POST /v0/peer/connect HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\n{",
    b"POST /v0/peer/connect HTTP/1.1\r\nContent-Length: -1\r\n\r\n{}",
    b"POST /v0/peer/connect HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n[[[[[[[[[",
    b'POST /v0/fc00/allow HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"rules":42}',
    b"POST /v0/task/restart HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
]


def test_garbage_on_the_api_socket_disturbs_nobody(node: Node) -> None:
    chance = random.Random(1312)
    before = node.status()
    garbage = [*API_GARBAGE, *(chance.randbytes(chance.randrange(1, 3000)) for _ in range(100))]
    held: list[socket.socket] = []
    for data in garbage:
        client = socket.socket(socket.AF_UNIX)
        held.append(client)
        client.settimeout(5)
        client.connect(str(node.directory / "api.sock"))
        try:
            client.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            continue
    # All of them are still open, and the daemon has time for others.
    assert node.weft("info")
    for client in held:
        client.close()
    after = node.status()
    assert after.info.pid == before.info.pid
    assert after.tasks == before.tasks
    assert node.weft("fc00", "ports") == "all else that comes in is rejected\n"
    assert "Traceback" not in (node.directory / "daemon.log").read_text()


def test_ten_thousand_hostile_datagrams_are_counted_and_disturb_nobody(trio: Trio) -> None:
    alice, bob = trio.alice, trio.bob
    (end,) = bob.host.interfaces
    before = bob.status()
    with (
        closing(Ear(end)) as ear,
        closing(Voice(alice.host, end.ip4)) as voice,
    ):
        transfer(bob.host, alice.host, alice.address, 1 * MB)
        bob.host.ping(alice.address, count=30, interval_s=0.002)
        genuine = ear.hear(40)
        assert {datagram[0] for datagram in genuine} == {4, 5}
        chance = random.Random(1312)
        for number, datagram in enumerate(islice(hostile_datagrams(chance, genuine), 10_000)):
            voice.say(datagram, as_weft=number % 4 == 0)
            if number % 2_500 == 0:
                transfer(bob.host, alice.host, alice.address, 1 * MB)
    transfer(bob.host, alice.host, alice.address, 5 * MB)
    after = bob.status()
    assert after.info.pid == before.info.pid
    assert after.tasks == before.tasks
    counted = sum(after.drops.values()) - sum(before.drops.values())
    assert counted > 5_000, after.drops
    for reason in ("unknown", "handshake: size", "data: bad tag", "burst: bad tag", "burst: undecodable"):
        assert after.drops.get(reason, 0) > before.drops.get(reason, 0), (reason, after.drops)
    assert "Traceback" not in (bob.directory / "daemon.log").read_text()
    assert bob.peer().endpoint == f"{alice.host.interfaces[0].ip4}:{PORT}"
    until(lambda: bob.peer().mode == alice.peer(bob).mode == "burst", "there are bursts again", 30)
