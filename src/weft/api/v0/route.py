"""What a route is, and the parameters that several have.

Whatever only looks is a GET whose parameters are in the query, `?name=value`, a list being its name several times;
whatever changes something is a POST whose parameters are a JSON object. Parameters are strict: a field that a route
does not know is refused, so that a misspelt one is never ignored. Every reply carries `schema`, the version of its
shape. A `Stream` is a GET whose reply goes on, as server-sent events. A `Channel` leaves HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Struct

from weft.api.facade import Facade
from weft.engine.status import SCHEMA

P = TypeVar("P", bound=Struct)
R = TypeVar("R", bound=Struct)

PeerName = Annotated[
    str, Meta(min_length=1, max_length=256, description="Peer id, name, overlay address, or base64 public key.")
]
Seconds = Annotated[float, Meta(gt=0, le=300, description="How long to wait for the other side.")]


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class Done(Struct, frozen=True, kw_only=True):
    """It was done, and there is nothing more to say."""

    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Route(Generic[P, R]):
    """One thing that can be asked of a node."""

    method: str
    path: str
    parameters: type[P]
    result: type[R]
    handler: Callable[[Facade, P], Awaitable[R]]
    summary: str


@dataclass(frozen=True, slots=True)
class Stream(Generic[P, R]):
    """One thing that a node tells as long as somebody listens: each item is one event of `text/event-stream`.

    The handler returns an async iterator, as an async generator does. It checks its parameters before it waits for
    something, so that what is wrong with them is a reply and not an event. It is closed when the client goes, so what
    it holds is let go in a `finally`. An item that has a `kind` gives the event that name.
    """

    path: str
    parameters: type[P]
    item: type[R]
    handler: Callable[[Facade, P], AsyncIterator[R]]
    summary: str
    method: str = "GET"


@dataclass(frozen=True, slots=True)
class Channel:
    """A way to leave HTTP for another protocol; what is said then is the server's matter."""

    path: str
    protocol: str
    """As `Upgrade` names it."""
    summary: str
    method: str = "GET"
    parameters: type[Nothing] = Nothing


@dataclass(frozen=True, slots=True)
class Document:
    """One thing that the API tells in a form of its own; the server makes it."""

    path: str
    content_types: tuple[str, ...]
    summary: str
    method: str = "GET"
    parameters: type[Nothing] = Nothing
