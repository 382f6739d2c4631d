"""What a kernel may lack is taken away, on one side and on both: slower, but every byte arrives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.node import Node, Pair, at_once, connected_pair
from tests.system.traffic import MB
from tests.system.waiting import until

pytestmark = pytest.mark.system

ALL = {"gso", "gro", "recvmmsg", "tso6"}
WITHOUT = {"gso": {"gso"}, "gro": {"gro"}, "sendmsg": {"gso"}, "recvmmsg": {"recvmmsg"}, "tun": {"tso6"}}
WORDS = tuple(WITHOUT)
SIDES = ("alice", "both")
PIECES = (0, 3, 64)
LATE = {"unknown index", "response: unknown index"}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with connected_pair() as pair:
        yield pair


def restart(pair: Pair, side: str, **environment: str) -> None:
    """Have the daemons of a side run with these variables and the others without; they find each other by themselves.

    Whose variables change is started anew.
    """
    wanted = {node: environment if side in {node.host.name, "both"} else {} for node in (pair.alice, pair.bob)}
    changed = [node for node, variables in wanted.items() if variables != node.environment]

    def again(node: Node) -> None:
        node.down()
        node.up(**wanted[node])

    at_once(again, *changed)
    until(pair.crosses, "the tunnel is there again")


def offloads(node: Node) -> set[str]:
    status = node.status()
    return {name for listener in status.listeners for name in listener.offloads} | set(status.interface.offloads)


def transfer_without_drops(pair: Pair) -> None:
    """Until now nothing was dropped but what came late from the time before a daemon was started anew."""
    before = pair.drops()
    assert before.keys() <= LATE
    pair.transfer(10 * MB)
    assert pair.drops() == before


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("word", WORDS)
def test_transfer_without_what_a_kernel_may_lack_arrives_as_it_was_sent(pair: Pair, word: str, side: str) -> None:
    restart(pair, side, WEFT_WITHOUT=word)
    for node in (pair.alice, pair.bob):
        lacking = side in {node.host.name, "both"}
        without = WITHOUT[word] if lacking else set()
        assert offloads(node) & ALL == ALL - without
    transfer_without_drops(pair)
    assert pair.alice.host.ping(pair.bob.address, size=20_000).received == 3


def test_transfer_without_any_of_it_arrives_as_it_was_sent(pair: Pair) -> None:
    restart(pair, "both", WEFT_WITHOUT=",".join(WORDS))
    assert offloads(pair.alice) == offloads(pair.bob) == set()
    transfer_without_drops(pair)
    assert pair.alice.host.ping(pair.bob.address, size=20_000).received == 3


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("pieces", PIECES)
def test_transfer_in_bursts_of_a_fixed_size_arrives_as_it_was_sent(pair: Pair, pieces: int, side: str) -> None:
    restart(pair, side, WEFT_BURST_PIECES=str(pieces))
    transfer_without_drops(pair)
    for node in (pair.alice, pair.bob):
        peer = node.peer()
        if side in {node.host.name, "both"}:
            expected = max(1, pieces)
            assert (peer.burst_pieces, peer.mode) == (expected, "packet" if expected == 1 else "burst")
        else:
            # What its path carries in 2 ms, which is a matter of the machine, and 64 at most.
            assert peer.mode == "burst"
            assert max(PIECES[:-1]) < peer.burst_pieces <= 64
