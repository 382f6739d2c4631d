"""Connections that are opened from here, as `loop.create_connection` opens them.

Source: `asyncio.base_events`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from typing import TYPE_CHECKING, Any

from weft.api.streams.attempts import Attempt, abandon, combined, one_by_one, race, take_in_turn
from weft.api.streams.names import Host, Port, getaddrinfo
from weft.api.streams.server import ProtocolFactory
from weft.api.streams.tls import Tls, check_arguments, transport_over
from weft.api.streams.transport import TcpTransport

if TYPE_CHECKING:
    from weft.api.streams.ground import Ground
    from weft.stack.tcp.connection import Connection


async def create_connection(
    ground: Ground,
    protocol_factory: ProtocolFactory,
    host: Host = None,
    port: Port = None,
    *,
    ssl: ssl_module.SSLContext | bool | None = None,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    sock: object = None,
    local_addr: tuple[str, Port] | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    happy_eyeballs_delay: float | None = None,
    interleave: int | None = None,
    all_errors: bool = False,
) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
    """Connect, as `loop.create_connection` does.

    Args:
        ground: from where.
        protocol_factory: makes the protocol.
        host: a name, an address, or None for this host itself.
        port: a number or the name of a service.
        ssl: speak TLS; True for the default context.
        family: of the addresses.
        proto: 0 or `IPPROTO_TCP`.
        flags: of `getaddrinfo`.
        sock: a socket of the kernel; can't be used here.
        local_addr: host and port of our end.
        server_hostname: whose certificate is expected; None for the host's, "" for any.
        ssl_handshake_timeout: s.
        ssl_shutdown_timeout: s.
        happy_eyeballs_delay: s; None to try one address after the other.
        interleave: take the families in turn after so many addresses of the first one.
        all_errors: raise an `ExceptionGroup` of all that went wrong, if nothing went right.

    Returns:
        The transport and its protocol, which has been told `connection_made`.

    Raises:
        OSError: it is not to be had; `ConnectionRefusedError`, `TimeoutError` and so on.
        RuntimeError: the node is closed.
        ValueError: arguments that do not go together.
    """
    ground.check_open()
    tls = _tls(ssl, host, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
    if sock is not None:
        raise ValueError("a socket of the kernel can't be used in the overlay; use loop.create_connection() for it")
    if host is None and port is None:
        raise ValueError("host and port was not specified and no sock specified")
    arguments: dict[str, Any] = {"family": family, "type": socket.SOCK_STREAM, "proto": proto, "flags": flags}
    infos = await getaddrinfo(ground, host, port, **arguments)
    local = None if local_addr is None else await getaddrinfo(ground, *local_addr[:2], **arguments)
    if happy_eyeballs_delay is not None and interleave is None:
        interleave = 1
    if interleave:
        infos = take_in_turn(infos, interleave)
    attempts = [Attempt(ground, info, local) for info in infos]
    if happy_eyeballs_delay is None:
        connection = await one_by_one(attempts)
    else:
        connection = await race(ground, attempts, happy_eyeballs_delay)
    if connection is None:
        raise combined([error for attempt in attempts for error in attempt.errors], all_errors=all_errors)
    return await _serve(ground, connection, protocol_factory, tls)


def _tls(
    ssl: ssl_module.SSLContext | bool | None,
    host: Host,
    server_hostname: str | None,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
) -> Tls | None:
    """What is asked of TLS, if anything."""
    if server_hostname is not None and not ssl:
        raise ValueError("server_hostname is only meaningful with ssl")
    check_arguments(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
    if not ssl:
        return None
    if server_hostname is None:
        if not host:
            raise ValueError("You must set server_hostname when using ssl without a host")
        server_hostname = host.decode("ascii") if isinstance(host, bytes) else host
    context = None if isinstance(ssl, bool) else ssl
    return Tls(context, False, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)


async def _serve(
    ground: Ground, connection: Connection, protocol_factory: ProtocolFactory, tls: Tls | None
) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
    """Put a protocol over an established connection, perhaps with TLS between."""
    waiter: asyncio.Future[None] = ground.loop.create_future()
    transport: asyncio.Transport
    try:
        protocol = protocol_factory()
        between = None if tls is None else tls.wrap(ground.loop, protocol, waiter)
    except BaseException:
        abandon(ground, connection)
        raise
    if between is None:
        transport = TcpTransport(ground, connection, protocol, waiter=waiter)
    else:
        transport = transport_over(between)
        TcpTransport(ground, connection, between)
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
    return transport, protocol
