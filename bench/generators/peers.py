"""Many weft peers in one process: each keeps a tunnel to one node, and says nothing else.

Usage: python -m bench.generators.peers PUBLIC-KEY ADDRESS PORT COUNT
PUBLIC-KEY is the node's, in base64. Prints `up` when all have a session, and goes on until it is ended.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time

from cryptography.exceptions import InvalidTag

from weft.burst.header import DATA_HEADER, NONCE, TYPE_DATA
from weft.identity import decode_wireguard_key, generate
from weft.noise.gate import Gate
from weft.noise.primitives import StaticKey
from weft.noise.tunnel import KeypairReady, Tunnel

PERSISTENT_KEEPALIVE_NS = 25 * 10**9
LARGEST_DATAGRAM = 1 << 16


class Peer:
    """One peer: its key, its socket, and the machines between them."""

    def __init__(self, node_public: bytes, endpoint: tuple[str, int]) -> None:
        static = StaticKey(generate(os.urandom).noise_private)
        self.gate = Gate(static, tunnel_for=self.tunnel_for, random_bytes=os.urandom)
        self.tunnel = Tunnel(
            static,
            node_public,
            table=self.gate.table,
            random_bytes=os.urandom,
            persistent_keepalive_ns=PERSISTENT_KEEPALIVE_NS,
        )
        self.up = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.timer: asyncio.TimerHandle | None = None
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(endpoint)
        self.loop.add_reader(self.socket, self.receive)

    def tunnel_for(self, public: bytes) -> Tunnel | None:
        """The node, if it is the one that calls."""
        return self.tunnel if public == self.tunnel.peer_public else None

    def start(self) -> None:
        """Call the node."""
        self.tunnel.initiate(time.monotonic_ns(), time.time_ns())
        self.drain()

    def receive(self) -> None:
        """Take one datagram."""
        try:
            data = self.socket.recv(LARGEST_DATAGRAM)
        except OSError:
            return
        now = time.monotonic_ns()
        if int.from_bytes(data[:4], "little") == TYPE_DATA and len(data) >= DATA_HEADER.size:
            self.receive_data(data, now)
        else:
            self.gate.receive(data, None, bytes(6), now)
        self.drain()

    def receive_data(self, data: bytes, now: int) -> None:
        """Open a message, and heed only that it came."""
        _, index, counter = DATA_HEADER.unpack_from(data)
        keypair = self.gate.keypairs.get(index)
        if keypair is None:
            return
        try:
            plain = keypair.opener.decrypt(NONCE.pack(counter), data[DATA_HEADER.size :], None)
        except InvalidTag:
            return
        if keypair.window.accept(counter):
            self.tunnel.handle_received(keypair, now, data=bool(plain))

    def drain(self) -> None:
        """Send what the machine has, and wake it when it wants to."""
        for datagram in self.tunnel.datagrams_to_send():
            self.socket.send(datagram)
        while event := self.tunnel.next_event():
            if isinstance(event, KeypairReady):
                self.up.set()
        due = self.tunnel.next_timer()
        if self.timer is not None:
            self.timer.cancel()
        if due is not None:
            self.timer = self.loop.call_later(max(0, due - time.monotonic_ns()) / 1e9, self.wake)

    def wake(self) -> None:
        """A deadline has come."""
        self.tunnel.handle_timer(time.monotonic_ns(), time.time_ns())
        self.drain()


async def play(node_public: bytes, endpoint: tuple[str, int], count: int) -> None:
    """Bring up that many peers, one after the other, and keep them."""
    peers = []
    for _ in range(count):
        peer = Peer(node_public, endpoint)
        peer.start()
        await peer.up.wait()
        peers.append(peer)
    print("up", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    key, address, port, count = sys.argv[1:]
    asyncio.run(play(decode_wireguard_key(key), (address, int(port)), int(count)))
