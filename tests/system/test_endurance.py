"""What a daemon holds after much and after long: no more memory, descriptors, threads or tasks than before."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.lab import Lab
from tests.system.node import Node, at_once, connected_pair
from tests.system.traffic import Echo, flowing, socket_of
from tests.system.waiting import until
from weft.api.v0 import fc00 as fc00_api
from weft.api.v0 import node as node_api
from weft.api.v0 import peer as peer_api

pytestmark = [pytest.mark.system, pytest.mark.timeout(4200)]

MB = 1_000_000
KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
SETTLE_S = 2


@dataclass(frozen=True)
class Holdings:
    """What a process holds."""

    memory: int
    """RSS, bytes."""
    descriptors: int
    threads: int
    tasks: int
    """Of the event loop."""


def holdings(node: Node) -> Holdings:
    process = Path(f"/proc/{node.info.pid}")
    fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    # Before the metrics are asked for: the connection that brings them closes at the daemon's leisure.
    descriptors = len(list((process / "fd").iterdir()))
    metrics = node.host.run("curl", "-s", "--unix-socket", str(node.client.socket), "http://weft/metrics")
    (tasks,) = (line.split()[1] for line in metrics.splitlines() if line.startswith("weft_event_loop_tasks "))
    return Holdings(
        memory=int(fields["VmRSS"].split()[0]) * 1024,
        descriptors=descriptors,
        threads=int(fields["Threads"]),
        tasks=int(float(tasks)),
    )


def settled_holdings(node: Node) -> Holdings:
    """As `holdings`, once what is under way is over: the lowest of a few samples."""
    samples = []
    for _ in range(4):
        time.sleep(SETTLE_S / 4)
        samples.append(holdings(node))
    return Holdings(*(min(getattr(each, name) for each in samples) for name in Holdings.__annotations__))


def check_no_growth(before: Holdings, after: Holdings, *, memory: int) -> None:
    assert after.descriptors <= before.descriptors, (before, after)
    # The threads of a pool come as they are needed, up to its bound.
    assert after.threads <= before.threads + 8, (before, after)
    assert after.tasks <= before.tasks, (before, after)
    assert after.memory <= before.memory + memory, (before, after)


@pytest.mark.parametrize("times", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_connects_and_disconnects_leave_nothing_behind(times: int) -> None:
    with connected_pair() as pair:
        target = peer_api.Connect(target=pair.bob.multiaddr(pair.right))
        whom = peer_api.Whom(peer=pair.bob.id)

        def turn(times: int) -> None:
            for _ in range(times):
                # A peer takes one handshake in 20 ms.
                time.sleep(0.03)
                pair.alice.client.call(peer_api.DISCONNECT, whom)
                reply = pair.alice.client.call(peer_api.CONNECT, target)
                assert reply.peer.state == "up"

        turn(50)
        before = at_once(settled_holdings, pair.alice, pair.bob)
        turn(times)
        for held, holds in zip(before, at_once(settled_holdings, pair.alice, pair.bob), strict=True):
            check_no_growth(held, holds, memory=3 * MB)
        assert until(pair.crosses, "a packet crosses after all")


@pytest.mark.parametrize("seconds", [12, pytest.param(3600, marks=pytest.mark.long)])
def test_daemon_under_load_holds_no_more_at_the_end(seconds: int) -> None:
    """Bulk both ways, small packets, changes, and somebody who looks at the metrics each second."""
    warm_up_s = seconds / 4
    with (
        connected_pair() as pair,
        flowing(pair.alice.host, pair.bob.host, pair.bob.address, pace=None) as flows,
        Echo(pair.bob.host, pair.bob.address) as echo,
        socket_of(pair.alice.host, pair.bob.address, socket.SOCK_DGRAM) as asker,
    ):
        nodes = pair.alice, pair.bob
        asker.settimeout(2)
        start, before, echoed = time.monotonic(), [], 0
        samples: list[list[Holdings]] = []
        while (passed := time.monotonic() - start) < seconds:
            rules = fc00_api.ChangePorts(rules=[f"/tcp/{2000 + int(passed) % 100}"])
            pair.bob.client.call(fc00_api.ALLOW, rules)
            pair.alice.client.call(node_api.STATUS)
            for number in range(50):
                asker.sendto(number.to_bytes(4, "big"), (pair.bob.address, echo.port))
                echoed += echo_came(asker)
            samples.append([holdings(node) for node in nodes])
            pair.bob.client.call(fc00_api.DENY, rules)
            if not before and passed > warm_up_s:
                before = samples[-1]
                samples.clear()
            time.sleep(0.5)
        assert before
        assert echoed > seconds
        for number, held in enumerate(before):
            last = samples[-max(3, len(samples) // 10) :]
            check_no_growth(
                held,
                Holdings(*(min(getattr(each[number], name) for each in last) for name in Holdings.__annotations__)),
                memory=4 * MB,
            )
        for node in nodes:
            assert not any(node.restarts().values())
    print(
        f"{sum(flow.received for flow in flows) / 1e9:.1f} GB crossed, {echoed} echoes, {before} and then {samples[-1]}"
    )


def echo_came(asker: socket.socket) -> bool:
    try:
        return bool(asker.recv(64))
    except TimeoutError:
        return False


@contextmanager
def small_disk(directory: Path, size_bytes: int) -> Iterator[None]:
    """A file system of its own for a directory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill(file: Path) -> None:
    """Write until there is no room left."""
    with file.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(4096))


def test_full_disk_refuses_each_change_in_one_line_and_changes_nothing(lab: Lab) -> None:
    host = lab.host("alice")
    directory = lab.directory("alice")
    with small_disk(directory, 512 * 1024):
        node = Node(host, directory)
        node.up("/tcp/22")
        node.weft("peer", "add-wireguard", KEY, "--name", "phone", "--allowed-ips", "10.7.0.2/32")
        filler = directory / "filler"
        fill(filler)
        before = (directory / "state.json").read_bytes()
        rules, peers = node.client.call(fc00_api.PORTS), node.peers()
        for words in (
            ("fc00", "allow", "/tcp/80"),
            ("fc00", "deny", "/tcp/22"),
            ("peer", "set", "phone", "--name", "tablet"),
            ("peer", "remove", "phone"),
            ("peer", "block", "phone"),
            ("peer", "disconnect", "phone"),
            ("config", "set", "peer.keepalive_s", "7"),
        ):
            code, out, err = node.outcome(*words)
            assert (code, out) == (1, ""), words
            assert err.count("\n") == 1
            assert "No space left" in err, words
        assert node.client.call(fc00_api.PORTS) == rules
        assert [(peer.name, peer.standing) for peer in node.peers()] == [(peer.name, peer.standing) for peer in peers]
        assert (directory / "state.json").read_bytes() == before
        filler.unlink()
        node.weft("fc00", "allow", "/tcp/80")
        node.kill()
        node.up()
        assert set(node.client.call(fc00_api.PORTS).allow) == {"/tcp/22", "/tcp/80"}
        node.down()
