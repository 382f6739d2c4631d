"""A UDP socket as `socket.socket` has it.

What came waits here, up to `READ_BYTES`; what comes then is lost and counted, as it is by a kernel. What an ICMP
message says of a datagram is raised by the next call. `connect` opens the socket anew, towards one address: what comes
from others is not received from then on, and errors that it answers with are told.

Source: `socket.socket`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, cast

from weft.blocking.background import LINGER_S, Background, closed_error
from weft.blocking.face import Address, Face
from weft.blocking.meeting import Meeting
from weft.blocking.pipe import Data
from weft.errors import UsageError

if TYPE_CHECKING:
    from weft.api.overlay import Overlay

READ_BYTES: Final = 256 * 1024
OVERHEAD_BYTES: Final = 256
"""Counted for each datagram that waits, so that empty ones count too."""


class Mailbox(Meeting, asyncio.DatagramProtocol):
    """Datagrams that wait to be received; made in the loop's thread.

    Args:
        background: the node's.

    Attributes:
        transport: of the socket; for the loop's thread.
        addresses: our end, and where all datagrams go, if that is fixed.
        lost: datagrams that there was no room for.
    """

    transport: asyncio.DatagramTransport

    def __init__(self, background: Background) -> None:
        super().__init__(background)
        self.addresses: tuple[Any, Any] = (None, None)
        self.lost = 0
        self._datagrams: deque[tuple[bytes, Address]] = deque()
        self._waiting_bytes = 0
        self._is_writing_paused = False

    # For those that block.

    def receive(self, timeout: float | None) -> tuple[bytes, Address]:
        """Take the datagram that came first, and who sent it.

        Raises:
            OSError: as of `Meeting._wait`; or what became of a datagram that was sent.
        """
        with self._lock:
            self._wait(self._readable, lambda: bool(self._datagrams or self._error), timeout)
            if not self._datagrams:
                self._raise_error()
            data, sender = self._datagrams.popleft()
            self._waiting_bytes -= len(data) + OVERHEAD_BYTES
        return data, sender

    def send(self, data: bytes, address: Address | None, timeout: float | None) -> int:
        """Send a datagram; returns its length.

        Raises:
            OSError: as of `Meeting._wait`; or what became of one before.
        """
        with self._lock:
            self._wait(self._writable, lambda: not self._is_writing_paused or self._error is not None, timeout)
            self._raise_error()
        self.background.soon(self._send, data, address)
        return len(data)

    # For the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.addresses = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        self.background.open.add(self)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """One came."""
        with self._lock:
            if self._waiting_bytes + len(data) + OVERHEAD_BYTES > READ_BYTES:
                self.lost += 1
                return
            self._datagrams.append((data, addr))
            self._waiting_bytes += len(data) + OVERHEAD_BYTES
            self._readable.notify()

    def error_received(self, exc: Exception) -> None:
        """One that was sent did not arrive, or can't be sent."""
        with self._lock:
            self._error = exc
            self._wake_all()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._lose(exc or closed_error())

    def pause_writing(self) -> None:
        """The transport has enough."""
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        """The transport takes more."""
        with self._lock:
            self._is_writing_paused = False
            self._writable.notify_all()

    def end(self) -> None:
        """The node goes away."""
        self.transport.abort()
        self._lose(closed_error())

    def _close(self) -> None:
        self.transport.close()

    def _send(self, data: bytes, address: Address | None) -> None:
        try:
            self.transport.sendto(data, address)
        except (OSError, ValueError) as error:
            self.error_received(error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error)))

    def _raise_error(self) -> None:
        """Raise what went wrong, once."""
        error = self._error
        if error is not None:
            if not self.is_lost:
                self._error = None
            raise error


