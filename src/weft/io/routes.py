"""Where packets to an address would leave this machine now.

What tells whether an endpoint can be reached at all, whether a change of routes concerns it, and whether it leads into
the node's own tunnel. One question to the kernel, answered at once.

Source: Linux, rtnetlink(7), RTM_GETROUTE; elsewhere, what connecting a UDP socket shows.
Not done here: changing routes (netlink.py); being told of changes (changes.py).
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from ipaddress import ip_address
from struct import Struct
from typing import Final, NamedTuple

_REQUEST = Struct("=IHHII8BI")
_REPLY = Struct("=IHHII8BI")
_ERROR = Struct("=16xi")
_ATTRIBUTE = Struct("=HH")
_NLMSG_ERROR, _RTM_NEWROUTE, _RTM_GETROUTE, _NLM_F_REQUEST = 2, 24, 26, 1
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_MARK = 1, 2, 4, 5, 7, 16
_REACHING: Final = frozenset({1, 2, 3, 4, 5})
"""unicast, local, broadcast, anycast, multicast: the others refuse or swallow packets."""
_ANSWER_BYTES = 8192
_SIOCGIFFLAGS = 0x8913
_FLAGS = Struct("=16sH14x")
_IFF_UP_RUNNING = 0x1 | 0x40


class Route(NamedTuple):
    """The way of packets to one address."""

    ifindex: int
    """The interface that they leave by; 0 where the system doesn't tell."""
    gateway: bytes
    source: bytes
    """The address that they leave from, if the sender names none."""
    is_running: bool = True
    """Whether the interface is up and has its cable."""


def route_to(host: str, mark: int = 0, source: bytes = b"") -> Route | None:
    """Ask the system for its route to an address.

    Args:
        host: an IP address, an IPv6 one perhaps with its zone.
        mark: of the packets; 0 for none.
        source: the address of this machine that they leave from, 4 or 16 bytes; empty for whatever fits.

    Returns:
        None where there is none.
    """
    try:
        asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except (AttributeError, OSError):
        return _route_by_socket(host)
    with asking:
        try:
            asking.send(_question(host, mark, source))
            route = _decode_answer(asking.recv(_ANSWER_BYTES, socket.MSG_DONTWAIT))
            return route._replace(is_running=_is_running(route.ifindex)) if route is not None else None
        except OSError:
            return None


def interface_index(ifname: str) -> int:
    """The number of an interface; 0 if there is none of that name."""
    with suppress(OSError):
        return socket.if_nametoindex(ifname)
    return 0


def _is_running(ifindex: int) -> bool:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        request = _FLAGS.pack(socket.if_indextoname(ifindex).encode(), 0)
        _, flags = _FLAGS.unpack(fcntl.ioctl(asking, _SIOCGIFFLAGS, request))
    return bool(flags & _IFF_UP_RUNNING == _IFF_UP_RUNNING)


def _question(host: str, mark: int, source: bytes) -> bytes:
    number, _, zone = host.partition("%")
    address = ip_address(number).packed
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    attributes = _attribute(_RTA_DST, address)
    if source:
        attributes += _attribute(_RTA_SRC, source)
    if mark:
        attributes += _attribute(_RTA_MARK, mark.to_bytes(4, sys.byteorder))
    if zone:
        index = int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
        attributes += _attribute(_RTA_OIF, index.to_bytes(4, sys.byteorder))
    length = _REQUEST.size + len(attributes)
    header = (length, _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0)
    return _REQUEST.pack(*header, family, 8 * len(address), 8 * len(source), 0, 0, 0, 0, 0, 0) + attributes


def _attribute(kind: int, content: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(content), kind) + content


def _decode_answer(data: bytes) -> Route | None:
    length, kind, *_ = _REPLY.unpack_from(data)
    if kind == _NLMSG_ERROR:
        (code,) = _ERROR.unpack_from(data)
        raise OSError(-code, os.strerror(-code))
    *_, route_kind, _ = _REPLY.unpack_from(data)
    if kind != _RTM_NEWROUTE or route_kind not in _REACHING:
        return None
    found: dict[int, bytes] = {}
    at = _REPLY.size
    while at + _ATTRIBUTE.size <= min(length, len(data)):
        size, attribute = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        found[attribute] = data[at + _ATTRIBUTE.size : at + size]
        at += size + -size % 4
    ifindex = int.from_bytes(found.get(_RTA_OIF, b""), sys.byteorder)
    return Route(ifindex, found.get(_RTA_GATEWAY, b""), found.get(_RTA_PREFSRC, b""))


def _route_by_socket(host: str) -> Route | None:
    """What connecting shows, which sends nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
            source: str = probe.getsockname()[0]
    except OSError:
        return None
    return Route(0, b"", ip_address(source.partition("%")[0]).packed)
