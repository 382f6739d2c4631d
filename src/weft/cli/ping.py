"""`weft ping`: whether a peer answers, by which path, and how fast."""

from __future__ import annotations

import time

import click

from weft.api.v0 import peer as peer_api
from weft.api.v0.peer import Ping
from weft.cli.command import Command
from weft.cli.names import PEER
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import milliseconds
from weft.engine.status import Pong
from weft.errors import PeerError

INTERVAL_S = 1.0
GRACE_S = 5.0


@click.command(
    cls=Command,
    result=peer_api.PING,
    examples=(
        "weft ping loom",
        "weft ping -c 1 --size 1300 fc89:54a1:b598:365f:357:d6a:b108:db7b",
        "weft ping -c 1 loom --json | jq .rtt_ms",
    ),
)
@click.argument("peer", type=PEER)
@click.option("-c", "--count", type=click.IntRange(1), default=4, show_default=True, help="How many probes to send.")
@click.option(
    "--size", type=click.IntRange(0, 65535), help="Bytes of a probe inside the tunnel; the smallest by default."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, 300, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for each answer.",
)
@pass_settings
def ping(settings: Settings, peer: str, count: int, size: int | None, timeout_s: float) -> None:
    """Probe PEER inside its tunnel, and show the path, the endpoint and the round trip.

    PEER is its id, name, address in the network, or WireGuard key. The exit code is 1 when nothing came back.
    """
    sent, round_trips_ms = 0, []
    asked = Ping(peer=peer, timeout_s=timeout_s, size=size)
    try:
        for sent in range(1, count + 1):
            began = time.monotonic()
            pong = _probe(settings, asked)
            if pong is not None:
                round_trips_ms.append(pong.rtt_ms)
            if sent < count:
                time.sleep(max(0.0, began + INTERVAL_S - time.monotonic()))
    except KeyboardInterrupt:
        # Behind the ^C of the terminal.
        click.echo(err=settings.json)
    if not settings.json:
        _show_summary(sent, round_trips_ms)
    if not round_trips_ms:
        raise click.exceptions.Exit(1)


def _probe(settings: Settings, asked: Ping) -> Pong | None:
    client = settings.client
    try:
        reply = client.fetch(peer_api.PING, asked, patience_s=asked.timeout_s + GRACE_S)
    except (PeerError, TimeoutError) as error:
        # No answer is a result of a ping, not a failure of the command.
        click.echo(str(error), err=settings.json)
        return None
    pong = client.decode(peer_api.PING, reply)
    if settings.json:
        click.echo(reply)
    else:
        address = "" if pong.address == pong.peer else f" ({pong.address})"
        click.echo(f"pong from {pong.peer}{address} via {pong.path} {pong.endpoint} in {milliseconds(pong.rtt_ms)}")
    return pong


def _show_summary(sent: int, round_trips_ms: list[float]) -> None:
    got = len(round_trips_ms)
    click.echo(f"{sent} sent, {got} received, {100 * (sent - got) // max(sent, 1)} % lost", nl=not got)
    if got:
        mean = sum(round_trips_ms) / got
        figures = " / ".join(milliseconds(value) for value in (min(round_trips_ms), mean, max(round_trips_ms)))
        click.echo(f", round trip min / mean / max {figures}")
