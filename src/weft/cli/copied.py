"""What commands say that copy files."""

from __future__ import annotations

import click
import msgspec

from weft.cli.outcome import say
from weft.cli.show import plain, size


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What `weft scp --json` prints."""

    schema: int = 1
    files: int
    size_bytes: int
    """Of all files that were copied."""
    resumed_from_bytes: int
    """What of them was there already of an attempt before."""
    unchanged: int
    """Files that were there already."""
    left_out: list[str]
    """What was not copied, and why."""
    duration_s: float


def show(copied: Copied, *, what: str = "") -> None:
    """Say it to people, with a line on standard error for all that was left out."""
    for line in copied.left_out:
        say(f"left out: {line}")
    told = [f"{copied.files} {'file' if copied.files == 1 else 'files'}, {size(copied.size_bytes)}"]
    if copied.resumed_from_bytes:
        told.append(f"{size(copied.resumed_from_bytes)} of it before")
    if copied.unchanged:
        told.append(f"{copied.unchanged} unchanged")
    click.echo(plain(f"{what}{', '.join(told)} in {copied.duration_s:.1f} s"))
