"""Whole nodes on the loopback interface, without a TUN, in virtual time; the fixture `run` of conftest.py runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.unit.engine.pair import identity
from weft.engine.config import Config, PeerSection
from weft.engine.lifetime import Lifetime
from weft.engine.peer import Peer
from weft.engine.status import PeerStatus
from weft.engine.verbs.peers import Peers
from weft.io.store import Store, StoredPeer
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
Run = Callable[[Test], None]


def target(node: Lifetime) -> str:
    """What `weft info` shows of it."""
    return str(multiaddr_of(node).with_peer_id(node.identity.peer_id))


def stored(node: Lifetime) -> list[StoredPeer]:
    """What is on disk."""
    return node.memory._store.load_state().peers


def peer_of(one: Lifetime, other: Lifetime) -> Peer:
    peer = one.running.contacts.by_key(other.identity.noise_public)
    assert peer is not None
    return peer


async def again(nodes: Nodes, node: Lifetime) -> Lifetime:
    """The node after a restart, on the same port."""
    name, address = node.memory._store.directory.name, str(multiaddr_of(node))
    await node.stop()
    nodes.running.remove(node)
    # Initiations that follow each other within 20 ms are dropped.
    await asyncio.sleep(0.1)
    return await nodes.start(name, address)


async def is_up(one: Lifetime, other: Lifetime) -> bool:
    await asyncio.sleep(3)
    peer = one.running.contacts.by_key(other.identity.noise_public)
    return peer is not None and await ping(one, other)


def of(peers: Peers, name: str) -> PeerStatus:
    """The peer of that name in the list."""
    (found,) = [peer for peer in peers.list().peers if name in {peer.name, peer.id, peer.wireguard_public_key}]
    return found
