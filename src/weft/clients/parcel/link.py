"""One stream on which a parcel goes: its messages, and whether the other side is still there.

Each side says something at least every `ALIVE_S`, be it that there is nothing yet; who hears nothing for `PATIENCE_S`,
or can't get rid of anything for so long, takes the other side for gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType
from typing import Any, Final, NoReturn, Protocol, Self, TypeVar, overload

from weft.clients.failures import reason_of
from weft.clients.parcel.messages import (
    ALIVE_S,
    BYTES,
    HEADER_BYTES,
    LIMITS,
    PATIENCE_S,
    Message,
    Refuse,
    Wait,
    decode_header,
    decode_words,
    encode_header,
    encode_words,
    shortened,
)
from weft.errors import DecodeError, PeerError

BLOCK_BYTES: Final = LIMITS[BYTES]
READ_BYTES: Final = 4 * BLOCK_BYTES
"""What may have come and wait for us."""
LINGER_S: Final = 5.0
"""How long the other side may take to notice the end."""

Told = Callable[[int, int | None], None]
"""Is told how many bytes of how many are there."""
Progress = Callable[[str], AbstractContextManager[Told]]
"""Is given what is transferred, and makes for the time of it what is told how far it is."""

T = TypeVar("T")
M = TypeVar("M", bound=Message)
N = TypeVar("N", bound=Message)
K = TypeVar("K", bound=Message)


class StreamNetwork(Protocol):
    """Where streams are opened and taken: each method is the one of that name in asyncio. A `weft.Node` is one."""

    async def open_connection(
        self, host: Any = None, port: Any = None, **arguments: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, for a reader and a writer."""

    async def start_server(
        self, client_connected_cb: Any, host: Any = None, port: Any = None, **arguments: Any
    ) -> asyncio.AbstractServer:
        """Listen, with a reader and a writer for each connection."""


class BrokenOffError(PeerError):
    """The other side went away in the middle of it."""


class RefusedError(PeerError):
    """The other side said that it does not go on, and why."""


class Link:
    """One side of the stream, for `async with`; at its end the stream is closed.

    Args:
        reader, writer: the stream.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._said_at = 0.0
        self._frame = bytearray()
        self._alive: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._said_at = loop.time()
        self._alive = loop.create_task(self._stay_alive())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._alive is not None:
            self._alive.cancel()
        self._writer.close()
        try:
            async with asyncio.timeout(LINGER_S):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()
        except asyncio.CancelledError:
            self._writer.transport.abort()
            raise

    # What is said.

    async def say(self, message: Message) -> None:
        """Send a message.

        Raises:
            BrokenOffError: the other side has gone.
        """
        await self._write(encode_words(message), patience_s=PATIENCE_S)

    async def give(self, data: bytes) -> None:
        """Send the next bytes of a file, of which there are some; a slow network may take its time for them.

        Raises:
            BrokenOffError: the other side has gone.
        """
        await self._write(encode_header(BYTES, len(data)), data)

    async def refuse(self, why: str) -> None:
        """Say that this side does not go on, and wait until the other one has heard it."""
        with suppress(PeerError):
            await self.say(Refuse(why=shortened(why)))
            await self.until_closed()

    async def until_closed(self) -> None:
        """Return when the other side has closed it, or does not in time; what still comes is of no use."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(LINGER_S):
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                while await self._reader.read(BLOCK_BYTES):
                    pass

    async def _write(self, *parts: bytes, patience_s: float | None = None) -> None:
        self._said_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(patience_s):
                self._writer.writelines(parts)
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise BrokenOffError(reason_of(error)) from error

    async def _stay_alive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(self._said_at + ALIVE_S - loop.time(), 0.0))
            if loop.time() - self._said_at >= ALIVE_S:
                self._said_at = loop.time()
                if not self._writer.transport.get_write_buffer_size():
                    self._writer.write(encode_words(Wait()))

    # What is heard.

    @overload
    async def hear(self) -> NoReturn: ...
    @overload
    async def hear(self, kind: type[M], /) -> M: ...
    @overload
    async def hear(self, kind: type[M], other: type[N], /) -> M | N: ...
    @overload
    async def hear(self, kind: type[M], other: type[N], third: type[K], /) -> M | N | K: ...
    @overload
    async def hear(self, kind: type[M], other: type[N], /, *, or_bytes: bool) -> M | N | bytes: ...
    async def hear(self, *kinds: Any, or_bytes: bool = False) -> Any:
        """The next message, which has to be one of these.

        Args:
            *kinds: what may come.
            or_bytes: the bytes of a file may come as well.

        Raises:
            DecodeError: it is another one, or none.
            RefusedError: the other side does not go on.
            BrokenOffError: it has gone.
        """
        while True:
            kind, content = await self._read()
            if kind == BYTES:
                if or_bytes:
                    return content
                raise DecodeError(_named(*kinds))
            message = decode_words(content)
            if isinstance(message, Refuse):
                raise RefusedError(message.why)
            if isinstance(message, kinds):
                return message
            if not isinstance(message, Wait):
                raise DecodeError(_named(*kinds))

    async def while_there(self, work: Awaitable[T]) -> T:
        """Wait for something, as long as the other side waits for it as well, and has nothing to say.

        Raises:
            DecodeError: it said something.
            BrokenOffError, RefusedError: it does not wait any more; what was waited for is cancelled.
        """
        working, hearing = asyncio.ensure_future(work), asyncio.ensure_future(self.hear())
        try:
            await asyncio.wait({working, hearing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await hearing
            return await working
        finally:
            working.cancel()
            hearing.cancel()
            await asyncio.gather(working, hearing, return_exceptions=True)

    async def _read(self) -> tuple[int, bytes]:
        """The next frame; one that does not wait for it to the end loses nothing."""
        await self._fill(HEADER_BYTES)
        kind, length = decode_header(bytes(self._frame[:HEADER_BYTES]))
        await self._fill(HEADER_BYTES + length)
        content = bytes(self._frame[HEADER_BYTES:])
        self._frame.clear()
        return kind, content

    async def _fill(self, length: int) -> None:
        """Have so much of a frame, as long as more of it comes."""
        while len(self._frame) < length:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    more = await self._reader.read(length - len(self._frame))
            except (OSError, TimeoutError) as error:
                raise BrokenOffError(reason_of(error)) from error
            if not more:
                raise BrokenOffError("the connection was closed")
            self._frame += more


def silent(what: str) -> AbstractContextManager[Told]:
    """The progress that nobody wants to see."""
    return nullcontext(lambda size_bytes, of_bytes: None)


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Do several things at a time; when one fails, the others are cancelled, and it is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _named(*kinds: type[Message]) -> str:
    return " or ".join(kind.__name__.lower() for kind in kinds) or "nothing"
