"""`weft proxy`: SOCKS5 and HTTP on a port of this machine, for programs that know proxies and not the network."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from weft.cli.command import Command
from weft.cli.opened import opening, tell
from weft.cli.outcome import say
from weft.cli.place import HERE, split_local
from weft.cli.settings import Settings, pass_settings
from weft.errors import UsageError

if TYPE_CHECKING:
    from collections import Counter


PORT = 1080


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """What `weft proxy --json` prints once programs can use it."""

    schema: int = 1
    listen: str
    """Address and port, as a URL has them."""


@click.command(
    cls=Command,
    result=Listening,
    examples=(
        "weft proxy",
        "weft proxy --listen 1090",
        "weft proxy --listen 192.0.2.2:1080 --auth proxy.users",
    ),
)
@click.option(
    "--listen",
    metavar="[HOST:]PORT",
    default=str(PORT),
    show_default=True,
    help=f"Where; HOST is an address of this machine, and {HERE} unless given.",
)
@click.option(
    "--auth",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Who may use it: a line USER:PASSWORD for each. Others must not be able to read FILE.",
)
@pass_settings
def proxy(settings: Settings, listen: str, auth: Path | None) -> None:
    """Let programs of this machine into the network by a proxy: SOCKS5 (TCP and UDP) and HTTP, on one port.

    Names are looked up as in every command: a peer is loom or loom.weft. So let programs leave names to the proxy
    (`curl --proxy socks5h://127.0.0.1:1080`). It leads into the network and nowhere else. It goes on until it is
    interrupted.

    Where HOST is no loopback address, other machines can connect to it, and then --auth is needed. Passwords are not
    encrypted on their way.
    """
    import asyncio

    from weft.cli.attached import attached, inside
    from weft.cli.interrupt import until_over
    from weft.clients.proxy.proxy import serve_proxy
    from weft.clients.proxy.users import Users

    host, port = _place(listen, is_protected=auth is not None)
    users = Users.read(auth) if auth is not None else None

    async def run() -> None:
        async with attached(settings) as network:
            with opening(f"{host} port {port}"):
                proxy = await serve_proxy(network, lambda: inside(network), host=host, port=port, users=users)
            place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            try:
                await until_over(network, lambda: _tell(settings, place))
            finally:
                proxy.close()
                await proxy.wait_closed()
                _count("refused", proxy.refused)
                _count("dropped datagrams", proxy.dropped)

    asyncio.run(run())


def _place(listen: str, *, is_protected: bool) -> tuple[str, int]:
    """Where to listen.

    Raises:
        UsageError: that can't be, or is not to be.
    """
    host, port = split_local(listen)
    try:
        address = ip_address(host)
    except ValueError:
        raise UsageError(f"{listen}: {host!r} is no address of this machine") from None
    if not (address.is_loopback or is_protected):
        raise UsageError(f"{listen}: other machines could use it; --auth FILE says who may")
    return host, port


def _tell(settings: Settings, where: str) -> None:
    if settings.json:
        click.echo(msgspec.json.encode(Listening(listen=where)))
    else:
        tell(f"SOCKS5 and HTTP proxy for the network on {where}")


def _count(what: str, counted: Counter[str]) -> None:
    if counted:
        say(f"{what}: {', '.join(f'{number} ({reason})' for reason, number in counted.most_common())}")
