"""`weft serve`: a port or a folder of this machine, for the network."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from weft.api.v0 import fc00 as fc00_api
from weft.cli.command import Command
from weft.cli.interrupt import until_over
from weft.cli.opened import audience, opening, tell
from weft.cli.place import HERE, split_local
from weft.cli.settings import Settings, pass_settings
from weft.errors import UsageError

if TYPE_CHECKING:
    import ssl

    from aiohttp import web

    from weft.clients.network import Network
    from weft.engine.status import Info, Interface

_NAME = re.compile(r"[A-Za-z0-9-]{1,63}")


@click.command(
    cls=Command,
    examples=(
        "weft serve 8080",
        "weft serve 80 --to 8080",
        "weft serve 443 --tls --to printer.example.org:80",
        "weft serve 8080 --dir /srv/files",
    ),
)
@click.argument("port", type=click.IntRange(1, 65535), metavar="PORT")
@click.option("--to", metavar="[HOST:]PORT", help="Where it leads to; to the same port of this machine by default.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, readable=False),
    metavar="FOLDER",
    help="Serve this folder with HTTP, to be read.",
)
@click.option("--tls", is_flag=True, help="Speak TLS with who connects, with a certificate that is made for it.")
@click.option("--cert", type=click.Path(path_type=Path), metavar="FILE", help="Speak TLS with this certificate (PEM).")
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="FILE", help="Its private key, if that is in another file."
)
@pass_settings
def serve(
    settings: Settings,
    port: int,
    to: str | None,
    folder: Path | None,
    cert: Path | None,
    key: Path | None,
    *,
    tls: bool,
) -> None:
    """Open PORT in the network, for a server of this machine or for a FOLDER.

    Who connects there is connected to HOST:PORT, or sees the files of FOLDER, all of them: a browser will do, and `weft
    fetch`. Links that lead out of FOLDER are not followed. It goes on until it is interrupted, and what is open ends
    with it.

    With --tls the node makes a certificate for itself, once. Others can compare its fingerprint with what `weft tls`
    shows, or be given its file for `weft fetch --ca`. Inside the network TLS is for programs that insist on it.

    Where the network is an interface, the firewall has to let others in: `weft fc00 allow /tcp/8080`. Which node it is
    says `weft --dir NODE serve …`, or WEFT_DIR.
    """
    import asyncio

    from weft.api.v0 import node as node_api
    from weft.cli.attached import attached

    if to is not None and folder is not None:
        raise click.UsageError("--to and --dir are two things to serve; choose one")
    if key is not None and cert is None:
        raise click.UsageError("--key is for --cert, which is not given")
    target = split_local(to) if to is not None else (HERE, port)
    info = settings.client.call(node_api.INFO)
    app = _app(folder, {settings.directory, Path(info.dir)}) if folder is not None else None
    context, certificate = _tls(settings, info, cert, key) if tls or cert is not None else (None, "")

    async def run() -> None:
        async with attached(settings) as network:
            if app is not None:
                what = f"{folder} is at http{'s' if context else ''}://[{info.address}]:{port}/"
                serving = _serving_app(network, app, port, context)
            else:
                what = f"it leads to {target[0]} port {target[1]}"
                serving = _serving_port(network, target, port, context)
            async with serving:
                line = f"port {port} is open for {audience(settings, port)}; {what}{certificate}"
                await until_over(network, lambda: tell(line))

    asyncio.run(run())


@asynccontextmanager
async def _serving_port(
    network: Network, target: tuple[str, int], port: int, context: ssl.SSLContext | None
) -> AsyncIterator[None]:
    import asyncio

    from weft.clients.forward import Forwarder

    this_machine = cast("Network", asyncio.get_running_loop())
    with opening(f"port {port}"):
        forwarder = await Forwarder.listen(network, None, port, this_machine, target, told=tell, ssl=context)
    try:
        yield
    finally:
        await forwarder.close()


def _app(folder: Path, directories: set[Path]) -> web.Application:
    """What serves a folder.

    Args:
        folder: of files.
        directories: of nodes, which are served to nobody.
    """
    import logging

    from weft.clients.folder.folder import Folder
    from weft.clients.sparing import Sparing

    # It has a traceback for whatever is no request.
    logging.getLogger("aiohttp.server").addHandler(logging.NullHandler())
    if any(folder.resolve() == each.resolve() for each in directories):
        raise UsageError(
            f"{folder} is the node's directory, with its key; which node is meant says `weft --dir {folder} serve …`"
        )
    return Folder(folder, directories, Sparing(tell)).app()


@asynccontextmanager
async def _serving_app(
    network: Network, app: web.Application, port: int, context: ssl.SSLContext | None
) -> AsyncIterator[None]:
    from weft.clients.serving import serve_app

    with opening(f"port {port}"):
        server = await serve_app(network, app, port, ssl=context, told=tell)
    async with server:
        yield


def _tls(settings: Settings, info: Info, cert: Path | None, key: Path | None) -> tuple[ssl.SSLContext, str]:
    """What TLS is spoken with, and what is said of it."""
    from weft.clients.tls.connect import server_context

    if cert is not None:
        return server_context(cert, key), ""
    from weft.clients.tls.self_signed import own_certificate

    own = own_certificate(settings.directory, _names(info, settings.client.call(fc00_api.STATUS)))
    return server_context(own.certificate, own.key), f"; its certificate is {own.certificate}, sha256 {own.sha256}"


def _names(info: Info, interface: Interface) -> list[str]:
    """What this node is called by others, as far as it can know, and its addresses."""
    from weft.stack.dns.names import DOMAIN

    host = socket.gethostname().partition(".")[0]
    names = [host, f"{host}.{DOMAIN}"] if _NAME.fullmatch(host) else []
    further = [address.partition("/")[0] for address in interface.addresses]
    return [*names, f"{info.id}.{DOMAIN}", info.address, *further]
