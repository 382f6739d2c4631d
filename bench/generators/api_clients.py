"""Clients of a daemon's API that ask without a pause, each on a connection of its own that is kept.

Usage: python -m bench.generators.api_clients SOCKET CLIENTS SECONDS
Prints how many requests were answered, how long that took, and how many milliseconds the 99th of 100 answers took.
The clients do as little as can be, for they share the machine with the daemon.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

REQUEST = b"GET /v0/info HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"
LARGEST_REPLY = 1 << 16


def is_whole(reply: bytes) -> bool:
    """Whether a reply has come to its end; ends the program where it is none of success."""
    head, _, body = reply.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise SystemExit(f"api_clients: answered {reply[:200]!r}")
    return len(body) == int(head.lower().partition(b"content-length:")[2].split()[0])


def ask(path: str, clients: int, seconds: float) -> tuple[int, float, float]:
    """Ask for so long; returns the answers, the seconds, and the milliseconds of the slowest hundredth."""
    selector = selectors.DefaultSelector()
    for _ in range(clients):
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        client.send(REQUEST)
        selector.register(client, selectors.EVENT_READ, time.perf_counter())
    started, times = time.perf_counter(), []
    while (now := time.perf_counter()) < started + seconds:
        for key, _ in selector.select(1):
            client = key.fileobj
            assert isinstance(client, socket.socket)
            if not is_whole(client.recv(LARGEST_REPLY)):
                raise SystemExit("api_clients: a reply came in pieces")
            now = time.perf_counter()
            times.append(now - key.data)
            client.send(REQUEST)
            selector.modify(client, selectors.EVENT_READ, now)
    times.sort()
    return len(times), now - started, 1000 * times[len(times) * 99 // 100]


if __name__ == "__main__":
    print(*ask(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
