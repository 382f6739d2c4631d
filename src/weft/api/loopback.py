"""The API on a TCP port of this machine, for programs that don't speak to Unix sockets, such as Prometheus.

Every user of the machine can connect to it, and so can any web page in a browser here. So whoever asks shows a token
that only the node's owner can read, and names this machine in `Host`: a page whose name was made to point here (DNS
rebinding) names its own. No header lets a page of elsewhere read the replies.

Source: RFC 6750 (bearer tokens); RFC 9110, section 15.5.20 (421).
Not done here: TLS, which nothing on the loopback interface needs.
"""

from __future__ import annotations

import logging
import secrets
import socket
from contextlib import suppress
from hmac import compare_digest
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self

from aiohttp import web

from weft.api.request import refuse
from weft.errors import ConfigError, UsageError
from weft.io.clock import monotonic_ns
from weft.io.durable import create_file, read_private
from weft.rates import Rate

TOKEN_BYTES: Final = 32
MIN_TOKEN_CHARACTERS: Final = 16
FAILURES_PER_SECOND: Final = 10

_BACKLOG: Final = 128

log = logging.getLogger(__name__)


class Loopback:
    """A TCP socket that listens on the loopback interface, and who may ask there.

    Clients may connect from the moment that it exists; they wait until the server begins to answer.

    Args:
        listen: address and port, such as `127.0.0.1:9480` or `[::1]:9480`; port 0 is any free one.
        token_file: of the token; made if it is missing.

    Raises:
        UsageError: it is no loopback address, or the port is taken.
        ConfigError: the token can't be read or made, others may read it, or it is too short.
    """

    def __init__(self, listen: str, token_file: Path) -> None:
        self._token = _token(token_file)
        self._failures = Rate(FAILURES_PER_SECOND, burst=FAILURES_PER_SECOND)
        self.socket = _bound(listen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it is."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def close(self) -> None:
        """Stop listening."""
        self.socket.close()

    def check(self, request: web.BaseRequest) -> None:
        """Let a request pass.

        Raises:
            Refused: its token is missing or wrong, or it is not meant for this machine.
        """
        if not _is_this_machine(request.headers.get("Host", "")):
            raise refuse(421, "the API answers to localhost and to loopback addresses only")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and compare_digest(token.strip().encode(errors="surrogateescape"), self._token):
            return
        headers = {"WWW-Authenticate": 'Bearer realm="weft"'}
        if not self._failures.allows(monotonic_ns()):
            raise refuse(429, "too many requests with a wrong token", {"Retry-After": "1"})
        if token:
            log.warning("a request to the API at %s had a wrong token", self.url)
            headers["WWW-Authenticate"] += ', error="invalid_token"'
        raise refuse(401, "show the token of the node's token file: Authorization: Bearer TOKEN", headers)


def _token(path: Path) -> bytes:
    with suppress(FileExistsError):
        if not path.exists():
            create_file(path, secrets.token_urlsafe(TOKEN_BYTES).encode() + b"\n")
    try:
        token = read_private(path).strip()
    except FileNotFoundError:
        raise ConfigError("went away as it was read; start the daemon again", file=str(path)) from None
    if len(token) < MIN_TOKEN_CHARACTERS or not token.isascii() or b" " in token:
        message = f"a token has at least {MIN_TOKEN_CHARACTERS} ASCII characters and no spaces; remove it for a new one"
        raise ConfigError(message, file=str(path))
    return token


def _bound(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        if not ip_address(host).is_loopback:
            raise ValueError
        address = host, int(port)
    except ValueError:
        raise UsageError(f"{listen}: the API listens on the loopback interface only, such as 127.0.0.1:9480") from None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{listen}: the API can't listen there: {reason}; see [api] listen in weft.toml") from None


def _is_this_machine(host: str) -> bool:
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    try:
        return name.lower() == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
