"""What a kernel may lack is taken away, on one side and on both: slower, but every byte arrives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.node import EVERYTHING, Node, Pair, at_once, connected_pair
from tests.system.traffic import MB
from tests.system.waiting import until

pytestmark = pytest.mark.system

ALL = {"gso", "gro", "recvmmsg", "tso6"}
WITHOUT = {"gso": {"gso"}, "gro": {"gro"}, "sendmsg": {"gso"}, "recvmmsg": {"recvmmsg"}, "tun": {"tso6"}}
WORDS = tuple(WITHOUT)
SIDES = ("alice", "both")
PIECES = (0, 3, 64)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with connected_pair() as pair:
        yield pair


def restart(pair: Pair, side: str, **environment: str) -> None:
    """Start both daemons anew, those of a side with other variables; they find each other by themselves."""

    def again(node: Node) -> None:
        node.down()
        node.up(*EVERYTHING, **(environment if side in {node.host.name, "both"} else {}))

    at_once(again, pair.alice, pair.bob)
    until(pair.crosses, "the tunnel is there again")


def offloads(node: Node) -> set[str]:
    status = node.status()
    return {name for listener in status.listeners for name in listener.offloads} | set(status.interface.offloads)


def drops(pair: Pair) -> dict[str, int]:
    """What was dropped, but for the answer to a call that was repeated while the other side was still starting."""
    return {reason: count for reason, count in pair.drops().items() if reason != "response: unknown index"}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("word", WORDS)
def test_transfer_without_what_a_kernel_may_lack_arrives_as_it_was_sent(pair: Pair, word: str, side: str) -> None:
    restart(pair, side, WEFT_WITHOUT=word)
    for node in (pair.alice, pair.bob):
        lacking = side in {node.host.name, "both"}
        without = WITHOUT[word] if lacking else set()
        assert offloads(node) & ALL == ALL - without
    pair.transfer(10 * MB)
    assert drops(pair) == {}
    assert pair.alice.host.ping(pair.bob.address, size=20_000).received == 3


def test_transfer_without_any_of_it_arrives_as_it_was_sent(pair: Pair) -> None:
    restart(pair, "both", WEFT_WITHOUT=",".join(WORDS))
    assert offloads(pair.alice) == offloads(pair.bob) == set()
    pair.transfer(10 * MB)
    assert drops(pair) == {}
    assert pair.alice.host.ping(pair.bob.address, size=20_000).received == 3


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("pieces", PIECES)
def test_transfer_in_bursts_of_a_fixed_size_arrives_as_it_was_sent(pair: Pair, pieces: int, side: str) -> None:
    restart(pair, side, WEFT_BURST_PIECES=str(pieces))
    pair.transfer(10 * MB)
    assert drops(pair) == {}
    for node in (pair.alice, pair.bob):
        peer = node.peer()
        if side in {node.host.name, "both"}:
            expected = max(1, pieces)
            assert (peer.burst_pieces, peer.mode) == (expected, "packet" if expected == 1 else "burst")
        else:
            # What its path carries in 2 ms, which is a matter of the machine, and 64 at most.
            assert peer.mode == "burst"
            assert max(PIECES[:-1]) < peer.burst_pieces <= 64
