"""A program that does what it is told: a line of JSON comes in, and one goes out when it is done.

What comes is `{"verb": …}` with the arguments of the verb beside it; what goes out is an object with the result, or
with `error`. Everything else that a program prints belongs on standard error. The program ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Verb = Callable[..., Awaitable[Mapping[str, Any]]]


async def obey(verbs: Mapping[str, Verb]) -> None:
    """Do what comes by standard input, one after the other, until its end."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        print(json.dumps(await answer(verbs, json.loads(line))), flush=True)


async def answer(verbs: Mapping[str, Verb], order: dict[str, Any]) -> Mapping[str, Any]:
    """The result of an order, or what went wrong."""
    try:
        return await verbs[order.pop("verb")](**order)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
