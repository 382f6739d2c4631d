"""Many rootless nodes in one process; the first is the peer of all others, and each has sent it something.

Usage: python -m bench.generators.many_nodes
Does what verbs.py says: `add` starts that many more nodes.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import weft
from bench.generators import traffic
from bench.generators.verbs import obey

# So much that all buffers of a node have been in use.
SENDING_S = 0.3


async def run() -> None:
    """Do what comes."""
    nodes: list[weft.Node] = []

    async def add(count: int) -> dict[str, Any]:
        for _ in range(count):
            node = await stack.enter_async_context(weft.Node())
            nodes.append(node)
            if node is nodes[0]:
                await traffic.Services(node).start(None)
            else:
                await node.connect_peer(nodes[0].multiaddrs[0])
            # The first one sends to itself.
            await traffic.transfer(node, str(nodes[0].address), 1, SENDING_S)
        return {"nodes": len(nodes)}

    async with AsyncExitStack() as stack:
        await obey({"add": add})


if __name__ == "__main__":
    asyncio.run(run())
