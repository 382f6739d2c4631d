"""A small client of the daemon's API, for programs that have no event loop and must start fast.

It takes nothing but the standard library and msgspec, so that a command is on its way within a few hundredths of a
second.
"""

from __future__ import annotations

import http.client
import os
import socket
from pathlib import Path
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlencode

import msgspec

from weft.api.problem import CONTENT_TYPE, Problem, error_of
from weft.api.v0.route import Document, Route, Stream
from weft.errors import Broken, TransportError, UsageError

P = TypeVar("P", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

PATIENCE_S = 30.0
SILENCE_S = 45.0
"""A stream that says nothing for so long is dead: the daemon says something each 15 s."""

_CHUNK_BYTES = 65536


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
        return _decode(self.socket, reply, route.result)

    def fetch(
        self, route: Route[P, R] | Document, parameters: P | None = None, *, patience_s: float = PATIENCE_S
    ) -> bytes:
        """The reply as the daemon wrote it: one JSON object, or what a document is.

        Args:
            route: what to ask, one of `weft.api.v0.table`.
            parameters: of the route; None for a route that takes none.
            patience_s: how long to wait for the reply.

        Raises:
            NoDaemon: nobody listens there.
            TransportError: the connection failed, or no reply came in time.
            WeftError, TimeoutError, PermissionError: what the node raised.
        """
        connection = _UnixConnection(self.socket, patience_s)
        try:
            return _read(self.socket, connection.ask(route, parameters), patience_s)
        finally:
            connection.close()

    def stream(
        self, stream: Stream[P, R], parameters: P | None = None, *, patience_s: float = PATIENCE_S
    ) -> Listening[R]:
        """Begin to listen; all that happens after this returns is told.

        Args:
            stream: what to listen to, one of `weft.api.v0.table`.
            parameters: of the stream; None for one that needs none.
            patience_s: how long to wait for the daemon to begin.

        Raises:
            NoDaemon, TransportError, WeftError, TimeoutError, PermissionError: as `fetch`.
        """
        connection = _UnixConnection(self.socket, patience_s)
        try:
            return Listening(self.socket, stream.item, connection, connection.ask(stream, parameters))
        except BaseException:
            connection.close()
            raise


class Listening(Generic[R]):
    """The items of a stream, as they come: an iterator that ends when the daemon ends the stream.

    It holds a connection until it is closed, for which it is a context manager. Whatever leaves the loop, Ctrl-C too,
    may be followed by `close`; the daemon sees that at once.
    """

    def __init__(
        self, path: Path, item: type[R], connection: _UnixConnection, response: http.client.HTTPResponse
    ) -> None:
        self._path = path
        self._item = item
        self._connection = connection
        self._response = response
        self._received = b""
        connection.set_patience(SILENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        """The next item.

        Raises:
            TransportError: the connection broke, the daemon is silent, or it is of another version.
            WeftError, TimeoutError, PermissionError: what the node raised.
        """
        kind, data = self._next_event()
        if kind == b"problem":
            raise error_of(_decode(self._path, data, Problem))
        return _decode(self._path, data, self._item)

    def close(self) -> None:
        """Stop listening."""
        self._response.close()
        self._connection.close()

    def _next_event(self) -> tuple[bytes, bytes]:
        while True:
            event, end, rest = self._received.partition(b"\n\n")
            if not end:
                self._receive()
                continue
            self._received = rest
            fields = dict(line.split(b": ", 1) for line in event.split(b"\n"))
            if b"data" in fields:
                return fields.get(b"event", b""), fields[b"data"]

    def _receive(self) -> None:
        try:
            # Not `readline`, to which a stream that was cut looks like one that ended.
            more = self._response.read1(_CHUNK_BYTES)
        except TimeoutError:
            raise _silent(self._path, SILENCE_S) from None
        except (OSError, http.client.HTTPException) as error:
            raise _gone(self._path, error) from None
        if not more:
            raise StopIteration
        self._received += more


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: Path, patience_s: float) -> None:
        super().__init__("localhost", timeout=patience_s)
        self._path = path
        self._patience_s = patience_s
        self._socket: socket.socket | None = None

    def ask(
        self, row: Route[Any, Any] | Stream[Any, Any] | Document, parameters: msgspec.Struct | None
    ) -> http.client.HTTPResponse:
        """The daemon's reply, whose body is still to be read.

        Raises:
            As `Client.fetch`.
        """
        path, body, headers = row.path, None, {}
        if parameters is not None and row.method == "GET":
            query = _encode_query(parameters)
            path += f"?{query}" if query else ""
        elif parameters is not None:
            body, headers = msgspec.json.encode(parameters), {"Content-Type": "application/json"}
        try:
            self.request(row.method, path, body, headers)
            response = self.getresponse()
        except TimeoutError:
            raise _silent(self._path, self._patience_s) from None
        except (OSError, http.client.HTTPException) as error:
            raise _gone(self._path, error) from None
        if response.status != http.HTTPStatus.OK:
            raise _error_in(self._path, response, _read(self._path, response, self._patience_s))
        return response

    def set_patience(self, patience_s: float) -> None:
        """Wait so long for what comes from now on."""
        assert self._socket is not None
        self._socket.settimeout(patience_s)

    def connect(self) -> None:
        """Connect, or say why that is not possible."""
        family = getattr(socket, "AF_UNIX", None)
        if family is None:
            raise UsageError("this system has no Unix sockets, on which the daemon listens")
        # Kept beside `sock`, which is None as soon as the daemon says that it will close the connection.
        self.sock = self._socket = socket.socket(family, socket.SOCK_STREAM)
        self.set_patience(self._patience_s)
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


def _read(path: Path, response: http.client.HTTPResponse, patience_s: float) -> bytes:
    try:
        return response.read()
    except TimeoutError:
        raise _silent(path, patience_s) from None
    except (OSError, http.client.HTTPException) as error:
        raise _gone(path, error) from None


def _encode_query(parameters: msgspec.Struct) -> str:
    values = {name: value for name, value in msgspec.to_builtins(parameters).items() if value is not None}
    spelled = {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items()}
    return urlencode(spelled, doseq=True)


def _decode(path: Path, data: bytes, kind: type[R]) -> R:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise Broken(f"{path}: the daemon is of another version: {error}; restart it") from None


def _error_in(path: Path, response: http.client.HTTPResponse, reply: bytes) -> Exception:
    if response.headers.get_content_type() == CONTENT_TYPE:
        try:
            return error_of(msgspec.json.decode(reply, type=Problem))
        except msgspec.DecodeError:
            pass
    return Broken(f"{path}: what answers there is no weft daemon (HTTP status {response.status})")


def _silent(path: Path, patience_s: float) -> TransportError:
    return TransportError(f"{path}: the daemon did not answer within {patience_s:g} s")


def _gone(path: Path, error: Exception) -> TransportError:
    return Broken(f"{path}: the daemon went away under the request ({type(error).__name__})")
