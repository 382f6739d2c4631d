"""`weft.toml`: what a person decides about a node, as opposed to what the node remembers (`weft.io.store`).

Each key has a default, so an empty file is a valid one. Unknown keys are refused, since a key that is spelled wrong
would silently have no effect. Errors name file, key and line.

Not done here: what each key means and what is wrong with a value (keys.py), the file and the page that say it in words
(manual.py), changing the file (edit.py), and a running node (reload.py); and addresses to dial, which are given with
`weft peer connect` and remembered in the state.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from hashlib import blake2s
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

from weft.engine.keys import BY_NAME, KEYS
from weft.errors import ConfigError, UsageError
from weft.io.durable import read_private
from weft.multiaddr import Multiaddr, decode_multiaddr

FILE_NAME = "weft.toml"
SECRET_CHARACTERS = 16
"""The least that a shared secret must have."""

_SECRET_CONTEXT = b"weft network secret\0"
_PLACE = re.compile(r" - at `\$\.?(.*)`$")


class PeerSection(Struct, frozen=True, kw_only=True):
    """How the node meets others."""

    listen: tuple[str, ...] = ("/ip4/0.0.0.0/udp/1312", "/ip6/::/udp/1312")
    """UDP listeners, as multiaddrs without a peer."""
    accept: Literal["any", "known"] = "any"
    """Whose handshakes are answered: everybody's, or those of peers in the state."""
    keepalive_s: int = 25
    """Persistent keepalive towards peers, seconds; 0 is none."""
    fwmark: int = 0
    """SO_MARK of the sockets of the underlay; 0 is none."""

    @property
    def listen_multiaddrs(self) -> list[Multiaddr]:
        """The listeners, decoded."""
        return [decode_multiaddr(text) for text in self.listen]


class TransportSection(Struct, frozen=True, kw_only=True):
    """What carries the tunnels."""

    ip4: bool = True
    ip6: bool = True


class NetworkSection(Struct, frozen=True, kw_only=True):
    """Which network the node belongs to."""

    secret_file: str | None = None
    """File of the shared secret, relative to the directory of the configuration."""


class Fc00Section(Struct, frozen=True, kw_only=True):
    """The interface with the node's address in fc00::/8."""

    device: Literal["auto", "tun", "stack"] = "auto"
    """What the interface is: one of the system, or a host inside the node."""
    ifname: str = "weft0"
    routes: Literal["all", "peers"] = "all"
    """Which addresses in fc00::/8 are routed to it: all, or those of peers."""
    addresses: tuple[str, ...] = ()
    """More addresses of this node, each with its prefix length."""
    dns: tuple[str, ...] = ()
    """Servers of DNS in the network, which know names that the node does not; none for those of the system."""
    refuse: Literal["reject", "drop"] = "reject"
    """Whether whoever sends what the firewall does not allow is told."""

    @property
    def interface_addresses(self) -> list[IPv4Interface | IPv6Interface]:
        """The further addresses, decoded."""
        return [ip_interface(text) for text in self.addresses]


class ApiSection(Struct, frozen=True, kw_only=True):
    """How programs ask the daemon."""

    listen: str | None = None
    """Loopback address and port, besides the Unix socket."""
    token_file: str = "api.token"
    """What whoever asks there must show, relative to the directory of the configuration."""


class LogSection(Struct, frozen=True, kw_only=True):
    """What the daemon says about itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    file: str | None = None
    """Relative to the directory of the configuration; None for standard error."""


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration, valid in itself."""

    peer: PeerSection = PeerSection()
    transport: TransportSection = TransportSection()
    network: NetworkSection = NetworkSection()
    fc00: Fc00Section = Fc00Section()
    api: ApiSection = ApiSection()
    log: LogSection = LogSection()

    def value(self, name: str) -> Any:
        """The value of a key, such as `peer.listen`."""
        section, _, field = name.partition(".")
        return getattr(getattr(self, section), field)

    def has_transport(self, address: Multiaddr) -> bool:
        """Whether what carries a listener of that address is switched on."""
        return self.transport.ip6 if ":" in address.endpoint()[0] else self.transport.ip4

    @property
    def listeners(self) -> list[Multiaddr]:
        """Those whose transport is switched on."""
        return [address for address in self.peer.listen_multiaddrs if self.has_transport(address)]


def load_config(path: Path) -> Config:
    """Read and check `weft.toml`.

    Args:
        path: the file.

    Raises:
        ConfigError: It is missing, no TOML, or has an unknown key or a value that makes no sense; it names the first.
    """
    return decode_config(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Read a file of text.

    Raises:
        ConfigError: it is missing, can't be read, or is no text.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError("does not exist; run `weft init` to make it", file=str(path)) from None
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror or error}", file=str(path)) from None
    except UnicodeDecodeError:
        raise ConfigError("is not text in UTF-8", file=str(path)) from None


