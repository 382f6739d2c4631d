"""`weft key`: who this node is, on paper and on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from weft.cli.command import Group
from weft.cli.new_file import write_new
from weft.cli.settings import Settings, pass_settings
from weft.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from weft.identity import Identity
    from weft.io.store import Store

STREAM = "-"
MAX_BYTES = 4096


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the commands print with `--json`: the public part of a key."""

    schema: int = 1
    id: str
    address: str
    wireguard_public_key: str
    file: str
    """Where the secret part is; `-` for standard output."""


@click.group(
    cls=Group,
    examples=(
        "weft key show",
        "weft key backup /media/stick/weft.key",
        "weft key restore /media/stick/weft.key",
    ),
)
def key() -> None:
    """See, back up and restore the key, which is all that makes a node the one it is.

    Its peer id and address follow from it. Peers, rules and configuration are not part of it.
    """


@key.command(result=KeyInfo, examples=("weft key show", "weft key show --json | jq -r .address"))
@pass_settings
def show(settings: Settings) -> None:
    """Show what is public of the key; no daemon is needed."""
    from weft.io.store import Store

    store = Store(settings.directory)
    _tell(settings, store.load_key(), store.key_path)


@key.command(
    short_help="Write the key to FILE, for its owner alone.",
    result=KeyInfo,
    examples=("weft key backup /media/stick/weft.key", "weft key backup - | gpg -c -o weft.key.gpg"),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@pass_settings
def backup(settings: Settings, file: Path) -> None:
    """Write the key to FILE, which must not exist yet and is for its owner alone; - for standard output.

    Whoever has it is this node. There is no other way to get its address back.
    """
    from weft.io.store import Store, encode_key

    identity = Store(settings.directory).load_key()
    if str(file) == STREAM:
        if settings.json:
            raise click.UsageError("with FILE -, standard output is the key, and not JSON")
        click.echo(encode_key(identity), nl=False)
        return
    write_new(file, encode_key(identity))
    _tell(settings, identity, file)


@key.command(
    result=KeyInfo,
    examples=("weft key restore /media/stick/weft.key", "gpg -d weft.key.gpg | weft key restore -"),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@pass_settings
def restore(settings: Settings, file: Path) -> None:
    """Take the key in FILE as this node's; - for standard input.

    A node that has another key keeps it, until a person moves that away; and no daemon may run.
    """
    from weft.io.store import Store, decode_key

    with click.open_file(str(file), "rb") as source:
        data: bytes = source.read(MAX_BYTES)
    identity = decode_key(data, "standard input" if str(file) == STREAM else str(file), "take another copy")
    store = Store(settings.directory)
    with store.lock():
        if store.key_path.exists():
            _check_same(store, identity)
        else:
            store.create_key(identity)
    _tell(settings, identity, store.key_path)


def _check_same(store: Store, identity: Identity) -> None:
    try:
        present = store.load_key()
    except ConfigError:
        raise UsageError(f"{store.key_path} is there already, and not in order; move it away first") from None
    if present.seed != identity.seed:
        raise UsageError(f"{store.key_path} is another key, of {present.peer_id}; move it away first")


def _tell(settings: Settings, identity: Identity, file: Path) -> None:
    from ipaddress import IPv6Address

    from weft.cli.show import table
    from weft.identity import encode_wireguard_key

    told = KeyInfo(
        id=str(identity.peer_id),
        address=str(IPv6Address(identity.address)),
        wireguard_public_key=encode_wireguard_key(identity.noise_public),
        file=str(file),
    )
    if settings.json:
        click.echo(msgspec.json.encode(told))
    else:
        table(
            [
                ("id", told.id),
                ("address", told.address),
                ("public key", told.wireguard_public_key),
                ("file", told.file),
            ]
        )
