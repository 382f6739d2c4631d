import sys
import threading

import pytest
import uvloop

from weft.errors import UsageError
from weft.io.netlink import Netlink


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


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux' rtnetlink")
def test_netlink_serves_on_a_loop_that_its_package_can_not_use() -> None:
    before = threading.active_count()

    async def main() -> set[str]:
        async with Netlink() as netlink:
            return {link.get("ifname") for link in await netlink._ask("link", "dump")}

    assert "lo" in uvloop.run(main())
    assert threading.active_count() == before
