"""A Linux TUN device that gives and takes super-packets.

With a virtio header in front of each packet the kernel hands out TCP (and, since 6.2, UDP) packets of up to 64 KiB that
it never segmented nor summed, and takes such packets in. Asked for one by one when the device is made; without any of
it packets are ordinary ones. A device may also be one that somebody with more rights has made: a persistent one, which
its owner may attach to, or one whose descriptor is passed.

Layout of the virtio header, in the byte order of the machine:

    0     flags: 1 the checksum is still to be computed, from csum_start to the end, into csum_start + csum_offset
    1     kind of segmentation: 0 none, 1 TCP over IPv4, 4 TCP over IPv6, 5 UDP
    2..4  bytes of all headers
    4..6  payload bytes of each segment
    6..8  csum_start
    8..10 csum_offset

Rules of the file: reads and writes never block; whatever goes into a header that is written is derived by the caller
from the real packet, never taken from the network.

Source: virtio 1.2 section 5.1.6; Linux, if_tun.h and virtio_net.h.
Not done here: addresses, routes and MTU (netlink.py, link.py); how a descriptor is passed (passing.py).
"""

from __future__ import annotations

import errno
import os
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Final, Self

from weft.burst.records import KIND_PACKET, KIND_TCP, KIND_UDP
from weft.errors import TransportError, UsageError
from weft.io.device import Buffer, Read

_DEVICE = "/dev/net/tun"
_TUNSETIFF, _TUNSETOFFLOAD, _TUNGETIFF, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x800454D2, 0x400454D8
_IFF_TUN, _IFF_MULTI_QUEUE, _IFF_PERSIST, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x0100, 0x0800, 0x1000, 0x4000
_CSUM, _TSO4, _TSO6, _USO = 0x01, 0x02, 0x04, 0x20 | 0x40

_OFFLOADS: Final = (
    (_CSUM | _TSO4 | _TSO6 | _USO, ("csum", "tso4", "tso6", "uso")),
    (_CSUM | _TSO4 | _TSO6, ("csum", "tso4", "tso6")),
    (_CSUM, ("csum",)),
)
"""What is asked for, the most first."""

VNET_HEADER = Struct("=BBHHHH")
VNET_HEADER_BYTES = VNET_HEADER.size
_NEEDS_CSUM = 1
_GSO_TCPV4, _GSO_TCPV6, _GSO_UDP, _GSO_ECN = 1, 4, 5, 0x80
_KIND_OF_GSO = {0: KIND_PACKET, _GSO_TCPV4: KIND_TCP, _GSO_TCPV6: KIND_TCP, _GSO_UDP: KIND_UDP}
_NO_HEADER = bytes(VNET_HEADER_BYTES)


