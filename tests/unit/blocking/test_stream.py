"""Streams, as programs use sockets."""

from __future__ import annotations

import array
import errno
import gc
import hashlib
import random
import select
import selectors
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.unit.blocking.conftest import Pair, begin, is_waiting, wait_until
from weft.blocking.pipe import READ_BYTES, WRITE_BYTES
from weft.blocking.stream import Stream
from weft.engine.driver import rest

Ends = tuple[Stream, Stream]

MUCH = random.Random(7).randbytes(8_000_000)


def read_all(stream: Stream, size: int = 65536) -> bytes:
    parts = []
    while part := stream.recv(size):
        parts.append(part)
    return b"".join(parts)


def read(stream: Stream, count: int, size: int = 65536) -> bytes:
    """So many bytes, with calls of so many at the most."""
    data = bytearray()
    while len(data) < count:
        part = stream.recv(min(size, count - len(data)))
        assert part
        data += part
    return bytes(data)


def is_taken(stream: Stream) -> bool:
    """Whether anything can be sent within the time-out."""
    try:
        stream.send(bytes(1_000_000))
    except TimeoutError:
        return False
    return True


@contextmanager
def deaf(node: Any) -> Iterator[None]:
    """A node that answers nobody, inside the block."""
    driver = node._node._engine.driver
    transmit, driver.transmit = driver.transmit, rest
    try:
        yield
    finally:
        driver.transmit = transmit
        node._background.soon(driver.wake)


class TestData:
    def test_goes_both_ways(self, ends: Ends) -> None:
        near, far = ends
        near.sendall(b"hello")
        assert read(far, 5) == b"hello"
        far.sendall(b"there")
        assert read(near, 5) == b"there"

    def test_is_taken_piece_by_piece(self, ends: Ends) -> None:
        near, far = ends
        near.sendall(bytes(range(100)))
        wait_until(lambda: far._pipe._unread_bytes == 100)
        assert [far.recv(30), far.recv(30), far.recv(100)] == [
            bytes(range(30)),
            bytes(range(30, 60)),
            bytes(range(60, 100)),
        ]

    def test_pieces_that_wait_are_taken_together(self, ends: Ends) -> None:
        near, far = ends
        for number in range(10):
            near.sendall(bytes([number]) * 10)
            wait_until(lambda count=number + 1: far._pipe._unread_bytes == 10 * count)  # type: ignore[misc]
        assert far.recv(1000) == b"".join(bytes([number]) * 10 for number in range(10))

    @pytest.mark.parametrize("size", [1000, 65536, 10_000_000])
    def test_much_arrives_as_it_was_both_ways_at_once(self, ends: Ends, threads: ThreadPoolExecutor, size: int) -> None:
        sending = [threads.submit(end.sendall, MUCH) for end in ends]
        reading = [threads.submit(read, end, len(MUCH), size) for end in ends]
        assert [future.result(60) == MUCH for future in reading] == [True, True]
        assert [future.result(60) for future in sending] == [None, None]

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("i", data)])
    def test_of_any_kind_of_buffer(self, ends: Ends, kind: type[bytearray]) -> None:
        near, far = ends
        data = kind(bytes(range(256)))
        near.sendall(data)
        assert near.send(data) == 256
        assert read(far, 512) == bytes(range(256)) * 2

    def test_may_change_when_send_has_returned(self, ends: Ends) -> None:
        near, far = ends
        data = bytearray(b"before" * 1000)
        near.sendall(data)
        data[:] = b"after!" * 1000
        assert read(far, 6000) == b"before" * 1000

    def test_is_received_into_buffers(self, ends: Ends) -> None:
        near, far = ends
        near.sendall(b"0123456789")
        wait_until(lambda: far._pipe._unread_bytes == 10)
        buffer, numbers = bytearray(8), array.array("H", [0, 0])
        assert far.recv_into(buffer, 3) == 3
        assert buffer == b"012" + bytes(5)
        assert far.recv_into(memoryview(buffer)[4:6]) == 2
        assert buffer[4:6] == b"34"
        assert far.recv_into(numbers) == 4  # type: ignore[arg-type]
        assert numbers.tobytes() == b"5678"
        assert far.recv_into(buffer) == 1
        with pytest.raises(ValueError, match="too small"):
            far.recv_into(buffer, 9)
        for number in (-1, -100):
            with pytest.raises(ValueError, match="negative"):
                far.recv(number)
            with pytest.raises(ValueError, match="negative"):
                far.recv_into(buffer, number)

    def test_text_is_none(self, ends: Ends) -> None:
        for send in (ends[0].send, ends[0].sendall):
            with pytest.raises(TypeError):
                send("text")  # type: ignore[arg-type]

    def test_flags_are_refused(self, ends: Ends) -> None:
        for call in (
            lambda: ends[0].recv(1, socket.MSG_PEEK),
            lambda: ends[0].recv_into(bytearray(1), 1, socket.MSG_PEEK),
            lambda: ends[0].send(b"x", socket.MSG_OOB),
            lambda: ends[0].sendall(b"x", socket.MSG_OOB),
        ):
            with pytest.raises(OSError, match="no flags"):
                call()


