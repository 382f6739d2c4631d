"""Programs of `generators` that do what they are told while they run (see generators/verbs.py)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.competitors import clean_environment
from bench.namespaces import BenchError, Namespace

# Root without any right of root, and no way back to one: it may read this checkout wherever that lies, and no more.
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
END_S = 10


class Program:
    """One of them, without privileges, in a namespace.

    Attributes:
        process: it.
    """

    def __init__(
        self, host: Namespace, log: Path, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = f"{module} in {host.name}"
        self.log = log
        command = (*WITHOUT_RIGHTS, sys.executable, "-m", f"bench.generators.{module}", *arguments)
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                host.command(*command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=clean_environment(environment or {}),
            )

    def tell(self, verb: str, timeout_s: float = 30, **arguments: Any) -> dict[str, Any]:
        """Have it do something, and wait until that is done.

        Raises:
            BenchError: it failed, ended, or took longer than `timeout_s`.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise BenchError(f"{self.name} has ended: {self.last_words()}") from None
        result: dict[str, Any] = json.loads(self.read_line(verb, timeout_s))
        if "error" in result:
            raise BenchError(f"{self.name}, {verb}: {result['error']}")
        return result

    def read_line(self, verb: str, timeout_s: float) -> bytes:
        """The next line that it prints; after a time-out, nothing that it prints can be trusted, so it is ended."""
        assert self.process.stdout is not None
        line, deadline = b"", time.monotonic() + timeout_s
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                self.process.kill()
                raise BenchError(f"{self.name}, {verb}: no answer after {timeout_s:g} s")
            part = os.read(self.process.stdout.fileno(), 1 << 20)
            if not part:
                raise BenchError(f"{self.name}, {verb}: it has ended: {self.last_words()}")
            line += part
        return line

    def last_words(self) -> str:
        """The last line that it wrote to its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.poll()}"

    def stop(self) -> None:
        """End it, and reap it."""
        for pipe in (self.process.stdin, self.process.stdout):
            # What could not be written to one that has ended is of no use any more.
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self.process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
