"""Everything that a node keeps on disk: who it is, whom it knows, and the lock that keeps a second daemon away.

    <directory>/      mode 0700
        key           the Ed25519 seed, with the peer id and the address to check it against (TOML)
        state.json    peers, firewall rules, the last timestamp
        lock          held by the daemon that runs here

Both files have mode 0600 and are written whole or not at all (`weft.io.durable`). A file that is torn, was edited into
something else or comes from a newer weft is refused with one line that says what to do, and is never written over: it
may be all that is left of somebody's network.

Not done here: `weft.toml`, which people write (`weft.engine.config`), and the meaning of the firewall rules.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from weft.errors import ConfigError, DecodeError
from weft.identity import Identity, PeerId, decode_wireguard_key
from weft.io import durable
from weft.multiaddr import decode_multiaddr

VERSION = 2
"""Version of `state.json`; it grows when an older weft would misread the file."""
TIMESTAMP_BYTES = 12
ENDPOINTS = 8
"""Endpoints that are kept for a peer."""
NAME_CHARACTERS = 63

Standing = Literal["wanted", "known", "stranger", "blocked"]
"""What a peer is to the node; the table is in `weft.engine.contacts`."""

_KEY_HEADER = """\
# The secret key of this weft node. Whoever has it is this node: show it to nobody, and keep a copy in a safe place.
"""
_KEY_LOST = "restore it from a copy, or remove it and run `weft init` for a new identity"
_STATE_LOST = "repair it, or move it away to begin without peers"


class StoredPeer(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A peer that the node was told of, and what it must know to reach it again."""

    key: str
    """Peer id; or the X25519 key as `wg` prints it, of a peer that runs stock WireGuard or has not told its peer id."""
    kind: Literal["weft", "wireguard"]
    name: str | None = None
    standing: Standing = "wanted"
    allowed_ips: list[str] = []
    """Prefixes behind it; a weft peer has its own address besides, which is not among them."""
    endpoints: list[str] = []
    """Where it may be, the newest first: multiaddrs."""
    configured: list[str] = []
    """Those of its endpoints that a person named; the others it proved by itself."""
    psk: str | None = None
    """Preshared key of a stock peer, as `wg` prints it."""
    keepalive_s: int | None = None
    """Persistent keepalive; 0 is none, and without a value it is what the node gives peers of that kind."""

    @property
    def peer_id(self) -> PeerId | None:
        """The peer id; None for a peer that is known by its X25519 key only.

        Raises:
            DecodeError: The key is neither; never for a peer that was loaded or could be saved.
        """
        return None if self.key.endswith("=") else _decode_peer_id(self.key)

    @property
    def noise_public_key(self) -> bytes:
        """The X25519 public key, 32 bytes.

        Raises:
            DecodeError: As for `peer_id`.
        """
        peer_id = self.peer_id
        return decode_wireguard_key(self.key) if peer_id is None else peer_id.noise_public_key

    def __repr__(self) -> str:
        return f"StoredPeer(key={self.key!r}, kind={self.kind!r}, name={self.name!r})"


class State(Struct, kw_only=True, forbid_unknown_fields=True):
    """What the node remembers from one run to the next."""

    version: int = VERSION
    peers: list[StoredPeer] = []
    allow: list[str] = []
    """Firewall rules such as `/tcp/80`, in the order in which they are shown."""
    timestamp_floor: str = "00" * TIMESTAMP_BYTES
    """The greatest TAI64N timestamp that handshakes have carried, in hex: peers refuse any that does not exceed it."""


class _KeyFile(Struct):
    seed: str
    peer_id: str
    address: str

    def __repr__(self) -> str:
        return f"_KeyFile(peer_id={self.peer_id!r}, …)"


class _Version(Struct):
    version: int


