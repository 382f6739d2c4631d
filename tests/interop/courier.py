"""Streams whose bytes are known beforehand, sent and checked by two programs.

python -m tests.interop.courier receive ADDRESS STREAMS     prints the digest of each stream, sorted
python -m tests.interop.courier send ADDRESS STREAMS        the same, of what it sent
"""

from __future__ import annotations

import hashlib
import random
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.system.lab import Host

PORT = 7000
STREAM_BYTES = 2_000_003


def crosses_byte_exact(sender: Host, receiver: Host, address: str, streams: int) -> bool:
    """Whether as many streams at once arrive as they were sent."""
    words = (sys.executable, "-m", __name__)
    listener = receiver.start(*words, "receive", address, str(streams), name="receiver")
    listener.wait_for("listening\n")
    sent = sender.run(*words, "send", address, str(streams))
    got = listener.wait_for("done\n")
    assert sent.count("\n") == streams
    return got.split("listening\n")[1] == f"{sent}done\n"


def receive(address: str, streams: int) -> list[str]:
    """Take streams until each has ended."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, PORT), family=family) as listener:
        print("listening")
        connections = [listener.accept()[0] for _ in range(streams)]
        with ThreadPoolExecutor(streams) as pool:
            return list(pool.map(digest_of, connections))


def digest_of(connection: socket.socket) -> str:
    digest = hashlib.sha256()
    with connection:
        while data := connection.recv(1 << 16):
            digest.update(data)
    return digest.hexdigest()


def send(address: str, streams: int) -> list[str]:
    """Open all streams, then fill them at once."""
    connections = [socket.create_connection((address, PORT)) for _ in range(streams)]
    with ThreadPoolExecutor(streams) as pool:
        return list(pool.map(fill, connections, range(streams)))


def fill(connection: socket.socket, seed: int) -> str:
    data = random.Random(seed).randbytes(STREAM_BYTES)
    with connection:
        connection.sendall(data)
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    role, address, streams = sys.argv[1:]
    digests = {"receive": receive, "send": send}[role](address, int(streams))
    print("\n".join(sorted(digests)))
    if role == "receive":
        print("done")
