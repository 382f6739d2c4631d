"""What becomes of the record of a peer when a person changes something about it.

Not done here: what the other peers have to do with it (contacts.py); saving it (verbs/peers.py).
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import NamedTuple

from msgspec import UnsetType
from msgspec.structs import replace

from weft.engine.change import Change
from weft.engine.dial import decode_endpoint
from weft.errors import DecodeError, UsageError
from weft.identity import PeerId, decode_wireguard_key
from weft.io.store import ENDPOINTS, NAME_CHARACTERS, StoredPeer
from weft.noise.primitives import KEY_BYTES


class Step(NamedTuple):
    """One peer of several that are changed together."""

    key: bytes
    """X25519, 32 bytes."""
    record: StoredPeer | None
    """What takes the place of its record; None forgets it."""
    change: Change = Change()
    """What that came from, for its session to follow."""
    heir: bytes | None = None
    """Whose its firewall rules become, where it is forgotten because it has another key from now on."""


def settled(record: StoredPeer, change: Change) -> StoredPeer:
    """What becomes of a record.

    Raises:
        UsageError: something can't be set, or not of a peer of that kind.
    """
    is_weft = record.kind == "weft"
    if not isinstance(change.name, UnsetType):
        record = replace(record, name=None if change.name is None else checked_name(change.name))
    if not isinstance(change.allowed_ips, UnsetType):
        record = replace(record, allowed_ips=_prefixes(change.allowed_ips))
    if not isinstance(change.endpoints, UnsetType):
        configured = list(dict.fromkeys(str(decode_endpoint(text)) for text in change.endpoints))
        learned = [each for each in record.endpoints if each not in {*record.configured, *configured}]
        record = replace(record, configured=configured, endpoints=[*configured, *learned][:ENDPOINTS])
    if not isinstance(change.keepalive_s, UnsetType):
        record = replace(record, keepalive_s=change.keepalive_s or 0)
    if not isinstance(change.preshared_key, UnsetType):
        if is_weft:
            raise UsageError("a weft peer has the secret of the network and no preshared key of its own")
        psk = change.preshared_key
        record = replace(record, psk=None if psk is None or not any(_key(psk, "preshared")) else psk)
    if not isinstance(change.public_key, UnsetType):
        if is_weft:
            raise UsageError("a weft peer is its key; connect to the new one, and remove this one")
        _key(change.public_key, "public")
        record = replace(record, key=change.public_key)
    return record


def checked_name(name: str) -> str:
    """A name that a peer can have: it is not mistaken for anything else that peers are found by.

    Raises:
        UsageError: it is too long, has characters that don't print, or reads as an address or a key.
    """
    if not (0 < len(name) <= NAME_CHARACTERS and name.isprintable() and name == name.strip()):
        raise UsageError(
            f"{name!r} is no name for a peer: 1 to {NAME_CHARACTERS} printable characters, no space at the ends"
        )
    if name.startswith(("/", "-")) or _reads_as_more(name):
        raise UsageError(f"{name!r} is no name for a peer: it reads as an address, an option or a key")
    return name


def _reads_as_more(name: str) -> bool:
    for decode in (ip_address, decode_wireguard_key, PeerId.from_text):
        try:
            decode(name)
        except (ValueError, DecodeError):
            continue
        return True
    return False


def _prefixes(texts: list[str]) -> list[str]:
    """Each once, as networks are written."""
    networks = []
    for text in texts:
        try:
            networks.append(str(ip_network(text, strict=False)))
        except ValueError:
            raise UsageError(f"{text}: expected a prefix such as 10.7.0.0/24 or fd07::/64") from None
    return list(dict.fromkeys(networks))


def _key(text: str, kind: str) -> bytes:
    try:
        return decode_wireguard_key(text)
    except DecodeError:
        raise UsageError(f"the {kind} key is none: expected {2 * KEY_BYTES - 20} characters of base64") from None
