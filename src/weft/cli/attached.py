"""The network for commands that connect and listen in it: that of the daemon which runs here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from weft.cli.settings import Settings

if TYPE_CHECKING:
    from weft.api.attached import AttachedNode


@asynccontextmanager
async def attached(settings: Settings) -> AsyncIterator[AttachedNode]:
    """The network, while the block runs.

    Raises:
        NoDaemon: none answers.
        UsageError: it has no interface.
    """
    from weft.api.attached import AttachedNode

    async with AttachedNode(settings.socket_path) as node:
        yield node


def inside(network: AttachedNode) -> Iterator[str]:
    """What lies in the network, as it is now: the node's address, and all that its peers may use."""
    yield str(network.address)
    for peer in network.peers:
        yield from peer.addresses
