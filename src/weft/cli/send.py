"""`weft send`: files and folders to a peer that receives them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weft.cli.attached import attached
from weft.cli.command import Command
from weft.cli.copied import Copied, show
from weft.cli.names import PEER
from weft.cli.progress import Told, progress
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import waiting
from weft.clients.parcel.messages import PORT

if TYPE_CHECKING:
    from weft.clients.report import Report


class Sent(Copied, frozen=True, kw_only=True):
    """What `weft send --json` prints."""

    peer: str
    """Who has them now, as it was called."""


@click.command(
    cls=Command,
    result=Sent,
    examples=(
        "weft send notes.txt loom",
        "weft send notes.txt photos loom",
        "weft send photos 12D3KooW… --json | jq .left_out",
    ),
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("peer", type=PEER)
@click.option("-p", "--port", type=click.IntRange(1, 65535), default=PORT, help="TCP port on which the peer receives.")
@pass_settings
def send(settings: Settings, files: tuple[Path, ...], peer: str, port: int) -> None:
    """Send FILEs to PEER, which runs `weft receive`.

    A folder is sent with all that is in it, but for links. What is there already is not sent again: after an end in the
    middle the same command goes on from there. A file is there when its hash is right.

    The exit code is 1 if something was left out.
    """
    import asyncio

    from weft.clients.parcel.send import send as send_parcel

    began = time.monotonic()

    async def run() -> Report:
        async with attached(settings) as network:
            with ExitStack() as asking:
                asking.enter_context(waiting(f"waiting for {peer} to take it"))

                @contextmanager
                def shown(what: str) -> Iterator[Told]:
                    asking.close()
                    with progress(what) as told:
                        yield told

                return await send_parcel(network, peer, files, port=port, progress=shown)

    report = asyncio.run(run())
    show(Sent.of(report, began, peer=peer), json=settings.json)
    if report.left_out:
        raise click.exceptions.Exit(1)
