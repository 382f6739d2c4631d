"""Reader and writer: `open_connection` and `start_server` as asyncio has them.

They are asyncio's own classes but for two things: `StreamWriter.start_tls`, because that of asyncio asks the loop, and
uvloop refuses transports that are not its own; and where the reader keeps what came (reader.py).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, cast

from weft.api.streams.connect import create_connection
from weft.api.streams.names import Host, Port
from weft.api.streams.reader import OverlayStreamReader
from weft.api.streams.server import Hosts, Server, create_server
from weft.api.streams.tls import start_tls

if TYPE_CHECKING:
    from weft.api.streams.ground import Ground

LIMIT: Final = 64 * 1024
"""Of a line; twice that may wait to be read."""

ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


class OverlayStreamWriter(asyncio.StreamWriter):
    """asyncio's, with `start_tls` on every loop."""

    async def start_tls(
        self,
        sslcontext: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None:
        """Go on with TLS; see `tls.start_tls`."""
        # asyncio keeps no public way to any of these.
        protocol: Any = self._protocol  # type: ignore[attr-defined]
        is_server = protocol._client_connected_cb is not None
        await self.drain()
        transport = await start_tls(
            self.transport,
            protocol,
            sslcontext,
            server_side=is_server,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._transport = transport
        if hasattr(protocol, "_replace_transport"):  # from Python 3.12 on
            protocol._replace_transport(transport)
        else:
            protocol._replace_writer(self)


async def open_connection(
    ground: Ground, host: Host = None, port: Port = None, *, limit: int = LIMIT, **arguments: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect; arguments beyond these are those of `create_connection`.

    Args:
        ground: from where.
        host: a name or an address.
        port: a number or the name of a service.
        limit: bytes of a line at most; the reader keeps twice as much.
        **arguments: of `create_connection`.
    """
    loop = ground.loop
    reader = OverlayStreamReader(limit, loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await create_connection(ground, lambda: protocol, host, port, **arguments)
    return reader, OverlayStreamWriter(transport, protocol, reader, loop)


async def start_server(
    ground: Ground,
    client_connected_cb: ClientConnected,
    host: Hosts = None,
    port: Port = None,
    *,
    limit: int = LIMIT,
    **arguments: Any,
) -> Server:
    """Listen; arguments beyond these are those of `create_server`.

    Args:
        ground: where.
        client_connected_cb: is called with reader and writer of each connection; a coroutine runs as a task.
        host: a name, an address, several, or None for all.
        port: 0 for a free one.
        limit: as of `open_connection`.
        **arguments: of `create_server`.
    """
    loop = ground.loop

    def handle_connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Awaitable[None] | None:
        # The protocol makes the writer itself and has no hook for that.
        writer.__class__ = OverlayStreamWriter
        return client_connected_cb(reader, writer)

    def make_protocol() -> asyncio.StreamReaderProtocol:
        reader = OverlayStreamReader(limit, loop)
        return asyncio.StreamReaderProtocol(reader, cast(Any, handle_connected), loop=loop)

    return await create_server(ground, make_protocol, host, port, **arguments)
