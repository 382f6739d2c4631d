"""A UDP socket of the stack as `asyncio.DatagramTransport`.

A datagram goes at once into the queue of the host. Where that is full it waits here, in order, and the protocol is
asked to pause; the queue is looked at again after `RETRY_S`.

What an ICMP message says of a datagram, and what is wrong with one that is to be sent, is told to `error_received`.

Source: `asyncio.selector_events`, as it is in Python 3.13: an empty datagram is sent.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from weft.api.streams.datagram_options import DatagramOptions
from weft.api.streams.errors import OF_LOCAL_END, binding_error, error_of
from weft.api.streams.lifecycle import OverlayTransport
from weft.api.streams.names import Port, getaddrinfo
from weft.api.streams.sockaddr import ANY_IPV4, ANY_IPV6, endpoint_of, sockaddr_of
from weft.api.streams.sockets import TransportSocket
from weft.stack.endpoint import Endpoint
from weft.stack.failure import StackError
from weft.stack.udp_socket import UdpSocket

if TYPE_CHECKING:
    from weft.api.streams.ground import Ground

Data = bytes | bytearray | memoryview
Address = tuple[str | None, Port]
DatagramProtocolFactory = Callable[[], asyncio.DatagramProtocol]

RETRY_S: Final = 0.001
DATAGRAMS_IN_A_TURN: Final = 256
"""Handed to the protocol before others get their turn."""
OVERHEAD_BYTES: Final = 48
"""Counted for each datagram that waits, so that empty ones count too."""

_ANY: Final = {int(socket.AF_INET): ANY_IPV4, int(socket.AF_INET6): ANY_IPV6}


class UdpTransport(OverlayTransport, asyncio.DatagramTransport):
    """One UDP socket.

    Args:
        ground: what it stands on.
        udp: nobody uses it yet.
        protocol: is told `connection_made` in the next turn of the loop.
        waiter: is done after that.
        remote: where all datagrams go; None if each says it.
    """

    __slots__ = ("_remote", "_retry", "_udp", "_waiting", "_waiting_bytes")

    def __init__(
        self,
        ground: Ground,
        udp: UdpSocket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None],
        remote: Endpoint | None,
    ) -> None:
        self._udp = udp
        self._remote = remote
        self._waiting: deque[tuple[bytes, Endpoint]] = deque()
        self._waiting_bytes = 0
        self._retry: asyncio.TimerHandle | None = None
        super().__init__(ground, protocol, None)
        self._call_soon_start(waiter)

    def get_write_buffer_size(self) -> int:
        """Bytes of the datagrams that wait here."""
        return self._waiting_bytes

    def sendto(self, data: Data, addr: Any = None) -> None:
        """Send a datagram.

        Args:
            data: its payload.
            addr: an address, not a name, and a port; None for the remote address of the transport.

        Raises:
            TypeError: the data is no buffer, or `addr` no socket address.
            ValueError: all datagrams of this transport go somewhere else.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._is_closing:
            self._is_lost_for_writing()
            return
        try:
            remote = self._destination(addr)
        except OSError as error:
            self._tell_error(error)
            return
        if self._waiting or not self._ground.host.ip.has_room(len(data)):
            self._wait(bytes(data), remote)
        else:
            self._send(data, remote)

    def close(self) -> None:
        """End when all datagrams have gone; nothing more is received."""
        if not self._is_closing:
            self._is_closing = True
            if not self._waiting:
                self._lose(None)

    def _ends(self) -> tuple[Endpoint, Endpoint | None]:
        return self._udp.local, self._udp.remote

    def _make_socket(self) -> TransportSocket:
        return TransportSocket(socket.SOCK_DGRAM, *self._ends(), DatagramOptions(self._udp))

    def _attach(self) -> None:
        self._udp.user = self

    def _destination(self, addr: Any) -> Endpoint:
        """Where a datagram goes; an `OSError` says what is wrong with that."""
        fixed = self._remote
        if addr is None and fixed is not None:
            return fixed
        if addr is None:
            raise OSError(errno.EDESTADDRREQ, os.strerror(errno.EDESTADDRREQ))
        remote = endpoint_of(addr)
        if fixed is not None and remote != fixed:
            raise ValueError(f"Invalid address: must be None or {sockaddr_of(fixed)}")
        if not remote.port:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return remote

    def _send(self, data: Data, remote: Endpoint) -> None:
        try:
            self._udp.send(data, None if remote == self._udp.remote else remote, self._ground.now())
        except StackError as error:
            self._tell_error(error_of(error.failure))
        else:
            self._ground.driver.wake()

    def _wait(self, data: bytes, remote: Endpoint) -> None:
        self._waiting.append((data, remote))
        self._waiting_bytes += len(data) + OVERHEAD_BYTES
        if self._retry is None:
            self._retry = self._loop.call_later(RETRY_S, self._send_waiting, context=self._context)
        self._pause_if_full()

    def _send_waiting(self) -> None:
        self._retry = None
        waiting = self._waiting
        while waiting and self._ground.host.ip.has_room(len(waiting[0][0])):
            data, remote = waiting.popleft()
            self._waiting_bytes -= len(data) + OVERHEAD_BYTES
            self._send(data, remote)
        if waiting:
            self._retry = self._loop.call_later(RETRY_S, self._send_waiting, context=self._context)
        self._resume_if_drained()
        if self._is_closing and not self._losses and not waiting:
            self._lose(None)

    def _look(self) -> None:
        udp = self._udp
        while self.is_reading() and (failed := udp.take_failure()) is not None:
            self._tell_error(error_of(failed[0]))
        for _ in range(DATAGRAMS_IN_A_TURN):
            if not self.is_reading() or (datagram := udp.receive()) is None:
                return
            data, remote = datagram
            try:
                self._protocol.datagram_received(data, sockaddr_of(remote))
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._fatal_error(error, "Fatal error: protocol.datagram_received() call failed.")
        self._loop.call_soon(self._look, context=self._context)

    def _tell_error(self, error: OSError) -> None:
        try:
            self._protocol.error_received(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as fault:
            self._fatal_error(fault, "Fatal error: protocol.error_received() call failed.")

    def _drop(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._retry is not None:
            self._retry.cancel()

    def _detach(self) -> None:
        self._udp.user = None
        self._udp.close()


async def create_datagram_endpoint(
    ground: Ground,
    protocol_factory: DatagramProtocolFactory,
    local_addr: Address | None = None,
    remote_addr: Address | None = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: object = None,
) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
    """Open a UDP socket, as `loop.create_datagram_endpoint` does.

    Args:
        ground: where.
        protocol_factory: makes the protocol.
        local_addr: host and port where it receives; None for any.
        remote_addr: host and port where it sends; only what comes from there is received, unless broadcast is allowed.
        family: of the addresses.
        proto: 0 or `IPPROTO_UDP`.
        flags: of `getaddrinfo`.
        reuse_port: share the port with others that do so too.
        allow_broadcast: it may send to broadcast addresses.
        sock: a socket of the kernel; can't be used here.

    Returns:
        The transport and its protocol, which has been told `connection_made`.

    Raises:
        OSError: an address can't be had.
        RuntimeError: the node is closed.
        ValueError: arguments that do not go together.
    """
    ground.check_open()
    if sock is not None:
        raise ValueError("a socket of the kernel can't be used in the overlay; use the event loop's method for it")
    arguments: dict[str, Any] = {"family": family, "type": socket.SOCK_DGRAM, "proto": proto, "flags": flags}
    pairs = await _pairs(ground, local_addr, remote_addr, family, arguments)
    errors: list[OSError] = []
    for local, remote in pairs:
        connected = None if allow_broadcast else remote
        try:
            udp = await ground.open_udp(local, connected, reuse=bool(reuse_port), broadcast=bool(allow_broadcast))
        except StackError as error:
            if local is not None and error.failure in OF_LOCAL_END:
                errors.append(binding_error(error.failure, sockaddr_of(local)))
            else:
                errors.append(error_of(error.failure))
            continue
        return await _serve(ground, udp, protocol_factory, remote)
    raise errors[0]


async def _serve(
    ground: Ground, udp: UdpSocket, protocol_factory: DatagramProtocolFactory, remote: Endpoint | None
) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
    waiter: asyncio.Future[None] = ground.loop.create_future()
    try:
        protocol = protocol_factory()
    except BaseException:
        udp.close()
        raise
    transport = UdpTransport(ground, udp, protocol, waiter, remote)
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
    return transport, protocol


async def _pairs(
    ground: Ground, local_addr: Address | None, remote_addr: Address | None, family: int, arguments: dict[str, Any]
) -> list[tuple[Endpoint | None, Endpoint | None]]:
    """Local and remote ends that fit each other, the best first."""
    if local_addr is None and remote_addr is None:
        if family not in _ANY:
            raise ValueError("unexpected address family")
        return [(Endpoint(_ANY[family], 0), None)]
    locals_ = await _ends(ground, local_addr, arguments)
    remotes = await _ends(ground, remote_addr, arguments)
    pairs = [
        (local, remote)
        for local in locals_
        for remote in remotes
        if local is None or remote is None or len(local.address) == len(remote.address)
    ]
    if not pairs:
        raise ValueError("can not get address information")
    return pairs


async def _ends(ground: Ground, address: Address | None, arguments: dict[str, Any]) -> list[Endpoint | None]:
    if address is None:
        return [None]
    if not (isinstance(address, tuple) and len(address) == 2):
        raise TypeError("2-tuple is expected")
    return [endpoint_of(info[4]) for info in await getaddrinfo(ground, *address, **arguments)]
