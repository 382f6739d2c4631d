"""`weft send` and `weft receive`: what they ask and say, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import jsonschema
import pytest

from tests.unit.api.fake_engine import FakeEngine
from tests.unit.cli import loopback
from tests.unit.cli.loopback import HERE, Loopback
from tests.unit.cli.pseudo_terminal import PseudoTerminal
from tests.unit.cli.terminal import Terminal
from weft.cli.schemas import schemas
from weft.clients.parcel.folder import Conflict
from weft.clients.parcel.inbox import Inbox, open_inbox
from weft.clients.parcel.receive import Received
from weft.clients.parcel.send import SendError, send
from weft.clients.report import Report

IN_LOOPBACK = (sys.executable, "-m", "tests.unit.cli.loopback")
BIG = bytes(range(256)) * 40_000


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("send", "receive"):
        monkeypatch.setattr(f"weft.cli.{command}.attached", loopback.attached)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes.txt").write_text("hello")
    return tmp_path / "notes.txt"


@pytest.fixture
def port() -> int:
    with socket.create_server((HERE, 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def receiving(there: Path, port: int, conflict: Conflict = "rename") -> Iterator[list[Received]]:
    """Who receives one parcel, in a thread; what came is there at the end."""
    came: list[Received] = []
    loop = asyncio.new_event_loop()

    async def begin() -> Inbox:
        return await open_inbox(Loopback(), there, allowed=lambda _: True, port=port, conflict=conflict)

    async def run(inbox: Inbox) -> None:
        async with inbox:
            came.append(await inbox.next())

    inbox = loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_until_complete, args=(run(inbox),))
    thread.start()
    try:
        yield came
    finally:
        thread.join()
        loop.close()


def sent(port: int, *files: Path) -> Report:
    async def run() -> Report:
        return await send(Loopback(), "loom", files, port=port)

    return asyncio.run(run())


class TestSend:
    def test_it_is_told_what_came_of_it(self, weft: Terminal, notes: Path, there: Path, port: int) -> None:
        with receiving(there, port):
            seen = weft("send", str(notes), "loom", "-p", str(port))
        assert (seen.code, seen.err) == (0, "")
        assert re.fullmatch(r"1 file, 5 B in \d+\.\d s\n", seen.out)
        assert (there / "notes.txt").read_text() == "hello"

    def test_json(self, weft: Terminal, notes: Path, there: Path, port: int) -> None:
        with receiving(there, port):
            seen = weft("send", str(notes), "loom", "-p", str(port), "--json")
        told = json.loads(seen.out)
        jsonschema.validate(told, schemas()["weft send"], cls=jsonschema.Draft202012Validator)
        assert (told["schema"], told["peer"], told["files"], told["size_bytes"], told["left_out"]) == (
            1,
            "loom",
            1,
            5,
            [],
        )

    def test_what_was_left_out_is_a_line_each_and_exit_1(
        self, weft: Terminal, tmp_path: Path, there: Path, port: int
    ) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "link").symlink_to("/etc/passwd")
        (tmp_path / "folder" / "a\nb").touch()
        with receiving(there, port):
            seen = weft("send", str(tmp_path / "folder"), "loom", "-p", str(port))
        assert seen.code == 1
        assert seen.err.splitlines() == [
            f"weft: left out: {tmp_path}/folder/a b: has control characters in its name",
            f"weft: left out: {tmp_path}/folder/link: is a link",
        ]
        assert os.listdir(there / "folder") == []

    def test_what_is_there_already_is_told(self, weft: Terminal, notes: Path, there: Path, port: int) -> None:
        (there / "notes.txt").write_text("hello")
        with receiving(there, port):
            seen = weft("send", str(notes), "loom", "-p", str(port))
        assert re.fullmatch(r"0 files, 0 B, 1 unchanged in \d+\.\d s\n", seen.out)

    def test_nobody_there_is_one_line_that_says_what_to_do(self, weft: Terminal, notes: Path, port: int) -> None:
        seen = weft("send", str(notes), "loom", "-p", str(port))
        assert (seen.code, seen.out) == (1, "")
        assert seen.err.startswith("weft: nobody receives at loom; there run `weft receive`, ")
        assert seen.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("name", "code", "line"),
        [
            ("nothing", 1, "No such file or directory"),
            ("x.part", 2, "ends in .part, as what has not come as a whole yet"),
            ("/dev/null", 2, "is neither a file nor a folder"),
        ],
    )
    def test_what_can_not_be_sent_is_one_line(
        self, weft: Terminal, tmp_path: Path, name: str, code: int, line: str
    ) -> None:
        (tmp_path / "x.part").touch()
        seen = weft("send", str(tmp_path / name), "loom")
        assert (seen.code, seen.out, seen.err) == (code, "", f"weft: {tmp_path / name}: {line}\n")

    def test_progress_is_for_a_terminal(self, tmp_path: Path, there: Path, port: int) -> None:
        (tmp_path / "big").write_bytes(BIG)
        with (
            receiving(there, port),
            PseudoTerminal((*IN_LOOPBACK, "send", str(tmp_path / "big"), "loom", "-p", str(port))) as terminal,
        ):
            terminal.wait_for(r"big .*\d+\.\d/\d+\.\d MB")
            assert terminal.end() == 0


Receives = Callable[..., "subprocess.Popen[str]"]
Asked = Callable[[], AbstractContextManager[PseudoTerminal]]


@pytest.fixture
def words(weft: Terminal, node: FakeEngine) -> tuple[str, ...]:
    """The command beside a daemon, in a network that is the loopback interface."""
    return *IN_LOOPBACK, "--dir", str(weft.directory), "receive"


@pytest.fixture
def receives(words: tuple[str, ...], there: Path, port: int) -> Iterator[Receives]:
    """Starts `weft receive` without a terminal, and returns when it waits."""
    started: list[subprocess.Popen[str]] = []
    # The network of these tests ends with what is typed.
    terminal, inside = os.openpty()

    def start(*options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*words, str(there), "-p", str(port), *options],
            stdin=inside,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stderr is not None
        audience = f"nobody yet: `weft fc00 allow /tcp/{port}` lets others in"
        assert (
            process.stderr.readline()
            == f"weft: receiving on port {port}, into {there}; the port is open for {audience}\n"
        )
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    os.close(terminal)
    os.close(inside)


class TestReceive:
    def test_one_parcel_comes_and_it_ends(self, receives: Receives, notes: Path, there: Path, port: int) -> None:
        process = receives("--from", "loom")
        sent(port, notes)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")
        assert re.fullmatch(rf"{there}/notes.txt from loom: 1 file, 5 B in \d+\.\d s\n", out)

    def test_for_whom_the_firewall_is_open_is_told(
        self, words: tuple[str, ...], node: FakeEngine, there: Path, port: int
    ) -> None:
        node.fc00.rules, node.fc00.names = [f"/tcp/{port}/from/KEY="], {"KEY=": "loom"}
        words = (*words, "--yes", str(there), "-p", str(port))
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
        line = f"weft: receiving on port {port}, into {there}; the port is open for loom"
        assert (done.returncode, done.stderr.splitlines()[0]) == (1, line)

    def test_json_goes_on_with_loop_until_interrupted(
        self, receives: Receives, notes: Path, there: Path, port: int
    ) -> None:
        process = receives("--yes", "--json", "--loop")
        assert process.stdout is not None
        for name in ("notes.txt", "notes (1).txt"):
            notes.write_text(name)
            sent(port, notes)
            told = json.loads(process.stdout.readline())
            jsonschema.validate(told, schemas()["weft receive"], cls=jsonschema.Draft202012Validator)
            assert (told["sender"], told["paths"], told["files"]) == ("loom", [str(there / name)], 1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err.strip()) == (130, "weft: interrupted")

    def test_who_is_not_named_is_refused_and_it_goes_on(
        self, receives: Receives, notes: Path, there: Path, port: int
    ) -> None:
        process = receives("--from", "12D3KooWS9W8ok81bgRf24eUcTKdK3yB5jpBLtaizpMpDDAj6Ehz")
        for _ in range(2):
            with pytest.raises(SendError, match="nothing is taken from you there"):
                sent(port, notes)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert err.split("\n")[:1] == [
            f"weft: loom is refused; `weft receive --from {HERE}` takes what it sends",
        ]
        assert err.count("refused") == 1
        assert os.listdir(there) == []

    def test_end_of_the_network_ends_it(self, words: tuple[str, ...], there: Path, port: int) -> None:
        words = (*words, "--yes", str(there), "-p", str(port))
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines()[1:] == ["weft: the network has ended: its daemon or its interface went down"]

    def test_something_left_out_is_exit_1(self, receives: Receives, notes: Path, there: Path, port: int) -> None:
        (there / "notes.txt").write_text("other")
        process = receives("--from", "loom", "--conflict", "skip")
        assert sent(port, notes).left_out
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (1, "weft: left out: notes.txt: another file of this name is there\n")

    def test_without_a_terminal_it_has_to_be_said_from_whom(
        self, weft: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("weft.cli.receive.has_terminal", lambda: False)
        seen = weft("receive")
        assert (seen.code, seen.out) == (2, "")
        assert seen.err == (
            "weft: there is no terminal to ask at; --from says from whom it is taken, or --yes from all peers\n"
        )

    def test_unknown_peer_and_no_folder_are_one_line(self, weft: Terminal, there: Path, port: int) -> None:
        seen = weft("receive", "--from", "nobody")
        assert (seen.code, seen.err) == (2, "weft: no peer 'nobody'; `weft peer list` shows those that there are\n")
        seen = weft("receive", "--from", "hub")
        assert seen.code == 2
        assert seen.err == "weft: hub has no address that is its alone, by which it could be known\n"
        seen = weft("receive", "--yes", str(there / "nothing"), "-p", str(port))
        assert (seen.code, seen.err) == (1, f"weft: {there}/nothing: No such file or directory\n")

    def test_port_that_is_taken_is_one_line(self, weft: Terminal, there: Path) -> None:
        with socket.create_server((HERE, 0)) as taken:
            seen = weft("receive", "--yes", str(there), "-p", str(taken.getsockname()[1]))
        assert (seen.code, seen.err.count("\n")) == (1, 1)
        assert "in use" in seen.err


@pytest.fixture
def asked(words: tuple[str, ...], there: Path, port: int) -> Asked:
    """Runs `weft receive` at a terminal, from when it waits."""

    @contextmanager
    def asked() -> Iterator[PseudoTerminal]:
        with PseudoTerminal((*words, str(there), "-p", str(port))) as terminal:
            terminal.wait_for("receiving on port")
            yield terminal

    return asked


class TestAtTerminal:
    def test_yes_takes_it_and_shows_how_far_it_is(self, asked: Asked, tmp_path: Path, there: Path, port: int) -> None:
        (tmp_path / "big").write_bytes(BIG)
        with asked() as terminal:
            sending = threading.Thread(target=sent, args=(port, tmp_path / "big"))
            sending.start()
            terminal.wait_for(re.escape("loom wants to send big (1 file, 9.8 MiB); take it? [y/N] "))
            terminal.send("y\n")
            terminal.wait_for(r"big .*\d+\.\d/\d+\.\d MB")
            assert terminal.end() == 0
            assert re.search(r"big from loom: 1 file, 9\.8 MiB in ", terminal.seen)
            sending.join()
        assert (there / "big").read_bytes() == BIG

    def test_no_refuses_it_and_waits_for_another(self, asked: Asked, notes: Path, there: Path, port: int) -> None:
        refused: list[str] = []

        def try_it() -> None:
            try:
                sent(port, notes)
            except SendError as error:
                refused.append(str(error))

        with asked() as terminal:
            for answer in ("n\n", "\n", "y\n"):
                sending = threading.Thread(target=try_it)
                sending.start()
                terminal.wait_for("take it")
                terminal.send(answer)
                sending.join()
            assert terminal.end() == 0
        assert refused == ["loom: it is not wanted there"] * 2
        assert os.listdir(there) == ["notes.txt"]

    def test_sender_that_leaves_is_no_longer_asked_about(
        self, asked: Asked, notes: Path, there: Path, port: int
    ) -> None:
        with asked() as terminal:
            words = (*IN_LOOPBACK, "send", str(notes), "loom", "-p", str(port))
            with subprocess.Popen(words, stderr=subprocess.DEVNULL) as leaves:
                terminal.wait_for("take it")
                leaves.kill()
            sending = threading.Thread(target=sent, args=(port, notes))
            sending.start()
            terminal.wait_for("\n.*notes.txt.*take it")
            terminal.send("y\n")
            assert terminal.end() == 0
            sending.join()
        assert os.listdir(there) == ["notes.txt"]

    def test_interrupt_ends_the_question_and_tells_the_sender(
        self, asked: Asked, notes: Path, there: Path, port: int
    ) -> None:
        refused: list[str] = []

        def try_it() -> None:
            with pytest.raises(SendError) as caught:
                sent(port, notes)
            refused.append(str(caught.value))

        with asked() as terminal:
            sending = threading.Thread(target=try_it)
            sending.start()
            terminal.wait_for("take it")
            terminal.send("\x03")
            assert terminal.end() == 130
            assert terminal.seen.endswith("weft: interrupted\n")
            sending.join()
        assert refused == ["loom: it was ended there; send it again, and it goes on from there"]
        assert os.listdir(there) == []
