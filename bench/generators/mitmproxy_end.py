"""mitmproxy-rs as a rootless host behind WireGuard: a sink of streams, whatever address and port they are for.

Usage: PYTHONPATH=… python -m bench.generators.mitmproxy_end ADDRESS PORT PEER-KEY
ADDRESS and PORT are where it takes WireGuard's datagrams, PEER-KEY is the sender's, in base64. Does what
generators/verbs.py says; `who` gives its own key.
"""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

from bench.generators.traffic import COUNT_BYTES, READ_BYTES
from bench.generators.verbs import obey

# What finds its helper for local processes, which needs root and has no wheel for every Python; it is not used here.
sys.modules.setdefault("mitmproxy_linux", ModuleType("mitmproxy_linux"))


async def sink(stream: Any) -> None:
    """Take everything, and answer how much it was."""
    arrived = 0
    while data := await stream.read(READ_BYTES):
        arrived += len(data)
    stream.write(arrived.to_bytes(COUNT_BYTES, "big"))
    await stream.drain()
    stream.close()


async def run(address: str, port: int, peer_key: str) -> None:
    """Be that host."""
    from mitmproxy_rs import wireguard

    private_key = wireguard.genkey()
    server = await wireguard.start_wireguard_server(address, port, private_key, [peer_key], sink, sink)

    async def who() -> dict[str, Any]:
        return {"key": wireguard.pubkey(private_key)}

    await obey({"who": who})
    server.close()
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
