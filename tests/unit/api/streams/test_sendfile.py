"""`loop.sendfile` over our transports, on asyncio's loop; uvloop has none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.unit.api.streams.certificates import client_context, server_context
from tests.unit.api.streams.joined import Node
from tests.unit.api.streams.recorders import Recorder, until

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 2000)
    return path


async def pair(left: Node, right: Node, *, with_tls: bool) -> tuple[Any, Recorder]:
    served: list[Recorder] = []

    def make() -> Recorder:
        served.append(Recorder())
        return served[-1]

    server, client = (server_context(), client_context()) if with_tls else (None, None)
    await right.streams.create_server(make, None, 80, ssl=server)
    transport, _ = await left.streams.create_connection(Recorder, "right", 80, ssl=client)
    await until(lambda: served)
    return transport, served[0]


@pytest.mark.parametrize("with_tls", [False, True])
async def test_file_is_sent_between_other_data(left: Node, right: Node, file: Path, with_tls: bool) -> None:
    transport, served = await pair(left, right, with_tls=with_tls)
    transport.write(b"before")
    with file.open("rb") as opened:
        assert await asyncio.get_running_loop().sendfile(transport, opened) == 512_000
    transport.write(b"after")
    await until(lambda: served.data == b"before" + file.read_bytes() + b"after")
    transport.close()


async def test_part_of_a_file_is_sent(left: Node, right: Node, file: Path) -> None:
    transport, served = await pair(left, right, with_tls=False)
    with file.open("rb") as opened:
        assert await asyncio.get_running_loop().sendfile(transport, opened, 1000, 100_000) == 100_000
        assert opened.tell() == 101_000
    await until(lambda: served.data == file.read_bytes()[1000:101_000])
    transport.close()


async def test_without_the_fallback_it_is_refused(left: Node, right: Node, file: Path) -> None:
    transport, _ = await pair(left, right, with_tls=False)
    with file.open("rb") as opened, pytest.raises(RuntimeError, match="fallback is disabled"):
        await asyncio.get_running_loop().sendfile(transport, opened, fallback=False)
    transport.close()
