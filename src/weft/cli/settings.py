"""What the options say that every command takes, and the way to the daemon that follows from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import click
from msgspec import Struct

from weft.api.client import PATIENCE_S, Client
from weft.api.unix_socket import FILE_NAME
from weft.api.v0.route import Route
from weft.cli.show import waiting
from weft.engine.directory import default_directory

P = TypeVar("P", bound=Struct)
R = TypeVar("R", bound=Struct)


@dataclass
class Settings:
    """The options `--dir`, `--socket` and `--json`, wherever they were given."""

    directory: Path = field(default_factory=default_directory)
    socket: Path | None = None
    json: bool = False

    @property
    def socket_path(self) -> Path:
        """Where the daemon listens."""
        return self.socket or self.directory / FILE_NAME

    @property
    def client(self) -> Client:
        """The way to the daemon."""
        return Client(self.socket_path)

    def answer(
        self,
        route: Route[P, R],
        parameters: P | None,
        show: Callable[[R], None],
        *,
        patience_s: float = PATIENCE_S,
        doing: str = "waiting for the daemon",
    ) -> None:
        """Ask the daemon, and print its answer as it is with `--json`, for people otherwise."""
        client = self.client
        with waiting(doing):
            reply = client.fetch(route, parameters, patience_s=patience_s)
        if self.json:
            click.echo(reply)
        else:
            show(client.decode(route, reply))


pass_settings = click.make_pass_decorator(Settings, ensure=True)
