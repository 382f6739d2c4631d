"""What passes an interface of the underlay: recorded, and sent once more as it was."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.system.lab import Interface
from weft.testing.device import inside_namespace

SO_RCVBUFFORCE = 33
BUFFER_BYTES = 1 << 26
ETH_P_ALL = 3
PACKET_OUTGOING = 4
ETHERNET_BYTES = 14
IP4, IP6, UDP = b"\x08\0", b"\x86\xdd", 17


@dataclass(frozen=True)
class Datagram:
    """One that passed."""

    is_outgoing: bool
    payload: bytes
    frame: bytes


class Tap:
    """Records what passes an interface, frame by frame and with its checksums; see `tapped`."""

    def __init__(self, tap: socket.socket) -> None:
        self._tap = tap
        self._datagrams: list[Datagram] = []

    def datagrams(self) -> list[Datagram]:
        """What passed until now."""
        while True:
            try:
                frame, (_, _, kind, *_) = self._tap.recvfrom(1 << 16)
            except BlockingIOError:
                return self._datagrams
            payload = udp_payload(frame)
            if payload is not None:
                self._datagrams.append(Datagram(kind == PACKET_OUTGOING, payload, frame))

    def sent(self) -> list[bytes]:
        """The payloads of those that went out."""
        return [datagram.payload for datagram in self.datagrams() if datagram.is_outgoing]

    def received(self) -> list[bytes]:
        """The payloads of those that came in."""
        return [datagram.payload for datagram in self.datagrams() if not datagram.is_outgoing]

    def send_again(self) -> int:
        """Send once more what went out until now; the number of datagrams."""
        frames = [datagram.frame for datagram in self.datagrams() if datagram.is_outgoing]
        for frame in frames:
            self._tap.send(frame)
        return len(frames)


@contextmanager
def tapped(end: Interface) -> Iterator[Tap]:
    """Record what passes an interface while the block runs."""
    # Else the frames would be without checksums, which nobody takes from outside.
    end.features(tx=False, rx=False)
    with inside_namespace(end.host.namespace):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with tap:
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        tap.bind((end.ifname, ETH_P_ALL))
        tap.setblocking(False)
        yield Tap(tap)


def udp_payload(frame: bytes) -> bytes | None:
    """The payload of a UDP datagram over IPv4 or IPv6; None if the frame has something else."""
    kind, packet = frame[12:ETHERNET_BYTES], frame[ETHERNET_BYTES:]
    if kind == IP4 and packet[9] == UDP:
        start = (packet[0] & 15) * 4
    elif kind == IP6 and packet[6] == UDP:
        start = 40
    else:
        return None
    (length,) = struct.unpack_from(">H", packet, start + 4)
    return packet[start + 8 : start + length]
