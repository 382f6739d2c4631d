"""`weft bugreport`: what a person can attach to an issue without telling who they are."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from weft.cli.command import Command
from weft.cli.new_file import write_new
from weft.cli.outcome import say
from weft.cli.report import BugReport
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import waiting

STREAM = "-"


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
