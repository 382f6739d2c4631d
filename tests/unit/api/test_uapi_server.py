"""The socket of `wg`: when it is there, for whom, and what it says to clients of all kinds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import random
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.unit.api.fake_engine import FakeEngine
from weft.api import uapi_server
from weft.api.uapi_server import UapiServer
from weft.engine.device import ChangeRefusedError, DeviceChange, PeerChange
from weft.engine.status import Interface
from weft.errors import ConfigError, UsageError

KEY = bytes(range(32))
SECRET = bytes(range(100, 132))


async def until(ask: Callable[[], object]) -> None:
    """Return when the answer is true."""
    async with asyncio.timeout(5):
        while not ask():  # noqa: ASYNC110 - what is waited for is in the file system, or a log
            await asyncio.sleep(0)


class Bench:
    """A node whose interface a test switches, and its server."""

    def __init__(self, directory: Path) -> None:
        self.node = FakeEngine()
        self.directory = directory / "wireguard"
        self.server = UapiServer(self.node, self.directory, patience_s=0.2)

    def set_up(self, ifname: str | None) -> None:
        self.node.fc00.interface = Interface(up=ifname is not None, ifname=ifname)
        self.node.happened.publish("interface-up" if ifname else "interface-down")

    def path(self, ifname: str = "weft0") -> Path:
        return self.directory / f"{ifname}.sock"

    async def sockets(self, *expected: str) -> None:
        """Return when these are there, and no others."""
        wanted = {f"{name}.sock" for name in expected}
        await until(lambda: {path.name for path in self.directory.glob("*")} == wanted)

    async def ask(self, request: bytes) -> bytes:
        """What a client hears until the server has nothing more to say, when it has said all that it wants."""
        reader, writer = await asyncio.open_unix_connection(self.path())
        writer.write(request)
        writer.write_eof()
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    task = asyncio.create_task(made.server.run())
    await asyncio.sleep(0)
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert list(made.directory.glob("*.sock")) == []


async def test_socket_is_there_while_the_interface_is_up_for_its_owner_alone(bench: Bench) -> None:
    assert not bench.directory.exists()
    bench.set_up("weft0")
    await bench.sockets("weft0")
    assert stat.S_IMODE(bench.path().stat().st_mode) == 0o600
    assert stat.S_IMODE(bench.directory.stat().st_mode) == 0o700
    bench.set_up("weft1")
    await bench.sockets("weft1")
    bench.set_up(None)
    await bench.sockets()


async def test_interface_that_was_up_before_has_its_socket(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.set_up("weft0")
    task = asyncio.create_task(bench.server.run())
    await bench.sockets("weft0")
    task.cancel()
    await asyncio.wait({task})
    assert not bench.path().exists()


async def test_socket_that_a_dead_program_left_is_replaced(bench: Bench) -> None:
    bench.directory.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(bench.path()))
    made_at = bench.path().stat().st_ctime_ns
    bench.set_up("weft0")
    await until(lambda: bench.path().exists() and bench.path().stat().st_ctime_ns != made_at)
    assert (await bench.ask(b"get=1\n\n")).endswith(b"errno=0\n\n")


async def test_socket_of_a_program_that_lives_is_left_to_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.directory.mkdir()
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(bench.path()))
        living.listen()
        inode = bench.path().stat().st_ino
        with caplog.at_level(logging.WARNING):
            bench.set_up("weft0")
            await until(lambda: caplog.records)
        assert "`wg` can't see weft0" in caplog.text
        bench.set_up(None)
        bench.set_up("weft1")
        await bench.sockets("weft0", "weft1")
        assert bench.path().stat().st_ino == inode
    bench.path().unlink()


async def test_directory_that_can_not_be_made_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "wireguard").touch()
    bench = Bench(tmp_path)
    bench.set_up("weft0")
    task = asyncio.create_task(bench.server.run())
    await until(lambda: caplog.records)
    assert "`wg` can't see weft0" in caplog.text
    task.cancel()
    await asyncio.wait({task})


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
async def test_daemon_that_is_not_root_only_mentions_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    bench = Bench(tmp_path)
    bench.set_up("weft0")
    with caplog.at_level(logging.INFO):
        task = asyncio.create_task(bench.server.run())
        await until(lambda: caplog.records)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    task.cancel()
    await asyncio.wait({task})


@pytest.fixture
async def up(bench: Bench) -> Bench:
    bench.set_up("weft0")
    await bench.sockets("weft0")
    return bench


async def test_get_tells_the_device(up: Bench) -> None:
    assert await up.ask(b"get=1\n\n") == f"private_key={64 * '0'}\nlisten_port=1312\nerrno=0\n\n".encode()


async def test_set_hands_the_change_to_the_node(up: Bench) -> None:
    assert await up.ask(f"set=1\npublic_key={KEY.hex()}\nremove=true\n\n".encode()) == b"errno=0\n\n"
    assert up.node.calls[-1] == ("change", DeviceChange(peers=[PeerChange(public_key=KEY, remove=True)]))


async def test_requests_follow_each_other_on_one_connection_however_they_are_cut(up: Bench) -> None:
    reader, writer = await asyncio.open_unix_connection(up.path())
    for byte in b"set=1\nfwmark=0\n\nset=1\nlisten_port=0\n\n":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await reader.readexactly(18) == 2 * b"errno=0\n\n"
    writer.close()
    assert [call[0] for call in up.node.calls if call[0] == "change"] == ["change", "change"]


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (UsageError("no"), errno.EINVAL),
        (PermissionError("no"), errno.EPERM),
        (ConfigError("the disk is full"), errno.EIO),
        (ChangeRefusedError("not here", errno.EOPNOTSUPP), errno.EOPNOTSUPP),
        (ValueError(SECRET.hex()), errno.EIO),
    ],
)
async def test_error_of_the_node_is_a_number_for_wg_and_a_line_for_the_log(
    up: Bench, caplog: pytest.LogCaptureFixture, error: Exception, number: int
) -> None:
    up.node.fails["change"] = error
    with caplog.at_level(logging.DEBUG):
        answer = await up.ask(b"set=1\n\nget=1\n\n")
    assert answer.startswith(f"errno={-number}\n\n".encode())
    assert answer.endswith(b"errno=0\n\n")
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    told = "ValueError" if isinstance(error, ValueError) else str(error)
    assert told in record.getMessage()
    assert SECRET.hex() not in caplog.text


@pytest.mark.parametrize("request_", [b"hello\n\n", b"\n\n", b"set=1\nprivate_key=1\n\nget=1\n\n", b"\xff\xfe\n\n"])
async def test_what_is_no_request_is_answered_so_and_the_connection_ends(up: Bench, request_: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(up.path())
    writer.write(request_)
    async with asyncio.timeout(5):
        assert await reader.read() == f"errno={-errno.EINVAL}\n\n".encode()
    writer.close()
    assert [call for call in up.node.calls if call[0] in {"device", "change"}] == []


async def test_request_without_an_end_is_cut_off(up: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uapi_server, "MAX_REQUEST_BYTES", 1000)
    monkeypatch.setattr("weft.api.uapi.MAX_REQUEST_BYTES", 1000)
    reader, writer = await asyncio.open_unix_connection(up.path())
    writer.write(b"set=1\n" + 1000 * b"fwmark=0\n")
    async with asyncio.timeout(5):
        assert await reader.read() == f"errno={-errno.EINVAL}\n\n".encode()
    writer.close()


@pytest.mark.parametrize("request_", [b"", b"get=1\n"])
async def test_client_that_stalls_is_let_go(up: Bench, request_: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(up.path())
    writer.write(request_)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


async def test_garbage_from_many_clients_changes_nothing_and_the_next_one_is_served(up: Bench) -> None:
    chance = random.Random(1)
    words = (
        b"get=1\n",
        b"set=1\n",
        b"\n",
        b"public_key=",
        b"\x00",
        b"replace_peers=true\n",
        b"=",
        b"errno=0\n",
        b"\xff",
    )
    for _ in range(200):
        with contextlib.suppress(ConnectionError):
            await up.ask(b"x" + b"".join(chance.choices(words, k=chance.randrange(12))))
    assert [call for call in up.node.calls if call[0] == "change"] == []
    assert (await up.ask(b"get=1\n\n")).endswith(b"errno=0\n\n")


async def test_client_too_many_is_turned_away_until_another_goes(up: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uapi_server, "MAX_CLIENTS", 2)
    first, *others = [await asyncio.open_unix_connection(up.path()) for _ in range(3)]
    async with asyncio.timeout(5):
        assert await others[1][0].read() == b""
    for _, writer in (first, others[1]):
        writer.close()
    await until(lambda: len(up.server._clients) == 1)
    assert (await up.ask(b"get=1\n\n")).endswith(b"errno=0\n\n")
    others[0][1].close()
