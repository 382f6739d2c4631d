"""TLS over any of our transports, on every event loop.

asyncio's own `SSLProtocol` does the work; it is made here and not by the loop, because uvloop's `start_tls` refuses
transports that are not its own. So TLS is what a Python programmer knows from asyncio: its time-outs, its flow control,
no half-close.

What came in the clear before TLS began, and was not read, is given to TLS and so refused. It can't be taken for a part
of what came over TLS (the flaw of STARTTLS in CVE-2011-0411).

Source: `asyncio.sslproto`, `asyncio.base_events`.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol, SSLProtocolState
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, cast, runtime_checkable

READ_BYTES: Final = 64 * 1024


class TlsProtocol(SSLProtocol):
    """asyncio's, without three of its faults, and with a smaller buffer, for it is allocated for each connection."""

    max_size: ClassVar[int] = READ_BYTES

    def _do_read__buffered(self) -> None:
        # asyncio decrypts into slices of the buffer, and those of a bytearray are copies.
        parts: Any = self
        filled, is_over = 0, False
        with memoryview(parts._app_protocol_get_buffer(parts._get_read_buffer_size())) as buffer:
            if not buffer:
                raise RuntimeError("get_buffer() returned an empty buffer")
            try:
                while filled < len(buffer) and not is_over:
                    count = parts._sslobj.read(len(buffer) - filled, buffer[filled:])
                    filled += count
                    is_over = not count
            except (ssl.SSLWantReadError, ssl.SSLSyscallError):
                pass
            else:
                if not is_over:
                    self._loop.call_soon(parts._do_read)
        if filled:
            parts._app_protocol_buffer_updated(filled)
        if is_over:
            parts._call_eof_received()
            self._start_shutdown()

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on transport") -> None:
        transport: Any = self._transport
        outgoing: ssl.MemoryBIO = self._outgoing  # type: ignore[attr-defined]
        is_refusal = self._state is SSLProtocolState.UNWRAPPED  # type: ignore[attr-defined]
        if is_refusal and outgoing.pending and transport is not None:
            # asyncio aborts, and with that drops the alert that tells the other side why there will be no TLS.
            transport.write(outgoing.read())
            transport.close()
            self._transport = None
        super()._fatal_error(exc, message)

    def _abort(self, exc: BaseException | None = None) -> None:
        # That of Python 3.11 takes no error, so that a failure of TLS within TLS ends in a `TypeError`.
        self._set_state(SSLProtocolState.UNWRAPPED)  # type: ignore[attr-defined]
        if self._transport is not None:
            self._transport._force_close(exc)  # type: ignore[attr-defined]


@runtime_checkable
class ReadsAhead(Protocol):
    """A protocol that keeps what came until somebody reads it."""

    def take_unread(self) -> bytes:
        """Give up what is kept."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What is asked of TLS for one connection or one server.

    Attributes:
        context: None for the default one of a client.
        is_server: whether it is the server's side.
        server_hostname: whose certificate a client expects; "" or None to ask for none.
        handshake_timeout_s: None for asyncio's, a minute.
        shutdown_timeout_s: None for asyncio's, half a minute.
    """

    context: ssl.SSLContext | None
    is_server: bool
    server_hostname: str | None = None
    handshake_timeout_s: float | None = None
    shutdown_timeout_s: float | None = None

    def wrap(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None,
        *,
        is_made: bool = False,
    ) -> TlsProtocol:
        """Put TLS below a protocol.

        Args:
            loop: on which both run.
            protocol: speaks and hears in the clear.
            waiter: is done after the handshake; fails with it.
            is_made: whether the protocol has been told `connection_made`.

        Returns:
            What is to be the protocol of the transport below.
        """
        arguments: dict[str, Any] = {
            "server_side": self.is_server,
            "server_hostname": self.server_hostname,
            "call_connection_made": not is_made,
            "ssl_handshake_timeout": self.handshake_timeout_s,
            "ssl_shutdown_timeout": self.shutdown_timeout_s,
        }
        return TlsProtocol(loop, protocol, self.context, waiter, **arguments)  # type: ignore[arg-type]


def transport_over(tls: TlsProtocol) -> asyncio.Transport:
    """The transport that a protocol above TLS uses."""
    return tls._app_transport


def check_arguments(is_wanted: object, ssl_handshake_timeout: float | None, ssl_shutdown_timeout: float | None) -> None:
    """Refuse time-outs of TLS where there is none.

    Raises:
        ValueError: there are such.
    """
    if not is_wanted:
        if ssl_handshake_timeout is not None:
            raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
        if ssl_shutdown_timeout is not None:
            raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")


async def start_tls(
    transport: asyncio.BaseTransport,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> asyncio.Transport:
    """Go on with TLS over a transport that is in use, as `loop.start_tls` does.

    Args:
        transport: of this room or of an event loop, or one with TLS over it.
        protocol: that the transport serves.
        sslcontext: of either side.
        server_side: whether this is the server's.
        server_hostname: whose certificate a client expects.
        ssl_handshake_timeout: s.
        ssl_shutdown_timeout: s.

    Returns:
        The transport that the protocol has to use from now on.

    Raises:
        TypeError: there can't be TLS over that transport.
        ssl.SSLError: the handshake failed; the transport is closed.
    """
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
    # With this method, which asyncio's TLS calls, a transport can carry it.
    if not hasattr(transport, "_force_close"):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    below = cast(asyncio.Transport, transport)  # which uvloop's do not say they are
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    wanted = Tls(sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
    tls = wanted.wrap(loop, protocol, waiter, is_made=True)
    _move_unread(protocol, tls)
    # Nothing may come to TLS before it knows its transport.
    below.pause_reading()
    below.set_protocol(tls)
    callbacks = loop.call_soon(tls.connection_made, below), loop.call_soon(below.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        for callback in callbacks:
            callback.cancel()
        raise
    return transport_over(tls)


def _move_unread(protocol: asyncio.BaseProtocol, tls: TlsProtocol) -> None:
    """What was read ahead goes to TLS."""
    incoming: ssl.MemoryBIO = tls._incoming  # type: ignore[attr-defined]
    if isinstance(protocol, ReadsAhead):
        incoming.write(protocol.take_unread())
    reader = getattr(protocol, "_stream_reader", None) if isinstance(protocol, asyncio.StreamReaderProtocol) else None
    if reader is not None and reader._buffer:
        incoming.write(reader._buffer)
        reader._buffer.clear()
