"""netd of a real daemon whose network is inside it, without any right; on the other side a node in Python."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

import weft
from tests.unit.cli.machine import Machine
from tests.unit.cli.test_real_daemon import make_machine
from tests.unit.netd.c_client import compiled
from weft import netd
from weft.netd.status import Status


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = make_machine(tmp_path / "a")
    daemon = machine.start_daemon()
    yield machine
    daemon.terminate()
    assert daemon.communicate(timeout=20)[1].count("ERROR") == 0
    assert daemon.returncode == 0
    assert not (machine.directory / "netd.sock").exists()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 17):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_programs_reach_a_python_node_through_the_daemon(machine: Machine, tmp_path: Path) -> None:
    program, path = compiled(tmp_path), machine.directory / "netd.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    async def run(*words: object) -> str:
        process = await asyncio.create_subprocess_exec(
            program, path, *map(str, words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        return (await asyncio.wait_for(process.communicate(), 30))[0].decode()

    async with netd.Client(path) as client, weft.Node(listen=("/ip4/127.0.0.1/udp/0",)) as node:
        with pytest.raises(netd.NetdError) as caught:
            await client.socket()
        assert caught.value.status is Status.NO_INTERFACE
        for words in (("fc00", "start", "--stack"), ("peer", "connect", node.multiaddrs[0], "--name", "python")):
            done = await asyncio.to_thread(machine, *words)
            assert done.code == 0, done.err
        assert await client.resolve("python") == [node.address]
        server = await node.start_server(echo, port=80)
        assert (await run("ping", "python")).endswith(" us\n")
        assert await run("echo", "python", 80, "hello") == "hello\n"
        assert await run("bulk", "python", 80, 3_000_000) == "3000000 3000000\n"
        serving = asyncio.create_task(run("serve", 81))
        own = (await client.info()).addresses[0].address.address
        while not (await client.stats()).listeners:  # noqa: ASYNC110 - a process tells nobody
            await asyncio.sleep(0.01)
        reader, writer = await node.open_connection(ip_address(own), 81)
        writer.write(b"to C")
        writer.write_eof()
        assert await reader.read() == b"to C"
        writer.close()
        assert await serving == "listening on 81\n"
        socket = await client.socket()
        await socket.connect(node.address, 80)
        waiting = asyncio.create_task(socket.receive())
        assert (await asyncio.to_thread(machine, "fc00", "stop")).code == 0
        with pytest.raises(netd.NetdError) as caught:
            await waiting
        assert caught.value.status in {Status.ABORTED, Status.RESET}
        server.close()
