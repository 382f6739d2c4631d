"""`weft peer set` and `weft peer add-wireguard`: what is settled about a peer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from msgspec import UNSET

from weft.api.v0 import peer as peer_api
from weft.api.v0.peer import AddWireguard, PeerReply, Set
from weft.cli.command import Command
from weft.cli.names import PEER
from weft.cli.peer import title
from weft.cli.settings import Settings, pass_settings

MAX_KEY_FILE_BYTES = 4096
MAX_KEEPALIVE_S = 65535
NONE, OFF = "none", "off"


class Keepalive(click.IntRange):
    """Seconds between keepalives; `off` is 0."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds, 0 for none."""
        return 0 if value == OFF else int(super().convert(value, param, ctx))


KEEPALIVE = click.option(
    "--keepalive",
    "keepalive_s",
    type=Keepalive(0, MAX_KEEPALIVE_S),
    metavar=f"SECONDS|{OFF}",
    help="How often to send something at least, so that NATs on the way remember; 25 is usual.",
)


@click.command(
    "set",
    short_help="Change what is settled about PEER.",
    cls=Command,
    result=peer_api.SET,
    examples=(
        "weft peer set 12D3KooW… --name loom",
        "weft peer set loom --allowed-ips 10.8.0.0/24,fd08::/64 --keepalive off",
        "weft peer set loom --endpoint 192.0.2.1:1312 --endpoint loom.example.org:1312",
        'weft peer set phone --public-key "$(cat phone.new.pub)" --psk-file none',
    ),
)
@click.argument("peer", type=PEER)
@click.option("--name", help="What to call it here; an empty name takes the old one away.")
@click.option(
    "--allowed-ips",
    multiple=True,
    metavar=f"PREFIX[,PREFIX…]|{NONE}",
    help="All addresses that it may use, in the place of those that it had; a weft node has its own besides. May be "
    "repeated.",
)
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar=f"HOST:PORT|{NONE}",
    help="Where it is called, in the place of what was configured. May be repeated, the best first.",
)
@KEEPALIVE
@click.option(
    "--psk-file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar=f"FILE|{NONE}",
    help="File with the preshared key of a WireGuard device in base64; - for standard input.",
)
@click.option("--public-key", metavar="KEY", help="The key that a WireGuard device has from now on; the rest stays.")
@pass_settings
def set_(
    settings: Settings,
    *,
    peer: str,
    name: str | None,
    allowed_ips: tuple[str, ...],
    endpoints: tuple[str, ...],
    keepalive_s: int | None,
    psk_file: Path | None,
    public_key: str | None,
) -> None:
    """Change what is settled about PEER: all that is given, or nothing if one of it can't be.

    The tunnel goes on. Another preshared key begins a new session, another public key ends the old one. Routes to the
    allowed addresses are set, save for 0.0.0.0/0 and ::/0: what leads everywhere is left to you.
    """
    given = (name, public_key, keepalive_s, psk_file)
    if not (allowed_ips or endpoints) and all(each is None for each in given):
        raise click.UsageError("nothing was given to set")
    asked = Set(
        peer=peer,
        name=UNSET if name is None else name or None,
        allowed_ips=_listed(allowed_ips) if allowed_ips else UNSET,
        endpoints=_listed(endpoints) if endpoints else UNSET,
        keepalive_s=UNSET if keepalive_s is None else keepalive_s or None,
        preshared_key=UNSET if psk_file is None else None if str(psk_file) == NONE else _read_key(psk_file),
        public_key=UNSET if public_key is None else public_key,
    )

    def show(reply: PeerReply) -> None:
        click.echo(f"changed {title(reply.peer)} with {', '.join(reply.peer.addresses) or 'no addresses'}")

    settings.answer(peer_api.SET, asked, show)


@click.command(
    "add-wireguard",
    cls=Command,
    short_help="Take a stock WireGuard device as a peer.",
    result=peer_api.ADD_WIREGUARD,
    examples=(
        'weft peer add-wireguard "$(cat phone.pub)" --name phone --allowed-ips 10.7.0.2/32',
        'weft peer add-wireguard "$(cat hub.pub)" --name hub --allowed-ips 10.7.0.0/24,fd07::/64 '
        "--endpoint hub.example.org:51820 --psk-file hub.psk --keepalive 25",
    ),
)
@click.argument("public_key", metavar="PUBKEY")
@click.option("--name", required=True, help="What to call the device here.")
@click.option(
    "--allowed-ips",
    required=True,
    multiple=True,
    metavar="PREFIX[,PREFIX…]",
    help="Addresses that the device uses; routes to them are set. May be repeated.",
)
@click.option(
    "--endpoint",
    metavar="HOST:PORT",
    help="Where the device listens: its address or its name, which is looked up at each start and when the device does "
    "not answer. Without it, the device has to call.",
)
@KEEPALIVE
@click.option(
    "--psk-file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="File with the preshared key in base64, as `wg genpsk` writes it; - for standard input.",
)
@pass_settings
def add_wireguard(
    settings: Settings,
    *,
    public_key: str,
    name: str,
    allowed_ips: tuple[str, ...],
    endpoint: str | None,
    keepalive_s: int | None,
    psk_file: Path | None,
) -> None:
    """Take the stock WireGuard device with the key PUBKEY as a peer.

    A device that is one already is changed to what is given, and keeps its session.
    """
    prefixes = _listed(allowed_ips)
    if not prefixes:
        raise click.UsageError("--allowed-ips needs a prefix, such as 10.7.0.2/32")
    asked = AddWireguard(
        public_key=public_key,
        name=name,
        allowed_ips=prefixes,
        endpoint=endpoint,
        preshared_key=_read_key(psk_file) if psk_file else None,
        keepalive_s=keepalive_s or None,
    )

    def show(reply: PeerReply) -> None:
        click.echo(f"added {reply.peer.name} with {', '.join(reply.peer.addresses)}")

    settings.answer(peer_api.ADD_WIREGUARD, asked, show)


def _listed(given: tuple[str, ...]) -> list[str]:
    """What was given one by one or between commas; nothing for `none`."""
    each = [part.strip() for text in given for part in text.split(",") if part.strip()]
    return [] if each == [NONE] else each


def _read_key(path: Path) -> str:
    with click.open_file(str(path), "rb") as file:
        content: bytes = file.read(MAX_KEY_FILE_BYTES)
    try:
        return content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise click.UsageError(f"{path}: this is no preshared key; `wg genpsk` makes one") from None
