"""What systemd hears of a daemon, with a fake node inside and a socket in systemd's place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.unit.api.fake_engine import FakeEngine
from weft.api.serve import serve
from weft.api.unix_socket import ApiSocket
from weft.errors import ConfigError
from weft.io.systemd import Manager

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


class Systemd:
    """Listens to a service.

    Attributes:
        node: of the service.
    """

    def __init__(self, listener: socket.socket, node: FakeEngine) -> None:
        self.node = node
        self._listener = listener

    async def hears(self) -> list[str]:
        """The lines of the next message."""
        async with asyncio.timeout(5):
            message = await asyncio.get_running_loop().sock_recv(self._listener, 4096)
        return message.decode().split("\n")


@asynccontextmanager
async def service(directory: Path, **environment: str) -> AsyncIterator[Systemd]:
    """A service that runs in the block, and is ended by a signal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, ApiSocket(directory / "api.sock") as api:
        listener.bind(str(directory / "notify"))
        listener.setblocking(False)
        node = FakeEngine()
        systemd = Systemd(listener, node)
        manager = Manager({"NOTIFY_SOCKET": str(directory / "notify")} | environment)
        task = asyncio.create_task(serve(node, api, manager))
        yield systemd
        os.kill(os.getpid(), signal.SIGTERM)
        while await systemd.hears() != ["STOPPING=1"]:
            pass
        await task


async def test_service_is_ready_when_it_answers_and_says_when_it_ends(tmp_path: Path) -> None:
    async with service(tmp_path) as systemd:
        assert await systemd.hears() == ["READY=1", "STATUS=this node is fc22::1"]
        reader, writer = await asyncio.open_unix_connection(tmp_path / "api.sock")
        writer.write(b"GET /v0/node/info HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 ")
        writer.close()


async def test_node_that_does_not_start_is_never_ready(tmp_path: Path) -> None:
    node = FakeEngine()
    node.fails["start"] = ConfigError("port 1312 is busy")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, ApiSocket(tmp_path / "api.sock") as api:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        with pytest.raises(ConfigError):
            await serve(node, api, Manager({"NOTIFY_SOCKET": str(tmp_path / "notify")}))
        with pytest.raises(BlockingIOError):
            listener.recv(4096)


async def test_node_that_lives_says_so_twice_in_the_time_of_the_watchdog(tmp_path: Path) -> None:
    async with service(tmp_path, WATCHDOG_USEC="1000000") as systemd:
        assert (await systemd.hears())[0] == "READY=1"
        assert await systemd.hears() == ["WATCHDOG=1"]
        started = asyncio.get_running_loop().time()
        assert await systemd.hears() == ["WATCHDOG=1"]
        assert 0.25 < asyncio.get_running_loop().time() - started < 0.95


async def test_node_that_is_not_healthy_lets_the_watchdog_bite(tmp_path: Path) -> None:
    async with service(tmp_path, WATCHDOG_USEC="20000") as systemd:
        systemd.node.is_healthy = False
        assert (await systemd.hears())[0] == "READY=1"
        for _ in range(3):
            assert await systemd.hears() == ["STATUS=the session is being built anew, and that takes too long"]
        systemd.node.is_healthy = True
        while await systemd.hears() != ["WATCHDOG=1"]:
            pass


async def test_sighup_reloads_between_reloading_and_ready(tmp_path: Path) -> None:
    async with service(tmp_path) as systemd:
        await systemd.hears()
        os.kill(os.getpid(), signal.SIGHUP)
        said = await systemd.hears()
        assert said[0] == "RELOADING=1"
        assert said[1].startswith("MONOTONIC_USEC=")
        assert (await systemd.hears())[0] == "READY=1"
        assert ("reload",) in systemd.node.calls


async def test_reload_of_a_wrong_file_is_logged_and_the_service_stays_ready(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with service(tmp_path) as systemd:
        systemd.node.fails["reload"] = ConfigError("unknown key", file="weft.toml", key="peer.listem")
        await systemd.hears()
        os.kill(os.getpid(), signal.SIGHUP)
        assert (await systemd.hears())[0] == "RELOADING=1"
        assert (await systemd.hears())[0] == "READY=1"
    assert "the configuration stays as it is: weft.toml: peer.listem: unknown key" in caplog.text


async def test_reload_that_is_under_way_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with service(tmp_path) as systemd:
        await systemd.hears()

        async def never() -> None:
            await asyncio.get_running_loop().create_future()

        systemd.node.settings.reload = never
        os.kill(os.getpid(), signal.SIGHUP)
        assert (await systemd.hears())[0] == "RELOADING=1"
