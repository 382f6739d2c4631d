"""Datagrams that nobody asked for, sent from a host to an endpoint."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.system.lab import Host
from tests.system.traffic import socket_of

FLOOD_PAUSE_S = 0.2


def send(host: Host, address: str, port: int, datagrams: Sequence[bytes]) -> None:
    """Send each once."""
    with socket_of(host, address, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, (address, port))


@contextmanager
def flood(host: Host, address: str, port: int, datagrams: Sequence[bytes]) -> Iterator[None]:
    """Send all of them at once, again and again, while the block runs."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(FLOOD_PAUSE_S):
            send(host, address, port, datagrams)

    sender = threading.Thread(target=run, daemon=True)
    sender.start()
    try:
        yield
    finally:
        ended.set()
        sender.join()
