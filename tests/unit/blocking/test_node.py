"""Nodes in threads: their beginning and end, and what is asked of them."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import weft
from tests.unit.api.node.conftest import LISTEN
from tests.unit.blocking.conftest import Pair, begin, make_node
from tests.unit.blocking.test_stream import read_all
from weft.errors import ConfigError, UsageError, WeftError


class TestWhatIsAsked:
    def test_who_and_where(self, stacks: Pair) -> None:
        alice, bob = stacks.alice, stacks.bob
        assert str(alice.address).startswith("fc")
        assert alice.status().info.id == str(alice.identity)
        assert all(each.endswith(str(bob.identity)) for each in bob.multiaddrs)
        assert [peer.name for peer in alice.peers] == ["bob"]
        assert alice.ping("bob").rtt_ms > 0
        assert alice.getaddrinfo("bob", 80)[0][4][0] == str(bob.address)
        assert "weft.Node" in repr(alice)

    def test_peers_come_and_go(self, stacks: Pair) -> None:
        with weft.blocking.Node(listen=LISTEN) as carol:
            assert stacks.alice.add_peer(carol.multiaddrs[0], name="carol").name == "carol"
            assert stacks.alice.connect_peer("carol").state == "up"
            stacks.alice.remove_peer("carol")
            assert [peer.name for peer in stacks.alice.peers] == ["bob"]
        with pytest.raises(UsageError):
            stacks.alice.ping("carol")
        with pytest.raises(UsageError):
            stacks.alice.connect_peer("nonsense")

    def test_from_many_threads(self, stacks: Pair, threads: ThreadPoolExecutor) -> None:
        assert len(set(threads.map(lambda _: stacks.alice.status().info.id, range(200)))) == 1


class TestLife:
    def test_node_with_a_directory_stays_the_same(self, tmp_path: Path) -> None:
        with weft.blocking.Node(tmp_path, listen=LISTEN) as node:
            identity = node.identity
            with pytest.raises(ConfigError), weft.blocking.Node(tmp_path, listen=LISTEN):
                pass
        with weft.blocking.Node(tmp_path, listen=LISTEN) as node:
            assert node.identity == identity

    def test_node_runs_once_at_a_time(self) -> None:
        node = weft.blocking.Node(listen=LISTEN)
        for _ in range(2):
            with node, pytest.raises(UsageError, match="runs already"):
                node.__enter__()

    def test_wrong_arguments(self) -> None:
        with pytest.raises(UsageError, match="'stack' or 'tun'"):
            weft.blocking.Node(device="tap")

    def test_no_daemon(self, tmp_path: Path) -> None:
        with pytest.raises(WeftError, match=r"nothing\.sock"), weft.blocking.attach(tmp_path / "nothing.sock"):
            pass

    def test_its_thread_ends_with_it(self) -> None:
        before = threading.active_count()
        with weft.blocking.Node(listen=LISTEN):
            assert any(thread.name == "weft node" for thread in threading.enumerate())
        assert threading.active_count() == before

    def test_node_that_does_not_run(self) -> None:
        node = weft.blocking.Node(listen=LISTEN)
        for call in (node.status, lambda: node.identity, lambda: node.create_connection(("bob", 80))):
            with pytest.raises(UsageError, match="does not run"):
                call()

    @pytest.mark.parametrize("kind", ["stack", "kernel"])
    def test_end_wakes_everybody(self, kind: str, threads: ThreadPoolExecutor) -> None:
        node = make_node(kind, "asyncio")
        try:
            server, idle = node.create_server(("", 0)), node.create_server(("", 0))
            address = "localhost" if kind == "stack" else "bob", server.getsockname()[1]
            near, far = (node.create_connection(address) for _ in range(2))
            accepted = [server.accept()[0] for _ in range(2)]
            waiting = [
                begin(threads, near, near.recv, 1),
                begin(threads, far, far.sendall, bytes(100_000_000)),
                begin(threads, idle, idle.accept),
            ]
        finally:
            node.__exit__(None, None, None)
        for each in waiting:
            with pytest.raises(ConnectionError):
                each.result(20)
        with pytest.raises(ConnectionError):
            near.sendall(b"x")
        with pytest.raises(UsageError, match="does not run"):
            near.getsockopt(1, 1)
        for each in (near, far, server, idle, *accepted):
            each.close()

    @pytest.mark.parametrize("kind", ["stack", "kernel"])
    def test_what_was_closed_before_the_end_arrives(self, kind: str, threads: ThreadPoolExecutor) -> None:
        data = random.Random(3).randbytes(3_000_000)
        alice, bob = make_node(kind, "asyncio"), make_node(kind, "asyncio")
        try:
            if kind == "stack":
                alice.connect_peer(bob.multiaddrs[0], name="bob")
            with bob.create_server(("", 0)) as server:
                near = alice.create_connection(("bob", server.getsockname()[1]))
                far, _ = server.accept()
                reading = threads.submit(read_all, far)
                with near:
                    near.sendall(data)
                alice.__exit__(None, None, None)
                assert hashlib.sha256(reading.result(20)).digest() == hashlib.sha256(data).digest()
        finally:
            alice.__exit__(None, None, None)
            bob.__exit__(None, None, None)
        far.close()


def run(program: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a program that uses a node, and ends."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", START + program], capture_output=True, text=True, timeout=60, check=False
    )


START = """
import os, signal, socket, sys, threading, weft
node = weft.blocking.Node(listen=("/ip4/127.0.0.1/udp/0",))
node.__enter__()
server = node.create_server(("", 0))
near = node.create_connection(("localhost", server.getsockname()[1]))
far, _ = server.accept()
"""


class TestProcesses:
    def test_program_that_closes_nothing_ends(self) -> None:
        done = run("print('done')")
        assert (done.returncode, done.stdout) == (0, "done\n")

    def test_program_that_fails_ends(self) -> None:
        done = run("raise SystemExit(7)")
        assert done.returncode == 7

    def test_thread_that_waits_does_not_keep_a_program(self) -> None:
        done = run("threading.Thread(target=near.recv, args=(1,), daemon=True).start()\nprint('done')")
        assert (done.returncode, done.stdout) == (0, "done\n")

    def test_child_of_a_fork_has_no_node_and_disturbs_none(self) -> None:
        done = run("""
