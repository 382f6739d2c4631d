"""What goes into the HTTP API and what comes out of it, beyond the engine's own values.

Parameters are strict: a field that a route does not know is refused, so that a misspelt one is never ignored. Every
reply carries `schema`, the version of its shape.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from weft.engine.status import SCHEMA, PeerStatus, TaskStatus

PeerName = Annotated[
    str, Meta(min_length=1, max_length=256, description="Peer id, name, overlay address, or base64 public key.")
]
Seconds = Annotated[float, Meta(gt=0, le=300, description="How long to wait for the other side.")]
Rules = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=64)]],
    Meta(min_length=1, max_length=1024, description="`/tcp/80`, `/udp/0` (all ports), `/icmp`."),
]


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class Connect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to call."""

    multiaddr: Annotated[
        str, Meta(min_length=1, max_length=1024, description="`/ip4/192.0.2.1/udp/1312/p2p/12D3KooW…`")
    ]
    timeout_s: Seconds = 10.0


class Disconnect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to forget."""

    peer: PeerName


class AddWireguard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stock WireGuard device."""

    public_key: Annotated[str, Meta(max_length=64, description="X25519 public key, base64.")]
    name: Annotated[str, Meta(min_length=1, max_length=63)]
    allowed_ips: Annotated[
        list[Annotated[str, Meta(max_length=64)]],
        Meta(min_length=1, max_length=1024, description="Prefixes that the device may use as its source."),
    ]
    endpoint: Annotated[str, Meta(max_length=512, description="`192.0.2.1:51820`, `host.example.org:51820`")] | None = (
        None
    )
    preshared_key: Annotated[str, Meta(max_length=64, description="32 bytes, base64.")] | None = None
    keepalive_s: Annotated[float, Meta(gt=0, le=65535)] | None = None

    def __repr__(self) -> str:
        return f"AddWireguard(public_key={self.public_key!r}, name={self.name!r}, …)"


class Ping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to probe, and how."""

    peer: PeerName
    timeout_s: Seconds = 5.0
    size: Annotated[int, Meta(ge=0, le=65535, description="Bytes of the probe inside the tunnel.")] | None = None


class StartInterface(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which interface to make."""

    ifname: Annotated[str, Meta(min_length=1, max_length=15)] | None = None


class ChangePorts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rules to add or to take back."""

    rules: Rules


class RestartTask(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which task to restart."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]


class PeerReply(Struct, frozen=True, kw_only=True):
    """One peer."""

    schema: int = SCHEMA
    peer: PeerStatus


class TaskList(Struct, frozen=True, kw_only=True):
    """All tasks."""

    schema: int = SCHEMA
    tasks: list[TaskStatus]


class TaskReply(Struct, frozen=True, kw_only=True):
    """One task."""

    schema: int = SCHEMA
    task: TaskStatus


class Done(Struct, frozen=True, kw_only=True):
    """It was done, and there is nothing more to say."""

    schema: int = SCHEMA
