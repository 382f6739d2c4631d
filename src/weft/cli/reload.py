"""`weft reload`: weft.toml anew."""

from __future__ import annotations

import click

from weft.api.v0 import config as config_api
from weft.cli.command import Command
from weft.cli.settings import Settings, pass_settings
from weft.engine.settings import Reloaded

_AGAIN = {"fc00.ifname": "when the interface is made anew: `weft fc00 stop`, then `weft fc00 start`"}
_RESTART = "when the daemon starts anew: `weft down`, then `weft up`"


@click.command(cls=Command, result=config_api.RELOAD, examples=("weft reload", "weft config check && weft reload"))
@pass_settings
def reload(settings: Settings) -> None:
    """Let the daemon read weft.toml anew, as it does at SIGHUP.

    Sessions with peers and connections through them go on. If the file is wrong, or can't be applied as a whole,
    nothing changes.
    """
    settings.answer(config_api.RELOAD, None, show_reloaded)


def show_reloaded(done: Reloaded) -> None:
    """Print what changed, and what will."""
    if done.applied or not done.needs_restart:
        click.echo(f"changed: {', '.join(done.applied)}" if done.applied else "nothing has changed")
    for key in done.needs_restart:
        click.echo(f"{key} counts {_AGAIN.get(key, _RESTART)}")
