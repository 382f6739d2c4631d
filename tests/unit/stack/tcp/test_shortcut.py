"""Both ends in one host: what is handed over without a packet, and what is not, can't be told apart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.stack.wire import make_host, v6
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.host import Host
from weft.stack.tcp.connection import Connection
from weft.stack.tcp.receiver import INITIAL_LIMIT
from weft.testing import MS, S

PORT = 80


class Pair:
    """Two connections of one host, and its time."""

    def __init__(self, seed: int = 0) -> None:
        self.host: Host = make_host(1, seed=seed)
        self.now = S
        self.packets = 0
        listener = self.host.tcp.listen(Endpoint(v6(1), PORT))
        one = self.host.tcp.connect(Endpoint(v6(1), PORT), self.now)
        self.settle()
        other = listener.accept()
        assert other is not None
        self.ends: tuple[Connection, Connection] = one, other

    def settle(self, ms: int = 0) -> None:
        """Let so much time pass, and do all that is due by then."""
        until = self.now + ms * MS
        while True:
            while self.host.next_event() is not None:
                pass
            assert self.host.next_packet(self.now) is None
            at = self.host.next_timer()
            if at is None or at > until:
                break
            self.now = max(self.now, at)
            self.packets += len(self.host._looped)
            self.host.handle_timer(self.now)
        self.now = until


def test_small_data_needs_no_packet() -> None:
    pair = Pair()
    one, other = pair.ends
    pair.settle(1000)
    before = pair.packets
    for number in range(100):
        one.send(b"%d" % number)
        assert b"".join(other.receive()) == b"%d" % number
        other.send(b"yes")
        assert b"".join(one.receive()) == b"yes"
    pair.settle(1000)
    assert pair.packets == before
    assert (one.unsent_bytes, one.unacknowledged_bytes) == (0, 0)


def test_user_of_the_other_end_is_told() -> None:
    pair = Pair()
    one, other = pair.ends
    one.send(b"x")
    assert pair.host.next_event() is other


def test_what_there_is_no_room_for_waits_and_nothing_overtakes_it() -> None:
    pair = Pair()
    one, other = pair.ends
    whole = bytes(range(251)) * (3 * INITIAL_LIMIT // 251)
    for at in range(0, len(whole), 10_000):
        one.send(whole[at : at + 10_000])
    assert other.readable_bytes <= INITIAL_LIMIT
    assert one.unsent_bytes
    heard = b""
    while len(heard) < len(whole):
        heard += b"".join(other.receive(50_000))
        pair.settle(10)
    assert heard == whole


def test_what_there_is_just_room_for_is_handed_over_and_counts_as_told() -> None:
    pair = Pair()
    one, other = pair.ends
    one.send(bytes(1000))
    assert other.told_to == other.receiver.next
    assert one.sender.window == (other.receiver.edge - other.receiver.next) >> one.shift << one.shift
    while room := other.receiver.edge - other.receiver.next:
        one.send(bytes(room))
        assert one.unsent_bytes == 0
    before = other.readable_bytes
    assert before == INITIAL_LIMIT
    one.send(b"x")
    assert (other.readable_bytes, one.unsent_bytes) == (before, 1)


def test_who_is_gone_without_having_said_so_is_not_given_anything() -> None:
    pair = Pair()
    one, other = pair.ends
    other.end(Failure.TIMED_OUT)
    one.send(b"for nobody")
    assert (one.unsent_bytes, other.readable_bytes) == (10, 0)
    pair.settle()
    assert one.failure is Failure.RESET


def test_end_comes_behind_the_data_and_a_reset_after_it() -> None:
    pair = Pair()
    one, other = pair.ends
    one.send(b"last")
    one.shutdown(pair.now)
    other.send(b"words")
    pair.settle()
    assert (b"".join(other.receive()), other.is_at_end) == (b"last", True)
    assert b"".join(one.receive()) == b"words"
    other.send(b"more")
    assert b"".join(one.receive()) == b"more"
    other.abort(pair.now)
    pair.settle()
    assert one.failure is Failure.RESET
    with pytest.raises(StackError):
        one.send(b"x")


def test_who_takes_nothing_more_is_not_given_anything() -> None:
    pair = Pair()
    one, other = pair.ends
    other.close(pair.now)
    pair.settle()
    one.send(b"for nobody")
    pair.settle()
    assert one.failure is Failure.RESET
    assert other.readable_bytes == 0


WRITES = st.tuples(st.just("write"), st.integers(0, 1), st.integers(0, 400_000))
READS = st.tuples(st.just("read"), st.integers(0, 1), st.integers(1, 400_000))
PAUSES = st.tuples(st.just("pause"), st.just(0), st.sampled_from((0, 1, 50, 2000)))
ENDS = st.tuples(st.just("end"), st.integers(0, 1), st.just(0))


@given(steps=st.lists(WRITES | WRITES | READS | READS | PAUSES | ENDS, max_size=30), seed=st.integers(0, 3))
@settings(deadline=None)
def test_all_arrives_in_order_whatever_goes_which_way(steps: list[tuple[str, int, int]], seed: int) -> None:
    pair = Pair(seed)
    written, heard, ended = [bytearray(), bytearray()], [bytearray(), bytearray()], [False, False]
    for what, end, size in steps:
        if what == "write" and not ended[end]:
            data = bytes((len(written[end]) + number) % 251 for number in range(0, size, 97)) * 97
            pair.ends[end].send(data)
            written[end] += data
        elif what == "read":
            heard[end] += b"".join(pair.ends[end].receive(size))
        elif what == "pause":
            pair.settle(size)
        elif what == "end":
            pair.ends[end].shutdown(pair.now)
            ended[end] = True
    for connection in pair.ends:
        connection.shutdown(pair.now)
    for _ in range(200):
        pair.settle(50)
        for end in (0, 1):
            heard[end] += b"".join(pair.ends[end].receive())
    assert heard == [written[1], written[0]]
    assert all(each.is_at_end and each.failure is None for each in pair.ends)