class Store:
    """The files of one node.

    Nothing is read or written before a method says so, and nothing is kept in memory.

    Args:
        directory: made with mode 0700 when the first file is written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key_path = directory / "key"
        self.state_path = directory / "state.json"
        self.lock_path = directory / "lock"

    def lock(self) -> durable.DirectoryLock:
        """Take the directory for this process, and remove what a power cut left half-written there.

        Raises:
            ConfigError: Another daemon has it, or the system refused.
        """
        durable.make_directory(self.directory)
        return durable.DirectoryLock(self.lock_path)

    def create_key(self, identity: Identity) -> None:
        """Write the key file of a new identity.

        Raises:
            ConfigError: There is a key file already, which is never written over; or the system refused.
        """
        durable.make_directory(self.directory)
        try:
            durable.create_file(self.key_path, encode_key(identity))
        except FileExistsError:
            message = "exists already: this directory has an identity, which is never written over"
            raise ConfigError(message, file=str(self.key_path)) from None

    def load_key(self) -> Identity:
        """Read the key file and check that its parts belong together.

        Raises:
            ConfigError: There is none, others may read it, it is torn, or its parts contradict each other.
        """
        try:
            data = durable.read_private(self.key_path)
        except FileNotFoundError:
            message = "does not exist; run `weft init` to make an identity"
            raise ConfigError(message, file=str(self.key_path)) from None
        return decode_key(data, str(self.key_path), _KEY_LOST)

    def load_state(self) -> State:
        """Read the state; a node without a state file begins with an empty one.

        Raises:
            ConfigError: The file is torn, has a value that makes no sense, comes from a newer weft, or others may read
                it. It is left as it is.
        """
        file = str(self.state_path)
        try:
            data = durable.read_private(self.state_path)
            version = msgspec.json.decode(data, type=_Version).version
            if version != VERSION:
                message = f"is of version {version}, this weft knows version {VERSION}; use the weft that wrote it"
                raise ConfigError(message, file=file, key="version")
            state = msgspec.json.decode(data, type=State)
        except FileNotFoundError:
            return State()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"is torn or was edited ({error}); {_STATE_LOST}", file=file) from None
        self._check(state, _STATE_LOST)
        return state

    def save_state(self, state: State) -> None:
        """Write the state durably: after this it survives a power cut, and until then the old one does.

        Raises:
            ConfigError: It has a value that `load_state` would refuse, or the system refused; the old file is left.
        """
        self._check(state, "the state was not saved")
        durable.make_directory(self.directory)
        encoded = msgspec.json.format(msgspec.json.encode(state), indent=2)
        durable.replace_file(self.state_path, encoded + b"\n")

    def _check(self, state: State, consequence: str) -> None:
        fault = next(_faults(state), None)
        if fault is not None:
            key, expected = fault
            raise ConfigError(f"expected {expected}; {consequence}", file=str(self.state_path), key=key)


def encode_key(identity: Identity) -> bytes:
    """The content of a key file. It is the secret itself."""
    lines = (
        f'peer_id = "{identity.peer_id}"',
        f'address = "{IPv6Address(identity.address)}"',
        f'seed = "{identity.seed.hex()}"',
    )
    return (_KEY_HEADER + "\n".join(lines) + "\n").encode()


def decode_key(data: bytes, file: str, advice: str) -> Identity:
    """Read the content of a key file and check that its parts belong together.

    Args:
        data: the content.
        file: where it comes from, for errors.
        advice: what a person can do if it is torn.

    Raises:
        ConfigError: It is torn, or its parts contradict each other.
    """
    try:
        content = msgspec.convert(tomllib.loads(data.decode()), _KeyFile)
        identity = Identity(bytes.fromhex(content.seed))
    except msgspec.ValidationError as error:
        raise ConfigError(f"is torn or was edited ({error}); {advice}", file=file) from None
    except (ValueError, RecursionError, DecodeError):
        # What was wrong with the seed is not told: it might be quoted.
        raise ConfigError(f"is torn or was edited; {advice}", file=file) from None
    for key, stored, computed in (
        ("peer_id", content.peer_id, str(identity.peer_id)),
        ("address", content.address, str(IPv6Address(identity.address))),
    ):
        if stored != computed:
            message = f"does not belong to the seed, whose {key} is {computed}; {advice}"
            raise ConfigError(message, file=file, key=key)
    return identity


# A node saves the same peers again and again, and each takes modular powers.
_decode_peer_id = lru_cache(maxsize=4096)(PeerId.from_text)


def _is_hex(text: str, size: int) -> bool:
    return len(text) == 2 * size and len(bytes.fromhex(text)) == size


_PEER_RULES: tuple[tuple[str, str, Callable[[StoredPeer], object]], ...] = (
    ("key", "a peer id (12D3KooW…) or a WireGuard key (base64)", lambda peer: peer.noise_public_key),
    ("key", "the WireGuard key of a stock peer", lambda peer: peer.kind == "weft" or peer.peer_id is None),
    (
        "name",
        f"1 to {NAME_CHARACTERS} printable characters",
        lambda peer: peer.name is None or (peer.name.isprintable() and 0 < len(peer.name) <= NAME_CHARACTERS),
    ),
    ("allowed_ips", "prefixes such as 10.0.0.0/24", lambda peer: list(map(ip_network, peer.allowed_ips)) or True),
    (
        "endpoints",
        f"at most {ENDPOINTS} multiaddrs such as /ip4/192.0.2.1/udp/1312",
        lambda peer: list(map(decode_multiaddr, peer.endpoints)) or True,
    ),
    ("endpoints", f"at most {ENDPOINTS}", lambda peer: len(peer.endpoints) <= ENDPOINTS),
    ("configured", "some of its endpoints", lambda peer: set(peer.configured) <= set(peer.endpoints)),
    ("psk", "a WireGuard preshared key (base64)", lambda peer: peer.psk is None or decode_wireguard_key(peer.psk)),
    ("psk", "none with a weft peer", lambda peer: peer.kind == "wireguard" or peer.psk is None),
    ("keepalive_s", "0 to 65535 seconds", lambda peer: 0 <= (peer.keepalive_s or 0) <= 0xFFFF),
)
"""Field, what it must be, and a test that is false or raises where it is not."""


def _faults(state: State) -> Iterator[tuple[str, str]]:
    """Dotted key of each value that makes no sense, and what it must be."""
    if not _holds(lambda: _is_hex(state.timestamp_floor, TIMESTAMP_BYTES)):
        yield "timestamp_floor", f"{TIMESTAMP_BYTES} bytes in hex"
    known: set[bytes] = set()
    names: set[str | None] = set()
    taken: set[IPv4Network | IPv6Network] = set()
    for index, peer in enumerate(state.peers):
        for field, expected, rule in _PEER_RULES:
            if not _holds(partial(rule, peer)):
                yield f"peers[{index}].{field}", expected
                return
        if peer.noise_public_key in known:
            yield f"peers[{index}].key", "each peer once, whether by peer id or by WireGuard key"
        known.add(peer.noise_public_key)
        if peer.name is not None and peer.name in names:
            yield f"peers[{index}].name", "each name once"
        names.add(peer.name)
        # Who is blocked has none while others may.
        networks = set(map(ip_network, peer.allowed_ips)) if peer.standing != "blocked" else set()
        if networks & taken:
            yield f"peers[{index}].allowed_ips", "each prefix once"
        taken |= networks


def _holds(rule: Callable[[], object]) -> bool:
    try:
        return bool(rule())
    except (ValueError, DecodeError):
        return False
