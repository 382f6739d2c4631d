"""The network or the daemons change under a running transfer: it goes on, and ends as it was sent."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest

from tests.system.lab import Interface
from tests.system.node import Family, Node, Pair, connected_pair
from tests.system.traffic import Flow, connected, flowing, socket_of, wait_until_all_go_on
from tests.system.waiting import until
from weft.api.v0 import task as task_api
from weft.api.v0.task import RestartTask
from weft.errors import UsageError

pytestmark = pytest.mark.system

MOVED_S = 3
"""So soon after a node moved who only receives, it has to get more."""
BACK_S = 5
"""So soon after a daemon was killed and started again, traffic has to flow."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with connected_pair() as pair:
        yield pair


def move(end: Interface, number: int, family: Family) -> str:
    """Give an interface another address instead of its own, as a laptop gets one elsewhere; returns it."""
    network, bits, words = ("10.77.1.", 24, []) if family == "IPv4" else ("fd77:1::", 64, ["nodad"])
    end.host.ip("addr", "flush", "dev", end.ifname, "scope", "global")
    end.host.ip("addr", "add", f"{network}{number}/{bits}", "dev", end.ifname, *words)
    return f"{network}{number}:1312" if family == "IPv4" else f"[{network}{number}]:1312"


def has_peer_at(node: Node, endpoint: str) -> bool:
    return node.peer().endpoint == endpoint


def was_restarted(node: Node, task: str, times: int) -> bool:
    return node.restarts()[task] == times


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_both_ends_move_one_after_the_other(family: Family) -> None:
    with connected_pair(family) as pair, flowing(pair.alice.host, pair.bob.host, pair.bob.address) as flows:
        for number in (11, 12):
            for end, there in ((pair.left, pair.bob), (pair.right, pair.alice)):
                wait_until_all_go_on(flows)
                endpoint = move(end, number + 10 * (there is pair.bob), family)
                wait_until_all_go_on(flows)
                until(partial(has_peer_at, there, endpoint), f"the peer is at {endpoint}")
        until(lambda: pair.alice.peer().mode == pair.bob.peer().mode == "burst", "there are bursts again")


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_receiver_of_a_transfer_one_way_moves_and_gets_the_rest_at_once(family: Family) -> None:
    with connected_pair(family) as pair, connected(pair.alice.host, pair.bob.host, pair.bob.address) as ends:
        flow = Flow(ends.client, ends.server)
        for number in (11, 12):
            wait_until_all_go_on((flow,))
            move(pair.right, number, family)
            wait_until_all_go_on((flow,), MOVED_S)
        flow.finish()


def test_receiver_of_datagrams_one_way_moves_and_gets_more_at_once() -> None:
    with (
        connected_pair() as pair,
        socket_of(pair.alice.host, pair.bob.address, socket.SOCK_DGRAM) as sender,
        socket_of(pair.bob.host, pair.bob.address, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind((pair.bob.address, 0))
        receiver.settimeout(0)
        sender.connect(receiver.getsockname())

        def arrives(endpoint: str = "") -> bool:
            sender.send(b"one way")
            with suppress(BlockingIOError):
                return bool(receiver.recv(100)) and (not endpoint or has_peer_at(pair.alice, endpoint))
            return False

        for number in (11, 12):
            until(arrives, "datagrams arrive")
            endpoint = move(pair.right, number, "IPv4")
            until(partial(arrives, endpoint), f"datagrams arrive at {endpoint}", MOVED_S)


@pytest.mark.parametrize("victim", ["alice", "bob"])
def test_killed_daemon_that_comes_back_goes_on_with_open_connections(pair: Pair, victim: str) -> None:
    node: Node = getattr(pair, victim)
    # What changed within the last second is lost with the process.
    until(lambda: pair.alice.remembers(pair.bob) and pair.bob.remembers(pair.alice), "both have stored the other")
    with flowing(pair.alice.host, pair.bob.host, pair.bob.address) as flows:
        wait_until_all_go_on(flows)
        killed_at = time.monotonic()
        node.kill()
        node.up()
        until(pair.crosses, "packets cross", BACK_S - (time.monotonic() - killed_at))
        wait_until_all_go_on(flows, 2 * BACK_S)


@pytest.mark.parametrize("victim", ["alice", "bob"])
def test_each_task_that_is_killed_starts_again(pair: Pair, victim: str) -> None:
    node: Node = getattr(pair, victim)
    before = node.restarts()
    assert {"peers", "store", "housekeeping", "tun", "udp/0.0.0.0/1312", "udp/::/1312"} <= set(before)
    with flowing(pair.alice.host, pair.bob.host, pair.bob.address) as flows:
        for name in before:
            node.client.call(task_api.RESTART, RestartTask(name=name))
            until(partial(was_restarted, node, name, before[name] + 1), f"{name} has started again")
            wait_until_all_go_on(flows)
    assert node.restarts() == {name: count + 1 for name, count in before.items()}
    shown = [line.split() for line in node.weft("task", "list").splitlines()]
    assert shown == [["TASK", "STATE", "RESTARTS"], *([name, "running", str(before[name] + 1)] for name in before)]
    assert node.status().session_restarts == 0


def test_task_that_keeps_dying_makes_the_session_anew(pair: Pair) -> None:
    def kill_and_see() -> bool:
        with suppress(UsageError):  # while the session is built there are no tasks, and no status
            status = pair.bob.status()
            if status.session_restarts:
                return True
            if any(task.name == "peers" and task.state == "running" for task in status.tasks):
                pair.bob.client.call(task_api.RESTART, RestartTask(name="peers"))
        return False

    with flowing(pair.alice.host, pair.bob.host, pair.bob.address) as flows:
        wait_until_all_go_on(flows)
        until(kill_and_see, "the session is built anew", 20)
        wait_until_all_go_on(flows, 20)
    assert set(pair.bob.restarts().values()) == {0}
