"""How values look to people: aligned tables, sizes and times, a little colour, a word when something takes long."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.text import Text

    from weft.engine.status import Interface

PATIENCE_S = 1.0
"""After this long, a person wants to know what is going on."""
GAP = 2
"""Spaces between two columns."""

_COLORS = {"up": "green", "connecting": "yellow", "idle": "bright_black", "blocked": "red"}


def is_watched() -> bool:
    """Whether a person looks at the output, at a terminal that can do more than print lines."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def is_colored() -> bool:
    """Whether the output may have colours; `NO_COLOR` forbids them (no-color.org)."""
    return is_watched() and not os.environ.get("NO_COLOR")


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Print rows with their columns aligned; an empty cell is shown as `-`."""
    click.echo(rendered(rows, header), nl=False)


def rendered(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> str:
    """What `table` prints: a line a row, but folded between words where a person looks at a terminal too narrow."""
    cells = [[cell or "-" for cell in row] for row in rows]
    if not is_watched():
        return _aligned([list(header), *cells] if header else cells)
    titled = [[styled(title, bold=True) for title in header], *cells] if header else cells
    if all(cell.isascii() for line in titled for cell in line):
        text = _aligned(titled)
        if all(_width(line) <= shutil.get_terminal_size().columns for line in text.splitlines()):
            return text
    # What is not ASCII may be wider than its letters are many.
    return _laid_out(cells, header)


def _aligned(lines: list[list[str]]) -> str:
    """One line a row, in columns that are parted by spaces."""
    measured = [[(cell, _width(cell)) for cell in line] for line in lines]
    widths = [max(width for _, width in column) for column in zip_longest(*measured, fillvalue=("", 0))]
    padded = (
        (" " * GAP).join(cell + " " * (width - own) for (cell, own), width in zip(line, widths, strict=False))
        for line in measured
    )
    return "".join(f"{line.rstrip()}\n" for line in padded)


def _width(text: str) -> int:
    return len(click.unstyle(text)) if "\x1b" in text else len(text)


def _laid_out(cells: list[list[str]], header: Sequence[str]) -> str:
    """In columns that fold between words where the terminal is narrow; nothing is cut, and no address is torn."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [[Text.from_ansi(cell) if "\x1b" in cell else Text(cell) for cell in row] for row in cells]
    titles = [Text(title, "bold") for title in header]
    columns = list(zip(*rows, *([titles] if titles else []), strict=True))
    widths = _widths(columns)
    grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=bool(titles))
    for index, width in enumerate(widths):
        grid.add_column(titles[index] if titles else "", width=width)
    for row in rows:
        grid.add_row(*row)
    console = Console(
        width=sum(widths) + GAP * len(widths),
        color_system="standard" if is_colored() else None,
        force_terminal=True,
    )
    with console.capture() as captured:
        console.print(grid)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _widths(columns: Sequence[Sequence[Text]]) -> list[int]:
    """How wide each column is: as wide as it likes, if the terminal has room, but never narrower than a word.

    What is still too wide then, the terminal folds.
    """
    widths = [max(cell.cell_len for cell in column) for column in columns]
    words = [max(len(word) for cell in column for word in cell.plain.split()) for column in columns]
    excess = sum(widths) + GAP * (len(widths) - 1) - shutil.get_terminal_size().columns
    for index in sorted(range(len(widths)), key=lambda index: words[index] - widths[index]):
        given = min(widths[index] - words[index], max(excess, 0))
        widths[index] -= given
        excess -= given
    return widths


def redraw(text: str) -> None:
    """Put text in place of what the terminal shows, as much of it as there is room for."""
    room = shutil.get_terminal_size().lines - 1
    lines = text.splitlines()
    if len(lines) > room:
        lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more lines"]
    click.echo("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", nl=False)


def state(word: str, rest: str = "") -> str:
    """A state in its colour, and what more there is to say about it."""
    return f"{styled(word, _COLORS.get(word))} {rest}".rstrip()


def styled(text: str, color: str | None = None, *, bold: bool = False) -> str:
    """A word in a colour or in bold, where there may be any."""
    return click.style(text, fg=color, bold=bold or None) if (color or bold) and is_colored() else text


def plain(text: str) -> str:
    """Text that others had a hand in, so that it moves no cursor and starts no line where it should not."""
    return "".join(
        letter if letter.isprintable() else "\n    " if letter == "\n" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def in_one_line(text: str) -> str:
    """The same, for what must not be taken for more than one line, of which the others could say anything."""
    return plain(" ".join(text.splitlines()))


def text_for_terminal(text: str) -> str:
    """Text of others that is shown as it is, lines and all, but for what moves cursors, hides or sets keys."""
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter)[0] != "C" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def title(interface: Interface) -> str:
    """What people call an interface that is up."""
    return "the stack" if interface.device == "stack" else interface.ifname or ""


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