class TestEnd:
    def test_other_side_reads_to_the_end_and_may_still_answer(self, ends: Ends) -> None:
        near, far = ends
        near.sendall(b"question")
        near.shutdown(socket.SHUT_WR)
        assert read_all(far) == b"question"
        assert far.recv(1) == b""
        far.sendall(b"answer")
        far.close()
        assert read_all(near) == b"answer"
        with pytest.raises(BrokenPipeError):
            near.sendall(b"more")

    def test_what_was_written_before_close_arrives(self, ends: Ends, threads: ThreadPoolExecutor) -> None:
        near, far = ends
        reading = threads.submit(read_all, far)
        near.sendall(MUCH)
        near.close()
        assert hashlib.sha256(reading.result(60)).digest() == hashlib.sha256(MUCH).digest()

    def test_reading_can_be_ended_here(self, ends: Ends, threads: ThreadPoolExecutor) -> None:
        near, far = ends
        waiting = begin(threads, near, near.recv, 1)
        near.shutdown(socket.SHUT_RD)
        assert waiting.result(20) == b""
        near.sendall(b"still")
        assert read(far, 5) == b"still"
        near.shutdown(socket.SHUT_RDWR)
        assert far.recv(1) == b""
        with pytest.raises(OSError, match="Invalid"):
            near.shutdown(9)

    def test_reset_is_told_after_what_came_before(self, ends: Ends) -> None:
        near, far = ends
        far.sendall(b"before")
        wait_until(lambda: near.is_readable)
        far._pipe.background.call(self._reset, far)
        assert near.recv(100) == b"before"
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                near.recv(100)
        with pytest.raises(ConnectionResetError):
            near.sendall(b"x")
        with pytest.raises(OSError, match="not connected"):
            near.shutdown(socket.SHUT_WR)

    @staticmethod
    async def _reset(stream: Stream) -> None:
        transport = stream._pipe.transport
        kernel = transport.get_extra_info("socket")
        if kernel.fileno() >= 0:
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        else:
            # An end that was not asked for is a reset where something is missing.
            transport.write(bytes(READ_BYTES * 8))
        transport.abort()

    def test_closed_stream_refuses_everything(self, ends: Ends) -> None:
        near, _ = ends
        near.close()
        near.close()
        for call in (
            lambda: near.recv(1),
            lambda: near.recv_into(bytearray(1)),
            lambda: near.send(b"x"),
            lambda: near.sendall(b"x"),
            near.getsockname,
            near.getpeername,
            lambda: near.shutdown(socket.SHUT_RDWR),
            lambda: near.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        ):
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                call()
            assert caught.value.errno == errno.EBADF
        assert "closed" in repr(near)

    @pytest.mark.parametrize("what", ["recv", "sendall"])
    def test_close_in_another_thread_wakes_who_waits(self, ends: Ends, threads: ThreadPoolExecutor, what: str) -> None:
        near, _ = ends
        near.settimeout(None)
        waiting = begin(threads, near, getattr(near, what), 1 if what == "recv" else bytes(50_000_000))
        near.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            waiting.result(20)

    def test_forgotten_stream_is_closed_with_a_warning(self, pair: Pair) -> None:
        with pair.bob.create_server(("", 0)) as server:
            near = pair.alice.create_connection(("bob", server.getsockname()[1]), 20)
            far, _ = server.accept()
            with pytest.warns(ResourceWarning, match="unclosed <weft.blocking.Stream"):  # noqa: PT031
                del near
                gc.collect()
            far.settimeout(20)
            assert far.recv(1) == b""
            far.close()


