"""netd of a daemon: its socket beside that of the API, and the node as netd sees it.

Where the socket can't be made, the daemon goes on without.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from weft.api.unix_socket import ApiSocket
from weft.engine.engine import Engine
from weft.engine.status import Interface
from weft.errors import UsageError
from weft.io.backend import Backend
from weft.netd.server import Server

FILE_NAME: Final = "netd.sock"

log = logging.getLogger(__name__)


class EngineNetwork:
    """A node, as netd sees it.

    Args:
        engine: the node.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def backend(self) -> Backend | None:
        """Where its sockets come from."""
        return self._engine.backend

    def interface(self) -> Interface:
        """Its interface."""
        return self._engine.fc00.status()

    async def resolve(self, name: str, family: int = socket.AF_UNSPEC) -> Sequence[bytes]:
        """Look up a name, as `Node` does."""
        return await self._engine.names.resolve(name, family)


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
