"""Many weft peers in one process: each keeps a tunnel to one node, says who it is, and otherwise only answers.

Usage: python -m bench.generators.peers PUBLIC-KEY ADDRESS PORT COUNT
PUBLIC-KEY is the node's, in base64. Prints `up` when all have a session, and goes on until it is ended.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections import Counter

from cryptography.exceptions import InvalidTag

from weft.burst.header import DATA_HEADER, MAX_TOTAL_BYTES, NONCE, TYPE_DATA
from weft.burst.seal import seal_packet
from weft.identity import decode_wireguard_key, generate
from weft.mesh.multigram import FIRST_BYTE, NOTICE, decode_multigram
from weft.mesh.notices import Hello, Notices
from weft.mesh.probe import Prober
from weft.noise.gate import Gate
from weft.noise.primitives import StaticKey
from weft.noise.tunnel import KeypairReady, Tunnel

PERSISTENT_KEEPALIVE_NS = 25 * 10**9
LARGEST_DATAGRAM = 1 << 16
INNER_MTU = 1352


class Peer:
    """One peer: its key, its socket, and the machines between them."""

    def __init__(self, node_public: bytes, endpoint: tuple[str, int]) -> None:
        identity = generate(os.urandom)
        static = StaticKey(identity.noise_private)
        drops: Counter[str] = Counter()
        self.gate = Gate(static, tunnel_for=self.tunnel_for, random_bytes=os.urandom)
        self.tunnel = Tunnel(
            static,
            node_public,
            table=self.gate.table,
            random_bytes=os.urandom,
            persistent_keepalive_ns=PERSISTENT_KEEPALIVE_NS,
        )
        self.notices = Notices(os.urandom(8), Hello(identity.peer_id.public_key, MAX_TOTAL_BYTES, INNER_MTU), drops)
        self.prober = Prober(identity, os.urandom, drops)
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
        now = time.monotonic_ns()
        self.tunnel.initiate(now, time.time_ns())
        self.drain(now)

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
        self.drain(now)

    def receive_data(self, data: bytes, now: int) -> None:
        """Open a message, and give what is in it to the machine that it is for."""
        _, index, counter = DATA_HEADER.unpack_from(data)
        keypair = self.gate.keypairs.get(index)
        if keypair is None:
            return
        try:
            plain = keypair.opener.decrypt(NONCE.pack(counter), data[DATA_HEADER.size :], None)
        except InvalidTag:
            return
        if not keypair.window.accept(counter):
            return
        self.tunnel.handle_received(keypair, now, data=bool(plain))
        if plain and plain[0] >= FIRST_BYTE:
            codec, body = decode_multigram(plain)
            if codec == NOTICE:
                self.notices.receive(body, now)
            else:
                hello = self.notices.their_hello
                self.prober.receive(body, hello.public_key if hello else None, MAX_TOTAL_BYTES, now)

    def drain(self, now: int) -> None:
        """Send what the machines have, and wake them when they want to."""
        for datagram in self.tunnel.datagrams_to_send():
            self.socket.send(datagram)
        while event := self.tunnel.next_event():
            if isinstance(event, KeypairReady):
                self.notices.start(now)
                self.up.set()
        while self.notices.next_event() or self.prober.next_event():
            pass
        for message in (*self.notices.datagrams_to_send(), *self.prober.datagrams_to_send()):
            self.send_message(message, now)
        if self.timer is not None:
            self.timer.cancel()
        times = (self.tunnel.next_timer(), self.notices.next_timer(), self.prober.next_timer())
        due = min((at for at in times if at is not None), default=None)
        if due is not None:
            self.timer = self.loop.call_later(max(0, due - now) / 1e9, self.wake)

    def send_message(self, message: bytes, now: int) -> None:
        """Seal and send a multigram, if there is a session."""
        keypair = self.tunnel.keypair_for_sending(now)
        counter = keypair.take_counter() if keypair is not None else None
        if keypair is not None and counter is not None:
            self.socket.send(seal_packet(keypair, counter, message))
            self.tunnel.handle_sent(now, data=True)

    def wake(self) -> None:
        """A deadline has come."""
        now = time.monotonic_ns()
        self.tunnel.handle_timer(now, time.time_ns())
        self.notices.handle_timer(now)
        self.prober.handle_timer(now)
        self.drain(now)


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
