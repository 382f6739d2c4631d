"""A UDP socket that moves many datagrams in one system call, where the kernel can.

With GSO one send carries up to 64 datagrams of one size, with GRO one receive does, and with recvmmsg one call takes
as many that came alone. All are tried when the socket is made and fall away one by one: a kernel without them, a
platform without `sendmsg`, a device that answers EIO.

Rules of the file:
- The socket never blocks. What can't be sent at once is kept in its order up to `MAX_QUEUED_BYTES`, then dropped and
  counted; `flush` goes on when the descriptor is writable.
- A receive gives views of buffers, which hold until the next receive.
- Errors of one destination (unreachable, too big) concern that send alone.
- A socket on all addresses tells to which of them a datagram came, and an answer can leave from the same: a firewall
  or a NAT on the way, or another WireGuard, waits for it from there.

Source: Linux, udp(7) and Documentation/networking/segmentation-offloads.rst; wire.md section 4, "Path MTU".
"""

from __future__ import annotations

import errno
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from struct import Struct
from typing import Final

from weft.errors import TransportError
from weft.io.recvmmsg import MAX_DATAGRAM_BYTES, Address, BatchReceiver, Received, decode_local

Buffer = bytes | bytearray | memoryview

MAX_QUEUED_BYTES: Final = 2 * 1024 * 1024
SOCKET_BUFFER_BYTES: Final = 8 * 1024 * 1024
MAX_SEGMENTS: Final = 64
ANCILLARY_KEPT: Final = 256

_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_MEMINFO = 32, 33, 55
_MEMINFO_BYTES: Final = 36
"""Nine words about the socket's memory; the last counts what was dropped for want of it (Linux, sock_diag.h)."""
_SO_MARK = 36
_IP_TOS, _IP_PKTINFO, _IP_MTU_DISCOVER, _IP_RECVTOS, _IP_MTU = 1, 8, 10, 13, 14
_IPV6_MTU_DISCOVER, _IPV6_MTU, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 23, 24, 49, 50
_IPV6_RECVTCLASS, _IPV6_TCLASS = 66, 67
_PMTUDISC_DONT, _PMTUDISC_PROBE = 0, 3

_U16 = Struct("=H")
_U32 = Struct("=I")
_INT = Struct("=i")
_ANCILLARY_BYTES = 128
_NO_SEGMENTATION = frozenset({errno.EIO, errno.EOPNOTSUPP, errno.EINVAL})
"""Some devices promise segmentation and fail at it with one of these; so do routes that refuse every datagram."""

_NOT_OURS = frozenset({errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH})
"""What a send from an address gives that this machine has no more, or that no route goes out with."""

_SEND_ERRORS: Final = {
    errno.EMSGSIZE: "udp: too big",
    errno.ENOBUFS: "udp: no buffers",
    **dict.fromkeys(
        (
            errno.ENETUNREACH,
            errno.EHOSTUNREACH,
            errno.ENETDOWN,
            errno.ECONNREFUSED,
            errno.EADDRNOTAVAIL,
            errno.EAFNOSUPPORT,
            errno.EINVAL,
            errno.EIO,
        ),
        "udp: unreachable",
    ),
    errno.EPERM: "udp: forbidden",
    errno.EACCES: "udp: forbidden",
}
"""Why one send failed; what is not here counts as `udp: failed`, for routes through other tunnels give any error."""
_BROKEN: Final = frozenset({errno.EBADF, errno.ENOTSOCK})
"""The socket itself is gone: this raises."""


def link_mtu(host: str, port: int, mark: int = 0) -> int:
    """The MTU of this machine's own link towards an address, bytes; 1500 where the system doesn't tell.

    Args:
        host: an IP address.
        port: any port; nothing is sent.
        mark: of the socket that it is for, since rules may give marked packets another way.
    """
    is_ipv6 = ":" in host
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    level, option = (socket.IPPROTO_IPV6, _IPV6_MTU) if is_ipv6 else (socket.IPPROTO_IP, _IP_MTU)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            if mark:
                _mark(probe, mark)
            probe.connect((host, port))
            return probe.getsockopt(level, option) if sys.platform == "linux" else 1500
    except OSError:
        return 1500


