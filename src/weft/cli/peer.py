"""`weft peer`: whom this node talks to."""

from __future__ import annotations

from pathlib import Path

import click

from weft.api.v0 import peer as peer_api
from weft.api.v0.peer import AddWireguard, Connect, PeerReply, Whom
from weft.api.v0.route import Done
from weft.cli.command import Group
from weft.cli.names import PEER
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import state, table
from weft.engine.status import PeerList

CONNECT_S = 10.0
GRACE_S = 5.0
MAX_KEY_FILE_BYTES = 4096


@click.group(
    cls=Group,
    examples=(
        "weft peer connect /ip4/192.0.2.1/udp/1312/p2p/12D3KooW…",
        "weft peer list",
    ),
)
def peer() -> None:
    """Call, list and forget peers."""


@peer.command(
    "list",
    result=peer_api.LIST,
    examples=(
        "weft peer list",
        "weft peer list --json | jq -r '.peers[].wireguard_public_key'",
    ),
)
@pass_settings
def list_(settings: Settings) -> None:
    """List all peers with their keys and addresses."""
    settings.answer(peer_api.LIST, None, _show_list)


def _show_list(listed: PeerList) -> None:
    rows = [
        (
            peer.name or "",
            peer.kind,
            state(peer.state),
            peer.endpoint or "",
            peer.id or peer.wireguard_public_key,
            ", ".join(peer.addresses),
        )
        for peer in listed.peers
    ]
    if rows:
        table(rows, header=("NAME", "KIND", "STATE", "ENDPOINT", "ID OR KEY", "ADDRESSES"))
    else:
        click.echo("no peers yet; `weft peer connect MULTIADDR` calls one")


@peer.command(
    result=peer_api.CONNECT,
    examples=(
        "weft peer connect /ip4/192.0.2.1/udp/1312/p2p/12D3KooW…",
        "weft peer connect /dns/host.example.org/udp/1312/p2p/12D3KooW…",
    ),
)
@click.argument("multiaddr")
@pass_settings
def connect(settings: Settings, multiaddr: str) -> None:
    """Call the weft node at MULTIADDR; done when the tunnel to it is up, given up after 10 seconds.

    The other side shows its multiaddrs with `weft info`. The peer is remembered, and called again at each start.
    """
    settings.answer(
        peer_api.CONNECT,
        Connect(target=multiaddr, timeout_s=CONNECT_S),
        _show_connected,
        patience_s=CONNECT_S + GRACE_S,
        doing=f"calling the peer, for up to {CONNECT_S:.0f} s",
    )


def _show_connected(reply: PeerReply) -> None:
    peer = reply.peer
    names = [name for name in (peer.name, *peer.addresses) if name]
    click.echo(f"connected to {' '.join(names) or peer.wireguard_public_key} via {peer.path} {peer.endpoint}")


@peer.command(result=peer_api.DISCONNECT, examples=("weft peer disconnect loom",))
@click.argument("peer", type=PEER)
@pass_settings
def disconnect(settings: Settings, peer: str) -> None:
    """End the tunnel to PEER and forget it.

    PEER is its id, name, address in the network, or WireGuard key.
    """

    def show(_: Done) -> None:
        click.echo(f"disconnected from {peer}")

    settings.answer(peer_api.DISCONNECT, Whom(peer=peer), show)


@peer.command(
    "add-wireguard",
    result=peer_api.ADD_WIREGUARD,
    examples=(
        'weft peer add-wireguard "$(cat phone.pub)" --name phone --allowed-ips 10.7.0.2/32',
        'weft peer add-wireguard "$(cat hub.pub)" --name hub --allowed-ips 10.7.0.0/24,fd07::/64 '
        "--endpoint hub.example.org:51820 --psk-file hub.psk",
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
    psk_file: Path | None,
) -> None:
    """Take the stock WireGuard device with the key PUBKEY as a peer."""
    prefixes = [prefix.strip() for given in allowed_ips for prefix in given.split(",") if prefix.strip()]
    if not prefixes:
        raise click.UsageError("--allowed-ips needs a prefix, such as 10.7.0.2/32")
    asked = AddWireguard(
        public_key=public_key,
        name=name,
        allowed_ips=prefixes,
        endpoint=endpoint,
        preshared_key=_read_key(psk_file) if psk_file else None,
    )

    def show(reply: PeerReply) -> None:
        click.echo(f"added {reply.peer.name} with {', '.join(reply.peer.addresses)}")

    settings.answer(peer_api.ADD_WIREGUARD, asked, show)


def _read_key(path: Path) -> str:
    with click.open_file(str(path), "rb") as file:
        content: bytes = file.read(MAX_KEY_FILE_BYTES)
    try:
        return content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise click.UsageError(f"{path}: this is no preshared key; `wg genpsk` makes one") from None
