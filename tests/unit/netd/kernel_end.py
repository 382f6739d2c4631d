"""The kernel in the place of one of two hosts that are joined: a TUN in a namespace of its own, and sockets there."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Interface, IPv6Interface, ip_network

from tests.system.lab import Host
from tests.unit.api.streams.joined import Node
from weft.burst.records import KIND_TCP, KIND_UDP
from weft.engine.peer import Network
from weft.io.device import MAX_PACKET_BYTES
from weft.io.kernel.backend import KernelBackend
from weft.io.tun import Tun
from weft.packet.checksum import complete, write_pseudo_header_sum
from weft.packet.protocols import TCP
from weft.testing.device import inside_namespace

IFNAME = "weft0"


class KernelEnd:
    """What tests get of it, as of a `Node`."""

    ipv4, ipv6 = "10.7.0.1", "fc00::1"

    def __init__(self, tun: Tun, right: Node) -> None:
        own = (IPv6Interface(self.ipv6), IPv4Interface(f"{self.ipv4}/24"))
        self.networks: frozenset[Network] = frozenset({ip_network(right.ipv4), ip_network("fc00::/64")})
        self.backend = KernelBackend(IFNAME, lambda: own, lambda: self.networks, time.monotonic_ns, os.urandom)
        self.is_cut = self.is_over = False
        self.sent: list[bytes] = []
        self._tun = tun
        self._right = right
        self._buffer = bytearray(MAX_PACKET_BYTES)

    async def end(self) -> None:
        """The interface goes."""
        self.is_over = True
        await self.backend.end()

    def read(self) -> None:
        """Take what the kernel sends to the other one."""
        while (read := self._tun.read(memoryview(self._buffer))) is not None:
            if not self.is_cut:
                self.sent.append(bytes(self._buffer[: read.length]))
                self._right.receive(self.sent[-1], read.segment, is_partial=read.is_partial)

    def receive(self, packet: bytes, segment: int, *, is_partial: bool) -> None:
        """Give the kernel what the other one sends."""
        whole = bytearray(packet)
        is_ipv6 = whole[0] >> 4 == 6
        start, protocol = (40, whole[6]) if is_ipv6 else ((whole[0] & 15) * 4, whole[9])
        if not segment:
            if is_partial:
                complete(whole, start, protocol)
            self._tun.write([whole])
            return
        write_pseudo_header_sum(whole, start, protocol)
        length = (whole[start + 12] >> 4) * 4 if protocol == TCP else 8
        self._tun.write_super([whole], KIND_TCP if protocol == TCP else KIND_UDP, segment, start, start + length)


@asynccontextmanager
async def kernel_end(host: Host, right: Node) -> AsyncIterator[KernelEnd]:
    """The kernel on the left, in a namespace in which the caller is until the block ends."""
    loop = asyncio.get_running_loop()
    with inside_namespace(host.namespace):
        tun = Tun(IFNAME)
        for address in (f"{KernelEnd.ipv6}/128", f"{KernelEnd.ipv4}/24"):
            host.ip("addr", "add", address, "dev", IFNAME, *(("nodad",) if ":" in address else ()))
        host.ip("link", "set", IFNAME, "mtu", "1352", "up")
        host.ip("route", "add", "fc00::/8", "dev", IFNAME)
        end = KernelEnd(tun, right)
        right.other = end  # type: ignore[assignment]
        loop.add_reader(tun, end.read)
        try:
            yield end
        finally:
            if not end.is_over:
                await end.end()
            loop.remove_reader(tun)
            tun.close()
