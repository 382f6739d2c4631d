"""One echo request by the kernel, and the wait for its reply.

A raw socket hears the replies to everybody, so a reply counts if it comes from whom was asked, with the same data.
Without the right to have one, there is the kernel's own socket for pings, where `net.ipv4.ping_group_range` allows it.

Source: RFC 792 (echo), RFC 4443 sections 4.1 and 4.2; raw(7), icmp(7); linux/icmp.h, linux/icmpv6.h for the filters.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from weft.io.kernel.options import address_of, failure_of, hold_to, keep_errors, kept_errors, opened
from weft.packet import icmp, icmpv6
from weft.packet.checksum import checksum
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure

if TYPE_CHECKING:
    from weft.io.kernel.backend import KernelBackend
    from weft.stack.socket import User

DATA_BYTES: Final = 8
"""By chance, so that nobody guesses them."""

_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1
_ALL: Final = 0xFFFFFFFF
_REPLY_BYTES: Final = 2048


class KernelPing:
    """One echo request; `stack.ping` says what its parts mean.

    Args:
        backend: whose it is.
        source: an address of this node.
        destination: whom to ask.
        timeout_s: how long to wait.

    Raises:
        OSError: it can't be sent.
    """

    __slots__ = ("_backend", "_data", "_destination", "_sent_at", "_socket", "_timer", "failure", "reply_ns", "user")

    def __init__(self, backend: KernelBackend, source: bytes, destination: bytes, timeout_s: float) -> None:
        self.user: User | None = None
        self.failure: Failure | None = None
        self.reply_ns: int | None = None
        self._backend = backend
        self._destination = destination
        self._data = backend.random_bytes(DATA_BYTES)
        self._socket: socket.socket | None = _socket_for(len(destination))
        sock = self._socket
        try:
            if not backend.is_own(destination):
                hold_to(sock, backend.ifname)
            keep_errors(sock)
            sock.bind(address_of(Endpoint(source, 0)))
            sock.connect(address_of(Endpoint(destination, 0)))
            self._sent_at = backend.clock()
            sock.send(self._request(backend.random_bytes(4)))
        except BaseException:
            sock.close()
            raise
        self._timer = backend.poller.loop.call_later(timeout_s, self.end, Failure.TIMED_OUT)
        backend.pings.add(self)
        backend.poller.add(sock, self._handle_ready)

    def end(self, failure: Failure | None = None) -> None:
        """It is over."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        self._timer.cancel()
        self._backend.poller.remove(sock)
        sock.close()
        self._backend.pings.discard(self)
        self.failure = failure
        if self.user is not None:
            self.user.handle_event()

    def _request(self, identity: bytes) -> bytes:
        is_ipv6 = len(self._destination) == 16
        kind = icmpv6.ECHO_REQUEST if is_ipv6 else icmp.ECHO_REQUEST
        # The kernel sums what is ICMPv6.
        summed = 0 if is_ipv6 else checksum(bytes((kind, 0, 0, 0)) + identity + self._data)
        return struct.pack("!BBH", kind, 0, summed) + identity + self._data

    def _handle_ready(self, events: int) -> None:
        sock = self._socket
        if sock is None:
            return
        for failure, _ in kept_errors(sock):
            self.end(failure)
            return
        reply = icmpv6.ECHO_REPLY if len(self._destination) == 16 else icmp.ECHO_REPLY
        while True:
            try:
                message = sock.recv(_REPLY_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self.end(failure_of(error.errno))
                return
            if sock.type == socket.SOCK_RAW and sock.family == socket.AF_INET:
                message = message[(message[0] & 0xF) * 4 :]
            if message[:1] == bytes((reply,)) and message[icmp.HEADER_BYTES :] == self._data:
                self.reply_ns = self._backend.clock() - self._sent_at
                self.end()
                return


def _socket_for(length: int) -> socket.socket:
    """A socket for echo requests, that hears replies only.

    Raises:
        OSError: this process may have none.
    """
    protocol = socket.IPPROTO_ICMPV6 if length == 16 else socket.IPPROTO_ICMP
    try:
        sock = opened(length, socket.SOCK_RAW, protocol)
    except PermissionError:
        return opened(length, socket.SOCK_DGRAM, protocol)
    if length == 16:
        words = [_ALL] * 8
        words[icmpv6.ECHO_REPLY >> 5] &= ~(1 << (icmpv6.ECHO_REPLY & 31))
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))
    else:
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", _ALL & ~(1 << icmp.ECHO_REPLY)))
    return sock
