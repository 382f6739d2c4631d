"""Runs the command as a person would, in this process, and gives what they would see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from weft.cli import main


@dataclass(frozen=True)
class Seen:
    code: int
    out: str
    err: str


class Terminal:
    """A node's directory, and the command in front of it."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.socket = directory / "api.sock"
        self._capsys = capsys

    def __call__(self, *args: str) -> Seen:
        return self.bare("--dir", str(self.directory), *args)

    def bare(self, *args: str) -> Seen:
        self._capsys.readouterr()
        code = main(args)
        return Seen(code, *self._capsys.readouterr())
