"""Every key of `weft.toml` once: what it means, when a change of it counts, and what is wrong with a value.

The commented default file, the checks, `weft config show` and the reference page are made from this table. Types and
defaults are those of the `Config` (config.py), which has the same keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Any, Literal

from weft.errors import DecodeError
from weft.io.kernel.inside import is_of_machines
from weft.io.netlink import OVERLAY
from weft.multiaddr import decode_multiaddr

LISTENERS = 16
ADDRESSES = 16
MAX_SERVERS = 4
"""As many as a resolver asks (stack/dns/resolver.py, which is imported when it is needed)."""

Applies = Literal["at once", "when the interface is made", "when the daemon starts"]
"""When a change of a key counts, once the file was read again."""
Check = Callable[[Any], str | None]
"""What is wrong with a value of the right type, in words; None if it is fine."""

_IFNAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        name: with its section, such as `peer.listen`.
        meaning: sentences for the file and the reference.
        check: what is wrong with a value.
        applies: when a change of it counts.
        example: a value, as TOML, of a key that has none by default.
    """

    name: str
    meaning: str
    check: Check = lambda value: None
    applies: Applies = "at once"
    example: str = ""

    @property
    def section(self) -> str:
        """The first part of its name."""
        return self.name.partition(".")[0]

    @property
    def field(self) -> str:
        """The last part of its name."""
        return self.name.partition(".")[2]


def _listen(texts: tuple[str, ...]) -> str | None:
    if not 1 <= len(texts) <= LISTENERS:
        return f"expected 1 to {LISTENERS} listeners"
    addresses = set()
    for text in texts:
        try:
            address = decode_multiaddr(text)
        except DecodeError as error:
            return str(error)
        if address.transport != "udp" or address.peer_id is not None or address.components[0].protocol == "dns":
            return f"expected UDP listeners such as /ip4/0.0.0.0/udp/1312, not {text!r}"
        addresses.add(address)
    return None if len(addresses) == len(texts) else "expected each listener once"


def _between(least: int, most: int, what: str) -> Check:
    def check(value: int) -> str | None:
        return None if least <= value <= most else f"expected {least} to {most} {what}".rstrip()

    return check


def _fwmark(value: int) -> str | None:
    return None if 0 <= value <= 0xFFFF_FFFF else "expected a number of 32 bits, such as 0x1234; 0 for none"


def _file(name: str | None) -> str | None:
    if name is None or (name and name.isprintable()):
        return None
    return "expected the name of a file; remove the line if there is to be none"


def _ifname(name: str) -> str | None:
    if _IFNAME.fullmatch(name):
        return None
    return "expected an interface name such as weft0: at most 15 letters, digits, _ . and -"


def _addresses(texts: tuple[str, ...]) -> str | None:
    if len(texts) > ADDRESSES:
        return f"expected at most {ADDRESSES} addresses"
    fault = next((fault for fault in map(_address, texts) if fault is not None), None)
    if fault is None and len({ip_interface(text).ip for text in texts}) < len(texts):
        fault = "expected each address once"
    return fault


def _address(text: str) -> str | None:
    try:
        address = ip_interface(text)
    except ValueError:
        return f"expected addresses with their prefix length, such as 10.7.0.1/24, not {text!r}"
    if isinstance(address, IPv6Interface) and address.network.overlaps(OVERLAY):
        return f"{text}: addresses in {OVERLAY} belong to the keys of nodes; the node's own is set by itself"
    ip = address.ip
    if ip.is_multicast or ip.is_unspecified or ip.is_loopback or ip.is_link_local:
        return f"{text}: expected an address of one machine, such as 10.7.0.1/24"
    is_network = ip == address.network.network_address and address.network.num_addresses > 2
    if is_network and isinstance(address, IPv4Interface):
        own = f"{ip + 1}/{address.network.prefixlen}"
        return f"{text}: that is the network; expected this node's own address in it, such as {own}"
    return None


def _dns(texts: tuple[str, ...]) -> str | None:
    if len(texts) > MAX_SERVERS:
        return f"expected at most {MAX_SERVERS} servers"
    addresses = set()
    for text in texts:
        try:
            address = ip_address(text)
        except ValueError:
            return f"expected addresses of servers in the network, such as fc12:3456::53, not {text!r}"
        if not is_of_machines(address) or getattr(address, "scope_id", None) is not None:
            return f"{text}: expected an address of a server in the network, such as fc12:3456::53"
        addresses.add(address)
    return None if len(addresses) == len(texts) else "expected each server once"


def _api_listen(text: str | None) -> str | None:
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    try:
        is_good = ip_address(host.removeprefix("[").removesuffix("]")).is_loopback and 0 <= int(port) <= 0xFFFF
    except ValueError:
        is_good = False
    return None if is_good else f"expected a loopback address and a port, such as 127.0.0.1:1312, not {text!r}"


