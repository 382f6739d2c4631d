"""`weft scp`: files and folders to and from a peer that runs an SSH server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weft.cli.command import Command
from weft.cli.copied import Copied, show
from weft.cli.progress import progress
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import plain
from weft.cli.ssh_login import SshOptions, logged_in, ssh_options
from weft.errors import UsageError

if TYPE_CHECKING:
    from weft.clients.report import Report


@click.command(
    cls=Command,
    result=Copied,
    examples=(
        "weft scp loom:/etc/hosts hosts.loom",
        "weft scp hosts.loom anna@loom:",
        "weft scp -r --resume loom:/etc/ssh backup",
        "weft scp -p 2222 'loom:/etc/host*' . --json | jq .files",
    ),
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.argument("target")
@ssh_options
@click.option("-r", "--recursive", is_flag=True, help="Copy folders, and all that is in them.")
@click.option("--resume", is_flag=True, help="Leave out files that are there with the same size and time.")
@pass_settings
def scp(
    settings: Settings, sources: tuple[str, ...], target: str, login: SshOptions, *, recursive: bool, resume: bool
) -> None:
    """Copy files from or to a peer, by its SSH server.

    Either all SOURCEs or TARGET is on a peer: `[USER@]PEER:PATH`, with an address in brackets. A file is there when it
    is whole. What breaks off goes on from there with the same command.

    The exit code is 1 if something was left out.
    """
    import asyncio

    began = time.monotonic()
    peer, there = _split(target)
    from_peers = [_split(source) for source in sources]
    peers = {each for each, _ in from_peers} | {peer}
    if len(peers) != 2 or None not in peers or (peer is None) == (None in {each for each, _ in from_peers}):
        raise UsageError("one side has to be on one peer, the other here; `PEER:PATH` is there, `./a:b` is here")
    (called,) = peers - {None}
    assert called is not None

    async def copy() -> Report:
        async with logged_in(settings, login, called) as connection:
            from weft.clients.sftp.bounds import bound_listings
            from weft.clients.sftp.tree import Trees

            what = (sources[0] if len(sources) == 1 else called).rstrip("/").rpartition("/")[2]
            async with connection.start_sftp_client(path_errors="surrogateescape") as sftp:
                bound_listings(sftp)
                with progress(plain(what)) as told:
                    trees = Trees(sftp, login.of(called)[1], recursive=recursive, resume=resume, told=told)
                    if peer is None:
                        return await trees.download([path for _, path in from_peers], Path(target))
                    return await trees.upload([Path(path) for _, path in from_peers], there)

    report = asyncio.run(copy())
    show(Copied.of(report, began), json=settings.json)
    if report.left_out:
        raise click.exceptions.Exit(1)


def _split(place: str) -> tuple[str | None, str]:
    """Peer and path of `loom:path`, `anna@loom:path` or `[fc00::1]:path`; a peer of None is here."""
    user, at, rest = place.partition("@") if "@" in place.partition(":")[0] else ("", "", place)
    if rest.startswith("["):
        host, bracket, path = rest[1:].partition("]:")
        return (f"{user}{at}{host}", path) if bracket else (None, place)
    host, colon, path = rest.partition(":")
    # As with scp(1): what has a / before its first colon is a path here.
    return (f"{user}{at}{host}", path) if colon and host and "/" not in host else (None, place)
