"""`weft listener`: where this node listens."""

from __future__ import annotations

import click

from weft.api.v0 import listener as listener_api
from weft.api.v0.listener import ChangeListener
from weft.cli.command import Group
from weft.cli.names import LISTENER
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import table
from weft.engine.listeners import ListenerList

_STATES = {"off": "its transport is off", "closed": "not an address of this machine now"}


@click.group(
    cls=Group,
    examples=(
        "weft listener list",
        "weft listener start /ip4/0.0.0.0/udp/53",
        "weft listener stop /ip6/::/udp/1312",
    ),
)
def listener() -> None:
    """Where this node listens for others: `peer.listen` in weft.toml."""


@listener.command(
    "list",
    short_help="List the listeners, and what the kernel does for them.",
    result=listener_api.LIST,
    examples=("weft listener list", "weft listener list --json | jq -r '.listeners[].multiaddr'"),
)
@pass_settings
def list_(settings: Settings) -> None:
    """List the listeners: as configured, really, and what the kernel does for them."""
    settings.answer(listener_api.LIST, None, show_listeners)


@listener.command(
    result=listener_api.START,
    examples=("weft listener start /ip4/0.0.0.0/udp/53", "weft listener start /ip6/2001:db8::2/udp/443"),
)
@click.argument("multiaddr")
@pass_settings
def start(settings: Settings, multiaddr: str) -> None:
    """Listen on MULTIADDR too, from now on and after a new start.

    MULTIADDR is /ip4/ADDRESS/udp/PORT or /ip6/ADDRESS/udp/PORT; 0.0.0.0 and :: are all addresses of this machine.
    """
    settings.answer(listener_api.START, ChangeListener(multiaddr=multiaddr), show_listeners)


@listener.command(
    short_help="Listen on MULTIADDR no longer.",
    result=listener_api.STOP,
    examples=("weft listener stop /ip6/::/udp/1312", "weft listener stop /ip4/0.0.0.0/udp/53"),
)
@click.argument("multiaddr", type=LISTENER)
@pass_settings
def stop(settings: Settings, multiaddr: str) -> None:
    """Listen on MULTIADDR no longer; peers that were reached by it are reached by another listener."""
    settings.answer(listener_api.STOP, ChangeListener(multiaddr=multiaddr), show_listeners)


def show_listeners(listed: ListenerList) -> None:
    """Print the listeners, one a line."""
    rows = [
        (
            each.multiaddr,
            each.bound or _STATES[each.state],
            " ".join(each.offloads),
            ", ".join(f"{reason}: {count}" for reason, count in each.drops.items()),
        )
        for each in listed.listeners
    ]
    table(rows, header=("LISTENER", "BOUND", "OFFLOADS", "NOT SENT"))