class TestTimeouts:
    def test_of_what_does_not_come(self, ends: Ends) -> None:
        near, _ = ends
        near.settimeout(0.05)
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match=r"^timed out$"):
            near.recv(1)
        assert 0.05 <= time.monotonic() - begun < 5
        assert (near.gettimeout(), near.timeout, near.getblocking()) == (0.05, 0.05, True)
        near.settimeout(0)
        with pytest.raises(BlockingIOError) as caught:
            near.recv(1)
        assert caught.value.errno == errno.EAGAIN
        assert not near.getblocking()
        near.setblocking(True)
        assert near.gettimeout() is None
        near.setblocking(False)
        assert near.gettimeout() == 0
        with pytest.raises(ValueError, match="out of range"):
            near.settimeout(-1)

    def test_of_who_does_not_read(self, ends: Ends) -> None:
        near, far = ends
        near.settimeout(0)
        with pytest.raises(BlockingIOError):
            near.sendall(bytes(50_000_000))
        near.settimeout(0.2)
        with pytest.raises(TimeoutError):
            near.sendall(bytes(50_000_000))
        # By now nobody takes anything any more.
        while is_taken(near):
            pass
        near.settimeout(0)
        with pytest.raises(BlockingIOError):
            near.send(b"x")
        # Each side has a bound for what waits.
        assert near._pipe._unsent_bytes <= WRITE_BYTES
        assert far._pipe._unread_bytes <= READ_BYTES + 256 * 1024

    def test_sendall_has_the_timeout_for_all_of_it(self, ends: Ends, threads: ThreadPoolExecutor) -> None:
        near, far = ends
        near.settimeout(0.2)
        # The other side reads, but not as fast as this one would like.
        reading = threads.submit(read_all, far, 100)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            near.sendall(bytes(300_000_000))
        assert time.monotonic() - begun < 5
        near.close()
        assert reading.result(60)

    def test_of_connections(self, stacks: Pair) -> None:
        begun = time.monotonic()
        with stacks.bob.create_server(("", 0)) as server:
            address = "bob", server.getsockname()[1]
            with deaf(stacks.bob), pytest.raises(TimeoutError, match=r"^timed out$"):
                stacks.alice.create_connection(address, 0.1)
        assert time.monotonic() - begun < 5

    def test_of_new_sockets_is_the_default_one(self, pair: Pair) -> None:
        default = socket.getdefaulttimeout()
        with pair.bob.create_server(("", 0)) as server:
            address = "bob", server.getsockname()[1]
            try:
                socket.setdefaulttimeout(30)
                with pair.alice.create_connection(address) as first:
                    assert first.gettimeout() == 30
                with pair.alice.create_connection(address, None) as second:
                    assert second.gettimeout() is None
                with pair.alice.create_connection(address, timeout=7) as third:
                    assert third.gettimeout() == 7
                with pair.alice.create_connection(address, socket._GLOBAL_DEFAULT_TIMEOUT) as fourth:  # type: ignore[attr-defined]
                    assert fourth.gettimeout() == 30
            finally:
                socket.setdefaulttimeout(default)


