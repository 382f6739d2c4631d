"""`/v0/config/…`, `/v0/reload`: the configuration of the node."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from weft.api.facade import Facade
from weft.api.v0.route import Nothing, Route
from weft.engine.settings import ConfigStatus, Reloaded

KeyName = Annotated[str, Meta(min_length=1, max_length=64, description="With its section, such as `peer.listen`.")]
Text = Annotated[str, Meta(max_length=1024)]


class SetKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which key is to have which value."""

    key: KeyName
    value: Annotated[
        bool | int | Text | Annotated[list[Text], Meta(max_length=1024)], Meta(description="Of the type of the key.")
    ]


class UnsetKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which key is to have its default."""

    key: KeyName


async def _show(node: Facade, _: Nothing) -> ConfigStatus:
    return node.settings.show()


async def _set(node: Facade, asked: SetKey) -> Reloaded:
    return await node.settings.set(asked.key, asked.value)


async def _unset(node: Facade, asked: UnsetKey) -> Reloaded:
    return await node.settings.set(asked.key, None)


async def _reload(node: Facade, _: Nothing) -> Reloaded:
    return await node.settings.reload()


SHOW = Route("GET", "/v0/config/show", Nothing, ConfigStatus, _show, "The configuration that counts, key by key")
SET = Route("POST", "/v0/config/set", SetKey, Reloaded, _set, "Change one key, in weft.toml and at once")
UNSET = Route("POST", "/v0/config/unset", UnsetKey, Reloaded, _unset, "Give one key its default back")
RELOAD = Route("POST", "/v0/reload", Nothing, Reloaded, _reload, "Read weft.toml anew; all of it counts, or nothing")

ROUTES = (SHOW, SET, UNSET, RELOAD)
