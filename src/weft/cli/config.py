"""`weft config`: what weft.toml says, and changes of it.

Looking and changing go through the daemon if it runs, so that a change counts at once or is refused; else the file
itself is read and written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from weft.api.client import NoDaemon
from weft.api.v0 import config as config_api
from weft.api.v0.config import SetKey, UnsetKey
from weft.api.v0.route import Route
from weft.cli.command import Group
from weft.cli.names import KEY
from weft.cli.reload import show_reloaded
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import table
from weft.engine.settings import ConfigStatus, KeyStatus, Reloaded
from weft.engine.status import SCHEMA
from weft.errors import UsageError


class KeyReply(msgspec.Struct, frozen=True, kw_only=True):
    """What `weft config get --json` prints."""

    schema: int = SCHEMA
    key: KeyStatus


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What `weft config check --json` prints if all is well."""

    schema: int = SCHEMA
    file: str


@click.group(
    cls=Group,
    examples=(
        "weft config show",
        "weft config set peer.accept known",
        "weft config check ~/new.toml",
    ),
)
def config() -> None:
    """Show, check and change the configuration."""


@config.command(
    result=config_api.SHOW, examples=("weft config show", "weft config show --json | jq '.keys[] | select(.waits)'")
)
@pass_settings
def show(settings: Settings) -> None:
    """Show all keys: value, and where it comes from.

    What the daemon goes by if it runs, else what weft.toml says.
    """
    found = _status(settings)
    if settings.json:
        click.echo(msgspec.json.encode(found))
        return
    table([(each.key, _text(each.value), _source(each, found.file)) for each in found.keys])


@config.command(
    result=KeyReply, examples=("weft config get peer.listen", "weft config get log.level --json | jq .key.value")
)
@click.argument("key", type=KEY)
@pass_settings
def get(settings: Settings, key: str) -> None:
    """Print the value of KEY, as `set` takes it."""
    from weft.engine.edit import key_named

    key_named(key)
    (found,) = [each for each in _status(settings).keys if each.key == key]
    click.echo(msgspec.json.encode(KeyReply(key=found)) if settings.json else _text(found.value))


@config.command(
    "set",
    short_help="Give KEY a VALUE in weft.toml.",
    result=config_api.SET,
    examples=(
        "weft config set peer.accept known",
        "weft config set peer.listen /ip4/0.0.0.0/udp/1312,/ip6/::/udp/1312",
        "weft config set fc00.addresses 10.7.0.1/24",
        "weft config set peer.fwmark 0x1234",
    ),
)
@click.argument("key", type=KEY)
@click.argument("value")
@pass_settings
def set_(settings: Settings, key: str, value: str) -> None:
    """Give KEY a VALUE in weft.toml, whose comments and order stay; a daemon that runs obeys at once.

    VALUE is as in weft.toml, but text needs no quotes, and a list may be its parts with commas between.
    """
    from weft.engine.edit import decode_value

    decoded = decode_value(key, value)
    _change(settings, config_api.SET, SetKey(key=key, value=decoded), key, decoded)


@config.command(result=config_api.UNSET, examples=("weft config unset peer.listen", "weft config unset fc00.addresses"))
@click.argument("key", type=KEY)
@pass_settings
def unset(settings: Settings, key: str) -> None:
    """Give KEY its default back; weft.toml shows that in a comment."""
    from weft.engine.edit import key_named

    key_named(key)
    _change(settings, config_api.UNSET, UnsetKey(key=key), key, None)


@config.command(
    short_help="Tell whether a node can start with FILE.",
    result=Checked,
    examples=("weft config check", "weft config check ~/new.toml && cp ~/new.toml /etc/weft/weft.toml && weft reload"),
)
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@pass_settings
def check(settings: Settings, file: Path | None) -> None:
    """Tell whether FILE is a configuration that a node can start with; that of this node by default.

    What is wrong is named with its key and line.
    """
    from weft.engine.config import load_config, load_network_psk

    path = file or _path(settings)
    load_network_psk(load_config(path), path.parent)
    click.echo(msgspec.json.encode(Checked(file=str(path))) if settings.json else f"{path} is right")


def _path(settings: Settings) -> Path:
    from weft.engine.config import FILE_NAME

    return settings.directory / FILE_NAME


def _status(settings: Settings) -> ConfigStatus:
    try:
        return settings.client.call(config_api.SHOW)
    except NoDaemon:
        from weft.engine.config import load_config
        from weft.engine.effective import describe_config

        path = _path(settings)
        return describe_config(load_config(path), path)


def _change(settings: Settings, route: Route[Any, Reloaded], parameters: msgspec.Struct, key: str, value: Any) -> None:
    try:
        settings.answer(route, parameters, show_reloaded)
    except NoDaemon:
        from weft.engine.edit import change_file
        from weft.io.store import Store

        if not settings.directory.is_dir():
            raise UsageError(f"{settings.directory} does not exist; run `weft init` to make it") from None
        # So that no daemon starts in the middle of it.
        with Store(settings.directory).lock():
            change_file(_path(settings), {key: value})
        if settings.json:
            click.echo(msgspec.json.encode(Reloaded(applied=[], needs_restart=[key])))
        else:
            click.echo(f"changed {key}, for when the daemon starts")


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list() | tuple():
            return ",".join(value)
    return str(value)


def _source(key: KeyStatus, file: str) -> str:
    source = f"{Path(file).name}:{key.line}" if key.line else "default" if key.is_default else Path(file).name
    return source + (", counts after a new start" if key.waits else "")
