"""Whole nodes on the loopback interface, without a TUN, in virtual time; the fixture `run` of conftest.py runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.unit.engine.pair import identity
from weft.engine.config import Config, PeerSection
from weft.engine.lifetime import Lifetime
from weft.io.store import Store
from weft.multiaddr import Multiaddr

LISTEN = "/ip4/127.0.0.1/udp/0"


def directory(path: Path, name: str) -> Path:
    """What `weft init` makes."""
    made = path / name
    made.mkdir(mode=0o700)
    Store(made).create_key(identity(name))
    return made


class Nodes:
    """The nodes of a test; all are ended with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.running: list[Lifetime] = []

    async def start(self, name: str, *listen: str) -> Lifetime:
        """Start one; its directory is made the first time."""
        where = self.path / name
        if not where.exists():
            directory(self.path, name)
        node = Lifetime(where, Config(peer=PeerSection(listen=listen or (LISTEN,))))
        await node.start()
        self.running.append(node)
        return node

    async def stop(self) -> None:
        for node in self.running:
            await node.stop()

    async def connect(self, one: Lifetime, other: Lifetime) -> None:
        session = one.running
        peer = session.contacts.add_weft(other.identity.noise_public, other.identity.peer_id, is_wanted=True)
        up = session.wait_until_up(peer)
        session.call(peer, await one.underlay.find(multiaddr_of(other)))
        await asyncio.wait_for(up, 5)
        await asyncio.sleep(0.2)


def multiaddr_of(node: Lifetime) -> Multiaddr:
    return Multiaddr.from_endpoint(*node.underlay.sockets[0].address)


async def ping(one: Lifetime, other: Lifetime) -> bool:
    """Whether a probe is answered."""
    session = one.running
    peer = session.contacts.by_key(other.identity.noise_public)
    if peer is None:
        return False
    pong = session.proving.ping(peer, 118)
    await asyncio.wait({pong}, timeout=3)
    return pong.done() and not pong.cancelled()


Test = Callable[[Nodes], Coroutine[Any, Any, None]]
