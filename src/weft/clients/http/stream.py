"""Connections of the network as httpcore2 wants them.

What comes is kept as it comes, chunk by chunk; above `KEPT_BYTES` the other side has to wait. Whoever reads as much as
`LARGE_BYTES` at a time, as parsers do, gets all that is there, for a piece costs them more than its bytes. Nothing is
read ahead of TLS: who speaks before it began is not heard (the flaw of STARTTLS, CVE-2011-0411).

| what happens                        | what httpcore2 sees                 |
|-------------------------------------|-------------------------------------|
| no connection, no TLS               | `ConnectError`                      |
| the time is up                      | `ConnectTimeout`, `ReadTimeout` …   |
| the other side has no more to say   | empty bytes                         |
| the connection was lost             | `ReadError`, `WriteError`           |

Source: `httpcore2.AsyncNetworkBackend`, `httpcore2.AsyncNetworkStream`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import httpcore2

from weft.clients.failures import reason_of
from weft.clients.network import Network

KEPT_BYTES: Final = 256 * 1024
"""May wait to be read."""
LARGE_BYTES: Final = 64 * 1024
FAREWELL_S: Final = 1.0
"""How long the other side has to say goodbye, over TLS, or to take what was written last."""

_INFO: Final = {"client_addr": "sockname", "server_addr": "peername"}
"""httpcore2's names for what transports call otherwise."""


class Backend(httpcore2.AsyncNetworkBackend):
    """Connects in a network.

    Args:
        network: where.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._open: set[Stream] = set()

    async def wait_closed(self) -> None:
        """Return when all connections are over that were closed, or have had `FAREWELL_S` for it."""
        over = [stream.over for stream in self._open]
        if over:
            await asyncio.wait(over, timeout=FAREWELL_S)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect; an address of our own and options can't be chosen."""
        with _translated(httpcore2.ConnectError, httpcore2.ConnectTimeout, f"{host}: "):
            async with asyncio.timeout(timeout):
                _, protocol = await self._network.create_connection(
                    lambda: Stream(self._network, self._open), host, port
                )
        assert isinstance(protocol, Stream)
        return protocol

    async def sleep(self, seconds: float) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(seconds)


class Stream(httpcore2.AsyncNetworkStream, asyncio.Protocol):
    """One connection.

    Args:
        network: of which it is.
        open_: is in it from its beginning to its end.

    Attributes:
        over: is done at its end.
    """

    _transport: asyncio.Transport

    def __init__(self, network: Network, open_: set[Stream]) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._network = network
        self._open = open_
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._is_at_end = False
        self._is_lost = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast(asyncio.Transport, transport)  # which uvloop's do not say they are
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size > KEPT_BYTES:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """No more will come, so there is nothing more to ask either: the transport closes."""
        self._is_at_end = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._is_lost = self._is_at_end = True
        self._error = exc
        self._open.discard(self)
        self.over.set_result(None)
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        """What was written waits to be sent."""
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """It was sent."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # What httpcore2 asks for.

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """What came; nothing if no more comes."""
        if not self._chunks:
            with _translated(httpcore2.ReadError, httpcore2.ReadTimeout):
                async with asyncio.timeout(timeout):
                    await self._wait()
                if not self._chunks:
                    if self._error is not None:
                        raise self._error
                    return b""
        if max_bytes >= LARGE_BYTES and len(self._chunks) > 1:
            chunk = b"".join(self._chunks)
            self._chunks.clear()
        else:
            chunk = self._chunks.popleft()
            if len(chunk) > max_bytes:
                self._chunks.appendleft(chunk[max_bytes:])
                chunk = chunk[:max_bytes]
        if self._size > KEPT_BYTES >= self._size - len(chunk):
            self._transport.resume_reading()
        self._size -= len(chunk)
        return chunk

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send all of it, or at least have it where it is sent from."""
        with _translated(httpcore2.WriteError, httpcore2.WriteTimeout):
            if not self._is_lost:
                self._transport.write(buffer)
            if self._writable is not None:
                async with asyncio.timeout(timeout):
                    await self._writable
            if self._is_lost:
                raise self._error or ConnectionResetError("the connection was closed")

    async def aclose(self) -> None:
        """Let go of it; what was written is still sent."""
        self._transport.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        """Go on with TLS."""
        with _translated(httpcore2.ConnectError, httpcore2.ConnectTimeout, f"{server_hostname}: "):
            try:
                if self._chunks:
                    raise ConnectionAbortedError("it spoke before TLS")
                async with asyncio.timeout(timeout):
                    self._transport = await self._network.start_tls(
                        self._transport,
                        self,
                        ssl_context,
                        server_hostname=server_hostname,
                        ssl_shutdown_timeout=FAREWELL_S,
                    )
            except BaseException:
                self._transport.abort()
                raise
        return self

    def get_extra_info(self, info: str) -> Any:
        """What is known: `ssl_object`, `client_addr`, `server_addr`, `socket`, `peer`, `is_readable`."""
        if info == "is_readable":
            return bool(self._chunks) or self._is_at_end or self._transport.is_closing()
        return self._transport.get_extra_info(_INFO.get(info, info))

    async def _wait(self) -> None:
        while not self._chunks and not self._is_at_end:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@contextmanager
def _translated(failed: type[Exception], timed_out: type[Exception], prefix: str = "") -> Iterator[None]:
    """Raise what httpcore2 knows in place of what the network raises."""
    try:
        yield
    except (OSError, ValueError) as error:
        # A name may be none (UnicodeError), and a certificate's fault is both.
        kind = timed_out if isinstance(error, TimeoutError) else failed
        raise kind(prefix + reason_of(error)) from error
