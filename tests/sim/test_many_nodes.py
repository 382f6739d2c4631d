"""Many nodes in virtual time: one hub keeps its sessions with all of them, whatever the network does.

`make test` runs a tenth of what `make long` does: 100 leaves for six minutes instead of 1,000 for a quarter of an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from weft.burst.header import DATA_HEADER, NONCE, TYPE_DATA
from weft.noise.gate import Gate
from weft.noise.primitives import StaticKey
from weft.noise.tunnel import Event, Tunnel
from weft.testing import Faults, Network, VirtualClock
from weft.testing.clock import MS, S
from weft.testing.network import Datagram, Endpoint

PORT = 1312
KEEPALIVE_NS = 25 * S
FAULTS = Faults(latency_ns=20 * MS, jitter_ns=30 * MS, loss=0.02, reordering=0.02, duplication=0.02)


class Node:
    """The handshakes and keepalives of one node with all its peers, as the engine drives them."""

    def __init__(self, static: StaticKey, clock: VirtualClock, random: Random) -> None:
        self.static = static
        self.clock = clock
        self.random = random
        self.tunnels: dict[bytes, Tunnel] = {}
        self.endpoints: dict[Tunnel, Endpoint] = {}
        self.gate = Gate(static, tunnel_for=self.tunnels.get, random_bytes=random.randbytes)

    def add(self, peer: StaticKey, endpoint: Endpoint | None) -> Tunnel:
        tunnel = Tunnel(
            self.static,
            peer.public,
            table=self.gate.table,
            random_bytes=self.random.randbytes,
            persistent_keepalive_ns=KEEPALIVE_NS,
        )
        self.tunnels[peer.public] = tunnel
        if endpoint is not None:
            self.endpoints[tunnel] = endpoint
        return tunnel

    def receive_datagram(self, datagram: Datagram, now: int) -> None:
        data, source = datagram
        if data[0] != TYPE_DATA:
            tunnel = self.gate.receive(data, source, str(source).encode(), now)
            if tunnel is not None:
                self.endpoints[tunnel] = source
            return
        _, index, counter = DATA_HEADER.unpack_from(data)
        keypair = self.gate.keypairs.get(index)
        if keypair is None or not keypair.window.is_fresh(counter):
            return
        keypair.opener.decrypt(NONCE.pack(counter), data[16:], None)
        if keypair.window.accept(counter):
            self.endpoints[keypair.tunnel] = source
            keypair.tunnel.handle_received(keypair, now, data=False)

    def handle_timer(self, now: int) -> None:
        for tunnel in self.tunnels.values():
            due = tunnel.next_timer()
            if due is not None and due <= now:
                tunnel.handle_timer(now, self.clock.wall_ns)

    def datagrams_to_send(self) -> Sequence[Datagram]:
        out = [
            Datagram(reply, source) for reply, source in self.gate.datagrams_to_send() if isinstance(source, Endpoint)
        ]
        for tunnel in self.tunnels.values():
            out += [
                Datagram(data, self.endpoints[tunnel])
                for data in tunnel.datagrams_to_send()
                if tunnel in self.endpoints
            ]
        return out

    def next_event(self) -> Event | None:
        return next((event for tunnel in self.tunnels.values() if (event := tunnel.next_event())), None)

    def next_timer(self) -> int | None:
        return min((due for tunnel in self.tunnels.values() if (due := tunnel.next_timer()) is not None), default=None)


def run_star(leaves: int, span_s: int, seed: int) -> tuple[int, int]:
    """Run a hub and its leaves.

    Returns:
        In how many samples, one a second and leaf, the hub could have opened what the leaf sends; and all samples.
    """
    clock, random = VirtualClock(), Random(seed)
    network = Network(clock, seed=seed, faults=FAULTS)
    keys = [StaticKey(random.randbytes(32)) for _ in range(leaves + 1)]
    hub = Node(keys[0], clock, random)
    network.host("hub", "192.0.2.1").bind(PORT).drive(hub)
    tunnels = []
    for number, key in enumerate(keys[1:]):
        leaf = Node(key, clock, random)
        host = network.host(f"leaf{number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        host.bind(PORT).drive(leaf)
        hub.add(key, None)
        tunnels.append(leaf.add(keys[0], Endpoint("192.0.2.1", PORT)))
        clock.call_later(random.randrange(20 * S), lambda tunnel=tunnels[-1]: tunnel.initiate(clock.now, clock.wall_ns))
    network.advance(60 * S)
    up = samples = 0
    for _ in range(span_s):
        network.advance(S)
        samples += leaves
        sending = [tunnel.keypair_for_sending(clock.now) for tunnel in tunnels]
        up += sum(keypair is not None and keypair.remote_index in hub.gate.keypairs for keypair in sending)
    return up, samples


def test_hub_keeps_its_sessions_with_a_hundred_nodes() -> None:
    up, samples = run_star(leaves=100, span_s=360, seed=1)
    assert up >= 0.999 * samples


@pytest.mark.long
def test_hub_keeps_its_sessions_with_a_thousand_nodes() -> None:
    up, samples = run_star(leaves=1_000, span_s=900, seed=2)
    assert up >= 0.999 * samples
