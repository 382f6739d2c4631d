"""The messages of netd: one table, from which encoder, decoder and the tables of docs/netd.md follow.

    request  length u32 | code u32 | request u32 | its fields
    reply    length u32 | code u32 | request u32 | status i32 | its fields, if status is 0

`length` counts what follows it. `request` is the client's number, and comes back in the reply. The codes of requests
have three groups, and the code of a reply follows from the request's group and place in it:

| group       | requests | replies            |
|-------------|----------|--------------------|
| sockets     | 0 to 19  | 0x80 + code        |
| names       | 20 to 39 | 0xa0 + code - 20   |
| the network | 40 to 59 | 0xc0 + code - 40   |

0x80, the reply of code 0, answers what is no request; 0xe0 is an event, which nobody asks for one by one.

Source: seed 004, netd. Where its text and its program disagree, the text counts: 9 is POLL, 41 INFO; 42 is the same as
41, SHUTDOWN is 11, STATS is 44. A reply's length makes the seed's `len` of data needless.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated, Any, Final, NamedTuple

from weft.netd.layout import I32, U16, U32, U64, Address, Data, Layout, Mac, Rest

MAX_MESSAGE_BYTES: Final = 1 << 20
"""The largest `length`."""
MAX_DATA_BYTES: Final = MAX_MESSAGE_BYTES - 64
"""Data in one message, at most; what it may have beside fits in the rest."""
FOREVER: Final = 0xFFFFFFFF
"""A time that does not end, ms."""


class Type(IntEnum):
    """Of a socket."""

    STREAM = 1
    DATAGRAM = 2


class Ready(IntFlag):
    """What can be done with a socket."""

    READABLE = 1
    WRITABLE = 2
    END = 4
    ERROR = 8
    INVALID = 16


READY_MEANING: Final = {
    Ready.READABLE: "RECV or ACCEPT has something to give; also at the end and after a failure",
    Ready.WRITABLE: "SEND takes something",
    Ready.END: "the other side sends no more, and all was taken",
    Ready.ERROR: "the connection has failed, or a datagram was refused",
    Ready.INVALID: "this client has no such socket; in replies to POLL only",
}
ALWAYS: Final = Ready.END | Ready.ERROR | Ready.INVALID
"""What is told whether or not it was asked for."""

WAIT: Final = 1
"""Flag of ACCEPT, SEND and RECV: the reply may take its time."""
ABORT: Final = 1
"""Flag of CLOSE: end the connection by a reset."""
EDGE: Final = 1
"""Flag of POLL: tell only what is new since it was told by the last such POLL."""
END: Final = 1
"""Flag in a reply to RECV: the other side sends no more."""
TRUNCATED: Final = 2
"""Flag in a reply to RECV: the datagram was longer, and the rest of it is lost."""
HOW_WRITE: Final = 1
"""Of SHUTDOWN: nothing more will be sent."""


class Mode(IntEnum):
    """How a client is told what happens to a socket."""

    OFF = 0
    EDGE = 1
    LEVEL = 2


class Nothing(NamedTuple):
    """No fields."""


class Create(NamedTuple):
    """SOCKET_CREATE."""

    family: Annotated[U16, "0 for both, 2 IPv4, 10 IPv6; a socket of one takes no addresses of the other"]
    type: Annotated[U16, "1 stream, 2 datagram"]
    protocol: Annotated[U32, "0, or 6 of a stream, 17 of datagrams"]


class Created(NamedTuple):
    """Its reply."""

    socket: Annotated[U32, "its number, of this client alone"]


class Connect(NamedTuple):
    """CONNECT."""

    socket: Annotated[U32, "which"]
    remote: Annotated[Address, "where to"]


class Bound(NamedTuple):
    """Where a socket is."""

    local: Annotated[Address, "our end"]


class Bind(NamedTuple):
    """BIND."""

    socket: Annotated[U32, "which"]
    local: Annotated[Address, "our end; family 0 or all zeros for any address, port 0 for any free one"]


class Listen(NamedTuple):
    """LISTEN."""

    socket: Annotated[U32, "which"]
    backlog: Annotated[U32, "how many may wait to be accepted; 1 to 1,024, others are taken for the nearest"]


class Accept(NamedTuple):
    """ACCEPT."""

    socket: Annotated[U32, "which; it goes on listening"]
    flags: Annotated[U32, "1: wait until somebody connects"]


class Accepted(NamedTuple):
    """Its reply."""

    socket: Annotated[U32, "the new one"]
    remote: Annotated[Address, "the other end"]
    local: Annotated[Address, "our end"]


class Send(NamedTuple):
    """SEND."""

    socket: Annotated[U32, "which"]
    flags: Annotated[U32, "1: wait until all is taken"]
    to: Annotated[Address, "where to, of a datagram; family 0 of a socket that is connected"]
    data: Annotated[Data, "what"]


class Sent(NamedTuple):
    """Its reply."""

    sent: Annotated[U32, "how many bytes were taken; fewer than all without the flag, if there is no more room"]


class Receive(NamedTuple):
    """RECV."""

    socket: Annotated[U32, "which"]
    max: Annotated[U32, "how many bytes, at most; not 0"]
    flags: Annotated[U32, "1: wait until there is something"]


class Received(NamedTuple):
    """Its reply."""

    flags: Annotated[U32, "1: the other side sends no more; 2: a datagram was cut"]
    sender: Annotated[Address, "who sent it, of a datagram; family 0 of a stream"]
    data: Annotated[Data, "what"]


class Close(NamedTuple):
    """CLOSE."""

    socket: Annotated[U32, "which; what waits at it is answered with -103"]
    flags: Annotated[U32, "1: by a reset, and what was not sent is lost"]


class Wanted(NamedTuple):
    """One row of POLL."""

    socket: Annotated[U32, "which"]
    interest: Annotated[U32, "flags that are asked for; 4 and 8 are always"]


class Poll(NamedTuple):
    """POLL."""

    flags: Annotated[U32, "0: level, what is so; 1: edge, what is new since an edge was last told"]
    timeout_ms: Annotated[U32, "how long to wait; 0xffffffff for ever; then the reply has no rows"]
    sockets: Annotated[tuple[Wanted, ...], Rest("rows", Wanted), "which; 4,096 at most"]


class Happened(NamedTuple):
    """One row of its reply, and an event."""

    socket: Annotated[U32, "which"]
    flags: Annotated[U32, "what it is ready for"]


class Polled(NamedTuple):
    """Its reply."""

    ready: Annotated[tuple[Happened, ...], Rest("rows", Happened), "those of which there is something to tell"]


class OfSocket(NamedTuple):
    """STATUS."""

    socket: Annotated[U32, "which"]


class SocketStatus(NamedTuple):
    """Its reply."""

    flags: Annotated[U32, "what it is ready for"]
    readable: Annotated[U32, "bytes that wait to be received; of a listener 0"]
    unsent: Annotated[U32, "bytes that were taken and have not left yet"]
    error: Annotated[I32, "why it has ended, a status; 0 if it has not, or in order"]
    local: Annotated[Address, "our end; family 0 while it has none"]
    remote: Annotated[Address, "the other end; family 0 while it has none"]


class Shutdown(NamedTuple):
    """SHUTDOWN."""

    socket: Annotated[U32, "which"]
    how: Annotated[U32, "1: nothing more will be sent; others are not supported"]


class Resolve(NamedTuple):
    """DNS_RESOLVE."""

    family: Annotated[U16, "0 for both, 2 IPv4, 10 IPv6"]
    reserved: Annotated[U16, "0"]
    name: Annotated[Data, "ASCII, 1 to 253 bytes: a name, a peer's name or id, an address"]


class FoundAddress(NamedTuple):
    """One row of its reply."""

    address: Annotated[Address, "one of its addresses; port 0"]


class Resolved(NamedTuple):
    """Its reply."""

    addresses: Annotated[tuple[FoundAddress, ...], Rest("rows", FoundAddress), "at least one, the best first"]


class Ping(NamedTuple):
    """PING."""

    destination: Annotated[Address, "whom to ask"]
    timeout_ms: Annotated[U32, "how long to wait, 1 to 60,000; then the status is -110"]


class Pong(NamedTuple):
    """Its reply."""

    rtt_us: Annotated[U32, "how long the answer took, microseconds"]


class OwnAddress(NamedTuple):
    """One row of INFO."""

    address: Annotated[Address, "one of this node; port 0"]
    prefix: Annotated[U32, "length of its network, bits: the seed's netmask"]


class Info(NamedTuple):
    """The reply to INFO."""

    mac: Annotated[Mac, "zeros: there is no link layer"]
    reserved: Annotated[U16, "0"]
    mtu: Annotated[U32, "bytes of the largest packet"]
    gateway: Annotated[Address, "family 0: peers are reached without one"]
    dns: Annotated[Address, "family 0: names are looked up by the daemon"]
    addresses: Annotated[tuple[OwnAddress, ...], Rest("rows", OwnAddress), "all that this node has, first its own"]


class Subscribe(NamedTuple):
    """SUBSCRIBE_EVENTS."""

    socket: Annotated[U32, "which; 0 for all that this client has, and all that it will have"]
    interest: Annotated[U32, "flags that are asked for; 4 and 8 are always"]
    mode: Annotated[U32, "0 off, 1 edge, 2 level"]


class Stats(NamedTuple):
    """The reply to STATS."""

    tx_packets: Annotated[
        U64, "that the daemon's host, or the machine, has sent into the network; a super-packet is one"
    ]
    rx_packets: Annotated[U64, "that came from there"]
    tx_bytes: Annotated[U64, "of these, headers included"]
    rx_bytes: Annotated[U64, "likewise"]
    drops: Annotated[U64, "what the host, or the interface, did not take"]
    connections: Annotated[U32, "of TCP, of all programs; with a TUN, of all clients of netd"]
    listeners: Annotated[U32, "likewise"]
    datagram_sockets: Annotated[U32, "likewise"]
    own_sockets: Annotated[U32, "of this client, all kinds"]
    waiting: Annotated[U32, "requests of this client that wait for their reply"]


class Code(IntEnum):
    """What a message asks for."""

    NONE = 0
    SOCKET_CREATE = 1
    CONNECT = 2
    BIND = 3
    LISTEN = 4
    ACCEPT = 5
    SEND = 6
    RECV = 7
    CLOSE = 8
    POLL = 9
    STATUS = 10
    SHUTDOWN = 11
    DNS_RESOLVE = 20
    PING = 40
    GET_INFO = 41
    INFO = 42
    SUBSCRIBE_EVENTS = 43
    STATS = 44


EVENT: Final = 0xE0
"""Code of an event: like a reply to the SUBSCRIBE_EVENTS whose number it has, with status 0."""


class Message(NamedTuple):
    """One row of the table.

    Attributes:
        request: layout of its fields.
        reply: layout of those of its reply.
        meaning: in a few words.
        waits: when the reply comes, if not at once.
    """

    request: Layout[Any]
    reply: Layout[Any]
    meaning: str
    waits: str = ""


_NOTHING: Final = Layout(Nothing)
_INFO: Final = Layout(Info)

MESSAGES: Final[dict[int, Message]] = {
    Code.SOCKET_CREATE: Message(Layout(Create), Layout(Created), "Make a socket."),
    Code.CONNECT: Message(
        Layout(Connect), Layout(Bound), "Connect it.", "of a stream: when the other side has answered"
    ),
    Code.BIND: Message(Layout(Bind), Layout(Bound), "Say where it is; a stream gets a free port with LISTEN only."),
    Code.LISTEN: Message(Layout(Listen), Layout(Bound), "Take connections."),
    Code.ACCEPT: Message(
        Layout(Accept), Layout(Accepted), "Take a connection that waits.", "with the flag: when there is one"
    ),
    Code.SEND: Message(Layout(Send), Layout(Sent), "Send data.", "with the flag: when all is taken"),
    Code.RECV: Message(Layout(Receive), Layout(Received), "Take data.", "with the flag: when there is some"),
    Code.CLOSE: Message(Layout(Close), _NOTHING, "End a socket; what was sent still arrives."),
    Code.POLL: Message(
        Layout(Poll), Layout(Polled), "Ask which sockets are ready.", "when one is, or the time is over"
    ),
    Code.STATUS: Message(Layout(OfSocket), Layout(SocketStatus), "Ask what a socket is like now."),
    Code.SHUTDOWN: Message(Layout(Shutdown), _NOTHING, "Say behind all data that no more will come; RECV goes on."),
    Code.DNS_RESOLVE: Message(Layout(Resolve), Layout(Resolved), "Look up a name.", "when it is known"),
    Code.PING: Message(Layout(Ping), Layout(Pong), "Send an ICMP echo request.", "when the answer is there"),
    Code.GET_INFO: Message(_NOTHING, _INFO, "What the node is like."),
    Code.INFO: Message(_NOTHING, _INFO, "The same."),
    Code.SUBSCRIBE_EVENTS: Message(Layout(Subscribe), _NOTHING, "Be told what happens to sockets."),
    Code.STATS: Message(_NOTHING, Layout(Stats), "Count."),
}
"""All of them."""

HAPPENED: Final = Layout(Happened)
"""The fields of an event."""


def code_of_reply(code: int) -> int:
    """The code of the reply to a request; see the head of this file."""
    if code < 20:
        return 0x80 + code
    return 0xA0 + code - 20 if code < 40 else 0xC0 + code - 40
