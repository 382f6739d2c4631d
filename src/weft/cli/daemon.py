"""`weft daemon`: the node in the foreground."""

from __future__ import annotations

import click

from weft.cli.command import Command
from weft.cli.log_file import BACKGROUND
from weft.cli.outcome import WRONG_USAGE, report
from weft.cli.settings import Settings, pass_settings


@click.command(cls=Command, examples=("weft init && weft daemon", "weft --dir ~/lab daemon 2> lab.log"))
@pass_settings
def daemon(settings: Settings) -> None:
    """Run the node in the foreground, until SIGTERM, Ctrl-C or `weft down`; SIGHUP is as `weft reload`.

    It logs to standard error if weft.toml does not say otherwise. `weft init` comes before it; `weft up` does it all.
    Under systemd it says when it is ready, and takes the descriptors `api`, `udp` and `tun`.

    Exit code 2 says that weft.toml or the command line is wrong, so that it makes no sense to try again; 1 that
    something else failed.
    """
    import asyncio
    import faulthandler
    from contextlib import ExitStack

    from weft.api.loopback import Loopback
    from weft.api.serve import serve
    from weft.api.unix_socket import ApiSocket
    from weft.cli.socket_service import socket_service
    from weft.engine.config import FILE_NAME, load_config
    from weft.engine.engine import Engine
    from weft.engine.passed import sort_descriptors
    from weft.errors import ConfigError
    from weft.io.logs import start_logging
    from weft.io.process import allow_descriptors
    from weft.io.secrecy import close_memory
    from weft.io.systemd import Manager, take_descriptors

    close_memory()
    allow_descriptors()
    faulthandler.enable()
    manager, passed = Manager(), sort_descriptors(take_descriptors())
    try:
        config = load_config(settings.directory / FILE_NAME)
        log_file = settings.directory / config.log.file if config.log.file is not None else None
        start_logging(config.log.level, config.log.format, log_file, settings.directory / BACKGROUND)
    except ConfigError as error:
        report(error)
        raise click.exceptions.Exit(WRONG_USAGE) from None
    # The engine comes first, because it locks the directory, and with it the right to replace a dead daemon's socket.
    engine = Engine(settings.directory, config, passed)
    with ExitStack() as stack:
        socket = stack.enter_context(ApiSocket(settings.socket_path, passed.api))
        loopback = None
        if config.api.listen is not None:
            token_file = settings.directory / config.api.token_file
            loopback = stack.enter_context(Loopback(config.api.listen, token_file))
        services = socket_service(engine, settings.directory, stack)
        asyncio.run(serve(engine, socket, manager, loopback, services))
