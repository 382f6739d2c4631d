"""`weft sftp`: a shell for the files of a peer that runs an SSH server."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from weft.cli.command import Command
from weft.cli.outcome import FAILED, OK, report
from weft.cli.progress import progress
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import plain
from weft.cli.ssh_login import SshOptions, failing, logged_in, ssh_options
from weft.errors import WeftError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from weft.clients.sftp.shell import Shell

PROMPT = "sftp> "


@click.command(
    cls=Command,
    examples=(
        "weft sftp loom",
        "weft sftp -b nightly.sftp anna@loom",
        "echo 'get /etc/hosts hosts.loom' | weft sftp --accept-new loom",
    ),
)
@click.argument("peer", metavar="[USER@]PEER")
@ssh_options
@click.option("-b", "--batch", type=click.Path(path_type=Path, dir_okay=False), help="Carry out the lines of a file.")
@pass_settings
def sftp(settings: Settings, peer: str, login: SshOptions, batch: Path | None) -> None:
    """Look at and copy files of PEER, by its SSH server.

    The commands are cd, lcd, pwd, lpwd, ls, lls, get, put, mkdir, rmdir, rm, rename, chmod, stat, help and exit; those
    with an l are about this machine. `get -r` and `put -r` copy folders.

    The lines come from a file with -b, or from standard input if that is no terminal. Then the first that fails is the
    last one, and the exit code 1, unless it begins with `-`.
    """
    import asyncio

    if batch is None and sys.stdin.isatty():
        _Conversation(settings, login, peer).run()
        return
    if batch is None:
        code = asyncio.run(_carry_out(settings, login, peer, sys.stdin))
    else:
        with batch.open(encoding="utf-8") as lines:
            code = asyncio.run(_carry_out(settings, login, peer, lines))
    raise click.exceptions.Exit(code)


async def _carry_out(settings: Settings, login: SshOptions, peer: str, lines: TextIO) -> int:
    async with AsyncExitStack() as stack:
        shell = await _enter(stack, settings, login, peer)
        for line in lines:
            may_fail = line.startswith("-")
            try:
                with failing(login.of(peer)[1]):
                    if not await shell.do(line.removeprefix("-")):
                        break
            except WeftError as error:
                report(error)
                if not may_fail:
                    return FAILED
    return OK


async def _enter(stack: AsyncExitStack, settings: Settings, login: SshOptions, peer: str) -> Shell:
    connection = await stack.enter_async_context(logged_in(settings, login, peer))
    from weft.clients.sftp.bounds import bound_listings
    from weft.clients.sftp.shell import Shell

    # Names of files need not be text.
    client = await stack.enter_async_context(connection.start_sftp_client(path_errors="surrogateescape"))
    bound_listings(client)
    return Shell(client, login.of(peer)[1], lambda line: click.echo(plain(line)), progress)


class _Conversation:
    """A person types, and the connection lives on meanwhile: the event loop runs in a thread of its own."""

    def __init__(self, settings: Settings, login: SshOptions, peer: str) -> None:
        self._settings, self._login, self._peer = settings, login, peer

    def run(self) -> None:
        """Until they have had enough, or the connection breaks off."""
        import asyncio

        with asyncio.Runner() as runner:
            stack = AsyncExitStack()
            # Not in the thread: a question for a password has to be interruptible.
            shell = runner.run(_enter(stack, self._settings, self._login, self._peer))
            try:
                with _running(runner.get_loop()) as loop:
                    self._talk(shell, loop)
            finally:
                runner.run(_leave(stack))

    def _talk(self, shell: Shell, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(ImportError):
            import readline  # noqa: F401 - it gives `input` its history
        while True:
            try:
                line = input(PROMPT)
            except EOFError:
                click.echo()
                return
            except KeyboardInterrupt:
                click.echo()
                continue
            try:
                with failing(self._login.of(self._peer)[1]):
                    if not _wait(shell.do(line), loop):
                        return
            except WeftError as error:
                report(error)
            except KeyboardInterrupt:
                click.echo("interrupted", err=True)


async def _leave(stack: AsyncExitStack) -> None:
    with suppress(WeftError):
        await stack.aclose()


def _wait(work: Coroutine[object, object, bool], loop: asyncio.AbstractEventLoop) -> bool:
    import asyncio

    done = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return done.result()
    except KeyboardInterrupt:
        done.cancel()
        raise


@contextmanager
def _running(loop: asyncio.AbstractEventLoop) -> Iterator[asyncio.AbstractEventLoop]:
    thread = threading.Thread(target=loop.run_forever, name="weft sftp", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
