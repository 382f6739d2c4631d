"""Text that may be shown to strangers: whatever tells who and where somebody is becomes a pseudonym.

    address-3    an IP address, but not loopback, documentation, or the prefixes that mean "all" or "none"
    mac-1        an Ethernet address, in the name of an interface too
    peer-1       a peer id
    key-2        a key: 44 characters of base64, or 32 and more hex digits
    name-1       what somebody calls a peer
    host-1       a host name, but none that is reserved for examples
    user-1       a person's name on this machine, or in front of an @
    path-1       a directory or file; the names of weft's own files, and of code below a library's directory, stay
    (secret)     what was told beforehand to be one

The same thing has the same pseudonym wherever it stands. Names that stand alone, without a dot or a slash to tell them
by, have to be told beforehand. In doubt a pseudonym is given, even where it hides nothing.

Sources: RFC 5737, RFC 3849, RFC 9637 (documentation), RFC 2606, RFC 6761 (reserved names).
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import product
from pathlib import Path
from typing import Any

SECRET = "(secret)"
SECRET_CHARACTERS = 8
"""What is shorter is no secret, and hides nothing but the report."""

_PUBLIC_NETWORKS = [
    *map(ip_network, ("0.0.0.0/32", "127.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4")),
    *map(ip_network, ("255.255.255.255/32", "::/127", "2001:db8::/32", "3fff::/20", "ff00::/8", "fc00::/128")),
]
_PUBLIC_MACS = {"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"}
_PUBLIC_HOSTS = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|invalid|test|localhost|arpa)$", re.IGNORECASE)
_WORDS = frozenset(
    "up connecting idle weft wireguard direct none burst packet running waiting stopped reject drop any known wanted "
    "stranger blocked root daemon peer localhost true false text json debug info warning error".split()
)
"""Words of weft's own: who calls somebody so gives nothing away."""
_OWN_FILES = frozenset("key state.json lock weft.toml daemon.log api.sock api.token network.secret".split())
_SECTIONS = frozenset("api fc00 log network peer transport".split())
_CODE = frozenset({*sys.stdlib_module_names, *_SECTIONS, *"weft aiohttp click cls msgspec self".split()})
_EXTENSIONS = frozenset("conf json key lock log pcap psk py secret service so sock tmp token toml txt".split())
_LIBRARY = re.compile(r"(.*/(?:(?:site|dist)-packages|python3\.\d+|src(?=/weft/)))(/.*\.py)")

_NAME = r"""[^\s'"`,;:()<>|]"""
"""A character of a path that stands in a text."""

_KINDS = re.compile(
    r"""
    (?P<peer> 12D3Koo[1-9A-HJ-NP-Za-km-z]{45} | (?<![0-9A-Za-z]) [kK][0-9A-Za-z]{61} (?![0-9A-Za-z]) )
    | (?P<key> [A-Za-z0-9+/]{43}= | (?<![0-9A-Za-z]) [0-9A-Fa-f]{32,} (?![0-9A-Za-z]) )
    | (?P<mac> (?<![\w:-]) (?: [0-9A-Fa-f]{2} [:-] ){5} [0-9A-Fa-f]{2} (?![\w:-]) | (?<=\benx) [0-9a-f]{12} (?!\w) )
    | (?P<address>
        (?<![0-9A-Fa-f:.]) (?: [0-9A-Fa-f]{0,4}: ){2,8} (?: (?: \d{1,3}\. ){3} \d{1,3} | [0-9A-Fa-f]{0,4} )
        | (?<![\d.]) (?: \d{1,3}\. ){3} \d{1,3} (?! \d | \.\d )
      )
    | (?P<user> (?<![\w.+-]) [\w.+-]+ (?= @ [\w-]+ \. ) )
    | (?P<dns> (?: (?<=/dns/) | (?<=/dns4/) | (?<=/dns6/) ) [^/\s'"]+ )
    | (?P<host>
        (?<![\w./\\-]) (?: [A-Za-z0-9] (?: [A-Za-z0-9-]* [A-Za-z0-9] )? \. )+
        [A-Za-z] (?: [A-Za-z0-9-]* [A-Za-z0-9] ) (?! [\w(] | -\w )
      )
    | (?P<path>
        (?<![\w./~-]) ~? /
        (?! (?: ip4 | ip6 | ip6zone | dns[46]? | udp | tcp | sctp | icmp | p2p | v0 | proc | sys | dev ) (?!\w) )
        (?! \d+ (?! [\w/.] ) ) [\w.~] [^\s'"`,;:()<>|]*
        | (?<!\w) [A-Za-z]:\\ [^\s'",;<>|]*
      )
    """,
    re.VERBOSE,
)


