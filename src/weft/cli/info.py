"""`weft info`: who this node is."""

from __future__ import annotations

import click

from weft.api.v0 import node as node_api
from weft.cli.command import Command
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import table
from weft.engine.status import Info


@click.command(
    cls=Command,
    result=node_api.INFO,
    examples=(
        "weft info",
        "weft info --json | jq -r '.multiaddrs[0]'",
    ),
)
@pass_settings
def info(settings: Settings) -> None:
    """Show who this node is and where it can be reached."""
    settings.answer(node_api.INFO, None, show_info)


def show_info(info: Info) -> None:
    """Print a node's identity, one fact a line."""
    rows = [
        ("id", info.id),
        ("address", info.address),
        ("public key", info.wireguard_public_key),
        *(("multiaddr", multiaddr) for multiaddr in info.multiaddrs),
        ("directory", info.dir),
        ("daemon", f"weft {info.version}, process {info.pid}"),
    ]
    table(rows)
