"""The standard streams of this process, byte for byte, without the loop having to wait for them.

| a stream is           | reading                          | writing                                              |
|-----------------------|----------------------------------|------------------------------------------------------|
| a pipe or a terminal  | when something is there          | when there is room, no more than fits without waiting |
| a file                | at once; loops do not take files | at once                                              |

No flag of a descriptor is changed, for others may have the same one.

Source: POSIX.1-2017 write(), on pipes and `PIPE_BUF`.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

READ_BYTES: Final = 64 * 1024
ROOM_BYTES: Final = getattr(select, "PIPE_BUF", 512)
"""What a pipe that is ready takes without waiting."""
PAUSE_S: Final = 0.01
STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2


async def read_input(count: int = READ_BYTES) -> AsyncIterator[bytes]:
    """What comes in at the standard input, in pieces of `count` bytes at most.

    Raises:
        OSError: it can't be read.
    """
    loop = asyncio.get_running_loop()
    waits = not _is_file(STDIN)
    while True:
        if waits:
            waits = await _until(loop.add_reader, loop.remove_reader, STDIN)
        try:
            data = os.read(STDIN, count)
        except BlockingIOError:
            # Somebody who has it too set it so, and was faster.
            await asyncio.sleep(PAUSE_S)
            continue
        if not data:
            return
        yield data


async def write_output(data: bytes, descriptor: int = STDOUT) -> None:
    """Write all of it to the standard output, or the standard error.

    Raises:
        BrokenPipeError: nobody reads there any more.
        OSError: it can't be written.
    """
    loop = asyncio.get_running_loop()
    waits = not _is_file(descriptor)
    rest = memoryview(data)
    while rest:
        if waits and not _has_room(descriptor):
            waits = await _until(loop.add_writer, loop.remove_writer, descriptor)
        try:
            rest = rest[os.write(descriptor, rest[:ROOM_BYTES] if waits else rest) :]
        except BlockingIOError:
            await asyncio.sleep(PAUSE_S)


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _has_room(descriptor: int) -> bool:
    return bool(select.select((), (descriptor,), (), 0)[1])


async def _until(add: Callable[..., Any], remove: Callable[[int], Any], descriptor: int) -> bool:
    """Wait for a descriptor; False if it is nothing that one can wait for."""
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    try:
        add(descriptor, _set, ready)
    except OSError:
        return False
    try:
        await ready
    finally:
        remove(descriptor)
    return True


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
