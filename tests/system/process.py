"""Programs that tests start: to their end, or until they are stopped, with what they say kept for the failure."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from select import select
from typing import IO, Any, NamedTuple, Self

COMMAND_S = 60
STOP_S = 10
GONE_S = 10
TAIL_BYTES = 8_192
"""What a failure shows of each process's output."""


class Process:
    """A program that runs in a host, with everything that it says in a file."""

    def __init__(self, name: str, output: Path, begin: Callable[[IO[bytes]], Any]) -> None:
        """Begin it, which gives a `Popen`, or what is like one."""
        self.name = name
        self._path = output
        with output.open("wb") as file:
            self.popen = begin(file)

    @classmethod
    def of(cls, name: str, arguments: list[str], output: Path, env: dict[str, str] | None) -> Self:
        """One of a command line, whose standard input is open."""

        def begin(file: IO[bytes]) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            )

        return cls(name, output, begin)

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def output(self) -> str:
        return self._path.read_text(errors="replace")

    def wait_for(self, text: str, timeout_s: float = 20) -> str:
        """Wait until the output contains a text and return the whole of it."""
        deadline = time.monotonic() + timeout_s
        while True:
            running, output = self.running, self.output()
            if text in output:
                return output
            if not running or time.monotonic() > deadline:
                state = f"after {timeout_s:g} s" if running else f"and it exited with {self.popen.returncode}"
                raise AssertionError(f"{self.name} did not say {text!r} {state}:\n{output[-TAIL_BYTES:]}")
            time.sleep(0.02)

    def ask(self, line: str, timeout_s: float = 5) -> str:
        """Write a line to its standard input and return the line that it answers."""
        said = self.output()
        assert self.popen.stdin
        self.popen.stdin.write(f"{line}\n".encode())
        self.popen.stdin.flush()
        deadline = time.monotonic() + timeout_s
        while not (answer := self.output()[len(said) :]).endswith("\n"):
            in_time = self.running and time.monotonic() < deadline
            assert in_time, f"{self.name} did not answer {line!r}: {said}{answer}"
            time.sleep(0.005)
        return answer

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, forcibly when it takes too long, and return its exit code."""
        if self.running:
            self.popen.send_signal(number)
        if self.popen.stdin:
            with suppress(BrokenPipeError):
                self.popen.stdin.close()
        try:
            return self.popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait(STOP_S)


def kill(pid: int) -> None:
    """End a process as a power cut would; returns when it has gone, with all that it held, whosever child it is."""
    watch = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(watch, signal.SIGKILL)
        gone, _, _ = select([watch], [], [], GONE_S)
        assert gone, f"process {pid} is still there"
    finally:
        os.close(watch)


class Outcome(NamedTuple):
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str


def outcome(*arguments: str, timeout_s: float = COMMAND_S) -> Outcome:
    """Run a program to its end."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout_s, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


def command(*arguments: str, check: bool = True, timeout_s: float = COMMAND_S) -> str:
    """Run a program to its end; a failure shows what it said."""
    code, out, err = outcome(*arguments, timeout_s=timeout_s)
    if check and code:
        raise AssertionError(f"{' '.join(arguments)} exited with {code}: {out}{err}")
    return out
