"""`weft logs`: what the daemon says about itself."""

from __future__ import annotations

import time
from typing import get_args

import click
import msgspec

from weft.api.client import NoDaemon
from weft.api.v0 import log as log_api
from weft.api.v0.log import Tail
from weft.cli.command import Command
from weft.cli.log_file import log_path, read_log
from weft.cli.outcome import say
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import plain, styled
from weft.engine.status import LOG_LINES, LogLevel, LogLine

_COLORS = {"warning": "yellow", "error": "red", "debug": "bright_black"}


@click.command(
    cls=Command,
    result=log_api.FOLLOW,
    examples=(
        "weft logs -f",
        "weft logs -n 20 --level warning",
        "weft logs --json | jq -r .text",
    ),
)
@click.option("-f", "--follow", is_flag=True, help="Go on with each line as it comes, until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, LOG_LINES),
    default=LOG_LINES,
    show_default=True,
    help="How many lines of the past to show.",
)
@click.option(
    "--level",
    type=click.Choice(get_args(LogLevel)),
    default="debug",
    show_default=True,
    help="Show this and what is worse. What the daemon logs at all is a matter of weft.toml.",
)
@pass_settings
def logs(settings: Settings, *, follow: bool, lines: int, level: LogLevel) -> None:
    """Show the last lines that the daemon logged.

    They come from the running daemon, wherever its log goes. If none runs, they come from its log file.
    """
    asked = Tail(lines=lines, level=level)
    try:
        if follow:
            with settings.client.stream(log_api.FOLLOW, asked) as listening:
                for line in listening:
                    _show(settings, line)
            say("the daemon has ended")
            return
        found = settings.client.call(log_api.LIST, asked).lines
    except NoDaemon as error:
        if follow or not log_path(settings.directory).exists():
            raise
        found = read_log(settings.directory, lines, level)
        say(f"{error}; this is what the last one wrote")
    for line in found:
        _show(settings, line)


def _show(settings: Settings, line: LogLine) -> None:
    if settings.json:
        click.echo(msgspec.json.encode(line))
        return
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.at)) if line.at is not None else ""
    level = styled(line.level.upper(), _COLORS.get(line.level))
    head = " ".join(part for part in (moment, level, f"{line.logger}:" if line.logger else "") if part)
    click.echo(f"{head} {plain(line.text)}")
