"""Many datagrams a call: real sockets on the loopback interface, against what was sent and against plain calls."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.io import recvmmsg
from weft.io.recvmmsg import MAX_DATAGRAM_BYTES, MAX_MESSAGES, SHRINK_AFTER, SLOTS_BYTES, Address, BatchReceiver
from weft.io.udp import UdpSocket

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="recvmmsg is Linux'")

HOSTS = ["127.0.0.1", "::1"]
Heard = tuple[bytes, Address, int]


@contextlib.contextmanager
def sockets(host: str, count: int, **options: bool) -> Iterator[list[UdpSocket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(UdpSocket(host, 0, **options))) for _ in range(count)]


def datagrams(receiver: UdpSocket) -> list[list[Heard]]:
    """All that waits, datagram by datagram, by the call that gave it."""
    calls = []
    while runs := receiver.receive():
        heard = []
        for run in runs:
            data, step = bytes(run.data), run.segment or 1
            pieces = [data[start : start + step] for start in range(0, len(data), step)] or [b""]
            heard += [(piece, run.source, run.ecn) for piece in pieces]
        calls.append(heard)
    return calls


def send(sender: UdpSocket, receiver: UdpSocket, *sent: bytes, ecn: int = 0) -> None:
    for each in sent:
        assert sender.send(each, max(1, len(each)), receiver.address_of(*receiver.address), ecn)


def run_lengths(receiver: UdpSocket) -> list[tuple[int, int]]:
    """Bytes and size of the datagrams of each run of one call."""
    return [(len(run.data), run.segment) for run in receiver.receive()]


@pytest.mark.parametrize("host", HOSTS)
def test_source_is_the_one_that_the_socket_module_tells(host: str) -> None:
    with sockets(host, 3) as (one, other, receiver), sockets(host, 1, recvmmsg=False) as (plain,):
        for each in (receiver, plain):
            for number, sender in enumerate((one, other, one)):
                send(sender, each, b"%d" % number)
        told = [heard for call in datagrams(receiver) for heard in call]
        assert told == [heard for call in datagrams(plain) for heard in call]
        assert [source for _, source, _ in told] == [each.address_of(*each.address) for each in (one, other, one)]


def test_zone_of_a_link_local_source_is_told() -> None:
    name = socket.AF_INET6.to_bytes(2, sys.byteorder) + (1312).to_bytes(2, "big") + bytes(4)
    name += socket.inet_pton(socket.AF_INET6, "fe80::1") + (7).to_bytes(4, sys.byteorder) + bytes(4)
    assert recvmmsg._decode_name(name) == ("fe80::1", 1312, 0, 7)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("gro", [True, False])
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from([0, 1, 20, 100, 100, 1200, 1472, 1472, 1472, 9000, 65_000]),
            st.integers(1, 70),
            st.sampled_from([0, 0, 0, 1, 2, 3]),
        ),
        max_size=12,
    )
)
def test_whatever_comes_is_given_whole_and_in_its_order(
    host: str, gro: bool, sequence: list[tuple[int, int, int, int]]
) -> None:
    with sockets(host, 2) as senders, sockets(host, 1, gro=gro) as (receiver,):
        sent: list[Heard] = []
        for number, length, count, ecn in sequence:
            sender = senders[number]
            several = [os.urandom(length) for _ in range(min(count, 1 + 100_000 // (length + 1)))]
            if 0 < length <= 1472 and count % 2:
                group = several[: 60_000 // length][:64]
                assert sender.send(b"".join(group), length, receiver.address_of(*receiver.address), ecn)
                several = group
            else:
                send(sender, receiver, *several, ecn=ecn)
            sent += [(each, sender.address_of(*sender.address), ecn) for each in several]
        calls = datagrams(receiver)
        heard = [each for call in calls for each in call]
        # An empty datagram may vanish in the run that it ends.
        assert [each for each in heard if each[0]] == [each for each in sent if each[0]]
        assert all(len(call) <= MAX_MESSAGES * 64 for call in calls)


def test_datagrams_of_one_size_become_one_run_once_the_slots_fit() -> None:
    with sockets("127.0.0.1", 1) as (sender,), sockets("127.0.0.1", 1, gro=False) as (receiver,):
        send(sender, receiver, *[bytes(1472)] * (SHRINK_AFTER + 2))
        before = datagrams(receiver)
        assert [len(call) for call in before] == [SLOTS_BYTES // MAX_DATAGRAM_BYTES, SHRINK_AFTER]
        send(sender, receiver, *[bytes(1472)] * 44, bytes(700), *[bytes(1472)] * 10, bytes(1473))
        assert run_lengths(receiver) == [(44 * 1472 + 700, 1472), (10 * 1472, 1472), (1473, 1473)]
        send(sender, receiver, *[bytes(1473)] * 3)
        assert run_lengths(receiver) == [(3 * 1473, 1473)]


def test_as_many_are_asked_for_as_are_of_use_while_they_are_as_long_as_lately() -> None:
    with sockets("127.0.0.1", 1) as (sender,), sockets("127.0.0.1", 1, gro=False) as (receiver,):
        few = SLOTS_BYTES // MAX_DATAGRAM_BYTES
        long = [bytes(60_000)] * 2 * few
        send(sender, receiver, *long)
        assert [len(call) for call in datagrams(receiver)] == [few, few]
        send(sender, receiver, *[bytes(100 + number) for number in range(few + 10)])
        assert [len(call) for call in datagrams(receiver)] == [few, 10]
        for calls in ([2 * few], [few, few]):
            send(sender, receiver, *long)
            assert [len(call) for call in datagrams(receiver)] == calls


def test_it_tells_whether_a_call_may_have_left_something() -> None:
    with sockets("127.0.0.1", 1) as (sender,), sockets("127.0.0.1", 1, gro=False) as (receiver,):
        at_once = SLOTS_BYTES // MAX_DATAGRAM_BYTES
        send(sender, receiver, *[bytes(10)] * (2 * at_once - 1))
        assert [(len(receiver.receive()), receiver.was_full) for _ in range(2)] == [
            (at_once, True),
            (at_once - 1, False),
        ]
    with sockets("127.0.0.1", 2, recvmmsg=False) as (one, other):
        send(one, other, b"x")
        assert other.receive()
        assert other.was_full, "who receives one at a time never knows"


def test_slots_do_not_shrink_for_a_few_small_datagrams_among_large_ones() -> None:
    with sockets("127.0.0.1", 1) as (sender,), sockets("127.0.0.1", 1, gro=False) as (receiver,):
        for _ in range(SHRINK_AFTER):
            send(sender, receiver, *[bytes(1472)] * 2)
            receiver.receive()
        for _ in range(5):
            send(sender, receiver, *[bytes(100)] * (SHRINK_AFTER - 1))
            assert run_lengths(receiver) == [(100, 100)] * (SHRINK_AFTER - 1)
            send(sender, receiver, *[bytes(1472)] * 4)
            assert run_lengths(receiver) == [(4 * 1472, 1472)]


@pytest.mark.parametrize("differs", ["source", "ecn"])
def test_a_run_is_of_one_source_and_one_congestion_mark(differs: str) -> None:
    with sockets("127.0.0.1", 2) as (one, other), sockets("127.0.0.1", 1, gro=False) as (receiver,):
        send(one, receiver, *[bytes(500)] * 16)
        datagrams(receiver)
        for number in range(8):
            sender = other if differs == "source" and number // 2 % 2 else one
            send(sender, receiver, bytes([number]) * 500, ecn=2 if differs == "ecn" and number // 2 % 2 else 0)
        (call,) = datagrams(receiver)
        assert [data[0] for data, _, _ in call] == list(range(8))
        kinds = [(source, ecn) for _, source, ecn in call]
        assert [len(list(group)) for _, group in groupby(kinds)] == [2, 2, 2, 2]


def test_what_gro_joined_is_never_joined_further() -> None:
    with sockets("127.0.0.1", 2) as (sender, receiver):
        data = os.urandom(3 * 1000 + 1)
        for _ in range(2):
            assert sender.send(data, 1000, receiver.address_of(*receiver.address))
        assert run_lengths(receiver) == [(3001, 1000), (3001, 1000)]


def test_stale_control_messages_are_not_read_again() -> None:
    """The kernel writes only as much as there is; what a joined datagram left must not make the next one many."""
    with sockets("127.0.0.1", 2) as (sender, receiver):
        assert sender.send(bytes(3000), 1000, receiver.address_of(*receiver.address), 3)
        assert run_lengths(receiver) == [(3000, 1000)]
        send(sender, receiver, bytes(2000))
        (run,) = receiver.receive()
        assert (run.segment, run.ecn) == (2000, 0)


def test_memory_for_long_datagrams_is_not_used_before_they_come() -> None:
    before = resident_bytes()
    receivers = [BatchReceiver() for _ in range(8)]
    assert resident_bytes() - before < len(receivers) * MAX_MESSAGES * MAX_DATAGRAM_BYTES // 4


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("failure", [errno.ECONNREFUSED, errno.ECONNRESET, errno.EINTR, errno.EAGAIN])
def test_error_that_says_nothing_of_what_comes_is_as_if_nothing_came(
    monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    with sockets("127.0.0.1", 2) as (sender, receiver):
        fail(receiver, monkeypatch, failure)
        assert receiver.receive() == []
        monkeypatch.undo()
        send(sender, receiver, b"x")
        assert run_lengths(receiver) == [(1, 1)]


def test_system_call_that_is_forbidden_or_missing_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    with sockets("127.0.0.1", 2) as (sender, receiver):
        assert "recvmmsg" in receiver.offloads
        fail(receiver, monkeypatch, errno.ENOSYS)
        send(sender, receiver, b"one", b"two")
        assert [heard[0] for call in datagrams(receiver) for heard in call] == [b"one", b"two"]
        assert "recvmmsg" not in receiver.offloads


def test_other_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with sockets("127.0.0.1", 1) as (receiver,):
        fail(receiver, monkeypatch, errno.ENOMEM)
        with pytest.raises(OSError, match="Cannot allocate memory"):
            receiver.receive()


def test_library_without_the_function_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, *_: Any, **__: Any) -> None: ...

    monkeypatch.setattr(ctypes, "CDLL", Library)
    with sockets("127.0.0.1", 2) as (sender, receiver):
        assert "recvmmsg" not in receiver.offloads
        send(sender, receiver, b"x")
        assert run_lengths(receiver) == [(1, 1)]


def fail(receiver: UdpSocket, monkeypatch: pytest.MonkeyPatch, failure: int) -> None:
    """Make the next calls fail."""

    def refuse(*_: Any) -> int:
        ctypes.set_errno(failure)
        return -1

    monkeypatch.setattr(receiver._batch, "_recvmmsg", refuse)
