"""What SSH needs besides connections: known hosts, keys of files, words for failures, what a person types."""

from __future__ import annotations

import stat
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.clients.ssh.hosts import KnownHosts, known_hosts
from weft.clients.ssh.keys import Keys
from weft.clients.ssh.terminal import Escape
from weft.clients.ssh.words import words_of
from weft.errors import ConfigError, UsageError

KEY, OTHER = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
PUBLIC = KEY.convert_to_public()


def line(key: asyncssh.SSHKey, names: str) -> str:
    return f"{names} {key.export_public_key().decode().strip()}\n"


class TestKnownHosts:
    def test_what_is_added_is_known_by_name_and_address_on_that_port(self, tmp_path: Path) -> None:
        path = tmp_path / "known_hosts"
        KnownHosts(path).add("loom", "fc00::2", 22, PUBLIC)
        KnownHosts(path).add("loom", "fc00::2", 2222, OTHER)
        hosts = KnownHosts(path)
        assert list(hosts.match("loom", "", 22)[0]) == [PUBLIC]
        assert list(hosts.match("other", "fc00::2", 22)[0]) == [PUBLIC]
        assert list(hosts.match("loom", "fc00::2", 2222)[0]) == [OTHER.convert_to_public()] * 2
        assert not hosts.knows("other", "fc00::3", 22)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_without_a_file_it_is_known_as_long_as_this_runs(self) -> None:
        hosts = KnownHosts()
        hosts.add("loom", "", 22, PUBLIC)
        assert hosts.knows("loom", "", 22)
        assert not KnownHosts().knows("loom", "", 22)

    def test_file_that_ends_without_a_newline_is_gone_on_with(self, tmp_path: Path) -> None:
        path = tmp_path / "known_hosts"
        path.write_text(line(OTHER, "old").rstrip())
        KnownHosts(path).add("new", "", 22, PUBLIC)
        assert path.read_text() == line(OTHER, "old") + line(KEY, "new")

    def test_all_files_count_and_the_first_is_written(self, tmp_path: Path) -> None:
        (tmp_path / "theirs").write_text(line(KEY, "loom"))
        hosts = KnownHosts(tmp_path / "own", (tmp_path / "theirs", tmp_path / "none"))
        assert hosts.knows("loom", "", 22)
        hosts.add("tablet", "", 22, OTHER)
        assert (tmp_path / "own").read_text() == line(OTHER, "tablet")

    def test_those_of_a_node_are_its_own_and_the_persons(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "known_hosts").write_text(line(KEY, "loom"))
        (tmp_path / "node").mkdir()
        hosts = known_hosts(tmp_path / "node")
        assert hosts.knows("loom", "", 22)
        assert hosts.place == str(tmp_path / "node" / "known_hosts")
        assert known_hosts(None).knows("loom", "", 22)

    @pytest.mark.parametrize("text", ["one\n", "@odd loom ssh-ed25519 x\n", "|1|x|y ssh-ed25519 AAAA\n\udcff"])
    def test_file_that_is_none_is_named(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "known_hosts"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(ConfigError, match="known_hosts: is no list of known hosts"):
            KnownHosts(path).match("loom", "", 22)

    def test_file_that_can_not_be_read_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="can't be read: Is a directory"):
            KnownHosts(tmp_path).match("loom", "", 22)


class TestKeys:
    def test_named_file_has_to_be_there_and_to_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("no key")
        (tmp_path / "public").write_bytes(KEY.export_public_key())
        for name in ("none", "text", "public"):
            with pytest.raises(UsageError, match=f"^{tmp_path}/{name}: "):
                Keys([tmp_path / name])

    async def test_usual_files_need_not_be_there_and_bad_ones_are_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "id_rsa").write_text("no key")
        (tmp_path / "id_ed25519").write_bytes(KEY.export_private_key())
        batches = [batch async for batch in Keys(folder=tmp_path).batches()]
        assert [[key.public_data for key in batch] for batch in batches] == [[PUBLIC.public_data]]

    async def test_named_files_stand_for_the_usual_ones(self, tmp_path: Path) -> None:
        (tmp_path / "id_ed25519").write_bytes(KEY.export_private_key())
        (tmp_path / "mine").write_bytes(OTHER.export_private_key())
        batches = [batch async for batch in Keys([tmp_path / "mine"], folder=tmp_path).batches()]
        assert [[key.public_data for key in batch] for batch in batches] == [[OTHER.public_data]]

    async def test_encrypted_key_is_passed_over_with_nobody_to_ask(self, tmp_path: Path) -> None:
        (tmp_path / "id_ed25519").write_bytes(KEY.export_private_key(passphrase="x"))
        assert [batch async for batch in Keys(folder=tmp_path).batches()] == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (asyncssh.ConnectionLost("x"), "the connection broke off"),
        (asyncssh.SFTPConnectionLost("x"), "the connection broke off"),
        (asyncssh.PermissionDenied("Permission denied for user a on host b"), "permission denied: the server takes"),
        (asyncssh.PermissionDenied("Peer fc00::1 is not allowed"), "peer fc00::1 is not allowed"),
        (asyncssh.SFTPFailure("Disk\nfull."), "disk full"),
        (asyncssh.SFTPNoSuchFile(""), "SFTPNoSuchFile"),
        (asyncssh.ChannelOpenError(1, "SSH is closed"), "SSH is closed"),
        (ConnectionRefusedError(111, "x"), "connection refused"),
        (TimeoutError(), "no answer"),
    ],
)
def test_failure_in_words(error: Exception, words: str) -> None:
    assert words_of(error).startswith(words)


class TestEscape:
    @pytest.mark.parametrize(
        ("typed", "passed", "is_over"),
        [
            (b"ls\r~.", b"ls\r", True),
            (b"~.", b"", True),
            (b"a~.\r", b"a~.\r", False),
            (b"\r~~.\r", b"\r~.\r", False),
            (b"\n~x~.", b"\n~x~.", False),
            (b"~", b"", False),
        ],
    )
    def test_tilde_and_full_stop_at_the_head_of_a_line(self, typed: bytes, passed: bytes, *, is_over: bool) -> None:
        for parts in ([typed], [bytes([byte]) for byte in typed]):
            escape = Escape()
            assert b"".join(escape.passed(part) for part in parts) == passed
            assert escape.is_over == is_over

    @given(st.binary().filter(lambda data: b"~" not in data))
    def test_all_else_goes_through(self, data: bytes) -> None:
        assert Escape().passed(data) == data
