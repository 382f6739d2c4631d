"""A small client of the daemon's API, for programs that have no event loop and must start fast.

It takes nothing but the standard library and msgspec, so that a command is on its way within a few hundredths of a
second.
"""

from __future__ import annotations

import http.client
import os
import socket
from pathlib import Path
from typing import TypeVar

import msgspec

from weft.api.problem import CONTENT_TYPE, Problem, error_of
from weft.api.v0.route import Nothing, Route
from weft.errors import Broken, TransportError, UsageError

P = TypeVar("P", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

PATIENCE_S = 30.0


class NoDaemon(TransportError):  # noqa: N818 - it says what is the case
    """Nobody listens on the socket."""


class Client:
    """Asks the daemon that listens on a Unix socket; one connection for each call.

    Args:
        socket: path of the socket's file.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def call(self, route: Route[P, R], parameters: P | None = None, *, patience_s: float = PATIENCE_S) -> R:
        """What `fetch` returns, decoded."""
        return self.decode(route, self.fetch(route, parameters, patience_s=patience_s))

    def decode(self, route: Route[P, R], reply: bytes) -> R:
        """The value that a reply stands for.

        Raises:
            Broken: the daemon is of another version and says something else.
        """
        try:
            return msgspec.json.decode(reply, type=route.result)
        except msgspec.DecodeError as error:
            raise Broken(f"{self.socket}: the daemon is of another version: {error}; restart it") from None

    def fetch(self, route: Route[P, R], parameters: P | None = None, *, patience_s: float = PATIENCE_S) -> bytes:
        """The reply as the daemon wrote it: one JSON object.

        Args:
            route: what to ask, one of `weft.api.routes`.
            parameters: of the route; None for a route that takes none.
            patience_s: how long to wait for the reply.

        Raises:
            NoDaemon: nobody listens there.
            TransportError: the connection failed, or no reply came in time.
            WeftError, TimeoutError, PermissionError: what the node raised.
        """
        body = None if route.parameters is Nothing else msgspec.json.encode(parameters or route.parameters())
        headers = {"Content-Type": "application/json"} if body else {}
        connection = _UnixConnection(self.socket, patience_s)
        try:
            connection.request(route.method, route.path, body, headers)
            response = connection.getresponse()
            reply = response.read()
        except TimeoutError:
            raise TransportError(f"{self.socket}: the daemon did not answer within {patience_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"{self.socket}: the daemon went away under the request ({type(error).__name__})") from None
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise self._error_in(response, reply)
        return reply

    def _error_in(self, response: http.client.HTTPResponse, reply: bytes) -> Exception:
        if response.headers.get_content_type() == CONTENT_TYPE:
            try:
                return error_of(msgspec.json.decode(reply, type=Problem))
            except msgspec.DecodeError:
                pass
        return Broken(f"{self.socket}: what answers there is no weft daemon (HTTP status {response.status})")


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: Path, patience_s: float) -> None:
        super().__init__("localhost", timeout=patience_s)
        self._path = path
        self._patience_s = patience_s

    def connect(self) -> None:
        """Connect, or say why that is not possible."""
        family = getattr(socket, "AF_UNIX", None)
        if family is None:
            raise UsageError("this system has no Unix sockets, on which the daemon listens")
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(self._patience_s)
        try:
            self.sock.connect(os.fspath(self._path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise NoDaemon(f"no daemon answers at {self._path}; start it with `weft up`") from None
        except PermissionError:
            raise TransportError(
                f"{self._path}: no permission; run the command as the daemon's user, or with sudo"
            ) from None
        except TimeoutError:
            raise
        except OSError as error:
            raise TransportError(f"{self._path}: can't connect: {error.strerror or error}") from None
