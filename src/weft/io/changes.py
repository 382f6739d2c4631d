"""Changes of this machine's network, as Linux tells them: interfaces, addresses, routes and rules.

A change is told to the caller at once, for a path may be gone or be there again. Changes that come in quick succession
are told together, less and less often while they go on, but the last one always is: a storm of them is no reason to
call all peers a hundred times a second.

Rules of the file:
- What is told again as it was is no change: advertisements of routers repeat addresses, radios their strength.
- What concerns the node's own interface is told apart (`Change.OVERLAY`): it moves no path by itself, but may lead one
  into the tunnel.
- rtnetlink(7) alone serves, without a package. Elsewhere nothing is told.

Source: Linux, rtnetlink(7), netlink(7), if_link.h, if_addr.h, rtnetlink.h.
Not done here: what follows from a change (engine/world.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Flag
from struct import Struct, error
from typing import Final

from weft.io import rtnetlink

log = logging.getLogger("weft.io")

FIRST_PAUSE_S: Final = 0.02
"""How long to wait for more when something has changed after a time of rest."""
PROMPT: Final = 16
"""So many times is told without a longer wait: a cable that is plugged in makes a dozen changes; the last counts."""
LAST_PAUSE_S: Final = 3.2
"""The same where changes go on and on."""
REST_S: Final = 1.0
"""So long without a change is a rest, or twice the last pause if that is longer."""
KNOWN: Final = 4096
"""Things whose state is remembered."""

_GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, _ROUTE and _RULE, RTMGRP_IPV6_IFADDR, _ROUTE and _RULE"""
_NOTIFICATION_BYTES = 65_536

_ROUTE = Struct("=8BI")
_INDEX = Struct("=i")
_NEW = frozenset({rtnetlink.NEW_LINK, rtnetlink.NEW_ADDRESS, rtnetlink.NEW_ROUTE})

_RTA_OIF, _RTA_CACHEINFO = 4, 12
_UP_RUNNING_LOWER_UP = rtnetlink.IFF_UP | rtnetlink.IFF_RUNNING | rtnetlink.IFF_LOWER_UP
_RTNH_F_DEAD_LINKDOWN = 0x1 | 0x10
_RTM_F_CLONED = 0x200


class Change(Flag):
    """What has changed."""

    NOTHING = 0
    UNDERLAY = 1
    """Something about the machine's network."""
    OVERLAY = 2
    """Something about the node's own interface."""


