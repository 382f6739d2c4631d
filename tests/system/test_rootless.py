"""Programs without any rights: nodes of their own, and daemons that have the network inside them."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.system.lab import Host, Lab
from tests.system.node import EVERYTHING, Node
from tests.system.nursery import outcome_of, started
from tests.system.process import Outcome, Process
from tests.system.sandbox import STATE, USER
from tests.system.waiting import until
from weft.api.v0 import node as node_api

pytestmark = pytest.mark.system

MEGABYTES = 6_000_000


class Program:
    """A program of tests/system/program.py that runs in a host, as nobody with no rights if a directory is given."""

    def __init__(self, host: Host, *how: str, directory: Path | None = None, env: dict[str, str] | None = None) -> None:
        words = [sys.executable, "-m", "tests.system.program", *how]
        words = nobody(directory, *words) if directory else words
        self.process: Process = host.start(*words, name="program", env=env)
        self.process.wait_for("ready")

    def __call__(self, verb: str, *words: Any) -> Any:
        answer = self.process.ask(json.dumps([verb, *words]), timeout_s=40).strip()
        return json.loads(answer) if not answer.isidentifier() else answer

    def kill(self) -> None:
        self.process.popen.kill()
        self.process.popen.wait()


def nobody(directory: Path, *words: str) -> list[str]:
    """A command of a user who may do nothing; the directory is /var/lib/weft there."""
    return [sys.executable, "-m", "tests.system.sandbox", "-all", str(directory), *words]


def directory_of_nobody(lab: Lab, name: str) -> Path:
    made = lab.directory(name)
    os.chown(made, USER, USER)
    return made


class RootlessDaemon:
    """A node whose daemon nobody has brought up, who may do nothing."""

    def __init__(self, lab: Lab, host: Host, name: str) -> None:
        self.directory = directory_of_nobody(lab, name)
        self.host = host
        self.node = Node(host, self.directory)
        self.weft("init")
        self.start()

    def start(self) -> None:
        """Start it, for the first time or anew."""
        self.host.start(*self._words("daemon"), name="daemon").wait_for("ready;")
        self.said = self.outcome("up")
        self.node.info = self.node.client.call(node_api.INFO)

    def weft(self, *arguments: str) -> str:
        done = self.outcome(*arguments)
        assert done.code == 0, done
        return done.out

    def outcome(self, *arguments: str) -> Outcome:
        """How a command of its user ends."""
        return outcome_of(self.host, ["--dir", str(STATE), *arguments], {}, self.directory)

    def begin(self, *arguments: str) -> Process:
        """Start a command of its user that goes on until it is stopped."""
        return started(self.host, ["--dir", str(STATE), *arguments], {}, self.directory)

    def program(self) -> Program:
        """One that uses it, of the same user."""
        return Program(self.host, "attach", str(STATE / "api.sock"), directory=self.directory)

    def _words(self, *arguments: str) -> list[str]:
        return nobody(self.directory, sys.executable, "-m", "weft", "--dir", str(STATE), *arguments)


def test_two_nodes_of_users_without_rights_talk_to_each_other(lab: Lab) -> None:
    hosts = lab.host("alice"), lab.host("bob")
    cable = lab.veth(*hosts)
    alice, bob = (Program(host, "node", directory=directory_of_nobody(lab, host.name)) for host in hosts)
    address, multiaddrs = bob("who")
    assert {multiaddr.split("/")[2] for multiaddr in multiaddrs} == {cable.right.ip4, cable.right.ip6}
    assert alice("meet", multiaddrs[0], "bob") == "up"
    assert bob("serve", 7) == "serving"
    assert alice("echo", "bob", 7, MEGABYTES) == "the same"
    assert alice("echo", address, 7, 1) == "the same"
    assert alice("echo", "bob", 8, 1) == "ConnectionRefusedError"
    assert alice("serve", 9) == "serving"
    assert bob("echo", alice("who")[0], 9, MEGABYTES) == "the same"


def test_node_without_rights_and_one_with_a_tun_reach_each_other(lab: Lab) -> None:
    hosts = lab.host("alice"), lab.host("bob")
    cable = lab.veth(*hosts)
    bob = Node(hosts[1], lab.directory("bob"))
    bob.up("/tcp/7")
    alice = Program(hosts[0], "node", directory=directory_of_nobody(lab, "alice"))
    kernel = Program(hosts[1], "kernel")
    assert alice("meet", bob.multiaddr(cable.right), "bob") == "up"
    assert kernel("serve", 7, bob.address) == "serving"
    assert alice("echo", "bob", 7, MEGABYTES) == "the same"
    # There the rules decide, here whether somebody listens.
    assert kernel("serve", 8, bob.address) == "serving"
    assert alice("echo", "bob", 8, 1) in {"ConnectionRefusedError", "PermissionError"}
    address = alice("who")[0]
    assert kernel("echo", address, 9, 1) == "ConnectionRefusedError"
    assert alice("serve", 9) == "serving"
    assert kernel("echo", address, 9, MEGABYTES) == "the same"
    assert bob.host.ping(address).received == 3


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_node_of_a_program_may_have_a_tun(lab: Lab, loop: str) -> None:
    hosts = lab.host("alice"), lab.host("bob")
    lab.veth(*hosts)
    alice = Program(hosts[0], "node", directory=directory_of_nobody(lab, "alice"))
    bob = Program(hosts[1], "tun", env={"WEFT_TEST_UVLOOP": "1"} if loop == "uvloop" else {})
    kernel = Program(hosts[1], "kernel")
    address, multiaddrs = bob("who")
    assert bob("device") == "tun"
    assert alice("meet", multiaddrs[0], "bob") == "up"
    assert bob("serve", 7) == "serving"
    assert alice("echo", "bob", 7, 1) != "the same"
    assert bob("allow", "/tcp/7", "/icmp") == ["/tcp/7", "/icmp"]
    assert alice("echo", "bob", 7, MEGABYTES) == "the same"
    # All programs of the machine use it.
    assert alice("serve", 9) == "serving"
    assert kernel("echo", alice("who")[0], 9, 1000) == "the same"
    assert bob("echo", alice("who")[0], 9, MEGABYTES) == "the same"
    assert address in hosts[1].ip("addr", "show", "weft0")
    bob.process.stop()
    assert "weft0" not in hosts[1].ip("link")


def test_daemon_of_nobody_has_the_network_inside_and_lends_it(lab: Lab) -> None:
    hosts = lab.host("alice"), lab.host("bob")
    cable = lab.veth(*hosts)
    bob = Node(hosts[1], lab.directory("bob"))
    bob.up(*EVERYTHING)
    alice = RootlessDaemon(lab, hosts[0], "alice")
    assert alice.said.code == 0
    assert alice.said.out == f"weft is up: {alice.node.address} on the stack\n"
    assert alice.said.err.startswith("weft: no TUN: ")
    assert alice.said.err.count("\n") == 1
    assert alice.weft("fc00", "status").startswith(f"the stack is up: {alice.node.address}")
    assert alice.weft("peer", "connect", bob.multiaddr(cable.right), "--name", "bob")

    # Others ping it, though no interface of its machine has the address.
    assert alice.node.address not in alice.host.ip("addr")
    assert bob.host.ping(alice.node.address).received == 3
    assert alice.weft("ping", "-c", "1", "bob")

    kernel, program = Program(hosts[1], "kernel"), alice.program()
    assert program("who")[0] == alice.node.address
    assert program("device") == "stack"
    assert kernel("serve", 7, bob.address) == "serving"
    assert program("echo", "bob", 7, MEGABYTES) == "the same"
    assert program("serve", 9) == "serving"
    assert "open /tcp/9" in alice.weft("fc00", "ports")
    assert kernel("echo", alice.node.address, 9, MEGABYTES) == "the same"

    # What it has goes with it, however it goes.
    assert kernel("keep", alice.node.address, 9) == "open"
    program.kill()
    assert kernel("ended") == "ConnectionResetError"
    until(lambda: kernel("echo", alice.node.address, 9, 1) == "ConnectionRefusedError", "nobody listens any more")
    assert alice.program()("echo", "bob", 7, 1000) == "the same"
    os.kill(alice.node.info.pid, signal.SIGTERM)


def test_program_that_attaches_to_a_daemon_with_a_tun_uses_the_system_s_sockets(lab: Lab) -> None:
    hosts = lab.host("alice"), lab.host("bob")
    cable = lab.veth(*hosts)
    nodes = [Node(host, lab.directory(host.name)) for host in hosts]
    for node in nodes:
        node.up("/tcp/7")
    alice, bob = nodes
    programs = [Program(node.host, "attach", str(node.directory / "api.sock")) for node in nodes]
    assert programs[0]("meet", bob.multiaddr(cable.right), "bob") == "up"
    assert programs[1]("device") == "tun"
    assert programs[1]("serve", 7) == "serving"
    assert f"[{bob.address}]:7" in bob.host.run("ss", "-Hltn")
    assert "0.0.0.0:7" not in bob.host.run("ss", "-Hltn")
    assert programs[0]("echo", "bob", 7, MEGABYTES) == "the same"
    assert programs[0]("echo", "bob.weft", 7, 1) == "the same"
    assert alice.address in programs[0]("who")[0]
