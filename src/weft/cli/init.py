"""`weft init`: what a node needs before its first start."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from weft.cli.command import Command
from weft.cli.settings import Settings, pass_settings
from weft.errors import UsageError

SECRET_NAME = "network.secret"
MAX_SECRET_BYTES = 64 * 1024

_ASK = ""


class Initialised(msgspec.Struct, frozen=True, kw_only=True):
    """What `weft init --json` prints."""

    schema: int = 1
    dir: str
    id: str
    address: str
    created: bool
    """False if the node had its key before."""


@click.command(
    cls=Command,
    result=Initialised,
    examples=(
        "weft init",
        "weft genpsk | weft init --network-secret -           # a network that only who has the secret joins",
        "weft --dir ~/lab init --network-secret lab.secret",
    ),
)
@click.option(
    "--network-secret",
    "secret",
    is_flag=False,
    flag_value=_ASK,
    metavar="[FILE]",
    help="Join the private network whose members share the secret in FILE (- for standard input); asks for the secret "
    "if no FILE is given.",
)
@pass_settings
def init(settings: Settings, secret: str | None) -> None:
    """Make the key of a node and a commented weft.toml; what is there already is kept as it is."""
    from ipaddress import IPv6Address

    from weft.engine.initial import ensure_initialised
    from weft.io.store import Store

    if secret is not None:
        join_network(settings.directory, _read_secret(secret))
    created = ensure_initialised(settings.directory)
    identity = Store(settings.directory).load_key()
    made = Initialised(
        dir=str(settings.directory.absolute()),
        id=str(identity.peer_id),
        address=str(IPv6Address(identity.address)),
        created=created,
    )
    if settings.json:
        click.echo(msgspec.json.encode(made))
    else:
        click.echo(f"{'made' if created else 'kept'} the key of {made.address} in {made.dir}")


def join_network(directory: Path, secret: bytes) -> None:
    """Keep a network's secret in its file, and name that file in the configuration.

    Raises:
        UsageError: the secret is too short, or the configuration names one already.
        ConfigError: the configuration is broken, or written so that a person has to set the key.
    """
    from weft.engine.config import FILE_NAME, load_config, network_psk
    from weft.engine.edit import edit_text
    from weft.engine.manual import render_default
    from weft.io.durable import create_file, make_directory, replace_file

    network_psk(secret)
    make_directory(directory)
    config, file = directory / FILE_NAME, directory / SECRET_NAME
    text = render_default()
    if config.exists():
        if load_config(config).network.secret_file is not None:
            raise UsageError(f"{config} names a secret already; change the file that it names")
        text = config.read_text("utf-8")
    text = edit_text(text, {"network.secret_file": SECRET_NAME})
    try:
        create_file(file, secret.strip() + b"\n")
    except FileExistsError:
        raise UsageError(f"{file} exists already; remove it, or name it in {config}") from None
    replace_file(config, text.encode())


def _read_secret(source: str) -> bytes:
    if source == _ASK and sys.stdin.isatty():
        text: str = click.prompt("Secret of the network", hide_input=True, confirmation_prompt=True, err=True)
        return text.encode()
    with click.open_file(source or "-", "rb") as file:
        content: bytes = file.read(MAX_SECRET_BYTES + 1)
    if len(content) > MAX_SECRET_BYTES:
        raise UsageError(f"the secret has more than {MAX_SECRET_BYTES} bytes; is it the right file?")
    return content