KEYS: tuple[Key, ...] = (
    Key(
        "peer.listen",
        "Where to listen: UDP ports of addresses of this machine, 0.0.0.0 and :: being all of them, port 0 any free "
        "one. `weft listener` changes it.",
        _listen,
    ),
    Key(
        "peer.accept",
        'Who may connect: "any" peer, or "known" ones only, which are those that this node was told of. The firewall '
        "refuses what peers send to this machine until it is allowed, whoever they are.",
    ),
    Key(
        "peer.keepalive_s",
        "A NAT forgets who was silent for a while, and then nobody gets through to what is behind it. Seconds between "
        "packets that remind it; 0 for none.",
        _between(0, 0xFFFF, "seconds"),
    ),
    Key(
        "peer.fwmark",
        "A mark on each packet that this node sends over the underlay, for rules of `ip rule` and nftables, such as "
        "0x1234; 0 for none. Needs root or CAP_NET_ADMIN.",
        _fwmark,
    ),
    Key(
        "transport.ip4",
        "Whether to use UDP over IPv4. If not, its listeners are closed. `weft transport` changes it.",
    ),
    Key("transport.ip6", "Whether to use UDP over IPv6, likewise."),
    Key(
        "network.secret_file",
        "With a shared secret, only weft nodes that have the same one can talk to this node. It is the content of this "
        "file, which only its owner may read: at least 16 characters, better what `wg genpsk` prints. The name is "
        "relative to the directory of weft.toml. Not set by default.",
        _file,
        example='"network.secret"',
    ),
    Key(
        "fc00.device",
        'What the interface is: "tun" is one of the system, which all its programs use, and which needs root or '
        'CAP_NET_ADMIN; "stack" is a TCP/IP host inside the daemon, which needs no rights, for programs that use '
        '`weft.Node`. With "auto" it is a TUN, and where `weft up` may not make one, the stack.',
        applies="when the interface is made",
    ),
    Key("fc00.ifname", "Name of the network interface, if it is a TUN.", _ifname, "when the interface is made"),
    Key(
        "fc00.routes",
        'Which addresses in fc00::/8 are routed to the interface: "all", or those of "peers" only, which are all that '
        'this node knows or that have called it. Of several nodes on one machine one may have "all".',
    ),
    Key(
        "fc00.addresses",
        "More addresses of this node in the network, besides its own in fc00::/8, each with the length of its prefix, "
        'such as ["10.7.0.1/24", "2001:db8:7::1/64"]. Peers take packets from them if they are told so, by '
        "`weft peer set THIS-NODE --allowed-ips 10.7.0.1/32` there.",
        _addresses,
    ),
    Key(
        "fc00.dns",
        "Servers of DNS in the network, at most four, in the order in which they are asked: addresses, such as "
        '["fc12:3456::53"]. They are asked for names that this node does not know by itself, for programs that use it '
        "by `weft.Node` or netd; what ends in `.weft` is asked of nobody. Without any, the operating system is asked.",
        _dns,
    ),
    Key(
        "fc00.refuse",
        'What a peer hears whose packet the firewall does not allow: "reject" tells it at once, "drop" lets it wait.',
    ),
    Key(
        "api.listen",
        "Where the HTTP API listens besides its Unix socket: an address of the loopback interface, and a port. Whoever "
        "asks there must show the token. Not set by default.",
        _api_listen,
        "when the daemon starts",
        example='"127.0.0.1:1312"',
    ),
    Key(
        "api.token_file",
        "File of that token, which is made if it is missing, and which only its owner may read. The name is relative "
        "to the directory of weft.toml.",
        _file,
        "when the daemon starts",
    ),
    Key("log.level", 'How much is logged: "debug", "info", "warning" or "error", each with what comes after it.'),
    Key(
        "log.format",
        'How: "text" for people, "json" for programs, one object a line.',
        applies="when the daemon starts",
    ),
    Key(
        "log.file",
        "Where to: a file, relative to the directory of weft.toml. By default the standard error of the daemon, which "
        "`weft up` joins to daemon.log, and systemd to the journal. A file, daemon.log too, becomes FILE.1 at 8 MiB, "
        "and so on up to FILE.3; one that logrotate has moved is made anew.",
        _file,
        "when the daemon starts",
        example='"weft.log"',
    ),
)

BY_NAME = {key.name: key for key in KEYS}

SECTIONS = {
    "peer": "How this node meets others.",
    "transport": "What carries the tunnels.",
    "network": "Which network this node belongs to.",
    "fc00": "The interface with this node's address in fc00::/8.",
    "api": "How programs ask the daemon.",
    "log": "What the daemon says about itself.",
}
"""What each section is about, in the order of the file."""
