"""Addresses of the underlay, as people write them and as they travel: `/ip4/192.0.2.1/udp/1312/p2p/12D3KooW…`.

A multiaddr is a row of components, each a protocol with its value, read from the outside in. Six shapes are spoken
here, most of them with or without the last component, the peer at the end of the address:

    /ip4/A/udp/P   /ip4/A/tcp/P/ws   /ip4/A/tcp/P/tls/ws   /ethif/NAME/mac/M      with /p2p/ID: where to find that peer
                                                           /ethif/NAME            without: where to listen, or to try
    /p2p/ID        a peer, wherever it is

In place of `/ip4/A` may stand `/ip6/A`, `/ip6zone/Z/ip6/A` (a link-local address with its interface) or `/dns/NAME`.
A value of type `Multiaddr` always has one of these shapes; `FOLLOWS` is the rule.

Binary form: for each component the code of its protocol as an unsigned varint, then the value; a value without a fixed
size has its length before it as an unsigned varint.

Sources: the multiaddr, multicodec and unsigned-varint specifications of the multiformats project; RFC 4291 and RFC 5952
for IPv6 in text; RFC 1035 section 2.3.4 for the limits of names. `ethif` and `mac` are our own: their codes are from
multicodec's range for private use.

Not done here: resolving names, binding and dialling.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal, NamedTuple, Self, cast

from weft.errors import DecodeError, UsageError
from weft.identity import PeerId

Value = IPv4Address | IPv6Address | PeerId | bytes | int | str | None
"""ip4, ip6: the address; p2p: the peer id; mac: 6 bytes; udp, tcp: the port; dns, ip6zone, ethif: a name."""
Transport = Literal["udp", "ws", "wss", "ethernet"]

TEXT_CHARACTERS = 512
"""Bound of the text and of the binary form; the longest name leaves half of it unused."""
NAME_CHARACTERS = 253
VARINT_BYTES = 4
"""Enough for every code of multicodec, and for any length."""
END: Final = None

_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_INTERFACE = re.compile(r"[!-$&-.0-~]{1,15}")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")


class Component(NamedTuple):
    """One protocol of a multiaddr with its value."""

    protocol: str
    value: Value = None

    def __str__(self) -> str:
        return f"/{self.protocol}" if self.value is None else f"/{self.protocol}/{_text(self.value)}"


def _text(value: Value) -> str:
    """The value as it stands in text; equal values give equal text."""
    if isinstance(value, bytes):
        return value.hex(":")
    if isinstance(value, IPv6Address) and value.ipv4_mapped is not None:
        # RFC 5952 section 5; the standard library does it from Python 3.13 on.
        return f"::ffff:{value.ipv4_mapped}"
    return str(value)


def _ip6(text: str) -> IPv6Address:
    if "%" in text:
        raise ValueError
    return IPv6Address(text)


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 0xFFFF:
        raise ValueError
    return int(text)


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError
    return text


def _dns(text: str) -> str:
    labels = text.removesuffix(".").split(".")
    if len(text) > NAME_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError
    return text.lower()


class Protocol(NamedTuple):
    """What is known of a protocol: one row of `PROTOCOLS`."""

    code: int
    """Multicodec."""
    size: int | None
    """Bytes of the value in the binary form; None: they have their length before them."""
    expected: str
    """The value in words, for whoever wrote it wrong; "" for a protocol without a value."""
    from_text: Callable[[str], Value]
    from_bytes: Callable[[bytes], Value]
    to_bytes: Callable[..., bytes]


def _named(code: int, expected: str, from_text: Callable[[str], str]) -> Protocol:
    return Protocol(code, None, expected, from_text, lambda data: from_text(data.decode("ascii")), str.encode)


def _ported(code: int) -> Protocol:
    expected = "a port from 0 to 65535"
    return Protocol(code, 2, expected, _port, lambda data: int.from_bytes(data, "big"), lambda port: port.to_bytes(2))


def _bare(code: int) -> Protocol:
    return Protocol(code, 0, "", lambda _: None, lambda _: None, lambda _: b"")


_IP6_SHAPE = "an IPv6 address such as 2001:db8::1 (one of a single link is written /ip6zone/eth0/ip6/fe80::1)"
_DNS_SHAPE = "a domain name such as example.org (a name in another script in its xn-- form)"
_IF_SHAPE = "the name of an interface such as eth0, at most 15 characters"

PROTOCOLS: dict[str, Protocol] = {
    "ip4": Protocol(4, 4, "an IPv4 address such as 192.0.2.1", IPv4Address, IPv4Address, lambda ip: ip.packed),
    "ip6": Protocol(41, 16, _IP6_SHAPE, _ip6, IPv6Address, lambda ip: ip.packed),
    "ip6zone": _named(42, _IF_SHAPE, lambda text: _matching(_INTERFACE, text)),
    "dns": _named(53, _DNS_SHAPE, _dns),
    "udp": _ported(273),
    "tcp": _ported(6),
    "tls": _bare(448),
    "ws": _bare(477),
    "ethif": _named(0x301312, _IF_SHAPE, lambda text: _matching(_INTERFACE, text)),
    "mac": Protocol(
        0x301313,
        6,
        "an Ethernet address such as 02:00:5e:00:53:01",
        lambda text: bytes.fromhex(_matching(_MAC, text).replace(":", "")),
        bytes,
        bytes,
    ),
    "p2p": Protocol(421, None, "a peer id such as 12D3KooW…", PeerId.from_text, PeerId.from_bytes, PeerId.to_bytes),
}

NAMES = {protocol.code: name for name, protocol in PROTOCOLS.items()}

FOLLOWS: dict[str, tuple[str | None, ...]] = {
    "": ("ip4", "ip6", "ip6zone", "dns", "ethif", "p2p"),
    "ip6zone": ("ip6",),
    "ip4": ("udp", "tcp"),
    "ip6": ("udp", "tcp"),
    "dns": ("udp", "tcp"),
    "udp": (END, "p2p"),
    "tcp": ("ws", "tls"),
    "tls": ("ws",),
    "ws": (END, "p2p"),
    "ethif": (END, "mac"),
    "mac": (END, "p2p"),
    "p2p": (END,),
}
"""What may come after each protocol, "" being the beginning and `END` the end."""


@dataclass(frozen=True, slots=True)
class Multiaddr:
    """An address of the underlay, in one of the shapes that this module's docstring lists.

    Equal addresses are equal values with equal text: `str()` writes numbers, IPv6 addresses (RFC 5952) and Ethernet
    addresses in one canonical way.

    Args:
        components: from the outside in.

    Raises:
        DecodeError: The components do not have one of the shapes.
    """

    components: tuple[Component, ...]

    def __post_init__(self) -> None:
        before = ""
        for component in self.components:
            _check_step(before, component.protocol, offset=0)
            before = component.protocol
        _check_step(before, END, offset=0)

    @classmethod
    def from_endpoint(cls, ip: str, port: int, peer_id: PeerId | None = None) -> Self:
        """Make the UDP address of what a socket says: `("192.0.2.1", 1312)`, `("fe80::1%eth0", 1312)`.

        Args:
            ip: an address, an IPv6 one perhaps with its zone.
            port: 0 to 65535.
            peer_id: who is there, if known.

        Raises:
            DecodeError: It is not an address or not a port.
        """
        address, zone = _address(ip)
        components = [] if zone is None else [Component("ip6zone", zone)]
        components += [Component(f"ip{address.version}", address), Component("udp", _decode_value("udp", str(port), 0))]
        return cls(tuple(components)).with_peer_id(peer_id)

    @property
    def host(self) -> str | None:
        """The IP address (with its zone after a `%`, as sockets take it) or the name; None without one."""
        for protocol in ("ip4", "ip6", "dns"):
            value = self._value(protocol)
            if value is not None:
                zone = cast("str | None", self._value("ip6zone"))
                return _text(value) if zone is None else f"{_text(value)}%{zone}"
        return None

    @property
    def port(self) -> int | None:
        """The UDP or TCP port; None without one."""
        port = self._value("udp")
        return cast("int | None", self._value("tcp") if port is None else port)

    @property
    def host_and_port(self) -> str:
        """The endpoint as `wg` writes it: `192.0.2.1:1312`, `[2001:db8::1]:1312`, `host.example.org:1312`."""
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def transport(self) -> Transport | None:
        """How it is reached; None for a peer alone, `/p2p/ID`."""
        protocols = {component.protocol for component in self.components}
        if "ws" in protocols:
            return "wss" if "tls" in protocols else "ws"
        if "udp" in protocols:
            return "udp"
        return "ethernet" if "ethif" in protocols else None

    @property
    def peer_id(self) -> PeerId | None:
        """The peer at the end; None where the address does not say."""
        return cast("PeerId | None", self._value("p2p"))

    def endpoint(self) -> tuple[str, int]:
        """Give IP address and port, as sockets take them.

        Raises:
            UsageError: There are none: it has a name, which must be resolved first, or is not IP at all.
        """
        host, port = self.host, self.port
        if host is None or port is None or self._value("dns") is not None:
            raise UsageError(f"{self} has no IP address and port")
        return host, port

    def with_peer_id(self, peer_id: PeerId | None) -> Self:
        """Make the same address with another peer at its end, or, for None, without one.

        Raises:
            DecodeError: The result has no valid shape: `/p2p/ID` without its peer, `/ethif/NAME` with one.
        """
        bare = tuple(component for component in self.components if component.protocol != "p2p")
        return type(self)(bare if peer_id is None else (*bare, Component("p2p", peer_id)))

    def to_bytes(self) -> bytes:
        """Encode the binary form."""
        encoded = bytearray()
        for name, value in self.components:
            protocol = PROTOCOLS[name]
            data = protocol.to_bytes(value)
            encoded += _varint(protocol.code)
            encoded += data if protocol.size is not None else _varint(len(data)) + data
        return bytes(encoded)

    def _value(self, protocol: str) -> Value:
        return next((component.value for component in self.components if component.protocol == protocol), None)

    def __str__(self) -> str:
        return "".join(map(str, self.components))

    def __repr__(self) -> str:
        return f"Multiaddr({str(self)!r})"


def decode_multiaddr(text: str) -> Multiaddr:
    """Decode the text form.

    Args:
        text: such as `/ip4/192.0.2.1/udp/1312`; without a slash at its end.

    Raises:
        DecodeError: It is none; the message tells the person who wrote it what should stand where. The offset counts
            characters.
    """
    if len(text) > TEXT_CHARACTERS:
        raise DecodeError(f"a multiaddr of at most {TEXT_CHARACTERS} characters", offset=TEXT_CHARACTERS)
    if not text.startswith("/"):
        raise DecodeError(f"a multiaddr, which starts with a slash, such as /ip4/192.0.2.1/udp/1312, not {text!r}")
    words = iter(text.split("/")[1:])
    components: list[Component] = []
    before, offset = "", 1
    for name in words:
        _check_step(before, name, offset)
        offset += len(name) + 1
        value: Value = None
        if PROTOCOLS[name].expected:
            word = next(words, None)
            if word is None:
                raise DecodeError(f"{PROTOCOLS[name].expected} after /{name}, not the end", offset=len(text))
            value = _decode_value(name, word, offset)
            offset += len(word) + 1
        components.append(Component(name, value))
        before = name
    _check_step(before, END, offset=len(text))
    return Multiaddr(tuple(components))


def decode_multiaddr_bytes(data: bytes) -> Multiaddr:
    """Decode the binary form.

    Args:
        data: the whole of it; bytes left over are a fault.

    Raises:
        DecodeError: It is none. The offset counts bytes.
    """
    if len(data) > TEXT_CHARACTERS:
        raise DecodeError(f"a multiaddr of at most {TEXT_CHARACTERS} bytes", offset=TEXT_CHARACTERS)
    components: list[Component] = []
    before, offset = "", 0
    while offset < len(data):
        start = offset
        code, offset = _decode_varint(data, offset)
        name = NAMES.get(code, f"{code:#x}")
        _check_step(before, name, start)
        protocol = PROTOCOLS[name]
        size, offset = (protocol.size, offset) if protocol.size is not None else _decode_varint(data, offset)
        value = data[offset : offset + size]
        try:
            if len(value) != size:
                raise ValueError
            components.append(Component(name, protocol.from_bytes(bytes(value))))
        except (ValueError, DecodeError):
            raise DecodeError(f"{protocol.expected} after /{name}", offset=offset) from None
        before, offset = name, offset + size
    _check_step(before, END, offset)
    return Multiaddr(tuple(components))


def _check_step(before: str, name: str | None, offset: int) -> None:
    """Refuse a protocol, or the end, where `FOLLOWS` does not have it."""
    if name in FOLLOWS[before]:
        return
    options = " or ".join("the end" if option is END else f"/{option}" for option in FOLLOWS[before])
    place = f"after /{before}" if before else "at the beginning"
    if name is END:
        found = "the end"
    elif not name:
        found = "an empty component (two slashes in a row, or one at the end)"
    else:
        found = f"/{name}" if name.isprintable() else repr(name)
    raise DecodeError(f"{options} {place}, not {found}", offset=offset)


def _decode_value(name: str, word: str, offset: int) -> Value:
    protocol = PROTOCOLS[name]
    try:
        return protocol.from_text(word)
    except ValueError:
        raise DecodeError(f"{protocol.expected} after /{name}, not {word!r}", offset=offset) from None
    except DecodeError as error:
        raise DecodeError(f"{error.expected} after /{name}, not {word!r}", offset=offset + error.offset) from None


def _address(ip: str) -> tuple[IPv4Address | IPv6Address, str | None]:
    """The address that a socket names, and its zone."""
    bare, percent, zone = ip.partition("%")
    try:
        address = ip_address(bare)
        if percent and (address.version == 4 or not _INTERFACE.fullmatch(zone)):
            raise ValueError
    except ValueError:
        raise DecodeError(f"an IP address, not {ip!r}") from None
    return address, zone or None


def _varint(number: int) -> bytes:
    """The unsigned varint (LEB128) of multiformats."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _decode_varint(data: bytes, offset: int) -> tuple[int, int]:
    """A number and the offset after it; only the shortest form is valid."""
    number = 0
    for index, byte in enumerate(data[offset : offset + VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if _varint(number) != data[offset : offset + index + 1]:
                break
            return number, offset + index + 1
    raise DecodeError(f"a varint in its shortest form, of at most {VARINT_BYTES} bytes", offset=offset)
