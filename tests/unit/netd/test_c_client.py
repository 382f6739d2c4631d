"""The client in C, on a host that is joined to another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.netd.c_client import compiled
from tests.unit.netd.served import Served


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("c"))


async def run(program: Path, served: Served, *words: object) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        program, served.path, *map(str, words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, said.decode()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 17):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_as_client_of_an_echo(program: Path, served: Served) -> None:
    server = await served.right.streams.start_server(echo, None, 80)
    assert await run(program, served, "echo", "right", 80, "hello") == (0, "hello\n")
    assert await run(program, served, "bulk", served.right.ipv4, 80, 5_000_001) == (0, "5000001 5000001\n")
    code, said = await run(program, served, "rounds", served.right.ipv4, 80, 50)
    assert (code, float(said) > 0) == (0, True)
    server.close()


async def test_as_echo(program: Path, served: Served) -> None:
    serving = asyncio.create_task(run(program, served, "serve", 81))
    while not served.backend.counts().listeners:  # noqa: ASYNC110 - a process tells nobody
        await asyncio.sleep(0.005)
    reader, writer = await served.right.streams.open_connection(served.left.ipv6, 81)
    whole = bytes(range(256)) * 1000
    writer.write(whole)
    writer.write_eof()
    assert await reader.read() == whole
    writer.close()
    assert await serving == (0, "listening on 81\n")


async def test_failures_are_told(program: Path, served: Served) -> None:
    assert (await run(program, served, "ping", "right"))[0] == 0
    assert await run(program, served, "echo", "right", 9, "x") == (1, "connect: status -111\n")
    assert await run(program, served, "ping", "nobody") == (1, "nobody: status -2\n")
    served.network.backend, served.network.device = None, None
    assert await run(program, served, "ping", "right") == (1, "ping: the daemon has no interface\n")
