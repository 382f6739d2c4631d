"""What passes an interface of the underlay: recorded, and sent once more as it was.

As a program, which `Tap` runs in the namespace of the interface, it takes a line and answers with a number:

    write FILE   writes all that passed since the start: JSON list of [is outgoing, UDP payload in hexadecimal]
    again        sends once more, frame by frame, all that went out
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.system.lab import Interface, Lab

ETH_P_ALL = 3
PACKET_OUTGOING = 4
ETHERNET_BYTES = 14
UDP = 17


@dataclass(frozen=True)
class Datagram:
    """One that passed."""

    is_outgoing: bool
    payload: bytes


class Tap:
    """Records from now on what passes an interface, frame by frame and with its checksums."""

    def __init__(self, lab: Lab, end: Interface) -> None:
        end.features(tx=False, rx=False)
        self._file = lab.directory(f"tap-{end.host.name}-{end.ifname}") / "datagrams.json"
        self._process = end.host.start(sys.executable, "-m", __name__, end.ifname, name="tap")
        self._process.wait_for("recording")

    def datagrams(self) -> list[Datagram]:
        """What passed until now."""
        self._process.ask(f"write {self._file}")
        return [
            Datagram(is_outgoing, bytes.fromhex(payload)) for is_outgoing, payload in json.loads(self._file.read_text())
        ]

    def send_again(self) -> int:
        """Send once more what went out until now; the number of datagrams."""
        return int(self._process.ask("again"))


def udp_payload(frame: bytes) -> bytes | None:
    """The payload of a UDP datagram over IPv4 or IPv6; None if the frame has something else."""
    packet = frame[ETHERNET_BYTES:]
    is_ip4, is_ip6 = frame[12:14] == b"\x08\0" and packet[9] == UDP, frame[12:14] == b"\x86\xdd" and packet[6] == UDP
    if not is_ip4 and not is_ip6:
        return None
    start = (packet[0] & 15) * 4 if is_ip4 else 40
    (length,) = struct.unpack_from(">H", packet, start + 4)
    return packet[start + 8 : start + length]


def main(ifname: str) -> None:
    """Record until standard input ends."""
    frames: list[tuple[bool, bytes, bytes]] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        tap.bind((ifname, ETH_P_ALL))
        print("recording")
        while True:
            ready, _, _ = select.select([tap, sys.stdin], [], [])
            if tap in ready:
                frame, (_, _, kind, *_) = tap.recvfrom(1 << 16)
                payload = udp_payload(frame)
                if payload is not None:
                    frames.append((kind == PACKET_OUTGOING, payload, frame))
                continue
            line = sys.stdin.readline()
            if not line:
                return
            print(answer(line.split(), frames, tap))


def answer(words: list[str], frames: list[tuple[bool, bytes, bytes]], tap: socket.socket) -> int:
    """Do what a line asks for."""
    if words[0] == "write":
        Path(words[1]).write_text(json.dumps([(is_outgoing, payload.hex()) for is_outgoing, payload, _ in frames]))
        return len(frames)
    gone = [frame for is_outgoing, _, frame in frames if is_outgoing]
    for frame in gone:
        tap.send(frame)
    return len(gone)


if __name__ == "__main__":
    main(sys.argv[1])
