"""Two hosts of the stack on one event loop, each driven as the engine drives it, with a wire between them.

    async with joined() as (left, right):
        server = await right.streams.start_server(handle, None, 80)
        reader, writer = await left.streams.open_connection(right.ipv6, 80)

Packets cross whole, super-packets too, and in order. `left.is_cut = True`: what left sends vanishes. `left.sent`: what
it sent.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_interface
from random import Random

from weft.api.streams import Streams
from weft.engine.driver import Driver
from weft.stack.host import Host

PACKETS_IN_A_TURN = 64
SENT_KEPT = 1000


class Peer(str):
    """What a node would know of the participant at an address."""

    __slots__ = ()


class Node:
    """One host with its asyncio face."""

    def __init__(self, number: int) -> None:
        self.ipv4 = f"10.7.0.{number}"
        self.ipv6 = f"fc00::{number}"
        self.host = Host(Random(number).randbytes)
        self.host.addresses.add(ip_interface(f"{self.ipv4}/24"))
        self.host.addresses.add(ip_interface(f"{self.ipv6}/64"))
        self.driver = Driver(self.host, time.monotonic_ns, self._transmit)
        self.names: dict[str, list[str]] = {}
        self.streams = Streams(self.driver, self._resolve, self._describe)
        self.other: Node | None = None
        self.is_cut = False
        self.sent: deque[bytes] = deque(maxlen=SENT_KEPT)

    def receive(self, packet: bytes, segment: int, *, is_partial: bool) -> None:
        self.host.receive(memoryview(packet), time.monotonic_ns(), segment=segment, is_partial=is_partial)
        self.driver.wake()

    def close(self) -> None:
        self.streams.close()
        self.driver.close()

    def _transmit(self) -> bool:
        for _ in range(PACKETS_IN_A_TURN):
            outgoing = self.host.next_packet(time.monotonic_ns())
            if outgoing is None:
                return False
            packet = b"".join(outgoing.parts)
            self.sent.append(packet)
            if self.other is not None and not self.is_cut:
                self.other.receive(packet, outgoing.segment, is_partial=outgoing.is_partial)
        return True

    async def _resolve(self, name: str, family: int) -> Sequence[bytes]:
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        addresses = [ip_address(address).packed for address in self.names[name]]
        lengths = {socket.AF_INET: (4,), socket.AF_INET6: (16,)}.get(socket.AddressFamily(family), (4, 16))
        return [address for address in addresses if len(address) in lengths]

    def _describe(self, address: bytes) -> Peer | None:
        return Peer(f"peer at {ip_address(address)}") if len(address) == 16 else None


@asynccontextmanager
async def joined() -> AsyncIterator[tuple[Node, Node]]:
    """Two hosts, until the block ends."""
    left, right = Node(1), Node(2)
    left.other, right.other = right, left
    left.names["right"] = right.names["right"] = [right.ipv6, right.ipv4]
    try:
        yield left, right
    finally:
        left.close()
        right.close()
