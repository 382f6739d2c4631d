"""urllib3 in the network: its connections are a node's, all else is its own.

    pools = weft.blocking.PoolManager(node)
    answer = pools.request("GET", "http://loom/")

| asked of urllib3                                | trusts                                                   |
|-------------------------------------------------|----------------------------------------------------------|
| nothing about certificates                      | whom the system trusts                                   |
| `ca_certs`, `ca_cert_dir`, `ca_cert_data`       | those                                                    |
| `cert_reqs="CERT_NONE"`                         | anyone                                                   |
| `ssl_context`                                   | whom the context trusts                                  |

Source: `urllib3.connection`, and `urllib3.PoolManager`, which means `_new_pool` and `_new_conn` to be overridden.
"""

from __future__ import annotations

import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import urllib3.connection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.ssl_ import resolve_cert_reqs

from weft.blocking.stream import Stream
from weft.clients.failures import reason_of
from weft.clients.tls.connect import client_context

if TYPE_CHECKING:
    from weft.blocking.node import BlockingNode


class PoolManager(urllib3.PoolManager):
    """urllib3's, in a network.

    Args:
        node: where connections are made.
        *arguments: of `urllib3.PoolManager`.
        **options: of `urllib3.PoolManager`.
    """

    def __init__(self, node: BlockingNode, *arguments: Any, **options: Any) -> None:
        self._node = node
        super().__init__(*arguments, **options)

    def _new_pool(
        self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None
    ) -> urllib3.HTTPConnectionPool:
        pool = super()._new_pool(scheme, host, port, request_context)
        kind = _Connection
        if isinstance(pool, urllib3.HTTPSConnectionPool):
            kind = _TlsConnection
            # One for all connections, so that they can resume.
            pool.conn_kw["ssl_context"] = _Context(pool.conn_kw.get("ssl_context") or _context_of(pool))
        pool.ConnectionCls = partial(kind, self._node)  # type: ignore[assignment]
        return pool


class _Connection(urllib3.connection.HTTPConnection):
    """One connection of a node."""

    def __init__(self, node: BlockingNode, *arguments: Any, **options: Any) -> None:
        self._node = node
        super().__init__(*arguments, **options)

    def _new_conn(self) -> socket.socket:
        try:
            made = self._node.create_connection((self._dns_host, self.port), self.timeout, self.source_address)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"{self.host}: {reason_of(error)} within {self.timeout} s") from error
        except OSError as error:
            raise NewConnectionError(self, f"{self.host}: {reason_of(error)}") from error
        for option in self.socket_options or ():
            # What it is anyway costs no asking.
            if option[:2] != (socket.IPPROTO_TCP, socket.TCP_NODELAY) or not option[2]:
                made.setsockopt(*option)
        return cast(socket.socket, made)

    @property
    def is_connected(self) -> bool:
        """Whether the connection can be used again: the other side has neither ended it nor said something unasked."""
        return self.sock is not None and not cast(Stream, self.sock).is_readable


class _TlsConnection(_Connection, urllib3.connection.HTTPSConnection):
    """One connection with TLS."""


class _Context:
    """A context as urllib3 uses it, but that its sockets are streams of the network.

    Args:
        context: does the work.
    """

    _context: ssl.SSLContext

    def __init__(self, context: ssl.SSLContext) -> None:
        object.__setattr__(self, "_context", context)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._context, name, value)

    def wrap_socket(self, sock: Stream, server_hostname: str | None = None) -> Stream:
        """Go on with TLS."""
        return sock.start_tls(self._context, server_hostname=server_hostname)


def _context_of(pool: urllib3.HTTPSConnectionPool) -> ssl.SSLContext:
    """What a pool asks for; roots and certificates that it names are loaded by urllib3."""
    verify = resolve_cert_reqs(pool.cert_reqs) != ssl.CERT_NONE
    has_roots = bool(pool.ca_certs or pool.ca_cert_dir or pool.conn_kw.get("ca_cert_data"))
    context = client_context(verify=verify and not has_roots)
    if verify and has_roots:
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = True
    if pool.ssl_minimum_version is not None:
        context.minimum_version = pool.ssl_minimum_version
    if pool.ssl_maximum_version is not None:
        context.maximum_version = pool.ssl_maximum_version
    return context
