"""Many datagrams in one receive call: Linux's `recvmmsg`, by way of ctypes, since the socket module has no such call.

One receive call per datagram is what limits Python where the network carries single datagrams. Here one call takes up
to 64, and those of one size from one source come out as one buffer, as if GRO had joined them:

- the messages of a call have *slots* that lie one behind the other, each as long as the datagrams have lately been; so
  datagrams that fill their slots, and a shorter one behind them, need no copy to be one run;
- what is longer runs over into room of its own, is copied together, and makes the slots grow; they shrink when
  datagrams of another size come in a row.

Rules of the file: what is given holds until the next call; nothing is ever cut off.

Source: Linux, recvmmsg(2), cmsg(3), udp(7).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import sys
from functools import lru_cache
from struct import Struct
from typing import Any, Final, NamedTuple

Address = tuple[Any, ...]
"""What the socket module takes and gives: (host, port), or (host, port, flow, scope) for IPv6."""

MAX_MESSAGES: Final = 64
MAX_DATAGRAM_BYTES: Final = 65_535
"""Also of what GRO joined."""
SLOTS_BYTES: Final = 2 * MAX_DATAGRAM_BYTES
"""What one call is to bring: few enough to be in the cache yet when it is opened."""
_ROOM_BYTES: Final = 16 * MAX_DATAGRAM_BYTES
"""Of all slots; more than that, for what GRO joined is mixed with what came alone, and is much shorter."""
SHRINK_AFTER: Final = 8
"""Slots shrink when so many datagrams of one other size came in a row."""

_SOL_UDP: Final = 17
_UDP_GRO: Final = 104
_IP_TOS: Final = 1
_IPV6_TCLASS: Final = 67
_NAME_BYTES: Final = 32
_CONTROL_BYTES: Final = 96
_TOLD_BYTES: Final = _NAME_BYTES + _CONTROL_BYTES
_CONTROL_HEADER = Struct("@Nii")
_SEGMENT = Struct("=i")
_SOCKADDR_IN = Struct(">2xH4s")
_SOCKADDR_IN6 = Struct(">2xHI16s")
_SCOPE = Struct("=I")
_PKTINFO: Final = {(socket.IPPROTO_IP, 8): Struct("=4s4s4x"), (socket.IPPROTO_IPV6, 50): Struct("=16s4s")}
"""IP_PKTINFO, interface and local address, and IPV6_PKTINFO, address and interface."""
_FAMILY = Struct("=H")
_MULTICAST: Final = 0xFF
_ALIGNMENT = ctypes.sizeof(ctypes.c_size_t)


class Received(NamedTuple):
    """What came from one source: datagrams of `segment` bytes one behind the other, the last maybe shorter."""

    data: memoryview
    segment: int
    source: Address
    ecn: int
    """The two ECN bits of the IP header (RFC 3168)."""
    local: bytes = b""
    """Our address and interface that they came to, 12 or 20 bytes; empty where the socket was not asked to tell it.

    See `local_address` and `arrival_interface`.
    """


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """A struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """A struct mmsghdr."""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


_MESSAGE_BYTES = ctypes.sizeof(_Message)


