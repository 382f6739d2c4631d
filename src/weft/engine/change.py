"""What a person may set of a peer.

A field that is not given leaves things as they are; all of a change is done, or nothing.

Not done here: what becomes of the peer's record (settle.py); this file is what the command and the API need of it.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

Prefixes = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=1024)]
KeyText = Annotated[str, Meta(max_length=64)]
KeepaliveSeconds = Annotated[int, Meta(ge=1, le=65535)]


class Change(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is to be different about a peer."""

    name: str | UnsetType | None = UNSET
    """What it is called here, 1 to 63 characters; null takes the name away."""
    allowed_ips: Prefixes | UnsetType = UNSET
    """All prefixes that it may use as its source; a weft node has its own address besides."""
    endpoints: Annotated[list[Annotated[str, Meta(max_length=512)]], Meta(max_length=8)] | UnsetType = UNSET
    """All that are configured, the best first: `192.0.2.1:1312`, `host.example.org:1312`, `/ip4/192.0.2.1/udp/1312`."""
    keepalive_s: KeepaliveSeconds | UnsetType | None = UNSET
    """How often something is sent at least; null is never."""
    preshared_key: KeyText | UnsetType | None = UNSET
    """Of a WireGuard device, 32 bytes in base64; null takes it away. Counts from the next handshake, which is begun."""
    public_key: KeyText | UnsetType = UNSET
    """The key that a WireGuard device has from now on, in base64; everything else stays."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"
