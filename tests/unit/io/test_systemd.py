"""What systemd is told and tells, with a socket in its place."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from weft.errors import UsageError
from weft.io.systemd import Manager, is_journal, take_descriptors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(1)
        yield made


def test_each_message_is_one_datagram_in_the_words_of_sd_notify(listener: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": listener.getsockname()}
    manager = Manager(environment)
    assert environment == {}
    manager.ready("fc00::1, 3 peers")
    manager.status("reading weft.toml")
    manager.alive()
    manager.stopping()
    said = [listener.recv(4096) for _ in range(4)]
    assert said == [b"READY=1\nSTATUS=fc00::1, 3 peers", b"STATUS=reading weft.toml", b"WATCHDOG=1", b"STOPPING=1"]


def test_reload_says_when_it_began_by_the_clock_that_systemd_compares(listener: socket.socket) -> None:
    before = time.monotonic_ns() // 1000
    Manager({"NOTIFY_SOCKET": listener.getsockname()}).reloading()
    word, _, time_us = listener.recv(4096).decode().partition("\nMONOTONIC_USEC=")
    assert word == "RELOADING=1"
    assert before <= int(time_us) <= time.monotonic_ns() // 1000


def test_abstract_socket_is_reached_by_the_name_behind_the_at_sign() -> None:
    name = f"weft-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        Manager({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert listener.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize("place", ["", "relative", "vsock:2:1234", "/nowhere/notify", "@nobody", "/" + "x" * 500])
def test_socket_that_nobody_listens_on_is_nobody_s_trouble(place: str) -> None:
    Manager({"NOTIFY_SOCKET": place}).ready("")


def test_full_queue_of_the_manager_holds_nothing_up(listener: socket.socket) -> None:
    manager = Manager({"NOTIFY_SOCKET": listener.getsockname()})
    started = time.monotonic()
    for _ in range(5000):
        manager.alive()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_is_for_the_process_that_it_names(environment: dict[str, str], expected: float | None) -> None:
    assert Manager(environment).watchdog_s == expected
    assert environment == {}


def test_descriptors_for_another_process_are_left_alone() -> None:
    environment = {"LISTEN_FDS": "2", "LISTEN_PID": "1", "LISTEN_FDNAMES": "api:udp", "PATH": "/bin"}
    assert take_descriptors(environment) == []
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("count", "names", "says"),
    [
        ("many", "", "LISTEN_FDS is 'many'"),
        ("-1", "", "LISTEN_FDS is '-1'"),
        ("65", "", "not a number up to 64"),
        ("2", "api", "1 names for 2 descriptors"),
    ],
)
def test_descriptors_that_are_not_as_the_variables_say_are_one_line(count: str, names: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        take_descriptors({"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": names})


PROGRAM = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from weft.io.systemd import take_descriptors
print(take_descriptors(), [os.get_inheritable(3), os.get_inheritable(4)])
print([name for name in os.environ if name.startswith("LISTEN")], take_descriptors())
"""


@pytest.mark.parametrize(("names", "expected"), [("api:udp", ["api", "udp"]), ("", ["unknown", "unknown"])])
def test_descriptors_are_taken_once_with_their_names_and_not_handed_on(names: str, expected: list[str]) -> None:
    # The shell opens 3 and 4, as systemd does.
    command = f'exec 3</dev/null 4</dev/null; exec "{sys.executable}" -c "$PROGRAM"'
    environment = os.environ | {"LISTEN_FDS": "2", "LISTEN_FDNAMES": names, "PROGRAM": PROGRAM}
    said = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [f"{list(zip(expected, (3, 4), strict=True))} [False, False]", "[] []"]


def test_journal_is_known_by_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "other").open("w") as other:
        status = os.fstat(stream.fileno())
        environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(stream.fileno(), environment)
        assert not is_journal(other.fileno(), environment)
        assert not is_journal(stream.fileno(), {})
    assert not is_journal(99_999, environment)
