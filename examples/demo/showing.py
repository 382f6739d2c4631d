"""What is shown is run, and every line that it says is checked."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import IO, Any

from weft.errors import DecodeError
from weft.identity import PeerId, encode_wireguard_key

COMMAND_S = 60.0
IS_COLORED = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


class Wrong(Exception):  # noqa: N818 - it says what is the case
    """Something that was shown is not true, or nobody checked it."""


class Denied(str):
    """Why this machine does not allow something."""

    __slots__ = ()


def say(text: str = "", style: str = "") -> None:
    print(f"\033[{style}m{text}\033[0m" if style and IS_COLORED else text, flush=True)


def check(is_true: object, claim: str) -> None:
    if not is_true:
        raise Wrong(f"it is not true that {claim}")


def near(one: float, other: float, tolerance: float) -> bool:
    return abs(one - other) <= tolerance * max(one, other)


def require(*programs: str) -> None:
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        raise Wrong(f"needs {', '.join(missing)} in the PATH")


def wait_for(condition: Callable[[], object], what: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + COMMAND_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Wrong(f"it did not happen that {what}")
        time.sleep(0.02)


def environment() -> dict[str, str]:
    """That of this process, with the programs beside this Python, and nothing of another node."""
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    own = {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}
    return own | {"PATH": programs, "LC_ALL": "C", "NO_COLOR": "1", "no_proxy": "*"}


def without_rights() -> list[str]:
    """The command that runs another one without the rights that this process has, if it has any."""
    status = Path("/proc/self/status")
    if not status.exists() or re.search(r"^CapEff:\s+0+$", status.read_text(), re.MULTILINE):
        return []
    require("setpriv")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]


@dataclass
class Said:
    """What a command has shown: each line is taken once, by whoever checks its values."""

    command: str
    lines: list[str]

    def line(self, pattern: str) -> tuple[str, ...]:
        """Take the first line that is wholly of this form, and return its groups."""
        for number, line in enumerate(self.lines):
            found = re.fullmatch(pattern, line)
            if found:
                del self.lines[number]
                return found.groups()
        raise Wrong(f"`{self.command}` showed no line of the form {pattern}")


@dataclass
class Running:
    """A command in the background, and the file that it writes to."""

    process: subprocess.Popen[bytes]
    log: Path

    def end(self) -> str:
        """Wait for its end, which is its own; returns what it has said."""
        check(self.process.wait(COMMAND_S) == 0, "it ended well")
        return self.log.read_text()


@dataclass
class Host:
    """One of the machines, or who uses it."""

    name: str
    underlay: str
    directory: Path
    enter: list[str]
    environment: dict[str, str]
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return str(self.info["address"])

    def run(self, *words: str, check_code: bool = True) -> str:
        """What a command says, without showing it."""
        done = subprocess.run(
            [*self.enter, *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if check_code and done.returncode:
            raise Wrong(f"`{shlex.join(words)}` failed on {self.name}: {done.stdout.strip()}")
        return done.stdout

    @contextmanager
    def types(self, command: str, *, only: str = "", fails: bool = False) -> Iterator[Said]:
        """Run a command in sight; the block checks what it showed.

        Args:
            command: as a person types it.
            only: the lines to show, where the rest is of no interest.
            fails: whether it is right that the command fails.
        """
        say(f"{self.name}$ {command}", style="1")
        yield from self.shows(command, self.run(*shlex.split(command), check_code=not fails), only)

    def shows(self, command: str, output: str, only: str = "") -> Iterator[Said]:
        """Show what a command has said, let it be checked, and see that all of it was."""
        lines = [line for line in output.splitlines() if line.strip() and re.search(only, line)]
        for line in lines:
            say(f"  {line}")
        said = Said(command, lines)
        yield said
        if said.lines:
            raise Wrong(f"nobody checked what `{command}` showed: {said.lines[0]!r}")
        say()

    @contextmanager
    def types_in_background(self, command: str, is_ready: Callable[[str], object]) -> Iterator[Running]:
        """Run a server in sight, at most while the block lasts.

        Args:
            command: as a person types it.
            is_ready: whether it serves, judged by what it has said.
        """
        say(f"{self.name}$ {command} &", style="1")
        log = self.directory.parent / f"{self.name}-{len(list(self.directory.parent.glob('*.log')))}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self.enter, *shlex.split(command)], env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            wait_for(lambda: is_ready(log.read_text()), f"`{command}` serves", process)
            yield Running(process, log)
        finally:
            process.terminate()
            process.wait(COMMAND_S)

    def learn(self) -> None:
        """Ask the daemon who it is, and hold that against its key."""
        self.info = json.loads(self.run("weft", "info", "--json"))
        peer_id = PeerId.from_text(self.info["id"])
        check(self.address == str(IPv6Address(peer_id.address)), f"{self.address} is the address of {peer_id}")
        check(
            self.info["wireguard_public_key"] == encode_wireguard_key(peer_id.noise_public_key),
            f"the public key is the one of {peer_id}",
        )


# Parts of the demo that need a process of their own: with it ends everything that was started in them.


def apart(part: str, command: list[str] | None = None) -> int:
    """Run a part in a process of its own, which ends when this one does; returns its exit code.

    Args:
        part: its name, which `__main__` knows.
        command: starts the process, in namespaces for example.
    """
    with tempfile.TemporaryDirectory(prefix="weft-demo-") as directory:
        program = [sys.executable, str(Path(__file__).parent), part, directory]
        # In a session of its own: Ctrl-C is for this process, and the pipe tells the other one.
        process = subprocess.Popen([*(command or []), *program], stdin=subprocess.PIPE, start_new_session=True)
        try:
            return process.wait()
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait()


def play(tell: Callable[[Path], None], directory: Path, clean_up: Callable[[], None] = lambda: None) -> int:
    """Run a part in this process, which is its own; returns the exit code.

    Args:
        tell: the story.
        directory: for its files.
        clean_up: ends what this process would leave behind, if it ends in the middle.
    """
    threading.Thread(target=_end_with, args=(sys.stdin, clean_up), daemon=True).start()
    try:
        tell(directory)
    except (Wrong, DecodeError, subprocess.TimeoutExpired) as error:
        print(f"demo: {error}", file=sys.stderr, flush=True)
        clean_up()
        return 1
    return 0


def _end_with(stream: IO[str], clean_up: Callable[[], None]) -> None:
    """End at once when whoever started this process does."""
    stream.read()
    clean_up()
    os.killpg(0, signal.SIGTERM)
    os._exit(1)
