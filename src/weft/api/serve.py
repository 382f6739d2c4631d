"""The life of a daemon: a node, its API, the signals that end both, and what systemd is told meanwhile.

SIGTERM, SIGINT   the node ends
SIGHUP            weft.toml is read anew, and log files that were moved are made anew
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Protocol

from weft.api.facade import Facade
from weft.api.loopback import Loopback
from weft.api.server import Server
from weft.api.uapi_server import UapiServer
from weft.api.unix_socket import ApiSocket
from weft.errors import WeftError
from weft.io.logs import reopen_files
from weft.io.systemd import Manager

log = logging.getLogger(__name__)


class Node(Facade, Protocol):
    """A node whose lifetime is the caller's."""

    @property
    def is_healthy(self) -> bool:
        """Whether it does its work, or is at least about to do it again."""

    async def start(self) -> None:
        """Open what it needs."""

    async def stop(self) -> None:
        """Close all of it."""

    async def wait_stopped(self) -> None:
        """Return when the node has been asked to end."""


class Service(Protocol):
    """Something that a daemon serves besides its API."""

    async def run(self) -> None:
        """Serve, until cancelled."""


async def serve(
    node: Node,
    socket: ApiSocket,
    manager: Manager | None = None,
    loopback: Loopback | None = None,
    services: Mapping[str, Service] | None = None,
) -> None:
    """Run a node and its API until SIGTERM, SIGINT or a request asks it to end.

    Args:
        node: not started yet.
        socket: where the API listens; stays the caller's, so that its file can outlive the node.
        manager: the service manager that is told how it goes; None if there is none.
        loopback: where else the API listens; stays the caller's too.
        services: what else is served while the node runs, by names for people.
    """
    service = _Service(node, manager or Manager({}))
    for name, act in (("SIGTERM", node.request_stop), ("SIGINT", node.request_stop), ("SIGHUP", service.reload)):
        _handle_signal(name, act)
    await node.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(node.stop)
        server = Server(node, socket, loopback)
        stack.push_async_callback(server.stop)
        stack.push_async_callback(service.close)
        for name, further in {"uapi": UapiServer(node), **(services or {})}.items():
            service.run(further.run(), name)
        await server.start()
        service.run(service.watch(), "watchdog")
        # What the start has made stays: a collector that looked at it again and again would hold the packets up.
        gc.collect()
        gc.freeze()
        service.tell_ready()
        log.info("ready; the API is at %s", socket.path if loopback is None else f"{socket.path} and {loopback.url}")
        await node.wait_stopped()
        log.info("ending")
        service.manager.stopping()


class _Service:
    """What goes on beside the node while it runs.

    Args:
        node: started, or about to be.
        manager: of the service.
    """

    def __init__(self, node: Node, manager: Manager) -> None:
        self.manager = manager
        self._node = node
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do something until `close`."""
        task = asyncio.get_running_loop().create_task(work, name=f"weft {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all of it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def tell_ready(self) -> None:
        """The node does what it is for."""
        self.manager.ready(f"this node is {self._node.info().address}")

    def reload(self) -> None:
        """Read the configuration anew, soon."""
        self.run(self._reload(), "reload")

    async def _reload(self) -> None:
        self.manager.reloading()
        # Even if weft.toml is wrong: whoever has moved the files waits for it.
        reopen_files()
        try:
            done = await self._node.settings.reload()
        except (WeftError, OSError) as error:
            log.error("the configuration stays as it is: %s", error)
        else:
            log.info("read the configuration anew; changed: %s", ", ".join(done.applied) or "nothing")
            if done.needs_restart:
                log.warning("this counts after a new start only: %s", ", ".join(done.needs_restart))
        self.tell_ready()

    async def watch(self) -> None:
        """Tell the manager that the node lives, twice in the time that it waits, and only as long as that is so."""
        if self.manager.watchdog_s is None:
            return
        while True:
            if self._node.is_healthy:
                self.manager.alive()
            else:
                self.manager.status("the session is being built anew, and that takes too long")
            await asyncio.sleep(self.manager.watchdog_s / 2)


def _handle_signal(name: str, act: Callable[[], None]) -> None:
    with suppress(NotImplementedError, AttributeError):
        asyncio.get_running_loop().add_signal_handler(getattr(signal, name), act)
