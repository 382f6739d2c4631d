"""TAP and TUN devices as a link between hosts needs them: raw frames, made in any network namespace.

The device reads and writes what the kernel has, with the virtio header in front where super-packets are to cross, so
that a link can hand them on as they are.

Source: Linux, if_tun.h; setns(2).
Not done here: what a node's own TUN needs (`weft.io.tun`), addresses and routes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from typing import Literal, Self

from weft.errors import TransportError, UsageError

Mode = Literal["tap", "tun"]

VNET_HEADER_BYTES = 10
ETHERNET_HEADER_BYTES = 14
MAX_FRAME_BYTES = VNET_HEADER_BYTES + ETHERNET_HEADER_BYTES + 4 + 65_535
"""A super-packet in a tagged frame, with its virtio header."""

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _TUNSETOFFLOAD, _TUNGETIFF = 0x400454CA, 0x400454D0, 0x800454D2
_IFF_TUN, _IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x0002, 0x1000, 0x4000
_ALL_OFFLOADS = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40
"""Checksum; TCP over IPv4, over IPv6, with ECN; UDP over IPv4, over IPv6."""
_INTERFACE_REQUEST = Struct("16sH22x")


class Device:
    """An open TAP or TUN device.

    Attributes:
        ifname: of the interface.
        mode: `tap` for Ethernet frames, `tun` for IP packets.
        has_vnet_header: whether each frame has a virtio header in front, and may be a super-packet.
    """

    def __init__(self, fd: int) -> None:
        """Take over the descriptor of a device that is attached to an interface.

        Raises:
            UsageError: it is no such descriptor.
        """
        import fcntl

        try:
            answer = fcntl.ioctl(fd, _TUNGETIFF, bytes(_INTERFACE_REQUEST.size))
        except OSError as error:
            raise UsageError(f"descriptor {fd} is no TAP or TUN device: {error.strerror}") from error
        name, flags = _INTERFACE_REQUEST.unpack(answer)
        os.set_blocking(fd, False)
        self._fd = fd
        self.ifname: str = name.rstrip(b"\0").decode()
        self.mode: Mode = "tap" if flags & _IFF_TAP else "tun"
        self.has_vnet_header = bool(flags & _IFF_VNET_HDR)

    @classmethod
    def make(cls, ifname: str, namespace: str = "", *, mode: Mode = "tap", offloads: bool = True) -> Self:
        """Make an interface, in another network namespace if one is named.

        Args:
            ifname: at most 15 bytes.
            namespace: a name that `ip netns` knows; "" is the one of this process.
            mode: Ethernet frames or IP packets.
            offloads: let super-packets cross whole; if not, the kernel cuts them and completes all checksums first.

        Raises:
            TransportError: no permission, no such namespace, or the name is taken.
        """
        import fcntl

        flags = (_IFF_TAP if mode == "tap" else _IFF_TUN) | _IFF_NO_PI | (_IFF_VNET_HDR if offloads else 0)
        fd = -1
        try:
            with inside_namespace(namespace):
                fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(fd, _TUNSETIFF, _INTERFACE_REQUEST.pack(ifname.encode(), flags))
            if offloads:
                fcntl.ioctl(fd, _TUNSETOFFLOAD, _ALL_OFFLOADS)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            raise TransportError(f"can't make {ifname} in {namespace or 'this namespace'}: {error.strerror}") from error
        return cls(fd)

    def fileno(self) -> int:
        """The descriptor; it never blocks."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor; the interface goes with it unless it is persistent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@contextmanager
def inside_namespace(name: str) -> Iterator[None]:
    """Move this thread into a network namespace while the block runs: descriptors opened there stay of there.

    Args:
        name: one that `ip netns` knows; "" stays where it is.

    Raises:
        OSError: no such namespace, or no permission.
    """
    if not name:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        away = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(away)
        finally:
            os.close(away)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)


def _enter(descriptor: int) -> None:
    # os.setns exists since Python 3.12 only.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
