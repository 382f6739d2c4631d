"""HTTP in the network: httpx2's client, whose connections are a node's.

    async with node.http() as client:
        response = await client.get("http://loom/")
        async with client.websocket("ws://loom/chat") as socket: …

The host of a URL is whatever a node can look up: a peer's name, with or without `.weft`, an address (`[fc00::1]`), a
name that the system knows. A peer id is written as `ID.weft`, in the spelling `k51…`; of `12D3KooW…` the letters of a
host in a URL would lose their case, so it is put into that spelling first.

Proxies, and what else the environment says of HTTP, are not asked: they are another network's.

HTTP/2 is spoken if the client is made with `http2=True` and the server offers it over TLS.

Source: `httpx2.AsyncBaseTransport`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpcore2
import httpx2

from weft.clients.http.stream import Backend
from weft.clients.network import Network
from weft.clients.tls.connect import client_context
from weft.errors import DecodeError
from weft.identity import PeerId
from weft.stack.dns.names import DOMAIN

LIMITS: Final = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=5.0)
"""httpx2's own."""

_PEER_IN_URL: Final = re.compile(r"(\w+://(?:[^/?#@]*@)?)(12D3KooW\w+)(?=[:/?#]|$)")


class Client(httpx2.AsyncClient):
    """httpx2's client, in a network."""

    def build_request(self, method: str, url: httpx2.URL | str, **arguments: Any) -> httpx2.Request:
        """As httpx2 builds it, of a URL whose host may be a peer id."""
        return super().build_request(method, url_in_network(url) if isinstance(url, str) else url, **arguments)


def http_client(
    network: Network,
    *,
    verify: ssl.SSLContext | bool = True,
    http1: bool = True,
    http2: bool = False,
    limits: httpx2.Limits = LIMITS,
    **arguments: Any,
) -> httpx2.AsyncClient:
    """Make a client.

    Args:
        network: where its connections are.
        verify: whether servers have to prove who they are, by certificates that the system trusts; or a context
            (`tls.client_context`) that says more.
        http1: speak HTTP/1.1.
        http2: speak HTTP/2 with servers that do.
        limits: how many connections there may be, and how long unused ones are kept.
        **arguments: of `httpx2.AsyncClient`, but for those that say which way connections go.

    Returns:
        A client, to be closed by `async with` or `aclose`.
    """
    transport = Transport(network, verify=verify, http1=http1, http2=http2, limits=limits)
    if "base_url" in arguments:
        arguments["base_url"] = url_in_network(str(arguments["base_url"]))
    return Client(transport=transport, proxy=None, trust_env=False, **arguments)


def url_in_network(url: str) -> str:
    """A URL whose host, if it is a peer id, is in a spelling that survives as a host."""
    found = _PEER_IN_URL.match(url)
    if found is None:
        return url
    try:
        label = PeerId.from_text(found[2]).to_dns_label()
    except DecodeError:
        return url
    return f"{found[1]}{label}.{DOMAIN}{url[found.end() :]}"


class Transport(httpx2.AsyncBaseTransport):
    """What sends requests over connections of a network, and keeps these for the next ones.

    Args:
        network: where.
        verify: as of `http_client`.
        http1: speak HTTP/1.1.
        http2: speak HTTP/2 with servers that do.
        limits: of the connections.
    """

    def __init__(
        self,
        network: Network,
        *,
        verify: ssl.SSLContext | bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: httpx2.Limits = LIMITS,
    ) -> None:
        context = verify if isinstance(verify, ssl.SSLContext) else client_context(verify=verify)
        self._backend = Backend(network)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            http1=http1,
            http2=http2,
            network_backend=self._backend,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return what begins to come back."""
        url = request.url
        asked = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _translated():
            answer = await self._pool.handle_async_request(asked)
        assert isinstance(answer.stream, AsyncIterable)
        return httpx2.Response(
            status_code=answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        """Close all connections, and wait for their end."""
        await self._pool.aclose()
        await self._backend.wait_closed()


class _Body(httpx2.AsyncByteStream):
    """What comes back behind the head of a response."""

    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream: Any = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        with _translated():
            await self._stream.aclose()


@contextmanager
def _translated() -> Iterator[None]:
    """Raise httpx2's exception of that name in place of httpcore2's."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != httpcore2.__name__:
            raise
        raise getattr(httpx2, type(error).__name__, httpx2.TransportError)(str(error)) from error
