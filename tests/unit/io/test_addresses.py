"""The addresses of this machine; those of a lab are in tests/system/test_netlink.py."""

from __future__ import annotations

import socket
import struct
import sys

import pytest

from weft.io import addresses as addresses_module
from weft.io.addresses import local_addresses, suitable


@pytest.mark.parametrize(
    ("addresses", "chosen"),
    [
        (["127.0.0.1", "192.0.2.7", "::1", "2001:db8::7"], ["192.0.2.7", "2001:db8::7"]),
        (["fe80::1%eth0", "2001:db8::7", "169.254.3.4"], ["2001:db8::7"]),
        (["fe80::1%eth0", "fe80::2%eth1", "127.0.0.1"], ["fe80::1%eth0", "fe80::2%eth1"]),
        (["2001:db8::7%eth0", "2001:db8::7%eth1"], ["2001:db8::7"]),
        (["fc89:54a1::7b", "fd00::1"], ["fd00::1"]),
        (["0.0.0.0", "::", "224.0.0.251", "ff02::1", "::ffff:192.0.2.1"], []),
        (["192.0.2.10", "192.0.2.9", "192.0.2.9", "10.0.0.1"], ["10.0.0.1", "192.0.2.9", "192.0.2.10"]),
        ([], []),
    ],
    ids=["loopback", "link-local beside others", "link-local alone", "zone", "overlay", "no unicast", "order", "none"],
)
def test_addresses_of_a_machine_leave_those_that_others_can_reach(addresses: list[str], chosen: list[str]) -> None:
    assert suitable(addresses) == chosen


async def test_addresses_are_told_without_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    found = await local_addresses()
    assert found == suitable(found)


@pytest.mark.parametrize("failure", [OSError("no"), struct.error("torn"), AttributeError("AF_NETLINK")])
async def test_where_netlink_does_not_serve_they_come_from_sockets(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail() -> object:
        raise failure

    monkeypatch.setattr(addresses_module, "_addresses_by_netlink", fail)
    monkeypatch.setattr(addresses_module, "_addresses_by_socket", lambda: iter(["192.0.2.7", "127.0.0.1"]))
    assert await local_addresses() == ["192.0.2.7"]


async def test_system_without_netlink_tells_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK", raising=False)
    found = await local_addresses()
    assert found == suitable(found)
