"""Connections taken in one network and made anew in another: a port of this machine for the network, and the reverse.

| command        | takes connections | makes them      |
|----------------|-------------------|-----------------|
| `weft serve`   | in the network    | on this machine |
| `weft forward` | on this machine   | in the network  |

Of both an event loop is one side. Where there is nobody at the other end the connection that was taken is reset, and
whoever runs this is told why.
"""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from typing import Any, Final, Self

from weft.clients.bounded import Bounded, ask_if_silent
from weft.clients.failures import reason_of
from weft.clients.network import Network
from weft.clients.relay import End, connect, relay
from weft.clients.sparing import Sparing, Told

CONNECT_S: Final = 20.0


class Forwarder:
    """Takes connections until `close`; `listen` makes it.

    Args:
        there: where connections are made.
        target: host and port there.
        told: is told in a line what fails.
    """

    def __init__(self, there: Network, target: tuple[str, int], told: Told) -> None:
        self._there = there
        self._target = target
        self._told = told
        self._server: Any = None
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def listen(
        cls,
        here: Network,
        host: Any,
        port: int,
        there: Network,
        target: tuple[str, int],
        *,
        told: Told,
        ssl: ssl_module.SSLContext | None = None,
    ) -> Self:
        """Begin.

        Args:
            here: where connections are taken.
            host: of the port; None for all addresses that this node has in the network.
            port: TCP; 0 for a free one.
            there: where they are made.
            target: host and port there.
            told: is told in a line what fails, and not too often.
            ssl: TLS is spoken with who connects.

        Raises:
            OSError: the port can't be had.
        """
        sparing = Sparing(told)
        made = cls(there, target, sparing)
        made._server = await Bounded(here, sparing).create_server(lambda: _Taken(made), host, port, ssl=ssl)
        return made

    @property
    def port(self) -> int:
        """That it listens on."""
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Take no more connections, and reset those that there are."""
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def take(self, taken: End) -> None:
        """A connection was taken."""
        task = asyncio.get_running_loop().create_task(self._join(taken))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, taken: End) -> None:
        host, port = self._target
        try:
            async with asyncio.timeout(CONNECT_S):
                made = await connect(self._there.create_connection, host, port)
            ask_if_silent(made.transport)
            await relay(taken, made)
            if made.error is not None:
                raise made.error
        except (OSError, UnicodeError) as error:
            self._told(f"{host} port {port}: {reason_of(error)}")
        finally:
            taken.abort()


class _Taken(End):
    """A connection that was taken; whom it is for is asked as soon as it is there."""

    def __init__(self, forwarder: Forwarder) -> None:
        super().__init__()
        self._forwarder = forwarder

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._forwarder.take(self)
