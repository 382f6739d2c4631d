import sys

import pytest

from weft.errors import UsageError
from weft.io.netlink import Netlink, local_addresses, suitable


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
