"""`weft status`: everything at one glance."""

from __future__ import annotations

import click

from weft.api.v0 import node as node_api
from weft.cli.command import Command
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import milliseconds, size, state, table
from weft.engine.status import PeerStatus, Status


@click.command(
    cls=Command,
    examples=(
        "weft status",
        "weft status --json | jq '.peers[] | select(.state == \"up\") | .name'",
    ),
)
@pass_settings
def status(settings: Settings) -> None:
    """Show this node and its peers, one line each.

    Address, name, kind, state and where packets go, round trip, bytes sent and received, and whether whole bursts or
    single packets are sealed for the peer.
    """
    settings.answer(node_api.STATUS, None, show_status)


def show_status(status: Status) -> None:
    """Print this node, its peers, and what a person should know beyond them."""
    interface = status.interface
    own = (status.info.address, "(this node)", "weft", state("up", interface.ifname or "") if interface.up else "")
    table([own + ("",) * 4, *(peer_line(peer) for peer in status.peers)])
    for remark in _remarks(status):
        click.echo(f"# {remark}")


def peer_line(peer: PeerStatus) -> tuple[str, ...]:
    """The cells of one peer."""
    way = f"{peer.path} {peer.endpoint}" if peer.state == "up" and peer.endpoint else ""
    return (
        peer.addresses[0] if peer.addresses else "",
        peer.name or "",
        peer.kind,
        state(peer.state, way),
        milliseconds(peer.rtt_ms),
        f"tx {size(peer.tx_bytes)}",
        f"rx {size(peer.rx_bytes)}",
        peer.mode,
    )


def _remarks(status: Status) -> list[str]:
    remarks = [
        f"task {task.name} is stopped; `weft task restart {task.name}` starts it"
        for task in status.tasks
        if task.state == "stopped"
    ]
    if not status.interface.up:
        remarks.append("no interface, so programs can't use the network; `weft fc00 start` makes it")
    if not status.peers:
        remarks.append("no peers yet; `weft peer connect MULTIADDR` calls one")
    return remarks
