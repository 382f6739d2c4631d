"""`weft bugreport`: what a person can attach to an issue without telling who they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from weft.cli.command import Command
from weft.cli.new_file import write_new
from weft.cli.outcome import say
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import waiting

STREAM = "-"


class BugReport(msgspec.Struct, frozen=True, kw_only=True):
    """A node and its machine, for those who look for a fault; every name in it is a pseudonym."""

    schema: int = 1
    at: str
    """When it was made, UTC."""
    running: bool
    """Whether a daemon answered; if not, what only a daemon knows is missing."""
    versions: dict[str, str]
    """Of weft, Python, the system and the libraries."""
    environment: list[str]
    """Names of the variables that are set for weft."""
    config: dict[str, Any] | None
    """What `weft.toml` says, with the defaults."""
    status: dict[str, Any] | None
    """As `weft status --json`."""
    state: dict[str, Any] | None
    """What is stored of peers and rules."""
    metrics: list[str]
    log: list[str]
    """The last lines, the oldest first."""
    interfaces: list[str]
    routes: list[str]
    legend: dict[str, str]
    """What kind of address a pseudonym stands for."""
    missing: dict[str, str]
    """What could not be found out, and why."""


@click.command(
    cls=Command,
    result=BugReport,
    examples=(
        "weft bugreport -o report.json",
        "weft bugreport | less",
    ),
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default=STREAM,
    help="Write the report there, for its owner alone, instead of printing it.",
)
@pass_settings
def bugreport(settings: Settings, *, output: Path) -> None:
    """Collect what those need to know who look for a fault, as one file of JSON.

    Versions, configuration, status, metrics, log, interfaces and routes. Addresses, peers, keys, names, hosts, users
    and paths are pseudonyms, the same thing having the same one throughout; secrets are not in it. Read it before you
    send it all the same. It works without a daemon, and says so.
    """
    from weft.cli.evidence import collect

    with waiting("collecting"):
        report = collect(settings)
    encoded = msgspec.json.encode(report)
    if not settings.json:
        encoded = msgspec.json.format(encoded, indent=2)
    if str(output) == STREAM:
        click.echo(encoded)
        return
    write_new(output, encoded + b"\n")
    say(f"wrote {output}; read it before you send it")
