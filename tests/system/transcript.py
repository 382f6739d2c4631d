"""Pages as scripts: every command that a page shows is run, and what it shows as output must be what comes out.

A page's blocks of the kind `console` are one long transcript:

    alice$ sudo weft up
    weft is up: fcf6:… on weft0

A line `NAME$ COMMAND` is a command on the host of that name; with a `\\` at its end it goes on in the next line, with
`<< 'END'` until that word. The lines up to the next command are its output; `…` stands for anything within a line, and
alone on a line for any number of lines. A command without output is not held to any. It must succeed, unless what is
shown begins with `weft: `, as errors do. `^C` as the last line ends it by an interrupt once the rest was seen. A
comment `<!-- console … -->` has more of the same, which a reader needs not see.

The hosts are namespaces on one network, `NUMBERS` being the ends of their addresses, with a `/etc/weft`, a home and a
`/run/wireguard` of their own; `sudo` does nothing, for all is root's. Their keys are always the same, so that a page
may show them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import IO

from tests.system.lab import Host, Lab
from weft.identity import generate
from weft.io.store import Store

NUMBERS = {"alice": 1, "bob": 2, "carol": 3, "phone": 4}
COMMAND = re.compile(r"(\w+)\$ (.*)")
HERE_DOCUMENT = re.compile(r"<< '(\w+)'$")
COMMAND_S = 60
SEEN_S = 10
READ_BYTES = 65_536
ANY = "…"
ANY_LINES = r"(?:.*\n)*?"
CONFIGURATION = Path("/etc/weft")


@dataclass
class Step:
    """One command of a page, and what it prints."""

    line: int
    host: str
    command: str
    output: list[str] = field(default_factory=list)

    @property
    def is_interrupted(self) -> bool:
        return self.output[-1:] == ["^C"]

    @property
    def expected(self) -> list[str]:
        return self.output[:-1] if self.is_interrupted else self.output

    @property
    def may_fail(self) -> bool:
        return bool(self.output) and self.output[0].startswith("weft: ")


def steps_of(page: str) -> list[Step]:
    """The commands of a page in their order."""
    steps: list[Step] = []
    end, goes_on, document = "", False, ""
    for number, line in enumerate(page.splitlines(), 1):
        if not end:
            end = {"```console": "```", "<!-- console": "-->"}.get(line.strip(), "")
        elif document:
            steps[-1].command += f"\n{line}"
            document = "" if line == document else document
        elif line.strip() == end:
            end = ""
        elif goes_on:
            steps[-1].command = steps[-1].command[:-1] + line.strip()
            goes_on = line.endswith("\\")
        elif found := COMMAND.fullmatch(line.strip()):
            steps.append(Step(number, found[1], found[2]))
            goes_on = line.endswith("\\")
            here = HERE_DOCUMENT.search(line)
            document = here[1] if here else ""
        else:
            assert steps, f"line {number}: output before any command"
            steps[-1].output.append(line.rstrip())
    return steps


def pattern_of(expected: list[str]) -> re.Pattern[str]:
    """What the output must match."""
    lines = [
        ANY_LINES if line.strip() == ANY else re.escape(line).replace(re.escape(ANY), ".*") + r"[ \t]*\n"
        for line in expected
    ]
    # Two of these in a row say no more than one, and take for ever to try.
    once = (line for before, line in pairwise(["", *lines]) if not before == line == ANY_LINES)
    return re.compile("".join(once))


class Stage:
    """The hosts of a page."""

    def __init__(self, lab: Lab, names: set[str]) -> None:
        self.lab = lab
        self.holders: dict[str, int] = {}
        self.directories: dict[str, Path] = {}
        lan = lab.host("lan")
        lan.ip("link", "add", "lan0", "type", "bridge")
        lan.ip("link", "set", "lan0", "up")
        for name in sorted(names, key=NUMBERS.__getitem__):
            self._add(name, lan)

    def _add(self, name: str, lan: Host) -> None:
        host = self.lab.host(name)
        lan.ip("link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        lan.ip("link", "set", f"to-{name}", "master", "lan0", "up")
        host.ip("addr", "add", f"192.0.2.{NUMBERS[name]}/24", "dev", "eth0")
        host.ip("addr", "add", f"2001:db8::{NUMBERS[name]}/64", "dev", "eth0", "nodad")
        host.ip("link", "set", "eth0", "up")
        directory = self.directories[name] = self.lab.directory(name)
        (directory / "weft").mkdir(mode=0o700)
        (directory / "home").mkdir()
        CONFIGURATION.mkdir(exist_ok=True)
        mounts = f"mount --bind {directory}/weft {CONFIGURATION} && mount -t tmpfs tmpfs /run/wireguard"
        Path("/run/wireguard").mkdir(exist_ok=True)
        holder = host.start("unshare", "--mount", "bash", "-c", f"{mounts} && echo ready && exec sleep inf")
        holder.wait_for("ready")
        self.holders[name] = holder.popen.pid
        if name != "phone":
            Store(directory / "weft").create_key(generate(Random(f"identity {name}").randbytes))

    def run(self, step: Step) -> str:
        """Run one command, hold its output against the page's, and return it."""
        home = self.directories[step.host] / "home"
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "NO_COLOR": "1",
        }
        command = re.sub(r"\bsudo ", "", step.command)
        process = subprocess.Popen(
            ["nsenter", f"--target={self.holders[step.host]}", "--net", "--mount", "bash", "-c", f"cd; {command}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        assert process.stdout is not None
        output = self._interrupted(process, process.stdout, step) if step.is_interrupted else self._ended(process)
        said = f"line {step.line}: {step.host}$ {step.command}\n{output}"
        if not step.is_interrupted:
            assert process.returncode == 0 or step.may_fail, f"{said}\nexit code {process.returncode}"
            assert not (process.returncode == 0 and step.may_fail), f"{said}\nshould have failed"
        if step.expected:
            shown = "\n".join(step.expected)
            assert pattern_of(step.expected).fullmatch(output), f"{said}\nand not\n{shown}"
        return output

    @staticmethod
    def _ended(process: subprocess.Popen[str]) -> str:
        # A daemon that stays in the background has its own output, so the end of this one's is the command's end.
        output, _ = process.communicate(timeout=COMMAND_S)
        return output if output.endswith("\n") else output + "\n"

    @staticmethod
    def _interrupted(process: subprocess.Popen[str], stream: IO[str], step: Step) -> str:
        os.set_blocking(stream.fileno(), False)
        seen, deadline = b"", time.monotonic() + SEEN_S
        shown = pattern_of([*step.expected, ANY])
        while time.monotonic() < deadline and not shown.fullmatch(seen[: seen.rfind(b"\n") + 1].decode()):
            time.sleep(0.05)
            with suppress(BlockingIOError):
                seen += os.read(stream.fileno(), READ_BYTES)
        os.killpg(process.pid, signal.SIGINT)
        os.set_blocking(stream.fileno(), True)
        rest, _ = process.communicate(timeout=SEEN_S)
        return seen.decode() + rest
