"""netd of a daemon with the stack against programs behind a TUN; names by netd of a daemon that has one."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import dns.message
import pytest

from tests.system.lab import Host, Lab
from tests.system.node import EVERYTHING, Node
from tests.system.process import Outcome, Process
from tests.system.traffic import STREAM_ECHO
from tests.system.waiting import until
from tests.unit.netd.c_client import compiled
from weft import netd
from weft.api.v0 import fc00 as fc00_api

pytestmark = [pytest.mark.system("cc", "dnsmasq"), pytest.mark.timeout(120)]

SAY = """
import socket, sys
with socket.create_connection((sys.argv[1], 81)) as sock:
    sock.sendall(b"from the kernel" * 10_000)
    sock.shutdown(socket.SHUT_WR)
    heard = b"".join(iter(lambda: sock.recv(65536), b""))
print(heard == b"from the kernel" * 10_000)
"""

HOLD = """
import asyncio, sys
from weft import netd
from weft.api.v0 import fc00 as fc00_api
async def main():
    path, host, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    async with netd.Client(path) as client:
        sockets = [await client.socket() for _ in range(count)]
        await asyncio.gather(*(socket.connect(host, 80) for socket in sockets))
        for number, socket in enumerate(sockets):
            await socket.send(b"%08d" % number)
        heard = [await socket.receive() for socket in sockets]
        print([int(each) for each in heard] == list(range(count)), "and holds", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
CLIENTS, SOCKETS = 4, 250
NAME, NAME_ADDRESS = "loom.example", "192.0.2.80"


@dataclass
class Ends:
    """Alice has the stack, bob a TUN."""

    alice: Node
    bob: Node
    program: Path

    def client(self, node: Node, *words: object) -> Outcome:
        """How the client in C ends on a node."""
        return node.host.outcome(str(self.program), str(node.directory / "netd.sock"), *map(str, words))


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    with Lab() as lab:
        cable = lab.veth(lab.host("alice"), lab.host("bob"))
        alice, bob = (Node(end.host, lab.directory(end.host.name)) for end in (cable.left, cable.right))
        alice.run_daemon()
        alice.weft("fc00", "start", "--stack")
        bob.up(*EVERYTHING)
        alice.weft("peer", "connect", bob.multiaddr(cable.right), "--name", "bob")
        yield Ends(alice, bob, compiled(tmp_path_factory.mktemp("c")))


def test_program_in_c_talks_to_a_server_behind_a_tun(ends: Ends) -> None:
    server = ends.bob.host.start(sys.executable, "-c", STREAM_ECHO, "::", "80", name="echo")
    server.wait_for("ready")
    assert ends.client(ends.alice, "ping", "bob").code == 0
    assert ends.client(ends.alice, "echo", "bob", 80, "hello").out == "hello\n"
    assert ends.client(ends.alice, "bulk", ends.bob.address, 80, 8_000_000).out == "8000000 8000000\n"
    server.stop()
    assert "status -111" in ends.client(ends.alice, "echo", "bob", 80, "hello").err


def test_program_behind_a_tun_talks_to_a_server_in_c(ends: Ends) -> None:
    path = str(ends.alice.directory / "netd.sock")
    server = ends.alice.host.start(str(ends.program), path, "serve", "81", name="client serve")
    server.wait_for("listening on 81")
    assert ends.bob.host.run(sys.executable, "-c", SAY, ends.alice.address) == "True\n"
    assert server.popen.wait(10) == 0


def connections(ends: Ends) -> int:
    """Of the daemon's host, as one more client of netd counts them."""

    async def ask() -> int:
        async with netd.Client(ends.alice.directory / "netd.sock") as client:
            return (await client.stats()).connections

    return asyncio.run(ask())


def test_thousand_sockets_of_clients_two_of_which_are_killed(ends: Ends) -> None:
    echo = ends.bob.host.start(sys.executable, "-c", STREAM_ECHO, "::", "80", name="echo")
    echo.wait_for("ready")
    words = (str(ends.alice.directory / "netd.sock"), ends.bob.address, str(SOCKETS))
    with ExitStack() as stack:
        stack.callback(echo.stop)
        clients = [
            ends.alice.host.start(sys.executable, "-c", HOLD, *words, name=f"client {number}")
            for number in range(CLIENTS)
        ]
        for client in clients:
            stack.callback(client.stop)
            assert "True and holds" in client.wait_for("and holds", timeout_s=60)
        assert connections(ends) == CLIENTS * SOCKETS
        for client in clients[:2]:
            client.stop(signal.SIGKILL)
        until(lambda: connections(ends) == (CLIENTS - 2) * SOCKETS, "what the killed had is closed")
        assert all(client.running for client in clients[2:])
        assert ends.client(ends.alice, "echo", "bob", 80, "hello").out == "hello\n"


def test_port_that_another_client_has(ends: Ends) -> None:
    path = str(ends.alice.directory / "netd.sock")
    first = ends.alice.host.start(str(ends.program), path, "serve", "82", name="client serve")
    first.wait_for("listening on 82")
    second = ends.client(ends.alice, "serve", 82)
    assert (second.code, second.err) == (1, "listen: status -98\n")
    # Its sockets are closed with it, and the port is free.
    first.stop(signal.SIGKILL)
    third = ends.alice.host.start(str(ends.program), path, "serve", "82", name="client serve")
    third.wait_for("listening on 82")
    third.stop()


def test_ping_that_nobody_answers(ends: Ends) -> None:
    nobody = str(ip_address(ends.bob.address) + 1)
    assert ends.client(ends.alice, "ping", nobody).err in {"ping: status -101\n", "ping: status -113\n"}


def serve_names(node: Node) -> Process:
    """dnsmasq, at the address of a node in the network."""
    dnsmasq = node.host.start(
        *("dnsmasq", "--no-daemon", "--user=root", "--no-resolv", "--no-hosts", "--conf-file=/dev/null"),
        *(f"--listen-address={node.address}", "--bind-interfaces", "--pid-file=", "--local=/example/"),
        *(f"--cname=alias.example,{NAME}", f"--host-record={NAME},{NAME_ADDRESS}"),
    )
    dnsmasq.wait_for("started")
    return dnsmasq


def test_datagrams_and_streams_to_a_server_of_names(ends: Ends) -> None:
    server = serve_names(ends.bob)
    where = (ends.bob.address, 53)

    async def ask(query: dns.message.Message) -> list[dns.message.Message]:
        async with netd.Client(ends.alice.directory / "netd.sock") as client:
            datagrams, stream = await client.socket("datagram"), await client.socket("stream")
            await datagrams.send(query.to_wire(), where)
            said, sender = await datagrams.receive_from()
            assert (ip_address(sender.address), sender.port) == (ip_address(where[0]), where[1])
            await stream.connect(*where)
            await stream.send(query.to_wire(prepend_length=True))
            heard = b""
            while len(heard) < 2 or len(heard) < 2 + int.from_bytes(heard[:2], "big"):
                heard += await stream.receive()
            return [dns.message.from_wire(said), dns.message.from_wire(heard[2:])]

    query = dns.message.make_query(NAME, "A")
    for answer in asyncio.run(asyncio.wait_for(ask(query), 20)):
        assert query.is_response(answer)
        assert [record.address for rows in answer.answer for record in rows] == [NAME_ADDRESS]
    server.stop()


@contextmanager
def resolving_by(host: Host, server: str) -> Iterator[None]:
    """What is started in a host while the block runs asks that server of DNS; see ip-netns(8)."""
    files = Path("/etc/netns") / host.namespace
    files.mkdir(parents=True)
    (files / "resolv.conf").write_text(f"nameserver {server}\noptions timeout:2 attempts:2\n")
    try:
        yield
    finally:
        shutil.rmtree(files)


def test_names_of_a_server_on_the_other_side_of_a_tunnel() -> None:
    """A daemon with a TUN asks the system, which asks dnsmasq through the tunnel."""
    with Lab() as lab:
        cable = lab.veth(lab.host("asks"), lab.host("knows"))
        asks, knows = (Node(end.host, lab.directory(end.host.name)) for end in (cable.left, cable.right))
        knows.up(*EVERYTHING)
        serve_names(knows)
        with resolving_by(asks.host, knows.address):
            asks.up()
            asks.weft("peer", "connect", knows.multiaddr(cable.right), "--name", "knows")
            path = asks.directory / "netd.sock"

            async def resolve(*names: str) -> list[object]:
                async with netd.Client(path) as client:
                    return await asyncio.gather(*map(client.resolve, names), return_exceptions=True)

            # An alias leads to the address: the seed took only what came first in an answer.
            *found, nobody = asyncio.run(resolve(NAME, "alias.example", "knows", "nobody.example"))
            assert found == [[ip_address(NAME_ADDRESS)]] * 2 + [[ip_address(knows.address)]]
            assert isinstance(nobody, netd.NetdError)
            assert nobody.status == -2
            asks.down()


ATTACH = """
import asyncio, socket, sys, weft
async def main():
    async with weft.Node.attach(sys.argv[1]) as node:
        for name in sys.argv[2:]:
            try:
                found = await node.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
                print(name, *(address[0] for *_, address in found))
            except socket.gaierror as error:
                print(name, "is unknown" if error.errno == socket.EAI_NONAME else error)
asyncio.run(main())
"""


OWN_NODE = """
import asyncio, sys, weft
async def main():
    device, server, where = sys.argv[1:]
    async with weft.Node(device=device, listen=["/ip4/0.0.0.0/udp/0"], dns=[server]) as node:
        await node.connect_peer(where)
        print(*{address[0] for *_, address in await node.getaddrinfo("alias.example", 0)})
asyncio.run(main())
"""


@pytest.mark.parametrize("device", ["stack", "tun"])
def test_servers_of_names_that_the_configuration_names(device: str) -> None:
    """They are asked by netd and for programs that are attached, and nothing is asked of the system any more."""
    with Lab() as lab:
        cable = lab.veth(lab.host("asks"), lab.host("knows"))
        asks, knows = (Node(end.host, lab.directory(end.host.name)) for end in (cable.left, cable.right))
        knows.up(*EVERYTHING)
        serve_names(knows)
        asks.run_daemon()
        asks.weft("fc00", "start", *(("--stack",) if device == "stack" else ()))
        asks.weft("peer", "connect", knows.multiaddr(cable.right), "--name", "knows")
        names = (NAME, "alias.example", "knows", "knows.weft", "nobody.example", "nobody.weft")

        async def resolve() -> list[object]:
            async with netd.Client(asks.directory / "netd.sock") as client:
                return await asyncio.gather(*map(client.resolve, names), return_exceptions=True)

        def attached() -> list[str]:
            path = str(asks.directory / "api.sock")
            return asks.host.run(sys.executable, "-c", ATTACH, path, *names).splitlines()

        # The system has no server here.
        found = asyncio.run(resolve())
        assert isinstance(found[0], netd.NetdError)
        assert found[0].status == -11
        asks.weft("config", "set", "fc00.dns", knows.address)
        *found, nobody, nobody_weft = asyncio.run(resolve())
        assert found == [[ip_address(NAME_ADDRESS)]] * 2 + [[ip_address(knows.address)]] * 2
        for each in (nobody, nobody_weft):
            assert isinstance(each, netd.NetdError)
            assert each.status == -2
        assert attached() == [
            *(f"{name} {NAME_ADDRESS}" for name in names[:2]),
            *(f"{name} {knows.address}" for name in names[2:4]),
            *(f"{name} is unknown" for name in names[4:]),
        ]
        assert asks.client.call(fc00_api.STATUS).dns == [knows.address]
        asks.weft("fc00", "stop")
        found = asyncio.run(resolve())
        assert found[2] == [ip_address(knows.address)]
        assert isinstance(found[0], netd.NetdError)
        assert found[0].status == -11
        # A node inside a program asks the same way.
        where = knows.multiaddr(cable.right)
        said = asks.host.run(sys.executable, "-c", OWN_NODE, device, knows.address, where)
        assert said == f"{NAME_ADDRESS}\n"