def decode_config(text: str, file: str) -> Config:
    """Check the content of a `weft.toml`.

    Args:
        text: the content.
        file: its name, for errors; empty for a content that is in no file yet, whose lines nobody could look up.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"is not valid TOML: {error}", file=file) from None
    for key, message in _unknown_keys(document):
        raise _config_error(message, file, key, text)
    try:
        config = msgspec.convert(document, Config)
    except msgspec.ValidationError as error:
        message, place = str(error), _PLACE.search(str(error))
        key = re.sub(r"\[.*\]$", "", place[1]) if place else ""
        raise _config_error(_in_our_words(key, _PLACE.sub("", message)), file, key, text) from None
    for key, message in _faults(config):
        raise _config_error(message, file, key, text)
    return config


def check_config(config: Config) -> None:
    """Check a configuration that a program has made.

    Raises:
        UsageError: a value makes no sense; names its key.
    """
    for key, message in _faults(config):
        raise UsageError(f"{key}: {message}")


def type_of(name: str) -> Any:
    """The type of the values of a key."""
    section, _, field = name.partition(".")
    fields = msgspec.structs.fields(_SECTION_TYPES[section])
    return next(each.type for each in fields if each.name == field)


_SECTION_TYPES: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Config)}


def network_psk(secret: bytes) -> bytes:
    """Make the preshared key of a network, which every weft peer of it mixes into its handshakes.

    Args:
        secret: what the members share; white space around it, such as the end of a line, does not count.

    Returns:
        32 bytes: BLAKE2s-256 of `weft network secret`, a zero byte, and the secret.

    Raises:
        UsageError: The secret is empty or shorter than 16 bytes.
    """
    secret = secret.strip()
    if len(secret) < SECRET_CHARACTERS:
        raise UsageError(
            f"a shared secret needs at least {SECRET_CHARACTERS} characters; `wg genpsk` prints a good one"
        )
    return blake2s(_SECRET_CONTEXT + secret).digest()


def load_network_psk(config: Config, directory: Path) -> bytes | None:
    """Read the shared secret that the configuration names.

    Args:
        config: what `load_config` gave.
        directory: where `weft.toml` is.

    Returns:
        32 bytes; None if the configuration names no secret.

    Raises:
        ConfigError: The file is missing, others may read it, or the secret is too short.
    """
    if config.network.secret_file is None:
        return None
    path = directory / config.network.secret_file
    try:
        return network_psk(read_private(path))
    except FileNotFoundError:
        message = "does not exist; write the network's shared secret into it, or remove the key from weft.toml"
        raise ConfigError(message, file=str(path), key="network.secret_file") from None
    except UsageError as error:
        raise ConfigError(str(error), file=str(path), key="network.secret_file") from None


def _config_error(message: str, file: str, key: str, text: str) -> ConfigError:
    line = line_of(key, text) if file else None
    return ConfigError(f"{message} (line {line})" if line else message, file=file, key=key)


def line_of(dotted: str, text: str) -> int | None:
    """The line that sets a key, or opens a section, where the file is written in the usual way.

    Args:
        dotted: `peer.listen`, or `peer`.
        text: of the file.
    """
    section, _, key = dotted.partition(".")
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w-]+)\s*\]", line):
            current = header[1]
            if current == dotted:
                return number
        assignment = re.match(r"\s*([\w-]+)\s*[=.]", line)
        if assignment and (current, assignment[1]) in {(section, key), ("", section)}:
            return number
    return None


def _unknown_keys(document: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Dotted key and message of each section and key that a `Config` does not have."""
    for section, content in document.items():
        if section not in _SECTION_TYPES:
            yield section, unknown(section, "section", list(_SECTION_TYPES))
        elif isinstance(content, dict):
            known = [key.field for key in KEYS if key.section == section]
            yield from ((f"{section}.{key}", unknown(key, "key", known)) for key in content if key not in known)


def unknown(name: str, kind: str, known: list[str]) -> str:
    """What to tell a person who wrote a name that there isn't."""
    near = difflib.get_close_matches(name, known, 1)
    return f"unknown {kind}; did you mean {near[0]}?" if near else f"unknown {kind}; there are: {', '.join(known)}"


def _in_our_words(key: str, message: str) -> str:
    """What the decoder says of a value, but of one that is none of a few, which they are."""
    _, is_choice, value = message.partition("Invalid enum value ")
    return f"expected {' or '.join(get_args(type_of(key)))}, not {value}" if is_choice and key in BY_NAME else message


def _faults(config: Config) -> Iterator[tuple[str, str]]:
    """Dotted key and message of each value that has the right type and makes no sense."""
    for key in KEYS:
        fault = key.check(config.value(key.name))
        if fault is not None:
            yield key.name, fault
    if not config.listeners:
        off = "transport.ip4" if not config.transport.ip4 else "transport.ip6"
        yield off, "no listener would be left: peer.listen has none of a transport that is on"
