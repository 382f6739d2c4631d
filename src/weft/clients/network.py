"""The network, as far as clients and servers need it: three methods of the event loop that a node has too.

A `weft.Node` is one, and so is whatever else connects in the network.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Protocol


class Network(Protocol):
    """Where connections are made and taken: each method is the one of that name in asyncio."""

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **arguments: Any
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect."""

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **arguments: Any
    ) -> asyncio.AbstractServer:
        """Listen."""

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        **arguments: Any,
    ) -> asyncio.Transport:
        """Go on with TLS."""
