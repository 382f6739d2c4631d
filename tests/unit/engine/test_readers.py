"""The tasks that hang the datapath into the event loop, with real sockets and pipes."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.engine.pair import virtual
from weft.engine.readers import read_socket, read_tun
from weft.io.udp import UdpSocket


class Datapath:
    """What a session is to the readers."""

    def __init__(self) -> None:
        self.inbound = self
        self.delivery = self
        self.outbound = self
        self.device: object = None
        self.received: list[bytes] = []
        self.error: Exception | None = None
        self.drains = 0

    def drain(self, source: Any) -> None:
        self.drains += 1
        if self.error is not None:
            raise self.error
        if isinstance(source, Pipe):
            self.received.append(os.read(source.fileno(), 100))
        else:
            self.received += [bytes(run.data) for run in source.receive()]


class Pipe:
    """A readable descriptor that stands for a TUN."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()

    def fileno(self) -> int:
        return self._reading

    def close(self) -> None:
        os.close(self._reading)
        os.close(self.writing)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it is not so")


@pytest.fixture
def sockets() -> Iterator[tuple[UdpSocket, UdpSocket]]:
    made = UdpSocket("127.0.0.1", 0), UdpSocket("127.0.0.1", 0)
    yield made
    for each in made:
        each.close()


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


@virtual
async def test_socket_is_read_until_its_task_ends(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    ours, theirs = sockets
    datapath = Datapath()
    task = asyncio.create_task(read_socket(ours, datapath))  # type: ignore[arg-type]
    theirs.send(b"one", 3, ours.address)
    await until(lambda: datapath.received)
    theirs.send(b"two", 3, ours.address)
    await until(lambda: len(datapath.received) == 2)
    await end(task)
    assert task.cancelled()
    assert ours.when_blocked is None
    theirs.send(b"three", 5, ours.address)
    await asyncio.sleep(0.01)
    assert datapath.received == [b"one", b"two"]
    task = asyncio.create_task(read_socket(ours, datapath))  # type: ignore[arg-type]
    await until(lambda: len(datapath.received) == 3)
    await end(task)


@virtual
async def test_fault_of_the_datapath_ends_the_task_with_its_reason(sockets: tuple[UdpSocket, UdpSocket]) -> None:
    ours, theirs = sockets
    datapath = Datapath()
    datapath.error = ZeroDivisionError("a fault")
    task = asyncio.create_task(read_socket(ours, datapath))  # type: ignore[arg-type]
    theirs.send(b"one", 3, ours.address)
    with pytest.raises(ZeroDivisionError, match="a fault"):
        await asyncio.wait_for(task, 5)
    drains = datapath.drains
    await asyncio.sleep(0.01)
    assert datapath.drains == drains


@pytest.mark.parametrize("when", ["before", "during"])
@virtual
async def test_what_waits_is_sent_as_soon_as_the_descriptor_is_writable(
    sockets: tuple[UdpSocket, UdpSocket], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    ours, theirs = sockets
    send_one = ours._send_one
    free = False
    monkeypatch.setattr(ours, "_send_one", lambda *arguments: free and send_one(*arguments))
    datapath = Datapath()
    if when == "before":
        ours.send(b"waits", 5, theirs.address)
        assert ours.is_blocked
    task = asyncio.create_task(read_socket(ours, datapath))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    if when == "during":
        ours.send(b"waits", 5, theirs.address)
    free = True
    await until(lambda: not ours.is_blocked)
    flushes = 0

    def count() -> bool:
        nonlocal flushes
        flushes += 1
        return True

    monkeypatch.setattr(ours, "flush", count)
    await asyncio.sleep(0.01)
    assert flushes <= 1
    (received,) = theirs.receive()
    assert bytes(received.data) == b"waits"
    await end(task)


@virtual
async def test_socket_that_breaks_while_it_sends_ends_the_task(
    sockets: tuple[UdpSocket, UdpSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = sockets
    monkeypatch.setattr(ours, "_send_one", lambda *arguments: False)
    ours.send(b"waits", 5, theirs.address)

    def broken() -> bool:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(ours, "flush", broken)
    task = asyncio.create_task(read_socket(ours, Datapath()))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Bad file descriptor"):
        await asyncio.wait_for(task, 5)


@virtual
async def test_interface_is_read_until_its_task_ends() -> None:
    pipe, datapath = Pipe(), Datapath()
    task = asyncio.create_task(read_tun(pipe, datapath))  # type: ignore[arg-type]
    os.write(pipe.writing, b"one")
    await until(lambda: datapath.received)
    assert datapath.device is pipe
    await end(task)
    os.write(pipe.writing, b"two")
    await asyncio.sleep(0.01)
    assert datapath.received == [b"one"]
    datapath.error = OSError(errno.EBADFD, "File descriptor in bad state")
    with pytest.raises(OSError, match="bad state"):
        await asyncio.wait_for(read_tun(pipe, datapath), 5)  # type: ignore[arg-type]
    pipe.close()