class TestErrors:
    def test_nobody_listens(self, pair: Pair) -> None:
        with pair.bob.create_server(("", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            pair.alice.create_connection(("bob", port), 20)

    def test_there_is_no_such_name(self, pair: Pair) -> None:
        with pytest.raises(socket.gaierror):
            pair.alice.create_connection(("nobody.invalid", 80), 20)

    def test_port_is_taken(self, pair: Pair) -> None:
        with pair.bob.create_server(("", 0)) as server, pytest.raises(OSError, match="use") as caught:
            pair.bob.create_server(server.getsockname()[:2])
        assert caught.value.errno == errno.EADDRINUSE


class TestWhoAndWhere:
    def test_addresses(self, pair: Pair) -> None:
        with pair.connected() as (near, far):
            assert near.getpeername() == far.getsockname()
            assert near.getsockname() == far.getpeername()
            assert near.family == (socket.AF_INET6 if pair.kind == "stack" else socket.AF_INET)
            assert (near.type, near.proto) == (socket.SOCK_STREAM, socket.IPPROTO_TCP)
            if pair.kind == "stack":
                assert near.peer.name == "bob"
                assert far.peer.id == str(pair.alice.identity)
            else:
                assert near.peer is None

    def test_hosts_are_whatever_names_a_peer(self, stacks: Pair) -> None:
        with stacks.bob.create_server((stacks.bob.address, 0)) as server:
            port = server.getsockname()[1]
            for host in ("bob", "bob.weft", stacks.bob.address, stacks.bob.identity, stacks.alice.peers[0]):
                with stacks.alice.create_connection((host, port), 20) as near, server.accept()[0]:
                    assert near.getpeername()[:2] == (str(stacks.bob.address), port)

    def test_source_address(self, pair: Pair) -> None:
        with pair.bob.create_server(("", 0)) as server:
            own = str(pair.alice.address) if pair.kind == "stack" else "127.0.0.1"
            with pair.alice.create_connection(("bob", server.getsockname()[1]), 20, (own, 0)) as near:
                assert near.getsockname()[0] == own
                far, address = server.accept()
                far.close()
                assert address == near.getsockname()

    def test_options(self, ends: Ends) -> None:
        near, _ = ends
        for option in ((socket.IPPROTO_TCP, socket.TCP_NODELAY), (socket.SOL_SOCKET, socket.SO_KEEPALIVE)):
            for value in (0, 1):
                near.setsockopt(*option, value)
                assert bool(near.getsockopt(*option)) == bool(value)
        assert near.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        with pytest.raises(OSError, match="not available"):
            near.setsockopt(socket.IPPROTO_TCP, 9999, 1)

    def test_there_is_no_descriptor(self, ends: Ends) -> None:
        with pytest.raises(OSError, match="no descriptor"):
            ends[0].fileno()
        with pytest.raises(ValueError, match="no descriptor"):
            select.select([ends[0]], [], [], 0)
        with selectors.DefaultSelector() as selector, pytest.raises(ValueError, match="Invalid file object"):
            selector.register(ends[0], selectors.EVENT_READ)  # type: ignore[arg-type]


class TestThreads:
    def test_one_reads_while_another_writes(self, ends: Ends, threads: ThreadPoolExecutor) -> None:
        near, far = ends
        waiting = begin(threads, near, near.recv, 100)
        near.sendall(b"question")
        assert read(far, 8) == b"question"
        assert is_waiting(near)
        far.sendall(b"answer")
        assert waiting.result(20) == b"answer"

    def test_many_readers_share_what_comes(self, ends: Ends, threads: ThreadPoolExecutor) -> None:
        near, far = ends
        readers = [threads.submit(read_all, far, 1000) for _ in range(8)]
        near.sendall(MUCH[:2_000_000])
        near.close()
        parts = [reader.result(60) for reader in readers]
        assert sum(map(len, parts)) == 2_000_000
        assert sum(map(sum, parts)) == sum(MUCH[:2_000_000])

    def test_32_connections_at_once(self, pair: Pair, threads: ThreadPoolExecutor) -> None:
        def echo(stream: Stream) -> None:
            with stream:
                while data := stream.recv(65536):
                    stream.sendall(data)

        def ask(number: int) -> bool:
            data = random.Random(number).randbytes(200_000)
            with pair.alice.create_connection(("bob", port), 60) as stream:
                sending = threads.submit(stream.sendall, data)
                assert read(stream, len(data)) == data
                sending.result(60)
                return True

        with (
            pair.bob.create_server(("", 0)) as server,
            ThreadPoolExecutor(32) as asking,
            ThreadPoolExecutor(32) as echoing,
        ):
            port = server.getsockname()[1]
            answers = [asking.submit(ask, number) for number in range(32)]
            served = [echoing.submit(echo, server.accept()[0]) for _ in range(32)]
            assert all(answer.result(60) for answer in answers)
            for each in served:
                each.result(60)
