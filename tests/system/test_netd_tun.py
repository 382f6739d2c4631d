"""netd of daemons that have a TUN: the same client as for the stack, and no way out of the network."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.system.lab import Cable, Lab
from tests.system.node import Node
from tests.system.process import Outcome, Process
from tests.system.traffic import STREAM_ECHO
from tests.system.waiting import until
from tests.unit.netd.c_client import compiled
from weft import netd
from weft.netd.status import Status

pytestmark = [pytest.mark.system("cc"), pytest.mark.timeout(120)]

SAY = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as sock:
        sock.sendall(b"by the kernel" * 10_000)
        sock.shutdown(socket.SHUT_WR)
        print(b"".join(iter(lambda: sock.recv(65536), b"")) == b"by the kernel" * 10_000)
except OSError as error:
    print(type(error).__name__)
"""


@dataclass
class Ends:
    """Both have a TUN."""

    alice: Node
    bob: Node
    cable: Cable
    program: Path

    def client(self, node: Node, *words: object) -> Outcome:
        """How the client in C ends on a node."""
        return node.host.outcome(str(self.program), str(node.directory / "netd.sock"), *map(str, words))

    def start_client(self, node: Node, *words: object) -> Process:
        """The client in C, going on."""
        path = str(node.directory / "netd.sock")
        return node.host.start(str(self.program), path, *map(str, words), name="client")


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    with Lab() as lab:
        cable = lab.veth(lab.host("alice"), lab.host("bob"))
        alice, bob = (Node(end.host, lab.directory(end.host.name)) for end in (cable.left, cable.right))
        alice.up()
        bob.up("/icmp", "/tcp/80", "/udp/9")
        alice.weft("peer", "connect", bob.multiaddr(cable.right), "--name", "bob")
        yield Ends(alice, bob, cable, compiled(tmp_path_factory.mktemp("c")))


def echo_at(node: Node, address: str, port: int) -> Process:
    server = node.host.start(sys.executable, "-c", STREAM_ECHO, address, str(port), name=f"echo at {address}")
    server.wait_for("ready")
    return server


def test_client_in_c_pings_resolves_and_talks(ends: Ends) -> None:
    server = echo_at(ends.bob, ends.bob.address, 80)
    assert ends.client(ends.alice, "ping", "bob").out.endswith(" us\n")
    assert ends.client(ends.alice, "echo", "bob", 80, "hello").out == "hello\n"
    assert ends.client(ends.alice, "echo", ends.bob.id, 80, "by id").out == "by id\n"
    assert ends.client(ends.alice, "bulk", ends.bob.address, 80, 8_000_000).out == "8000000 8000000\n"
    assert ends.client(ends.alice, "rounds", "bob", 80, 50).code == 0
    assert ends.client(ends.alice, "ping", "nobody.weft").err == "nobody.weft: status -2\n"
    server.stop()
    assert ends.client(ends.alice, "echo", "bob", 80, "hello").err == "connect: status -111\n"


def test_who_may_reach_what_listens_is_the_firewall_s_affair(ends: Ends) -> None:
    server = ends.start_client(ends.bob, "serve", 81)
    server.wait_for("listening on 81")
    assert ends.alice.host.run(sys.executable, "-c", SAY, ends.bob.address, "81") == "ConnectionRefusedError\n"
    assert ends.client(ends.alice, "echo", "bob", 81, "hello").err == "connect: status -111\n"
    with ends.bob.allowing("/tcp/81"):
        assert ends.alice.host.run(sys.executable, "-c", SAY, ends.bob.address, "81") == "True\n"
    assert server.popen.wait(10) == 0


def test_from_netd_to_netd(ends: Ends) -> None:
    server = ends.start_client(ends.bob, "serve", 80)
    server.wait_for("listening on 80")
    assert ends.client(ends.alice, "bulk", "bob", 80, 3_000_000).out == "3000000 3000000\n"
    assert server.popen.wait(10) == 0


def test_nothing_outside_of_the_network_is_reached(ends: Ends) -> None:
    """There is somebody on each of these addresses, and the machine reaches them."""
    here, there = ends.cable.left, ends.cable.right
    places = [(ends.alice, "127.0.0.1"), (ends.alice, "::1"), (ends.alice, here.ip4), (ends.alice, here.ip6)]
    places += [(ends.bob, there.ip4), (ends.bob, there.ip6)]
    servers = [echo_at(node, address, 7000) for node, address in places]
    for _, address in places:
        assert ends.alice.host.run(sys.executable, "-c", SAY, address, "7000") == "True\n"
        assert ends.client(ends.alice, "echo", address, 7000, "hello").err == "connect: status -101\n"
        assert ends.client(ends.alice, "ping", address).err == "ping: status -101\n"
    assert ends.client(ends.alice, "echo", "localhost", 7000, "hello").err == "connect: status -101\n"
    for server in servers:
        server.stop()


def test_nothing_listens_outside_of_the_network(ends: Ends) -> None:
    server = ends.start_client(ends.bob, "serve", 82)
    server.wait_for("listening on 82")
    said = ends.bob.host.run("ss", "-Htln", "sport = :82").split()
    assert [word for word in said if word.endswith(":82")] == [f"[{ends.bob.address}]:82"]
    server.stop()


def test_counters_are_of_the_interface_and_the_node_knows_itself(ends: Ends) -> None:
    async def ask() -> None:
        async with netd.Client(ends.alice.directory / "netd.sock") as client:
            before = await client.stats()
            assert 0 < await client.ping(ends.bob.address) < 5
            after = await client.stats()
            assert after.tx_packets > before.tx_packets
            assert after.rx_bytes > before.rx_bytes
            info = await client.info()
            assert ip_address(info.addresses[0].address.address) == ip_address(ends.alice.address)
            with pytest.raises(netd.NetdError) as caught:
                await client.ping(str(ip_address(ends.bob.address) + 1))
            assert caught.value.status is Status.NO_ROUTE

    asyncio.run(asyncio.wait_for(ask(), 20))


def test_datagram_that_nobody_wants_is_told(ends: Ends) -> None:
    async def ask() -> None:
        async with netd.Client(ends.alice.directory / "netd.sock") as client:
            socket = await client.socket("datagram")
            await socket.send(b"x", (ends.bob.address, 9))
            with pytest.raises(netd.NetdError) as caught:
                await socket.receive()
            assert caught.value.status is Status.REFUSED

    asyncio.run(asyncio.wait_for(ask(), 20))


def test_sockets_end_with_the_interface_and_come_back_with_it(ends: Ends) -> None:
    server = echo_at(ends.bob, ends.bob.address, 80)

    async def ask() -> None:
        async with netd.Client(ends.alice.directory / "netd.sock") as client:
            socket = await client.socket()
            await socket.connect(ends.bob.address, 80)
            await socket.send(b"hello")
            assert await socket.receive() == b"hello"
            waiting = asyncio.create_task(socket.receive())
            await asyncio.to_thread(ends.alice.weft, "fc00", "stop")
            with pytest.raises(netd.NetdError) as caught:
                await waiting
            assert caught.value.status is Status.ABORTED
            with pytest.raises(netd.NetdError) as caught:
                await client.socket()
            assert caught.value.status is Status.NO_INTERFACE

    asyncio.run(asyncio.wait_for(ask(), 30))
    ends.alice.weft("fc00", "start")
    until(lambda: ends.client(ends.alice, "echo", "bob", 80, "again").out == "again\n", "netd serves the new interface")
    server.stop()
