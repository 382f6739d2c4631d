"""What a person may set of a peer, and what becomes of its record then.

A field that is not given leaves things as they are; all of a change is done, or nothing.

Not done here: what the other peers have to do with it (contacts.py); saving it (verbs/peers.py).
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from weft.engine.dial import decode_endpoint
from weft.errors import DecodeError, UsageError
from weft.identity import PeerId, decode_wireguard_key
from weft.io.store import ENDPOINTS, NAME_CHARACTERS, StoredPeer
from weft.noise.primitives import KEY_BYTES

MAX_PREFIXES = 1024

Prefixes = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=MAX_PREFIXES)]
KeyText = Annotated[str, Meta(max_length=64)]
KeepaliveSeconds = Annotated[int, Meta(ge=1, le=65535)]


class Change(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is to be different about a peer."""

    name: str | UnsetType | None = UNSET
    """What it is called here, 1 to 63 characters; null takes the name away."""
    allowed_ips: Prefixes | UnsetType = UNSET
    """All prefixes that it may use as its source; a weft node has its own address besides."""
    endpoints: Annotated[list[Annotated[str, Meta(max_length=512)]], Meta(max_length=ENDPOINTS)] | UnsetType = UNSET
    """All that are configured, the best first: `192.0.2.1:1312`, `host.example.org:1312`, `/ip4/192.0.2.1/udp/1312`."""
    keepalive_s: KeepaliveSeconds | UnsetType | None = UNSET
    """How often something is sent at least; null is never."""
    preshared_key: KeyText | UnsetType | None = UNSET
    """Of a WireGuard device, 32 bytes in base64; null takes it away. Counts from the next handshake, which is begun."""
    public_key: KeyText | UnsetType = UNSET
    """The key that a WireGuard device has from now on, in base64; everything else stays."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def of(self, record: StoredPeer) -> StoredPeer:
        """What becomes of a record.

        Raises:
            UsageError: something can't be set, or not of a peer of that kind.
        """
        is_weft = record.kind == "weft"
        if not isinstance(self.name, UnsetType):
            record = replace(record, name=None if self.name is None else checked_name(self.name))
        if not isinstance(self.allowed_ips, UnsetType):
            record = replace(record, allowed_ips=_prefixes(self.allowed_ips))
        if not isinstance(self.endpoints, UnsetType):
            configured = list(dict.fromkeys(str(decode_endpoint(text)) for text in self.endpoints))
            learned = [each for each in record.endpoints if each not in {*record.configured, *configured}]
            record = replace(record, configured=configured, endpoints=[*configured, *learned][:ENDPOINTS])
        if not isinstance(self.keepalive_s, UnsetType):
            record = replace(record, keepalive_s=self.keepalive_s or 0)
        if not isinstance(self.preshared_key, UnsetType):
            if is_weft:
                raise UsageError("a weft peer has the secret of the network and no preshared key of its own")
            psk = self.preshared_key
            record = replace(record, psk=None if psk is None or not any(_key(psk, "preshared")) else psk)
        if not isinstance(self.public_key, UnsetType):
            if is_weft:
                raise UsageError("a weft peer is its key; connect to the new one, and remove this one")
            _key(self.public_key, "public")
            record = replace(record, key=self.public_key)
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
