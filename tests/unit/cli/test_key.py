"""`weft key`: the identity is shown, copied, and taken to another directory."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest

from tests.unit.cli.terminal import Terminal
from weft.cli import new_file
from weft.io.store import Store


@pytest.fixture
def node(weft: Terminal) -> Terminal:
    weft("init")
    return weft


def seed(directory: Path) -> bytes:
    return Store(directory).load_key().seed


def test_show_tells_what_is_public_and_not_the_seed(node: Terminal) -> None:
    identity = Store(node.directory).load_key()
    seen = node("key", "show")
    assert (seen.code, seen.err) == (0, "")
    assert seen.out.splitlines()[0].split() == ["id", str(identity.peer_id)]
    told = json.loads(node("key", "show", "--json").out)
    assert told["id"] == str(identity.peer_id)
    assert told["file"] == str(node.directory / "key")
    assert identity.seed.hex() not in seen.out + json.dumps(told)


def test_backup_is_private_and_restores_the_node_elsewhere(node: Terminal, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other"
    seen = node("key", "backup", str(copy))
    assert (seen.code, seen.err) == (0, "")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert seed(node.directory).hex() not in seen.out
    assert node.bare("--dir", str(other), "key", "restore", str(copy)).code == 0
    assert seed(other) == seed(node.directory)
    assert stat.S_IMODE((other / "key").stat().st_mode) == 0o600
    assert node.bare("--dir", str(other), "key", "restore", str(copy)).code == 0


def test_backup_through_pipes(node: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = node("key", "backup", "-").out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(copied.encode())))
    assert node.bare("--dir", str(tmp_path / "other"), "key", "restore", "-").code == 0
    assert seed(tmp_path / "other") == seed(node.directory)
    refused = node("key", "backup", "-", "--json")
    assert (refused.code, refused.out) == (2, "")


def test_backup_writes_over_nothing(node: Terminal, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("mine")
    seen = node("key", "backup", str(tmp_path / "copy"))
    assert (seen.code, seen.out) == (2, "")
    assert seen.err == f"weft: {tmp_path}/copy exists already; remove it, or give another\n"
    assert (tmp_path / "copy").read_text() == "mine"
    assert node("key", "backup", str(tmp_path / "no" / "copy")).err.endswith("No such file or directory\n")


def test_restore_keeps_the_key_that_is_there(node: Terminal, tmp_path: Path) -> None:
    other = tmp_path / "other"
    node.bare("--dir", str(other), "init")
    kept = (other / "key").read_bytes()
    seen = node.bare("--dir", str(other), "key", "restore", str(node.directory / "key"))
    assert (seen.code, seen.out) == (2, "")
    assert seen.err.endswith(f"{Store(other).load_key().peer_id}; move it away first\n")
    assert (other / "key").read_bytes() == kept
    (other / "key").write_text("torn")
    seen = node.bare("--dir", str(other), "key", "restore", str(node.directory / "key"))
    assert (seen.code, (other / "key").read_text()) == (2, "torn")


def test_restore_takes_no_torn_copy(node: Terminal, tmp_path: Path) -> None:
    content = (node.directory / "key").read_text()
    for torn in (
        "",
        content[:-20],
        content.replace("peer_id", "peer"),
        content.replace('address = "fc', 'address = "fd'),
    ):
        (tmp_path / "copy").write_text(torn)
        seen = node.bare("--dir", str(tmp_path / "other"), "key", "restore", str(tmp_path / "copy"))
        assert (seen.code, seen.out) == (1, "")
        assert seen.err.startswith(f"weft: {tmp_path}/copy: ")
        assert "take another copy" in seen.err
        assert seed(node.directory).hex()[:40] not in seen.err
        assert not (tmp_path / "other" / "key").exists()


def test_restore_waits_for_no_daemon_to_end(node: Terminal, tmp_path: Path) -> None:
    with Store(tmp_path / "other").lock():
        seen = node.bare("--dir", str(tmp_path / "other"), "key", "restore", str(node.directory / "key"))
    assert (seen.code, seen.out) == (1, "")
    assert "another weft uses this directory" in seen.err
    assert not (tmp_path / "other" / "key").exists()


def test_show_without_a_key_says_how_to_get_one(weft: Terminal) -> None:
    seen = weft("key", "show")
    assert (seen.code, seen.out) == (1, "")
    assert "weft init" in seen.err


def test_backup_to_a_full_disk_leaves_nothing(node: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(new_file.os, "fsync", full)
    seen = node("key", "backup", str(tmp_path / "copy"))
    assert (seen.code, seen.out, seen.err) == (1, "", "weft: No space left on device\n")
    assert not (tmp_path / "copy").exists()
