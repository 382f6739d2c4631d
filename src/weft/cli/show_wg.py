"""`weft show`: this node in the look of `wg show`, and what weft has to say beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

import click

from weft.api.v0 import node as node_api
from weft.cli.command import Command
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import is_colored, milliseconds
from weft.engine.status import PeerStatus, Status

_UNITS = (("year", 31_536_000), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
_COLORS = {"interface": "green", "peer": "yellow"}


@click.command(
    cls=Command, examples=("weft show", "wg show weft0 dump   # as root, for scripts"), result=node_api.STATUS
)
@pass_settings
def show(settings: Settings) -> None:
    """Show this node and its peers as `wg show` does, those heard of last first.

    `wg` itself works on the interface as well: `wg show`, `wg showconf`, `wg set` and its other commands.
    """
    settings.answer(node_api.STATUS, None, show_device)


def show_device(status: Status) -> None:
    """Print the node as an interface, and its peers."""
    _section("interface", status.interface.ifname or "(none)", _interface(status))
    never = float("inf")
    peers = [peer for peer in status.peers if peer.state != "blocked"]
    for peer in sorted(peers, key=lambda peer: never if peer.handshake_age_s is None else peer.handshake_age_s):
        click.echo()
        _section("peer", peer.wireguard_public_key, _peer(peer))


def ago(age_s: float) -> str:
    """`1 minute, 2 seconds`, as `wg` says it."""
    parts, rest = [], int(age_s)
    for unit, seconds in _UNITS:
        amount, rest = divmod(rest, seconds)
        if amount:
            parts.append(f"{amount} {unit}{'s' if amount != 1 else ''}")
    return ", ".join(parts)


def amount(count_bytes: int) -> str:
    """`1.21 KiB`, as `wg` says it."""
    if count_bytes < 1024:
        return f"{count_bytes} B"
    value = count_bytes / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.2f} {unit}"
        value /= 1024
    return f"{value:.2f} TiB"


def _section(kind: str, title: str, entries: Iterator[tuple[str, str]]) -> None:
    colored = is_colored()
    head = click.style(kind, fg=_COLORS[kind], bold=True) if colored else kind
    click.echo(f"{head}: {click.style(title, fg=_COLORS[kind]) if colored else title}")
    for key, value in entries:
        click.echo(f"  {click.style(key, bold=True) if colored else key}: {value}")


def _interface(status: Status) -> Iterator[tuple[str, str]]:
    yield "public key", status.info.wireguard_public_key
    yield "private key", "(hidden)"
    # A multiaddr of a listener ends in its port.
    ports = dict.fromkeys(listener.multiaddr.rpartition("/")[2] for listener in status.listeners)
    if ports:
        yield "listening port", ", ".join(ports)
    yield "address", status.info.address


def _peer(peer: PeerStatus) -> Iterator[tuple[str, str]]:
    if peer.name:
        yield "name", peer.name
    yield "kind", peer.kind
    if peer.has_preshared_key:
        yield "preshared key", "(hidden)"
    if peer.endpoint:
        yield "endpoint", peer.endpoint
    yield "allowed ips", ", ".join(str(ip_network(prefix)) for prefix in peer.addresses) or "(none)"
    if peer.handshake_age_s is not None:
        age = ago(peer.handshake_age_s)
        yield "latest handshake", f"{age} ago" if age else "Now"
    if peer.rx_bytes or peer.tx_bytes:
        yield "transfer", f"{amount(peer.rx_bytes)} received, {amount(peer.tx_bytes)} sent"
    if peer.keepalive_s:
        yield "persistent keepalive", f"every {ago(peer.keepalive_s)}"
    if peer.mode == "burst":
        yield "bursts", f"of up to {peer.burst_pieces} datagrams"
    if peer.loss:
        yield "loss", f"{peer.loss:.2%}"
    if peer.rtt_ms is not None:
        yield "round trip", milliseconds(peer.rtt_ms)
