"""Being told that descriptors are ready, on loops that watch them and on one that does not."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from weft.io.watching import ThreadWatch, Watch, watch_of


class BlindLoop(asyncio.SelectorEventLoop):
    """As `ProactorEventLoop` of Windows: it serves its own sockets and watches nobody else's."""

    def add_reader(self, *_: Any) -> None:
        raise NotImplementedError

    remove_reader = add_writer = remove_writer = add_reader  # type: ignore[assignment]


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
    "blind": BlindLoop,
}


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    with one, other:
        yield one, other


def threads() -> int:
    return sum(thread.name == "weft sockets" for thread in threading.enumerate())


async def until(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it is not so")


def on(name: str, test: Callable[[Watch], Any]) -> None:
    """Run a test on a loop of its own."""

    async def main() -> None:
        await test(watch_of(asyncio.get_running_loop()))
        await until(lambda: threads() == 0)

    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        runner.run(main())


each_loop = pytest.mark.parametrize("name", LOOPS)


def test_only_a_blind_loop_needs_a_thread() -> None:
    for name, factory in LOOPS.items():
        loop = factory()
        assert isinstance(watch_of(loop), ThreadWatch) == (name == "blind")
        assert watch_of(loop) is watch_of(loop)
        loop.close()


@each_loop
def test_reader_is_told_until_it_is_removed(name: str, pair: tuple[socket.socket, socket.socket]) -> None:
    async def test(watch: Watch) -> None:
        one, other = pair
        came: list[bytes] = []
        watch.add_reader(one, lambda: came.append(one.recv(2)))
        other.send(b"abcdef")
        await until(lambda: came == [b"ab", b"cd", b"ef"])
        watch.remove_reader(one)
        other.send(b"gh")
        await asyncio.sleep(0.02)
        assert len(came) == 3
        watch.add_reader(one, lambda: came.append(one.recv(2)))
        await until(lambda: came[3:] == [b"gh"])
        watch.remove_reader(one)
        watch.remove_reader(one)

    on(name, test)


@each_loop
def test_what_is_not_read_is_told_again_and_leaves_the_loop_its_time(
    name: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    async def test(watch: Watch) -> None:
        one, other = pair
        told = 0

        def tell() -> None:
            nonlocal told
            told += 1

        watch.add_reader(one, tell)
        other.send(b"a")
        begun = time.monotonic()
        await asyncio.sleep(0.05)
        assert told > 1
        assert time.monotonic() - begun < 1
        watch.remove_reader(one)

    on(name, test)


@each_loop
def test_writer_is_told_beside_a_reader(name: str, pair: tuple[socket.socket, socket.socket]) -> None:
    async def test(watch: Watch) -> None:
        one, other = pair
        try:
            while True:
                one.send(bytes(65_536))
        except BlockingIOError:
            pass
        told: list[str] = []

        def write() -> None:
            told.append("writable")
            watch.remove_writer(one)

        def read() -> None:
            told.append(one.recv(10).decode())

        watch.add_reader(one, read)
        watch.add_writer(one, write)
        other.send(b"readable")
        await until(lambda: told == ["readable"])
        await asyncio.sleep(0.02)
        assert told == ["readable"]
        try:
            while True:
                other.recv(1 << 20)
        except BlockingIOError:
            pass
        await until(lambda: told[1:] == ["writable"])
        other.send(b"again")
        await until(lambda: told[2:] == ["again"])
        watch.remove_reader(one)

    on(name, test)


@each_loop
def test_socket_that_is_closed_after_its_removal_disturbs_no_other(
    name: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    async def test(watch: Watch) -> None:
        one, other = pair
        came: list[bytes] = []
        watch.add_reader(one, lambda: came.append(one.recv(10)))
        for _ in range(50):
            third, fourth = socket.socketpair()
            watch.add_reader(third, lambda: None)
            fourth.send(b"x")
            watch.remove_reader(third)
            third.close()
            fourth.close()
        other.send(b"still here")
        await until(lambda: came == [b"still here"])
        watch.remove_reader(one)

    on(name, test)


def test_callback_that_is_replaced_is_not_called(pair: tuple[socket.socket, socket.socket]) -> None:
    async def test(watch: Watch) -> None:
        one, other = pair
        called: list[str] = []

        def second() -> None:
            called.append("second")
            watch.remove_reader(one)

        watch.add_reader(one, lambda: called.append("first"))
        other.send(b"x")
        # The thread has told the loop, which has not got its turn.
        time.sleep(0.05)  # noqa: ASYNC251
        watch.add_reader(one, second)
        await until(lambda: called)
        assert called == ["second"]

    on("blind", test)


def test_loop_that_is_closed_is_forgotten_with_its_thread(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair

    async def main() -> None:
        watch_of(asyncio.get_running_loop()).add_reader(one, lambda: None)

    loop = BlindLoop()
    loop.run_until_complete(main())
    known = weakref.ref(loop)
    loop.close()
    other.send(b"x")
    for _ in range(100):
        if threads() == 0:
            break
        time.sleep(0.01)
    assert threads() == 0
    del loop
    gc.collect()
    assert known() is None
