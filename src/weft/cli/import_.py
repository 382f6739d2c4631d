"""`weft import`: the peers of a wg-quick file become peers here."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from weft.api.v0 import node as node_api
from weft.api.v0 import wireguard as wireguard_api
from weft.api.v0.wireguard import Import
from weft.cli.command import Command
from weft.cli.settings import Settings, pass_settings
from weft.cli.wg_quick import MAX_FILE_BYTES, WgQuickFile, decode_file, names_of
from weft.engine.device import PeerSettings
from weft.errors import ConfigError

_COMMANDS = "weft runs no commands; run it beside"
_NOT_TAKEN = {
    "ListenPort": "`weft listener list` shows where this node listens, `weft listener start` adds more",
    "FwMark": "`weft config set peer.fwmark` sets it",
    "DNS": "weft does not change the resolver of this machine; set it there",
    "MTU": "the interface of weft has its own",
    "Table": "the routes of allowed addresses are in the main table",
    "PreUp": _COMMANDS,
    "PostUp": _COMMANDS,
    "PreDown": _COMMANDS,
    "PostDown": _COMMANDS,
    "SaveConfig": "weft remembers its peers anyway",
}
"""Keys of `[Interface]` that have no place here, and what to do instead."""


class NotTaken(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the file that has no place here."""

    key: str
    why: str


class ImportResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `weft import --json` prints."""

    schema: int = 1
    dry_run: bool
    """Whether nothing was done."""
    peers: list[str]
    """Their names."""
    public_key: str
    """Of this node, which the other sides must know."""
    instead_of: str | None
    """What they know until now: the key of the file; None if it has none."""
    addresses: list[str]
    """Of the file's interface, which this node has from now on."""
    not_taken: list[NotTaken]


@click.command(
    "import",
    cls=Command,
    examples=("weft import --dry-run /etc/wireguard/wg0.conf", "weft import /etc/wireguard/wg0.conf"),
    result=ImportResult,
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Show what would become of the file, and do nothing.")
@pass_settings
def import_(settings: Settings, *, file: Path, dry_run: bool) -> None:
    """Take the peers of the wg-quick file FILE and its addresses, all or nothing; peers that are known are changed.

    A peer is called as the comment above its [Peer] says, or as the file. The key of the file is not taken, for this
    node has its own: the other sides must be told the public key that is printed.
    """
    found = _read(file)
    names = list(names_of(found.peers, file.stem))
    if not names:
        raise ConfigError("has no [Peer]", file=str(file))
    taken = [address for address in found.values("Address") if not _is_overlay(address)]
    asked = Import(
        addresses=taken,
        peers=[
            PeerSettings(
                public_key=peer.public_key,
                name=name,
                allowed_ips=peer.allowed_ips,
                endpoint=peer.endpoint,
                preshared_key=peer.preshared_key,
                keepalive_s=peer.keepalive_s,
            )
            for name, peer in zip(names, found.peers, strict=True)
        ],
    )
    instead_of, client = _old_key(found, file), settings.client
    if dry_run:
        public_key = client.call(node_api.INFO).wireguard_public_key
    else:
        public_key = client.call(wireguard_api.IMPORT, asked).public_key
    result = ImportResult(
        dry_run=dry_run,
        peers=names,
        public_key=public_key,
        instead_of=instead_of,
        addresses=taken,
        not_taken=_not_taken(found, taken),
    )
    if settings.json:
        click.echo(msgspec.json.encode(result))
    else:
        _show(result, asked.peers)


def _not_taken(found: WgQuickFile, taken: list[str]) -> list[NotTaken]:
    own = [address for address in found.values("Address") if address not in taken]
    keys = dict.fromkeys(key for key, _ in found.interface if key in _NOT_TAKEN)
    return [
        *(NotTaken(key="Address", why=f"{address} is of the file's key") for address in own),
        *(NotTaken(key=key, why=_NOT_TAKEN[key]) for key in keys),
    ]


def _show(result: ImportResult, peers: list[PeerSettings]) -> None:
    for peer in peers:
        at = f" at {peer.endpoint}" if peer.endpoint else ""
        click.echo(f"{'would add' if result.dry_run else 'added'} {peer.name} with {', '.join(peer.allowed_ips)}{at}")
        if {"0.0.0.0/0", "::/0"} & {*peer.allowed_ips}:
            click.echo(f"# {peer.name}: no default route is set; what is to leave by it, you route to the interface")
    if result.addresses:
        has = "would have" if result.dry_run else "has"
        click.echo(f"this node {has} the address {', '.join(result.addresses)} as well")
    instead = f", instead of {result.instead_of}" if result.instead_of else ""
    click.echo(f"# tell each of them the key of this node{instead}:")
    click.echo(f"PublicKey = {result.public_key}")
    for line in result.not_taken:
        click.echo(f"# {line.key}: not taken; {line.why}")


def _read(file: Path) -> WgQuickFile:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("is not text in UTF-8", file=str(file)) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"is larger than {MAX_FILE_BYTES:,} bytes", file=str(file))
    return decode_file(text, str(file))


def _is_overlay(address: str) -> bool:
    """Whether an address is in fc00::/8, where each node has the one of its key."""
    from ipaddress import ip_interface

    ip = ip_interface(address).ip
    return ip.version == 6 and ip.packed[0] == 0xFC


def _old_key(found: WgQuickFile, file: Path) -> str | None:
    """The public key that the others know until now."""
    from weft.errors import DecodeError
    from weft.identity import decode_wireguard_key, encode_wireguard_key, noise_public_of

    keys = found.values("PrivateKey")
    try:
        return encode_wireguard_key(noise_public_of(decode_wireguard_key(keys[-1]))) if keys else None
    except DecodeError as error:
        raise ConfigError(f"expected {error.expected}", file=str(file), key="PrivateKey") from None
