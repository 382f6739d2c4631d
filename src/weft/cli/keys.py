"""`weft genkey`, `genpsk`, `pubkey`: keys of WireGuard devices, as `wg` makes them."""

from __future__ import annotations

import os
import stat
import sys

import click
import msgspec

from weft.cli.command import Command
from weft.cli.settings import Settings, pass_settings

MAX_INPUT_BYTES = 4096


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """What the commands print with `--json`."""

    schema: int = 1
    key: str
    """Base64, as `wg` prints it."""
    address: str | None = None
    """In fc00::/8; None where the key has none, and for a preshared key."""

    def __repr__(self) -> str:
        return "Key(…)"


@click.command(
    cls=Command,
    result=Key,
    examples=(
        "(umask 077; weft genkey > phone.key)",
        "(umask 077; weft genkey | tee phone.key) | weft pubkey > phone.pub",
    ),
)
@pass_settings
def genkey(settings: Settings) -> None:
    """Make the private key of a WireGuard device.

    Unlike the keys of `wg genkey`, all of which weft takes as well, it has an address in fc00::/8, which
    `weft pubkey --address` tells: no other device can have that address.
    """
    from weft.identity import generate_private_key

    private = generate_private_key(os.urandom)
    warn_if_others_can_read()
    _print(settings, Key(key=_encoded(private), address=address_of_private(private)))


@click.command(
    cls=Command,
    result=Key,
    examples=("(umask 077; weft genpsk > phone.psk)", "weft genpsk | weft peer set phone --psk-file -"),
)
@pass_settings
def genpsk(settings: Settings) -> None:
    """Make a preshared key, for `weft peer add-wireguard --psk-file` and the device."""
    warn_if_others_can_read()
    _print(settings, Key(key=_encoded(os.urandom(32))))


@click.command(cls=Command, result=Key, examples=("weft pubkey < phone.key", "weft pubkey --address < phone.key"))
@click.option("--address", "wants_address", is_flag=True, help="Print the address in fc00::/8 that belongs to the key.")
@pass_settings
def pubkey(settings: Settings, *, wants_address: bool) -> None:
    """Print the public key of the private key on standard input."""
    from weft.errors import DecodeError
    from weft.identity import decode_wireguard_key, noise_public_of

    with click.open_file("-", "rb") as file:
        content: bytes = file.read(MAX_INPUT_BYTES)
    try:
        private = decode_wireguard_key(content.decode("ascii").strip())
    except (UnicodeDecodeError, DecodeError):
        raise click.ClickException("standard input is no private key; `weft genkey` makes one") from None
    address = address_of_private(private)
    if wants_address and address is None:
        raise click.ClickException("this key has no address in fc00::/8; `weft genkey` makes one that has")
    key = Key(key=_encoded(noise_public_of(private)), address=address)
    if wants_address and not settings.json:
        click.echo(address)
    else:
        _print(settings, key)


def address_of_private(private: bytes) -> str | None:
    """The address that belongs to a private key, in the spelling of RFC 5952; None if it has none."""
    from ipaddress import IPv6Address

    from weft.identity import address_of, is_usable_address, noise_public_of

    address = address_of(noise_public_of(private))
    return str(IPv6Address(address)) if is_usable_address(address) else None


def warn_if_others_can_read() -> None:
    """Say so if standard output, which is to get a secret, is a file that everybody may read; as `wg` does."""
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (OSError, ValueError):
        return
    if stat.S_ISREG(mode) and mode & stat.S_IRWXO:
        click.echo("weft: everybody can read the file that this goes to; set `umask 077` and try again", err=True)


def _encoded(key: bytes) -> str:
    from weft.identity import encode_wireguard_key

    return encode_wireguard_key(key)


def _print(settings: Settings, key: Key) -> None:
    click.echo(msgspec.json.encode(key) if settings.json else key.key)
