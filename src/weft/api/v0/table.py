"""The route table of the HTTP API: the one place that knows all that can be asked.

The server dispatches by it, and the API's description is made from it. A client imports the group that it needs.
"""

from __future__ import annotations

from typing import Any

from weft.api.v0 import (
    config,
    fc00,
    listener,
    log,
    name,
    node,
    observe,
    packet,
    peer,
    sockets,
    task,
    transport,
    wireguard,
)
from weft.api.v0.route import Channel, Document, Route, Stream

ROUTES: tuple[Route[Any, Any], ...] = (
    *node.ROUTES,
    *peer.ROUTES,
    *fc00.ROUTES,
    *name.ROUTES,
    *packet.ROUTES,
    *task.ROUTES,
    *config.ROUTES,
    *listener.ROUTES,
    *transport.ROUTES,
    *log.ROUTES,
    *wireguard.ROUTES,
)

STREAMS: tuple[Stream[Any, Any], ...] = (*observe.STREAMS, *log.STREAMS, *packet.STREAMS)

CHANNELS: tuple[Channel, ...] = sockets.CHANNELS

DOCUMENTS: tuple[Document, ...] = observe.DOCUMENTS
