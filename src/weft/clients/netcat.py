"""A connection, joined to the standard streams of this process.

| what happens                        | what is done                                                              |
|-------------------------------------|---------------------------------------------------------------------------|
| the input has ended                 | the other side is told so; what it still says is written                  |
| the other side has no more to say   | the input still goes there, to its end; a terminal has none, so it is over |
| the connection fails                | it is over                                                                |
| nobody reads the output any more    | the connection is reset                                                   |
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from weft.clients.relay import reset
from weft.clients.standard_streams import STDIN, read_input, write_output

TAKEN_BYTES: Final = 256 * 1024


async def join_standard_streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Join them, and return when both directions have ended and all has been handed over.

    Args:
        reader: of the connection.
        writer: of the connection; closed at the end.

    Returns:
        Whether the output was read to the end.

    Raises:
        OSError: the connection failed, or a stream of this process.
    """
    giving, taking = asyncio.create_task(_give(writer)), asyncio.create_task(_take(reader))
    pending = {giving, taking}
    try:
        while pending and not (taking.done() and os.isatty(STDIN)):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if not all(task.result() for task in done):
                reset(writer.transport)
                return False
        writer.close()
        await writer.wait_closed()
    except BaseException:
        reset(writer.transport)
        raise
    else:
        return True
    finally:
        for task in (giving, taking):
            task.cancel()
        await asyncio.gather(giving, taking, return_exceptions=True)


async def _give(writer: asyncio.StreamWriter) -> bool:
    async for data in read_input():
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    return True


async def _take(reader: asyncio.StreamReader) -> bool:
    """Whether somebody read it."""
    while data := await reader.read(TAKEN_BYTES):
        try:
            await write_output(data)
        except BrokenPipeError:
            return False
    return True