class Tun:
    """One TUN device.

    Attributes:
        name: of the interface.
        offloads: what the kernel gave: `vnet_hdr`, `csum`, `tso4`, `tso6`, `uso`.
        takes_tcp: whether TCP super-packets can be written.
        takes_udp: whether UDP super-packets can be written.
        takes_partial: whether the kernel completes transport checksums.
        needs_pseudo_header: it does so from the pseudo-header's sum on.
        drops: packets that the kernel did not take, by reason.
    """

    def __init__(self, name: str = "weft%d", *, offloads: bool = True) -> None:
        """Make the device, or attach to a persistent one of that name.

        Args:
            name: at most 15 bytes; `%d` lets the kernel number it.
            offloads: False asks for none, as on a kernel without them.

        Raises:
            UsageError: the name is too long.
            PermissionError: needs root or CAP_NET_ADMIN.
            TransportError: no such device file, or the name is taken; in one line.
        """
        self._use(_attached(name, _flags(offloads=offloads), f"can't make the interface {name}", _RIGHTS))

    @classmethod
    def attach(cls, name: str, *, offloads: bool = True) -> Self:
        """Attach to a persistent device that somebody else has made; its owner needs no rights for it.

        Args:
            name: of the interface.
            offloads: as for `Tun`.

        Raises:
            UsageError: there is no such interface, or it is none that can be attached to.
            PermissionError: it belongs to another user.
            TransportError: no such device file, or another program uses it.
        """
        try:
            socket.if_nametoindex(name)
        except OSError:
            command = f"ip tuntap add dev {name} mode tun user {_user()}"
            raise UsageError(f"there is no interface {name}; whoever may makes it with `{command}`") from None
        wanted = _flags(offloads=offloads)
        # The kernel takes a device of several queues with that flag only, and one of a single queue only without.
        wanted += [flags | _IFF_MULTI_QUEUE for flags in wanted]
        fd = _attached(name, wanted, f"can't attach to {name}", f"{_RIGHTS}, or to be its owner, and {_user()} is not")
        _, flags = _interface_of(fd)
        if not flags & _IFF_PERSIST:
            os.close(fd)
            raise UsageError(f"{name} is not persistent: it belongs to the program that has made it")
        return cls.adopt(fd)

    @classmethod
    def adopt(cls, descriptor: int) -> Self:
        """Take over the descriptor of a device that somebody else has opened; if it can't be used, it is closed.

        Raises:
            UsageError: it is none of a TUN device that is attached to an interface, or one with packet information.
        """
        tun = object.__new__(cls)
        try:
            name, flags = _interface_of(descriptor)
            if not flags & _IFF_TUN:
                raise UsageError(f"{name} is a TAP device; weft needs a TUN")
            if not _kernel_flags(name) & _IFF_NO_PI:
                raise UsageError(f"{name} has packet information in front of each packet; open it with IFF_NO_PI")
            os.set_blocking(descriptor, False)
            os.set_inheritable(descriptor, False)
        except BaseException:
            os.close(descriptor)
            raise
        tun._use(descriptor)
        return tun

    def _use(self, fd: int) -> None:
        self._fd = fd
        self._vnet = bytearray(VNET_HEADER_BYTES)
        self.drops: Counter[str] = Counter()
        self.name, flags = _interface_of(fd)
        self.has_vnet_header = bool(flags & _IFF_VNET_HDR)
        self.offloads = ["vnet_hdr", *_ask_offloads(fd)] if self.has_vnet_header else []
        self.takes_tcp = "tso6" in self.offloads
        self.takes_udp = "uso" in self.offloads
        self.takes_partial = "csum" in self.offloads
        self.needs_pseudo_header = True

    def fileno(self) -> int:
        """The descriptor, for the event loop."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor; the interface goes with it, unless it is persistent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, into: memoryview) -> Read | None:
        """Read one packet.

        Args:
            into: room for MAX_PACKET_BYTES; a longer packet would be cut.

        Returns:
            What it is, or None when there is nothing (more).

        Raises:
            OSError: the device is gone.
        """
        try:
            if not self.has_vnet_header:
                return Read(os.readv(self._fd, [into]), KIND_PACKET, 0, False)
            length = os.readv(self._fd, [self._vnet, into]) - VNET_HEADER_BYTES
        except BlockingIOError:
            return None
        flags, kind, _, segment, _, _ = VNET_HEADER.unpack(self._vnet)
        if kind == 0:
            return Read(length, KIND_PACKET, 0, bool(flags & _NEEDS_CSUM))
        return Read(length, _KIND_OF_GSO.get(kind & ~_GSO_ECN, KIND_PACKET), segment, True)

    def write(self, parts: Sequence[Buffer]) -> bool:
        """Write one packet whose checksums are all computed.

        Args:
            parts: buffers whose concatenation is the packet.

        Returns:
            Whether the kernel took it; else it is counted.
        """
        return self._write([_NO_HEADER, *parts] if self.has_vnet_header else parts)

    def write_partial(self, parts: Sequence[Buffer], transport: int, checksum_offset: int) -> bool:
        """Write one packet whose transport checksum field holds the pseudo-header sum only; needs `takes_partial`.

        Args:
            parts: as for `write`.
            transport: offset of the transport header.
            checksum_offset: of the checksum in that header.
        """
        return self._write([VNET_HEADER.pack(_NEEDS_CSUM, 0, 0, 0, transport, checksum_offset), *parts])

    def write_super(self, parts: Sequence[Buffer], kind: int, segment: int, transport: int, headers: int) -> bool:
        """Write one super-packet; needs `takes_tcp` or `takes_udp`.

        Args:
            parts: as for `write`; the checksum field holds the pseudo-header sum, the first part the IP header.
            kind: KIND_TCP or KIND_UDP.
            segment: payload bytes of each segment but the last.
            transport: offset of the transport header.
            headers: bytes of IP and transport header.
        """
        if kind == KIND_TCP:
            gso = _GSO_TCPV4 if parts[0][0] >> 4 == 4 else _GSO_TCPV6
            header = VNET_HEADER.pack(_NEEDS_CSUM, gso, headers, segment, transport, 16)
        else:
            header = VNET_HEADER.pack(_NEEDS_CSUM, _GSO_UDP, headers, segment, transport, 6)
        return self._write([header, *parts])

    def settle(self) -> None:
        """Nothing: the kernel has answered already."""

    def wake(self) -> None:
        """Nothing, too."""

    def _write(self, buffers: Sequence[Buffer]) -> bool:
        try:
            os.writev(self._fd, buffers)
        except BlockingIOError:
            self.drops["tun: would block"] += 1
        except OSError as error:
            if error.errno == errno.EBADF:
                raise
            self.drops["tun: down" if error.errno == errno.EIO else "tun: refused"] += 1
        else:
            return True
        return False


_INTERFACE_REQUEST = Struct("16sH22x")
_INT = Struct("i")
_RIGHTS = "needs root or CAP_NET_ADMIN"


def _flags(*, offloads: bool) -> list[int]:
    """What to ask for, the best first."""
    plain = _IFF_TUN | _IFF_NO_PI
    return [plain | _IFF_VNET_HDR, plain] if offloads else [plain]


def _attached(name: str, wanted: Sequence[int], failing: str, needs: str) -> int:
    """A descriptor of an interface, made unless there is a persistent one; raises as `Tun` does.

    Args:
        name: of the interface.
        wanted: flags, the best first.
        failing: what to say if it can't be.
        needs: what to say if that is a matter of rights.
    """
    if len(name.encode()) > 15:
        raise UsageError(f"{name}: an interface name has at most 15 bytes")
    try:
        import fcntl
    except ImportError as error:
        raise TransportError("this system has no TUN device that weft can use; only Linux has") from error
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise PermissionError(f"can't open {_DEVICE}; {_RIGHTS}") from error
    except OSError as error:
        raise TransportError(f"can't open {_DEVICE}: {error.strerror}; is the module tun there?") from error
    for flags in wanted:
        try:
            fcntl.ioctl(fd, _TUNSETIFF, _INTERFACE_REQUEST.pack(name.encode(), flags))
        except OSError as error:
            failure = error
            if error.errno != errno.EINVAL:
                break
        else:
            return fd
    os.close(fd)
    if failure.errno in {errno.EPERM, errno.EACCES}:
        raise PermissionError(f"{failing}; {needs}") from failure
    raise TransportError(f"{failing}: {_REASONS.get(failure.errno or 0, failure.strerror)}") from failure


_REASONS = {errno.EBUSY: "another program uses it", errno.EINVAL: "it is there, and no TUN device"}


def _interface_of(fd: int) -> tuple[str, int]:
    """Name and flags of the interface that a descriptor is attached to."""
    import fcntl

    try:
        answer = fcntl.ioctl(fd, _TUNGETIFF, bytes(_INTERFACE_REQUEST.size))
    except OSError as error:
        raise UsageError("the descriptor is none of a TUN device that is attached to an interface") from error
    name, flags = _INTERFACE_REQUEST.unpack(answer)
    return name.rstrip(b"\0").decode(), flags


def _kernel_flags(name: str) -> int:
    """Flags of a device as sysfs has them: in what the descriptor says, IFF_NOFILTER hides IFF_NO_PI."""
    try:
        return int(Path("/sys/class/net", name, "tun_flags").read_text(), 16)
    except OSError:
        return _IFF_NO_PI


def _ask_offloads(fd: int) -> tuple[str, ...]:
    import fcntl

    # Whoever had the device before may have left a longer header.
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, _INT.pack(VNET_HEADER_BYTES))
    for flags, names in _OFFLOADS:
        try:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, flags)
        except OSError:
            continue
        return names
    return ()


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
