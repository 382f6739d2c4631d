"""weft as a service: its unit, and what it does in the sandbox of the unit."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.lab import Host, Lab
from tests.system.node import EVERYTHING, Node, Pair
from tests.system.process import Process, outcome
from tests.system.sandbox import STATE, UNIT, USER, allowed_calls, rights_of_unit, settings_of_unit
from weft.api.v0 import node as node_api

pytestmark = pytest.mark.system

WEFT = (sys.executable, "-m", "weft")
EXPOSURE = 25
"""A tenth of what `systemd-analyze security` says, where 10 is bare and 0 is shut."""
KEY = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="


# The unit.


TEMPLATE = UNIT.with_name("weft@.service")


@pytest.fixture(params=[UNIT, TEMPLATE], ids=lambda path: path.name)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit with commands that are there."""
    source: Path = request.param
    found = tmp_path / source.name.replace("@", "@lab")
    found.write_text(re.sub(r"=weft ", f"={sys.prefix}/bin/weft ", source.read_text()))
    return found


def test_unit_is_valid(unit: Path) -> None:
    done = outcome("systemd-analyze", "verify", "--man=no", str(unit))
    assert (done.code, done.out, done.err) == (0, "", "")


def test_unit_leaves_little_exposed(unit: Path) -> None:
    done = outcome("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(unit))
    assert done.code == 0, done.out


def test_unit_gives_one_right_and_no_more() -> None:
    settings = settings_of_unit()
    assert settings["AmbientCapabilities"] == settings["CapabilityBoundingSet"] == ["CAP_NET_ADMIN"]
    assert settings["LimitCORE"] == ["0"]
    calls = allowed_calls(settings["SystemCallFilter"])
    assert {"read", "recvmmsg", "prctl"} <= calls
    assert not {"ptrace", "mount", "init_module", "setuid", "chown", "bpf", "kexec_load"} & calls


def test_unit_of_a_further_node_has_names_of_its_own_and_else_is_the_same() -> None:
    first, further = settings_of_unit(), settings_of_unit(TEMPLATE)
    assert {name for name in first.keys() | further.keys() if first[name] != further[name]} == {
        "Description",
        "Environment",
        "StateDirectory",
        "User",
    }
    (state,) = further["StateDirectory"]
    assert further["Environment"] == [f"WEFT_DIR=/var/lib/{state}"]
    assert state == further["User"][0] == "weft-%i"


# The service in its sandbox.


class Service:
    """A node that runs as its unit says."""

    def __init__(self, host: Host, directory: Path) -> None:
        os.chown(directory, USER, USER)
        self.node = Node(host, directory)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listener.bind(str(directory / "notify"))
        (directory / "notify").chmod(0o777)
        self._listener.settimeout(20)

    def command(self, line: str, *environment: str) -> list[str]:
        """The words that run a line of the unit."""
        variables = [f"WEFT_DIR={STATE}", f"NOTIFY_SOCKET={STATE}/notify", *environment]
        words = [word for word in line.split() if word != "weft"]
        inner = [
            sys.executable,
            "-m",
            "tests.system.sandbox",
            rights_of_unit(),
            str(self.node.directory),
            *WEFT,
            *words,
        ]
        return ["env", *variables, *inner]

    def run(self, setting: str) -> None:
        for line in settings_of_unit()[setting]:
            self.node.host.run(*self.command(line))

    def start(self, *environment: str) -> Process:
        self.run("ExecStartPre")
        (line,) = settings_of_unit()["ExecStart"]
        process = self.node.host.start(*self.command(line, *environment), name="service")
        assert self.hears()[0] == "READY=1"
        self.run("ExecStartPost")
        self.node.info = self.node.client.call(node_api.INFO)
        return process

    def hears(self) -> list[str]:
        """What systemd is told next."""
        return self._listener.recv(4096).decode().split("\n")

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def service(lab: Lab) -> Iterator[Service]:
    made = Service(lab.host("alice"), lab.directory("alice"))
    yield made
    made.close()


def test_service_does_all_of_its_work_in_its_sandbox(lab: Lab, service: Service) -> None:
    alice, bob = service.node, Node(lab.host("bob"), lab.directory("bob"))
    cable = lab.veth(alice.host, bob.host)
    process = service.start()
    bob.up(*EVERYTHING)
    alice.allow(*EVERYTHING)

    pid = alice.info.pid
    facts = Path(f"/proc/{pid}/status").read_text()
    for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert re.search(rf"{name}:\t0*1000\n", facts), name
    assert re.search(rf"Uid:\t{USER}\t", facts)
    assert "NoNewPrivs:\t1" in facts
    assert "Seccomp:\t2" in facts

    bob.connect(alice, cable.left)
    pair = Pair(lab, alice, bob, cable.left, cable.right)
    assert pair.crosses()
    pair.transfer(2_000_000)
    alice.host.run(*service.command("peer add-wireguard " + KEY + " --name hub --allowed-ips 10.9.0.0/24"))
    assert "10.9.0.0/24 dev weft0" in alice.host.ip("route")
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in alice.directory.iterdir()}
    assert files == dict.fromkeys(("key", "lock", "state.json", "weft.toml", "api.sock", "netd.sock"), 0o600) | {
        "notify": 0o777
    }
    assert {path.stat().st_uid for path in alice.directory.iterdir() if path.name != "notify"} == {USER}

    os.kill(pid, signal.SIGHUP)
    assert service.hears()[0] == "RELOADING=1"
    assert service.hears()[0] == "READY=1"
    service.run("ExecReload")
    os.kill(pid, signal.SIGTERM)
    assert service.hears() == ["STOPPING=1"]
    assert process.popen.wait(10) == 0
    assert "weft0" not in alice.host.ip("link")
    # Sockets of `wg` lie outside of the sandbox, and all hosts of a lab share them.
    said = [line for line in process.output().splitlines() if "`wg` can't see" not in line]
    assert not [line for line in said if " INFO " not in line]


def test_service_lives_by_its_watchdog_and_a_wrong_configuration_is_not_tried_again(service: Service) -> None:
    process = service.start("WATCHDOG_USEC=400000")
    assert service.hears() == ["WATCHDOG=1"]
    assert service.hears() == ["WATCHDOG=1"]
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(10) == 0
    (service.node.directory / "weft.toml").write_text("[peer]\nlisten = 1\n")
    done = service.node.host.outcome(*service.command("daemon"))
    assert settings_of_unit()["RestartPreventExitStatus"] == [str(done.code)] == ["2"]
    assert re.fullmatch(r"weft: /var/lib/weft/weft.toml: peer.listen: .* \(line 2\)\n", done.err)
