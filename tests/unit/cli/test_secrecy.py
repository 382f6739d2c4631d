"""No secret of a node is where others could see it: logs at their most detailed, process lists, reports, core files."""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.unit.cli.machine import Machine
from weft.engine.config import network_psk
from weft.identity import encode_wireguard_key
from weft.io.store import Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

SECRET = b"a secret that many share"
PSK = bytes(range(100, 132))
KEY = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="
CONFIG = """
[peer]
listen = ["/ip4/127.0.0.1/udp/0"]
[network]
secret_file = "network.secret"
[api]
listen = "127.0.0.1:0"
[log]
level = "debug"
"""


def a_node(directory: Path, config: str = "") -> Machine:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}
    machine = Machine(directory, environment)
    assert machine("init").code == 0
    (directory / "network.secret").write_bytes(SECRET)
    (directory / "network.secret").chmod(0o600)
    (directory / "weft.toml").write_text(CONFIG + config)
    return machine


def spellings(secret: bytes) -> set[bytes]:
    """How a secret could be written."""
    encoded = base64.b64encode(secret)
    return {secret, secret.hex().encode(), encoded, encoded.rstrip(b"="), repr(secret)[2:-1].encode()}


def test_secrets_of_a_node_are_in_none_of_what_others_see(tmp_path: Path) -> None:
    ours = a_node(tmp_path / "a", 'format = "json"\nfile = "weft.log"\n')
    theirs = a_node(tmp_path / "b")
    processes = [machine.start_daemon() for machine in (ours, theirs)]
    told = json.loads(theirs("info", "--json").out)
    (tmp_path / "psk").write_text(encode_wireguard_key(PSK))
    options = ("--name", "hub", "--allowed-ips", "10.9.0.0/24", "--psk-file", str(tmp_path / "psk"))
    commands = [
        ("peer", "add-wireguard", KEY, *options, "--endpoint", "127.0.0.1:9"),
        ("peer", "connect", told["multiaddrs"][0]),
        ("ping", "-c", "1", told["id"]),
        ("status", "--json"),
        ("bugreport",),
        ("logs",),
        ("reload",),
    ]
    with socket.socket(socket.AF_UNIX) as client:
        # What is logged at that level only.
        client.connect(str(ours.socket))
        client.sendall(b"no request\r\n\r\n")
        client.recv(1)
    seen = {" ".join(command): ours(*command) for command in commands}
    shown = {name: (each.out + each.err).encode() for name, each in seen.items()}
    assert seen["bugreport"].code == 0, seen["bugreport"]
    assert seen["ping -c 1 " + told["id"]].code == 0
    pid = processes[0].pid
    shown["core limit"] = str(resource.prlimit(pid, resource.RLIMIT_CORE)).encode()
    for name in ("cmdline", "environ"):
        shown[name] = Path(f"/proc/{pid}/{name}").read_bytes()
    identity = Store(tmp_path / "a").load_key()
    token = (tmp_path / "a" / "api.token").read_bytes().strip()
    for process in processes:
        process.send_signal(signal.SIGTERM)
        shown[f"standard error {process.pid}"] = process.communicate(timeout=20)[1].encode()
    shown["log"] = (tmp_path / "a" / "weft.log").read_bytes()
    assert b'"level":"debug"' in shown["log"]
    assert shown["core limit"] == b"(0, 0)"

    secrets = {
        "seed": identity.seed,
        "Noise key": identity.noise_private,
        "preshared key": PSK,
        "network secret": SECRET,
        "preshared key of the network": network_psk(SECRET),
        "token": token,
    }
    found = {
        (place, name)
        for place, text in shown.items()
        for name, secret in secrets.items()
        for form in spellings(secret)
        if form in text
    }
    assert not found


def test_daemon_that_crashes_leaves_no_core_file(tmp_path: Path) -> None:
    machine = a_node(tmp_path / "a")
    process = machine.start_daemon()
    # Root alone may look: the memory is closed to its own user.
    owner = os.stat(f"/proc/{process.pid}/environ").st_uid
    assert owner == 0
    process.send_signal(signal.SIGABRT)
    err = process.communicate(timeout=20)[1]
    assert process.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in err
    assert not [path for path in (Path.cwd(), tmp_path / "a") if list(path.glob("core*"))]
