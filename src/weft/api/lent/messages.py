"""What a program and a daemon say to each other about sockets: one JSON object a line, either way.

A program asks by a number of its own, 1, 3, 5 and so on, and all that is said of that socket bears it; those that the
daemon accepts for it get 2, 4, 6 and so on.

| program   | what is to be done                                              | daemon                                |
|-----------|-----------------------------------------------------------------|---------------------------------------|
| `connect` | a connection; `local` may be left to the daemon                 | `opened` once it is established       |
| `listen`  | take connections; `::` is all addresses of both versions of IP, | `listening`, and `accepted` for each  |
|           | port 0 any free one                                             |                                       |
| `open`    | a UDP socket, for one `remote` or for all                       | `opened`                              |
| `option`  | `no_delay`, `broadcast`, `join` or `leave`                      |                                       |
| `keepalive` | ask a silent other side whether it is there                 |                                         |
| `end`     | all of a connection's data has been written                     | `end` likewise                        |
| `close`   | a listener or UDP socket ends; a connection is read no more     |                                       |
| `abort`   | a connection ends at once, by a reset                           |                                       |

What can't be done, and what has ended and not in order, has `failed`.

With `opened` and `accepted` comes a descriptor, by SCM_RIGHTS: a Unix socket whose other end the daemon has. Of a
connection it is a stream: what is written to it goes to the network and the other way round. A direction ends in order
when it has ended (`shutdown` or `close`) and `end` was said, in whichever order that is seen: what merely ends is of a
process that was killed, whose part is not to be taken for the whole. Of a UDP socket it carries one datagram a message,
each behind a header (frames.py).

`failed` has the name of a `Failure` of the stack. It is sent before the descriptor is closed.

Not done here: how messages and descriptors are carried (channel.py).
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure

PROTOCOL: Final = "weft-sockets"
"""The name under which HTTP is left for this."""

Number = Annotated[int, Meta(ge=1, lt=1 << 53)]
Place = tuple[Annotated[str, Meta(max_length=45)], Annotated[int, Meta(ge=0, le=65_535)]]
"""An address of IPv4 or IPv6, and a port."""


class Connect(Struct, frozen=True, kw_only=True, tag="connect", forbid_unknown_fields=True):
    """Begin a connection."""

    id: Number
    remote: Place
    local: Place | None = None


class Listen(Struct, frozen=True, kw_only=True, tag="listen", forbid_unknown_fields=True):
    """Take connections."""

    id: Number
    local: Place
    backlog: Annotated[int, Meta(ge=1, le=4096)] = 128


class Open(Struct, frozen=True, kw_only=True, tag="open", forbid_unknown_fields=True):
    """Open a UDP socket."""

    id: Number
    local: Place | None = None
    remote: Place | None = None
    reuse: bool = False
    broadcast: bool = False


class Option(Struct, frozen=True, kw_only=True, tag="option", forbid_unknown_fields=True):
    """Set an option of a socket."""

    id: Number
    name: Literal["no_delay", "broadcast", "join", "leave"]
    value: bool | Annotated[str, Meta(max_length=45)]
    """Whether it is on; or the address of a group."""


class KeepAlive(Struct, frozen=True, kw_only=True, tag="keepalive", forbid_unknown_fields=True):
    """Ask a silent other side of a connection whether it is there."""

    id: Number
    # Not a value of `Option`: msgspec 0.23 crashes at a union of text that has a bound with a tuple.
    times: tuple[float, float, int] | None
    """After how many s, each how many s, how often; null is never."""


class Close(Struct, frozen=True, kw_only=True, tag="close", forbid_unknown_fields=True):
    """End a listener or a UDP socket; read nothing more of a connection."""

    id: Number


class Abort(Struct, frozen=True, kw_only=True, tag="abort", forbid_unknown_fields=True):
    """End a connection by a reset."""

    id: Number


class End(Struct, frozen=True, kw_only=True, tag="end", forbid_unknown_fields=True):
    """All data of a connection in this direction has been written; said before the direction ends."""

    id: Number


class Opened(Struct, frozen=True, kw_only=True, tag="opened"):
    """A connection is established, or a UDP socket open; a descriptor comes with it."""

    id: int
    local: Place
    remote: Place | None


class Listening(Struct, frozen=True, kw_only=True, tag="listening"):
    """Connections are taken."""

    id: int
    local: Place


class Accepted(Struct, frozen=True, kw_only=True, tag="accepted"):
    """A connection was taken; a descriptor comes with it."""

    id: int
    listener: int
    local: Place
    remote: Place


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """What was asked for can't be done, or has ended."""

    id: int
    failure: str
    """The name of a `Failure`."""


Asked = Connect | Listen | Open | Option | KeepAlive | End | Close | Abort
"""What a program says."""
Told = Opened | Listening | Accepted | End | Failed
"""What a daemon says."""


def place_of(endpoint: Endpoint) -> Place:
    """An endpoint in a message."""
    return str(ipaddress.ip_address(endpoint.address)), endpoint.port


def endpoint_of(place: Place) -> Endpoint:
    """The endpoint that a message means.

    Raises:
        ValueError: it has no address.
    """
    return Endpoint(ipaddress.ip_address(place[0]).packed, place[1])


def failure_of(name: str) -> Failure:
    """The failure of that name; one that is not known here counts as an abort."""
    return Failure.__members__.get(name, Failure.ABORTED)
