"""Where packets would leave; the kernel's own answers are in tests/system/test_world.py."""

from __future__ import annotations

import socket
import sys
from struct import pack

import pytest

from weft.io import routes
from weft.io.routes import Route, interface_index, route_to

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux' rtnetlink")


@LINUX
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_route_to_this_machine_is_by_its_loopback_interface(host: str) -> None:
    route = route_to(host)
    assert route is not None
    assert route.ifindex == interface_index("lo") != 0
    assert route.is_running
    assert route.source == socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


@LINUX
@pytest.mark.parametrize("host", ["fe80::1%nowhere0", "fe80::1%99999"])
def test_address_that_nothing_leads_to_has_no_route(host: str) -> None:
    assert route_to(host) is None


def test_interface_that_is_not_there_has_no_number() -> None:
    assert interface_index("nowhere0") == interface_index("") == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_system_without_netlink_tells_the_source_of_the_route(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK", raising=False)
    source = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    assert route_to(host) == Route(0, b"", source)
    assert route_to("255.255.255.255") is None


@pytest.mark.parametrize("kind", [0, 6, 7, 8, 9])
def test_route_that_refuses_or_swallows_packets_is_none(kind: int) -> None:
    answer = pack("=IHHII8BI", 28, 24, 0, 1, 0, 2, 32, 0, 0, 254, 3, 0, kind, 0)
    assert routes._decode_answer(answer) is None
