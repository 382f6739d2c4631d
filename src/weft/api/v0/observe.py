"""`/v0/events`, `/metrics` and `/v0/openapi.json`: what happens, how much of it, and what can be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from msgspec import Meta, Struct

from weft.api.facade import Facade
from weft.api.v0.route import Document, Stream
from weft.engine.status import Event, EventKind


class Watch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to tell."""

    kinds: Annotated[
        list[EventKind], Meta(max_length=32, description="Only events of these kinds, and `missed`; none means all.")
    ] = []


def _events(node: Facade, asked: Watch) -> AsyncIterator[Event]:
    return node.events(frozenset(asked.kinds))


EVENTS = Stream("/v0/events", Watch, Event, _events, "What happens in the node, as it happens")

STREAMS = (EVENTS,)

METRICS = Document(
    "/metrics",
    ("text/plain", "application/openmetrics-text"),
    "Metrics for Prometheus, in its text format or as OpenMetrics where that is accepted",
)
OPENAPI = Document("/v0/openapi.json", ("application/json",), "This description of the API")

DOCUMENTS = (METRICS, OPENAPI)
