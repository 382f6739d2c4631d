"""`weft wait`: for scripts that go on when the network is there."""

from __future__ import annotations

import time

import click
import msgspec

from weft.api.client import NoDaemon
from weft.api.v0 import node as node_api
from weft.cli.command import Command
from weft.cli.names import PEER
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import waiting
from weft.engine.status import PeerStatus
from weft.errors import Broken

PAUSE_S = 0.1


class Awaited(msgspec.Struct, frozen=True, kw_only=True):
    """What `weft wait --json` prints."""

    schema: int = 1
    address: str
    """Of this node."""
    peer: PeerStatus | None
    """Which is up; None if none was named."""


@click.command(
    cls=Command,
    result=Awaited,
    examples=(
        "weft wait && weft fc00 allow /tcp/80",
        "weft wait --peer loom --timeout 60 && ping -c 1 fc89:54a1:b598:365f:357:d6a:b108:db7b",
    ),
)
@click.option("--peer", type=PEER, help="Wait until the tunnel to this one is up, too.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, 86400),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait.",
)
@pass_settings
def wait(settings: Settings, *, peer: str | None, timeout_s: float) -> None:
    """Return when the daemon answers, and 1 as the exit code if it does not in time.

    A peer is named by its id, name, address in the network, or WireGuard key. It is called as `weft peer connect` and
    the configuration say; this command only waits.
    """
    deadline = time.monotonic() + timeout_s
    with waiting(f"waiting, for up to {timeout_s:g} s"):
        while (awaited := _look(settings, peer, is_last=time.monotonic() >= deadline)) is None:
            time.sleep(PAUSE_S)
    if settings.json:
        click.echo(msgspec.json.encode(awaited))
    else:
        click.echo(f"{peer} is up" if peer else f"the daemon answers: {awaited.address}")


def _look(settings: Settings, name: str | None, *, is_last: bool) -> Awaited | None:
    """What was waited for, or None while it is not there.

    Raises:
        NoDaemon, Broken, TimeoutError: it is not there, and this look was the last.
    """
    try:
        status = settings.client.call(node_api.STATUS)
    except (NoDaemon, Broken):
        if is_last:
            raise
        return None
    if name is None:
        return Awaited(address=status.info.address, peer=None)
    found = next((peer for peer in status.peers if name in _names(peer)), None)
    if found is not None and found.state == "up":
        return Awaited(address=status.info.address, peer=found)
    if is_last:
        nobody = f"no peer {name!r}; `weft peer list` shows those that there are"
        raise TimeoutError(f"{name} is not up" if found else nobody)
    return None


def _names(peer: PeerStatus) -> set[str | None]:
    return {peer.name, peer.id, peer.wireguard_public_key, *peer.addresses}
