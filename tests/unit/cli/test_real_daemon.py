"""The command with the real engine behind it, on loopback and without an interface."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.machine import Machine

KEY = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="


def make_machine(directory: Path, port: int = 0) -> Machine:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}
    machine = Machine(directory, environment)
    assert machine("init").code == 0
    (directory / "weft.toml").write_text(f'[peer]\nlisten = ["/ip4/127.0.0.1/udp/{port}"]\n')
    return machine


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    machines = make_machine(tmp_path / "a"), make_machine(tmp_path / "b")
    daemons = [machine.start_daemon() for machine in machines]
    yield machines
    for process in daemons:
        process.send_signal(signal.SIGINT)
    logs = [process.communicate(timeout=20)[1] for process in daemons]
    assert [process.returncode for process in daemons] == [0, 0], logs
    assert not any("ERROR" in log for log in logs), logs


def test_two_nodes_connect_ping_and_part(pair: tuple[Machine, Machine]) -> None:
    ours, theirs = pair
    told = json.loads(theirs("info", "--json").out)
    connected = ours("peer", "connect", told["multiaddrs"][0])
    assert connected.code == 0, connected.err
    assert connected.out.startswith(f"connected to {told['address']} via direct 127.0.0.1:")
    (peer,) = json.loads(ours("status", "--json").out)["peers"]
    assert (peer["id"], peer["state"]) == (told["id"], "up")
    assert re.search(rf"^{told['address']} +- +weft +up direct 127\.0\.0\.1:\d+ ", ours("status").out, re.MULTILINE)
    pinged = ours("ping", "-c", "1", told["address"])
    assert (pinged.code, pinged.err) == (0, "")
    assert pinged.out.splitlines()[1].startswith("1 sent, 1 received, 0 % lost")
    assert ours("peer", "disconnect", told["id"]).code == 0
    (peer,) = json.loads(ours("peer", "list", "--json").out)["peers"]
    assert (peer["standing"], peer["state"]) == ("known", "idle")
    assert ours("peer", "remove", told["id"]).code == 0
    assert json.loads(ours("peer", "list", "--json").out)["peers"] == []


def test_peer_that_was_dialled_by_name_is_shown_stored_and_called_again_by_it(tmp_path: Path) -> None:
    ours, theirs = make_machine(tmp_path / "a"), make_machine(tmp_path / "b")
    processes = [machine.start_daemon() for machine in (ours, theirs)]
    told = json.loads(theirs("info", "--json").out)
    multiaddr = told["multiaddrs"][0].replace("/ip4/127.0.0.1/", "/dns/localhost/")
    name = f"localhost:{multiaddr.split('/')[4]}"
    assert ours("peer", "connect", multiaddr).out.endswith(f" via direct {name}\n")
    assert json.loads((ours.directory / "state.json").read_text())["peers"][0]["endpoints"] == [
        multiaddr.partition("/p2p")[0]
    ]
    processes[0].send_signal(signal.SIGINT)
    processes.pop(0).communicate(timeout=20)
    processes.append(ours.start_daemon())
    assert ours("ping", "-c", "1", told["id"]).code == 0
    assert name in ours("peer", "list").out
    for process in processes:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


def test_device_whose_name_has_no_address_is_stored_and_shown(tmp_path: Path) -> None:
    machine = make_machine(tmp_path / "a")
    process = machine.start_daemon()
    options = ("--name", "hub", "--allowed-ips", "10.0.0.1/32", "--endpoint", "hub.invalid:51820")
    added = machine("peer", "add-wireguard", KEY, *options)
    assert (added.code, added.err) == (0, "")
    assert "hub.invalid:51820" in machine("peer", "list").out
    (stored,) = json.loads((machine.directory / "state.json").read_text())["peers"]
    assert stored["endpoints"] == stored["configured"] == ["/dns/hub.invalid/udp/51820"]
    process.send_signal(signal.SIGINT)
    log = process.communicate(timeout=40)[1]
    assert process.returncode == 0
    assert "a peer is not called at /dns/hub.invalid/udp/51820" in log


def test_wrong_targets_are_one_line_each(pair: tuple[Machine, Machine]) -> None:
    ours, theirs = pair
    multiaddr = json.loads(theirs("info", "--json").out)["multiaddrs"][0]
    for command in (
        ("peer", "connect", "/ip4/1.2/udp/1"),
        ("peer", "connect", multiaddr.partition("/p2p")[0]),
        ("peer", "disconnect", "nobody"),
        ("peer", "add-wireguard", "nokey", "--name", "a", "--allowed-ips", "10.0.0.1/32"),
        ("peer", "add-wireguard", KEY, "--name", "a", "--allowed-ips", "10.0.0.1/32", "--endpoint", "foo:bar"),
        ("peer", "add-wireguard", KEY, "--name", "a", "--allowed-ips", "10.0.0.1/32", "--endpoint", "[fc00::1]:1"),
        ("fc00", "allow", "/sctp/80"),
        ("task", "restart", "nothing"),
        ("ping", "nobody"),
    ):
        seen = ours(*command)
        assert (seen.code, seen.out) == (2, ""), command
        assert seen.err.startswith("weft: ")
        assert seen.err.count("\n") == 1
    assert ours("info").code == 0


def test_busy_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as busy:
        busy.bind(("127.0.0.1", 0))
        port = busy.getsockname()[1]
        seen = make_machine(tmp_path / "a", port)("daemon")
    assert (seen.code, seen.out) == (1, "")
    assert str(port) in seen.err.splitlines()[-1]
    assert seen.err.splitlines()[-1].startswith("weft: ")
    assert not (tmp_path / "a" / "api.sock").exists()


def test_rules_survive_the_daemon(tmp_path: Path) -> None:
    machine = make_machine(tmp_path / "a")
    process = machine.start_daemon()
    assert machine("fc00", "allow", "/tcp/80", "/icmp").code == 0
    process.kill()
    process.communicate(timeout=10)
    process = machine.start_daemon()
    assert json.loads(machine("fc00", "ports", "--json").out)["allow"] == ["/tcp/80", "/icmp"]
    assert machine("down").code == 0
    assert process.wait(10) == 0
    process.communicate()
