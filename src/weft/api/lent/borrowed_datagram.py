"""A UDP socket of a daemon's host, as a program has it: what api/streams/ takes for a UDP socket of the stack."""

from __future__ import annotations

import socket
from collections import deque
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from weft.api.lent import messages
from weft.api.lent.frames import MAX_FRAME_BYTES, decode_frame, encode_datagram
from weft.errors import UsageError
from weft.stack.addresses import is_multicast
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.socket import User

if TYPE_CHECKING:
    from weft.api.lent.borrower import Borrower

WAITING: Final = 64
"""Datagrams that wait here, in either direction; more wait in the Unix socket, or are lost."""
MAX_DATAGRAM_BYTES: Final = {4: 65_507, 16: 65_527}
"""Payload, by bytes of an address."""


class BorrowedDatagrams:
    """One UDP socket; `stack.udp_socket` says what its parts mean.

    Args:
        borrower: whose it is.
        number: of the socket between daemon and program.
        sock: the program's end; this socket's from now on.
        local: where it receives.
        remote: the only one it talks to, or None.
        broadcast: whether it may send to broadcast addresses.
    """

    __slots__ = (
        "_borrower", "_broadcast", "_failures", "_is_closed", "_is_reading", "_number", "_received", "_socket",
        "_unsent", "local", "remote", "user",
    )  # fmt: skip

    def __init__(
        self,
        borrower: Borrower,
        number: int,
        sock: socket.socket,
        local: Endpoint,
        remote: Endpoint | None,
        *,
        broadcast: bool,
    ) -> None:
        sock.setblocking(False)
        self._borrower = borrower
        self._number = number
        self._socket = sock
        self.local = local
        self.remote = remote
        self.user: User | None = None
        self._broadcast = broadcast
        self._received: deque[tuple[bytes, Endpoint]] = deque()
        self._failures: deque[tuple[Failure, Endpoint]] = deque(maxlen=WAITING)
        self._unsent: deque[bytes] = deque()
        self._is_closed = False
        self._is_reading = False
        self._read_if_room()

    @property
    def broadcast(self) -> bool:
        """Whether it may send to broadcast addresses."""
        return self._broadcast

    @broadcast.setter
    def broadcast(self, is_on: bool) -> None:
        self._broadcast = is_on
        self._borrower.say(messages.Option(id=self._number, name="broadcast", value=is_on))

    def send(self, data: bytes | bytearray | memoryview, remote: Endpoint | None, now: int) -> None:
        """Send a datagram.

        Raises:
            StackError: CLOSED; NOT_CONNECTED; TOO_LONG. What else is wrong with it is a failure later.
        """
        if self._is_closed:
            raise StackError(Failure.CLOSED)
        if remote is None and self.remote is None:
            raise StackError(Failure.NOT_CONNECTED)
        target = remote or self.remote
        if target is not None and len(data) > MAX_DATAGRAM_BYTES[len(target.address)]:
            raise StackError(Failure.TOO_LONG)
        frame = encode_datagram(data, remote)
        if len(self._unsent) < WAITING:
            self._unsent.append(frame)
            if len(self._unsent) == 1:
                self._write()

    def receive(self) -> tuple[bytes, Endpoint] | None:
        """Take the next datagram, and who sent it; None if none waits."""
        if not self._received:
            return None
        datagram = self._received.popleft()
        self._read_if_room()
        return datagram

    def take_failure(self) -> tuple[Failure, Endpoint] | None:
        """Take the oldest failure of a datagram that was sent; None if there is none."""
        return self._failures.popleft() if self._failures else None

    def join(self, group: bytes) -> None:
        """Receive what is sent to a multicast group.

        Raises:
            UsageError: it is none.
        """
        self._change("join", group)

    def leave(self, group: bytes) -> None:
        """Receive that no more."""
        self._change("leave", group)

    def close(self) -> None:
        """Give back the port."""
        if not self._is_closed:
            self._borrower.say(messages.Close(id=self._number))
            self.fail(None)

    def fail(self, failure: Failure | None) -> None:
        """It is over."""
        if self._is_closed:
            return
        self._is_closed = True
        self._borrower.watch.remove_reader(self._socket)
        self._borrower.watch.remove_writer(self._socket)
        self._socket.close()
        self._borrower.forget(self._number)
        if failure is not None:
            self._failures.append((failure, self.local))
            self._borrower.notify(self)

    def _change(self, name: str, group: bytes) -> None:
        if not is_multicast(group):
            raise UsageError(f"{ip_address(group)} is no multicast group")
        self._borrower.say(messages.Option(id=self._number, name=name, value=str(ip_address(group))))  # type: ignore[arg-type]

    def _read_if_room(self) -> None:
        if not self._is_reading and not self._is_closed and len(self._received) < WAITING:
            self._is_reading = True
            self._borrower.watch.add_reader(self._socket, self._read)

    def _read(self) -> None:
        while len(self._received) < WAITING:
            try:
                frame = self._socket.recv(MAX_FRAME_BYTES)
            except OSError:
                break
            decoded = decode_frame(frame)
            if decoded is None:
                break
            if isinstance(decoded, str):
                self._failures.append((messages.failure_of(decoded), self.remote or self.local))
            elif decoded[1] is not None:
                self._received.append((decoded[0], decoded[1]))
        else:
            self._is_reading = False
            self._borrower.watch.remove_reader(self._socket)
        self._borrower.notify(self)

    def _write(self) -> None:
        try:
            while self._unsent:
                self._socket.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            self._borrower.watch.add_writer(self._socket, self._write_on)
        except OSError:
            # The daemon has closed its end, or is gone: then the channel says so.
            self._unsent.clear()

    def _write_on(self) -> None:
        self._borrower.watch.remove_writer(self._socket)
        self._write()
