"""The route table of the HTTP API: the one place that knows all that can be asked.

The server dispatches by it, and the API's description is made from it. A client imports the group that it needs.
"""

from __future__ import annotations

from typing import Any

from weft.api.v0 import fc00, log, node, observe, peer, task, wireguard
from weft.api.v0.route import Route, Stream

ROUTES: tuple[Route[Any, Any], ...] = (
    *node.ROUTES,
    *peer.ROUTES,
    *fc00.ROUTES,
    *task.ROUTES,
    *log.ROUTES,
    *wireguard.ROUTES,
)

STREAMS: tuple[Stream[Any, Any], ...] = (*observe.STREAMS, *log.STREAMS)
