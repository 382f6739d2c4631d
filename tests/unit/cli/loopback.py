"""Commands that connect in the network, on the loopback interface of this machine instead.

`python -m tests.unit.cli.loopback WORDS…` is `weft WORDS…` there.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from weft.api.kernel import KernelSockets
from weft.api.overlay import Overlay
from weft.cli import fetch, main, tls
from weft.cli.settings import Settings

HERE = "127.0.0.1"


class Loopback(Overlay):
    """The network: whatever a host is called, it is here."""

    def __init__(self) -> None:
        async def resolve(host: str, family: int) -> list[bytes]:
            return [bytes([127, 0, 0, 1])]

        self._sockets = KernelSockets(resolve, lambda: [HERE])


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
        try:
            await speak(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(handle, HERE, 0, ssl=context), loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(_end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    fetch.attached = tls.attached = attached  # type: ignore[assignment]
    sys.exit(main(sys.argv[1:]))
