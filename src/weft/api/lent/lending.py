"""How programs come to a daemon's host: a request to the API that leaves HTTP behind (RFC 9110 section 7.8).

    GET /v0/sockets HTTP/1.1            HTTP/1.1 101 Switching Protocols
    Host: localhost                     Connection: Upgrade
    Connection: Upgrade                 Upgrade: weft-sockets
    Upgrade: weft-sockets

Then both sides speak what messages.py says. Only the Unix socket serves for this: no other one passes descriptors.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Final

from aiohttp import web

from weft.api.facade import Facade
from weft.api.lent.lender import Lender
from weft.api.lent.messages import PROTOCOL
from weft.api.request import Row, refuse
from weft.errors import UsageError

MAX_PROGRAMS: Final = 32
"""At once, so that requests find a connection."""


class Lending:
    """All programs that use the host of a node."""

    def __init__(self) -> None:
        self._lenders: set[Lender] = set()

    def __len__(self) -> int:
        return len(self._lenders)

    def close(self) -> None:
        """End what all programs have open."""
        for lender in list(self._lenders):
            lender.close()

    async def serve(self, row: Row, request: web.BaseRequest, node: Facade) -> web.StreamResponse:
        """Serve one program until it goes.

        Raises:
            Refused: it asks for something else, or there are too many.
            UsageError: the node has no host of its own.
        """
        if request.headers.get("Upgrade", "").strip().lower() != PROTOCOL:
            raise refuse(426, f"{row.path} speaks {PROTOCOL}", {"Upgrade": PROTOCOL, "Connection": "Upgrade"})
        theirs = _descriptor_of(request)
        if node.driver is None:
            raise UsageError("this node has no stack; where it has a TUN, the system's sockets lead into the network")
        if len(self._lenders) >= MAX_PROGRAMS:
            raise refuse(503, f"{MAX_PROGRAMS} programs use the network already, which is the most")
        response = web.StreamResponse(status=101, headers={"Connection": "Upgrade", "Upgrade": PROTOCOL})
        response.force_close()
        await response.prepare(request)
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        assert request.transport is not None
        # What comes from now on is for the lender, who has a descriptor of its own.
        request.transport.pause_reading()
        lender = Lender(node.driver, socket.socket(fileno=os.dup(theirs)), lambda: _finish(over))
        self._lenders.add(lender)
        try:
            await over
        finally:
            self._lenders.discard(lender)
            lender.close()
            if request.transport is not None:
                request.transport.abort()
        return response


def _descriptor_of(request: web.BaseRequest) -> int:
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    if sock is None or sock.family != getattr(socket, "AF_UNIX", None):
        raise refuse(403, "descriptors are passed by the Unix socket of the node alone")
    return int(sock.fileno())


def _finish(over: asyncio.Future[None]) -> None:
    with suppress(asyncio.InvalidStateError):
        over.set_result(None)
