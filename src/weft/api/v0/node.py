"""`/v0/info`, `/v0/status`, `/v0/stop`: the node as a whole."""

from __future__ import annotations

from weft.api.facade import Facade
from weft.api.v0.route import Done, Nothing, Route
from weft.engine.status import Info, Status


async def _info(node: Facade, _: Nothing) -> Info:
    return node.info()


async def _status(node: Facade, _: Nothing) -> Status:
    return node.status()


async def _stop(node: Facade, _: Nothing) -> Done:
    node.request_stop()
    return Done()


INFO = Route("GET", "/v0/info", Nothing, Info, _info, "Who this node is and where it can be reached")
STATUS = Route("GET", "/v0/status", Nothing, Status, _status, "Everything at one glance")
STOP = Route("POST", "/v0/stop", Nothing, Done, _stop, "Ask the node to end; answers before it does")

ROUTES = (INFO, STATUS, STOP)
