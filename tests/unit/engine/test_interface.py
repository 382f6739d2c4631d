"""The interface and its routes, on a netlink that only takes notes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from tests.unit.engine.pair import identity
from weft.engine import interface as interface_module
from weft.engine.interface import INTERFACE_MTU, OverlayInterface
from weft.errors import TransportError, UsageError
from weft.io.netlink import OVERLAY


class Kernel:
    """What is asked of netlink and TUN, in its order."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.taken: set[object] = set()
        self.name = "weft0"
        self.offloads = ["vnet_hdr", "csum"]
        self.failure: Exception | None = None

    async def __aenter__(self) -> Kernel:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.asked.append(("netlink closed",))

    def make_tun(self, name: str, *, offloads: bool) -> Kernel:
        self.asked.append(("tun", name, offloads))
        return self

    def close(self) -> None:
        self.asked.append(("tun closed",))

    async def configure_interface(self, name: str, address: bytes, mtu: int) -> None:
        self.asked.append(("configured", name, address, mtu))
        if self.failure is not None:
            raise self.failure

    async def add_route(self, network: object, name: str) -> None:
        if network in self.taken:
            raise UsageError(f"{network} has a route already")
        self.asked.append(("add", str(network), name))

    async def remove_route(self, network: object, name: str) -> None:
        self.asked.append(("remove", str(network), name))

    async def add_address(self, address: Any, name: str) -> None:
        if address.network in self.taken:
            raise UsageError(f"can't add {address}: eth0 has the route {address.network} already")
        self.asked.append(("address", str(address), name))

    async def remove_address(self, address: object, name: str) -> None:
        self.asked.append(("no address", str(address), name))

    def take(self) -> set[tuple[Any, ...]]:
        asked, self.asked = set(self.asked), []
        return asked


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(interface_module, "Netlink", lambda: made)
    monkeypatch.setattr(interface_module, "Tun", made.make_tun)
    return made


ADDRESS = identity("alice").address


async def test_interface_is_made_configured_and_removed_in_this_order(kernel: Kernel) -> None:
    made = await OverlayInterface.open("weft7", ADDRESS, offloads=False)
    assert kernel.asked == [("tun", "weft7", False), ("configured", "weft0", ADDRESS, INTERFACE_MTU)]
    status = made.status()
    assert (status.up, status.ifname, status.mtu) == (True, "weft0", 1352)
    assert status.offloads == ["vnet_hdr", "csum"]
    kernel.asked.clear()
    await made.close()
    assert kernel.asked == [("tun closed",), ("netlink closed",)]


@pytest.mark.parametrize("failure", [UsageError("fc00::/8 is owned by tun0"), TransportError("no"), PermissionError()])
async def test_interface_that_can_not_be_configured_leaves_nothing_behind(kernel: Kernel, failure: Exception) -> None:
    kernel.failure = failure
    with pytest.raises(type(failure)):
        await OverlayInterface.open("weft0", ADDRESS, offloads=True)
    assert kernel.asked[-2:] == [("tun closed",), ("netlink closed",)]


async def test_routes_follow_the_stock_devices_and_leave_the_overlay_alone(kernel: Kernel) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        one, two, six = map(ip_network, ("10.1.0.0/16", "10.2.0.1/32", "fd00:1::/64"))
        inside = ip_network("fc12:3456::/64")
        await made.set_routes({one, six, inside, OVERLAY})
        assert kernel.take() == {("add", str(one), "weft0"), ("add", str(six), "weft0")}
        await made.set_routes({one, six, inside})
        assert kernel.take() == set()
        await made.set_routes({two, six})
        assert kernel.take() == {("remove", str(one), "weft0"), ("add", str(two), "weft0")}
        await made.set_routes(set())
        assert kernel.take() == {("remove", str(two), "weft0"), ("remove", str(six), "weft0")}


async def test_route_that_another_one_has_is_refused_and_can_be_asked_for_again(kernel: Kernel) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        network = ip_network("10.1.0.0/16")
        kernel.taken = {network}
        with pytest.raises(UsageError, match="has a route already"):
            await made.set_routes({network})
        kernel.taken = set()
        await made.set_routes({network})
        assert kernel.take() == {("add", str(network), "weft0")}


async def test_addresses_are_replaced_by_others_and_those_that_stay_are_left_alone(kernel: Kernel) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        one, two, six = map(ip_interface, ("10.7.0.1/24", "10.8.0.1/24", "2001:db8:7::1/64"))
        await made.set_addresses([one, six])
        assert kernel.take() == {("address", str(one), "weft0"), ("address", str(six), "weft0")}
        assert made.status().addresses == [str(one), str(six)]
        await made.set_addresses([two, six])
        assert kernel.take() == {("no address", str(one), "weft0"), ("address", str(two), "weft0")}
        assert set(made.addresses) == {two, six}
        await made.set_addresses([])
        assert kernel.take() == {("no address", str(two), "weft0"), ("no address", str(six), "weft0")}


async def test_address_that_is_refused_leaves_those_that_were_there(kernel: Kernel) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        one, two, three = map(ip_interface, ("10.7.0.1/24", "10.8.0.1/24", "10.9.0.1/24"))
        await made.set_addresses([one])
        kernel.taken = {three.network}
        kernel.take()
        with pytest.raises(UsageError, match=r"10.9.0.1/24: eth0 has the route 10.9.0.0/24 already"):
            await made.set_addresses([two, three])
        assert made.addresses == (one,)
        assert kernel.asked == [
            ("address", str(two), "weft0"),
            ("no address", str(two), "weft0"),
        ]


async def test_address_whose_prefix_changes_is_taken_away_first(kernel: Kernel) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        await made.set_addresses([ip_interface("2001:db8:7::1/64")])
        kernel.take()
        await made.set_addresses([ip_interface("2001:db8:7::1/48")])
        assert kernel.asked == [("no address", "2001:db8:7::1/64", "weft0"), ("address", "2001:db8:7::1/48", "weft0")]


async def test_prefix_of_an_address_that_a_peer_has_too_is_routed_by_the_kernel_and_then_by_us_again(
    kernel: Kernel,
) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        address = ip_interface("10.7.0.1/24")
        await made.set_routes({address.network})
        kernel.take()
        await made.set_addresses([address])
        assert kernel.asked == [("remove", "10.7.0.0/24", "weft0"), ("address", "10.7.0.1/24", "weft0")]
        await made.set_routes({address.network})
        kernel.take()
        await made.set_addresses([])
        assert kernel.asked == [("no address", "10.7.0.1/24", "weft0"), ("add", "10.7.0.0/24", "weft0")]
