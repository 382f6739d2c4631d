"""`weft nc`: a connection in the network, for the standard streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from weft.cli.command import Command
from weft.cli.names import PEER
from weft.cli.opened import audience, opening
from weft.cli.outcome import say
from weft.cli.settings import Settings, pass_settings
from weft.errors import PeerError

if TYPE_CHECKING:
    import asyncio

    from weft.api.attached import AttachedNode

    Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@click.command(
    cls=Command,
    examples=(
        "printf 'HEAD / HTTP/1.0\\r\\n\\r\\n' | weft nc loom 80",
        "weft nc -l 9000 > notes.tar",
        "tar -c notes | weft nc loom 9000",
    ),
)
@click.argument("peer", type=PEER, metavar="[PEER", required=False)
@click.argument("port", type=click.IntRange(1, 65535), metavar="PORT]", required=False)
@click.option("-l", "--listen", type=click.IntRange(1, 65535), metavar="PORT", help="Wait here for one who connects.")
@pass_settings
def nc(settings: Settings, peer: str | None, port: int | None, listen: int | None) -> None:
    """Connect to PORT of PEER, and join the connection to the standard input and output.

    PEER is a peer, an address or a name. The end of the input is passed on, and the answer still written. It is over
    when both sides have ended; at a terminal, when the other side has.

    Where the network is an interface, the firewall has to let in who connects to -l: `weft fc00 allow /tcp/9000`.

    The exit code is 1 if there is no connection, or it broke off.
    """
    import asyncio

    from weft.cli.attached import attached
    from weft.clients.failures import reason_of
    from weft.clients.netcat import TAKEN_BYTES, join_standard_streams

    if (listen is None) == (peer is None) or (peer is None) != (port is None):
        raise click.UsageError("give PEER and PORT, or -l PORT")

    async def run() -> bool:
        async with attached(settings) as network:
            if listen is not None:
                streams = await _accepted(settings, network, listen)
            else:
                streams = await network.open_connection(peer, port, limit=TAKEN_BYTES)
            return await join_standard_streams(*streams)

    try:
        has_readers = asyncio.run(run())
    except OSError as error:
        where = f"port {listen}" if listen is not None else f"{peer} port {port}"
        raise PeerError(f"{where}: {reason_of(error)}") from error
    if not has_readers:
        raise BrokenPipeError


async def _accepted(settings: Settings, network: AttachedNode, port: int) -> Streams:
    """The first who connects; all others are refused."""
    import asyncio

    from weft.clients.netcat import TAKEN_BYTES

    first: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if first.done():
            writer.transport.abort()
        else:
            first.set_result((reader, writer))

    with opening(f"port {port}"):
        server = await network.start_server(accept, None, port, limit=TAKEN_BYTES)
    try:
        say(f"port {port} is open for {audience(settings, port)}")
        return await first
    finally:
        server.close()
