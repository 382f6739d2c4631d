"""Descriptors that a daemon was given when it was started, by systemd or by a program with more rights.

api   a Unix socket that listens: the API answers there, and the file stays whoever's it is
udp   a bound UDP socket: it serves the listener of `peer.listen` that has its address
tun   a TUN that is attached to an interface with this node's address: it is used from the start
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from weft.errors import UsageError


@dataclass
class Passed:
    """What was given; whoever uses one takes it out.

    Attributes:
        api: None if the API is to make its own.
        udp: one for each listener.
        tun: a number; None if there is none.
    """

    api: socket.socket | None = None
    udp: list[socket.socket] = field(default_factory=list)
    tun: int | None = None

    def take_tun(self) -> int | None:
        """The TUN, which is the caller's from now on."""
        tun, self.tun = self.tun, None
        return tun

    def close(self) -> None:
        """Close what nobody took."""
        for each in (self.api, *self.udp):
            if each is not None:
                each.close()
        if self.tun is not None:
            os.close(self.tun)
        self.api, self.udp, self.tun = None, [], None


def sort_descriptors(descriptors: Iterable[tuple[str, int]]) -> Passed:
    """Find out what each is for, and that it is good for it.

    Args:
        descriptors: name and number of each (io/systemd.py).

    Raises:
        UsageError: a name is unknown or there twice, or a descriptor is not what its name says.
    """
    passed = Passed()
    try:
        for name, number in descriptors:
            if name not in _KINDS:
                raise UsageError(f"a descriptor is called {name!r}; there are: {', '.join(_KINDS)}")
            _KINDS[name](passed, number)
    except BaseException:
        passed.close()
        raise
    return passed


def _add_api(passed: Passed, number: int) -> None:
    if passed.api is not None:
        raise UsageError("two descriptors are called 'api'; there can be one")
    given = passed.api = _socket("api", number)
    is_good = given.family == socket.AF_UNIX and given.type == socket.SOCK_STREAM
    if not (is_good and given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
        raise UsageError("the descriptor 'api' is no Unix socket that listens for streams")


def _add_udp(passed: Passed, number: int) -> None:
    given = _socket("udp", number)
    passed.udp.append(given)
    if given.family not in {socket.AF_INET, socket.AF_INET6} or given.type != socket.SOCK_DGRAM:
        raise UsageError("the descriptor 'udp' is no UDP socket")
    if given.family == socket.AF_INET6 and not given.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        raise UsageError("the descriptor 'udp' takes IPv4 too; give one for each family (BindIPv6Only=ipv6-only)")


def _add_tun(passed: Passed, number: int) -> None:
    if passed.tun is not None:
        raise UsageError("two descriptors are called 'tun'; there can be one")
    passed.tun = number


_KINDS: Final[dict[str, Callable[[Passed, int], None]]] = {"api": _add_api, "udp": _add_udp, "tun": _add_tun}


def _socket(name: str, number: int) -> socket.socket:
    try:
        given = socket.socket(fileno=number)
    except OSError as error:
        raise UsageError(f"the descriptor {name!r} is no socket: {error.strerror}") from error
    given.setblocking(False)
    return given
