"""What nodes cost a program: to import, and to have many."""

from __future__ import annotations

import subprocess
import sys

import pytest

NODE_BYTES = 22 << 20
"""Each after the first may take so much."""

MANY = """
import asyncio
from contextlib import AsyncExitStack

import weft


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


async def sink(reader, writer):
    while await reader.read(1 << 16):
        pass
    writer.close()


async def fill(one, other):
    reader, writer = await one.open_connection(other, 80)
    for _ in range(40):
        writer.write(bytes(1 << 16))
        await writer.drain()
    writer.write_eof()
    await reader.read()
    writer.close()


async def use(one, other):
    await one.connect_peer(other.multiaddrs[0])
    await asyncio.gather(fill(one, other), fill(other, one))


async def main():
    async with AsyncExitStack() as stack:
        nodes = []
        for _ in range(12):
            nodes.append(await stack.enter_async_context(weft.Node(listen=["/ip4/127.0.0.1/udp/0"])))
            await nodes[-1].start_server(sink, port=80)
            if len(nodes) == 2:
                await use(*nodes)
                before = resident()
        for node in nodes[2:]:
            await use(node, nodes[0])
        print((resident() - before) // 10)


asyncio.run(main())
"""


def output_of(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_of_the_package_loads_no_other_part_of_it() -> None:
    loaded = set(output_of("import sys, weft; print(*sys.modules)").split())
    assert [name for name in loaded if name.startswith("weft")] == ["weft"]
    assert not loaded & {"asyncio", "msgspec", "cryptography"}


def test_package_has_the_node_and_nothing_that_there_is_not() -> None:
    assert output_of("import weft; print(weft.Node.__name__, 'Node' in weft.__all__)") == "Node True\n"
    with pytest.raises(AssertionError, match="has no attribute 'Nodes'"):
        output_of("import weft; weft.Nodes")


def test_node_needs_no_netlink_package_and_no_http() -> None:
    heavy = output_of("import sys, weft; weft.Node; print(*{'aiohttp', 'pyroute2', 'dns', 'click'} & set(sys.modules))")
    assert heavy.split() == []


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory of a process")
def test_many_nodes_are_small() -> None:
    assert int(output_of(MANY)) < NODE_BYTES
