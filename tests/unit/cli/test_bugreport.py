"""`weft bugreport`: everything that is known is planted with what nobody may see, and the report is searched for it."""

from __future__ import annotations

import base64
import getpass
import json
import secrets
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from tests.unit.api.fake_engine import FakeEngine, a_peer
from tests.unit.cli.terminal import Terminal
from weft.engine.status import LogLine
from weft.identity import encode_wireguard_key, generate
from weft.io.store import State, Store, StoredPeer

NETWORK_SECRET = "correct horse battery staple"
TOKEN = "tokEn-" + "z" * 26
PSK = base64.b64encode(bytes(range(100, 132))).decode()
DEVICE_KEY = base64.b64encode(bytes(range(32))).decode()
FRIEND = generate(secrets.token_bytes)
PRIVATE = {
    "address of a peer": "10.99.88.77",
    "address in IPv6": "2a02:db8:1234::99",
    "name of a peer": "heddlemaker",
    "name with a space": "Ottilie's phone",
    "host of an endpoint": "spindle.weavers-guild.org",
    "host without a dot": "shuttlebox",
    "peer id": str(FRIEND.peer_id),
    "public key": encode_wireguard_key(FRIEND.noise_public),
    "public key of a device": DEVICE_KEY,
    "path": "/srv/ottilie/looms",
    "mac": "52:54:00:ab:cd:ef",
    "mail": "ottilie@weavers-guild.org",
}


@pytest.fixture
def planted(weft: Terminal) -> dict[str, str]:
    """A directory full of what must not be told; what that is."""
    weft("init")
    store = Store(weft.directory)
    identity = store.load_key()
    (weft.directory / "looms.secret").write_text(f"{NETWORK_SECRET}\n")
    (weft.directory / "api.token").write_text(TOKEN)
    for file in ("looms.secret", "api.token"):
        (weft.directory / file).chmod(0o600)
    (weft.directory / "weft.toml").write_text(
        f'[network]\nsecret_file = "looms.secret"\n[peer]\nlisten = ["/ip4/{PRIVATE["address of a peer"]}/udp/1312"]\n'
        f'[log]\nfile = "{PRIVATE["path"]}/x.log"\n'
    )
    store.save_state(
        State(
            peers=[
                StoredPeer(
                    key=DEVICE_KEY,
                    kind="wireguard",
                    name=PRIVATE["name with a space"],
                    allowed_ips=["10.99.88.77/32"],
                    endpoints=["/dns/shuttlebox/udp/51820", "/ip6/2a02:db8:1234::99/udp/1"],
                    psk=PSK,
                ),
                StoredPeer(key=PRIVATE["peer id"], kind="weft", name=PRIVATE["name of a peer"]),
            ]
        )
    )
    return PRIVATE | {
        "seed": identity.seed.hex(),
        "private key": encode_wireguard_key(identity.noise_private),
        "psk": PSK,
        "psk in hex": base64.b64decode(PSK).hex(),
        "network secret": NETWORK_SECRET,
        "token": TOKEN,
        "own id": str(identity.peer_id),
        "own key": encode_wireguard_key(identity.noise_public),
        "directory": str(weft.directory),
    }


def assert_nothing_told(report: str, planted: dict[str, str]) -> None:
    for what, text in planted.items():
        assert text not in report, what
        assert json.dumps(text, ensure_ascii=False)[1:-1] not in report, what
    for person in {socket.gethostname(), getpass.getuser()} - {"localhost", "root"}:
        assert person not in report.replace("weft", "")


def test_report_of_a_running_node_tells_no_secret_and_nobody(
    weft: Terminal, planted: dict[str, str], node: FakeEngine
) -> None:
    node.peer_list = [
        a_peer(
            "heddlemaker",
            id=PRIVATE["peer id"],
            addresses=["fc99:1:2:3:4:5:6:7"],
            wireguard_public_key=PRIVATE["public key"],
            endpoint="spindle.weavers-guild.org:1312",
        ),
        a_peer("Ottilie's phone", kind="wireguard", id=None, endpoint="shuttlebox:51820", addresses=["10.99.88.77/32"]),
    ]
    node.logs.lines = [
        LogLine(number=number, at=0.0, level="info", logger="weft.engine", text=f"{what}: ({text}), '{text}' {text}")
        for number, (what, text) in enumerate(planted.items(), 1)
    ]
    seen = weft("bugreport")
    assert (seen.code, seen.err) == (0, "")
    assert_nothing_told(seen.out, planted)
    report = json.loads(seen.out)
    assert report["running"] is True
    first, second = report["status"]["peers"]
    assert (first["id"][:5], first["state"], second["endpoint"][-6:]) == ("peer-", "up", ":51820")
    assert report["state"]["peers"][0]["psk"] == "(secret)"
    assert report["state"]["peers"][0]["name"] == second["name"]
    assert any(first["id"] in line for line in report["log"])
    assert report["config"]["network"]["secret_file"]
    assert any(line.startswith("weft_") for line in report["metrics"])
    assert report["legend"][second["addresses"][0].partition("/")[0]] == "IPv4, private"


def test_report_without_a_daemon_says_so_and_has_the_rest(weft: Terminal, planted: dict[str, str]) -> None:
    (weft.directory / "weft.toml").write_text('[network]\nsecret_file = "looms.secret"\n')
    (weft.directory / "daemon.log").write_text(
        "".join(f"2026-11-20 17:19:22,123 INFO weft.engine: {what} {text}\n" for what, text in planted.items())
    )
    seen = weft("bugreport")
    assert (seen.code, seen.err) == (0, "")
    assert_nothing_told(seen.out, planted)
    report = json.loads(seen.out)
    assert (report["running"], report["status"], report["metrics"]) == (False, None, [])
    assert "no daemon answers at" in report["missing"]["status"]
    assert len(report["log"]) == len(planted)
    assert report["versions"]["cryptography"]


def test_report_of_a_broken_directory_has_what_can_be_had(weft: Terminal, planted: dict[str, str]) -> None:
    (weft.directory / "weft.toml").write_text(f'[network]\nsecret = "{NETWORK_SECRET}"\n')
    (weft.directory / "network.secret").write_text(NETWORK_SECRET)
    (weft.directory / "state.json").write_text('{"version": 2, "peers": [{"key": "' + PRIVATE["public key"])
    seen = weft("bugreport")
    assert seen.code == 0
    assert_nothing_told(seen.out, planted)
    report = json.loads(seen.out)
    assert "unknown key" in report["missing"]["config"]
    assert "torn" in report["missing"]["state"]
    assert weft.bare("--dir", "/nowhere/at/all", "bugreport").code == 0


def test_report_leaves_out_what_people_write_to_an_interface(
    weft: Terminal, planted: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ip"
    program.write_text("#!/bin/sh\nprintf '3: dummy0: <UP>\\n    alias uplink of ACME\\n    inet 127.0.0.9/32\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert json.loads(weft("bugreport").out)["interfaces"] == ["3: dummy0: <UP>", "    inet 127.0.0.9/32"]


def test_report_does_without_a_user_whom_the_environment_misspells(
    weft: Terminal, planted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", "nobody")
    assert weft("bugreport").code == 0


def test_report_goes_to_a_new_private_file(weft: Terminal, planted: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    seen = weft("bugreport", "-o", str(file))
    assert (seen.code, seen.out) == (0, "")
    assert seen.err == f"weft: wrote {file}; read it before you send it\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert msgspec.json.decode(file.read_bytes())["schema"] == 1
    assert weft("bugreport", "-o", str(file)).code == 2
