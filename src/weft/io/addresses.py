"""The addresses of this machine that are worth telling others.

Linux is asked by rtnetlink(7), which answers at once and needs no package; elsewhere sockets show some of them.

Source: Linux, rtnetlink(7), RTM_GETLINK and RTM_GETADDR.
Not done here: being told of changes (changes.py).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from struct import error
from typing import Final

from weft.io import rtnetlink
from weft.io.netlink import OVERLAY

_REQUEST_DUMP = 0x1 | 0x300
_ANSWER_BYTES = 65_536
_PATIENCE_S = 1.0
# Nothing is sent there (RFC 5737, RFC 3849): connecting a UDP socket only asks for the route.
_ANYWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


async def local_addresses() -> list[str]:
    """Return this machine's own addresses that are worth telling others, IPv4 first.

    Unicast addresses of interfaces that are up: no loopback, none of fc00::/8, link-local ones only where there is no
    other. On Linux all of them; elsewhere those from which the system would talk to the Internet and those that its own
    name has.
    """
    try:
        return suitable(_addresses_by_netlink())
    except (AttributeError, OSError, error):
        # In a thread, for the look-up of the own name may ask a server that does not answer.
        return suitable(await asyncio.to_thread(list, _addresses_by_socket()))


def suitable(addresses: Iterable[str]) -> list[str]:
    """Choose those addresses that others can reach; see `local_addresses`.

    Args:
        addresses: as text, an IPv6 one perhaps with its zone (`fe80::1%eth0`), which only a link-local one keeps.
    """
    values = {ip_address(address.partition("%")[0]): address for address in addresses}
    unicast = [
        value
        for value in sorted(values, key=lambda value: (value.version, int(value)))
        if not (value.is_loopback or value.is_unspecified or value.is_multicast)
        and not (isinstance(value, IPv6Address) and (value in OVERLAY or value.ipv4_mapped))
    ]
    return [str(value) for value in unicast if not value.is_link_local] or [values[value] for value in unicast]


def _addresses_by_netlink() -> Iterator[str]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
        asking.settimeout(_PATIENCE_S)
        usable = dict(_links_up(_dump(asking, rtnetlink.GET_LINK, rtnetlink.LINK.size)))
        for kind, body in _dump(asking, rtnetlink.GET_ADDRESS, rtnetlink.ADDRESS.size):
            index, address, flags = rtnetlink.address_of(body)
            is_usable = index in usable and len(address) in {4, 16} and not flags & rtnetlink.IFA_F_UNUSABLE
            if kind == rtnetlink.NEW_ADDRESS and is_usable:
                text = str(ip_address(address))
                yield f"{text}%{usable[index]}" if ":" in text else text


def _links_up(dump: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, str]]:
    """Index and name of the interfaces that are up and have their cable.

    IFF_RUNNING would say so too, but the kernel sees to it once a second only.
    """
    for kind, body in dump:
        _, _, index, flags, _ = rtnetlink.LINK.unpack_from(body)
        wanted = rtnetlink.IFF_UP | rtnetlink.IFF_LOWER_UP
        if kind == rtnetlink.NEW_LINK and flags & wanted == wanted:
            names = dict(rtnetlink.attributes(body, rtnetlink.LINK.size))
            yield index, names.get(rtnetlink.IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")


def _dump(asking: socket.socket, kind: int, body_bytes: int) -> Iterator[tuple[int, bytes]]:
    """All that the kernel has of a kind.

    Raises:
        OSError: it does not say.
    """
    header = rtnetlink.HEADER.pack(rtnetlink.HEADER.size + body_bytes, kind, _REQUEST_DUMP, 1, 0)
    asking.send(header + bytes(body_bytes))
    while True:
        for found, body in rtnetlink.messages(asking.recv(_ANSWER_BYTES)):
            if found == rtnetlink.NLMSG_DONE:
                return
            if found == rtnetlink.NLMSG_ERROR:
                raise OSError("the kernel does not tell")
            yield found, body


def _addresses_by_socket() -> Iterable[str]:
    for family, destination in _ANYWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((destination, 9))
            yield probe.getsockname()[0]
    with suppress(OSError):
        yield from (str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None))
