"""netd on the left one of two ends that are joined, and a client that says what it likes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.unit.api.streams.joined import Node
from tests.unit.netd.kernel_end import KernelEnd
from weft.engine.stack_backend import StackBackend
from weft.engine.status import Interface
from weft.io.backend import Backend
from weft.netd.frames import Frames, decode_reply, encode_request
from weft.netd.messages import MESSAGES, Code
from weft.netd.server import Server
from weft.stack.dns.names import Names


class FakeNetwork:
    """A node, as netd sees it."""

    def __init__(self, backend: Backend, names: Node) -> None:
        self.names = names
        self.backend: Backend | None = backend
        self.device: str | None = "stack"
        self.hang: asyncio.Event | None = None

    def interface(self) -> Interface:
        up = self.device is not None
        return Interface(up=up, device=self.device, address="fc00::1", addresses=["10.7.0.1/24"], mtu=1352)  # type: ignore[arg-type]

    async def resolve(self, name: str, family: int) -> Sequence[bytes]:
        if self.hang is not None:
            await self.hang.wait()
        known = Names().look_up(name)
        return known if known is not None else await self.names._resolve(name, family)


class Served:
    """What tests get."""

    def __init__(self, left: Node | KernelEnd, right: Node, path: Path) -> None:
        self.left, self.right, self.path = left, right, path
        self.backend = left.backend if isinstance(left, KernelEnd) else StackBackend(left.driver)
        self.network = FakeNetwork(self.backend, right)
        self.server: Server

    async def end(self) -> None:
        """The interface of the node goes."""
        if isinstance(self.left, KernelEnd):
            await self.left.end()
        else:
            self.left.driver.close()


on_kernel = pytest.mark.parametrize("served", [pytest.param("kernel", marks=pytest.mark.system)], indirect=True)
on_stack = pytest.mark.parametrize("served", ["stack"], indirect=True)
"""For tests that look into the host."""


@asynccontextmanager
async def serving(left: Node | KernelEnd, right: Node, directory: Path) -> AsyncIterator[Served]:
    served = Served(left, right, directory / "netd.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(served.path))
        listening.listen(1024)
        listening.setblocking(False)
        served.server = Server(served.network, listening)
        task = asyncio.create_task(served.server.run())
        await asyncio.sleep(0)
        try:
            yield served
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class Raw:
    """A client that says bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._frames = Frames()

    def say(self, code: Code | int, request: int, fields: Any) -> None:
        self.writer.write(encode_request(code, request, MESSAGES[Code(code)].request.encode(fields)))

    async def hear(self) -> tuple[int, int, int, bytes]:
        """Code, request, status and fields of the next message."""
        while (message := self._frames.take()) is None:
            data = await asyncio.wait_for(self.reader.read(1 << 16), 5)
            if not data:
                raise EOFError
            self._frames.feed(data)
        code, request, rest = message
        status, fields = decode_reply(rest)
        return code, request, status, bytes(fields)

    async def ask(self, code: Code, fields: Any) -> Any:
        """The reply, or its status."""
        self.say(code, 1, fields)
        _, _, status, body = await self.hear()
        return status or MESSAGES[code].reply.decode(body)

    async def is_let_go(self) -> bool:
        with suppress(ConnectionError):
            while await asyncio.wait_for(self.reader.read(1 << 16), 5):
                pass
        return True


@asynccontextmanager
async def raw(served: Served) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_unix_connection(str(served.path))
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
