"""What `ssh`, `sftp` and `scp` share: whom they call and as whom, and the questions that a person is asked.

A question goes to the terminal, wherever the standard streams lead. Where there is none, a server that was not seen
before is refused, unless `--accept-new` says otherwise.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weft.cli.settings import Settings
from weft.cli.show import in_one_line, plain
from weft.clients.extras import extra
from weft.errors import PeerError, UsageError

if TYPE_CHECKING:
    import asyncssh

    from weft.clients.ssh.client import NewHost

SSH_PORT = 22
TERMINAL = "/dev/tty"


@dataclass(frozen=True)
class SshOptions:
    """What was said by `-p`, `-i`, `-l` and `--accept-new`."""

    port: int
    identities: tuple[Path, ...]
    user: str | None
    accept_new: bool

    def of(self, target: str) -> tuple[str | None, str]:
        """User and host of `[user@]host`.

        Raises:
            UsageError: there is no host in it, or another user than `-l` says.
        """
        user, at, host = target.rpartition("@")
        host = host.removeprefix("[").removesuffix("]")
        if not host or (at and not user):
            raise UsageError(f"{target!r} names no peer; `[USER@]PEER` does")
        if user and self.user and user != self.user:
            raise UsageError(f"{target} and -l {self.user} are two users")
        return user or self.user, host


def ssh_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options; it gets them as `login`."""

    @wraps(command)
    def with_login(
        *arguments: Any, port: int, identities: tuple[Path, ...], user: str | None, accept_new: bool, **others: Any
    ) -> Any:
        return command(*arguments, login=SshOptions(port, identities, user, accept_new), **others)

    path = click.Path(path_type=Path)
    for option in (
        click.option("--accept-new", is_flag=True, help="Trust a server that was not seen before, without asking."),
        click.option("-l", "--login", "user", metavar="USER", help="Who logs in there; your own name by default."),
        click.option(
            *("-i", "--identity", "identities"),
            type=path,
            multiple=True,
            metavar="FILE",
            help="Private key to log in with; those in ~/.ssh, and those of the agent, by default.",
        ),
        click.option("-p", "--port", type=click.IntRange(1, 65535), default=SSH_PORT, help="TCP port of the server."),
    ):
        with_login = option(with_login)
    return with_login


@asynccontextmanager
async def logged_in(
    settings: Settings, options: SshOptions, target: str, *, lends_agent: bool = False
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection to a server, until the block ends.

    Args:
        settings: say which node's network.
        options: of the command.
        target: `[user@]host`.
        lends_agent: let what runs there use the agent here.

    Raises:
        PeerError: it can't be had; says why in one line.
        UsageError: there is no agent to lend.
    """
    with extra("ssh"):
        from weft.clients.ssh.client import Login, agent_path, ssh_connection
        from weft.clients.ssh.hosts import known_hosts
    from weft.cli.attached import attached

    user, host = options.of(target)
    agent = agent_path()
    if lends_agent and agent is None:
        raise UsageError("there is no agent to lend: SSH_AUTH_SOCK is not set")
    login = Login(
        user=user,
        keys=[path.expanduser() for path in options.identities],
        agent=agent,
        ask=_ask_hidden if _has_terminal() else None,
        told=_tell,
    )
    hosts = known_hosts(settings.directory)

    async def trust(new: NewHost) -> bool:
        return options.accept_new or _ask_trust(new)

    lent = {"agent_forwarding": agent} if lends_agent else {}
    async with attached(settings) as network:
        with _quiet(), failing(host):
            async with ssh_connection(
                network, host, options.port, login=login, hosts=hosts, trust=trust, **lent
            ) as connection:
                yield connection


@contextmanager
def failing(host: str) -> Iterator[None]:
    """Say in one line why something with a host failed.

    Raises:
        PeerError: it did.
    """
    from weft.clients.ssh.words import FAILURES, words_of

    try:
        yield
    except FAILURES as error:
        raise PeerError(f"{host}: {words_of(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Log nothing while the block runs: what goes wrong is told in one line, once."""
    import logging

    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _has_terminal() -> bool:
    try:
        os.close(os.open(TERMINAL, os.O_RDWR))
    except OSError:
        return False
    return True


async def _ask_hidden(prompt: str) -> str | None:
    import getpass

    with _interruptible():
        try:
            return getpass.getpass(in_one_line(prompt))
        except EOFError:
            return None


def _ask_trust(new: NewHost) -> bool:
    if not _has_terminal():
        return False
    question = (
        f"{plain(new.host)} ({new.address}) was not seen before; its key is\n"
        f"  {new.algorithm} {new.fingerprint}\nTrust it from now on? [yes/no] "
    )
    with _interruptible(), open(TERMINAL, "w", encoding="utf-8") as asks, open(TERMINAL, encoding="utf-8") as answers:
        asks.write(question)
        asks.flush()
        return answers.readline().strip().lower() in {"y", "yes"}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end a question at once: while it waits, the event loop does not run.

    Raises:
        click.Abort: it did; what asyncio makes of a KeyboardInterrupt is nothing for a person.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise click.Abort from None
    finally:
        signal.signal(signal.SIGINT, before)


def _tell(banner: str) -> None:
    if sys.stderr.isatty():
        for line in banner.splitlines():
            click.echo(plain(line), err=True)
