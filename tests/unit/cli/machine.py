"""A person's machine: the command as processes, and one node."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.unit.cli.terminal import Seen
from weft.api.client import Client
from weft.api.v0 import node as node_api
from weft.errors import WeftError


class Machine:
    """One node, and the commands that a person gives it."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.socket = directory / "api.sock"
        self.environment = environment
        self.command = [sys.executable, "-m", "weft", "--dir", str(directory)]

    def __call__(self, *args: str, given: str = "", **environment: str) -> Seen:
        done = subprocess.run(
            [*self.command, *args],
            input=given,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Seen(done.returncode, done.stdout, done.stderr)

    def start_daemon(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self.command, "daemon"], env=self.environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(500):
            if process.poll() is not None:
                break
            try:
                Client(self.socket).call(node_api.INFO)
                break
            except WeftError:
                time.sleep(0.02)
        return process