class Notifications:
    """Reads what the kernel tells, and remembers enough to see whether it is news."""

    def __init__(self, is_ours: Callable[[str], bool]) -> None:
        """Begin without knowing anything: what is told first is news.

        Args:
            is_ours: whether an interface of that name is the node's own.
        """
        self._is_ours = is_ours
        self._ours: set[int] = set()
        self._known: dict[bytes, int] = {}

    def receive(self, data: bytes) -> Change:
        """Read one notification, which may have several messages; one that can't be read is a change too."""
        change = Change.NOTHING
        try:
            for kind, body in rtnetlink.messages(data):
                change |= self._read(kind, body)
        except error:
            change |= Change.UNDERLAY
        return change

    def forget(self) -> None:
        """Something was not told; whatever is told from now on is news."""
        self._known.clear()

    def _read(self, kind: int, body: bytes) -> Change:
        if kind in {rtnetlink.NEW_LINK, rtnetlink.DEL_LINK}:
            index, key, state = self._read_link(kind, body)
        elif kind in {rtnetlink.NEW_ADDRESS, rtnetlink.DEL_ADDRESS}:
            index, key, state = _read_address(body)
        elif kind in {rtnetlink.NEW_ROUTE, rtnetlink.DEL_ROUTE}:
            index, key, state = _read_route(body)
        else:
            return Change.UNDERLAY
        if not key:
            return Change.NOTHING
        change = Change.OVERLAY if index in self._ours else Change.UNDERLAY
        if kind == rtnetlink.DEL_LINK:
            self._ours.discard(index)
        if kind not in _NEW:
            self._known.pop(key, None)
        elif self._known.get(key) == state:
            return Change.NOTHING
        else:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[key] = state
        return change

    def _read_link(self, kind: int, body: bytes) -> tuple[int, bytes, int]:
        family, _, index, flags, _ = rtnetlink.LINK.unpack_from(body)
        if family != socket.AF_UNSPEC:  # what a bridge says of its ports
            return index, b"", 0
        attributes = dict(rtnetlink.attributes(body, rtnetlink.LINK.size))
        name = attributes.get(rtnetlink.IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        if kind == rtnetlink.NEW_LINK and self._is_ours(name):
            self._ours.add(index)
        mtu = int.from_bytes(attributes.get(rtnetlink.IFLA_MTU, b""), "little")
        return index, b"link%d" % index, flags & _UP_RUNNING_LOWER_UP | mtu << 32


def _read_address(body: bytes) -> tuple[int, bytes, int]:
    family, length, *_ = rtnetlink.ADDRESS.unpack_from(body)
    index, address, flags = rtnetlink.address_of(body)
    return index, b"address%d,%d,%d," % (family, length, index) + address, flags & rtnetlink.IFA_F_UNUSABLE


def _read_route(body: bytes) -> tuple[int, bytes, int]:
    *numbers, flags = _ROUTE.unpack_from(body)
    if flags & _RTM_F_CLONED:  # what the kernel has learned about one destination
        return 0, b"", 0
    attributes = {kind: content for kind, content in rtnetlink.attributes(body, _ROUTE.size) if kind != _RTA_CACHEINFO}
    index = _INDEX.unpack(attributes[_RTA_OIF])[0] if _RTA_OIF in attributes else 0
    return index, b"route" + bytes(numbers) + repr(attributes).encode(), flags & _RTNH_F_DEAD_LINKDOWN


async def watch_changes(handle_change: Callable[[Change], Awaitable[None]], is_ours: Callable[[str], bool]) -> None:
    """Tell when this machine's network changes, until cancelled; where the system does not say so, never.

    Args:
        handle_change: called and waited for, `FIRST_PAUSE_S` after the first change at the earliest.
        is_ours: whether an interface of that name is the node's own.
    """
    loop = asyncio.get_running_loop()
    try:
        watch = _open_watch()
    except (AttributeError, OSError) as failure:
        log.debug("changes of the network are not told by this system: %s", failure)
        await loop.create_future()
        return
    notifications = Notifications(is_ours)
    pause_s, told_at, told = FIRST_PAUSE_S, -REST_S, 0
    with watch:
        while True:
            change = await _next_change(loop, watch, notifications)
            is_rested = loop.time() - told_at >= max(REST_S, 2 * pause_s)
            told = 1 if is_rested else told + 1
            pause_s = FIRST_PAUSE_S if told <= PROMPT else min(2 * pause_s, LAST_PAUSE_S)
            await asyncio.sleep(pause_s)
            change |= _take_waiting(watch, notifications)
            await handle_change(change)
            told_at = loop.time()


async def _next_change(loop: asyncio.AbstractEventLoop, watch: socket.socket, notifications: Notifications) -> Change:
    change = Change.NOTHING
    while not change:
        try:
            change = notifications.receive(await loop.sock_recv(watch, _NOTIFICATION_BYTES))
        except OSError:
            change = _handle_overflow(notifications)
    return change


def _take_waiting(watch: socket.socket, notifications: Notifications) -> Change:
    change = Change.NOTHING
    while True:
        try:
            change |= notifications.receive(watch.recv(_NOTIFICATION_BYTES))
        except BlockingIOError:
            return change
        except OSError:
            change |= _handle_overflow(notifications)


def _handle_overflow(notifications: Notifications) -> Change:
    """The kernel had more to tell than fits its queue, ENOBUFS."""
    notifications.forget()
    return Change.UNDERLAY | Change.OVERLAY


def _open_watch() -> socket.socket:
    watch = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    with suppress(OSError):
        watch.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    try:
        watch.bind((0, _GROUPS))
    except OSError:
        watch.close()
        raise
    return watch
