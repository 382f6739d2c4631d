"""What commands say that copy files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

import click
import msgspec

from weft.cli.outcome import say
from weft.cli.show import plain, size

if TYPE_CHECKING:
    from weft.clients.report import Report


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

    @classmethod
    def of(cls, report: Report, began: float, **more: Any) -> Self:
        """What a report says.

        Args:
            report: of what was copied.
            began: monotonic s.
            **more: what else it has.
        """
        return cls(
            files=report.files,
            size_bytes=report.size_bytes,
            resumed_from_bytes=report.resumed_from_bytes,
            unchanged=report.unchanged,
            left_out=report.left_out,
            duration_s=round(time.monotonic() - began, 3),
            **more,
        )


def show(copied: Copied, *, what: str = "", json: bool) -> None:
    """Print it, as JSON or for people; they get a line on standard error for all that was left out."""
    if json:
        click.echo(msgspec.json.encode(copied))
        return
    for line in copied.left_out:
        say(f"left out: {line}")
    told = [f"{copied.files} {'file' if copied.files == 1 else 'files'}, {size(copied.size_bytes)}"]
    if copied.resumed_from_bytes:
        told.append(f"{size(copied.resumed_from_bytes)} of it before")
    if copied.unchanged:
        told.append(f"{copied.unchanged} unchanged")
    click.echo(plain(f"{what}{', '.join(told)} in {copied.duration_s:.1f} s"))
