"""The capture file that tcpdump and Wireshark read: packets with their times, one after the other.

    0   4  magic: 0xA1B23C4D, which says nanoseconds
    4   2  major version: 2
    6   2  minor version: 4
    8   8  zeros
    16  4  bytes of a packet that are kept at most
    20  4  link type: 101, packets begin with their IP header of either version

    then for each packet
    0   4  seconds since 1970
    4   4  nanoseconds of that second
    8   4  bytes that are kept
    12  4  bytes that the packet had
    16  …  the packet

All numbers are little-endian.

Source: draft-ietf-opsawg-pcap, sections 4 and 5; link types of tcpdump.org (LINKTYPE_RAW).
"""

from __future__ import annotations

import struct
from typing import Final

LINKTYPE_RAW: Final = 101
MAGIC: Final = 0xA1B23C4D

_FILE: Final = struct.Struct("<IHHIIII")
_PACKET: Final = struct.Struct("<IIII")
_S: Final = 1_000_000_000


def encode_file_header(snap: int) -> bytes:
    """Encode what the file begins with, 24 bytes.

    Args:
        snap: bytes of a packet that are kept at most.
    """
    return _FILE.pack(MAGIC, 2, 4, 0, 0, snap, LINKTYPE_RAW)


def encode_packet(time_ns: int, length: int, data: bytes) -> bytes:
    """Encode one packet with its header.

    Args:
        time_ns: since 1970.
        length: bytes that the packet had.
        data: those that are kept.
    """
    return _PACKET.pack(time_ns // _S & 0xFFFFFFFF, time_ns % _S, len(data), length) + data
