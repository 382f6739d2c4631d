"""One end of streams over blocking sockets of the kernel, a thread for each: as little work as can be.

Where the other end is what is measured, this one shares the machine with it.

Usage: python -m bench.generators.socket_ends
Does what generators/verbs.py says: `serve` a sink, or `transfer` to one, as traffic.py does, maybe by a proxy.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

from bench.generators.traffic import COUNT_BYTES, SINK, WRITE_BYTES
from bench.generators.verbs import obey

READ_BYTES = 1 << 20
CONNECT_S = 10


def sink(connection: socket.socket) -> None:
    """Take everything, and answer how much it was."""
    buffer, arrived = bytearray(READ_BYTES), 0
    with connection:
        while count := connection.recv_into(buffer):
            arrived += count
        connection.sendall(arrived.to_bytes(COUNT_BYTES, "big"))


def accept(server: socket.socket) -> None:
    """Serve whoever comes."""
    while True:
        connection, _ = server.accept()
        threading.Thread(target=sink, args=(connection,), daemon=True).start()


def connect_by(proxy: int, host: str, port: int) -> socket.socket:
    """Connect to an IPv6 address by SOCKS5 (RFC 1928), whose proxy listens on a port of this host."""
    connection = socket.create_connection(("127.0.0.1", proxy), timeout=CONNECT_S)
    connection.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x04" + ip_address(host).packed + port.to_bytes(2, "big"))
    chosen, answer = connection.recv(2, socket.MSG_WAITALL), connection.recv(4, socket.MSG_WAITALL)
    if (chosen, answer[:2]) != (b"\x05\x00", b"\x05\x00"):
        raise OSError(f"the proxy says {chosen!r} {answer!r}")
    connection.recv((4 if answer[3] == 1 else 16) + 2, socket.MSG_WAITALL)
    return connection


def send(host: str, seconds: float, proxy: int | None) -> int:
    """Send for so long; returns how many bytes have arrived."""
    with connect_by(proxy, host, SINK) if proxy else socket.create_connection((host, SINK), CONNECT_S) as connection:
        connection.settimeout(CONNECT_S + seconds)
        chunk, deadline = bytes(WRITE_BYTES), time.monotonic() + seconds
        while time.monotonic() < deadline:
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        return int.from_bytes(connection.recv(COUNT_BYTES, socket.MSG_WAITALL), "big")


def transfer(host: str, streams: int, seconds: float, proxy: int | None = None) -> dict[str, Any]:
    """Send over several connections at once; the time counts until the last byte is known to have arrived."""
    started = time.monotonic()
    with ThreadPoolExecutor(streams) as threads:
        arrived = list(threads.map(send, [host] * streams, [seconds] * streams, [proxy] * streams))
    return {"bytes": sum(arrived), "seconds": time.monotonic() - started}


async def run() -> None:
    """Do what comes."""

    async def serve(host: str) -> dict[str, Any]:
        server = socket.create_server((host, SINK), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        return {}

    async def transfer_in_threads(**arguments: Any) -> dict[str, Any]:
        return await asyncio.to_thread(transfer, **arguments)

    await obey({"serve": serve, "transfer": transfer_in_threads})


if __name__ == "__main__":
    asyncio.run(run())
