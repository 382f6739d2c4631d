"""An echo on a Unix socket, as users of asyncio write it: what netd's round trips are compared with.

Usage: python -m bench.generators.unix_echo
Does what verbs.py says: `serve` an echo at a path.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bench.generators.traffic import READ_BYTES
from bench.generators.verbs import obey


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say what is heard."""
    while data := await reader.read(READ_BYTES):
        writer.write(data)
        await writer.drain()
    writer.close()


async def run() -> None:
    """Do what comes."""
    servers = []

    async def serve(path: str) -> dict[str, Any]:
        servers.append(await asyncio.start_unix_server(echo, path))
        return {}

    await obey({"serve": serve})


if __name__ == "__main__":
    asyncio.run(run())
