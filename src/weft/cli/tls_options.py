"""The options that say whom TLS trusts, and how this side proves who it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True)
class TlsOptions:
    """What was said by `--ca`, `--cert` and `--key`."""

    ca: Path | None
    cert: Path | None
    key: Path | None

    def context(self, *, verify: bool = True, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """A client's context; see `weft.clients.tls.connect.client_context`."""
        from weft.clients.tls.connect import client_context

        return client_context(
            verify=verify, roots=self.ca if verify else None, certificate=self.cert, key=self.key, alpn=alpn
        )


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options; it gets them as `tls`."""

    @wraps(command)
    def with_tls(*arguments: Any, ca: Path | None, cert: Path | None, key: Path | None, **others: Any) -> Any:
        if key is not None and cert is None:
            raise click.UsageError("--key is for --cert, which is not given")
        return command(*arguments, tls=TlsOptions(ca, cert, key), **others)

    path = click.Path(path_type=Path)
    for option in (
        click.option("--key", type=path, metavar="FILE", help="Its private key, if that is in another file."),
        click.option("--cert", type=path, metavar="FILE", help="Certificate to show to a server that asks for one."),
        click.option("--ca", type=path, metavar="FILE", help="Whom to trust in place of the system's authorities."),
    ):
        with_tls = option(with_tls)
    return with_tls
