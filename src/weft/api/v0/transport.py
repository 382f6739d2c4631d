"""`/v0/transport/…`: what carries the tunnels."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from weft.api.facade import Facade
from weft.api.v0.route import Nothing, Route
from weft.engine.listeners import TransportList


class ChangeTransport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which transport to switch on or off."""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="`ip4` or `ip6`")]


async def _list(node: Facade, _: Nothing) -> TransportList:
    return node.transports.list()


async def _enable(node: Facade, asked: ChangeTransport) -> TransportList:
    return await node.transports.enable(asked.name)


async def _disable(node: Facade, asked: ChangeTransport) -> TransportList:
    return await node.transports.disable(asked.name)


LIST = Route("GET", "/v0/transport/list", Nothing, TransportList, _list, "What carries the tunnels")
ENABLE = Route(
    "POST", "/v0/transport/enable", ChangeTransport, TransportList, _enable, "Open the listeners of a transport"
)
DISABLE = Route(
    "POST", "/v0/transport/disable", ChangeTransport, TransportList, _disable, "Close the listeners of a transport"
)

ROUTES = (LIST, ENABLE, DISABLE)
