"""Nodes as on other systems: plain sockets without offloads, no netlink, and a loop that watches no descriptors."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import weft
from tests.unit.api.node.conftest import LISTEN
from tests.unit.api.node.test_node import answer_to, echo
from tests.unit.io.test_watching import BlindLoop, threads

WITHOUT = "gso gro sendmsg recvmmsg tun"
LINUX_ALONE = ("AF_NETLINK", "NETLINK_ROUTE", "SO_MARK")

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=["asyncio", "blind"])
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("WEFT_WITHOUT", WITHOUT)
    for name in LINUX_ALONE:
        monkeypatch.delattr(socket, name, raising=False)
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    monkeypatch.setattr(sys, "platform", "darwin" if request.param == "asyncio" else "win32")

    def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        factory = BlindLoop if request.param == "blind" else asyncio.SelectorEventLoop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    return run


def test_streams_and_pings_pass(elsewhere: Run) -> None:
    async def main() -> None:
        async with weft.Node(listen=LISTEN) as alice, weft.Node(listen=LISTEN) as bob:
            assert (await alice.status()).listeners[0].offloads == []
            await alice.connect_peer(bob.multiaddrs[0], name="bob")
            await bob.start_server(echo, port=7)
            assert await answer_to(alice, "bob") == b"is anybody there?"
            assert (await alice.ping("bob")).rtt_ms > 0
            with pytest.raises(ConnectionRefusedError):
                await alice.open_connection("bob", 8)

    elsewhere(main)
    assert threads() == 0


def test_bulk_is_carried_unharmed_both_ways(elsewhere: Run) -> None:
    data = os.urandom(1 << 20) * 3

    async def main() -> None:
        async with weft.Node(listen=LISTEN) as alice, weft.Node(listen=LISTEN) as bob:
            await alice.connect_peer(bob.multiaddrs[0])
            await bob.start_server(echo, port=7)
            reader, writer = await alice.open_connection(bob, 7)

            async def write() -> None:
                writer.write(data)
                await writer.drain()
                writer.write_eof()

            came, _ = await asyncio.gather(reader.read(), write())
            assert came == data
            writer.close()

    elsewhere(main)


def test_node_on_all_addresses_tells_where_it_is(elsewhere: Run) -> None:
    async def main() -> None:
        async with weft.Node() as alice, weft.Node() as bob:
            assert bob.multiaddrs
            assert (await alice.connect_peer(bob.multiaddrs[0])).state == "up"

    elsewhere(main)
