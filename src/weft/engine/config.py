"""`weft.toml`: what a person decides about a node, as opposed to what the node remembers (`weft.io.store`).

    [peer]      listen, accept, keepalive_s
    [network]   secret_file
    [fc00]      ifname, refuse

Each key has a default, so an empty file is a valid one; `render_default` is the file that says so in words. Unknown
keys are refused, since a key that is spelled wrong would silently have no effect. Errors name file, key and line.

Not done here: which changes of a running node need a restart (the engine says so), and addresses to dial, which are
given with `weft peer connect` and remembered in the state.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from hashlib import blake2s
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from weft.errors import ConfigError, DecodeError, UsageError
from weft.io.durable import read_private
from weft.multiaddr import Multiaddr, decode_multiaddr

FILE_NAME = "weft.toml"
LISTENERS = 16
SECRET_CHARACTERS = 16
"""The least that a shared secret must have."""

_SECRET_CONTEXT = b"weft network secret\0"
_IFNAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_PLACE = re.compile(r" - at `\$\.?(.*)`$")

_DEFAULT = """\
# weft.toml: what this node does. Every line below shows the default; delete what you do not change.

[peer]
# Where to listen: UDP ports of addresses of this machine, 0.0.0.0 and :: being all of them, port 0 any free one.
listen = ["/ip4/0.0.0.0/udp/1312", "/ip6/::/udp/1312"]

# Who may connect: "any" peer, or "known" ones only, which are those that this node was told of.
# The firewall refuses what peers send to this machine until it is allowed, whoever they are.
accept = "any"

# A NAT forgets who was silent for a while, and then nobody gets through to what is behind it. Seconds between packets
# that remind it; 0 for none.
keepalive_s = 25

[network]
# With a shared secret, only weft nodes that have the same one can talk to this node. It is the content of this file,
# which only its owner may read: at least 16 characters, better what `wg genpsk` prints. The name is relative to the
# directory of weft.toml. Not set by default.
# secret_file = "network.secret"

[fc00]
# Name of the network interface.
ifname = "weft0"

# What a peer hears whose packet the firewall does not allow: "reject" tells it at once, "drop" lets it wait.
refuse = "reject"
"""


class PeerSection(Struct, frozen=True, kw_only=True):
    """How the node meets others."""

    listen: tuple[str, ...] = ("/ip4/0.0.0.0/udp/1312", "/ip6/::/udp/1312")
    """UDP listeners, as multiaddrs without a peer."""
    accept: Literal["any", "known"] = "any"
    """Whose handshakes are answered: everybody's, or those of peers in the state."""
    keepalive_s: int = 25
    """Persistent keepalive towards peers, seconds; 0 is none."""

    @property
    def listen_multiaddrs(self) -> list[Multiaddr]:
        """The listeners, decoded."""
        return [decode_multiaddr(text) for text in self.listen]


class NetworkSection(Struct, frozen=True, kw_only=True):
    """Which network the node belongs to."""

    secret_file: str | None = None
    """File of the shared secret, relative to the directory of the configuration."""


class Fc00Section(Struct, frozen=True, kw_only=True):
    """The interface with the node's address in fc00::/8."""

    ifname: str = "weft0"
    refuse: Literal["reject", "drop"] = "reject"
    """Whether whoever sends what the firewall does not allow is told."""


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration, valid in itself."""

    peer: PeerSection = PeerSection()
    network: NetworkSection = NetworkSection()
    fc00: Fc00Section = Fc00Section()


def load_config(path: Path) -> Config:
    """Read and check `weft.toml`.

    Args:
        path: the file.

    Raises:
        ConfigError: It is missing, no TOML, or has an unknown key or a value that makes no sense; it names the first.
    """
    file = str(path)
    try:
        text = path.read_text("utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError("does not exist; run `weft init` to make it", file=file) from None
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror or error}", file=file) from None
    except UnicodeDecodeError:
        raise ConfigError("is not text in UTF-8", file=file) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"is not valid TOML: {error}", file=file) from None
    for key, message in _unknown_keys(document):
        raise _config_error(message, file, key, text)
    try:
        config = msgspec.convert(document, Config)
    except msgspec.ValidationError as error:
        message, place = str(error), _PLACE.search(str(error))
        key = re.sub(r"\[.*\]$", "", place[1]) if place else ""
        raise _config_error(_PLACE.sub("", message), file, key, text) from None
    for key, message in _faults(config):
        raise _config_error(message, file, key, text)
    return config


def render_default() -> str:
    """Give the commented `weft.toml` that `weft init` writes: all defaults, each with what it means."""
    return _DEFAULT


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
    line = _line_of(key, text)
    return ConfigError(f"{message} (line {line})" if line else message, file=file, key=key)


def _line_of(dotted: str, text: str) -> int | None:
    """The line that sets a key, or opens a section, where the file is written in the usual way."""
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
    sections = {field.name: field.type for field in msgspec.structs.fields(Config)}
    for section, content in document.items():
        if section not in sections:
            yield section, _unknown(section, "section", list(sections))
        elif isinstance(content, dict):
            known = [field.name for field in msgspec.structs.fields(sections[section])]
            yield from ((f"{section}.{key}", _unknown(key, "key", known)) for key in content if key not in known)


def _unknown(name: str, kind: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"unknown {kind}; did you mean {near[0]}?" if near else f"unknown {kind}; there are: {', '.join(known)}"


def _faults(config: Config) -> Iterator[tuple[str, str]]:
    """Dotted key and message of each value that has the right type and makes no sense."""
    if not 1 <= len(config.peer.listen) <= LISTENERS:
        yield "peer.listen", f"expected 1 to {LISTENERS} listeners"
    for text in config.peer.listen:
        try:
            address = decode_multiaddr(text)
        except DecodeError as error:
            yield "peer.listen", str(error)
            return
        if address.transport != "udp" or address.peer_id is not None or address.components[0].protocol == "dns":
            yield "peer.listen", f"expected UDP listeners such as /ip4/0.0.0.0/udp/1312, not {text!r}"
    if len(set(config.peer.listen_multiaddrs)) < len(config.peer.listen):
        yield "peer.listen", "expected each listener once"
    if not 0 <= config.peer.keepalive_s <= 0xFFFF:
        yield "peer.keepalive_s", "expected 0 to 65535 seconds"
    secret_file = config.network.secret_file
    if secret_file is not None and not (secret_file and secret_file.isprintable()):
        yield "network.secret_file", "expected the name of a file; remove the line for a network without a secret"
    if not _IFNAME.fullmatch(config.fc00.ifname):
        yield (
            "fc00.ifname",
            "expected an interface name such as weft0: at most 15 letters, digits, _ . and -",
        )
