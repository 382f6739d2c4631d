"""A test of one's own: chat.py, among bad links and without waiting.

pytest test_chat.py

Each node of the simulated network has the sockets of a `weft.Node`. Time is virtual: an hour takes as long as what
happens in it. A test that fails shows every packet; the same seed gives the same run.
"""

import asyncio

import pytest
from chat import Chat

from weft.testing import MS, Faults

pytest_plugins = ["weft.testing.fixtures"]


async def ring(network, *names):
    """As many as there are names, each joined with the one before, and the last with the first."""
    chats, heard = [], {}
    for name in names:
        heard[name] = []
        chats.append(Chat(network.node(name), name, heard[name].append))
        await chats[-1].start()
    for number, chat in enumerate(chats):
        await chat.join(names[number - 1])
    return chats, heard


@pytest.mark.parametrize("network_seed", range(5))
async def test_everybody_hears_everything_once(simulated_network):
    simulated_network.faults = Faults(latency_ns=80 * MS, jitter_ns=20 * MS, loss=0.1)
    chats, heard = await ring(simulated_network, "alice", "bob", "carol", "dave")
    for minute in range(60):
        chats[minute % 4].say(f"it is minute {minute}")
        await asyncio.sleep(60)
    assert [sorted(lines) for lines in heard.values()] == [sorted(heard["alice"])] * 4
    assert len(set(heard["alice"])) == 60


async def test_what_is_said_while_the_network_is_cut_is_heard_when_it_is_whole_again(simulated_network):
    chats, heard = await ring(simulated_network, "alice", "bob", "carol")
    simulated_network.partition(["alice"], ["bob", "carol"])
    chats[0].say("is anybody there?")
    await asyncio.sleep(30)
    assert heard["bob"] == []
    simulated_network.heal()
    await asyncio.sleep(60)
    assert heard["bob"] == heard["carol"] == ["alice: is anybody there?"]
