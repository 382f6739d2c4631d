"""`weft ssh`: a shell or a command on a peer that runs an SSH server."""

from __future__ import annotations

import sys

import click

from weft.cli.command import Command
from weft.cli.outcome import report
from weft.cli.settings import Settings, pass_settings
from weft.cli.ssh_login import SshOptions, logged_in, ssh_options
from weft.errors import WeftError

LOST = 255


@click.command(
    cls=Command,
    # What stands behind the peer is the command's own, options too.
    context_settings={"allow_interspersed_args": False},
    examples=(
        "weft ssh loom",
        "weft ssh anna@loom uptime",
        "weft ssh -t -p 2222 loom 'less /etc/hosts'",
        "eval $(ssh-agent); ssh-add ~/.ssh/id_ed25519; weft ssh -A loom 'ssh-add -l'",
        "tar -c notes | weft ssh --accept-new -i ~/.ssh/id_ed25519 loom 'tar -x'",
        "rsync -a -e 'weft ssh' loom:/etc/hosts .",
    ),
)
@click.argument("peer", metavar="[USER@]PEER")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@ssh_options
@click.option("-A", "--lend-agent", "lends_agent", is_flag=True, help="Let what runs there use the agent here.")
@click.option("-t", "--tty", is_flag=True, help="A terminal for the command too, not only for a shell.")
@pass_settings
def ssh(
    settings: Settings, peer: str, command: tuple[str, ...], login: SshOptions, *, lends_agent: bool, tty: bool
) -> None:
    """Run COMMAND on PEER, or a shell, by its SSH server.

    PEER is a peer, an address or a name. The server's key is looked for in `known_hosts` in the node's directory and in
    ~/.ssh. One that was not seen before is asked about, and one that has changed is refused. To log in, the agent's
    keys, those in ~/.ssh and a password are tried.

    In a shell, `~.` at the head of a line ends the connection. With -A, whoever is root there can log in elsewhere
    with the agent's keys for as long as it lasts.

    The exit code is that of COMMAND, and 255 if it has none.
    """
    import asyncio

    words = " ".join(command) or None
    terminal = (tty or words is None) and sys.stdin.isatty()
    try:
        code = asyncio.run(_ssh(settings, peer, words, login, lends_agent=lends_agent, terminal=terminal))
    except WeftError as error:
        report(error)
        code = LOST
    raise click.exceptions.Exit(code)


async def _ssh(
    settings: Settings, peer: str, command: str | None, login: SshOptions, *, lends_agent: bool, terminal: bool
) -> int:
    async with logged_in(settings, login, peer, lends_agent=lends_agent) as connection:
        from weft.clients.ssh.terminal import run_joined

        sys.stdout.flush()
        return await run_joined(connection, command, terminal=terminal)
