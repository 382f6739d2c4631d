"""Interfaces and routes in a namespace of their own, with a real TUN."""

import asyncio
import os
import sys
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from tests.system.lab import Host, Lab, TwoHosts
from weft.errors import UsageError
from weft.io.addresses import local_addresses
from weft.io.netlink import Netlink
from weft.testing.device import Device, inside_namespace

pytestmark = pytest.mark.system

ADDRESS = IPv6Address("fc89:54a1:b598:365f:357:d6a:b108:db7b")


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    host = lab.host("alice")
    with inside_namespace(host.namespace):
        yield host


@pytest.fixture
def tun(host: Host) -> Iterator[Device]:
    tun = Device.make("weft0", mode="tun")
    yield tun
    tun.close()


async def test_configured_interface_has_address_route_mtu_and_sizes(host: Host, tun: Device) -> None:
    async with Netlink() as netlink:
        await netlink.configure_interface("weft0", ADDRESS.packed, 1352)
        assert await netlink.owner_of("fc00::/8") is None
        await netlink.add_overlay_route("weft0")
        link = host.ip("-d", "link", "show", "weft0")
        assert "mtu 1352" in link
        assert "gso_max_size 64000" in link
        assert "qlen 1000" in link
        assert ",UP," in link
        assert f"inet6 {ADDRESS}/128 scope global" in host.ip("addr", "show", "weft0")
        assert "fc00::/8 dev weft0" in host.ip("-6", "route")
        assert await netlink.owner_of("fc00::/8") == "weft0"


async def test_configured_interface_has_no_link_local_address_and_stays_silent(host: Host, tun: Device) -> None:
    async with Netlink() as netlink:
        await netlink.configure_interface("weft0", ADDRESS, 1352)
        await asyncio.sleep(1.5)
        assert "fe80" not in host.ip("addr", "show", "weft0")
        with pytest.raises(BlockingIOError):
            os.read(tun.fileno(), 65_535)


async def test_netlink_that_closes_removes_address_and_routes(host: Host, tun: Device) -> None:
    async with Netlink() as netlink:
        await netlink.configure_interface("weft0", ADDRESS, 1352)
        await netlink.add_route("192.0.2.0/24", "weft0")
        assert "192.0.2.0/24 dev weft0" in host.ip("route")
    assert host.ip("-6", "route") == ""
    assert host.ip("route") == ""
    assert "inet6" not in host.ip("addr", "show", "weft0")


async def test_interface_configured_before_is_configured_again(host: Host, tun: Device) -> None:
    async with Netlink() as before, Netlink() as netlink:
        await before.configure_interface("weft0", ADDRESS, 1352)
        await before.add_overlay_route("weft0")
        await netlink.configure_interface("weft0", ADDRESS, 1280)
        await netlink.add_overlay_route("weft0")
        assert "mtu 1280" in host.ip("link", "show", "weft0")
    assert host.ip("-6", "route") == ""


async def test_interface_that_vanished_before_closing_is_no_error(host: Host, tun: Device) -> None:
    async with Netlink() as netlink:
        await netlink.configure_interface("weft0", ADDRESS, 1352)
        tun.close()
    assert "weft0" not in host.ip("link")


async def test_prefix_owned_by_another_interface_refuses_and_names_it(host: Host, tun: Device) -> None:
    other = Device.make("cjdns0", mode="tun")
    host.ip("link", "set", "cjdns0", "up")
    host.ip("addr", "add", "fc12::1/8", "dev", "cjdns0")
    async with Netlink() as netlink:
        await netlink.configure_interface("weft0", ADDRESS, 1352)
        with pytest.raises(UsageError, match=r"cjdns0 has the route fc00::/8 already \(cjdns"):
            await netlink.add_overlay_route("weft0")
    assert "fc00::/8 dev weft0" not in host.ip("-6", "route")
    other.close()


async def test_prefix_owned_by_another_node_says_how_both_can_run(host: Host, tun: Device) -> None:
    other = Device.make("weft1", mode="tun")
    async with Netlink() as first, Netlink() as netlink:
        await first.configure_interface("weft1", bytes([0xFC, *bytes(14), 1]), 1352)
        await first.add_overlay_route("weft1")
        await netlink.configure_interface("weft0", ADDRESS, 1352)
        with pytest.raises(UsageError, match=r"weft1, of another node, .*config set fc00.routes peers$"):
            await netlink.add_overlay_route("weft0")
    other.close()


async def test_longer_prefix_of_another_interface_is_no_conflict(host: Host, tun: Device) -> None:
    other = Device.make("other0", mode="tun")
    host.ip("link", "set", "other0", "up")
    host.ip("route", "add", "fc00:12::/32", "dev", "other0")
    async with Netlink() as netlink:
        await netlink.configure_interface("weft0", ADDRESS, 1352)
        await netlink.add_overlay_route("weft0")
        assert await netlink.owner_of("fc00::/8") == "weft0"
        assert await netlink.owner_of("fc00:12::/32") == "other0"
        assert await netlink.owner_of("fc00:13::/32") is None
    other.close()


@pytest.mark.parametrize(
    "prefix", ["192.0.2.0/24", "2001:db8:7::/48", "0.0.0.0/0", "::/0", "10.7.0.1/32", "fc12::1/128"]
)
async def test_routes_of_both_families_come_and_go(host: Host, tun: Device, prefix: str) -> None:
    host.ip("link", "set", "weft0", "up")
    async with Netlink() as netlink:
        assert await netlink.owner_of(prefix) is None
        await netlink.add_route(prefix, "weft0")
        assert await netlink.owner_of(prefix) == "weft0"
        with pytest.raises(UsageError, match="a route already, to weft0"):
            await netlink.add_route(prefix, "weft0")
        await netlink.remove_route(prefix, "weft0")
        assert await netlink.owner_of(prefix) is None
        await netlink.remove_route(prefix, "weft0")
        await netlink.remove_route(prefix, "gone0")


async def test_unknown_interface_says_so(host: Host) -> None:
    async with Netlink() as netlink:
        with pytest.raises(UsageError, match="there is no interface weft7"):
            await netlink.configure_interface("weft7", ADDRESS, 1352)


WITHOUT_CAPABILITY = """
import asyncio
from weft.errors import UsageError
from weft.io.netlink import Netlink

async def main():
    async with Netlink() as netlink:
        await netlink.configure_interface("weft0", bytes([0xfc, *bytes(15)]), 1352)

try:
    asyncio.run(main())
except UsageError as error:
    print(error)
"""


async def test_no_permission_is_one_clear_line(host: Host, tun: Device) -> None:
    said = host.run("setpriv", "--bounding-set", "-net_admin", sys.executable, "-c", WITHOUT_CAPABILITY)
    assert said == "can't set up weft0: needs root or CAP_NET_ADMIN\n"


async def test_local_addresses_are_those_of_interfaces_that_are_up(two_hosts: TwoHosts) -> None:
    cable = two_hosts.cable
    two_hosts.alice.ip("addr", "add", "fc89::1/128", "dev", cable.left.ifname)
    with inside_namespace(two_hosts.alice.namespace):
        assert await local_addresses() == [cable.left.ip4, cable.left.ip6]
        cable.left.set_up(False)
        assert await local_addresses() == []
