"""`weft forward`: a port in the network, for programs of this machine that know nothing of it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

import click

from weft.cli.command import Command
from weft.cli.interrupt import until_over
from weft.cli.opened import opening, tell
from weft.cli.place import split_local, split_place
from weft.cli.settings import Settings, pass_settings

if TYPE_CHECKING:
    from weft.clients.network import Network


@click.command(
    cls=Command,
    examples=(
        "weft forward 8080 loom:80",
        "weft forward 0.0.0.0:5433 loom:5432",
        "weft forward [::1]:2222 [fc89:54a1:b598:365f:357:d6a:b108:db7b]:22",
    ),
)
@click.argument("local", metavar="[HOST:]PORT")
@click.argument("target", metavar="PEER:PORT")
@pass_settings
def forward(settings: Settings, local: str, target: str) -> None:
    """Open PORT on this machine, and connect who connects there to PEER.

    PEER is a peer, an address or a name. HOST is an address of this machine; without one only programs of this machine
    get in. It goes on until it is interrupted, and what is open ends with it. Whoever connects while PEER does not take
    connections is turned away, and a line here says why.
    """
    import asyncio

    from weft.cli.attached import attached
    from weft.clients.forward import Forwarder

    host, port = split_local(local)
    peer = split_place(target)

    async def run() -> None:
        this_machine = cast("Network", asyncio.get_running_loop())
        async with attached(settings) as network:
            with opening(f"{host} port {port}"):
                forwarder = await Forwarder.listen(this_machine, host, port, network, peer, told=tell)
            try:
                line = f"{host} port {port} is open for {_audience(host)}; it leads to {peer[0]} port {peer[1]}"
                await until_over(network, lambda: tell(line))
            finally:
                await forwarder.close()

    asyncio.run(run())


def _audience(host: str) -> str:
    try:
        is_inside = ip_address(host).is_loopback
    except ValueError:
        is_inside = host == "localhost"
    return "this machine" if is_inside else "whoever reaches this machine"