class UdpSocket:
    """One bound, non-blocking socket of the underlay.

    Attributes:
        drops: what could not be sent, by reason.
        when_blocked: called when sends begin to wait for the descriptor to become writable.
        gso: whether one send carries many datagrams.
        gro: whether one receive does.
        mark: see `set_mark`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        gso: bool = True,
        gro: bool = True,
        sendmsg: bool = True,
        recvmmsg: bool = True,
        shared: bool = False,
        passed: socket.socket | None = None,
    ) -> None:
        """Bind to an address.

        Args:
            host: an IP address of this machine, or 0.0.0.0 or ::.
            port: 0 lets the system choose.
            gso: False keeps it off, as on systems without it.
            gro: likewise.
            sendmsg: False sends as systems without `sendmsg` must.
            recvmmsg: False receives datagram by datagram, as systems without `recvmmsg` must.
            shared: see `share`.
            passed: is bound to that address already, and used in place of a new one.

        Raises:
            TransportError: the address is in use or not of this machine, in one line.
        """
        self.is_ipv6 = ":" in host
        self._socket = passed or _bound(host, port, is_ipv6=self.is_ipv6, shared=shared)
        self.mark = 0
        self.drops: Counter[str] = Counter()
        self.when_blocked: Callable[[], None] | None = None
        self._queue: deque[tuple[bytes, int, Address, int, bytes]] = deque()
        self._queued_bytes = 0
        self._has_sendmsg = sendmsg and hasattr(self._socket, "sendmsg")
        self._has_recvmsg = hasattr(self._socket, "recvmsg_into")
        self._storage = memoryview(bytearray(MAX_DATAGRAM_BYTES))
        self._batch = _batch_receiver() if recvmmsg else None
        self.gso = self.gro = False
        self._raise_limits()
        if sys.platform == "linux":
            self._ask_linux(gso=gso and self._has_sendmsg, gro=gro)

    def _raise_limits(self) -> None:
        for force, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
            try:
                if sys.platform != "linux":
                    raise PermissionError
                self._socket.setsockopt(socket.SOL_SOCKET, force, SOCKET_BUFFER_BYTES)
            except OSError:
                for size in (SOCKET_BUFFER_BYTES, SOCKET_BUFFER_BYTES // 8):
                    if self._try_option(socket.SOL_SOCKET, plain, size):
                        break

    def _ask_linux(self, *, gso: bool, gro: bool) -> None:
        self.gso = gso and self._try_option(_SOL_UDP, _UDP_SEGMENT, 0)
        self.gro = gro and self._try_option(_SOL_UDP, _UDP_GRO, 1)
        self._discover_mtu(_PMTUDISC_PROBE)
        is_anywhere = self.address[0] in {"0.0.0.0", "::"}
        if self.is_ipv6:
            self._try_option(socket.IPPROTO_IPV6, _IPV6_RECVTCLASS, 1)
            self._try_option(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, is_anywhere)
        else:
            self._try_option(socket.IPPROTO_IP, _IP_RECVTOS, 1)
            self._try_option(socket.IPPROTO_IP, _IP_PKTINFO, is_anywhere)

    def _discover_mtu(self, mode: int) -> None:
        if sys.platform != "linux":
            return
        if self.is_ipv6:
            self._try_option(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, mode)
        else:
            self._try_option(socket.IPPROTO_IP, _IP_MTU_DISCOVER, mode)

    def _try_option(self, level: int, option: int, value: int) -> bool:
        try:
            self._socket.setsockopt(level, option, value)
        except OSError:
            return False
        return True

    def fileno(self) -> int:
        """The descriptor, for the event loop."""
        return self._socket.fileno()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it is bound to."""
        host, port, *_ = self._socket.getsockname()
        return host, port

    def address_of(self, host: str, port: int) -> Address:
        """An IP address and port as this socket gives and takes it.

        Args:
            host: an address of the socket's family, an IPv6 one perhaps with its zone.
            port: 0 to 65535.

        Raises:
            TransportError: the zone is no interface of this machine.
        """
        try:
            return socket.getaddrinfo(
                host, port, self._socket.family, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
            )[0][4]
        except OSError as error:
            raise TransportError(f"{host} is no address that this machine can reach: {error.strerror}") from error

    @property
    def offloads(self) -> list[str]:
        """What the kernel gave, by name."""
        given = {"gso": self.gso, "gro": self.gro, "recvmmsg": self._batch is not None}
        return [name for name in given if given[name]]

    def set_mark(self, mark: int) -> None:
        """Mark what is sent from now on, for `ip rule` and nftables.

        Args:
            mark: 32 bits; 0 for none.

        Raises:
            PermissionError: needs root or CAP_NET_ADMIN.
            TransportError: this system has no marks.
        """
        if mark == self.mark:
            return
        if sys.platform != "linux":
            raise TransportError("packets can be marked on Linux only; remove fwmark from weft.toml")
        try:
            _mark(self._socket, mark)
        except PermissionError:
            raise PermissionError(f"can't mark packets with {mark:#x}: needs root or CAP_NET_ADMIN") from None
        self.mark = mark

    def overflows(self) -> int:
        """How many packets the system has dropped because this socket was full; 0 where it does not tell."""
        if sys.platform != "linux":
            return 0
        try:
            words = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO_BYTES)
        except OSError:
            return 0
        return int.from_bytes(words[-4:], sys.byteorder)

    def share(self, shared: bool) -> None:
        """Let another socket have the same port, or no longer; both must be willing while the second one is bound.

        For a moment only: while one takes the place of the other.
        """
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, shared)

    @property
    def is_blocked(self) -> bool:
        """Whether sends wait for the descriptor to become writable."""
        return bool(self._queue)

    @property
    def was_full(self) -> bool:
        """Whether there may be more than the last `receive` gave; not so where it gave less than it could."""
        return self._batch is None or self._batch.was_full

    @property
    def queued_bytes(self) -> int:
        """What waits for that."""
        return self._queued_bytes

    def close(self) -> None:
        """Close the descriptor and forget what waits."""
        self._queue.clear()
        self._queued_bytes = 0
        self._socket.close()

    def receive(self) -> list[Received]:
        """Receive what one call gives.

        Returns:
            What came, in its order; empty when there is nothing (more). A pending error of an earlier send is
            swallowed: it says nothing about what comes in.
        """
        try:
            if self._batch is not None:
                return self._batch.receive(self._socket.fileno())
            if not self._has_recvmsg:
                length, source = self._socket.recvfrom_into(self._storage)
                return [Received(self._storage[:length], length, source, 0)]
            length, ancillary, _, source = self._socket.recvmsg_into([self._storage], _ANCILLARY_BYTES)
        except (BlockingIOError, ConnectionError):
            return []
        except OSError as error:
            if error.errno != errno.ENOSYS or self._batch is None:
                raise
            self._batch = None
            return self.receive()
        segment, ecn, local = length, 0, b""
        for level, kind, data in ancillary:
            if level == _SOL_UDP and kind == _UDP_GRO:
                segment = _INT.unpack_from(data)[0]
            elif kind in {_IP_TOS, _IPV6_TCLASS}:
                ecn = data[0] & 3
            else:
                local = decode_local(level, kind, data) or local
        return [Received(self._storage[:length], segment or length, source, ecn, local)]

    def send(self, data: Buffer, segment: int, address: Address, ecn: int = 0, local: bytes = b"") -> bool:
        """Send one or many datagrams to one address.

        Args:
            data: the datagrams, one behind the other.
            segment: bytes of each datagram but the last; at least the whole length for a single one.
            address: where to.
            ecn: the two ECN bits of the outer header.
            local: our address that they leave from, as `by_any_interface` gives it; while it is of no use, and where
                it is empty, the system chooses.

        Returns:
            False if it was too big for the path (EMSGSIZE): the caller lowers its path MTU. Everything else that
            fails is counted or queued here.
        """
        if self._queue:
            self._enqueue(data, segment, address, ecn, local)
            return True
        try:
            rest = self._send_now(data, segment, address, ecn, local)
        except OSError as error:
            return self._count(error)
        if rest:
            self._enqueue(rest, segment, address, ecn, local)
        return True

    def send_fragmentable(self, datagram: Buffer, address: Address, local: bytes = b"") -> None:
        """Send one datagram that IP may fragment on its way.

        For what has to cross a link that is too small for it and can't be made smaller: IPv6 packets of 1,280 bytes
        inside (RFC 8200 section 5). Costs two more system calls.
        """
        self._discover_mtu(_PMTUDISC_DONT)
        self.send(datagram, len(datagram), address, local=local)
        self._discover_mtu(_PMTUDISC_PROBE)

    def flush(self) -> bool:
        """Send what waits; called when the descriptor is writable.

        Returns:
            True when nothing waits any more.
        """
        queue = self._queue
        while queue:
            data, segment, address, ecn, local = queue.popleft()
            self._queued_bytes -= len(data)
            try:
                rest = bytes(self._send_now(data, segment, address, ecn, local))
            except OSError as error:
                self._count(error)
                continue
            if rest:
                queue.appendleft((rest, segment, address, ecn, local))
                self._queued_bytes += len(rest)
                return False
        return True

    def _send_now(self, data: Buffer, segment: int, address: Address, ecn: int, local: bytes) -> Buffer:
        """Send; returns what has to wait, in whole datagrams."""
        if len(data) <= segment:
            return b"" if self._send_one(data, 0, address, ecn, local) else data
        if not self.gso:
            return self._send_each(data, segment, address, ecn, local)
        try:
            return b"" if self._send_one(data, segment, address, ecn, local) else data
        except OSError as error:
            if error.errno not in _NO_SEGMENTATION:
                raise
        rest = self._send_each(data, segment, address, ecn, local)
        # Only now it is clear that segmentation was to blame, and not the route or the address.
        self.gso = False
        return rest

    def _send_each(self, data: Buffer, segment: int, address: Address, ecn: int, local: bytes) -> Buffer:
        view = memoryview(data)
        for start in range(0, len(view), segment):
            if not self._send_one(view[start : start + segment], 0, address, ecn, local):
                return view[start:]
        return b""

    def _send_one(self, data: Buffer, segment: int, address: Address, ecn: int, local: bytes) -> bool:
        """One system call; False where it would block."""
        try:
            if self._has_sendmsg:
                self._socket.sendmsg((data,), _ancillary(segment, ecn, local, self.is_ipv6), 0, address)
            else:
                self._socket.sendto(data, address)
        except BlockingIOError:
            return False
        except OSError as error:
            if not local or error.errno not in _NOT_OURS:
                raise
            return self._send_one(data, segment, address, ecn, b"")
        return True

    def _count(self, error: OSError) -> bool:
        """Count a send that failed; False if it was too big."""
        if error.errno in _BROKEN:
            raise error
        self.drops[_SEND_ERRORS.get(error.errno or 0, "udp: failed")] += 1
        return error.errno != errno.EMSGSIZE

    def _enqueue(self, data: Buffer, segment: int, address: Address, ecn: int, local: bytes) -> None:
        if self._queued_bytes + len(data) > MAX_QUEUED_BYTES:
            self.drops["udp: queue full"] += -(-len(data) // segment)
            return
        self._queue.append((bytes(data), segment, address, ecn, local))
        self._queued_bytes += len(data)
        if len(self._queue) == 1 and self.when_blocked is not None:
            self.when_blocked()


@lru_cache(ANCILLARY_KEPT)
def _ancillary(segment: int, ecn: int, local: bytes, is_ipv6: bool) -> tuple[tuple[int, int, bytes], ...]:
    """What a system call is told besides the datagrams; kept, for a stream says the same with each burst."""
    messages = []
    if segment:
        messages.append((_SOL_UDP, _UDP_SEGMENT, _U16.pack(segment)))
    if ecn:
        level, kind = (socket.IPPROTO_IPV6, _IPV6_TCLASS) if is_ipv6 else (socket.IPPROTO_IP, _IP_TOS)
        messages.append((level, kind, _INT.pack(ecn)))
    if local:
        level, kind = (socket.IPPROTO_IPV6, _IPV6_PKTINFO) if is_ipv6 else (socket.IPPROTO_IP, _IP_PKTINFO)
        messages.append((level, kind, local))
    return tuple(messages)


def _mark(marked: socket.socket, mark: int) -> None:
    # As bytes, for as a number Python takes 31 bits only.
    marked.setsockopt(socket.SOL_SOCKET, _SO_MARK, _U32.pack(mark))


def _bound(host: str, port: int, *, is_ipv6: bool, shared: bool) -> socket.socket:
    """A socket that doesn't block, bound to an address; raises as `UdpSocket` does."""
    with ExitStack() as stack:
        try:
            made = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
            stack.callback(made.close)
            made.setblocking(False)
            if is_ipv6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if shared:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((host, port))
        except OSError as error:
            where = f"[{host}]:{port}" if is_ipv6 else f"{host}:{port}"
            raise TransportError(f"can't listen on UDP {where}: {error.strerror}") from error
        stack.pop_all()
    return made


def _batch_receiver() -> BatchReceiver | None:
    """None on systems that receive one datagram a call."""
    try:
        return BatchReceiver() if sys.platform == "linux" else None
    except OSError:
        return None
