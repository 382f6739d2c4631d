"""What every command prints with `--json`, held to its schema by another implementation."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Sequence
from pathlib import Path

import click
import jsonschema
import pytest

from tests.unit.api.fake_engine import KEY, FakeEngine
from tests.unit.cli.examples import typed as typed_in
from tests.unit.cli.machine import Machine
from tests.unit.cli.terminal import Terminal
from tests.unit.cli.test_real_daemon import make_machine
from weft.cli.command import Command, every_command
from weft.cli.root import weft as root
from weft.cli.schemas import schemas

SCHEMAS = schemas()
RAW = {f"weft {name}" for name in ("completion", "daemon", "serve", "forward", "nc", "ssh", "sftp", "ssh-server")}
"""What prints no JSON."""
ELSEWHERE = {"weft up", "weft down", "weft init"}
"""What has no daemon or makes one; these are run with a real one."""
IN_NETWORK = {"weft fetch", "weft proxy", "weft receive", "weft scp", "weft send", "weft tls"}
"""What connects in the network, which the fake has none of; the tests of these commands look at their JSON."""

RUNS: dict[str, Sequence[str]] = {
    "weft task restart": ("udp",),
    "weft peer disconnect": ["loom"],
    "weft ping": ["-c", "1", "loom"],
    "weft import": ["hub.conf"],
    "weft bugreport": ["-o", "-"],
    "weft key backup": ["copy"],
    "weft key restore": ["key"],
}
"""The arguments of those whose first example does not do here."""


COMMANDS = {
    " ".join(("weft", *way)): command
    for way, command in every_command(root)
    if isinstance(command, Command) and not isinstance(command, click.Group)
}


def arguments_of(command: str) -> Sequence[str]:
    """What its first example says, unless there is better."""
    words = command.split()[1:]
    shown = (typed for line in COMMANDS[command].examples for typed in typed_in(line))
    return RUNS.get(command) or next((typed[len(words) :] for typed in shown if typed[: len(words)] == words), ())


def check(command: str, out: str) -> None:
    lines = out.splitlines()
    assert lines
    for line in lines:
        value = json.loads(line)
        jsonschema.validate(value, SCHEMAS[command], cls=jsonschema.Draft202012Validator)
        assert value["schema"] == 1


def test_every_command_that_prints_json_has_a_schema() -> None:
    assert set(COMMANDS) - set(SCHEMAS) == RAW
    for command, schema in SCHEMAS.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        (title,) = [
            part["title"] for part in schema["$defs"].values() if part["title"] == schema["$ref"].split("/")[-1]
        ]
        assert "schema" in schema["$defs"][title]["properties"], command


@pytest.mark.parametrize("command", sorted(set(SCHEMAS) - ELSEWHERE - IN_NETWORK))
def test_json_of_command_is_as_its_schema_says(
    weft: Terminal, node: FakeEngine, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(weft.directory)
    weft("init")
    Path("hub.conf").write_text(f"[Peer]\nPublicKey = {KEY}\nAllowedIPs = 10.7.0.0/24\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(KEY.encode())))
    seen = weft(*command.split()[1:], *arguments_of(command), "--json")
    assert seen.code == 0, seen.err
    check(command, seen.out)


def test_json_around_the_life_of_a_daemon_is_as_the_schemas_say(machine: Machine) -> None:
    for command in ("init", "up", "down"):
        seen = machine(command, "--json")
        assert seen.code == 0, seen.err
        check(f"weft {command}", seen.out)


def test_json_of_a_real_daemon_is_as_the_schemas_say(tmp_path: Path) -> None:
    machine = make_machine(tmp_path / "node")
    process = machine.start_daemon()
    added = machine("peer", "add-wireguard", KEY, "--name", "phone", "--allowed-ips", "10.0.0.2/32", "--json")
    check("weft peer add-wireguard", added.out)
    for command in ("info", "status", "logs", "peer list", "fc00 status", "fc00 ports", "task list", "config show"):
        seen = machine(*command.split(), "--json")
        assert seen.code == 0, seen.err
        check(f"weft {command}", seen.out)
    report = machine("bugreport", "--json").out
    check("weft bugreport", report)
    assert json.loads(report)["missing"] == {}
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
