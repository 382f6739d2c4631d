"""`weft peer`: whom this node talks to."""

from __future__ import annotations

import click

from weft.api.v0 import peer as peer_api
from weft.api.v0.peer import Connect, PeerReply, Whom
from weft.api.v0.route import Done
from weft.cli.command import Group
from weft.cli.names import PEER
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import state, table
from weft.engine.status import PeerList, PeerStatus

CONNECT_S = 10.0
MAX_CONNECT_S = 300.0
GRACE_S = 5.0


@click.group(
    cls=Group,
    lazy={
        "set": "weft.cli.peer_set:set_",
        "add-wireguard": "weft.cli.peer_set:add_wireguard",
    },
    examples=(
        "weft peer connect /ip4/192.0.2.1/udp/1312/p2p/12D3KooW…",
        "weft peer list",
        "weft peer set 12D3KooW… --name loom",
        "weft peer disconnect loom",
    ),
)
def peer() -> None:
    """Call, list, change, block and forget peers.

    PEER is a peer's name, id, address in the network, or WireGuard key.
    """


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
    """List all peers with their keys and addresses.

    One that is wanted is called at each start and whenever it is missed; one that is known may call; a stranger has
    called by itself; one that is blocked is neither called nor answered.
    """
    settings.answer(peer_api.LIST, None, _show_list)


def _show_list(listed: PeerList) -> None:
    rows = [
        (
            peer.name or "",
            peer.kind,
            peer.standing,
            state(peer.state),
            peer.endpoint or "",
            peer.id or peer.wireguard_public_key,
            ", ".join(peer.addresses),
        )
        for peer in listed.peers
    ]
    if rows:
        table(rows, header=("NAME", "KIND", "STANDING", "STATE", "ENDPOINT", "ID OR KEY", "ADDRESSES"))
    else:
        click.echo("no peers yet; `weft peer connect MULTIADDR` calls one")


@peer.command(
    short_help="Call a weft node, and wait until the tunnel is up.",
    result=peer_api.CONNECT,
    examples=(
        "weft peer connect /ip4/192.0.2.1/udp/1312/p2p/12D3KooW…",
        "weft peer connect /dns/loom.example.org/udp/1312/p2p/12D3KooW… --name loom",
        "weft peer connect loom --timeout 30",
    ),
)
@click.argument("target", metavar="MULTIADDR|PEER", type=PEER)
@click.option("--name", help="What to call it here.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, MAX_CONNECT_S, min_open=True),
    default=CONNECT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for its answer.",
)
@pass_settings
def connect(settings: Settings, target: str, name: str | None, timeout_s: float) -> None:
    """Call the weft node at MULTIADDR, or a peer at its known endpoints; done when the tunnel is up.

    The other side shows its multiaddrs with `weft info`. The peer is remembered, and called again at each start.
    """
    settings.answer(
        peer_api.CONNECT,
        Connect(target=target, timeout_s=timeout_s, name=name),
        _show_connected,
        patience_s=timeout_s + GRACE_S,
        doing=f"calling the peer, for up to {timeout_s:g} s",
    )


def _show_connected(reply: PeerReply) -> None:
    peer = reply.peer
    names = [name for name in (peer.name, *peer.addresses) if name]
    click.echo(f"connected to {' '.join(names) or peer.wireguard_public_key} via {peer.path} {peer.endpoint}")


@peer.command(
    result=peer_api.DISCONNECT,
    examples=("weft peer disconnect loom", "weft peer disconnect fc89:54a1:b598:365f:357:d6a:b108:db7b"),
)
@click.argument("peer", type=PEER)
@pass_settings
def disconnect(settings: Settings, peer: str) -> None:
    """End the tunnel to PEER, and call it no more.

    It stays in the list, and may call; `weft peer connect PEER` calls it again, `weft peer remove` forgets it, and
    `weft peer block` keeps it away.
    """

    def show(_: Done) -> None:
        click.echo(f"disconnected from {peer}")

    settings.answer(peer_api.DISCONNECT, Whom(peer=peer), show)


@peer.command(result=peer_api.PERSIST, examples=("weft peer persist loom", "weft peer persist 12D3KooW…"))
@click.argument("peer", type=PEER)
@pass_settings
def persist(settings: Settings, peer: str) -> None:
    """Call PEER now, at each start, and whenever it is missed.

    That is so for whom `weft peer connect` has reached; this is for those who called by themselves or were
    disconnected. It doesn't wait for an answer.
    """

    def show(reply: PeerReply) -> None:
        click.echo(f"{title(reply.peer)} is wanted")

    settings.answer(peer_api.PERSIST, Whom(peer=peer), show)


@peer.command(result=peer_api.REMOVE, examples=("weft peer remove loom", "weft peer remove phone"))
@click.argument("peer", type=PEER)
@pass_settings
def remove(settings: Settings, peer: str) -> None:
    """End the tunnel to PEER and forget all about it.

    Where strangers are accepted, it may call again as one.
    """

    def show(_: Done) -> None:
        click.echo(f"removed {peer}")

    settings.answer(peer_api.REMOVE, Whom(peer=peer), show)


@peer.command(result=peer_api.BLOCK, examples=("weft peer block loom", "weft peer block 12D3KooW…"))
@click.argument("peer", type=PEER)
@pass_settings
def block(settings: Settings, peer: str) -> None:
    """Never answer and never call PEER again.

    What is known of it is kept. PEER may also be the id or WireGuard key of somebody who was not met yet.
    """

    def show(reply: PeerReply) -> None:
        click.echo(f"{title(reply.peer)} is blocked")

    settings.answer(peer_api.BLOCK, Whom(peer=peer), show)


@peer.command(result=peer_api.UNBLOCK, examples=("weft peer unblock loom", "weft peer unblock 12D3KooW…"))
@click.argument("peer", type=PEER)
@pass_settings
def unblock(settings: Settings, peer: str) -> None:
    """Let PEER, which was blocked, call again.

    It is not called before `weft peer connect` or `weft peer persist` says so.
    """

    def show(reply: PeerReply) -> None:
        click.echo(f"{title(reply.peer)} may call again")

    settings.answer(peer_api.UNBLOCK, Whom(peer=peer), show)


def title(peer: PeerStatus) -> str:
    """What a person calls a peer: its name, else its id or key."""
    return peer.name or peer.id or peer.wireguard_public_key
