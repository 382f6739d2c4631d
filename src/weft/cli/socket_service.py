"""netd of a daemon: its socket beside that of the API, and the node as netd sees it.

Where the socket can't be made, the daemon goes on without.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from weft.api.streams.resolver import SystemResolver
from weft.api.unix_socket import ApiSocket
from weft.engine.engine import Engine
from weft.engine.status import Interface
from weft.errors import UsageError
from weft.io.backend import Backend
from weft.netd.server import Server
from weft.stack.dns.names import Names

FILE_NAME: Final = "netd.sock"
QUESTIONS_AT_ONCE: Final = 3
"""That the system is asked, which each keep one of the few threads that the daemon has for all that is slow."""

log = logging.getLogger(__name__)


class EngineNetwork:
    """A node, as netd sees it.

    Args:
        engine: the node.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._resolver = _Resolver(Names(engine.peers.addresses_of))

    @property
    def backend(self) -> Backend | None:
        """Where its sockets come from."""
        return self._engine.backend

    def interface(self) -> Interface:
        """Its interface."""
        return self._engine.fc00.status()

    async def resolve(self, name: str, family: int = socket.AF_UNSPEC) -> Sequence[bytes]:
        """Look up a name, as `Node` does."""
        return await self._resolver.resolve(name, family)


class _Resolver(SystemResolver):
    """Asks the system a few things at once; what the node knows by itself does not wait."""

    def __init__(self, names: Names) -> None:
        super().__init__(names)
        self._turns = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    async def _ask(self, host: str, family: int) -> list[bytes]:
        async with self._turns:
            return await super()._ask(host, family)


def socket_service(engine: Engine, directory: Path, stack: ExitStack) -> Mapping[str, Server]:
    """What a daemon serves besides its API.

    Args:
        engine: the node.
        directory: of the node.
        stack: closes the socket at the end.

    Returns:
        By name: netd, or nothing.
    """
    try:
        listening = stack.enter_context(ApiSocket(directory / FILE_NAME))
    except UsageError as error:
        # What comes after the semicolon is advice about the socket of the API.
        log.warning("there is no netd: %s", str(error).partition(";")[0])
        return {}
    return {"netd": Server(EngineNetwork(engine), listening.socket)}
