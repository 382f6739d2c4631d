"""A program that uses the network from Python, told line by line what to do: `python -m tests.system.program HOW`.

HOW is `node` for a `weft.Node` of its own, `tun` for one with a TUN, `attach PATH` for one of a daemon, `kernel` for
the system's sockets. Each line is a JSON list, a verb and its arguments; the answer is one line of JSON, or a word that
says what went wrong. With WEFT_TEST_UVLOOP it runs on uvloop.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from typing import Any

import weft
from weft.errors import WeftError


class Kernel:
    """The system's sockets, with the names of a node."""

    open_connection = staticmethod(asyncio.open_connection)
    start_server = staticmethod(asyncio.start_server)


class Program:
    """Does what it is told."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.kept: list[Any] = []

    async def who(self) -> list[Any]:
        """Its address and what others can dial."""
        return [str(self.node.address), self.node.multiaddrs]

    async def meet(self, multiaddr: str, name: str) -> str:
        return str((await self.node.connect_peer(multiaddr, name=name)).state)

    async def allow(self, *rules: str) -> list[str]:
        return list((await self.node.allow(*rules)).allow)

    async def device(self) -> str:
        return str((await self.node.status()).interface.device)

    async def serve(self, port: int, host: str | None = None) -> str:
        """Echo whatever comes."""
        self.kept.append(await self.node.start_server(_echo, host, port))
        return "serving"

    async def echo(self, host: str, port: int, size: int) -> str:
        """Send so many bytes to a server that echoes, and compare."""
        data = os.urandom(min(size, 1 << 16)) * -(-size // (1 << 16))
        reader, writer = await self.node.open_connection(host, port)

        async def write() -> None:
            writer.write(data[:size])
            await writer.drain()
            writer.write_eof()

        came, _ = await asyncio.gather(reader.read(), write())
        writer.close()
        await writer.wait_closed()
        return "the same" if came == data[:size] else f"{len(came)} other bytes"

    async def keep(self, host: str, port: int) -> str:
        """Open a connection and let it be."""
        reader, writer = await self.node.open_connection(host, port)
        writer.write(b"x")
        await reader.readexactly(1)
        self.kept.append((reader, writer))
        return "open"

    async def ended(self) -> str:
        """How the connection that is kept ends."""
        reader, writer = self.kept.pop()
        try:
            return repr(await asyncio.wait_for(reader.read(), 30))
        finally:
            writer.close()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main(how: str, *arguments: str) -> None:
    async with AsyncExitStack() as stack:
        node: Any = Kernel()
        if how in {"node", "tun"}:
            node = await stack.enter_async_context(weft.Node(device="tun" if how == "tun" else "stack"))
        elif how == "attach":
            node = await stack.enter_async_context(weft.Node.attach(*arguments))
        program = Program(node)
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            verb, *words = json.loads(line)
            try:
                answer = json.dumps(await getattr(program, verb)(*words))
            except (OSError, WeftError) as error:
                answer = type(error).__name__
            print(answer, flush=True)


if __name__ == "__main__":
    if os.environ.get("WEFT_TEST_UVLOOP"):
        import uvloop

        uvloop.run(main(*sys.argv[1:]))
    else:
        asyncio.run(main(*sys.argv[1:]))
