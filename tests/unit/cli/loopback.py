"""Commands that connect in the network, on the loopback interface of this machine instead.

`python -m tests.unit.cli.loopback WORDS…` is `weft WORDS…` there.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from tests.unit.api.fake_engine import a_peer
from weft.api.kernel import KernelSockets
from weft.api.overlay import Overlay
from weft.cli import attached as network
from weft.cli import fetch, main, tls
from weft.cli.settings import Settings

HERE = "127.0.0.1"
TURNS = 5
"""Of the loop, until what was begun is done."""


class Loopback(Overlay):
    """The network: whatever a host is called, it is here; it ends when standard input does.

    Attributes:
        address: of this node.
        peers: that it knows.
    """

    address = HERE
    peers: tuple[object, ...] = (
        a_peer("loom", addresses=[f"{HERE}/32"]),
        a_peer("hub", addresses=["127.0.0.0/8"]),
    )

    def __init__(self) -> None:
        async def resolve(host: str, family: int) -> list[bytes]:
            return [bytes([127, 0, 0, 1])]

        self._sockets = KernelSockets(resolve, lambda: [HERE])

    async def events(self, *kinds: str) -> AsyncIterator[str]:
        """What happens: nothing."""
        if sys.stdin.isatty():  # where a person types
            await asyncio.Future()
        await asyncio.to_thread(sys.stdin.read)
        for none in ():
            yield none


@asynccontextmanager
async def attached(settings: Settings) -> AsyncIterator[Overlay]:
    yield Loopback()


@contextmanager
def serving(speak: Any, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server in a thread, which speaks as it likes; gives its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await speak(reader, writer)
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(loop.create_task(handle(reader, writer)))

    tasks: set[asyncio.Task[None]] = set()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(accept, HERE, 0, ssl=context), loop).result()

    async def end() -> None:
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
        # A server that is closed before it knows of one that asyncio has let in leaves that one open.
        await asyncio.sleep(0)
        server.close()
        for _ in range(TURNS):
            # Who was let in a moment ago, or still agrees on TLS, is known to the loop alone.
            for transport in list(loop._transports.values()):  # type: ignore[attr-defined]
                transport.abort()
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


if __name__ == "__main__":
    network.attached = fetch.attached = tls.attached = attached  # type: ignore[assignment]
    sys.exit(main(sys.argv[1:]))
