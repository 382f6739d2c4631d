"""Datagrams that nobody should send, but somebody will: random ones, and genuine ones that were cut or changed."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from struct import Struct

from tests.system.lab import Host, Interface
from tests.system.node import PORT
from weft.testing.device import inside_namespace

ETH_P_IP = 0x0800
SO_RCVBUFFORCE = 33
IPV4_UDP_BYTES = 28
MTU = 1500
UDP = Struct(">HHHH")
DATA = Struct("<IIQ")
PIECE = Struct("<IIQHBB")
LENGTHS = (0, 1, 3, 4, 15, 16, 19, 20, 31, 32, 63, 64, 65, 91, 92, 147, 148, 149, 512, 1432, 1472, 9000)


class Ear:
    """Hears the datagrams that come to weft's port of an interface, over IPv4."""

    def __init__(self, end: Interface) -> None:
        with inside_namespace(end.host.namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 * 1024 * 1024)
        self._socket.bind((end.ifname, ETH_P_IP))
        self._socket.settimeout(5)

    def hear(self, count: int) -> list[bytes]:
        """The next so many of types 4 and 5."""
        found: list[bytes] = []
        while len(found) < count:
            packet = self._socket.recv(65_535)
            # A super-packet holds many.
            datagram = packet[IPV4_UDP_BYTES:MTU]
            if packet[9] == socket.IPPROTO_UDP and datagram[:1] in {b"\x04", b"\x05"}:
                found.append(datagram)
        return found

    def close(self) -> None:
        self._socket.close()


class Voice:
    """Sends datagrams to weft's port at an IPv4 address: from any port, or as if from weft's own."""

    def __init__(self, host: Host, address: str) -> None:
        self._address = address
        with inside_namespace(host.namespace):
            self._plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)

    def say(self, datagram: bytes, *, as_weft: bool) -> None:
        if as_weft:
            self._raw.sendto(UDP.pack(PORT, PORT, UDP.size + len(datagram), 0) + datagram, (self._address, 0))
        else:
            self._plain.sendto(datagram, (self._address, PORT))

    def close(self) -> None:
        self._plain.close()
        self._raw.close()


def hostile_datagrams(chance: random.Random, genuine: list[bytes]) -> Iterator[bytes]:
    """Datagrams of all wrong kinds, without end.

    Args:
        chance: seeded.
        genuine: datagrams of types 4 and 5 that crossed before.
    """
    indices = [DATA.unpack_from(datagram)[1] for datagram in genuine]
    counters = [DATA.unpack_from(datagram)[2] for datagram in genuine]

    def noise() -> bytes:
        return chance.randbytes(chance.choice(LENGTHS))

    def counter() -> int:
        return chance.choice([0, chance.choice(counters), max(counters) + chance.randrange(10_000), 2**64 - 1])

    def message() -> bytes:
        return bytes([chance.randrange(7), 0, 0, 0]) + noise()

    def data() -> bytes:
        return DATA.pack(4, chance.choice(indices), counter()) + noise()

    def piece() -> bytes:
        total = chance.choice([0, 1, 16, 17, 1000, 5000, 64_400, 65_535])
        number, count = chance.randrange(256), chance.choice([0, 1, 2, 3, 40, 64, 255])
        return PIECE.pack(5, chance.choice(indices), counter(), total, number % (count or 1), count) + noise()

    def cut() -> bytes:
        datagram = chance.choice(genuine)
        return datagram[: chance.randrange(len(datagram))]

    def changed() -> bytes:
        datagram = bytearray(chance.choice(genuine))
        for _ in range(chance.randrange(1, 4)):
            datagram[chance.randrange(len(datagram))] ^= 1 << chance.randrange(8)
        return bytes(datagram)

    def again() -> bytes:
        return chance.choice(genuine)

    def stun() -> bytes:
        return b"\x00\x01\x00\x00\x21\x12\xa4\x42" + noise()

    def session_message() -> bytes:
        return bytes.fromhex("f09faa84f09fa7a6") + noise()

    kinds: list[Callable[[], bytes]] = [noise, message, data, piece, cut, changed, again, stun, session_message]
    while True:
        yield chance.choice(kinds)()
