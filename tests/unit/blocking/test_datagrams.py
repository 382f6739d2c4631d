"""Datagram sockets."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.blocking.conftest import Pair, begin, wait_until
from weft.blocking.datagrams import READ_BYTES, DatagramSocket

Ends = tuple[DatagramSocket, DatagramSocket]


@pytest.fixture
def ends(pair: Pair) -> Iterator[Ends]:
    """Alice's, which has no address of its own, and bob's."""
    family = socket.AF_INET6 if pair.kind == "stack" else socket.AF_INET
    with (
        pair.alice.create_datagram_socket(family=family) as near,
        pair.bob.create_datagram_socket(("", 0), family) as far,
    ):
        near.settimeout(20)
        far.settimeout(20)
        yield near, far


def test_go_and_come_back(pair: Pair, ends: Ends) -> None:
    near, far = ends
    assert near.sendto(b"question", ("bob", far.getsockname()[1])) == 8
    data, sender = far.recvfrom(100)
    assert data == b"question"
    assert far.sendto(memoryview(b"answer"), sender) == 6
    data, answerer = near.recvfrom(100)
    assert (data, answerer[1]) == (b"answer", far.getsockname()[1])
    # What is longer than asked for is cut.
    far.sendto(b"0123456789", sender)
    far.sendto(b"last", sender)
    assert [near.recv(4), near.recv(4)] == [b"0123", b"last"]
    if pair.kind == "stack":
        # With sockets of the kernel, asyncio of Python 3.11 and uvloop send none that is empty.
        far.sendto(b"", sender)
        assert near.recv(4) == b""


def test_hosts_are_whatever_names_a_peer(stacks: Pair) -> None:
    with (
        stacks.alice.create_datagram_socket() as near,
        stacks.bob.create_datagram_socket((stacks.bob.address, 0)) as far,
    ):
        far.settimeout(20)
        port = far.getsockname()[1]
        for host in ("bob", stacks.bob.address, str(stacks.bob.address), stacks.bob.identity, stacks.alice.peers[0]):
            near.sendto(b"hello", (host, port))
            assert far.recv(10) == b"hello"


def test_connected_socket_hears_one_alone(pair: Pair, ends: Ends) -> None:
    near, far = ends
    near.sendto(b"before", ("bob", far.getsockname()[1]))
    far.recvfrom(10)
    near.connect(("bob", far.getsockname()[1]))
    assert near.getpeername()[1] == far.getsockname()[1]
    assert near.send(b"question") == 8
    _, sender = far.recvfrom(10)
    with pair.bob.create_datagram_socket(("", 0), far.family) as other:
        other.sendto(b"not asked", sender)
        far.sendto(b"answer", sender)
        assert near.recv(100) == b"answer"
    with pytest.raises(OSError, match="connected"):
        near.sendto(b"x", ("bob", 9))


def test_port_is_kept_when_it_connects(ends: Ends) -> None:
    near, far = ends
    port = far.getsockname()[1]
    near.sendto(b"x", ("bob", port))
    _, sender = far.recvfrom(1)
    far.connect(sender)
    assert far.getsockname()[1] == port
    far.send(b"found")
    assert near.recv(10) == b"found"


def test_port_that_nobody_has_refuses(pair: Pair, ends: Ends) -> None:
    near, far = ends
    port = far.getsockname()[1]
    far.close()
    near.connect(("bob", port))
    near.send(b"x")
    with pytest.raises(ConnectionRefusedError):
        near.recv(1)
    # It is told once.
    near.settimeout(0.05)
    with pytest.raises(TimeoutError):
        near.recv(1)


def test_what_is_too_long_or_goes_nowhere(ends: Ends) -> None:
    near, _ = ends
    with pytest.raises(OSError, match="Destination address required") as caught:
        near.send(b"x")
    assert caught.value.errno == errno.EDESTADDRREQ
    with pytest.raises(OSError, match="not connected"):
        near.getpeername()
    with pytest.raises(socket.gaierror):
        near.sendto(b"x", ("nobody.invalid", 1))
    near.sendto(bytes(70_000), ("bob", 1))
    with pytest.raises(OSError, match=r"[Mm]essage too long"):
        near.recv(1)


def test_waits_no_longer_than_it_should(ends: Ends) -> None:
    near, _ = ends
    near.settimeout(0.05)
    with pytest.raises(TimeoutError, match="timed out"):
        near.recv(1)
    near.setblocking(False)
    with pytest.raises(BlockingIOError):
        near.recvfrom(1)


def test_close_wakes_who_waits(ends: Ends, threads: ThreadPoolExecutor) -> None:
    near, _ = ends
    waiting = begin(threads, near, near.recv, 1)
    near.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        waiting.result(20)
    with pytest.raises(OSError, match="Bad file descriptor"):
        near.sendto(b"x", ("127.0.0.1", 9))


def test_what_nobody_takes_has_a_bound(stacks: Pair) -> None:
    with stacks.alice.create_datagram_socket() as near, stacks.bob.create_datagram_socket(("", 0)) as far:
        address = "bob", far.getsockname()[1]
        mailbox = far._mailbox
        while not mailbox.lost:
            near.sendto(bytes(1000), address)
        assert mailbox._waiting_bytes <= READ_BYTES
        wait_until(lambda: not near._mailbox._is_writing_paused)
