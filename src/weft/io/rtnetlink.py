"""How messages of rtnetlink look, for whoever speaks it without a package.

Layout of a notification or an answer: messages, each with a header of 16 bytes (length, kind, flags, sequence, port), a
body of its kind, and attributes (length, kind, content), all padded to multiples of four bytes.

Source: Linux, netlink(7), rtnetlink(7), if_link.h, if_addr.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, error
from typing import Final

HEADER: Final = Struct("=IHHII")
LINK: Final = Struct("=BxHiII")
"""Family, type, index, flags, mask of flags."""
ADDRESS: Final = Struct("=BBBBI")
"""Family, prefix length, flags, scope, index."""
ATTRIBUTE: Final = Struct("=HH")

NLMSG_ERROR, NLMSG_DONE = 2, 3
NEW_LINK, DEL_LINK, GET_LINK, NEW_ADDRESS, DEL_ADDRESS, GET_ADDRESS = 16, 17, 18, 20, 21, 22
NEW_ROUTE, DEL_ROUTE = 24, 25

IFLA_IFNAME, IFLA_MTU = 3, 4
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFF_UP, IFF_RUNNING, IFF_LOWER_UP = 0x1, 0x40, 0x10000
IFA_F_UNUSABLE: Final = 0x20 | 0x08 | 0x40
"""Deprecated, duplicate, tentative."""


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each message.

    Raises:
        struct.error: it is torn.
    """
    at = 0
    while at < len(data):
        length, kind, *_ = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            raise error("a message without a length")
        yield kind, data[at + HEADER.size : at + length]
        at += length + -length % 4


def attributes(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the attributes in a body from an offset on."""
    while at + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if length < ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, body[at + ATTRIBUTE.size : at + length]
        at += length + -length % 4


def address_of(body: bytes) -> tuple[int, bytes, int]:
    """The index, the address and the flags that a message about an address tells."""
    _, _, flags, _, index = ADDRESS.unpack_from(body)
    found = dict(attributes(body, ADDRESS.size))
    # The lower eight flags are in the header, all of them in an attribute.
    flags |= int.from_bytes(found.get(IFA_FLAGS, b"")[:1], "little")
    return index, found.get(IFA_LOCAL) or found.get(IFA_ADDRESS, b""), flags
