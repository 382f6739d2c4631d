"""One socket of a client; see client.py."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from weft.netd import messages
from weft.netd.layout import NOWHERE
from weft.netd.messages import ABORT, END, HOW_WRITE, MAX_DATA_BYTES, WAIT, Code
from weft.stack.endpoint import Endpoint

if TYPE_CHECKING:
    from weft.netd.client import Client

Host = str | IPv4Address | IPv6Address


class Socket:
    """One socket of a client.

    Attributes:
        number: by which the daemon knows it.
        remote: the other end of one that was accepted.
    """

    def __init__(self, client: Client, number: int, remote: Endpoint | None = None) -> None:
        self.number = number
        self.remote = remote
        self._client = client

    async def connect(self, host: Host, port: int) -> Endpoint:
        """Connect; returns our end."""
        return self._end(await self._ask(Code.CONNECT, messages.Connect(self.number, endpoint_of(host, port))))

    async def bind(self, host: Host | None = None, port: int = 0) -> Endpoint:
        """Say where it is; returns our end."""
        local = endpoint_of(host, port) if host is not None else Endpoint(b"", port)
        return self._end(await self._ask(Code.BIND, messages.Bind(self.number, local)))

    async def listen(self, backlog: int = 128) -> Endpoint:
        """Take connections; returns our end."""
        return self._end(await self._ask(Code.LISTEN, messages.Listen(self.number, backlog)))

    async def accept(self, *, wait: bool = True) -> Socket:
        """Take a connection."""
        reply = await self._ask(Code.ACCEPT, messages.Accept(self.number, WAIT if wait else 0))
        return Socket(self._client, reply.socket, reply.remote)

    async def send(self, data: bytes, to: tuple[Host, int] | None = None, *, wait: bool = True) -> int:
        """Send data; returns how many bytes were taken, which are all if it waits.

        Args:
            data: any number of bytes of a stream, one datagram otherwise.
            to: where to, of a datagram.
            wait: until all is taken.
        """
        remote, sent, flags = endpoint_of(*to) if to is not None else NOWHERE, 0, WAIT if wait else 0
        while True:
            part = data[sent : sent + MAX_DATA_BYTES]
            taken = int((await self._ask(Code.SEND, messages.Send(self.number, flags, remote, part))).sent)
            sent += taken
            if sent >= len(data) or taken < len(part):
                return sent

    async def receive(self, limit: int = MAX_DATA_BYTES, *, wait: bool = True) -> bytes:
        """Take data of a stream; b"" at its end."""
        data: bytes = (await self._received(limit, wait=wait)).data
        return data

    async def receive_from(self, limit: int = MAX_DATA_BYTES, *, wait: bool = True) -> tuple[bytes, Endpoint]:
        """Take a datagram, and who sent it."""
        reply = await self._received(limit, wait=wait)
        return reply.data, reply.sender

    async def receive_all(self) -> bytes:
        """Take all data of a stream until its end."""
        parts = []
        while not (reply := await self._received(MAX_DATA_BYTES, wait=True)).flags & END:
            parts.append(reply.data)
        return b"".join(parts)

    async def shutdown(self) -> None:
        """Say that no more will be sent."""
        await self._ask(Code.SHUTDOWN, messages.Shutdown(self.number, HOW_WRITE))

    async def status(self) -> messages.SocketStatus:
        """What it is like."""
        status: messages.SocketStatus = await self._ask(Code.STATUS, messages.OfSocket(self.number))
        return status

    async def close(self, *, abort: bool = False) -> None:
        """End it."""
        await self._ask(Code.CLOSE, messages.Close(self.number, ABORT if abort else 0))

    async def _received(self, limit: int, *, wait: bool) -> messages.Received:
        asked = messages.Receive(self.number, limit, WAIT if wait else 0)
        received: messages.Received = await self._ask(Code.RECV, asked)
        return received

    async def _ask(self, code: Code, asked: Any) -> Any:
        return await self._client.ask(code, asked)

    @staticmethod
    def _end(reply: messages.Bound) -> Endpoint:
        return reply.local


def endpoint_of(host: Host, port: int) -> Endpoint:
    """An address and a port, as messages have them."""
    return Endpoint(ip_address(host).packed, port)
