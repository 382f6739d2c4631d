"""Endpoints as sockets have them, and as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from weft.engine import peer as peer_module
from weft.engine.peer import Endpoint

SOCKET: Any = None


@pytest.mark.parametrize(
    ("address", "multiaddr", "written"),
    [
        (("192.0.2.1", 1312), "/ip4/192.0.2.1/udp/1312", "192.0.2.1:1312"),
        (("2001:db8::1", 1312, 0, 0), "/ip6/2001:db8::1/udp/1312", "[2001:db8::1]:1312"),
        (("fe80::1", 1312, 0, 3), "/ip6zone/eth0/ip6/fe80::1/udp/1312", "[fe80::1%eth0]:1312"),
        (("fe80::1", 1312, 0, 4), "/ip6zone/4/ip6/fe80::1/udp/1312", "[fe80::1%4]:1312"),
        (("fe80::1", 1312, 0, 5), "/ip6zone/5/ip6/fe80::1/udp/1312", "[fe80::1%5]:1312"),
    ],
    ids=["IPv4", "IPv6", "link-local", "interface that is gone", "interface with a name that no multiaddr has"],
)
def test_endpoint_is_written_as_multiaddr_and_as_wg_does(
    monkeypatch: pytest.MonkeyPatch, address: tuple[Any, ...], multiaddr: str, written: str
) -> None:
    def name_of(zone: int) -> str:
        if zone == 4:
            raise OSError(6, "No such device or address")
        return {3: "eth0", 5: "größe0"}[zone]

    monkeypatch.setattr(peer_module.socket_module, "if_indextoname", name_of)
    endpoint = Endpoint(SOCKET, address)
    assert str(endpoint.multiaddr) == multiaddr
    assert str(endpoint) == written
