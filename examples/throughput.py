"""How fast one TCP stream is between two machines, where there is no iperf3.

python throughput.py receive ADDRESS            on one of them
python throughput.py send ADDRESS SECONDS       on the other
"""

from __future__ import annotations

import socket
import sys
import time

PORT = 5201
CHUNK = bytes(256 * 1024)
GIB, GIGABIT = 2**30, 1e9


def receive(address: str) -> None:
    """Take one stream, and answer its end with the number of bytes that came."""
    with socket.create_server((address, PORT), family=socket.AF_INET6) as server:
        connection, _ = server.accept()
    with connection:
        got = 0
        while data := connection.recv(len(CHUNK)):
            got += len(data)
        connection.sendall(got.to_bytes(8, "big"))


def send(address: str, seconds: float) -> None:
    """Send for so long, and say what arrived."""
    with socket.create_connection((address, PORT), timeout=30) as connection:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            connection.sendall(CHUNK)
        connection.shutdown(socket.SHUT_WR)
        got = int.from_bytes(connection.recv(8, socket.MSG_WAITALL), "big")
        took = time.monotonic() - began
    print(f"TCP 0.00-{took:.2f} sec {got / GIB:.2f} GBytes {got * 8 / took / GIGABIT:.2f} Gbits/sec receiver")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["receive", address]:
            receive(address)
        case ["send", address, seconds]:
            send(address, float(seconds))
        case _:
            sys.exit(__doc__)
