"""`getaddrinfo` for the overlay: addresses are taken as they are, names are looked up by whom the node asks.

| host | addresses |
|---|---|
| None, "" | the wildcard ones with `AI_PASSIVE`, else those of loopback |
| an address | itself |
| a name | what `Ground.resolve` gives, in its order |

| flag | meaning |
|---|---|
| AI_PASSIVE | as above |
| AI_CANONNAME | the first entry has the name that was asked for |
| AI_NUMERICHOST, AI_NUMERICSERV | names of hosts, of services are refused |
| others | ignored |

Service names are those of the system. Each failure is a `socket.gaierror`, as the system's function has it.

Source: POSIX getaddrinfo; RFC 3493 section 6.1.
Not done here: sorting (RFC 6724), which is up to whom the node asks; scopes of addresses such as fe80::1%eth0.
"""

from __future__ import annotations

import socket
from typing import Final

from weft.api.streams.ground import Ground
from weft.api.streams.sockaddr import ANY_IPV4, ANY_IPV6, MAX_PORT, SocketAddress, address_in, family_of, sockaddr_of
from weft.stack.addresses import LOOPBACK_V4, LOOPBACK_V6
from weft.stack.endpoint import Endpoint

Host = str | bytes | None
Port = int | str | bytes | None
AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, SocketAddress]

_KINDS: Final = (
    (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
)
_SERVICE_PROTOCOLS: Final = {socket.SOCK_STREAM: "tcp", socket.SOCK_DGRAM: "udp"}
_FAMILIES: Final = frozenset({socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6})

_WORDS: Final = {
    socket.EAI_NONAME: "Name or service not known",
    socket.EAI_SERVICE: "Servname not supported for ai_socktype",
    socket.EAI_FAMILY: "ai_family not supported",
    socket.EAI_SOCKTYPE: "ai_socktype not supported",
}


async def getaddrinfo(
    ground: Ground,
    host: Host,
    port: Port,
    *,
    family: int = 0,
    type: int = 0,  # noqa: A002 - the system's own name
    proto: int = 0,
    flags: int = 0,
) -> list[AddressInfo]:
    """Look up a host and a service.

    Args:
        ground: has the resolver.
        host: a name, an address, or None.
        port: a number, its digits, the name of a service, or None for 0.
        family: `AF_INET` or `AF_INET6` for one kind of addresses, `AF_UNSPEC` for both.
        type: `SOCK_STREAM`, `SOCK_DGRAM`, or 0 for both.
        proto: `IPPROTO_TCP`, `IPPROTO_UDP`, or 0 for both.
        flags: the table above.

    Returns:
        Family, type, protocol, canonical name and socket address, the best first; never none.

    Raises:
        socket.gaierror: there are none.
    """
    if family not in _FAMILIES:
        raise _failure(socket.EAI_FAMILY)
    kinds = [kind for kind in _KINDS if type in {0, kind[0]} and proto in {0, kind[1]}]
    if not kinds:
        raise _failure(socket.EAI_SOCKTYPE)
    number = _port(port, type, flags)
    name = _text(host)
    addresses = await _addresses(ground, name, family, flags)
    matching = [address for address in addresses if family in {socket.AF_UNSPEC, family_of(address)}]
    if not matching:
        raise _failure(socket.EAI_NONAME)
    infos: list[AddressInfo] = [
        (family_of(address), kind, protocol, "", sockaddr_of(Endpoint(address, number)))
        for address in matching
        for kind, protocol in kinds
    ]
    if flags & socket.AI_CANONNAME and name is not None:
        infos[0] = (*infos[0][:3], name, infos[0][4])
    return infos


async def _addresses(ground: Ground, name: str | None, family: int, flags: int) -> list[bytes]:
    if name is None:
        return [ANY_IPV4, ANY_IPV6] if flags & socket.AI_PASSIVE else [LOOPBACK_V6, LOOPBACK_V4]
    literal = address_in(name)
    if literal is not None:
        return [literal]
    if flags & socket.AI_NUMERICHOST or "%" in name or "\0" in name:
        raise _failure(socket.EAI_NONAME)
    return list(await ground.resolve(name, family))


def _text(host: Host) -> str | None:
    """A name in ASCII, as it is asked for."""
    if not host:
        return None
    if isinstance(host, bytes):
        host = host.decode("ascii", "surrogateescape")
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise _failure(socket.EAI_NONAME) from None


def _port(port: Port, kind: int, flags: int) -> int:
    if not port:
        return 0
    try:
        number = int(port)
    except ValueError:
        number = _service(port, kind, flags)
    if not 0 <= number <= MAX_PORT:
        raise _failure(socket.EAI_SERVICE)
    return number


def _service(port: Port, kind: int, flags: int) -> int:
    name = port.decode("ascii", "surrogateescape") if isinstance(port, bytes) else str(port)
    if flags & socket.AI_NUMERICSERV:
        raise _failure(socket.EAI_NONAME)
    try:
        protocol = _SERVICE_PROTOCOLS.get(socket.SocketKind(kind)) if kind else None
        return socket.getservbyname(name, protocol) if protocol else socket.getservbyname(name)
    except (OSError, ValueError):
        raise _failure(socket.EAI_SERVICE) from None


def _failure(code: int) -> socket.gaierror:
    return socket.gaierror(code, _WORDS[code])
