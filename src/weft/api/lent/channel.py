"""A Unix socket that carries messages both ways, and a descriptor with some of them.

Rules of the file:
- Neither side blocks. What can't be sent at once waits in its order, up to a bound; a side that does not read for so
  long is dropped.
- Descriptors come in the order of the messages that they belong to. What comes with none, or is lost, ends the channel.

Source: unix(7), SCM_RIGHTS.
Not done here: what the messages mean (messages.py).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

import msgspec

from weft.api.lent.messages import Accepted, Opened
from weft.io.watching import watch_of

MAX_MESSAGE_BYTES: Final = 4096
MAX_WAITING: Final = 4096
"""Messages that wait for the other side to read."""
DESCRIPTORS: Final = 64
"""Received at once."""

M = TypeVar("M")


class Channel(Generic[M]):
    """One side.

    Args:
        sock: connected, and the channel's from now on.
        kind: of the messages that come.
        handle_message: is given each, and the descriptor that came with it.
        handle_lost: is called once, when the other side has gone, or broke a rule.

    Attributes:
        when_sent: is called when what waited has been sent.
    """

    def __init__(
        self,
        sock: socket.socket,
        kind: Any,
        handle_message: Callable[[M, int | None], None],
        handle_lost: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._decoder: msgspec.json.Decoder[M] = msgspec.json.Decoder(kind)
        self._handle_message = handle_message
        self._handle_lost = handle_lost
        self._watch = watch_of(asyncio.get_running_loop())
        self._received = b""
        self._descriptors: deque[int] = deque()
        self._waiting: deque[tuple[bytes, socket.socket | None]] = deque()
        self._is_closed = False
        self._is_receiving = False
        self.when_sent: Callable[[], None] = lambda: None
        self._watch.add_reader(sock, self.receive)

    @property
    def is_blocked(self) -> bool:
        """Whether messages wait for the other side to read."""
        return bool(self._waiting)

    def send(self, message: msgspec.Struct, descriptor: socket.socket | None = None) -> None:
        """Send a message.

        Args:
            message: what.
            descriptor: goes with it, and is closed here.
        """
        if self._is_closed:
            if descriptor is not None:
                descriptor.close()
            return
        self._waiting.append((msgspec.json.encode(message) + b"\n", descriptor))
        if len(self._waiting) == 1:
            self._flush()
        elif len(self._waiting) > MAX_WAITING:
            self._lose()

    def receive(self) -> None:
        """Take what has come; nothing while that is being done, for then it is being done in its order."""
        if self._is_receiving:
            return
        self._is_receiving = True
        try:
            self._receive()
        finally:
            self._is_receiving = False

    def _receive(self) -> None:
        while not self._is_closed:
            try:
                data, descriptors, flags, _ = socket.recv_fds(self._socket, MAX_MESSAGE_BYTES, DESCRIPTORS)
            except BlockingIOError:
                return
            except OSError:
                self._lose()
                return
            self._descriptors.extend(descriptors)
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            if not data or flags & socket.MSG_CTRUNC:
                self._lose()
                return
            self._take(data)

    def close(self) -> None:
        """Close it, and descriptors that nobody got."""
        if self._is_closed:
            return
        self._is_closed = True
        self._watch.remove_reader(self._socket)
        self._watch.remove_writer(self._socket)
        self._socket.close()
        for _, descriptor in self._waiting:
            if descriptor is not None:
                descriptor.close()
        self._waiting.clear()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _take(self, data: bytes) -> None:
        *lines, self._received = (self._received + data).split(b"\n")
        if len(self._received) > MAX_MESSAGE_BYTES:
            self._lose()
            return
        for line in lines:
            try:
                message = self._decoder.decode(line)
                descriptor = self._descriptors.popleft() if isinstance(message, Opened | Accepted) else None
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
                self._lose()
                return
            self._handle_message(message, descriptor)
            if self._is_closed:
                return

    def _flush(self) -> None:
        while self._waiting:
            data, descriptor = self._waiting[0]
            try:
                if descriptor is None:
                    sent = self._socket.send(data)
                else:
                    sent = socket.send_fds(self._socket, [data], [descriptor.fileno()])
            except BlockingIOError:
                self._watch.add_writer(self._socket, self._flush)
                return
            except OSError:
                self._lose()
                return
            if descriptor is not None:
                descriptor.close()
            if sent < len(data):
                self._waiting[0] = data[sent:], None
                continue
            self._waiting.popleft()
        with suppress(OSError):
            self._watch.remove_writer(self._socket)
        self.when_sent()

    def _lose(self) -> None:
        if not self._is_closed:
            self.close()
            self._handle_lost()
