"""Packets from host 2 to host 1 of `wire.make_host`, made by scapy, and one host to give them to."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from tests.unit.stack.wire import make_host
from weft.stack.endpoint import Endpoint
from weft.stack.host import Host
from weft.stack.udp_socket import UdpSocket

V4 = {"src": "10.7.0.2", "dst": "10.7.0.1"}
V6 = {"src": "fc00::2", "dst": "fc00::1"}
PORT = 4000


def ip4(**fields: Any) -> Packet:
    return IP(**(V4 | fields))


def ip6(**fields: Any) -> Packet:
    return IPv6(**(V6 | fields))


class Target:
    """Host 1 with a UDP socket on `PORT`."""

    def __init__(self) -> None:
        self.host: Host = make_host(1)
        self.socket: UdpSocket = self.host.udp.open(Endpoint(bytes(16), PORT))

    def receive(self, packet: Packet | bytes, now: int = 1, **options: Any) -> list[Packet]:
        """Give it a packet; returns what it answers."""
        buffer = bytearray(bytes(packet))
        self.host.receive(memoryview(buffer), now, **options)
        buffer[:] = b"\xa5" * len(buffer)
        return self.answers(now)

    def answers(self, now: int = 1) -> list[Packet]:
        """What it sends."""
        sent = []
        while (outgoing := self.host.next_packet(now)) is not None:
            packet = b"".join(outgoing.parts)
            sent.append(IPv6(packet) if packet[0] >> 4 == 6 else IP(packet))
        return sent

    @property
    def data(self) -> bytes | None:
        """What the socket received, or None."""
        datagram = self.socket.receive()
        return None if datagram is None else datagram[0]


def parameter_problem(answers: list[Packet]) -> tuple[int, int] | None:
    """Code and pointer of the one answer, which is a parameter problem; None if there is no answer."""
    if not answers:
        return None
    (answer,) = answers
    message = bytes(answer[IPv6].payload)
    assert message[0] == 4
    return message[1], int.from_bytes(message[4:8], "big")


def error_v4(answers: list[Packet]) -> tuple[int, int] | None:
    """Type and code of the one answer, an ICMP message; None if there is no answer."""
    if not answers:
        return None
    (answer,) = answers
    return answer[ICMP].type, answer[ICMP].code
