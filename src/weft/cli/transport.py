"""`weft transport`: what carries the tunnels."""

from __future__ import annotations

import click

from weft.api.v0 import transport as transport_api
from weft.api.v0.transport import ChangeTransport
from weft.cli.command import Group
from weft.cli.names import TRANSPORT
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import table
from weft.engine.listeners import TransportList


@click.group(
    cls=Group,
    examples=(
        "weft transport list",
        "weft transport disable ip6",
    ),
)
def transport() -> None:
    """What carries the tunnels: `[transport]` in weft.toml."""


@transport.command(
    "list",
    result=transport_api.LIST,
    examples=("weft transport list", "weft transport list --json | jq '.transports[] | select(.enabled)'"),
)
@pass_settings
def list_(settings: Settings) -> None:
    """List the transports: whether each is on, and where it listens."""
    settings.answer(transport_api.LIST, None, show_transports)


@transport.command(
    short_help="Open the listeners of the transport NAME.",
    result=transport_api.ENABLE,
    examples=("weft transport enable ip6",),
)
@click.argument("name", type=TRANSPORT)
@pass_settings
def enable(settings: Settings, name: str) -> None:
    """Open the listeners of the transport NAME, from now on and after a new start."""
    settings.answer(transport_api.ENABLE, ChangeTransport(name=name), show_transports)


@transport.command(
    short_help="Close the listeners of the transport NAME.",
    result=transport_api.DISABLE,
    examples=("weft transport disable ip6",),
)
@click.argument("name", type=TRANSPORT)
@pass_settings
def disable(settings: Settings, name: str) -> None:
    """Close the listeners of the transport NAME; peers with an endpoint of another one are called there."""
    settings.answer(transport_api.DISABLE, ChangeTransport(name=name), show_transports)


def show_transports(listed: TransportList) -> None:
    """Print the transports, one a line."""
    rows = [
        (each.name, "on" if each.enabled else "off", each.about, " ".join(each.listeners)) for each in listed.transports
    ]
    table(rows, header=("TRANSPORT", "STATE", "IS", "LISTENS ON"))
