"""`/v0/name/…`: what names lead to in the network."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from weft.api.facade import Facade
from weft.api.v0.route import Route
from weft.engine.status import SCHEMA

Family = Literal["any", "ip4", "ip6"]

FAMILIES: Final[dict[Family, int]] = {"any": socket.AF_UNSPEC, "ip4": socket.AF_INET, "ip6": socket.AF_INET6}


class Resolve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which name."""

    name: Annotated[
        str, Meta(min_length=1, max_length=253, description="A host, a peer's name or id, `NAME.weft`, an address.")
    ]
    family: Annotated[Family, Meta(description="Which addresses are wanted.")] = "any"


class Resolved(Struct, frozen=True, kw_only=True):
    """What it leads to."""

    schema: int = SCHEMA
    addresses: list[str]
    """The best first; none if there is no such name, or none of the family."""


async def _resolve(node: Facade, asked: Resolve) -> Resolved:
    try:
        found = await node.names.resolve(asked.name, FAMILIES[asked.family])
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise TimeoutError(f"{asked.name}: the name can't be looked up now") from error
        found = []
    return Resolved(addresses=[str(ip_address(address)) for address in found])


RESOLVE = Route("GET", "/v0/name/resolve", Resolve, Resolved, _resolve, "What a name leads to, as `fc00.dns` says")

ROUTES = (RESOLVE,)
