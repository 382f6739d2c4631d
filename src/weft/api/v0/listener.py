"""`/v0/listener/…`: where the node listens."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from weft.api.facade import Facade
from weft.api.v0.route import Nothing, Route
from weft.engine.listeners import ListenerList


class ChangeListener(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which listener to start or to stop."""

    multiaddr: Annotated[str, Meta(min_length=1, max_length=1024, description="`/ip4/0.0.0.0/udp/1312`")]


async def _list(node: Facade, _: Nothing) -> ListenerList:
    return node.listeners.list()


async def _start(node: Facade, asked: ChangeListener) -> ListenerList:
    return await node.listeners.start(asked.multiaddr)


async def _stop(node: Facade, asked: ChangeListener) -> ListenerList:
    return await node.listeners.stop(asked.multiaddr)


LIST = Route("GET", "/v0/listener/list", Nothing, ListenerList, _list, "Where the node listens")
START = Route(
    "POST", "/v0/listener/start", ChangeListener, ListenerList, _start, "Listen on one more address, and remember it"
)
STOP = Route("POST", "/v0/listener/stop", ChangeListener, ListenerList, _stop, "Listen on an address no longer")

ROUTES = (LIST, START, STOP)
