"""`weft status`: everything at one glance."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import get_args

import click
import msgspec
from msgspec.structs import replace

from weft.api.v0 import node as node_api
from weft.api.v0 import observe
from weft.api.v0.observe import Watch
from weft.cli.command import Command
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import is_watched, milliseconds, redraw, rendered, size, state, title, waiting
from weft.engine.status import EventKind, PeerStatus, Status
from weft.errors import WeftError

KINDS: list[EventKind] = [kind for kind in get_args(EventKind) if kind != "log"]
"""What may change the picture."""


EVERY_S = 1.0
"""How often figures are looked at that no event tells."""
PAUSE_S = 0.1
"""After a change, so that one which comes with many others is told once."""


@click.command(
    cls=Command,
    result=node_api.STATUS,
    examples=(
        "weft status",
        "weft status --watch --active",
        "weft status --json | jq '.peers[] | select(.state == \"up\") | .name'",
    ),
)
@click.option("--watch", is_flag=True, help="Go on, and show what changes, until Ctrl-C.")
@click.option("--active", is_flag=True, help="Only peers whose tunnel is up.")
@pass_settings
def status(settings: Settings, *, watch: bool, active: bool) -> None:
    """Show this node and its peers, one line each.

    Address, name, kind, state and where packets go, round trip, bytes sent and received, and whether whole bursts or
    single packets are sealed for the peer.

    With `--watch` a terminal is drawn anew; elsewhere, whatever changed is printed again as a whole.
    """
    changes = _changes(settings) if watch else (None,)
    told = ""
    for _ in changes:
        now = _ask(settings, active=active)
        drawn = status_text(now)
        if watch and is_watched() and not settings.json:
            redraw(drawn)
        elif drawn != told:
            gap = "\n" if told else ""
            click.echo(msgspec.json.encode(now) if settings.json else gap + drawn, nl=settings.json)
        told = drawn


def _ask(settings: Settings, *, active: bool) -> Status:
    with waiting("waiting for the daemon"):
        now = settings.client.call(node_api.STATUS)
    return replace(now, peers=[peer for peer in now.peers if peer.state == "up"]) if active else now


def _changes(settings: Settings) -> Iterator[None]:
    """One item at the beginning, at each event, and at least each second."""
    happened = threading.Event()

    def listen() -> None:
        # A daemon that has gone is found out by the next question.
        with suppress(WeftError), settings.client.stream(observe.EVENTS, Watch(kinds=KINDS)) as events:
            for _ in events:
                happened.set()

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield
        time.sleep(PAUSE_S)
        happened.wait(EVERY_S - PAUSE_S)
        happened.clear()


def status_text(status: Status) -> str:
    """This node, its peers, and what a person should know beyond them."""
    interface = status.interface
    own = (status.info.address, "(this node)", "weft", state("up", title(interface)) if interface.up else "")
    table = rendered([own + ("",) * 4, *(peer_line(peer) for peer in status.peers)])
    return table + "".join(f"# {remark}\n" for remark in _remarks(status))


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
