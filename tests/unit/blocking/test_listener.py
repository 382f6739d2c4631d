"""Sockets that listen."""

from __future__ import annotations

import gc
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.unit.blocking.conftest import Pair, begin, wait_until
from tests.unit.blocking.test_stream import read


def test_accepts_in_the_order_in_which_they_came(pair: Pair) -> None:
    with pair.bob.create_server(("", 0)) as server:
        address = "bob", server.getsockname()[1]
        near = [pair.alice.create_connection(address, 20) for _ in range(5)]
        far = [server.accept() for _ in near]
        assert [where for _, where in far] == [each.getsockname() for each in near]
        for each in (*near, *(stream for stream, _ in far)):
            each.close()


def test_what_came_before_accept_is_there(pair: Pair) -> None:
    with pair.bob.create_server(("", 0)) as server:
        with pair.alice.create_connection(("bob", server.getsockname()[1]), 20) as near:
            near.sendall(b"early")
        with server.accept()[0] as far:
            far.settimeout(20)
            with far.makefile("rb") as file:
                assert file.read() == b"early"


def test_waits_no_longer_than_it_should(pair: Pair) -> None:
    with pair.bob.create_server(("", 0)) as server:
        server.settimeout(0.05)
        with pytest.raises(TimeoutError, match="timed out"):
            server.accept()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_close_wakes_who_accepts(pair: Pair, threads: ThreadPoolExecutor) -> None:
    server = pair.bob.create_server(("", 0))
    waiting = begin(threads, server, server.accept)
    server.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        waiting.result(20)
    with pytest.raises(OSError, match="Bad file descriptor"):
        server.getsockname()


def test_port_is_free_again_after_close(pair: Pair) -> None:
    with pair.bob.create_server(("", 0)) as first:
        host, port = first.getsockname()[:2]
    for _ in range(20):
        with pair.bob.create_server((host, port)) as again:
            assert again.getsockname()[1] == port


def test_who_was_not_accepted_is_reset(pair: Pair) -> None:
    with pair.bob.create_server(("", 0)) as server:
        near = pair.alice.create_connection(("bob", server.getsockname()[1]), 20)
        wait_until(lambda: server._arrivals._pipes)
    with near, pytest.raises((ConnectionResetError, BrokenPipeError)):
        near.sendall(bytes(100_000_000))


def test_no_more_wait_than_were_asked_for(pair: Pair) -> None:
    with pair.bob.create_server(("", 0), backlog=2) as server:
        address = "bob", server.getsockname()[1]
        near = [pair.alice.create_connection(address, 20) for _ in range(2)]
        wait_until(lambda: len(server._arrivals._pipes) == 2)
        # As the time may be, before or after its end was heard.
        with pair.alice.create_connection(address, 20) as third, suppress(ConnectionResetError):
            assert third.recv(1) == b""
        far = [server.accept()[0] for _ in near]
        server.settimeout(0.01)
        with pytest.raises(TimeoutError):
            server.accept()
        for each in (*near, *far):
            each.close()


def test_who_was_not_accepted_can_not_fill_memory(pair: Pair) -> None:
    with (
        pair.bob.create_server(("", 0)) as server,
        pair.alice.create_connection(("bob", server.getsockname()[1]), 0.2) as near,
    ):
        with pytest.raises(TimeoutError):
            near.sendall(bytes(50_000_000))
        # One piece, as much as a transport reads at a time.
        assert server._arrivals._pipes[0]._unread_bytes <= 256 * 1024
        far, _ = server.accept()
        with far:
            far.settimeout(20)
            assert len(read(far, 300_000)) == 300_000


def test_forgotten_listener_is_closed_with_a_warning(pair: Pair) -> None:
    server = pair.bob.create_server(("", 0))
    port = server.getsockname()[1]
    with pytest.warns(ResourceWarning, match="unclosed <weft.blocking.Listener"):  # noqa: PT031
        del server
        gc.collect()
    pair.bob.status() if pair.kind == "stack" else pair.bob.getaddrinfo("bob", 1)
    with pytest.raises(ConnectionRefusedError):
        pair.alice.create_connection(("bob", port), 20)


def test_is_no_stream(pair: Pair) -> None:
    with pair.bob.create_server(("", 0)) as server:
        assert (server.type, server.proto) == (socket.SOCK_STREAM, socket.IPPROTO_TCP)
        assert not hasattr(server, "recv")
        with pytest.raises(OSError, match="no descriptor"):
            server.fileno()