threading.Thread(target=near.recv, args=(1,), daemon=True).start()
child = os.fork()
if not child:
    for call in (node.status, lambda: near.recv(1), lambda: near.sendall(b"x"), server.accept):
        try:
            call()
        except (weft.errors.UsageError, OSError) as error:
            print(type(error).__name__, flush=True)
    near.close()
    node.__exit__(None, None, None)
    sys.exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
far.sendall(b"xx")
again = node.create_connection(("localhost", server.getsockname()[1]))
print("goes on", flush=True)
node.__exit__(None, None, None)
""")
        assert done.stdout.splitlines() == ["UsageError", "OSError", "OSError", "OSError", "goes on"], done.stderr
        assert done.returncode == 0

    def test_ctrl_c_ends_what_waits(self) -> None:
        with subprocess.Popen(
            [
                sys.executable,
                "-c",
                START
                + """
for wait in (lambda: near.recv(1), lambda: near.sendall(bytes(100_000_000)), server.accept,
             lambda: node.connect_peer("/ip4/127.0.0.1/udp/9/p2p/" + str(node.identity), timeout_s=30)):
    print("waits", flush=True)
    try:
        wait()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    except weft.errors.UsageError:
        print("interrupted", flush=True)
node.__exit__(None, None, None)
print("ended")
""",
            ],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                for _ in range(3):
                    assert process.stdout.readline() == "waits\n"
                    interrupt(process.pid)
                    assert process.stdout.readline() == "interrupted\n"
                assert process.stdout.read().endswith("ended\n")
                assert process.wait(30) == 0
            finally:
                process.kill()


def interrupt(pid: int) -> None:
    """Ctrl-C, once the main thread waits for a lock."""
    while "futex" not in Path(f"/proc/{pid}/wchan").read_text():
        os.sched_yield()
    os.kill(pid, signal.SIGINT)
