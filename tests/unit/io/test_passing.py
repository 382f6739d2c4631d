"""One descriptor from one process to another, and nothing else to nobody else."""

from __future__ import annotations

import array
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from weft.errors import TransportError, UsageError
from weft.io import passing
from weft.io.passing import Giver, take

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors are passed on Linux")


@contextmanager
def listening(path: Path, answer: Callable[[socket.socket], object]) -> Iterator[None]:
    """Somebody who answers one process in an own way."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                answer(client)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_descriptor_arrives_and_nothing_is_left(tmp_path: Path) -> None:
    with Giver(tmp_path, os.getpid()) as giver, ThreadPoolExecutor(1) as pool:
        (directory,) = tmp_path.iterdir()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(giver.path.stat().st_mode) == 0o600
        read, write = os.pipe()
        given = pool.submit(giver.give, read)
        taken = take(str(giver.path))
        given.result(5)
    os.write(write, b"through")
    assert os.read(taken, 10) == b"through"
    assert taken != read
    assert not os.get_inheritable(taken)
    for number in (read, write, taken):
        os.close(number)
    assert list(tmp_path.iterdir()) == []


def test_process_that_was_not_expected_gets_nothing(tmp_path: Path) -> None:
    with Giver(tmp_path, os.getppid()) as giver, ThreadPoolExecutor(1) as pool:
        given = pool.submit(giver.give, 0)
        with pytest.raises(UsageError, match="what came from there is not one descriptor"):
            take(str(giver.path))
        with pytest.raises(TransportError, match=f"process {os.getpid()} came for the interface in place of"):
            given.result(5)


def test_giver_to_whom_nobody_comes_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing, "PATIENCE_S", 0.02)
    with Giver(tmp_path, os.getpid()) as giver, pytest.raises(TransportError, match="the daemon did not come"):
        giver.give(0)


def test_giver_that_is_closed_waits_no_longer(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with Giver(tmp_path, os.getpid()) as giver:
            given = pool.submit(giver.give, 0)
        with pytest.raises(TransportError):
            given.result(5)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_place_belongs_to_the_user_who_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing, "_user_of", lambda _: 65_534)
    with Giver(tmp_path, os.getpid()) as giver:
        assert giver.path.stat().st_uid == giver.path.parent.stat().st_uid == 65_534


def test_link_put_in_place_of_the_directory_costs_nobody_a_file(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tun").write_text("a device")
    with Giver(tmp_path, os.getpid()) as giver:
        giver.path.parent.rename(tmp_path / "moved")
        giver.path.parent.symlink_to(tmp_path / "net")
    assert (tmp_path / "net" / "tun").exists()
    assert list((tmp_path / "moved").iterdir()) == []


@pytest.mark.parametrize(("mode", "content"), [(0o755, ()), (0o700, ("secret",))])
def test_directory_that_somebody_put_in_its_place_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, content: tuple[str, ...]
) -> None:
    mkdir = Path.mkdir

    def swapped(path: Path, **_: int) -> None:
        mkdir(path, mode=mode)
        for name in content:
            (path / name).write_text("of root")

    monkeypatch.setattr(Path, "mkdir", swapped)
    before = descriptors()
    with pytest.raises(PermissionError, match="somebody has put another directory there"):
        Giver(tmp_path, os.getpid())
    assert [each.name for each in tmp_path.glob(".pass-*/*")] == list(content)
    assert descriptors() == before


def test_path_where_nobody_is_or_that_can_not_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nothing", tmp_path / "file", tmp_path / ("x" * 200)):
        with pytest.raises(UsageError, match="no descriptor came from there"):
            take(str(path))


def test_giver_of_another_user_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing, "_peer_of", lambda _: (1, 4711))
    path = tmp_path / "s"
    with listening(path, lambda client: client.recv(1)), pytest.raises(UsageError, match="user 4711 listens there"):
        take(str(path))


def two_descriptors(client: socket.socket) -> None:
    client.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1]))])


@pytest.mark.parametrize(
    "answer",
    [
        two_descriptors,
        lambda client: client.send(b"\0"),
        lambda client: socket.send_fds(client, [b"x"], [0]),
        lambda client: None,
    ],
)
def test_anything_but_one_descriptor_is_refused_and_closed(
    tmp_path: Path, answer: Callable[[socket.socket], object]
) -> None:
    before = descriptors()
    path = tmp_path / "s"
    with listening(path, answer), pytest.raises(UsageError, match="not one descriptor"):
        take(str(path))
    assert descriptors() == before


def test_silence_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passing, "PATIENCE_S", 0.02)
    path = tmp_path / "s"
    with listening(path, lambda client: client.recv(1)), pytest.raises(UsageError, match="no descriptor came"):
        take(str(path))
