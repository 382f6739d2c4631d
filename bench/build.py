"""The C programs of the benchmark, compiled for this machine."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from bench.namespaces import run

HERE = Path(__file__).parent
OUT = HERE / "out"


@functools.cache
def compiled(source: Path) -> Path:
    """The program made from a source file, once a run."""
    OUT.mkdir(exist_ok=True)
    program = OUT / source.stem
    run("cc", "-O3", "-march=native", "-o", str(program), str(source), "-lcrypto", "-lpthread")
    return program


def floor_program(name: str) -> Path:
    """A floor, from `floors` here or from the directory that WEFT_FLOORS names."""
    return compiled(Path(os.environ.get("WEFT_FLOORS") or HERE / "floors") / f"{name}.c")


def generator_program(name: str) -> Path:
    """A traffic generator."""
    return compiled(HERE / "generators" / f"{name}.c")
