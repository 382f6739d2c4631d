"""How far a transfer is, for a person at a terminal: a line on standard error that is gone when it is over."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from weft.cli.show import plain

Told = Callable[[int, int | None], None]
"""Is told how many bytes of how many are there, if that is known."""


@contextmanager
def progress(what: str | None) -> Iterator[Told]:
    """While the block runs, show how far it is, if anybody is there to see it.

    Args:
        what: is transferred; stands at the beginning of the line. None for what is not to be shown.
    """
    if what is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _tell_nobody
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    shown = Progress(*columns, console=Console(stderr=True), transient=True)
    task = shown.add_task(plain(what), total=None)

    def tell(size_bytes: int, of_bytes: int | None) -> None:
        shown.start()  # nothing, if it is
        shown.update(task, completed=size_bytes, total=of_bytes)

    try:
        yield tell
    finally:
        shown.stop()


def _tell_nobody(size_bytes: int, of_bytes: int | None) -> None:
    pass
