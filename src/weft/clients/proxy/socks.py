"""SOCKS5, the server's side, without input or output.

A connection begins with these, the client's on the left; `len` is the length of what follows it:

| client                                                           | server                                        |
|------------------------------------------------------------------|-----------------------------------------------|
| greeting: 5, count, methods                                      | 5, method; 5, FF if there is none that we take |
| if the method is 2: login: 1, len, name, len, password           | 1, 0; 1, 1 if they are wrong                  |
| request: 5, command, reserved, address                           | reply: 5, code, 0, address                    |

| address    | bytes                        |
|------------|------------------------------|
| IPv4       | 1, 4 bytes, port             |
| name       | 3, len, that many bytes, port |
| IPv6       | 4, 16 bytes, port            |

A datagram of an association, in either direction: 2 bytes reserved, number of the fragment, address, payload.

Sources: RFC 1928; RFC 1929.
Not done here: BIND, GSSAPI; fragments, which RFC 1928 section 7 leaves to whoever wants them.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from ipaddress import ip_address
from typing import Final, NamedTuple

from weft.clients.proxy.request import Command, Refusal, Request
from weft.clients.proxy.users import Users
from weft.errors import DecodeError

VERSION: Final = 5
LOGIN_VERSION: Final = 1
NO_LOGIN, LOGIN, NO_METHOD = 0, 2, 0xFF
IPV4, NAME, IPV6 = 1, 3, 4

COMMANDS: Final = {1: Command.CONNECT, 3: Command.UDP_ASSOCIATE}
_ADDRESS_BYTES: Final = {IPV4: 4, IPV6: 16}
_KINDS: Final = {length: kind for kind, length in _ADDRESS_BYTES.items()}

_DATAGRAM: Final = struct.Struct("!HBB")
_PORT_BYTES: Final = 2

_Wanted = Generator[int, bytes, None]
"""Says how many bytes it wants next, and is given them."""


class SocksDialect:
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
        self._offset = 0
        self._answer = b""
        self._no = bytes((VERSION, NO_METHOD))
        """What says no at this point, before the request."""
        self._talk = self._negotiate()
        self._wanted_bytes = next(self._talk)

    def receive(self, data: bytes) -> bytes:
        """Take what came.

        Raises:
            DecodeError: this is not SOCKS5.
        """
        self._buffer += data
        try:
            while len(self._buffer) >= self._wanted_bytes:
                taken = bytes(self._buffer[: self._wanted_bytes])
                del self._buffer[: self._wanted_bytes]
                self._offset += len(taken)
                self._wanted_bytes = self._talk.send(taken)
        except StopIteration:
            self.first = bytes(self._buffer)
        answer, self._answer = self._answer, b""
        return answer

    def accept(self, host: str, port: int) -> bytes:
        """Say that it is done."""
        return encode_reply(0, host, port)

    def refuse(self, refusal: Refusal) -> bytes:
        """Say why it is not."""
        return self._no or encode_reply(refusal.code)

    def _negotiate(self) -> _Wanted:
        version, count = yield 2
        self._check(version, VERSION)
        methods = yield count
        method = LOGIN if self._users else NO_LOGIN
        if method not in methods:
            self.refusal = Refusal.NO_LOGIN
            return
        self._answer += bytes((VERSION, method))
        if method == LOGIN:
            self._no = bytes((LOGIN_VERSION, 1))
            version, length = yield 2
            self._check(version, LOGIN_VERSION)
            name = yield length
            (length,) = yield 1
            password = yield length
            if not self._users.know(name, password):
                self.refusal = Refusal.NO_LOGIN
                return
            self._answer += bytes((LOGIN_VERSION, 0))
        self._no = b""
        yield from self._take_request()

    def _take_request(self) -> _Wanted:
        version, code, _, kind = yield 4
        self._check(version, VERSION)
        if kind == NAME:
            (length,) = yield 1
        elif kind in _ADDRESS_BYTES:
            length = _ADDRESS_BYTES[kind]
        else:
            self.refusal = Refusal.ADDRESS_TYPE
            return
        host = decode_host(kind, (yield length), self._offset - length)
        port = int.from_bytes((yield _PORT_BYTES), "big")
        if code not in COMMANDS:
            self.refusal = Refusal.COMMAND
            return
        self.request = Request(COMMANDS[code], host, port)

    def _check(self, version: int, expected: int) -> None:
        if version != expected:
            raise DecodeError(f"version {expected}", offset=self._offset)


class Datagram(NamedTuple):
    """One datagram of an association.

    Attributes:
        fragment: 0 for a whole one.
        host: a name or an address, where it goes or where it came from.
        port: likewise.
        payload: the rest.
    """

    fragment: int
    host: str
    port: int
    payload: bytes


def decode_datagram(data: bytes) -> Datagram:
    """Take a datagram of an association apart.

    Raises:
        DecodeError: it is none.
    """
    if len(data) <= _DATAGRAM.size:
        raise DecodeError("a header of a datagram")
    _, fragment, kind = _DATAGRAM.unpack_from(data)
    at = _DATAGRAM.size
    if kind == NAME:
        length, at = data[at], at + 1
    elif kind in _ADDRESS_BYTES:
        length = _ADDRESS_BYTES[kind]
    else:
        raise DecodeError("a known type of address", offset=at - 1)
    end = at + length
    if len(data) < end + _PORT_BYTES:
        raise DecodeError("an address and a port", offset=at)
    payload = end + _PORT_BYTES
    return Datagram(
        fragment, decode_host(kind, data[at:end], at), int.from_bytes(data[end:payload], "big"), data[payload:]
    )


def encode_datagram_header(host: str, port: int) -> bytes:
    """What stands before the payload of a datagram from an address."""
    return bytes(3) + encode_address(host, port)


def encode_reply(code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
    """The reply to a request.

    Args:
        code: 0 if it is done; see `Refusal`.
        host: our end, an address; all zeros if there is none.
        port: likewise.
    """
    return bytes((VERSION, code, 0)) + encode_address(host, port)


def encode_address(host: str, port: int) -> bytes:
    """An address and a port."""
    packed = ip_address(host.partition("%")[0]).packed
    return bytes((_KINDS[len(packed)],)) + packed + port.to_bytes(_PORT_BYTES, "big")


def decode_host(kind: int, data: bytes, offset: int = 0) -> str:
    """A name or an address, as text.

    Args:
        kind: `IPV4`, `NAME` or `IPV6`.
        data: of it.
        offset: where that stood, for the error.

    Raises:
        DecodeError: it is no name.
    """
    if kind != NAME:
        return str(ip_address(data))
    try:
        name = data.decode()
    except UnicodeDecodeError as error:
        raise DecodeError("a name in UTF-8", offset=offset + error.start) from None
    if not name or not name.isprintable() or any(letter in " /%" for letter in name):
        raise DecodeError("the name of a host", offset=offset)
    return name
