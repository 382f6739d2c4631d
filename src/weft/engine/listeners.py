"""What the engine tells about its listeners and transports; apart from what makes it, so that commands load fast."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from weft.engine.status import SCHEMA


class ListenerStatus(Struct, frozen=True, kw_only=True):
    """One listener of the configuration."""

    multiaddr: str
    """As it is configured."""
    transport: Literal["ip4", "ip6"]
    state: Literal["open", "off", "closed"]
    """`off`: its transport is switched off; `closed`: this machine does not have its address, or not its family."""
    bound: str | None = None
    """The real address and port of one that is open."""
    offloads: list[str] = []
    """What the kernel gave: any of `gso`, `gro`, `recvmmsg`."""
    drops: dict[str, int] = {}
    """What could not be sent, by reason."""


class ListenerList(Struct, frozen=True, kw_only=True):
    """All listeners."""

    schema: int = SCHEMA
    listeners: list[ListenerStatus]


class TransportStatus(Struct, frozen=True, kw_only=True):
    """One way to carry tunnels."""

    name: str
    about: str
    enabled: bool
    listeners: list[str]
    """Real addresses and ports of those that are open."""


class TransportList(Struct, frozen=True, kw_only=True):
    """All transports."""

    schema: int = SCHEMA
    transports: list[TransportStatus]
