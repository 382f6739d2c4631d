"""The interface and its routes, on a netlink that only takes notes."""

from __future__ import annotations

import asyncio
import errno
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

    async def add_overlay_route(self, name: str) -> None:
        if OVERLAY in self.taken:
            raise UsageError("weft1, of another node, has it")
        self.asked.append(("add", str(OVERLAY), name))

    async def add_route(self, network: object, name: str) -> None:
        await asyncio.sleep(0)
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


ONE, TWO, SIX = map(ip_network, ("10.1.0.0/16", "10.2.0.1/32", "fd00:1::/64"))
ALICE, BOB, PART = map(ip_network, ("fc12::1/128", "fc12::2/128", "fc34::/16"))


async def test_routes_follow_the_peers_and_the_overlay_is_one_route(kernel: Kernel) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        await made.set_overlay_routes("all")
        assert kernel.take() == {("add", "fc00::/8", "weft0")}
        await made.set_routes({ONE, SIX, ALICE, PART})
        assert kernel.take() == {("add", str(ONE), "weft0"), ("add", str(SIX), "weft0")}
        await made.set_routes({ONE, SIX, BOB})
        assert kernel.take() == set()
        await made.set_routes({TWO, SIX})
        assert kernel.take() == {("remove", str(ONE), "weft0"), ("add", str(TWO), "weft0")}
        await made.set_routes(set())
        assert kernel.take() == {("remove", str(TWO), "weft0"), ("remove", str(SIX), "weft0")}


async def test_routes_of_peers_alone_are_those_of_each_of_their_networks(kernel: Kernel) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        await made.set_overlay_routes("peers")
        await made.set_routes({ONE, ALICE, PART})
        assert kernel.take() == {("add", str(each), "weft0") for each in (ONE, ALICE, PART)}
        await made.set_routes({ONE, BOB, PART})
        assert kernel.asked == [("remove", str(ALICE), "weft0"), ("add", str(BOB), "weft0")]


async def test_change_between_all_and_peers_leaves_no_peer_without_a_route(kernel: Kernel) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        await made.set_overlay_routes("all")
        await made.set_routes({ONE, ALICE})
        kernel.take()
        await made.set_overlay_routes("peers")
        assert kernel.asked == [("add", str(ALICE), "weft0"), ("remove", "fc00::/8", "weft0")]
        kernel.take()
        await made.set_overlay_routes("all")
        assert kernel.asked == [("add", "fc00::/8", "weft0"), ("remove", str(ALICE), "weft0")]


async def test_change_to_all_that_is_refused_leaves_the_routes_of_peers(kernel: Kernel) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        await made.set_routes({ALICE})
        kernel.taken = {OVERLAY}
        kernel.take()
        with pytest.raises(UsageError, match="another node"):
            await made.set_overlay_routes("all")
        assert made.routes == "peers"
        assert kernel.take() == set()
        await made.set_routes({ALICE, BOB})
        assert kernel.take() == {("add", str(BOB), "weft0")}


async def test_address_of_a_peer_that_another_node_has_is_left_to_it_until_all_is_asked_for_again(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        kernel.taken = {ALICE, BOB}
        assert await made.set_routes({ALICE, BOB, ONE})
        assert kernel.take() == {("add", str(ONE), "weft0")}
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "has a route already" in caplog.text
        kernel.taken = {BOB}
        assert await made.set_routes({ALICE, BOB, ONE}, 10)
        assert kernel.take() == set()
        assert await made.set_routes({ALICE, BOB, ONE})
        assert kernel.take() == {("add", str(ALICE), "weft0")}


async def test_changes_are_bundled_and_those_who_went_go_first(kernel: Kernel) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        first, second = ({ip_network(f"fc{part}::{number:x}/128") for number in range(50)} for part in (12, 34))
        assert await made.set_routes(first)
        kernel.take()
        assert not await made.set_routes(second, 30)
        assert [verb for verb, *_ in kernel.asked] == ["remove"] * 30
        assert not await made.set_routes(second, 30)
        assert [verb for verb, *_ in kernel.asked[30:]] == ["remove"] * 20 + ["add"] * 10
        assert not await made.set_routes(second, 30)
        assert await made.set_routes(second, 30)
        assert len(kernel.asked) == 100


async def test_routes_that_are_set_twice_at_once_are_set_once(kernel: Kernel) -> None:
    async with AsyncExitStack() as stack:
        made = OverlayInterface(kernel, kernel, stack, ADDRESS)  # type: ignore[arg-type]
        await asyncio.gather(made.set_routes({ONE, ALICE}), made.set_routes({ONE, ALICE}))
        assert len(kernel.asked) == 2


async def test_name_of_another_interface_says_how_to_choose_one(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *, offloads: bool) -> None:
        raise TransportError("can't make the interface weft0: another program uses it") from OSError(errno.EBUSY, "")

    monkeypatch.setattr(interface_module, "Tun", refuse)
    with pytest.raises(UsageError, match=r"another program uses it; .*config set fc00.ifname weft1$"):
        await OverlayInterface.open("weft0", ADDRESS, offloads=True)


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