class Pseudonyms:
    """Gives pseudonyms, and remembers them."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], str] = {}
        self._count: Counter[str] = Counter()
        self._told: dict[str, str] = {}
        self._directories: list[str] = []
        self.legend: dict[str, str] = {}
        """What there is to say about a pseudonym that gives nobody away."""

    def tell(self, kind: str, texts: Iterable[str | None]) -> None:
        """These stand for somebody, wherever they stand.

        Args:
            kind: `name`, `host` or `user`.
            texts: words; those that are weft's own, and empty ones, do not count.
        """
        for text in texts:
            if text and text.casefold() not in _WORDS and not (kind == "host" and _is_public_host(text)):
                pseudonym = self._pseudonym(kind, text.casefold() if kind == "host" else text)
                for spelling in (text, _quoted(text)):
                    self._told.setdefault(spelling, pseudonym)
        self.__dict__.pop("_literals", None)

    def tell_directories(self, directories: Iterable[Path]) -> None:
        """These are directories, though they may have spaces in their names, or no slash."""
        self._directories += [text for text in map(str, directories) if text.strip("/.")]
        self.__dict__.pop("_literals", None)

    def hide(self, secrets: Iterable[str]) -> None:
        """These must not be seen at all."""
        for secret in secrets:
            if len(secret) >= SECRET_CHARACTERS:
                self._told.update(dict.fromkeys((secret, _quoted(secret)), SECRET))
        self.__dict__.pop("_literals", None)

    def clean(self, text: str) -> str:
        """The text with pseudonyms in it."""
        parts = self._literals.split(text)
        # What has a pseudonym already is no part of what is looked for next.
        for index, part in enumerate(parts):
            parts[index] = self._by_kind(part) if index % 2 == 0 else self._told.get(part) or self._path(part)
        return "".join(parts)

    def clean_value(self, value: Any) -> Any:
        """A value of JSON, with pseudonyms in all its text."""
        match value:
            case str():
                return self.clean(value)
            case list() | tuple():
                return [self.clean_value(item) for item in value]
            case dict():
                return {
                    key if key.isidentifier() else self.clean(key): self.clean_value(item)
                    for key, item in value.items()
                }
        return value

    @cached_property
    def _literals(self) -> re.Pattern[str]:
        ways = [
            *(re.escape(text) for text, pseudonym in self._told.items() if pseudonym == SECRET),
            *(rf"(?<![\w/]){re.escape(text)}(?:/{_NAME}*|(?!\w))" for text in self._directories),
            *(rf"(?<!\w){re.escape(text)}(?!\w)" for text, pseudonym in self._told.items() if pseudonym != SECRET),
        ]
        # The first that fits counts, so what is longer goes before what it begins with.
        return re.compile(f"({'|'.join(sorted(ways, key=len, reverse=True))})" if ways else "(?!)")

    def _by_kind(self, text: str) -> str:
        return _KINDS.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        kind, text = match.lastgroup or "", match[0]
        match kind:
            case "address":
                return self._address(text)
            case "host" | "dns":
                return self._host(text)
            case "path":
                return self._path(text)
            case "mac":
                return text if text in _PUBLIC_MACS else self._pseudonym("mac", re.sub("[:-]", "", text.lower()))
        return self._pseudonym(kind, text)

    def _address(self, text: str) -> str:
        # A colon before or after it may be the sentence's, and the group beyond that a word or a port.
        first, last = text.find(":"), text.rfind(":")
        for start, end in product((0, first, first + 1), (len(text), last + 1, last)):
            with suppress(ValueError):
                part = text[start:end]
                return text[:start] + self._address_told(ip_address(part), part) + text[end:]
        return text

    def _address_told(self, address: IPv4Address | IPv6Address, text: str) -> str:
        if any(address in network for network in _PUBLIC_NETWORKS):
            return text
        pseudonym = self._pseudonym("address", str(address))
        self.legend[pseudonym] = _sort_of(address)
        return pseudonym

    def _host(self, text: str) -> str:
        labels = text.casefold().split(".")
        if _is_public_host(text) or labels[0] in _CODE or (len(labels) == 2 and labels[-1] in _EXTENSIONS):
            return text
        return self._pseudonym("host", text.casefold())

    def _path(self, text: str) -> str:
        if match := _LIBRARY.fullmatch(text):
            return self._pseudonym("path", match[1]) + match[2]
        directory, _, name = text.rstrip("/.").rpartition("/")
        if directory and name in _OWN_FILES:
            return f"{self._pseudonym('path', directory)}/{name}"
        return self._pseudonym("path", text.rstrip("/."))

    def _pseudonym(self, kind: str, text: str) -> str:
        if (kind, text) not in self._given:
            self._count[kind] += 1
            self._given[kind, text] = f"{kind}-{self._count[kind]}"
        return self._given[kind, text]


def _quoted(text: str) -> str:
    """As it stands between quotes, in metrics, JSON and most logs."""
    return text.replace("\\", r"\\").replace('"', r"\"")


def _is_public_host(text: str) -> bool:
    return _PUBLIC_HOSTS.search(text) is not None


def _sort_of(address: IPv4Address | IPv6Address) -> str:
    """What kind of address it is, which a report is no use without."""
    if address in ip_network("fc00::/8"):
        return "IPv6, fc00::/8"
    scope = "link-local" if address.is_link_local else "private" if address.is_private else "public"
    return f"IPv{address.version}, {scope}"
