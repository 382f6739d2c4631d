"""HTTP as a client speaks it to a proxy, the proxy's side, without input or output.

| request line                       | what becomes of it                                                             |
|------------------------------------|--------------------------------------------------------------------------------|
| `CONNECT host:port HTTP/1.1`       | 200, and from then on both sides say what they like                            |
| `GET http://host/path HTTP/1.1`,   | it goes to the host as `GET /path HTTP/1.1`, and the answer comes back as it   |
| and with any other method          | is; one for each connection, which both are told by `Connection: close`        |
| anything else                      | 400                                                                            |

Only the head of a request is read here. Its body and the answer pass untouched, so that no two programs can disagree
here on where they end.

Sources: RFC 9110 sections 7.6.1 (fields for one hop) and 9.3.6 (CONNECT); RFC 9112 sections 2 to 5; RFC 7617 (Basic).
Not done here: TLS to the proxy, HTTP/2, `Upgrade` (for which clients use CONNECT).
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple

from weft.clients.proxy.request import Command, Refusal, Request
from weft.clients.proxy.users import Users
from weft.errors import DecodeError

HEAD_BYTES: Final = 32 * 1024
HTTP_PORT: Final = 80
MAX_PORT: Final = 65_535

_END: Final = b"\r\n\r\n"
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE: Final = re.compile(rf"({_TOKEN}) ([!-~]+) (HTTP/1\.[01])")
_FIELD: Final = re.compile(rf"({_TOKEN}):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_ABSOLUTE: Final = re.compile(r"http://([^/?#@]+)([/?][^#]*)?", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/?#@%]+))(?::([0-9]{1,5}))?")

_OF_ONE_HOP: Final = frozenset(
    "connection proxy-connection keep-alive proxy-authenticate proxy-authorization te upgrade".split()
)
_CONNECTED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Field(NamedTuple):
    """A line of a head."""

    name: str
    value: str


class HttpDialect:
    """One client, until its request is answered; see `Dialect`.

    Args:
        users: who may come in.
    """

    def __init__(self, users: Users) -> None:
        self.request: Request | None = None
        self.refusal: Refusal | None = None
        self.first = b""
        self._users = users
        self._buffer = bytearray()
        self._is_tunnel = False

    def receive(self, data: bytes) -> bytes:
        """Take what came.

        Raises:
            DecodeError: this is no request to a proxy.
        """
        searched = max(len(self._buffer) - len(_END), 0)
        self._buffer += data
        if not self._buffer[:1].isalpha():
            raise DecodeError("SOCKS5 or HTTP")
        end = self._buffer.find(_END, searched)
        if max(end, 0) > HEAD_BYTES or (end < 0 and len(self._buffer) > HEAD_BYTES):
            raise DecodeError(f"the end of a head within {HEAD_BYTES} bytes", offset=HEAD_BYTES)
        if end < 0:
            return b""
        head, behind = self._buffer[:end].decode("latin-1"), bytes(self._buffer[end + len(_END) :])
        method, target, version, fields = decode_head(head)
        self._is_tunnel = method == "CONNECT"
        host, port, path = decode_target(target, is_tunnel=self._is_tunnel)
        if self._users and not self._is_known(fields):
            self.refusal = Refusal.NO_LOGIN
            return b""
        self.request = Request(Command.CONNECT, host, port)
        self.first = behind
        if not self._is_tunnel:
            self.first = _forwarded(f"{method} {path} {version}", encode_authority(host, port), fields) + behind
        return b""

    def accept(self, host: str, port: int) -> bytes:
        """Say that it is done; to what goes on to a server, that gives the answer."""
        return _CONNECTED if self._is_tunnel else b""

    def refuse(self, refusal: Refusal) -> bytes:
        """Say why it is not."""
        body = f"weft proxy: {refusal.words}\n".encode()
        fields = [
            f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        if refusal is Refusal.NO_LOGIN:
            fields.append('Proxy-Authenticate: Basic realm="weft"')
        return "\r\n".join(fields).encode() + _END + body

    def _is_known(self, fields: Iterable[Field]) -> bool:
        for name, value in fields:
            scheme, _, credentials = value.partition(" ")
            if name.lower() == "proxy-authorization" and scheme.lower() == "basic":
                try:
                    user, _, password = b64decode(credentials.strip(), validate=True).partition(b":")
                except (binascii.Error, ValueError):
                    return False
                return self._users.know(user, password)
        return False


def decode_head(head: str) -> tuple[str, str, str, list[Field]]:
    """The head of a request: method, target, version and fields.

    Args:
        head: without the empty line at its end.

    Raises:
        DecodeError: it is none.
    """
    first, *lines = head.split("\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise DecodeError("METHOD TARGET HTTP/1.1")
    fields, offset = [], len(first) + 2
    for text in lines:
        field = _FIELD.fullmatch(text)
        if field is None:
            raise DecodeError("NAME: VALUE", offset=offset)
        fields.append(Field(field[1], field[2]))
        offset += len(text) + 2
    return line[1], line[2], line[3], fields


def decode_target(target: str, *, is_tunnel: bool) -> tuple[str, int, str]:
    """What a request is for: host, port and path.

    Args:
        target: of the request line.
        is_tunnel: whether the method is CONNECT, which has a port and no path.

    Raises:
        DecodeError: it is nothing that a proxy is asked for.
    """
    if is_tunnel:
        return *decode_authority(target), ""
    url = _ABSOLUTE.fullmatch(target)
    if url is None:
        raise DecodeError("a URL that begins with http://", offset=0)
    path = url[2] or "/"
    return *decode_authority(url[1], HTTP_PORT), path if path.startswith("/") else f"/{path}"


def decode_authority(text: str, port: int | None = None) -> tuple[str, int]:
    """Host and port of `loom:80`, `192.0.2.1:80` or `[fc00::1]:80`.

    Args:
        text: as it stands in a URL.
        port: if it names none; None if it has to.

    Raises:
        DecodeError: it is not of this form.
    """
    parts = _AUTHORITY.fullmatch(text)
    if parts is None or (parts[3] is None and port is None):
        raise DecodeError("HOST:PORT")
    number = int(parts[3]) if parts[3] is not None else port
    if number is None or not 0 < number <= MAX_PORT:
        raise DecodeError(f"a port from 1 to {MAX_PORT}", offset=parts.start(3))
    return parts[1] or parts[2], number


def encode_authority(host: str, port: int) -> str:
    """The same as text; without the port of HTTP, which servers expect to be left out."""
    name = f"[{host}]" if ":" in host else host
    return name if port == HTTP_PORT else f"{name}:{port}"


def _forwarded(line: str, authority: str, fields: list[Field]) -> bytes:
    """The head as the server gets it."""
    named = {
        each.strip().lower() for name, value in fields if name.lower() == "connection" for each in value.split(",")
    }
    gone = _OF_ONE_HOP | named | {"host"}
    kept = [f"{name}: {value}" for name, value in fields if name.lower() not in gone]
    return "\r\n".join([line, f"Host: {authority}", *kept, "Connection: close"]).encode("latin-1") + _END
