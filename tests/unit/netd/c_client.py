"""The client in C, compiled."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "examples" / "netd" / "client.c"
STRICT = ("-std=c99", "-D_POSIX_C_SOURCE=200809L", "-O2", "-Wall", "-Wextra", "-Werror")


def compiled(directory: Path) -> Path:
    """The program."""
    if shutil.which("cc") is None:
        pytest.skip("needs cc")
    program = directory / "client"
    subprocess.run(["cc", *STRICT, "-o", str(program), str(SOURCE)], check=True)
    return program
