"""`weft proxy`: where it listens, who may use it, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import pytest

from tests.unit.cli.loopback import HERE, serving
from tests.unit.cli.terminal import Terminal
from weft.cli.proxy import _place
from weft.cli.schemas import schemas
from weft.errors import UsageError

BOB = b"\5\1\0\3\3bob\0\x50"


@pytest.fixture
def port() -> int:
    """A free one."""
    with socket.socket() as sock:
        sock.bind((HERE, 0))
        return int(sock.getsockname()[1])


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, in a network that is the loopback interface and so leads nowhere."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.cli.loopback", "proxy", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def answer(port: int, *requests: bytes) -> bytes:
    """What a proxy says until it ends the connection."""
    with socket.create_connection((HERE, port), timeout=10) as sock:
        for each in requests:
            sock.sendall(each)
        return b"".join(iter(lambda: sock.recv(100), b""))


def test_it_goes_on_until_interrupted_and_says_what_it_refused(port: int) -> None:
    with running("--listen", str(port)) as process:
        assert said(process) == f"SOCKS5 and HTTP proxy for the network on 127.0.0.1:{port}\n"
        # What a name leads to here is not in the network.
        assert answer(port, b"\5\1\0", BOB) == b"\5\0\5\3\0\1" + bytes(6)
        assert answer(port, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert err == "weft: refused: 1 (it is not in the network), 1 (this is no request that a proxy understands)\n"


def test_json_is_a_line_once_it_can_be_used(port: int) -> None:
    with running("--listen", f"[::1]:{port}", "--json") as process:
        told = json.loads(said(process))
        jsonschema.validate(told, schemas()["weft proxy"], cls=jsonschema.Draft202012Validator)
        assert told == {"schema": 1, "listen": f"[::1]:{port}"}
        socket.create_connection(("::1", port)).close()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


def test_it_ends_with_the_network(port: int) -> None:
    with running("--listen", str(port)) as process:
        said(process)
        _, err = process.communicate("", timeout=20)
    assert (process.returncode, err) == (1, "weft: the network has ended: its daemon or its interface went down\n")


def test_only_who_is_in_the_file_may_use_it(port: int, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.touch(mode=0o600)
    users.write_text("# ours\n\nanna:s3cret:x\n")
    with running("--listen", str(port), "--auth", str(users)) as process:
        said(process)
        assert answer(port, b"\5\1\0") == b"\5\xff"
        assert answer(port, b"\5\1\2", b"\1\4anna\x08s3cret:y") == b"\5\2\1\1"
        assert answer(port, b"\5\1\2", b"\1\4anna\x08s3cret:x", BOB)[:6] == b"\5\2\1\0\5\3"


def test_port_that_is_taken_is_one_line(port: int) -> None:
    with serving(None) as taken, running("--listen", str(taken)) as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert err == f"weft: 127.0.0.1 port {taken}: address already in use\n"


@pytest.mark.parametrize(
    ("content", "mode", "code", "says"),
    [
        (None, 0o600, 1, "No such file or directory"),
        ("anna:s3cret", 0o640, 1, "others can use this secret (mode 0640); run: chmod 600"),
        ("anna", 0o600, 1, "line 1 is not NAME:PASSWORD"),
        ("a:b\n:x\n", 0o600, 1, "line 2 is not NAME:PASSWORD"),
        (f"a:{256 * 'b'}\n", 0o600, 1, "line 1 is not NAME:PASSWORD"),
        ("# nobody\n", 0o600, 1, "names nobody; a line is NAME:PASSWORD"),
    ],
)
def test_file_that_does_not_do_is_one_line(
    weft: Terminal, tmp_path: Path, *, content: str | None, mode: int, code: int, says: str
) -> None:
    users = tmp_path / "users"
    if content is not None:
        users.touch(mode=mode)
        users.chmod(mode)
        users.write_text(content)
    seen = weft("proxy", "--auth", str(users))
    assert (seen.code, seen.out, seen.err.count("\n")) == (code, "", 1)
    assert says in seen.err
    assert str(users) in seen.err
    assert "s3cret" not in seen.err


def test_without_a_daemon_it_is_one_line(weft: Terminal) -> None:
    seen = weft("proxy")
    assert (seen.code, seen.err) == (1, f"weft: no daemon answers at {weft.socket}; start it with `weft up`\n")


@pytest.mark.parametrize(
    ("listen", "is_protected", "place"),
    [
        ("1090", False, ("127.0.0.1", 1090)),
        ("127.0.0.2:1", False, ("127.0.0.2", 1)),
        ("[::1]:65535", False, ("::1", 65_535)),
        ("0.0.0.0:1080", True, ("0.0.0.0", 1080)),
        ("[fc00::1]:1080", True, ("fc00::1", 1080)),
    ],
)
def test_where_it_listens(listen: str, is_protected: bool, place: tuple[str, int]) -> None:
    assert _place(listen, is_protected=is_protected) == place


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("", "is no port"),
        ("0", "is no port"),
        ("loom", "is no port"),
        ("::1:1080", "expected a host and a port"),
        ("localhost:1080", "'localhost' is no address of this machine"),
        ("0.0.0.0:1080", "other machines could use it; --auth FILE says who may"),
        ("[::]:1080", "other machines could use it; --auth FILE says who may"),
    ],
)
def test_where_it_does_not(listen: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        _place(listen, is_protected=False)
