"""netd of a daemon with the stack against programs behind a TUN, and netd of the daemon that has the TUN."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.lab import Lab
from tests.system.node import EVERYTHING, Node
from tests.system.process import Outcome
from tests.unit.netd.c_client import compiled

pytestmark = [pytest.mark.system("cc"), pytest.mark.timeout(120)]

ECHO = """
import asyncio
async def echo(reader, writer):
    while data := await reader.read(1 << 17):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(echo, "::", 80)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
SAY = """
import socket, sys
with socket.create_connection((sys.argv[1], 81)) as sock:
    sock.sendall(b"from the kernel" * 10_000)
    sock.shutdown(socket.SHUT_WR)
    heard = b"".join(iter(lambda: sock.recv(65536), b""))
print(heard == b"from the kernel" * 10_000)
"""


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
    server = ends.bob.host.start(sys.executable, "-c", ECHO, name="echo")
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


def test_daemon_with_a_tun_says_what_to_use_and_knows_names(ends: Ends) -> None:
    seen = ends.client(ends.bob, "ping", ends.alice.address)
    assert (seen.code, seen.err) == (1, "ping: the daemon has a TUN; use the system's sockets\n")
    assert "create: the daemon has a TUN" in ends.client(ends.bob, "echo", ends.alice.id, 80, "x").err
