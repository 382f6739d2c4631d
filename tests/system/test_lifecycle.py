"""`up`, `down`, `fc00 start` and `fc00 stop` may be said twice, and leave nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.lab import Host, Lab
from tests.system.node import Node, at_once, pair_of
from tests.system.waiting import until
from weft.api.v0 import node as node_api
from weft.engine.status import Info

pytestmark = pytest.mark.system


@pytest.fixture
def node(lab: Lab) -> Node:
    host = lab.host("alice")
    lab.veth(host, lab.host("bob"))
    return Node(host, lab.directory("node"))


def traces(host: Host) -> dict[str, Any]:
    """What a node could leave in a host: interfaces, addresses, routes, rules, ports, processes."""
    return {
        "links": [link["ifname"] for link in json.loads(host.ip("-json", "link"))],
        "addresses": lines(host.ip("-oneline", "addr")),
        "routes": lines(
            host.ip("-4", "route", "show", "table", "all") + host.ip("-6", "route", "show", "table", "all")
        ),
        "rules": host.ip("-4", "rule") + host.ip("-6", "rule"),
        "ports": host.run("ss", "-Hlnu"),
        "processes": [pid for pid in host.run("ip", "netns", "pids", host.namespace).split() if is_python(pid)],
    }


def lines(said: str) -> list[str]:
    """Those that are not about what the host had from the beginning."""
    return [line for line in said.splitlines() if not re.search(r"\b(eth0|lo)\b", line)]


def info_of(node: Node) -> Info:
    return node.client.call(node_api.INFO)


def is_python(pid: str) -> bool:
    try:
        return "python" in os.readlink(f"/proc/{pid}/exe")
    except FileNotFoundError:
        return False


@pytest.fixture
def clean(node: Node) -> Iterator[None]:
    """What was in the host before is there afterwards, and nothing else."""
    before = traces(node.host)
    yield
    until(lambda: traces(node.host) == before, f"nothing is left but {before}", 5)
    assert not (node.directory / "api.sock").exists()


@pytest.mark.usefixtures("clean")
def test_up_and_down_said_twice_change_nothing_and_leave_nothing(node: Node) -> None:
    assert node.weft("down") == "weft is down already\n"
    first = node.weft("up")
    assert first == f"weft is up: {info_of(node).address} on weft0\n"
    pid = info_of(node).pid
    before = traces(node.host)
    assert "weft0" in before["links"]
    assert any(route.startswith("fc00::/8 dev weft0") for route in before["routes"])
    assert node.weft("up") == first
    assert info_of(node).pid == pid
    assert traces(node.host) == before
    assert node.weft("down") == "weft is down\n"
    assert node.weft("down") == "weft is down already\n"
    assert node.outcome("info").code == 1


@pytest.mark.usefixtures("clean")
def test_interface_started_and_stopped_twice_changes_nothing_and_leaves_nothing(node: Node) -> None:
    node.run_daemon()
    without = traces(node.host)
    assert "weft0" not in without["links"]
    said = node.weft("fc00", "start", "--ifname", "net7")
    assert said.startswith(f"net7 is up: {node.address}, MTU 1352")
    started = traces(node.host)
    assert node.weft("fc00", "start") == said
    refused = node.outcome("fc00", "start", "--ifname", "net8")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "net7" in refused.err
    assert traces(node.host) == started
    assert node.weft("fc00", "stop") == node.weft("fc00", "stop") == "no interface\n"
    assert traces(node.host) == without
    assert node.weft("fc00", "start").startswith("weft0 is up")
    node.down()


@pytest.mark.usefixtures("clean")
def test_several_who_bring_it_up_at_once_get_one_daemon(node: Node) -> None:
    node.weft("init")
    outcomes = at_once(lambda _: node.outcome("up"), *range(4))
    assert [outcome.code for outcome in outcomes] == [0] * 4, outcomes
    assert len({outcome.out for outcome in outcomes}) == 1
    until(lambda: len(traces(node.host)["processes"]) == 1, "those that came too late have ended")
    node.down()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("clean")
def test_signal_ends_the_daemon_and_leaves_nothing(node: Node, number: signal.Signals) -> None:
    node.up()
    os.kill(node.info.pid, number)
    until(lambda: node.info.pid not in node.pids(), "the daemon has ended")


@pytest.mark.usefixtures("clean")
def test_power_cut_leaves_nothing_that_the_next_start_minds(node: Node) -> None:
    node.up()
    node.kill()
    node.up()
    node.down()


def test_machines_with_ipv6_switched_off_have_it_in_the_overlay_all_the_same(lab: Lab) -> None:
    cable = lab.veth(lab.host("alice"), lab.host("bob"))
    for end in (cable.left, cable.right):
        end.host.run("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1")
    pair = pair_of(lab, cable.left, cable.right)
    pair.connect()
    assert pair.crosses()
