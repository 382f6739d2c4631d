"""Every test that is a coroutine runs on both event loops. The daemon is a node in this process, with its API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest_asyncio

import weft
from tests.unit.api.node.conftest import LISTEN
from tests.unit.engine.pair import identity
from tests.unit.loops import LOOPS
from weft.api.attached import AttachedNode
from weft.api.server import Server
from weft.api.unix_socket import ApiSocket


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS


@pytest_asyncio.fixture
async def bob() -> AsyncIterator[weft.Node]:
    """Another node."""
    async with weft.Node(listen=LISTEN, identity=identity("bob")) as node:
        yield node


@pytest_asyncio.fixture
async def daemon(tmp_path: Path, bob: weft.Node) -> AsyncIterator[weft.Node]:
    """A node whose API answers at `api.sock`, connected with Bob's."""
    async with weft.Node(listen=LISTEN, identity=identity("alice")) as node:
        await node.connect_peer(bob.multiaddrs[0], name="bob")
        with ApiSocket(tmp_path / "api.sock") as socket:
            server = Server(node._engine, socket)
            await server.start()
            yield node
            await server.stop()


@pytest_asyncio.fixture
async def attached(daemon: weft.Node, tmp_path: Path) -> AsyncIterator[AttachedNode]:
    """A program that uses it."""
    async with weft.Node.attach(tmp_path / "api.sock") as node:
        yield node
