"""`weft ssh-server`: shells and files for peers, who are known by their keys in the network."""

from __future__ import annotations

from pathlib import Path

import click

from weft.cli.command import Command
from weft.cli.opened import audience, opening, tell
from weft.cli.settings import Settings, pass_settings
from weft.clients.extras import extra
from weft.errors import UsageError

SSH_PORT = 22


@click.command(
    "ssh-server",
    cls=Command,
    examples=(
        "weft ssh-server loom",
        "weft ssh-server -p 2222 loom 12D3KooW…",
        "weft ssh-server --sftp-root /srv/files loom",
    ),
)
@click.argument("peers", metavar="PEER...", nargs=-1, required=True)
@click.option("-p", "--port", type=click.IntRange(1, 65535), default=SSH_PORT, help="TCP port to listen on.")
@click.option(
    "--sftp-root",
    "root",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Give them this folder by SFTP, and nothing else.",
)
@pass_settings
def ssh_server(settings: Settings, peers: tuple[str, ...], port: int, root: Path | None) -> None:
    """Let PEERs log in by SSH, without passwords: by their keys in the network.

    PEER is a peer's name, its id or its address. They get shells, commands and files as the one who runs this, or one
    folder with --sftp-root; the name of the user that they give is not looked at. Anybody else is refused. It goes on
    until it is interrupted, and what they run ends with it.

    Where the network is an interface, the firewall has to let them in: `weft fc00 allow /tcp/22`.
    """
    import asyncio

    with extra("ssh"):
        from weft.clients.ssh.server import host_key, serve_ssh
    from weft.api.v0 import node as node_api
    from weft.api.v0 import peer as peer_api
    from weft.cli.attached import attached
    from weft.cli.interrupt import until_over
    from weft.cli.peer_networks import networks_of

    if root is not None:
        _check_root(root, {settings.directory, Path(settings.client.call(node_api.INFO).dir)})
    allowed = [each for peer in peers for each in networks_of(peer, settings.client.call(peer_api.LIST).peers)]
    key = host_key(settings.directory)

    async def run() -> None:
        async with attached(settings) as network:
            with opening(f"port {port}"):
                server = await serve_ssh(network, allowed, key=key, port=port, root=root, told=tell)
            opened = f"port {server.port} is open for {audience(settings, server.port)}"
            line = f"{opened}; {', '.join(peers)} may log in; the host key is {key.get_fingerprint()}"
            try:
                await until_over(network, lambda: tell(line))
            finally:
                server.close()
                await server.wait_closed()

    asyncio.run(run())


def _check_root(root: Path, secret: set[Path]) -> None:
    """Look whether a folder may be given to others.

    Raises:
        UsageError: the secrets of a node are in it.
        OSError: there is no such folder.
    """
    there = root.resolve(strict=True)
    for directory in secret:
        if directory.resolve().is_relative_to(there):
            raise UsageError(f"{root} has {directory} in it, and so this node's key; give another folder")
