"""`weft serve`, `forward` and `nc`: what they say, what they do, and how they end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.unit.api.fake_engine import FakeEngine
from tests.unit.cli.loopback import HERE, serving
from tests.unit.cli.pseudo_terminal import PseudoTerminal
from tests.unit.cli.terminal import Terminal
from tests.unit.clients.certificates import Files
from weft.cli.opened import audience
from weft.cli.settings import Settings
from weft.engine.status import Interface

DATA = bytes(range(256)) * 2_000
Running = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]


@pytest.fixture
def port() -> int:
    """A free one."""
    with socket.socket() as sock:
        sock.bind((HERE, 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def words(weft: Terminal) -> tuple[str, ...]:
    """The command, in a network that is the loopback interface."""
    return sys.executable, "-m", "tests.unit.cli.loopback", "--dir", str(weft.directory)


@pytest.fixture
def running(words: tuple[str, ...], node: FakeEngine) -> Running:
    @contextmanager
    def running(*more: str) -> Iterator[subprocess.Popen[bytes]]:
        pipe = subprocess.PIPE
        process = subprocess.Popen([*words, *more], stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    return running


def said(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode()


def ended(process: subprocess.Popen[bytes], number: int) -> tuple[int, str, str]:
    """Exit code, and what more it said, after a signal."""
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    return process.returncode, out.decode(), err.decode()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


def echoed(port: int, data: bytes = DATA) -> bytes:
    with socket.create_connection((HERE, port), timeout=10) as sock, sock.makefile("rwb") as file:
        file.write(data)
        file.flush()
        sock.shutdown(socket.SHUT_WR)
        return file.read()


class TestPort:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_serve_leads_to_a_port_until_it_is_interrupted(self, running: Running, port: int, number: int) -> None:
        with serving(echo) as inner, running("serve", str(port), "--to", str(inner)) as process:
            told = f"port {port} is open for nobody yet: `weft fc00 allow /tcp/{port}` lets others in; "
            assert said(process) == f"{told}it leads to 127.0.0.1 port {inner}\n"
            assert echoed(port, DATA[:10_000]) == DATA[:10_000]
            assert ended(process, number) == (0, "", "")

    def test_forward_leads_to_a_peer(self, running: Running, port: int) -> None:
        with serving(echo) as inner, running("forward", str(port), f"loom:{inner}") as process:
            assert said(process) == f"127.0.0.1 port {port} is open for this machine; it leads to loom port {inner}\n"
            assert echoed(port) == DATA
            assert ended(process, signal.SIGTERM) == (0, "", "")

    def test_forward_for_other_machines_says_so(self, running: Running, port: int) -> None:
        with running("forward", f"0.0.0.0:{port}", "loom:80") as process:
            told = f"0.0.0.0 port {port} is open for whoever reaches this machine; it leads to loom port 80\n"
            assert said(process) == told

    @pytest.mark.parametrize("command", ["serve", "forward"])
    def test_what_fails_is_told_and_it_goes_on(self, running: Running, port: int, command: str) -> None:
        with serving(echo) as inner:
            pass
        more = ["--to", str(inner)] if command == "serve" else [f"loom:{inner}"]
        with running(command, str(port), *more) as process:
            said(process)
            for _ in range(2):
                # Nothing is written: who writes to what is reset already hears of it in another way.
                with pytest.raises(ConnectionResetError), socket.create_connection((HERE, port), timeout=10) as sock:
                    sock.recv(1)
                where = HERE if command == "serve" else "loom"
                assert said(process) == f"{where} port {inner}: connection refused\n"
            assert ended(process, signal.SIGINT)[0] == 0

    def test_it_ends_with_the_network(self, running: Running, port: int) -> None:
        with running("forward", str(port), "loom:80") as process:
            said(process)
            _, err = process.communicate(b"", timeout=20)
        assert process.returncode == 1
        assert err == b"weft: the network has ended: its daemon or its interface went down\n"

    @pytest.mark.parametrize("command", ["serve", "forward"])
    def test_port_that_is_taken_is_one_line(self, running: Running, port: int, command: str) -> None:
        more = ["loom:80"] if command == "forward" else []
        with socket.create_server((HERE, port)), running(command, str(port), *more) as process:
            out, err = process.communicate(timeout=20)
        place = f"port {port}" if command == "serve" else f"127.0.0.1 port {port}"
        assert (process.returncode, out, err) == (1, b"", f"weft: {place}: address already in use\n".encode())


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "files"
        folder.mkdir()
        (folder / "notes.txt").write_bytes(DATA)
        return folder

    def test_files_can_be_had(self, running: Running, node: FakeEngine, folder: Path, port: int) -> None:
        with running("serve", str(port), "--dir", str(folder)) as process:
            line = said(process)
            assert line.endswith(f"; {folder} is at http://[{node.info().address}]:{port}/\n")
            with urlopen(f"http://{HERE}:{port}/notes.txt", timeout=10) as answer:
                assert answer.read() == DATA
            with urlopen(f"http://{HERE}:{port}/", timeout=10) as answer:
                assert b"notes.txt" in answer.read()
            (folder / "out").symlink_to("/etc/hostname")
            with pytest.raises(OSError, match="403"):
                urlopen(f"http://{HERE}:{port}/out", timeout=10)
            assert said(process) == "/out: a link that leads out of the folder, or nowhere\n"
            assert ended(process, signal.SIGTERM) == (0, "", "")

    def test_certificate_of_the_node_stays(self, running: Running, weft: Terminal, folder: Path, port: int) -> None:
        prints = []
        for _ in range(2):
            with running("serve", str(port), "--tls", "--dir", str(folder)) as process:
                line = said(process)
                assert " is at https://[fc" in line
                assert f"; its certificate is {weft.directory}/serve_cert.pem, sha256 " in line
                prints.append(line.strip().rpartition(" ")[2].replace(":", "").lower())
                pem = ssl.get_server_certificate((HERE, port))
                assert hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() == prints[-1]
                assert ended(process, signal.SIGTERM)[0] == 0
        assert len(set(prints)) == 1

    def test_certificate_that_is_given(self, running: Running, folder: Path, tmp_path: Path, port: int) -> None:
        (tmp_path / "tls").mkdir()
        files = Files(tmp_path / "tls")
        pem = files.certificate(HERE)
        with running("serve", str(port), "--cert", str(pem), "--dir", str(folder)) as process:
            assert "sha256" not in said(process)
            context = ssl.create_default_context(cafile=str(files.roots))
            with urlopen(f"https://{HERE}:{port}/notes.txt", context=context, timeout=10) as answer:
                assert answer.read() == DATA

    def test_requests_that_are_none_are_nobodys_business(self, running: Running, folder: Path, port: int) -> None:
        with running("serve", str(port), "--dir", str(folder)) as process:
            said(process)
            for nonsense in (b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: \xff\r\n\r\n"):
                with socket.create_connection((HERE, port), timeout=10) as sock:
                    sock.sendall(nonsense)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(1000):
                        pass
            assert ended(process, signal.SIGTERM) == (0, "", "")

    def test_node_is_chosen_before_the_command(self, weft: Terminal, node: FakeEngine, folder: Path) -> None:
        seen = weft.bare("--dir", "/nowhere", "serve", "80", "--dir", str(folder))
        assert (seen.code, seen.out) == (1, "")
        assert seen.err.startswith("weft: no daemon answers at /nowhere/api.sock")


class TestUsage:
    @pytest.mark.parametrize(
        ("words", "code", "says"),
        [
            ("serve", 2, "`weft serve` needs PORT"),
            ("serve 0", 2, "PORT: 0 is not in the range"),
            ("serve 80 --to 81 --dir .", 2, "--to and --dir are two things to serve; choose one"),
            ("serve 80 --to loom", 2, "loom: 'loom' is no port"),
            ("serve 80 --key k.pem", 2, "--key is for --cert, which is not given"),
            ("serve 80 --cert /nowhere/c.pem", 1, "/nowhere/c.pem: No such file or directory"),
            ("serve 80 --cert /etc/passwd", 2, "/etc/passwd: is no certificate with its private key"),
            ("serve 80 --dir /nowhere", 1, "/nowhere: No such file or directory"),
            ("serve 80 --dir /etc/passwd", 1, "/etc/passwd: Not a directory"),
            ("forward 80", 2, "`weft forward` needs PEER:PORT"),
            ("forward 80 loom", 2, "loom: expected a host and a port"),
            ("forward nowhere loom:80", 2, "'nowhere' is no port"),
            ("forward 80 loom:0", 2, "'0' is no port"),
            ("nc loom", 2, "give PEER and PORT, or -l PORT"),
            ("nc", 2, "give PEER and PORT, or -l PORT"),
            ("nc -l 80 loom 80", 2, "give PEER and PORT, or -l PORT"),
            ("nc loom http", 2, "'http' is not a valid integer"),
        ],
    )
    def test_is_one_line(self, weft: Terminal, node: FakeEngine, words: str, code: int, says: str) -> None:
        seen = weft(*words.split())
        assert (seen.code, seen.out, seen.err.count("\n")) == (code, "", 1)
        assert says in seen.err

    def test_directory_of_the_node_is_not_served(self, weft: Terminal, node: FakeEngine) -> None:
        seen = weft("serve", "80", "--dir", f"{weft.directory}/../{weft.directory.name}")
        assert (seen.code, seen.err.count("\n")) == (2, 1)
        assert "is the node's directory, with its key; which node is meant says `weft --dir" in seen.err


class TestAudience:
    @pytest.mark.parametrize(
        ("rules", "told"),
        [
            (["/tcp/80"], "everybody"),
            (["/icmp", "/tcp/0"], "everybody"),
            (["/tcp/80/from/KEY=", "/tcp/0/from/OTHER="], "loom, OTHER="),
            (["/udp/80", "/tcp/8080"], "nobody yet: `weft fc00 allow /tcp/80` lets others in"),
        ],
    )
    def test_is_whom_the_rules_let_in(self, weft: Terminal, node: FakeEngine, rules: list[str], told: str) -> None:
        node.fc00.rules, node.fc00.names = rules, {"KEY=": "loom"}
        assert audience(Settings(weft.directory), 80) == told

    def test_is_everybody_with_the_stack(self, weft: Terminal, node: FakeEngine) -> None:
        node.fc00.interface = Interface(up=True, device="stack")
        assert audience(Settings(weft.directory), 80) == "everybody"


class TestNc:
    def test_carries_both_ways_to_the_end(self, running: Running) -> None:
        with serving(echo) as port, running("nc", "loom", str(port)) as process:
            out, err = process.communicate(DATA, timeout=20)
        assert (process.returncode, out, err) == (0, DATA, b"")

    def test_listens_for_one(self, running: Running, port: int) -> None:
        with running("nc", "-l", str(port)) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            assert process.stderr.readline().startswith(f"weft: port {port} is open for ".encode())
            with socket.create_connection((HERE, port), timeout=10) as sock:
                sock.sendall(b"question")
                sock.shutdown(socket.SHUT_WR)
                # What it says goes on after the other side has ended.
                process.stdin.write(b"answer")
                process.stdin.close()
                process.stdin = None
                assert sock.makefile("rb").read() == b"answer"
            out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, b"question", b"")

    def test_files_in_place_of_pipes(self, words: tuple[str, ...], node: FakeEngine, tmp_path: Path) -> None:
        (tmp_path / "in").write_bytes(DATA)
        with serving(echo) as port, (tmp_path / "in").open("rb") as file, (tmp_path / "out").open("wb") as out:
            done = subprocess.run([*words, "nc", "loom", str(port)], stdin=file, stdout=out, timeout=20, check=False)
        assert done.returncode == 0
        assert (tmp_path / "out").read_bytes() == DATA

    def test_nobody_there_is_one_line(self, running: Running) -> None:
        with serving(echo) as port:
            pass
        with running("nc", "loom", str(port)) as process:
            out, err = process.communicate(b"", timeout=20)
        assert (process.returncode, out, err) == (1, b"", f"weft: loom port {port}: connection refused\n".encode())

    def test_reset_is_one_line(self, running: Running) -> None:
        async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(4)
            writer.write(b"a part")
            await reader.readexactly(4)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, sys.byteorder) + bytes(4))
            writer.transport.abort()

        with serving(break_off) as port, running("nc", "loom", str(port)) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"more")
            process.stdin.flush()
            assert process.stdout.read(6) == b"a part"
            out, err = process.communicate(b"more", timeout=20)
        assert (process.returncode, out) == (1, b"")
        assert err == f"weft: loom port {port}: connection reset by peer\n".encode()

    def test_reader_that_goes_away_is_the_end(self, words: tuple[str, ...], node: FakeEngine) -> None:
        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                writer.write(DATA)
                await writer.drain()

        with serving(flood) as port:
            line = f"{' '.join(words)} nc loom {port} < /dev/null | head -c 1000 | wc -c; echo ${{PIPESTATUS[0]}}"
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=False)
        assert (done.stdout, done.stderr) == ("1000\n1\n", "")

    def test_who_does_not_read_yet_can_still_write(self, running: Running) -> None:
        heard: list[bytes] = []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(DATA)  # more than a pipe holds
            heard.append(await reader.readexactly(len(DATA)))

        with serving(talk) as port, running("nc", "loom", str(port)) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(DATA)
            process.stdin.close()
            process.stdin = None
            assert process.stdout.read() == DATA
            assert process.wait(20) == 0
        assert heard == [DATA]

    def test_at_a_terminal_it_is_over_with_the_other_side(self, words: tuple[str, ...], node: FakeEngine) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"your name? ")
            name = await reader.readline()
            writer.write(b"good bye, " + name)

        with serving(greet) as port, PseudoTerminal((*words, "nc", "loom", str(port))) as terminal:
            terminal.wait_for(r"your name\? ")
            terminal.send("anna\n")
            assert terminal.end() == 0
            assert terminal.seen.endswith("good bye, anna\n")


def test_standard_streams_are_left_as_they_were(words: tuple[str, ...], node: FakeEngine) -> None:
    reading, writing = os.pipe()
    with serving(echo) as port:
        subprocess.run([*words, "nc", "loom", str(port)], input=b"x", stdout=writing, timeout=20, check=True)
    assert os.get_blocking(writing)
    assert os.read(reading, 10) == b"x"
    os.close(reading)
    os.close(writing)
