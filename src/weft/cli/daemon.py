"""`weft daemon`: the node in the foreground."""

from __future__ import annotations

import click

from weft.cli.command import Command
from weft.cli.settings import Settings, pass_settings

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@click.command(cls=Command, examples=("weft daemon", "weft --dir ~/lab daemon 2> lab.log"))
@pass_settings
def daemon(settings: Settings) -> None:
    """Run the node in the foreground, until SIGTERM, Ctrl-C or `weft down`.

    It logs to standard error, and makes no network interface until `weft fc00 start`. `weft init` comes before it;
    `weft up` does it all.
    """
    import asyncio
    import logging

    from weft.api.serve import serve
    from weft.api.unix_socket import ApiSocket
    from weft.engine.config import FILE_NAME, load_config
    from weft.engine.engine import Engine

    config = load_config(settings.directory / FILE_NAME)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    # The engine comes first, because it locks the directory, and with it the right to replace a dead daemon's socket.
    engine = Engine(settings.directory, config)
    with ApiSocket(settings.socket_path) as socket:
        asyncio.run(serve(engine, socket))
