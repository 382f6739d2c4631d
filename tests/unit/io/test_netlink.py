import asyncio
import socket
import sys
from collections.abc import Iterator

import pytest

from tests.unit.engine.pair import virtual
from weft.errors import UsageError
from weft.io import netlink as netlink_module
from weft.io.netlink import LAST_SETTLE_S, SETTLE_S, Netlink, local_addresses, suitable, watch_addresses


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


async def test_without_pyroute2_netlink_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    with pytest.raises(UsageError, match=r"pip install 'weft\[linux\]'"):
        async with Netlink():
            pass


async def test_on_another_system_netlink_says_that_it_needs_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="Linux only"):
        async with Netlink():
            pass


async def test_without_pyroute2_addresses_come_from_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    addresses = await local_addresses()
    assert addresses == suitable(addresses)


# Changes.


class Watch:
    """What the kernel says, and when it was told."""

    def __init__(self, kernel: socket.socket) -> None:
        self.kernel = kernel
        self.told: list[float] = []

    async def handle_change(self) -> None:
        self.told.append(asyncio.get_running_loop().time())

    async def say(self, count: int, interval_s: float) -> float:
        """Messages of the kernel, one each so often; returns when the first came."""
        began = asyncio.get_running_loop().time()
        for _ in range(count):
            self.kernel.send(b"RTM_NEWADDR")
            await asyncio.sleep(interval_s)
        return began

    async def during(self, seconds: float) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch_addresses(self.handle_change), seconds)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    monkeypatch.setattr(netlink_module, "_open_watch", lambda: ours)
    with kernel, ours:
        yield Watch(kernel)


@virtual
async def test_changes_that_come_together_are_told_once(watch: Watch) -> None:
    running = asyncio.create_task(watch.during(5))
    began = await watch.say(9, SETTLE_S / 10)
    await running
    assert watch.told == [pytest.approx(began + SETTLE_S)]


@virtual
async def test_changes_that_go_on_and_on_are_told_less_often_and_the_last_one_always(watch: Watch) -> None:
    running = asyncio.create_task(watch.during(100))
    began = await watch.say(1000, 0.05)
    ended = asyncio.get_running_loop().time()
    assert 50 / LAST_SETTLE_S - 1 < len(watch.told) < 50 / LAST_SETTLE_S + 6
    assert watch.told[0] == pytest.approx(began + SETTLE_S)
    await asyncio.sleep(10)
    assert ended - 0.1 < watch.told[-1] <= ended + LAST_SETTLE_S
    later = await watch.say(1, 1)
    assert watch.told[-1] == pytest.approx(later + SETTLE_S)
    await running


@virtual
async def test_system_that_does_not_tell_changes_never_does(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> socket.socket:
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr(netlink_module, "_open_watch", fail)
    await watch.during(1000)
    assert watch.told == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: rtnetlink")
def test_watch_of_linux_never_blocks() -> None:
    with netlink_module._open_watch() as watch:
        netlink_module._forget_waiting(watch)
        assert not watch.getblocking()
