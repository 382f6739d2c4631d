from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from tests.unit.api.fake_engine import FakeEngine
from weft.api.client import Client
from weft.api.serve import serve
from weft.api.unix_socket import ApiSocket
from weft.api.v0 import node as node_api
from weft.api.v0 import peer as peer_api
from weft.api.v0.peer import Connect
from weft.errors import ConfigError, WeftError


def end_by_signal(path: Path, number: int) -> None:
    Client(path).call(node_api.INFO)
    os.kill(os.getpid(), number)


def end_by_request(path: Path, _: int) -> None:
    Client(path).call(node_api.STOP)


@pytest.mark.parametrize(
    ("end", "number"), [(end_by_signal, signal.SIGTERM), (end_by_signal, signal.SIGINT), (end_by_request, 0)]
)
def test_node_is_closed_when_it_is_told_to_end_and_its_file_goes_last(tmp_path: Path, end, number: int) -> None:
    path = tmp_path / "api.sock"
    node = FakeEngine()
    with ApiSocket(path) as socket:
        thread = threading.Thread(target=end, args=(path, number))
        thread.start()
        asyncio.run(serve(node, socket))
        thread.join(10)
        assert path.exists()
    assert not path.exists()
    assert node.calls[0] == ("start",)
    assert node.calls[-1] == ("stop",)


def test_node_that_does_not_start_is_the_caller_s_error(tmp_path: Path) -> None:
    node = FakeEngine()
    node.fails["start"] = ConfigError("port 1312 is busy", file="weft.toml", key="peer.listen")
    with ApiSocket(tmp_path / "api.sock") as socket, pytest.raises(ConfigError, match="port 1312 is busy"):
        asyncio.run(serve(node, socket))
    assert node.calls == [("start",)]


def test_request_under_way_at_the_end_does_not_hold_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.api.server.GRACE_S", 0.05)
    path = tmp_path / "api.sock"
    node = FakeEngine()
    node.blocks = asyncio.Event()
    seen: list[Exception] = []

    def call() -> None:
        try:
            Client(path).call(peer_api.CONNECT, Connect(target="/x"))
        except WeftError as error:
            seen.append(error)

    def end() -> None:
        while not node.calls or node.calls[-1][0] != "connect":
            threading.Event().wait(0.01)
        Client(path).call(node_api.STOP)

    threads = [threading.Thread(target=call), threading.Thread(target=end)]
    with ApiSocket(path) as socket:
        for thread in threads:
            thread.start()
        asyncio.run(serve(node, socket))
    for thread in threads:
        thread.join(10)
    assert node.calls[-1] == ("stop",)
    assert "went away" in str(seen[0])
