"""`init`, `daemon`, `up` and `down` as processes, with a fake node inside the daemon."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.unit.cli.machine import Machine
from tests.unit.cli.terminal import Seen, Terminal
from weft.engine.config import load_config, load_network_psk, network_psk
from weft.engine.manual import render_default
from weft.io.store import Store

SECRET = "a secret that many share"


def test_init_makes_a_private_key_and_a_valid_commented_configuration(weft: Terminal) -> None:
    node = weft.directory / "node"
    seen = weft.bare("init", "--dir", str(node))
    identity = Store(node).load_key()
    assert (seen.code, seen.err) == (0, "")
    assert seen.out.startswith("made the key of fc")
    assert stat.S_IMODE(node.stat().st_mode) == 0o700
    assert stat.S_IMODE((node / "key").stat().st_mode) == 0o600
    assert (node / "weft.toml").read_text() == render_default()
    assert list(load_config(node / "weft.toml").peer.listen) == ["/ip4/0.0.0.0/udp/1312", "/ip6/::/udp/1312"]
    assert identity.seed.hex() not in seen.out


def test_second_init_keeps_everything(weft: Terminal) -> None:
    first = json.loads(weft("init", "--json").out)
    before = (weft.directory / "key").read_bytes()
    (weft.directory / "weft.toml").write_text("# mine\n")
    second = json.loads(weft("--json", "init").out)
    assert (first["schema"], first["created"], second["created"]) == (1, True, False)
    assert first["id"] == second["id"]
    assert (weft.directory / "key").read_bytes() == before
    assert (weft.directory / "weft.toml").read_text() == "# mine\n"
    assert weft("init").out.startswith(f"kept the key of {first['address']} in ")


def test_init_makes_only_what_is_missing(weft: Terminal) -> None:
    weft("init")
    (weft.directory / "weft.toml").unlink()
    assert weft("init").out.startswith("kept")
    assert (weft.directory / "weft.toml").exists()


def test_torn_key_is_one_line_and_is_kept(weft: Terminal) -> None:
    weft("init")
    (weft.directory / "key").write_text("seed = ")
    seen = weft("init")
    assert (seen.code, seen.out) == (1, "")
    assert "torn" in seen.err
    assert seen.err.count("\n") == 1
    assert (weft.directory / "key").read_text() == "seed = "


def test_directory_that_can_not_be_made_is_one_line(weft: Terminal) -> None:
    (weft.directory / "file").write_text("")
    seen = weft.bare("init", "--dir", str(weft.directory / "file" / "node"))
    assert seen.code == 1
    assert seen.err.count("\n") == 1


def test_network_secret_goes_from_a_file_into_a_private_one(weft: Terminal) -> None:
    source, node = weft.directory / "given", weft.directory / "node"
    source.write_text(f"{SECRET}\n")
    seen = weft.bare("init", "--dir", str(node), "--network-secret", str(source))
    assert (seen.code, seen.err) == (0, "")
    assert SECRET not in seen.out
    assert stat.S_IMODE((node / "network.secret").stat().st_mode) == 0o600
    config = load_config(node / "weft.toml")
    assert config.network.secret_file == "network.secret"
    assert load_network_psk(config, node) == network_psk(SECRET.encode())


@pytest.mark.parametrize("option", [("--network-secret", "-"), ("--network-secret",), ("--network-secret", "--json")])
def test_network_secret_may_come_from_a_pipe(machine: Machine, option: tuple[str, ...]) -> None:
    assert machine("init", *option, given=SECRET + "\n").code == 0
    config = load_config(machine.directory / "weft.toml")
    assert load_network_psk(config, machine.directory) == network_psk(SECRET.encode())


def test_network_secret_is_asked_for_without_showing_it(weft: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def prompt(text: str, **how: object) -> str:
        asked.append((text, how["hide_input"], how["confirmation_prompt"]))
        return SECRET

    monkeypatch.setattr("weft.cli.init.click.prompt", prompt)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert weft("init", "--network-secret").code == 0
    assert asked == [("Secret of the network", True, True)]
    assert (weft.directory / "network.secret").read_text() == SECRET + "\n"


def test_network_secret_is_added_to_an_untouched_configuration(weft: Terminal) -> None:
    weft("init")
    config = weft.directory / "weft.toml"
    config.write_text(config.read_text().replace('accept = "any"', 'accept = "known"'))
    (weft.directory / "given").write_text(SECRET)
    assert weft("init", "--network-secret", str(weft.directory / "given")).code == 0
    loaded = load_config(config)
    assert (loaded.network.secret_file, loaded.peer.accept) == ("network.secret", "known")
    again = weft("init", "--network-secret", str(weft.directory / "given"))
    assert again.code == 2
    assert "names a secret already" in again.err


@pytest.mark.parametrize(
    ("files", "code", "says"),
    [
        ({"given": "short"}, 2, "at least 16 characters"),
        ({"given": "x" * 70_000}, 2, "has more than 65536 bytes"),
        ({}, 1, "No such file"),
        ({"given": SECRET, "network.secret": "other"}, 2, "network.secret exists already"),
        ({"given": SECRET, "weft.toml": "[net"}, 1, "is not valid TOML"),
    ],
)
def test_network_secret_that_can_not_be_taken_is_one_line_and_changes_nothing(
    weft: Terminal, files: dict[str, str], code: int, says: str
) -> None:
    for name, content in files.items():
        (weft.directory / name).write_text(content)
    seen = weft("init", "--network-secret", str(weft.directory / "given"))
    assert seen.code == code
    assert says in seen.err
    assert seen.err.count("\n") == 1
    assert SECRET not in seen.err
    assert {path.name: path.read_text() for path in weft.directory.iterdir()} == files


@pytest.mark.parametrize("text", [render_default(), "", "[network]\n", "# mine\npeer.accept = 'known'\n"])
def test_network_secret_is_named_in_a_configuration_however_it_was_edited(weft: Terminal, text: str) -> None:
    (weft.directory / "weft.toml").write_text(text)
    (weft.directory / "given").write_text(SECRET)
    assert weft("init", "--network-secret", str(weft.directory / "given")).code == 0
    assert load_config(weft.directory / "weft.toml").network.secret_file == "network.secret"
    assert {line for line in text.splitlines() if "secret_file" not in line} <= set(
        (weft.directory / "weft.toml").read_text().splitlines()
    )


def test_daemon_serves_in_the_foreground_until_it_gets_a_signal(machine: Machine) -> None:
    machine("init")
    process = machine.start_daemon()
    assert machine("info").code == 0
    assert not machine("fc00", "status", "--json").out.count('"up":true')
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "")
    assert "INFO weft.api.serve: ready" in err
    assert not machine.socket.exists()


def test_second_daemon_on_the_directory_is_one_line(machine: Machine) -> None:
    machine("init")
    process = machine.start_daemon()
    seen = machine("daemon")
    assert (seen.code, seen.out) == (1, "")
    assert seen.err == (
        f"weft: {machine.directory}: another weft uses this directory (process {process.pid}); "
        "stop it or choose another one\n"
    )
    assert machine("info").code == 0
    process.terminate()
    process.communicate(timeout=10)


def test_daemon_on_the_socket_of_another_is_one_line(machine: Machine, tmp_path: Path) -> None:
    machine("init")
    process = machine.start_daemon()
    machine("--dir", str(tmp_path / "other"), "init")
    seen = machine("--dir", str(tmp_path / "other"), "--socket", str(machine.socket), "daemon")
    assert (seen.code, seen.out) == (2, "")
    assert seen.err == (
        f"weft: {machine.socket}: another daemon listens there; end it with `weft down`, or use another --dir\n"
    )
    assert machine("info").code == 0
    process.terminate()
    process.communicate(timeout=10)


def test_daemon_before_init_is_one_line(machine: Machine) -> None:
    seen = machine("daemon")
    assert seen.code == 2
    assert seen.err == f"weft: {machine.directory}/weft.toml: does not exist; run `weft init` to make it\n"


def test_up_and_down_are_idempotent(machine: Machine) -> None:
    for _ in range(2):
        seen = machine("up")
        assert (seen.code, seen.err) == (0, "")
        assert seen.out == "weft is up: fc22::1 on weft0\n"
    assert (machine.directory / "key").exists()
    assert stat.S_IMODE((machine.directory / "daemon.log").stat().st_mode) == 0o600
    process = json.loads(machine("info", "--json").out)["pid"]
    assert os.getsid(process) == process
    assert os.readlink(f"/proc/{process}/cwd") == "/"
    assert machine("fc00", "status").out.startswith("weft0 is up")
    assert machine("down") == Seen(0, "weft is down\n", "")
    assert not machine.socket.exists()
    assert machine("info").code == 1
    assert machine("down") == Seen(0, "weft is down already\n", "")
    assert json.loads(machine("down", "--json").out) == {"schema": 1, "running": False}


def test_up_prints_what_info_does_as_json(machine: Machine) -> None:
    assert json.loads(machine("up", "--json").out) == json.loads(machine("info", "--json").out)


def test_up_after_a_crash_starts_anew(machine: Machine) -> None:
    machine("up")
    os.kill(json.loads(machine("info", "--json").out)["pid"], signal.SIGKILL)
    time.sleep(0.1)
    assert machine.socket.exists()
    assert machine("down") == Seen(0, "weft is down already\n", "")
    assert machine("up").code == 0


def test_up_without_permission_takes_the_stack_and_says_so(machine: Machine) -> None:
    machine.environment["FAKE_FAILS"] = "fc00_start"
    for _ in range(2):
        seen = machine("up")
        assert (seen.code, seen.out) == (0, "weft is up: fc22::1 on the stack\n")
        assert seen.err == (
            "weft: no TUN: fc00_start was refused; the network is for programs that use weft.Node.attach()\n"
        )
    assert machine("fc00", "status").out.startswith("the stack is up: fc22::1")


def test_up_without_permission_for_the_tun_that_is_wanted_says_what_to_do(machine: Machine) -> None:
    machine("init")
    machine("config", "set", "fc00.device", "tun")
    machine.environment["FAKE_FAILS"] = "fc00_start"
    seen = machine("up")
    assert (seen.code, seen.out) == (0, "weft is up: fc22::1\n")
    assert seen.err.startswith("weft: the daemon runs, but without an interface: ")
    assert "sudo weft up" in seen.err
    assert seen.err.count("\n") == 1


@pytest.mark.parametrize("name", ["stack", "userspace-networking"])
def test_up_with_the_stack_that_is_asked_for_says_nothing_else(machine: Machine, name: str) -> None:
    machine.environment["FAKE_FAILS"] = "fc00_start"
    seen = machine("up", "--tun", name)
    assert (seen.code, seen.out, seen.err) == (0, "weft is up: fc22::1 on the stack\n", "")
    machine("down")
    machine.environment["WEFT_UP_TUN"] = name
    assert machine("up").out == "weft is up: fc22::1 on the stack\n"


def test_up_with_a_tun_by_name_takes_that_or_none(machine: Machine) -> None:
    assert machine("up", "--tun", "mesh7").out == "weft is up: fc22::1 on mesh7\n"
    machine("down")
    machine.environment["FAKE_FAILS"] = "fc00_start"
    seen = machine("up", "--tun", "mesh7")
    assert (seen.code, seen.out) == (0, "weft is up: fc22::1\n")
    assert "without an interface" in seen.err


def test_up_with_an_interface_that_can_not_be_is_exit_1_and_the_daemon_runs(machine: Machine) -> None:
    machine.environment["FAKE_FAILS"] = "fc00_start usage"
    seen = machine("up")
    assert (seen.code, seen.out) == (1, "weft is up: fc22::1\n")
    assert seen.err == "weft: the daemon runs, but without an interface: fc00_start was refused\n"
    assert machine("info").code == 0


def test_up_with_a_node_that_can_not_start_gives_its_reason(machine: Machine) -> None:
    machine.environment["FAKE_FAILS"] = "start"
    seen = machine("up")
    assert (seen.code, seen.out) == (1, "")
    log = machine.directory / "daemon.log"
    assert seen.err == f"weft: the daemon did not start: start was refused; its log is {log}\n"
    assert not machine.socket.exists()


def test_up_with_a_broken_configuration_gives_file_key_and_line(machine: Machine) -> None:
    machine("init")
    (machine.directory / "weft.toml").write_text('[peer]\naccept = "all"\n')
    seen = machine("up")
    assert seen.code == 1
    assert "weft.toml: peer.accept: " in seen.err
    assert "(line 2)" in seen.err
    assert seen.err.count("\n") == 1


def test_two_ups_at_once_make_one_daemon(machine: Machine) -> None:
    machine("init")
    racers = [
        subprocess.Popen([*machine.command, "up", "--json"], env=machine.environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = [json.loads(racer.communicate(timeout=60)[0])["pid"] for racer in racers]
    assert len(set(told)) == 1


def test_down_that_races_with_another_end_is_fine(machine: Machine) -> None:
    machine("up")
    racers = [subprocess.Popen([*machine.command, "down"], env=machine.environment) for _ in range(3)]
    assert [racer.wait(60) for racer in racers] == [0, 0, 0]
    assert not machine.socket.exists()


def test_down_with_an_interface_that_stays_still_ends_the_daemon(machine: Machine) -> None:
    machine.environment["FAKE_FAILS"] = "fc00_stop"
    machine("up")
    seen = machine("down")
    assert (seen.code, seen.out) == (0, "weft is down\n")
    assert seen.err == "weft: the interface was not removed by itself: fc00_stop was refused\n"
    assert not machine.socket.exists()