class DatagramSocket(Face):
    """A UDP socket.

    Args:
        overlay: where.
        mailbox: is open.
        local: host where it was asked to receive; None if that was left to it.
    """

    type = socket.SOCK_DGRAM
    proto = socket.IPPROTO_UDP

    def __init__(self, overlay: Overlay, mailbox: Mailbox, local: object) -> None:
        super().__init__(mailbox)
        self._overlay = overlay
        self._mailbox = mailbox
        self._local = local

    def recvfrom(self, bufsize: int) -> tuple[bytes, Address]:
        """Take a datagram, and who sent it; what is longer than `bufsize` is cut.

        Raises:
            OSError: `TimeoutError`, `BlockingIOError`, `ConnectionRefusedError` and so on.
        """
        data, sender = self._mailbox.receive(self._timeout)
        return data[:bufsize], sender

    def recv(self, bufsize: int) -> bytes:
        """Take a datagram; what is longer than `bufsize` is cut."""
        return self.recvfrom(bufsize)[0]

    def sendto(self, data: Data, address: Address) -> int:
        """Send a datagram to an address; returns its length.

        Raises:
            OSError: `TimeoutError`, `socket.gaierror` and so on; EISCONN, it is connected.
        """
        if self._mailbox.addresses[1] is not None:
            raise OSError(errno.EISCONN, os.strerror(errno.EISCONN))
        return self._mailbox.send(bytes(data), self._numeric(address), self._timeout)

    def send(self, data: Data) -> int:
        """Send a datagram to where it is connected; returns its length.

        Raises:
            OSError: as of `sendto`; EDESTADDRREQ, it is not connected.
        """
        if self._mailbox.addresses[1] is None:
            raise OSError(errno.EDESTADDRREQ, os.strerror(errno.EDESTADDRREQ))
        return self._mailbox.send(bytes(data), None, self._timeout)

    def connect(self, address: Address) -> None:
        """Send to one address, and receive from there alone; what waits is forgotten.

        Raises:
            OSError: `socket.gaierror` and so on.
        """
        before, remote = self._mailbox, self._numeric(address)
        local = None if self._local is None else (self._local, before.addresses[0][1])

        async def reopen() -> Mailbox:
            await before.over
            return await open_mailbox(self._overlay, before.background, local, remote[:2])

        before.check_open()
        before.close()
        self._mailbox = self._meeting = before.background.call(reopen)

    def close(self) -> None:
        """Receive no more, from when this returns; what was sent still leaves, and whoever waits gets EBADF."""
        super().close()
        with suppress(UsageError, OSError):
            self._mailbox.background.call(asyncio.wait, [self._mailbox.over], timeout=LINGER_S)

    def getpeername(self) -> Address:
        """Where it is connected.

        Raises:
            OSError: ENOTCONN, nowhere; EBADF, it is closed.
        """
        self._mailbox.check_open()
        if self._mailbox.addresses[1] is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._mailbox.addresses[1]  # type: ignore[no-any-return]

    def _numeric(self, address: Address) -> Address:
        """A socket address without a name; only names are asked of the loop's thread."""
        with suppress(ValueError):
            return str(ip_address(address[0])), *address[1:]

        async def resolve() -> Address:
            found = await self._overlay.getaddrinfo(*address[:2], type=self.type)
            return next((info[4] for info in found if info[0] == self.family), found[0][4])

        return self._mailbox.background.call(resolve)

    def _sockname(self) -> Address:
        return self._mailbox.addresses[0]  # type: ignore[no-any-return]


async def open_mailbox(
    overlay: Overlay, background: Background, local: Address | None, remote: Address | None = None, family: int = 0
) -> Mailbox:
    """Open a UDP socket.

    Args:
        overlay: where.
        background: the node's.
        local: host and port where it receives; None for any.
        remote: where all datagrams go; None if each says it.
        family: where neither says it.
    """
    _, mailbox = await overlay.create_datagram_endpoint(
        lambda: Mailbox(background), local, remote, **({"family": family} if local is None is remote else {})
    )
    assert isinstance(mailbox, Mailbox)
    return mailbox
