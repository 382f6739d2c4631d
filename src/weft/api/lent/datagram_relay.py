"""A UDP socket of the daemon's host, joined to the Unix socket whose other end a program has.

Datagrams that the program does not take wait in the socket of the host, whose queue has a bound; those that the host
has no room for wait in the Unix socket, until the program waits too.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from weft.api.lent.frames import MAX_FRAME_BYTES, decode_frame, encode_datagram, encode_failure
from weft.api.lent.messages import KeepAlive, Option
from weft.api.lent.stream_relay import Owner
from weft.errors import UsageError
from weft.stack.failure import StackError
from weft.stack.udp_socket import UdpSocket

IN_A_TURN: Final = 64
RETRY_S: Final = 0.001
"""When the host is asked again whether it has room."""


class DatagramRelay:
    """One UDP socket.

    Args:
        owner: whose it is.
        number: of the socket between daemon and program.
        udp: nobody uses it yet.
        end: of the pair, the daemon's.
    """

    __slots__ = ("_end", "_is_over", "_number", "_owner", "_retry", "_udp", "_unsent")

    def __init__(self, owner: Owner, number: int, udp: UdpSocket, end: socket.socket) -> None:
        self._owner = owner
        self._number = number
        self._udp = udp
        self._end = end
        self._unsent: bytes | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._is_over = False
        end.setblocking(False)
        udp.user = self
        owner.watch.add_reader(end, self._handle_readable)

    def handle_event(self) -> None:
        """Something came."""
        while not self._is_over and self._unsent is None:
            failed, datagram = self._udp.take_failure(), None
            if failed is not None:
                frame = encode_failure(failed[0].name)
            elif (datagram := self._udp.receive()) is not None:
                frame = encode_datagram(*datagram)
            else:
                return
            self._write(frame)

    def set(self, asked: Option | KeepAlive) -> None:
        """Set an option."""
        if isinstance(asked, KeepAlive):
            return
        if asked.name == "broadcast":
            self._udp.broadcast = bool(asked.value)
        elif asked.name in {"join", "leave"}:
            # The program has seen to it that it is a group; one too many is not joined.
            with suppress(StackError, UsageError, ValueError):
                change = self._udp.join if asked.name == "join" else self._udp.leave
                change(ip_address(str(asked.value)).packed)

    def release(self) -> None:
        """The program has closed its socket."""
        if not self._is_over:
            # What it wrote before leaves yet.
            self._handle_readable()
            self.abort()
            self._owner.handle_over(self._number, None)

    def abort(self) -> None:
        """End it."""
        if self._is_over:
            return
        self._is_over = True
        if self._retry is not None:
            self._retry.cancel()
        self._owner.watch.remove_reader(self._end)
        self._owner.watch.remove_writer(self._end)
        self._end.close()
        self._udp.user = None
        self._udp.close()

    def _write(self, frame: bytes) -> None:
        try:
            self._end.send(frame)
            self._unsent = None
        except (BlockingIOError, InterruptedError):
            self._unsent = frame
            self._owner.watch.add_writer(self._end, self._handle_writable)
        except OSError:
            self.abort()
            self._owner.handle_over(self._number, None)

    def _handle_writable(self) -> None:
        self._owner.watch.remove_writer(self._end)
        frame, self._unsent = self._unsent, None
        if frame is not None:
            self._write(frame)
        self.handle_event()

    def _handle_readable(self) -> None:
        for _ in range(IN_A_TURN):
            if not self._owner.driver.host.ip.has_room(MAX_FRAME_BYTES):
                self._owner.watch.remove_reader(self._end)
                self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._read_again)
                return
            try:
                frame = self._end.recv(MAX_FRAME_BYTES)
            except (BlockingIOError, ConnectionError):
                return
            if not frame:
                return
            self._send(frame)

    def _read_again(self) -> None:
        self._owner.watch.add_reader(self._end, self._handle_readable)

    def _send(self, frame: bytes) -> None:
        decoded = decode_frame(frame)
        if decoded is None or isinstance(decoded, str):
            return
        try:
            self._udp.send(*decoded, self._owner.driver.clock())
        except StackError as error:
            if self._unsent is None:
                self._write(encode_failure(error.failure.name))
            return
        self._owner.driver.wake()
