"""TCP streams whose bytes are compared at their end.

As a program, which runs in the namespaces of both hosts:

    python -m tests.interop.courier receive ADDRESS STREAMS     prints the digest of each stream, sorted
    python -m tests.interop.courier send ADDRESS STREAMS        the same, of what it sent until its standard input ended
"""

from __future__ import annotations

import hashlib
import random
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from tests.interop.waiting import until
from tests.system.lab import Host

PORT = 7000
LEAST_BYTES = 2_000_003
"""Of each stream; odd, so that no segment is like another."""
CHUNK_BYTES = 50_001


class Transfer:
    """Streams at once from one host to another, which run until they are ended."""

    def __init__(self, sender: Host, receiver: Host, address: str, streams: int = 1) -> None:
        words = (sys.executable, "-m", __name__)
        self._receiver = receiver.start(*words, "receive", address, str(streams), name="receiver")
        self._receiver.wait_for("listening\n")
        self._sender = sender.start(*words, "send", address, str(streams), name="sender")
        self._sender.wait_for("sending\n")

    @property
    def running(self) -> bool:
        return self._sender.running and self._receiver.running

    def ends_byte_exact(self, timeout_s: float = 30) -> bool:
        """End the streams; whether all arrived as they were sent."""
        assert self._sender.popen.stdin
        self._sender.popen.stdin.close()
        until(lambda: not self.running, "the end of the streams", timeout_s)
        sent, received = (process.wait_for("done\n").split("ing\n")[1] for process in (self._sender, self._receiver))
        return sent == received


def digest_of(connection: socket.socket) -> str:
    digest = hashlib.sha256()
    with connection:
        while data := connection.recv(1 << 16):
            digest.update(data)
    return digest.hexdigest()


def fill(connection: socket.socket, seed: int, ended: threading.Event) -> str:
    source, digest, sent = random.Random(seed), hashlib.sha256(), 0
    with connection:
        while sent < LEAST_BYTES or not ended.is_set():
            data = source.randbytes(CHUNK_BYTES)
            connection.sendall(data)
            digest.update(data)
            sent += len(data)
    return digest.hexdigest()


def receive(address: str, streams: int) -> list[str]:
    """Take as many streams until each has ended."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, PORT), family=family) as listener:
        print("listening")
        connections = [listener.accept()[0] for _ in range(streams)]
    with ThreadPoolExecutor(streams) as pool:
        return list(pool.map(digest_of, connections))


def send(address: str, streams: int) -> list[str]:
    """Open as many streams and fill them at once."""
    connections = [socket.create_connection((address, PORT)) for _ in range(streams)]
    print("sending")
    ended = threading.Event()
    with ThreadPoolExecutor(streams) as pool:
        digests = pool.map(lambda place: fill(connections[place], place, ended), range(streams))
        sys.stdin.read()
        ended.set()
        return list(digests)


if __name__ == "__main__":
    role, address, streams = sys.argv[1:]
    digests = {"receive": receive, "send": send}[role](address, int(streams))
    print("\n".join(sorted(digests)))
    print("done")
