"""The life of a daemon: a node, its API, and the signals that end both."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from typing import Protocol

from weft.api.facade import Facade
from weft.api.server import Server
from weft.api.uapi_server import UapiServer
from weft.api.unix_socket import ApiSocket

log = logging.getLogger(__name__)


class Node(Facade, Protocol):
    """A node whose lifetime is the caller's."""

    async def start(self) -> None:
        """Open what it needs."""

    async def stop(self) -> None:
        """Close all of it."""

    async def wait_stopped(self) -> None:
        """Return when the node has been asked to end."""


async def serve(node: Node, socket: ApiSocket) -> None:
    """Run a node and its API until SIGTERM, SIGINT or a request asks it to end.

    Args:
        node: not started yet.
        socket: where the API listens; stays the caller's, so that its file can outlive the node.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, node.request_stop)
    server = Server(node, socket)
    await node.start()
    uapi = loop.create_task(UapiServer(node).run(), name="weft uapi")
    try:
        await server.start()
        log.info("ready; the API is at %s", socket.path)
        await node.wait_stopped()
        log.info("ending")
    finally:
        uapi.cancel()
        await asyncio.gather(uapi, return_exceptions=True)
        await server.stop()
        await node.stop()
