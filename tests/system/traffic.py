"""Connections between hosts whose every byte is known: what arrives is held against what was sent.

Both ends live in the process of the test, in threads, on sockets that were made in the namespaces of the hosts. So a
test sees at any moment how far a transfer is, and may go on while it runs.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from typing import Literal, NamedTuple

from tests.system.lab import Host
from tests.system.waiting import until
from weft.testing.device import inside_namespace

STREAM_ECHO = """
import asyncio, sys
async def echo(reader, writer):
    while data := await reader.read(1 << 17):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(echo, sys.argv[1], int(sys.argv[2]), backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
"""A program that sends back what comes over TCP, at the address and port that it is given."""

MB = 1_000_000
CONNECT_S = 10
STALL_S = 60
"""So long a socket may stand still before its transfer fails."""
CHUNK_BYTES = 128 * 1024
# Its length is prime to that of a chunk and there are many offsets: a chunk that is lost, doubled or moved is seen.
PATTERN = memoryview(random.Random(1312).randbytes(1_048_573 + CHUNK_BYTES))
PACE_BYTES_PER_S = 10 * MB
"""Of traffic whose amount is of no interest: both cores would be busy with all that a tunnel carries."""
SOL_UDP, UDP_SEGMENT = 17, 103

Direction = Literal["up", "down", "both"]


class Ends(NamedTuple):
    """The two ends of one connection."""

    client: socket.socket
    server: socket.socket


@contextmanager
def connected(client: Host, server: Host, address: str, stall_s: float = STALL_S) -> Iterator[Ends]:
    """Open a TCP connection from one host to an address of another; both ends are closed when the block ends."""
    with ExitStack() as stack:
        with stack.enter_context(listening(server, address)) as listener:
            near = stack.enter_context(socket_of(client, address, socket.SOCK_STREAM))
            near.connect((address, listener.getsockname()[1]))
            far = stack.enter_context(listener.accept()[0])
        for end in (near, far):
            end.settimeout(stall_s)
            # Wakes the threads that wait for it, which closing alone does not.
            stack.callback(suppressed_shutdown, end)
        yield Ends(near, far)


def listening(host: Host, address: str, port: int = 0) -> socket.socket:
    """A socket that listens for TCP connections in a host."""
    with inside_namespace(host.namespace):
        listener = socket.create_server((address, port), family=family_of(address), backlog=128)
    listener.settimeout(CONNECT_S)
    return listener


def socket_of(host: Host, address: str, kind: socket.SocketKind) -> socket.socket:
    """A socket of a host, of the family of an address."""
    with inside_namespace(host.namespace):
        made = socket.socket(family_of(address), kind)
    made.settimeout(CONNECT_S)
    return made


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def suppressed_shutdown(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


class Flow:
    """Known bytes on their way through a connection, from a thread that sends to one that receives.

    Attributes:
        sent: bytes that the sender's kernel took.
        received: bytes that arrived.
    """

    def __init__(
        self, source: socket.socket, sink: socket.socket, size: int | None = None, *, pace: float | None = None
    ) -> None:
        """Begin to send; without a size, until `finish`; with a pace, at most so many bytes a second."""
        self.sent = self.received = 0
        self._pause_s = CHUNK_BYTES / pace if pace else 0
        self._source, self._sink, self._size = source, sink, size
        self._enough = threading.Event()
        self._digests = [sha256(), sha256()]
        self._errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._guard, args=(work,)) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def finish(self, timeout_s: float = STALL_S) -> int:
        """Send no more; return how many bytes arrived, once it is sure that they are those that were sent."""
        if self._size is None:
            self._enough.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._errors:
            raise AssertionError(f"after {self.sent} bytes sent and {self.received} received") from self._errors[0]
        assert not any(thread.is_alive() for thread in self._threads), (
            f"{self.sent} bytes were sent and {self.received} received, and then nothing for {timeout_s:g} s"
        )
        sent, received = (digest.hexdigest() for digest in self._digests)
        assert (self.sent, sent) == (self.received, received)
        return self.received

    def _guard(self, work: object) -> None:
        assert callable(work)
        try:
            work()
        except Exception as error:
            self._errors.append(error)

    def _send(self) -> None:
        while not self._enough.is_set() and (self._size is None or self.sent < self._size):
            length = CHUNK_BYTES if self._size is None else min(CHUNK_BYTES, self._size - self.sent)
            offset = self.sent % (len(PATTERN) - CHUNK_BYTES)
            chunk = PATTERN[offset : offset + length]
            self._source.sendall(chunk)
            self._digests[0].update(chunk)
            self.sent += length
            self._enough.wait(self._pause_s)
        self._source.shutdown(socket.SHUT_WR)

    def _receive(self) -> None:
        buffer = memoryview(bytearray(1 << 18))
        while length := self._sink.recv_into(buffer):
            self._digests[1].update(buffer[:length])
            self.received += length


@contextmanager
def flowing(
    client: Host, server: Host, address: str, stall_s: float = STALL_S, pace: float | None = PACE_BYTES_PER_S
) -> Iterator[tuple[Flow, Flow]]:
    """Send both ways through one connection while the block runs, and then until the block's end is through.

    Args:
        client: who connects.
        server: who listens.
        address: of the server.
        stall_s: so long nothing may come through at a time.
        pace: bytes per second each way; None for as much as goes through.
    """
    with connected(client, server, address, stall_s) as ends:
        flows = Flow(ends.client, ends.server, pace=pace), Flow(ends.server, ends.client, pace=pace)
        yield flows
        for flow in flows:
            assert flow.finish() > 0


def wait_until_all_go_on(flows: Sequence[Flow], timeout_s: float = 10) -> None:
    """Return when more has arrived of each than was on its way until now."""
    sent = [flow.sent for flow in flows]

    def go_on() -> bool:
        return all(flow.received > before + MB for flow, before in zip(flows, sent, strict=True))

    until(go_on, f"more arrives than {sent}", timeout_s)


def transfer(
    client: Host, server: Host, address: str, size: int, *, direction: Direction = "both", streams: int = 1
) -> None:
    """Send so many bytes through each of some connections, and fail unless they arrive as they were sent."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(client, server, address)) for _ in range(streams)]
        flows = [Flow(ends.client, ends.server, size) for ends in connections if direction != "down"]
        flows += [Flow(ends.server, ends.client, size) for ends in connections if direction != "up"]
        for flow in flows:
            assert flow.finish() == size


class Echo:
    """A UDP port that answers each datagram with itself."""

    def __init__(self, host: Host, address: str, port: int = 0) -> None:
        self._socket = socket_of(host, address, socket.SOCK_DGRAM)
        self._socket.bind((address, port))
        self._socket.settimeout(None)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            data, source = self._socket.recvfrom(65_535)
            if not data:
                return
            with suppress(OSError):
                self._socket.sendto(data, source)

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, *_: object) -> None:
        # An empty datagram to itself ends the thread.
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()
