"""Sockets of the kernel for one network: how they are made, what they are told, and what is wrong with them.

Source: socket(7), ip(7), ipv6(7), tcp(7); linux/in.h, linux/in6.h, linux/errqueue.h for numbers that Python lacks.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError

FAMILIES: Final = {4: socket.AF_INET, 16: socket.AF_INET6}
"""By bytes of an address."""

_SOL_IP: Final = socket.IPPROTO_IP
_IP_PKTINFO, _IP_RECVERR, _IPV6_RECVERR = 8, 11, 25
_ERRORS_IN_A_TURN: Final = 64
_ANCILLARY_BYTES: Final = 512
_ERROR: Final = struct.Struct("=I")
_IN_PKTINFO, _IN6_PKTINFO = struct.Struct("=I4s4s"), struct.Struct("=16sI")

_FAILURES: Final = {
    errno.ECONNREFUSED: Failure.REFUSED,
    errno.ECONNRESET: Failure.RESET,
    errno.EPIPE: Failure.RESET,
    errno.ECONNABORTED: Failure.ABORTED,
    errno.ETIMEDOUT: Failure.TIMED_OUT,
    errno.ENETUNREACH: Failure.NO_ROUTE,
    errno.ENODEV: Failure.NO_ROUTE,
    errno.EHOSTUNREACH: Failure.UNREACHABLE,
    errno.ENETDOWN: Failure.UNREACHABLE,
    errno.EACCES: Failure.PROHIBITED,
    errno.EPERM: Failure.PROHIBITED,
    errno.EMSGSIZE: Failure.TOO_LONG,
    errno.EADDRINUSE: Failure.IN_USE,
    errno.EADDRNOTAVAIL: Failure.NOT_OURS,
    errno.EMFILE: Failure.NO_ROOM,
    errno.ENFILE: Failure.NO_ROOM,
    errno.ENOBUFS: Failure.NO_ROOM,
    errno.ENOMEM: Failure.NO_ROOM,
}


RESERVED_DESCRIPTORS: Final = 256
"""For the rest of the process, when its programs have all others."""


def failure_of(number: int | None) -> Failure:
    """What an error of the system means."""
    return _FAILURES.get(number or 0, Failure.UNREACHABLE)


def stack_error(error: OSError) -> StackError:
    """The same, to be raised."""
    return StackError(failure_of(error.errno), error.strerror or "")


def opened(length: int, kind: int, protocol: int = 0) -> socket.socket:
    """Make a socket that never waits, and takes no addresses of another family.

    Args:
        length: bytes of its addresses.
        kind: SOCK_STREAM and so on.
        protocol: if the kind does not say it.

    Raises:
        OSError: it can't be had.
    """
    sock = socket.socket(FAMILIES[length], kind | socket.SOCK_NONBLOCK, protocol)
    check_room(sock)
    # Of ICMPv6 it is so anyway, and can't be said.
    if length == 16 and not protocol:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def check_room(sock: socket.socket) -> None:
    """Close a new socket if it is one too many.

    Raises:
        OSError: it is.
    """
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The system gives the lowest number that is free.
    if sock.fileno() >= most - RESERVED_DESCRIPTORS:
        sock.close()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def hold_to(sock: socket.socket, ifname: str) -> None:
    """Let a socket send to an interface and hear from it alone, whatever other routes the machine has."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, ifname.encode() + b"\0")


def by_interface(index: int, source: bytes) -> list[tuple[int, int, bytes]]:
    """Ancillary data that sends one datagram to an interface, whatever other routes the machine has."""
    if len(source) == 4:
        return [(_SOL_IP, _IP_PKTINFO, _IN_PKTINFO.pack(index, source, bytes(4)))]
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _IN6_PKTINFO.pack(source, index))]


def keep_errors(sock: socket.socket) -> None:
    """Let what ICMP says of datagrams wait in the socket, with where they were sent to."""
    level, option = (_SOL_IP, _IP_RECVERR) if sock.family == socket.AF_INET else (socket.IPPROTO_IPV6, _IPV6_RECVERR)
    sock.setsockopt(level, option, 1)


def kept_errors(sock: socket.socket) -> Iterator[tuple[Failure, Endpoint]]:
    """Take what has come so; a few at a time."""
    with suppress(OSError):
        for _ in range(_ERRORS_IN_A_TURN):
            _, ancillary, _, address = sock.recvmsg(0, _ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
            for _, kind, data in ancillary:
                if kind in {_IP_RECVERR, _IPV6_RECVERR} and len(data) >= _ERROR.size:
                    yield failure_of(_ERROR.unpack_from(data)[0]), endpoint_of(sock, address)
    # What it says besides is of one of these.
    sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def endpoint_of(sock: socket.socket, address: Any) -> Endpoint:
    """An address as the system says it."""
    return Endpoint(socket.inet_pton(sock.family, address[0].partition("%")[0]), address[1])


def address_of(endpoint: Endpoint) -> tuple[str, int]:
    """An address as the system takes it."""
    return socket.inet_ntop(FAMILIES[len(endpoint.address)], endpoint.address), endpoint.port
