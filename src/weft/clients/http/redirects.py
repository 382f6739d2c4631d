"""Where an answer of HTTP may send who asks, and what is said there.

| it leads                                  | what is done                                                             |
|-------------------------------------------|--------------------------------------------------------------------------|
| to the host that was asked for            | followed                                                                 |
| to another one in the network             | followed                                                                 |
| to one that is not in the network         | refused before anything is sent to it: nobody in the network may have    |
|                                           | what is on this machine or around it asked in the name of who asks       |
| from https to http                        | refused                                                                  |
| to another scheme, host or port           | the person's own headers are not sent there, but for https in place of   |
|                                           | http at the same host                                                    |
| to where it has led `REDIRECTS` times     | refused                                                                  |

Source: RFC 9110 sections 15.4 (redirects), 17.16.3 (what they give away).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httpx2

from weft.clients.http.client import url_in_network
from weft.clients.inside import Inside, Networks, ProxyNetwork
from weft.errors import PeerError

REDIRECTS: Final = 20
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_PORTS: Final = {"http": 80, "https": 443}


class Fence:
    """A network for a client that may be sent elsewhere: one host may be anywhere, others have to be inside.

    Args:
        network: whose sockets are used.
        networks: what lies inside.
        url: that is asked for, at the host that may be anywhere.
    """

    def __init__(self, network: ProxyNetwork, networks: Networks, url: str) -> None:
        self._network = network
        self._inside = Inside(network, networks)
        self._url = url

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **arguments: Any
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect; see `Inside.create_connection` for all hosts but one."""
        if host == parsed(self._url).raw_host.decode("ascii"):
            return await self._network.create_connection(protocol_factory, host, port, **arguments)
        return await self._inside.create_connection(protocol_factory, host, port, **arguments)

    async def create_server(self, *arguments: Any, **named: Any) -> asyncio.AbstractServer:
        """Listen."""
        return await self._network.create_server(*arguments, **named)

    async def start_tls(self, *arguments: Any, **named: Any) -> asyncio.Transport:
        """Go on with TLS."""
        return await self._network.start_tls(*arguments, **named)


def parsed(url: str) -> httpx2.URL:
    """A URL, whose host may be a peer id.

    Raises:
        httpx2.InvalidURL: it is none.
    """
    return httpx2.URL(url_in_network(url))


def redirect_of(response: httpx2.Response) -> httpx2.URL | None:
    """Where an answer leads; None if nowhere.

    Raises:
        PeerError: it is not to be followed there.
    """
    location = response.headers.get("location")
    if response.status_code not in _MOVED or location is None:
        return None
    try:
        there = response.url.join(parsed(location))
    except httpx2.InvalidURL as error:
        raise PeerError(f"{shown(response.url)} leads to {location!r}, which is no URL") from error
    if there.scheme not in _PORTS or not there.host:
        raise PeerError(f"{shown(response.url)} leads to {shown(there)}, which is no place in the network")
    if response.url.scheme == "https" and there.scheme != "https":
        raise PeerError(f"{shown(response.url)} leads to {shown(there)}, where there is no TLS any more")
    return there


def is_same(asked: httpx2.URL, there: httpx2.URL) -> bool:
    """Whether what one may know, the other may know too."""
    if asked.host != there.host:
        return False
    is_upgrade = (_origin(asked), _origin(there)) == (("http", 80), ("https", 443))
    return _origin(asked) == _origin(there) or is_upgrade


def shown(url: httpx2.URL) -> str:
    """A URL for people, without what somebody logs in with."""
    return str(url.copy_with(userinfo=b"")) if url.userinfo else str(url)


def _origin(url: httpx2.URL) -> tuple[str, int | None]:
    return url.scheme, url.port or _PORTS.get(url.scheme)
