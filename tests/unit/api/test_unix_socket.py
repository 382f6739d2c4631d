from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from weft.api.unix_socket import ApiSocket
from weft.errors import UsageError


def test_socket_is_for_its_owner_only_and_goes_on_close(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with ApiSocket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with ApiSocket(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_socket_of_a_live_daemon_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with ApiSocket(path):
        with pytest.raises(UsageError, match=r"api\.sock: another daemon listens there; end it with `weft down`"):
            ApiSocket(path)
        assert path.exists()


def test_live_daemon_with_a_full_backlog_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        with pytest.raises(UsageError, match="another daemon"):
            ApiSocket(path)


def test_file_that_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.write_text("dear")
    with pytest.raises(UsageError, match="no socket; remove it"):
        ApiSocket(path)
    assert path.read_text() == "dear"


@pytest.mark.parametrize(
    ("name", "says"), [("x" * 200, "too long for a Unix socket"), ("missing/api.sock", "can't listen there")]
)
def test_impossible_path_is_one_clear_error(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ApiSocket(tmp_path / name)


def test_socket_of_a_successor_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    first = ApiSocket(path)
    path.rename(tmp_path / "moved")
    with ApiSocket(path):
        first.close()
        assert path.exists()
