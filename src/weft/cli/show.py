"""How values look to people: aligned tables, sizes and times, a little colour, a word when something takes long."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest

import click

PATIENCE_S = 1.0
"""After this long, a person wants to know what is going on."""

_COLORS = {"up": "green", "connecting": "yellow", "idle": "bright_black"}


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Print rows with their columns aligned; an empty cell is shown as `-`."""
    lines = [list(header)] if header else []
    lines += [[cell or "-" for cell in row] for row in rows]
    widths = [max(len(click.unstyle(cell)) for cell in column) for column in zip_longest(*lines, fillvalue="")]
    for line in lines:
        padded = (cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(line, widths, strict=False))
        click.echo("  ".join(padded).rstrip())


def state(word: str, rest: str = "") -> str:
    """A state in its colour, and what more there is to say about it."""
    colored = word if os.environ.get("NO_COLOR") else click.style(word, fg=_COLORS.get(word))
    return f"{colored} {rest}".rstrip()


def size(amount_bytes: int) -> str:
    """`5.3 MiB`."""
    amount = float(amount_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def milliseconds(amount_ms: float | None) -> str:
    """`1.25 ms`, or nothing."""
    return "" if amount_ms is None else f"{amount_ms:.3g} ms" if amount_ms < 100 else f"{amount_ms:.0f} ms"


@contextmanager
def waiting(doing: str) -> Iterator[None]:
    """While the block runs for more than a second, tell the person at the terminal what is being done."""
    if not sys.stderr.isatty():
        yield
        return
    timer = threading.Timer(PATIENCE_S, lambda: click.echo(f"weft: {doing} …", err=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
