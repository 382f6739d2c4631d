"""What commands say of a port that they open: where, for whom, and what is to be done for that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from weft.api.v0 import fc00 as fc00_api
from weft.cli.settings import Settings
from weft.cli.show import plain
from weft.errors import TransportError


def tell(line: str) -> None:
    """Say a line, whatever others have put into it."""
    click.echo(plain(line))


def audience(settings: Settings, port: int) -> str:
    """For whom a TCP port of this node in the network is open."""
    ports = settings.client.call(fc00_api.PORTS)
    if ports.listening is not None:  # the stack, which needs no rules
        return "everybody"
    peers = []
    for rule in ports.allow:
        what, _, key = rule.partition("/from/")
        if what in {f"/tcp/{port}", "/tcp/0"}:
            if not key:
                return "everybody"
            peers.append(ports.peers.get(key, key))
    return ", ".join(peers) or f"nobody yet: `weft fc00 allow /tcp/{port}` lets others in"


@contextmanager
def opening(place: str) -> Iterator[None]:
    """While the block runs a port is opened.

    Args:
        place: of the port, as the person knows it.

    Raises:
        TransportError: it can't be had; says which.
    """
    from weft.clients.failures import reason_of

    try:
        yield
    except OSError as error:
        raise TransportError(f"{place}: {reason_of(error)}") from error