class BatchReceiver:
    """Receives from one socket; made once and reused, for it holds the buffers.

    Attributes:
        was_full: whether all that fits into one call came with the last one, so that there may be more.
    """

    def __init__(self) -> None:
        """Lay out the buffers.

        Raises:
            OSError: this system has no recvmmsg.
        """
        try:
            self._recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
        except (AttributeError, OSError, TypeError) as error:
            raise OSError("no recvmmsg here") from error
        self._recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
        # Anonymous memory: not there before a datagram comes into it.
        self._slots = memoryview(mmap.mmap(-1, _ROOM_BYTES))
        self._overflow = memoryview(mmap.mmap(-1, MAX_MESSAGES * MAX_DATAGRAM_BYTES))
        self._told = memoryview(bytearray(MAX_MESSAGES * _TOLD_BYTES))
        vectors = (_Vector * (2 * MAX_MESSAGES))()
        messages = (_Message * MAX_MESSAGES)()
        for number, message in enumerate(messages):
            header = message.header
            header.name = _address_of(self._told) + number * _TOLD_BYTES
            header.name_length = _NAME_BYTES
            header.vectors = ctypes.addressof(vectors[2 * number])
            header.vector_count = 2
            header.control = header.name + _NAME_BYTES
            header.control_length = _CONTROL_BYTES
            overflow = vectors[2 * number + 1]
            overflow.base = _address_of(self._overflow) + number * MAX_DATAGRAM_BYTES
            overflow.length = MAX_DATAGRAM_BYTES
        self._vectors = memoryview(vectors).cast("B").cast("P")
        self._messages = memoryview(messages).cast("B")
        self._messages_at = ctypes.addressof(messages)
        self._fresh_messages = bytes(self._messages)
        self._nothing_told = bytes(self._told)
        self._lengths = self._messages.cast("I")[_Message.length.offset // 4 :: _MESSAGE_BYTES // 4]
        self._slots_at = _address_of(self._slots)
        self._known = b""
        self._source: Address = ()
        self._segment = self._ecn = 0
        self._local = b""
        self._slot = self._count = self._in_a_row = 0
        self.was_full = False
        self._lay_out(MAX_DATAGRAM_BYTES)

    def receive(self, fd: int) -> list[Received]:
        """Receive what is there, at most `MAX_MESSAGES` datagrams.

        Args:
            fd: a UDP socket.

        Returns:
            What came, in its order; empty when there is nothing. It holds until the next call.

        Raises:
            OSError: as recvmsg; BlockingIOError is not raised.
        """
        count = self._recvmmsg(fd, self._messages_at, self._count, socket.MSG_DONTWAIT, None)
        if count < 0:
            error = ctypes.get_errno()
            failure = OSError(error, os.strerror(error))
            if isinstance(failure, BlockingIOError | InterruptedError):
                return []
            raise failure
        self.was_full = count == self._count
        lengths: list[int] = self._lengths[:count].tolist()
        told = _split(bytes(self._told[: count * _TOLD_BYTES]), count)
        self._messages[: count * _MESSAGE_BYTES] = self._fresh_messages[: count * _MESSAGE_BYTES]
        self._told[: count * _TOLD_BYTES] = self._nothing_told[: count * _TOLD_BYTES]
        received: list[Received] = []
        slot, first, is_joined = self._slot, 0, False
        while first < count:
            if told[first] != self._known:
                self._decode(told[first])
            length, end = lengths[first], first + 1
            if length > slot:
                data = self._overrun(first, length)
            else:
                if length == slot and not self._segment:
                    end = _run_end(first, slot, lengths, told)
                data = self._slots[first * slot : (end - 1) * slot + lengths[end - 1]]
            is_joined = is_joined or self._segment > 0
            received.append(Received(data, self._segment or length, self._source, self._ecn, self._local))
            first = end
        self._fit(lengths, is_joined=is_joined)
        return received

    def _decode(self, told: bytes) -> None:
        """Decode source and control messages of a message that are not those of the one before."""
        self._source = _decode_name(told)
        self._segment, self._ecn, self._local = _decode_control(told[_NAME_BYTES:])
        self._known = told

    def _overrun(self, number: int, length: int) -> memoryview:
        """What was longer than its slot, put together."""
        slot, start = self._slot, number * MAX_DATAGRAM_BYTES
        head = self._slots[number * slot : (number + 1) * slot]
        return memoryview(b"".join((head, self._overflow[start : start + length - slot])))

    def _fit(self, lengths: list[int], *, is_joined: bool) -> None:
        """Make the slots as long as what comes, and ask for as many as come to SLOTS_BYTES then."""
        longest = max(lengths)
        if is_joined or longest > self._slot:
            self._in_a_row = 0
            self._lay_out(MAX_DATAGRAM_BYTES if is_joined else longest)
        elif len(lengths) > 1:
            is_run = 0 < longest < self._slot and min(lengths) == longest
            self._in_a_row = self._in_a_row + len(lengths) if is_run else 0
            if self._in_a_row >= SHRINK_AFTER:
                self._lay_out(longest)
        else:
            return
        self._count = min(self._fitting, SLOTS_BYTES * len(lengths) // (sum(lengths) or 1))

    def _lay_out(self, slot: int) -> None:
        """Point the messages at slots of so many bytes."""
        if slot == self._slot:
            return
        self._slot = slot
        self._in_a_row = 0
        self._count = min(MAX_MESSAGES, SLOTS_BYTES // slot)
        self._fitting = min(MAX_MESSAGES, _ROOM_BYTES // slot)
        for number in range(self._fitting):
            self._vectors[4 * number] = self._slots_at + number * slot
            self._vectors[4 * number + 1] = slot


def _split(told: bytes, count: int) -> list[bytes]:
    """What is told of each message of a call; most often all the same."""
    if count == 1 or told == told[:_TOLD_BYTES] * count:
        return [told[:_TOLD_BYTES]] * count
    return [told[at : at + _TOLD_BYTES] for at in range(0, len(told), _TOLD_BYTES)]


def _run_end(first: int, slot: int, lengths: list[int], told: list[bytes]) -> int:
    """Where the run ends that begins with a datagram that fills its slot: before another source, or a longer one."""
    same = told[first]
    for number in range(first + 1, len(lengths)):
        length = lengths[number]
        if length > slot or told[number] != same:
            return number
        if length < slot:
            return number + 1
    return len(lengths)


def _decode_name(name: bytes) -> Address:
    """A socket address as the socket module gives it."""
    (family,) = _FAMILY.unpack_from(name)
    if family == socket.AF_INET:
        port, host = _SOCKADDR_IN.unpack_from(name)
        return socket.inet_ntop(family, host), port
    port, flow, host = _SOCKADDR_IN6.unpack_from(name)
    (scope,) = _SCOPE.unpack_from(name, _SOCKADDR_IN6.size)
    return socket.inet_ntop(family, host), port, flow, scope


def decode_local(level: int, kind: int, data: bytes) -> bytes:
    """Our address and interface that a datagram came to, from the control message that tells them.

    Args:
        level: of the control message.
        kind: of the control message.
        data: its content.

    Returns:
        As in `Received`; empty if it is another control message, or the address is one of many machines.
    """
    form = _PKTINFO.get((level, kind))
    if form is None or len(data) < form.size:
        return b""
    # What was sent to many is answered from whatever address the system chooses.
    return b"" if data[0] == _MULTICAST and level == socket.IPPROTO_IPV6 else form.pack(*form.unpack_from(data))


def local_address(local: bytes) -> bytes:
    """Our address out of `Received.local`, 4 or 16 bytes."""
    return local[4:8] if len(local) == 12 else local[:16]


def arrival_interface(local: bytes) -> int:
    """The number of the interface out of `Received.local`."""
    return int.from_bytes(local[:4] if len(local) == 12 else local[16:], sys.byteorder)


@lru_cache(64)
def by_any_interface(local: bytes) -> bytes:
    """What `UdpSocket.send` takes to send from the address of a `Received.local`, by whatever interface."""
    return bytes(4) + local[4:] if len(local) == 12 else local[:16] + bytes(4)


@lru_cache(64)
def _decode_control(control: bytes) -> tuple[int, int, bytes]:
    """The size of the datagrams that GRO joined, or 0, the ECN bits, and our address that they came to."""
    segment = ecn = start = 0
    local = b""
    while start + _CONTROL_HEADER.size < len(control):
        length, level, kind = _CONTROL_HEADER.unpack_from(control, start)
        data = start + _CONTROL_HEADER.size
        if length <= _CONTROL_HEADER.size:
            break
        if level == _SOL_UDP and kind == _UDP_GRO:
            (segment,) = _SEGMENT.unpack_from(control, data)
        elif kind in {_IP_TOS, _IPV6_TCLASS}:
            ecn = control[data] & 3
        else:
            local = decode_local(level, kind, control[data : start + length]) or local
        start += -(-length // _ALIGNMENT) * _ALIGNMENT
    return segment, ecn, local


def _address_of(buffer: memoryview) -> int:
    """Where a buffer lies in memory."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
