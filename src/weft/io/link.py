"""What anybody may know of an interface of this machine, without netlink and without rights.

Source: Linux, netdevice(7); Documentation/networking/ipv6 for the columns of /proc/net/if_inet6; proc_net(5) for those
of /proc/net/dev.
"""

from __future__ import annotations

import socket
from ipaddress import IPv6Address
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from weft.errors import UsageError

_SIOCGIFFLAGS, _SIOCGIFMTU = 0x8913, 0x8921
_IFF_UP = 0x1
_FLAGS, _MTU = Struct("16sh22x"), Struct("16si20x")


class Link(NamedTuple):
    """An interface as it is."""

    is_up: bool
    mtu: int
    addresses: list[IPv6Address]


def look_at(ifname: str) -> Link:
    """What there is to know of an interface.

    Raises:
        UsageError: there is none of that name in this network namespace.
    """
    import fcntl

    name = ifname.encode()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            _, flags = _FLAGS.unpack(fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _FLAGS.pack(name, 0)))
            _, mtu = _MTU.unpack(fcntl.ioctl(any_socket, _SIOCGIFMTU, _MTU.pack(name, 0)))
    except OSError as error:
        raise UsageError(f"there is no interface {ifname} in the network namespace of this daemon") from error
    return Link(bool(flags & _IFF_UP), mtu, [address for address, owner in _addresses() if owner == ifname])


class Counters(NamedTuple):
    """What has passed an interface, as the machine sees it."""

    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int
    drops: int


def counters(ifname: str) -> Counters:
    """What has passed an interface; zeros if there is none of that name."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, columns = line.partition(":")
        if name.strip() == ifname:
            numbers = [int(word) for word in columns.split()]
            received, sent = numbers[:8], numbers[8:]
            return Counters(received[1], received[0], sent[1], sent[0], received[3] + sent[3])
    return Counters(0, 0, 0, 0, 0)


def _addresses() -> list[tuple[IPv6Address, str]]:
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return []
    return [(IPv6Address(int(words[0], 16)), words[5]) for words in map(str.split, lines)]
