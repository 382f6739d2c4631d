"""What is told of a node as it happens: peers that come, move and go, tasks that die; and listeners that are slow."""

from __future__ import annotations

import asyncio

from tests.unit.engine.nodes import Nodes, Run, again, peer_of
from weft.engine.events import QUEUE, Events
from weft.engine.lifetime import Lifetime
from weft.engine.status import Event


class Told:
    """All that a node tells while the block runs."""

    def __init__(self, node: Lifetime) -> None:
        self.events: list[Event] = []
        self._heard = node.events.listen()
        self._task = asyncio.create_task(self._hear())

    async def _hear(self) -> None:
        async for event in self._heard:
            self.events.append(event)

    async def __aenter__(self) -> Told:
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def test_peer_that_comes_and_goes_is_told_once_each(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        async with Told(alice) as told:
            await nodes.connect(alice, bob)
            endpoint = peer_of(alice, bob).path.endpoint
            # Keys are renewed three times meanwhile.
            await asyncio.sleep(400)
            assert told.kinds == ["peer-up"]
            await bob.stop()
            nodes.running.remove(bob)
            await asyncio.sleep(200)
        assert told.kinds == ["peer-up", "peer-down"]
        up, down = told.events
        assert up.peer == down.peer == str(bob.identity.peer_id)
        assert str(endpoint) in up.text

    run(test)


def test_peer_that_answers_from_elsewhere_is_told_as_moved(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await nodes.connect(alice, bob)
        async with Told(alice) as told:
            await bob.stop()
            nodes.running.remove(bob)
            await asyncio.sleep(0.1)
            # On another port, and calling Alice by what it remembers.
            bob = await nodes.start("bob")
            await asyncio.sleep(10)
            endpoint = peer_of(alice, bob).path.endpoint
        assert told.kinds == ["peer-moved"]
        assert str(endpoint) in told.events[0].text

    run(test)


def test_removed_peer_is_told_as_down(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await nodes.connect(alice, bob)
        async with Told(alice) as told:
            alice.running.remove(peer_of(alice, bob))
            await asyncio.sleep(0.01)
        assert told.kinds[0] == "peer-down"

    run(test)


def test_restarted_peer_that_was_never_missed_is_no_news(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await nodes.connect(alice, bob)
        async with Told(alice) as told:
            await again(nodes, bob)
            await asyncio.sleep(10)
        assert told.kinds == []

    run(test)


def test_task_that_dies_and_a_session_that_is_built_anew_are_told(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await nodes.connect(alice, bob)
        async with Told(alice) as told:
            assert alice.stage is not None
            alice.stage.kill("store")
            await asyncio.sleep(0.01)
            assert told.kinds == ["task-died"]
            assert told.events[0].text == "task store ended and starts again"
            alice.stage.handle_hopeless("store")
            await asyncio.sleep(10)
        assert told.kinds[1:] == ["peer-down", "session-rebuilt", "peer-up"]

    run(test)


async def test_listener_that_is_slow_loses_the_oldest_and_is_told_how_many() -> None:
    events = Events()
    heard = events.listen(frozenset({"log"}))
    upcoming = asyncio.ensure_future(anext(heard))
    await asyncio.sleep(0)
    for number in range(QUEUE + 11):
        events.publish("log", str(number))
        events.publish("peer-up")
    first = await upcoming
    second = await anext(heard)
    assert (first.kind, first.text) == ("missed", "11 events were not told: the listener is too slow")
    assert (second.kind, second.text) == ("log", "11")
    rest = [await anext(heard) for _ in range(QUEUE - 1)]
    assert rest[-1].text == str(QUEUE + 10)
    await heard.aclose()
    assert not events._listeners
