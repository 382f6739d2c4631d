"""`weft guest`: a phone or another stock WireGuard device joins, from nothing."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import click
import msgspec

from weft.api.client import Client
from weft.api.v0 import peer as peer_api
from weft.api.v0 import wireguard as wireguard_api
from weft.api.v0.peer import AddWireguard
from weft.api.v0.wireguard import Whose
from weft.cli.command import Group
from weft.cli.new_file import write_new
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import is_colored, is_watched
from weft.engine.device import DeviceConfig


class GuestAdded(msgspec.Struct, frozen=True, kw_only=True):
    """What `weft guest add --json` prints."""

    schema: int = 1
    name: str
    public_key: str
    address: str
    """Of the guest in fc00::/8."""
    endpoint: str
    """Where the guest will look for this node."""
    config: str | None
    """The file for the guest, with its private key; None if it was written to `file`."""
    file: str | None

    def __repr__(self) -> str:
        return f"GuestAdded(name={self.name!r}, …)"


@click.group(
    cls=Group,
    examples=("weft guest add phone", "weft fc00 allow /tcp/80 --from phone", "weft peer remove phone"),
)
def guest() -> None:
    """Take phones and other stock WireGuard devices in.

    A guest is a peer like others: `weft peer list` shows it, `weft peer set` changes it, `weft peer remove` ends it.
    """


@guest.command(
    short_help="Take the device NAME in, and print its file and QR code.",
    examples=(
        "weft guest add phone",
        "weft guest add phone --endpoint vpn.example.org:1312 --allowed-ips 10.7.0.2/32",
        "weft guest add laptop -o laptop.conf",
    ),
    result=GuestAdded,
)
@click.argument("name")
@click.option(
    "--allowed-ips",
    multiple=True,
    metavar="PREFIX[,PREFIX…]",
    help="More addresses that the guest may use, besides its own in fc00::/8. May be repeated.",
)
@click.option(
    "--endpoint",
    metavar="HOST:PORT",
    help="Where the guest reaches this node. By default this machine's public address, of IPv4 before IPv6, or the one "
    "of its local network if it has no other.",
)
@click.option("--dns", multiple=True, metavar="ADDRESS", help="DNS server for the guest. May be repeated.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the file there, for its owner alone, instead of printing it.",
)
@click.option(
    "--qr/--no-qr",
    "qr",
    default=None,
    help="Print the QR code that WireGuard's apps scan, or don't. By default if a person looks at it.",
)
@pass_settings
def add(
    settings: Settings,
    *,
    name: str,
    allowed_ips: tuple[str, ...],
    endpoint: str | None,
    dns: tuple[str, ...],
    output: Path | None,
    qr: bool | None,
) -> None:
    """Make a key for the device NAME, take it as a peer, and print the file and QR code for it.

    The private key is in the file and nowhere else: neither this command nor the daemon keeps it. Who loses it adds
    the guest anew. The address of the guest belongs to its key, so nobody else can have it.
    """
    from weft.cli.wg_config import check_endpoint

    extra = _prefixes(allowed_ips)
    _check_dns(dns)
    if endpoint is not None:
        check_endpoint(endpoint)
    client = settings.client
    invited = _invite(client.call(wireguard_api.CONFIG, Whose()), name, extra, endpoint, dns)
    _take_in(client, invited, output)
    if settings.json:
        click.echo(msgspec.json.encode(_told(invited, output)))
        return
    click.echo(invited.file if output is None else f"wrote {output}", nl=output is not None)
    if is_watched() if qr is None else qr:
        _draw(invited.file)
    click.echo(
        f"# {name} has the address {invited.address} and looks for this node at {invited.endpoint}.\n"
        "# Its private key is shown this once and kept nowhere; what it may reach here, `weft fc00 allow` says.",
        err=True,
    )


@dataclass(frozen=True, slots=True)
class _Invited:
    """A device that has a key, before it is a peer."""

    name: str
    address: str
    endpoint: str
    file: str = field(repr=False)
    asked: AddWireguard


def _invite(config: DeviceConfig, name: str, extra: list[str], endpoint: str | None, dns: tuple[str, ...]) -> _Invited:
    """Make the keys of a device and its file; nobody but the caller has them."""
    from weft.cli.keys import address_of_private
    from weft.cli.wg_config import encode_device, reachable_endpoint
    from weft.identity import encode_wireguard_key, generate_private_key, noise_public_of

    endpoint = endpoint or reachable_endpoint(config)
    private = generate_private_key(os.urandom)
    address = address_of_private(private)
    assert address is not None
    config = msgspec.structs.replace(config, preshared_key=encode_wireguard_key(os.urandom(32)))
    file = encode_device(
        config,
        [f"{name}, a guest of {config.public_key}"],
        private_key=encode_wireguard_key(private),
        endpoint=endpoint,
        addresses=(f"{address}/128", *(prefix for prefix in extra if ip_network(prefix).num_addresses == 1)),
        dns=dns,
    )
    asked = AddWireguard(
        public_key=encode_wireguard_key(noise_public_of(private)),
        name=name,
        allowed_ips=[f"{address}/128", *extra],
        preshared_key=config.preshared_key,
    )
    return _Invited(name, address, endpoint, file, asked)


def _take_in(client: Client, invited: _Invited, output: Path | None) -> None:
    """Write the file, if it is to be written, and have the daemon take the device as a peer; both or neither."""
    from weft.cli.keys import warn_if_others_can_read

    if output is None:
        warn_if_others_can_read()
        client.call(peer_api.ADD_WIREGUARD, invited.asked)
        return
    write_new(output, invited.file.encode())
    try:
        client.call(peer_api.ADD_WIREGUARD, invited.asked)
    except BaseException:
        output.unlink()
        raise


def _told(invited: _Invited, output: Path | None) -> GuestAdded:
    return GuestAdded(
        name=invited.name,
        public_key=invited.asked.public_key,
        address=invited.address,
        endpoint=invited.endpoint,
        config=invited.file if output is None else None,
        file=None if output is None else str(output),
    )


def _prefixes(given: tuple[str, ...]) -> list[str]:
    try:
        return [
            str(ip_network(part.strip(), strict=False)) for text in given for part in text.split(",") if part.strip()
        ]
    except ValueError as error:
        raise click.UsageError(f"--allowed-ips: {error}") from None


def _check_dns(servers: tuple[str, ...]) -> None:
    from ipaddress import ip_address

    for server in servers:
        try:
            ip_address(server)
        except ValueError:
            raise click.UsageError(f"--dns: {server!r} is no address") from None


def _draw(text: str) -> None:
    """Print the QR code of what is in a file besides comments."""
    from weft.cli.qr import qr_lines

    told = "".join(f"{line}\n" for line in text.splitlines() if line and not line.startswith("#"))
    lines = qr_lines(told, colored=is_colored())
    width, columns = len(qr_lines(told, colored=False)[0]), shutil.get_terminal_size().columns
    if is_watched() and width > columns:
        click.echo(f"# the QR code needs {width} columns, and this terminal has {columns}", err=True)
        return
    click.echo("\n".join(lines))
