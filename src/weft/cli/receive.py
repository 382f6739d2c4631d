"""`weft receive`: files and folders that peers send, who are known by their keys in the network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from weft.cli.attached import attached
from weft.cli.command import Command
from weft.cli.copied import Copied, show
from weft.cli.names import PEER
from weft.cli.opened import audience
from weft.cli.outcome import report, say
from weft.cli.progress import Told, progress
from weft.cli.question import Questions, has_terminal
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import in_one_line, size
from weft.clients.parcel.messages import PORT
from weft.errors import PeerError, UsageError

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    from weft.api.attached import AttachedNode
    from weft.clients.parcel.inbox import Offered
    from weft.clients.parcel.receive import Received


REFUSED_TOLD = 100
"""Of how many peers it is told that they are refused, each once."""


class Delivered(Copied, frozen=True, kw_only=True):
    """What `weft receive --json` prints."""

    sender: str
    """Name of the peer, or its address."""
    paths: list[str]
    """What came: files, and folders as a whole."""


@click.command(
    cls=Command,
    result=Delivered,
    examples=(
        "weft receive --from loom",
        "weft receive --from loom --loop --conflict overwrite /srv/files",
        "weft receive --yes --json downloads | jq -r '.paths[]'",
    ),
)
@click.argument("folder", default=".", metavar="[FOLDER]", type=click.Path(path_type=Path, file_okay=False))
@click.option("--from", "senders", type=PEER, multiple=True, metavar="PEER", help="Take it from this peer, unasked.")
@click.option("-y", "--yes", is_flag=True, help="Take it from every peer that is known, unasked.")
@click.option(
    "--conflict",
    type=click.Choice(["rename", "skip", "overwrite"]),
    default="rename",
    show_default=True,
    help="What to do with a file whose name another one has.",
)
@click.option("--loop", is_flag=True, help="Go on with the next sender, until interrupted.")
@click.option("-p", "--port", type=click.IntRange(1, 65535), default=PORT, help="TCP port to listen on.")
@pass_settings
def receive(
    settings: Settings,
    folder: Path,
    senders: tuple[str, ...],
    conflict: Literal["rename", "skip", "overwrite"],
    port: int,
    *,
    yes: bool,
    loop: bool,
) -> None:
    """Wait for files that a peer sends with `weft send`, and put them into FOLDER, by default this one.

    Without --from it asks about what each peer wants to send; strangers, whom nobody has called or given a name, are
    refused. A file is there when it is whole and its hash is right; until then there is a .part, and the same `weft
    send` goes on from there. Nothing leads out of FOLDER. No file is overwritten, unless --conflict says so: the one
    that comes becomes `name (1)`.

    Where the network is an interface, the firewall has to let them in: `weft fc00 allow /tcp/1313`.

    The exit code is 1 if something was left out.
    """
    import asyncio

    from weft.cli.interrupt import until_over
    from weft.cli.peer_networks import networks_of
    from weft.clients.parcel.inbox import open_inbox

    if not (senders or yes or has_terminal()):
        raise UsageError("there is no terminal to ask at; --from says from whom it is taken, or --yes from all peers")

    async def run() -> bool:
        async with attached(settings) as network:
            named = [each for peer in senders for each in networks_of(peer, network.peers)] if senders else None
            desk = _Desk(settings, network, folder, named, asks=not (senders or yes))
            inbox = await open_inbox(
                network,
                folder,
                allowed=desk.allows,
                accept=desk.accepts,
                conflict=conflict,
                port=port,
                progress=desk.progress,
            )
            async with inbox:
                line = f"receiving on port {port}, into {folder}; the port is open for {audience(settings, port)}"
                over = asyncio.ensure_future(until_over(network, lambda: say(line)))
                try:
                    while True:
                        coming = asyncio.ensure_future(inbox.next())
                        await asyncio.wait({coming, over}, return_when=asyncio.FIRST_COMPLETED)
                        if not coming.done():
                            await over
                            raise click.Abort
                        is_whole = desk.tell(coming.result(), goes_on=loop)
                        if is_whole is not None and not loop:
                            return is_whole
                finally:
                    over.cancel()
                    await asyncio.gather(over, return_exceptions=True)

    if not asyncio.run(run()):
        raise click.exceptions.Exit(1)


class _Desk:
    """Who may come, and what is said of what came.

    Args:
        settings: of the command.
        network: knows the peers.
        folder: where it goes.
        named: addresses of those who may come; None for all peers that are known.
        asks: whether a person decides about each parcel.
    """

    def __init__(
        self,
        settings: Settings,
        network: AttachedNode,
        folder: Path,
        named: list[IPv4Network | IPv6Network] | None,
        *,
        asks: bool,
    ) -> None:
        self._settings, self._network, self._folder = settings, network, folder
        self._named, self._asks = named, asks
        self._questions = Questions()
        self._refused: set[str] = set()
        self._began = 0.0

    def allows(self, address: str) -> bool:
        """Whether a peer may send anything."""
        from ipaddress import ip_address

        from weft.cli.peer_networks import peer_at

        if self._named is not None:
            may = any(ip_address(address) in network for network in self._named)
        else:
            peer = peer_at(address, self._network.peers)
            # Only a person gives names.
            may = peer is not None and (peer.standing != "stranger" or peer.name is not None)
        if not may and len(self._refused) < REFUSED_TOLD and address not in self._refused:
            self._refused.add(address)
            say(f"{self._name_of(address)} is refused; `weft receive --from {address}` takes what it sends")
        return may

    async def accepts(self, offered: Offered) -> bool:
        """Whether somebody's files are wanted."""
        if not self._asks:
            return True
        files = f"{offered.files} {'file' if offered.files == 1 else 'files'}, {size(offered.size_bytes)}"
        what = f"{in_one_line(offered.name)} ({files})" if offered.name else files
        return await self._questions.confirm(f"{self._name_of(offered.address)} wants to send {what}; take it?")

    @contextmanager
    def progress(self, what: str) -> Iterator[Told]:
        """Show how far it is."""
        self._began = time.monotonic()
        with progress(what) as told:
            yield told

    def tell(self, received: Received, *, goes_on: bool) -> bool | None:
        """Say what came of a parcel.

        Returns:
            Whether it is whole; None if its sender did not go on.
        """
        name = self._name_of(received.address)
        error = received.error
        if isinstance(error, PeerError):
            say(f"{name}: {error}; waiting for it to be sent again")
            return None
        if error is not None and not goes_on:
            raise error
        if error is not None:
            report(error)
            return False
        paths = [str(self._folder / each) for each in sorted(received.names)]
        names = ", ".join(paths[:3]) + (", …" if len(paths) > 3 else "")
        delivered = Delivered.of(received, self._began, sender=name, paths=paths)
        show(delivered, what=f"{names} from {name}: ", json=self._settings.json)
        return not received.left_out

    def _name_of(self, address: str) -> str:
        from weft.cli.peer_networks import peer_at

        peer = peer_at(address, self._network.peers)
        return peer.name if peer is not None and peer.name else address
