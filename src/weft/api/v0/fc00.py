"""`/v0/fc00/…`: the interface of fc00::/8 and the firewall in front of it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from weft.api.facade import Facade
from weft.api.v0.route import Nothing, Route
from weft.engine.status import DeviceKind, Interface, Ports

Rules = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=288)]],
    Meta(
        min_length=1,
        max_length=1024,
        description="`/tcp/80`, `/udp/0` (all ports), `/icmp`; `/tcp/22/from/loom` for one peer: its WireGuard key or "
        "peer id, or any name of one that there is.",
    ),
]


class StartInterface(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which interface to make, or to use if somebody else has made it."""

    ifname: Annotated[str, Meta(min_length=1, max_length=15)] | None = None
    existing: Annotated[bool, Meta(description="Use the persistent TUN of that name as it is.")] = False
    socket: (
        Annotated[
            str,
            Meta(min_length=1, max_length=107, description="Unix socket at which the descriptor of a TUN is passed."),
        ]
        | None
    ) = None
    device: (
        Annotated[
            DeviceKind,
            Meta(
                description="What it is, if not what `fc00.device` of the configuration says, `auto` being a TUN here."
            ),
        ]
        | None
    ) = None


class ChangePorts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rules to add or to take back."""

    rules: Rules


async def _status(node: Facade, _: Nothing) -> Interface:
    return node.fc00.status()


async def _start(node: Facade, asked: StartInterface) -> Interface:
    return await node.fc00.start(asked.ifname, existing=asked.existing, socket=asked.socket, device=asked.device)


async def _stop(node: Facade, _: Nothing) -> Interface:
    await node.fc00.stop()
    return node.fc00.status()


async def _ports(node: Facade, _: Nothing) -> Ports:
    return node.fc00.ports()


async def _allow(node: Facade, asked: ChangePorts) -> Ports:
    return await node.fc00.allow(asked.rules)


async def _deny(node: Facade, asked: ChangePorts) -> Ports:
    return await node.fc00.deny(asked.rules)


STATUS = Route("GET", "/v0/fc00/status", Nothing, Interface, _status, "The fc00::/8 interface")
START = Route(
    "POST", "/v0/fc00/start", StartInterface, Interface, _start, "Make the interface; answers when it is usable"
)
STOP = Route("POST", "/v0/fc00/stop", Nothing, Interface, _stop, "Remove the interface")
PORTS = Route("GET", "/v0/fc00/ports", Nothing, Ports, _ports, "What the firewall lets in")
ALLOW = Route("POST", "/v0/fc00/allow", ChangePorts, Ports, _allow, "Let these in from the overlay")
DENY = Route("POST", "/v0/fc00/deny", ChangePorts, Ports, _deny, "Take rules back")

ROUTES = (STATUS, START, STOP, PORTS, ALLOW, DENY)
