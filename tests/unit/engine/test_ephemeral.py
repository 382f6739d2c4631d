"""Nodes that keep nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.engine.nodes import LISTEN, Nodes, Test, ping, target
from tests.unit.engine.pair import identity
from weft.engine.config import Config, PeerSection
from weft.engine.engine import Engine
from weft.engine.lifetime import Lifetime
from weft.engine.verbs.peers import Peers
from weft.errors import UsageError
from weft.io.ephemeral import Ephemeral

CONFIG = Config(peer=PeerSection(listen=(LISTEN,)))


async def started(nodes: Nodes, name: str, secret: bytes | None = None) -> Lifetime:
    node = Lifetime(Ephemeral(identity(name), secret), CONFIG)
    await node.start()
    nodes.running.append(node)
    return node


def test_node_without_files_connects_and_leaves_none(
    run: Callable[[Test], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def test(nodes: Nodes) -> None:
        alice, bob = await started(nodes, "alice"), await started(nodes, "bob")
        await Peers(alice).connect(target(bob), name="bob")
        await asyncio.sleep(1)
        assert await ping(alice, bob)
        assert await ping(bob, alice)

    run(test)
    assert os.listdir(tmp_path) == []


def test_peers_of_a_node_without_files_are_there_when_its_session_was_built_anew(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await started(nodes, "alice"), await started(nodes, "bob")
        await Peers(alice).connect(target(bob), name="bob")
        assert alice.stage is not None
        old = alice.running
        alice.stage.handle_hopeless("peers")
        await asyncio.sleep(10)
        assert alice.running is not old
        assert await ping(alice, bob)
        assert [peer.name for peer in Peers(alice).list().peers] == ["bob"]

    run(test)


@pytest.mark.parametrize(("secret", "meets"), [(b"sixteen characters", True), (b"other sixteen characters", False)])
def test_secret_of_a_network_is_given_without_a_file(run: Callable[[Test], None], secret: bytes, meets: bool) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await started(nodes, "alice", b"sixteen characters")
        bob = await started(nodes, "bob", secret)
        calling = Peers(alice).connect(target(bob), timeout_s=2)
        if meets:
            assert (await calling).state == "up"
        else:
            with pytest.raises(TimeoutError):
                await calling

    run(test)


async def test_node_without_files_has_no_configuration_to_change() -> None:
    engine = Engine(Ephemeral(identity("alice")), CONFIG, keeps_log=False)
    await engine.start()
    try:
        assert engine.info().dir == ""
        for verb in (engine.settings.reload(), engine.settings.set("peer.accept", "known")):
            with pytest.raises(UsageError, match="keeps nothing"):
                await verb
        with pytest.raises(UsageError, match="keeps nothing"):
            engine.settings.show()
        assert engine.logs.list(10, "debug").lines == []
    finally:
        await engine.stop()


def test_secret_that_is_too_short_is_refused() -> None:
    with pytest.raises(UsageError, match="16 characters"):
        Lifetime(Ephemeral(identity("alice"), b"short"), CONFIG)
