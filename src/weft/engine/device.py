"""This node as `wg` sees an interface: the values of the userspace protocol, and what may be changed of them.

Weft nodes and stock devices are one kind of peer here. Keys are bytes, and secret ones show in no `repr`.

Source: the cross-platform userspace implementation document of WireGuard, "Configuration Protocol".
Not done here: the protocol's text (api/uapi.py), and how a change is made (verbs/wireguard.py); this file is what the
command and the API need of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Final

from msgspec import Meta, Struct

from weft.engine.status import SCHEMA
from weft.errors import UsageError

Network = IPv4Network | IPv6Network

NO_KEY: Final = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePeer:
    """One peer."""

    public_key: bytes
    preshared_key: bytes = field(default=NO_KEY, repr=False)
    """Zeros are none."""
    endpoint: str | None = None
    """`192.0.2.1:1312` or `[2001:db8::1]:1312`, never a name."""
    handshake_at_ns: int = 0
    """Of the last one, ns since 1970; 0 before the first."""
    tx_bytes: int = 0
    rx_bytes: int = 0
    keepalive_s: int = 0
    """0 is none."""
    allowed_ips: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The node."""

    private_key: bytes = field(repr=False)
    listen_port: int
    fwmark: int
    """0 is none."""
    peers: tuple[DevicePeer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedIpChange:
    """A prefix that a peer gets, or that is taken from it."""

    network: Network
    remove: bool = False


@dataclass(slots=True, kw_only=True)
class PeerChange:
    """What is to be done with one peer; what is None stays as it is.

    Attributes:
        remove: forget it; nothing else counts then.
        update_only: do nothing if there is no such peer.
        name: of a new peer.
        preshared_key: 32 bytes; zeros take it away.
        endpoint: address or name, and port.
        keepalive_s: 0 is none.
        replace_allowed_ips: take all prefixes away before `allowed_ips` are looked at.
    """

    public_key: bytes
    remove: bool = False
    update_only: bool = False
    name: str | None = None
    preshared_key: bytes | None = field(default=None, repr=False)
    endpoint: str | None = None
    keepalive_s: int | None = None
    replace_allowed_ips: bool = False
    allowed_ips: list[AllowedIpChange] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class DeviceChange:
    """What is to be done with the node; what is None stays as it is.

    Attributes:
        private_key: that of the node, or zeros, which leave it as it is; no other can be set.
        listen_port: 0 is any, which the one in use is.
        fwmark: 0 is none.
        replace_peers: forget the peers that are not named in `peers`.
    """

    private_key: bytes | None = field(default=None, repr=False)
    listen_port: int | None = None
    fwmark: int | None = None
    replace_peers: bool = False
    peers: list[PeerChange] = field(default_factory=list)


class PeerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stock device, as a `[Peer]` of a wg-quick file has it."""

    public_key: Annotated[str, Meta(max_length=64, description="X25519 public key, base64.")]
    name: Annotated[str, Meta(min_length=1, max_length=63)]
    allowed_ips: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(min_length=1, max_length=1024)]
    endpoint: Annotated[str, Meta(max_length=512)] | None = None
    preshared_key: Annotated[str, Meta(max_length=64)] | None = None
    keepalive_s: Annotated[int, Meta(ge=0, le=65535)] | None = None

    def __repr__(self) -> str:
        return f"PeerSettings(public_key={self.public_key!r}, name={self.name!r}, …)"


class DeviceConfig(Struct, frozen=True, kw_only=True):
    """What a stock device must be told to take part, but for its private key, which nobody else knows."""

    schema: int = SCHEMA
    name: str | None
    """Of the device here; None for one that is not a peer yet, which has no addresses and no preshared key either."""
    device_public_key: str | None
    addresses: list[str]
    """Those that the device may use, `10.7.0.2/32`."""
    public_key: str
    """Of this node, base64."""
    preshared_key: str | None
    allowed_ips: list[str]
    """Networks behind this node."""
    endpoints: list[str]
    """Where this node is, `192.0.2.1:1312`; the one that is the likeliest to be reached first."""

    def __repr__(self) -> str:
        return f"DeviceConfig(name={self.name!r}, …)"


class ChangeRefusedError(UsageError):
    """A change that this node does not make.

    Attributes:
        errno: what `wg` is told, for it can't be told in words.
    """

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno
