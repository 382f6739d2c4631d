"""`weft wg-config`: the file with which a stock WireGuard device joins."""

from __future__ import annotations

import click

from weft.api.v0 import wireguard as wireguard_api
from weft.api.v0.wireguard import Whose
from weft.cli.command import Command
from weft.cli.names import PEER
from weft.cli.settings import Settings, pass_settings
from weft.cli.wg_quick import encode_file
from weft.engine.device import DeviceConfig
from weft.errors import UsageError

KEEPALIVE_S = 25
"""What keeps the way through a NAT open, which most devices are behind."""


@click.command(
    cls=Command,
    examples=("(umask 077; weft wg-config phone > phone.conf)", "weft wg-config phone --endpoint vpn.example.org:1312"),
    result=wireguard_api.CONFIG,
)
@click.argument("peer", type=PEER)
@click.option(
    "--endpoint", metavar="HOST:PORT", help="Where the device reaches this node, if not where it says itself."
)
@pass_settings
def wg_config(settings: Settings, *, peer: str, endpoint: str | None) -> None:
    """Print the wg-quick file for the WireGuard device PEER.

    The device's private key is missing, for only the device has it; its preshared key is there.
    """
    if endpoint is not None:
        check_endpoint(endpoint)

    def show(config: DeviceConfig) -> None:
        from weft.cli.keys import warn_if_others_can_read

        if config.preshared_key:
            warn_if_others_can_read()
        comments = [
            f"WireGuard device {config.name or ''}".rstrip(),
            f"the private key is the one whose public key is {config.device_public_key}",
        ]
        click.echo(encode_device(config, comments, private_key="", endpoint=endpoint), nl=False)

    settings.answer(wireguard_api.CONFIG, Whose(peer=peer), show)


def encode_device(
    config: DeviceConfig,
    comments: list[str],
    *,
    private_key: str,
    endpoint: str | None = None,
    addresses: tuple[str, ...] = (),
    dns: tuple[str, ...] = (),
) -> str:
    """Write the file of a device.

    Args:
        config: what the node says.
        comments: lines for its head.
        private_key: base64; empty for one that the device has to fill in.
        endpoint: of this node; None for the first that it says.
        addresses: of the device, besides those that the node says.
        dns: servers that the device shall ask.

    Raises:
        UsageError: it is not known where the node can be reached.
    """
    interface = [("PrivateKey", private_key), ("Address", ", ".join((*config.addresses, *addresses)))]
    interface += [("DNS", ", ".join(dns))] if dns else []
    peer = [
        ("PublicKey", config.public_key),
        *([("PresharedKey", config.preshared_key)] if config.preshared_key else []),
        ("AllowedIPs", ", ".join(config.allowed_ips)),
        ("Endpoint", endpoint or reachable_endpoint(config)),
        ("PersistentKeepalive", str(KEEPALIVE_S)),
    ]
    return encode_file(comments, interface, peer)


def reachable_endpoint(config: DeviceConfig) -> str:
    """Where the device shall look for this node.

    Raises:
        UsageError: the node does not know.
    """
    if not config.endpoints:
        raise UsageError("this node knows no address where a device could reach it; give one with --endpoint HOST:PORT")
    return config.endpoints[0]


def check_endpoint(endpoint: str) -> None:
    """Refuse what is no endpoint.

    Raises:
        UsageError: it is none.
    """
    from weft.engine.dial import decode_endpoint

    if endpoint.startswith("/"):
        raise UsageError(f"{endpoint}: a WireGuard device takes HOST:PORT, such as 192.0.2.1:1312")
    decode_endpoint(endpoint)
