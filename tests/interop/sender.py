"""Datagrams that nobody asked for, sent from a host to an endpoint.

As a program, which runs in the namespace of the host, it takes one line with all of them in hexadecimal:

    python -m tests.interop.sender HOST PORT           sends them once
    python -m tests.interop.sender HOST PORT PAUSE_S   again and again, with a pause
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.system.lab import Host

FLOOD_PAUSE_S = 0.2


def send(host: Host, address: str, port: int, datagrams: Sequence[bytes]) -> None:
    """Send each once."""
    process = host.start(sys.executable, "-m", __name__, address, str(port), name="sender")
    process.ask(" ".join(datagram.hex() for datagram in datagrams))
    process.stop()


@contextmanager
def flood(host: Host, address: str, port: int, datagrams: Sequence[bytes]) -> Iterator[None]:
    """Send all of them again and again while the block runs."""
    process = host.start(sys.executable, "-m", __name__, address, str(port), str(FLOOD_PAUSE_S), name="flood")
    process.ask(" ".join(datagram.hex() for datagram in datagrams))
    process.wait_for("round 3\n")
    try:
        yield
        assert process.running
    finally:
        process.stop()


def main(host: str, port: str, pause_s: str = "") -> None:
    """Send what standard input gives."""
    datagrams = [bytes.fromhex(word) for word in sys.stdin.readline().split()]
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    rounds = 0
    with socket.socket(family, kind, protocol) as sender:
        while pause_s or not rounds:
            for datagram in datagrams:
                sender.sendto(datagram, address)
            rounds += 1
            print(f"round {rounds}")
            time.sleep(float(pause_s or 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
