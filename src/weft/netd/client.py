"""netd for Python programs on asyncio: a client of the daemon's Unix socket.

    async with netd.Client("/etc/weft/netd.sock") as client:
        socket = await client.socket("stream")
        await socket.connect("fc12::34", 80)
        await socket.send(b"hello")
        data = await socket.receive()

Many tasks may ask at once: each answer finds who asked. Whoever is cancelled while it waits for data may lose what came
for it meanwhile: poll first, where that matters. A program on the same loop as the node has an easier way in
`weft.Node`, and any other Python program in `Node.attach`; this is for what wants netd's own view of a socket.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import TracebackType
from typing import Any, Final, Literal, Self, cast

from weft.errors import DecodeError, WeftError
from weft.netd import messages
from weft.netd.client_socket import Host, Socket, endpoint_of
from weft.netd.frames import Frames, decode_reply, encode_request
from weft.netd.messages import (
    EDGE,
    EVENT,
    FOREVER,
    HAPPENED,
    MESSAGES,
    Code,
    Mode,
    Ready,
    Type,
    code_of_reply,
)
from weft.netd.status import Status

_TYPES: Final = {"stream": Type.STREAM, "datagram": Type.DATAGRAM}
_FAMILIES: Final = {0: 0, 4: 2, 6: 10}
_MAX_REQUEST: Final = 0xFFFFFFFF


class NetdError(WeftError):
    """The daemon has not done what was asked.

    Attributes:
        status: why; one of `weft.netd.status.Status`, or a number that this version does not know.
    """

    def __init__(self, status: int) -> None:
        known = status in {*Status}
        self.status = Status(status) if known else status
        super().__init__(Status(status).meaning if known else f"status {status}")


class Client(asyncio.Protocol):
    """A way to the daemon, for `async with`.

    Args:
        path: of its socket, `netd.sock` in the directory of the node.

    Raises:
        OSError: nobody listens there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._number = 0
        self._waiting: dict[int, tuple[Code, asyncio.Future[Any]]] = {}
        self._events: dict[int, _Events] = {}
        self._can_write = asyncio.Event()
        self._is_over = False

    async def __aenter__(self) -> Self:
        """Connect."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self, self._path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Go; the sockets of this client end."""
        self.close()

    def close(self) -> None:
        """Go; the sockets of this client end."""
        if self._transport is not None:
            self._transport.close()

    # What can be asked.

    async def socket(self, kind: Literal["stream", "datagram"] = "stream", *, version: Literal[0, 4, 6] = 0) -> Socket:
        """Make a socket.

        Args:
            kind: of TCP, or of UDP.
            version: of IP; 0 for both.
        """
        asked = messages.Create(_FAMILIES[version], _TYPES[kind], 0)
        return Socket(self, (await self.ask(Code.SOCKET_CREATE, asked)).socket)

    async def resolve(self, name: str, *, version: Literal[0, 4, 6] = 0) -> list[IPv4Address | IPv6Address]:
        """Look up a name, the best address first."""
        try:
            asked = messages.Resolve(_FAMILIES[version], 0, name.encode("idna"))
        except UnicodeError:
            raise NetdError(Status.NO_NAME) from None
        reply = await self.ask(Code.DNS_RESOLVE, asked)
        return [ip_address(row.address.address) for row in reply.addresses]

    async def ping(self, host: Host, *, timeout_s: float = 5.0) -> float:
        """How long an ICMP echo takes, seconds."""
        asked = messages.Ping(endpoint_of(host, 0), round(timeout_s * 1000))
        return float((await self.ask(Code.PING, asked)).rtt_us) / 1e6

    async def info(self) -> messages.Info:
        """What the node is like."""
        info: messages.Info = await self.ask(Code.INFO, messages.Nothing())
        return info

    async def stats(self) -> messages.Stats:
        """What is counted."""
        stats: messages.Stats = await self.ask(Code.STATS, messages.Nothing())
        return stats

    async def poll(
        self, wanted: Mapping[Socket, Ready], *, edge: bool = False, timeout_s: float | None = None
    ) -> dict[int, Ready]:
        """Wait until a socket is ready.

        Args:
            wanted: what is asked of which.
            edge: tell only what is new since it was told as an edge.
            timeout_s: how long, at most; None for as long as it takes.

        Returns:
            What is so, by numbers of sockets; nothing if the time is over.
        """
        timeout_ms = FOREVER if timeout_s is None else min(round(timeout_s * 1000), FOREVER - 1)
        rows = tuple(messages.Wanted(socket.number, flags) for socket, flags in wanted.items())
        reply = await self.ask(Code.POLL, messages.Poll(EDGE if edge else 0, timeout_ms, rows))
        return {row.socket: Ready(row.flags) for row in reply.ready}

    async def events(
        self, interest: Ready, *, socket: Socket | None = None, edge: bool = True
    ) -> AsyncIterator[tuple[int, Ready]]:
        """What happens to one socket, or to all, until the iterator is closed: number and flags."""
        request = self._next_number()
        events = self._events[request] = _Events()
        number = socket.number if socket is not None else 0
        mode = Mode.EDGE if edge else Mode.LEVEL
        try:
            await self.ask(Code.SUBSCRIBE_EVENTS, messages.Subscribe(number, interest, mode), request=request)
            while (event := await events.take()) is not None:
                yield event
        finally:
            self._events.pop(request, None)
            with suppress(NetdError, ConnectionError):
                await self.ask(Code.SUBSCRIBE_EVENTS, messages.Subscribe(number, 0, Mode.OFF))

    async def ask(self, code: Code, asked: Any, *, request: int | None = None) -> Any:
        """Ask anything of the table in messages.py.

        Args:
            code: what.
            asked: its fields.
            request: number of it, if one was taken already.

        Returns:
            The fields of the reply.

        Raises:
            NetdError: the daemon says that it was not done.
            ConnectionError: the daemon has gone.
        """
        body = MESSAGES[code].request.encode(asked)
        await self._can_write.wait()
        if self._transport is None or self._is_over:
            raise ConnectionResetError("the daemon has gone")
        number = request if request is not None else self._next_number()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = code, future
        self._transport.write(encode_request(code, number, body))
        return await future

    # The protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is connected."""
        # Those of uvloop are of no class of asyncio.
        self._transport = cast(asyncio.Transport, transport)
        self._can_write.set()

    def data_received(self, data: bytes) -> None:
        """Answers have come."""
        self._frames.feed(data)
        try:
            for code, request, rest in self._frames:
                self._handle(code, request, *decode_reply(rest))
        except DecodeError:
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The daemon has gone, or this client goes."""
        self._is_over = True
        self._can_write.set()
        waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the daemon has gone"))
        for events in self._events.values():
            events.end()

    def pause_writing(self) -> None:
        """The daemon does not read."""
        self._can_write.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._can_write.set()

    def _handle(self, code: int, request: int, status: int, body: memoryview) -> None:
        if code == EVENT:
            if request in self._events:
                self._events[request].put(HAPPENED.decode(body))
            return
        known = self._waiting.pop(request, None)
        if known is None or known[1].done():
            return
        asked, future = known
        if status != Status.OK:
            future.set_exception(NetdError(status))
        elif code == code_of_reply(asked):
            future.set_result(MESSAGES[asked].reply.decode(body))
        else:
            future.set_exception(NetdError(Status.INVALID))

    def _next_number(self) -> int:
        self._number = self._number % _MAX_REQUEST + 1
        return self._number


class _Events:
    """What was told and not taken: of each socket, all that happened to it since."""

    def __init__(self) -> None:
        self._flags: dict[int, Ready] = {}
        self._has_some = asyncio.Event()

    def put(self, event: messages.Happened) -> None:
        self._flags[event.socket] = self._flags.get(event.socket, Ready(0)) | Ready(event.flags)
        self._has_some.set()

    def end(self) -> None:
        self._flags.clear()
        self._has_some.set()

    async def take(self) -> tuple[int, Ready] | None:
        """The next one; None at the end."""
        await self._has_some.wait()
        if not self._flags:
            return None
        number = next(iter(self._flags))
        flags = self._flags.pop(number)
        if not self._flags:
            self._has_some.clear()
        return number, flags
