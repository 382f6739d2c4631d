"""`weft tls`: who is at the other end of TLS, and why that is to be believed or not."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from datetime import datetime
from typing import Any

import click
import msgspec

from weft.cli.attached import attached
from weft.cli.command import Command
from weft.cli.place import split_place
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import in_one_line, styled, table, waiting
from weft.cli.tls_options import TlsOptions, tls_options
from weft.clients.tls.shaken import Certificate, Handshake, short_name
from weft.errors import PeerError

HTTPS = 443
PATIENCE_S = 15.0


@click.command(
    cls=Command,
    result=Handshake,
    examples=(
        "weft tls loom",
        "weft tls loom:8443 --ca loom.pem",
        "weft tls [fc89:54a1:b598:365f:357:d6a:b108:db7b]:443 --name loom.example.org --json | jq -r .reason",
    ),
)
@click.argument("server", metavar="HOST[:PORT]")
@tls_options
@click.option("--name", help="Whose certificate is asked for and expected; HOST's by default.")
@click.option("--alpn", metavar="PROTOCOLS", help="What to offer for inside, such as h2,http/1.1.")
@pass_settings
def tls(settings: Settings, server: str, tls: TlsOptions, name: str | None, alpn: str | None) -> None:
    """Show the certificates of a server, and whether they are to be trusted, and why.

    HOST is a peer, an address or a name; PORT is 443 unless given. The exit code is 1 if they are not trusted, if the
    server refuses this side, or if there is no TLS at all.
    """
    import asyncio

    from weft.clients.tls.handshake import look

    host, port = split_place(server, HTTPS)
    offered = tuple(filter(None, (alpn or "").split(",")))

    contexts = {verify: tls.context(verify=verify, alpn=offered) for verify in (True, False)}

    async def run() -> Handshake:
        async with attached(settings) as network, asyncio.timeout(PATIENCE_S):
            return await look(network, host, port, contexts.__getitem__, name=name)

    with waiting(f"shaking hands with {host}"):
        shaken = _run(run(), server)
    if settings.json:
        click.echo(msgspec.json.encode(shaken))
    else:
        _show(shaken)
    if not shaken.trusted or shaken.refusal is not None:
        raise click.exceptions.Exit(1)


def _run(coroutine: Coroutine[Any, Any, Handshake], server: str) -> Handshake:
    import asyncio

    from weft.clients.failures import reason_of

    try:
        return asyncio.run(coroutine)
    except OSError as error:
        raise PeerError(f"{server}: {reason_of(error)}") from error


def _show(shaken: Handshake) -> None:
    agreed = [shaken.version, shaken.cipher, *([shaken.alpn] if shaken.alpn else [])]
    where = f" ({shaken.address})" if shaken.address != shaken.host else ""
    click.echo(f"{in_one_line(shaken.host)} port {shaken.port}{where}: {', '.join(agreed)}")
    table(_rows(shaken.chain), header=("", "certificate", "issued by", "valid", "key"))
    if shaken.chain:
        own = shaken.chain[0]
        click.echo(f"names   {in_one_line(', '.join(own.names)) or '-'}")
        click.echo(f"sha256  {own.sha256}")
    word, color = ("trusted", "green") if shaken.trusted else ("not trusted", "red")
    click.echo(f"{styled(word, color)}: {in_one_line(shaken.reason)}")
    if shaken.refusal is not None:
        click.echo(f"{styled('refused', 'red')}: {in_one_line(shaken.refusal)}")


def _rows(chain: list[Certificate]) -> Iterator[tuple[str, ...]]:
    for number, certificate in enumerate(chain):
        issuer = short_name(certificate.issuer) if certificate.issuer != certificate.subject else "itself"
        valid = f"{_day(certificate.not_before)} to {_day(certificate.not_after)}"
        yield str(number), in_one_line(certificate.title), in_one_line(issuer), valid, certificate.key


def _day(date: datetime | None) -> str:
    return "?" if date is None else f"{date:%Y-%m-%d}"
