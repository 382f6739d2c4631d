"""The floor under any tunnel in asyncio Python: burst_floor.c's way and wire format, in one thread and one event loop.

What one read of the TUN gives is sealed by one AEAD call, cut into datagrams that leave in one send, put together and
opened once. No handshake, peers, replay window or firewall; a burst that is not whole and in order is dropped.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 1, 2, 4
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
UDP_SEGMENT, UDP_GRO = 103, 104

HEADER = Struct("<IIQII")  # type, receiver, counter, offset, total
NONCE = Struct("<4xQ")
SEGMENT, SEGMENT_RECEIVED = Struct("=H"), Struct("=i")
INTERFACE_REQUEST = Struct("16sH22x")

TAG = 16
PIECE = 1424  # bytes of ciphertext in a datagram
PIECES_PER_SEND = 45  # full ones
LARGEST_SEND = 65507
BUFFER = 70000
SOCKET_BUFFER = 8 << 20
READS_PER_WAKE = 16
SHORT = 1000  # a read of less is taken for the last: one more would cost an idle round trip up to a tenth


def open_tun(name: str) -> int:
    """A TUN device with a virtio header that gives and takes TCP super-packets."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, INTERFACE_REQUEST.pack(name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)
    return tun


def open_udp(local: tuple[str, int], remote: tuple[str, int]) -> socket.socket:
    """A socket between the two ends. Sends wait for room, as those of the C floors do; receives are told not to."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(local)
    udp.connect(remote)
    udp.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
        udp.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
    return udp


class Floor:
    """Both directions; `outbound` and `inbound` are called when there is something to read."""

    def __init__(self, tun: int, udp: socket.socket) -> None:
        self.tun, self.udp = tun, udp
        self.cipher = ChaCha20Poly1305(bytes(32))
        self.counter = 0
        self.plain, self.sealed, self.datagrams, self.opened = (memoryview(bytearray(BUFFER)) for _ in range(4))
        self.joined = bytearray()

    def outbound(self) -> None:
        """Seal and send what the TUN has."""
        for _ in range(READS_PER_WAKE):
            try:
                total = os.readv(self.tun, [self.plain]) + TAG
            except BlockingIOError:
                return
            nonce = NONCE.pack(self.counter)
            self.cipher.encrypt_into(nonce, self.plain[: total - TAG], None, self.sealed[:total])
            offsets = range(0, total, PIECE)
            fits = total + len(offsets) * HEADER.size <= LARGEST_SEND
            for turn in (offsets,) if fits else (offsets[:PIECES_PER_SEND], offsets[PIECES_PER_SEND:]):
                self.send(turn, total)
            self.counter += 1
            if total < SHORT:
                return

    def send(self, offsets: range, total: int) -> None:
        """Send pieces of the sealed burst in one call."""
        parts: list[bytes | memoryview] = []
        for offset in offsets:
            parts += HEADER.pack(128, 1, self.counter, offset, total), self.sealed[offset : min(offset + PIECE, total)]
        control = [(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT.pack(HEADER.size + PIECE))] if len(offsets) > 1 else []
        try:
            self.udp.sendmsg(parts, control)
        except ConnectionRefusedError:
            return  # the other end is not up yet

    def inbound(self) -> None:
        """Join what the socket has to bursts, open them, and write them to the TUN."""
        for _ in range(READS_PER_WAKE):
            try:
                end, control, _, _ = self.udp.recvmsg_into([self.datagrams], 64, socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionRefusedError):
                return
            segment = SEGMENT_RECEIVED.unpack(control[0][2])[0] if control else end
            _, _, counter, offset, total = HEADER.unpack_from(self.datagrams)
            starts = range(0, end, segment)
            if offset == 0 and end - len(starts) * HEADER.size == total:
                parts = [self.datagrams[start + HEADER.size : min(start + segment, end)] for start in starts]
                self.deliver(counter, parts[0] if len(parts) == 1 else b"".join(parts))
            else:
                for start in starts:
                    self.join(self.datagrams[start : min(start + segment, end)])
            if end < SHORT:
                return

    def join(self, datagram: memoryview) -> None:
        """Take one piece of a burst that came in more than one receive."""
        _, _, counter, offset, total = HEADER.unpack_from(datagram)
        if offset == 0:
            self.joined.clear()
        self.joined += datagram[HEADER.size :]
        if len(self.joined) == total:
            self.deliver(counter, self.joined)

    def deliver(self, counter: int, sealed: bytes | bytearray | memoryview) -> None:
        """Open a whole burst and write it."""
        opened = self.opened[: len(sealed) - TAG]
        try:
            self.cipher.decrypt_into(NONCE.pack(counter), sealed, None, opened)
            os.write(self.tun, opened)
        except (InvalidTag, OSError):
            return  # a full queue drops, as any link does


async def run_tunnel(name: str, local: tuple[str, int], remote: tuple[str, int]) -> None:
    """Carry packets for ever."""
    floor = Floor(open_tun(name), open_udp(local, remote))
    loop = asyncio.get_running_loop()
    loop.add_reader(floor.tun, floor.outbound)
    loop.add_reader(floor.udp, floor.inbound)
    await loop.create_future()


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(f"usage: {sys.argv[0]} TUN LOCAL-ADDRESS LOCAL-PORT REMOTE-ADDRESS REMOTE-PORT")
    _, tun_name, local_address, local_port, remote_address, remote_port = sys.argv
    asyncio.run(run_tunnel(tun_name, (local_address, int(local_port)), (remote_address, int(remote_port))))
