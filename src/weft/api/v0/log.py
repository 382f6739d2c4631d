"""`/v0/log/…`: what the daemon logged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from msgspec import Meta, Struct

from weft.api.facade import Facade
from weft.api.v0.route import Route, Stream
from weft.engine.status import LOG_LINES, LogLevel, LogLine, LogList


class Tail(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lines to tell."""

    lines: Annotated[int, Meta(ge=0, le=LOG_LINES, description="How many of the past, at most.")] = LOG_LINES
    level: Annotated[LogLevel, Meta(description="The least that is told.")] = "debug"


async def _list(node: Facade, asked: Tail) -> LogList:
    return node.logs.list(asked.lines, asked.level)


def _follow(node: Facade, asked: Tail) -> AsyncIterator[LogLine]:
    return node.logs.follow(asked.lines, asked.level)


LIST = Route("GET", "/v0/log/list", Tail, LogList, _list, "The last lines of the daemon's log")
FOLLOW = Stream("/v0/log/follow", Tail, LogLine, _follow, "The last lines of the daemon's log, and those to come")

ROUTES = (LIST,)
STREAMS = (FOLLOW,)
