"""Files of wg-quick(8): read for `weft import`, written for devices.

    [Interface]                      of the machine that the file is for
    PrivateKey = …
    Address = 10.7.0.2/32

    # hub                            what weft calls the peer
    [Peer]
    PublicKey = …
    AllowedIPs = 10.7.0.0/24, fd07::/64
    Endpoint = hub.example.org:51820

A name of a peer is a comment of its own right above `[Peer]`, or the first one in its section; the format has no key
for it, and this is where most tools put it. Keys and section names are taken in any case, as `wg` takes them.

Source: wg(8), "Configuration File Format"; wg-quick(8).
Not done here: what is done with it (import_.py, guest.py, wg_config.py).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network
from typing import Any

from weft.errors import ConfigError, DecodeError, UsageError

MAX_FILE_BYTES = 1 << 20
NAME_CHARACTERS = 63

INTERFACE_KEYS = (
    "PrivateKey",
    "ListenPort",
    "FwMark",
    "Address",
    "DNS",
    "MTU",
    "Table",
    "PreUp",
    "PostUp",
    "PreDown",
    "PostDown",
    "SaveConfig",
)


@dataclass(slots=True, kw_only=True)
class PeerSection:
    """One `[Peer]`.

    Attributes:
        line: where it begins, from 1.
        name: of its comment, if that can be a name.
        allowed_ips: prefixes, normalised.
    """

    line: int
    name: str | None = None
    public_key: str = ""
    preshared_key: str | None = field(default=None, repr=False)
    allowed_ips: list[str] = field(default_factory=list)
    endpoint: str | None = None
    keepalive_s: int | None = None


@dataclass(slots=True)
class WgQuickFile:
    """What a file says.

    Attributes:
        interface: keys and values of `[Interface]`, in the file's order; a key may come several times. Addresses are
            normalised, the rest is as it was written.
        peers: in the file's order.
    """

    interface: list[tuple[str, str]] = field(default_factory=list, repr=False)
    peers: list[PeerSection] = field(default_factory=list)

    def values(self, key: str) -> list[str]:
        """The values of a key of `[Interface]`, those that are lists taken apart."""
        return [
            part.strip() for name, value in self.interface if name == key for part in value.split(",") if part.strip()
        ]


def decode_file(text: str, file: str) -> WgQuickFile:
    """Read a file of wg-quick.

    Args:
        text: of the file.
        file: its name, for what is said of it.

    Raises:
        ConfigError: it is none; names the file, the line, and the key. Secrets are not repeated.
    """
    return _Reader(file).read(text)


def encode_file(comments: list[str], interface: list[tuple[str, str]], peer: list[tuple[str, str]]) -> str:
    """Write a file with one peer.

    Args:
        comments: lines for its head.
        interface: keys and values.
        peer: keys and values.
    """
    lines = [f"# {line}" for line in comments]
    for section, entries in (("[Interface]", interface), ("[Peer]", peer)):
        lines += ["", section, *(f"{key} = {value}" if value else f"# {key} =" for key, value in entries)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _key(value: str) -> str:
    from weft.identity import decode_wireguard_key

    decode_wireguard_key(value)
    return value


def _prefixes(value: str) -> list[str]:
    try:
        return [str(ip_network(part.strip(), strict=False)) for part in value.split(",") if part.strip()]
    except ValueError:
        raise DecodeError(f"prefixes such as 10.7.0.2/32, fd07::/64, not {value!r}") from None


def _addresses(value: str) -> str:
    try:
        return ", ".join(str(ip_interface(part.strip())) for part in value.split(",") if part.strip())
    except ValueError:
        raise DecodeError(f"addresses such as 10.7.0.2/24, fd07::2/64, not {value!r}") from None


def _endpoint(value: str) -> str:
    from weft.engine.dial import decode_endpoint

    decode_endpoint(value)
    return value


def _keepalive(value: str) -> int:
    if value.lower() == "off":
        return 0
    if re.fullmatch("[0-9]{1,5}", value) is None or int(value) > 0xFFFF:
        raise DecodeError(f"0 to 65535 seconds or off, not {value!r}")
    return int(value)


_PEER_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "PublicKey": ("public_key", _key),
    "PresharedKey": ("preshared_key", _key),
    "AllowedIPs": ("allowed_ips", _prefixes),
    "Endpoint": ("endpoint", _endpoint),
    "PersistentKeepalive": ("keepalive_s", _keepalive),
}
"""Key of `[Peer]`, attribute of `PeerSection`, and what makes it of the value."""

_SECTIONS = {"interface": INTERFACE_KEYS, "peer": tuple(_PEER_KEYS)}


class _Reader:
    """Goes through a file line by line."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._section = ""
        self._comment = ""
        """The comment right above."""
        self._found = WgQuickFile()
        self._seen: dict[str, int] = {}
        """Keys of the section, and the public keys of all, with their lines."""

    def read(self, text: str) -> WgQuickFile:
        for number, line in enumerate(text.splitlines(), 1):
            setting, mark, comment = (part.strip() for part in line.partition("#"))
            if setting.startswith("["):
                self._open(setting, number)
            elif setting:
                self._take(setting, number)
            self._remember(comment, alone=bool(mark) and not setting, heading=setting.startswith("["))
        self._close()
        return self._found

    def _remember(self, comment: str, *, alone: bool, heading: bool) -> None:
        """Keep what may name a peer: the one above or the one in the section that has just begun."""
        peers = self._found.peers
        if self._section == "peer" and peers[-1].name is None and not peers[-1].public_key and (alone or heading):
            peers[-1].name = _name_in(comment)
        self._comment = comment if alone else ""

    def _open(self, heading: str, number: int) -> None:
        self._close()
        section = heading.strip("[]").strip().lower()
        if heading[-1] != "]" or section not in _SECTIONS:
            raise self._error(number, heading, "expected [Interface] or [Peer]")
        self._section = section
        self._seen = {}
        if section == "peer":
            self._found.peers.append(PeerSection(line=number, name=_name_in(self._comment)))

    def _close(self) -> None:
        """A section ends: a peer must be whole."""
        if self._section != "peer":
            return
        peer = self._found.peers[-1]
        for key, value in (("PublicKey", peer.public_key), ("AllowedIPs", peer.allowed_ips)):
            if not value:
                raise self._error(peer.line, "[Peer]", f"has no {key}")
        for other in self._found.peers[:-1]:
            if other.public_key == peer.public_key:
                raise self._error(peer.line, "[Peer]", f"has the same PublicKey as the one in line {other.line}")

    def _take(self, setting: str, number: int) -> None:
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not equals:
            raise self._error(number, "", "expected `Key = value`")
        if not self._section:
            raise self._error(number, name, "stands before [Interface] and [Peer]")
        known = {key.lower(): key for key in _SECTIONS[self._section]}
        key = known.get(name.lower())
        if key is None:
            near = difflib.get_close_matches(name.lower(), list(known), 1)
            hint = f"did you mean {known[near[0]]}?" if near else f"there are: {', '.join(known.values())}"
            raise self._error(number, name, f"unknown key; {hint}")
        if self._section == "interface":
            self._found.interface.append(
                (key, self._decoded(_addresses, value, key, number) if key == "Address" else value)
            )
            return
        if key in self._seen and key != "AllowedIPs":
            raise self._error(number, key, f"is set in line {self._seen[key]} already")
        self._seen[key] = number
        attribute, decode = _PEER_KEYS[key]
        decoded = self._decoded(decode, value, key, number)
        peer = self._found.peers[-1]
        if key == "AllowedIPs":
            decoded = peer.allowed_ips + [prefix for prefix in decoded if prefix not in peer.allowed_ips]
        setattr(peer, attribute, decoded)

    def _decoded(self, decode: Callable[[str], Any], value: str, key: str, number: int) -> Any:
        try:
            return decode(value)
        except DecodeError as error:
            raise self._error(number, key, f"expected {error.expected}") from None
        except UsageError as error:
            raise self._error(number, key, str(error)) from None

    def _error(self, line: int, key: str, message: str) -> ConfigError:
        return ConfigError(message, file=f"{self._file}:{line}", key=key)


def _name_in(comment: str) -> str | None:
    """The name that a comment gives, as `phone`, `Name = phone` or `Name: phone`; None if it is not one."""
    name = re.sub(r"(?i)^(friendly_)?name\s*[=:]", "", comment).strip()
    # With an equals sign it is a setting that somebody switched off.
    return name if 0 < len(name) <= NAME_CHARACTERS and name.isprintable() and "=" not in name else None


def names_of(peers: list[PeerSection], stem: str) -> Iterator[str]:
    """A name for each peer: its own, or that of the file; no two are the same.

    Args:
        peers: of one file.
        stem: of the file's name.
    """
    stem = "".join(letter for letter in stem if letter.isprintable())[:NAME_CHARACTERS] or "imported"
    taken: set[str] = set()
    for peer in peers:
        wanted = peer.name or stem
        number, name = 1, wanted
        while name in taken:
            number += 1
            name = f"{wanted[: NAME_CHARACTERS - 6]}-{number}"
        taken.add(name)
        yield name
