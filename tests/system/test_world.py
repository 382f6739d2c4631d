"""The machine's network changes under real daemons: links, addresses, routes, names. What is lost is found in a second.

Sleep can't be brought about here; that is in tests/unit/engine/test_world.py, in virtual time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.system.lab import Cable, Host, Interface, Lab, TwoHosts
from tests.system.node import Family, Node, Pair, connected_pair, nodes_on, pair_of
from tests.system.traffic import flowing, socket_of, wait_until_all_go_on
from tests.system.waiting import until
from weft.io.changes import Change, watch_changes
from weft.io.netlink import Netlink
from weft.io.routes import interface_index, route_to
from weft.testing.device import Device, inside_namespace

pytestmark = pytest.mark.system

SEEN_S = 0.1
BACK_S = 1.5
"""A second, and what a command and a ping take on a busy machine."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with connected_pair() as pair:
        yield pair


def crosses_again(pair: Pair, within_s: float = BACK_S) -> float:
    """Wait until packets cross, at most so long; returns when."""
    began = time.monotonic()
    until(lambda: pair.alice.host.ping(pair.bob.address, count=1, wait_s=0.3).received, "packets cross", within_s)  # type: ignore[arg-type]
    return time.monotonic() - began


# How soon a change is seen.


class Seen:
    """What `watch_changes` tells in a host, and when."""

    def __init__(self) -> None:
        self.changes: list[tuple[float, Change]] = []

    async def handle(self, change: Change) -> None:
        self.changes.append((time.monotonic(), change))

    async def within(self, act: Callable[[], object]) -> tuple[float, Change]:
        """How long after some change it is told, and as what."""
        await asyncio.sleep(1.05)
        count, began = len(self.changes), time.monotonic()
        await asyncio.to_thread(act)
        acted = time.monotonic()
        for _ in range(100):
            await asyncio.sleep(0.01)
            if len(self.changes) > count:
                break
        assert len(self.changes) > count, "nothing was told"
        at, change = self.changes[count]
        return at - (acted if at > acted else began), change


async def watching(host: Host, use: Callable[[Seen], Awaitable[None]]) -> None:
    seen = Seen()
    with inside_namespace(host.namespace):
        task = asyncio.create_task(watch_changes(seen.handle, lambda ifname: ifname == "weft0"))
        await asyncio.sleep(0)
    try:
        await use(seen)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_kind_of_change_is_seen_within_100_ms(two_hosts: TwoHosts) -> None:
    end, host = two_hosts.cable.left, two_hosts.alice
    host.ip("route", "add", "default", "via", two_hosts.cable.right.ip4)
    acts: dict[str, Callable[[], object]] = {
        "address added": lambda: host.ip("addr", "add", "10.77.1.9/24", "dev", end.ifname),
        "address removed": lambda: host.ip("addr", "del", "10.77.1.9/24", "dev", end.ifname),
        "default route": lambda: host.ip("route", "replace", "default", "via", "10.77.1.77"),
        "link down": lambda: end.set_up(False),
        "link up": lambda: end.set_up(True),
    }

    async def use(seen: Seen) -> None:
        for what, act in acts.items():
            took_s, change = await seen.within(act)
            assert change & Change.UNDERLAY, what
            assert took_s < SEEN_S, what

    await watching(host, use)


async def test_own_interface_comes_and_goes_without_a_change_of_the_underlay(lab: Lab) -> None:
    host = lab.host("alice")

    async def use(seen: Seen) -> None:
        with inside_namespace(host.namespace):
            tun = Device.make("weft0", mode="tun")
            async with Netlink() as netlink:
                await netlink.configure_interface("weft0", bytes([0xFC, *bytes(15)]), 1352)
                await netlink.add_route("192.0.2.0/24", "weft0")
                await asyncio.sleep(0.5)
            tun.close()
        await asyncio.sleep(1)
        assert seen.changes
        assert {change for _, change in seen.changes} == {Change.OVERLAY}

    await watching(host, use)


def test_route_is_that_of_the_kernel_with_marks_and_without_a_cable(two_hosts: TwoHosts) -> None:
    end, host = two_hosts.cable.left, two_hosts.alice
    host.ip("route", "add", "192.0.2.0/24", "via", two_hosts.cable.right.ip4)
    host.ip("route", "add", "unreachable", "198.51.100.0/24")
    host.ip("rule", "add", "fwmark", "7", "table", "100")
    host.ip("route", "add", "blackhole", "default", "table", "100")
    with inside_namespace(host.namespace):
        route = route_to("192.0.2.1")
        assert route is not None
        assert route == (
            interface_index(end.ifname),
            socket.inet_aton(two_hosts.cable.right.ip4),
            socket.inet_aton(end.ip4),
            True,
        )
        assert route_to("192.0.2.1", mark=7) is None
        assert route_to("198.51.100.1") is None
        assert route_to("203.0.113.1") is None
        link_local = route_to(f"fe80::1%{end.ifname}")
        assert link_local is not None
        assert link_local.ifindex == route.ifindex
        two_hosts.cable.right.set_up(False)
        # The kernel takes its time to notice.
        until(lambda: not (route_to("192.0.2.1") or route).is_running, "the link has no cable", 2)


# What is done then.


def test_link_that_goes_down_and_up_again_costs_a_second(pair: Pair) -> None:
    with flowing(pair.alice.host, pair.bob.host, pair.bob.address) as flows:
        wait_until_all_go_on(flows)
        pair.left.set_up(False)
        time.sleep(0.5)
        pair.left.set_up(True)
        pair.alice.host.ip("-6", "addr", "replace", f"{pair.left.ip6}/64", "dev", pair.left.ifname, "nodad")
        assert crosses_again(pair) < BACK_S
        wait_until_all_go_on(flows)


def test_peer_that_could_not_be_called_without_a_network_is_called_when_it_is_there(lab: Lab) -> None:
    """And not when the handshake is due for repetition, 5 s after the last message."""
    cable = lab.veth(lab.host("alice"), lab.host("bob"))
    pair = pair_of(lab, cable.left, cable.right)
    pair.connect()
    pair.alice.down()
    pair.left.set_up(False)
    pair.alice.up("/tcp/0", "/icmp")
    time.sleep(1.5)
    assert not pair.crosses()
    pair.left.set_up(True)
    assert crosses_again(pair) < BACK_S


def test_cable_that_is_plugged_in_again_is_as_good_as_a_link(lab: Lab) -> None:
    """The address stays meanwhile, and so does the route."""
    alice, switch, bob = lab.host("alice"), lab.host("switch"), lab.host("bob")
    near, far = lab.veth(alice, switch), lab.veth(switch, bob)
    switch.forward()
    alice.ip("route", "add", far.right.ip4, "via", near.right.ip4)
    bob.ip("route", "add", near.left.ip4, "via", far.left.ip4)
    pair = pair_of(lab, near.left, far.right)
    pair.connect()
    pair.alice.down()
    near.right.set_up(False)
    pair.alice.up("/tcp/0", "/icmp")
    time.sleep(1.5)
    near.right.set_up(True)
    assert crosses_again(pair) < BACK_S


class Uplinks:
    """Alice has two ways to a router, and Bob is behind it."""

    def __init__(self, lab: Lab) -> None:
        self.alice, router, bob = lab.host("alice"), lab.host("router"), lab.host("bob")
        self.first, self.second = lab.veth(self.alice, router), lab.veth(self.alice, router)
        behind = lab.veth(router, bob)
        router.forward()
        self.use(self.first)
        bob.ip("route", "add", "default", "via", behind.left.ip4)
        self.pair = pair_of(lab, self.first.left, behind.right)
        self.pair.connect()

    def use(self, uplink: Cable) -> None:
        self.alice.ip("route", "replace", "default", "via", uplink.right.ip4)


def test_default_route_to_another_uplink_is_taken_at_once_with_the_mtu_of_that(lab: Lab) -> None:
    uplinks = Uplinks(lab)
    pair = uplinks.pair
    for end in (uplinks.second.left, uplinks.second.right):
        end.set_mtu(1400)
    until(lambda: pair.alice.peer().path_mtu == 1500, "the path MTU is found")
    with flowing(pair.alice.host, pair.bob.host, pair.bob.address) as flows:
        wait_until_all_go_on(flows)
        began = time.monotonic()
        uplinks.use(uplinks.second)
        until(lambda: pair.bob.peer().endpoint == f"{uplinks.second.left.ip4}:1312", "Bob has followed", BACK_S)
        assert time.monotonic() - began < BACK_S
        wait_until_all_go_on(flows)
        until(lambda: pair.alice.peer().path_mtu == 1400, "the path MTU is found anew")
    uplinks.use(uplinks.first)
    until(lambda: pair.bob.peer().endpoint == f"{uplinks.first.left.ip4}:1312", "Bob has followed again", BACK_S)
    until(lambda: pair.alice.peer().path_mtu == 1500, "the path MTU is found once more")


def test_peer_is_left_for_its_ipv6_endpoint_when_ipv4_is_gone(lab: Lab) -> None:
    cable = lab.veth(lab.host("alice"), lab.host("bob"))
    pair = pair_of(lab, cable.left, cable.right)
    pair.alice.connect(pair.bob, pair.right, "IPv6")
    # One that calls again at once is refused, lest it be a flood.
    until(lambda: (pair.alice.peer().handshake_age_s or 0) > 0.1, "it may be called again")
    pair.alice.connect(pair.bob, pair.right, "IPv4")
    until(lambda: (pair.alice.peer().endpoint or "").startswith(pair.right.ip4), "it is at its IPv4 address")
    pair.alice.host.ip("addr", "del", f"{pair.left.ip4}/24", "dev", pair.left.ifname)
    crosses_again(pair, 6)
    assert (pair.alice.peer().endpoint or "").startswith(f"[{pair.right.ip6}]")


def sent_packets(end: Interface) -> int:
    return int(end.host.run("cat", f"/sys/class/net/{end.ifname}/statistics/tx_packets"))


def test_listener_on_an_address_that_comes_later_is_opened_then(lab: Lab) -> None:
    cable = lab.veth(lab.host("alice"), lab.host("bob"))
    late = "10.77.1.9"
    config = f'[peer]\nlisten = ["/ip4/127.0.0.1/udp/1312", "/ip4/{late}/udp/1312"]\n'
    alice = Node(cable.left.host, lab.directory("alice"), config)
    alice.up("/icmp")
    (bob,) = nodes_on(lab, cable.right)
    assert len(alice.status().listeners) == 1
    alice.host.ip("addr", "add", f"{late}/24", "dev", cable.left.ifname)
    until(lambda: len(alice.status().listeners) == 2, "there is another listener", 2)
    bob.weft("peer", "connect", f"/ip4/{late}/udp/1312/p2p/{alice.id}")


# Our own address.


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
@pytest.mark.parametrize("where", ["same interface", "other interface"])
def test_answer_leaves_from_the_address_that_was_called(lab: Lab, family: Family, where: str) -> None:
    alice, bob = lab.host("alice"), lab.host("bob")
    cable = lab.veth(alice, bob)
    second = {"IPv4": "10.50.0.1", "IPv6": "fd50::1"}[family]
    ifname = cable.right.ifname
    if where == "other interface":
        ifname = "lo"
    bits, words = (32, []) if family == "IPv4" else (128, ["nodad"])
    bob.ip("addr", "add", f"{second}/{bits}", "dev", ifname, *words)
    alice.ip("route", "add", f"{second}/{bits}", "via", cable.right.ip4 if family == "IPv4" else cable.right.ip6)
    # As a NAT or a firewall would on the way.
    alice.nft("add table inet strict; add chain inet strict input { type filter hook input priority 0; }")
    saddr = f"ip saddr {cable.right.ip4}" if family == "IPv4" else f"ip6 saddr {cable.right.ip6}"
    alice.nft(f"add rule inet strict input {saddr} udp sport 1312 drop")
    pair = pair_of(lab, cable.left, cable.right)
    shown = f"/ip4/{second}" if family == "IPv4" else f"/ip6/{second}"
    pair.alice.weft("peer", "connect", f"{shown}/udp/1312/p2p/{pair.bob.id}")
    pair.transfer(1_000_000)
    assert pair.alice.peer().endpoint == (f"{second}:1312" if family == "IPv4" else f"[{second}]:1312")
    until(lambda: pair.alice.peer().mode == "burst", "there are bursts")
    bob.ip("addr", "del", f"{second}/{bits}", "dev", ifname)
    alice.nft("delete table inet strict")
    # Bob is heard from his other address, for the one that was called is gone.
    until(lambda: bob.ping(pair.alice.address, count=1, wait_s=1).received, "packets cross", 3)
    until(
        lambda: (
            (pair.alice.peer().endpoint or "")
            .strip("[")
            .startswith(cable.right.ip4 if family == "IPv4" else cable.right.ip6)
        ),
        "Alice has followed",
        3,
    )


# Into the tunnel itself.


def test_route_to_a_peer_through_the_tunnel_itself_is_not_taken(pair: Pair) -> None:
    host = pair.alice.host
    until(pair.crosses, "packets cross")
    before = sent_packets(pair.left)
    host.ip("route", "add", f"{pair.right.ip4}/32", "dev", "weft0")
    until(lambda: pair.alice.status().drops.get("endpoint behind the tunnel itself"), "it is counted", 2)  # type: ignore[arg-type]
    assert not pair.crosses()
    assert sent_packets(pair.left) - before < 50
    refused = pair.alice.outcome("peer", "connect", pair.bob.multiaddr(pair.right))
    assert refused.code == 2
    assert "leads into weft0" in refused.err
    host.ip("route", "del", f"{pair.right.ip4}/32", "dev", "weft0")
    crosses_again(pair, 3)


# Standing still.


def test_daemon_that_stood_still_says_so_and_goes_on(pair: Pair) -> None:
    until(pair.crosses, "packets cross")
    log = pair.bob.directory / "daemon.log"
    os.kill(pair.bob.info.pid, signal.SIGSTOP)
    try:
        time.sleep(3)
    finally:
        os.kill(pair.bob.info.pid, signal.SIGCONT)
    crosses_again(pair)
    until(lambda: "stood still" in log.read_text(), "the log tells it", 2)


# Names.


class NameServer:
    """Answers every question for an A record with the same addresses, or says that there is no such name."""

    def __init__(self, host: Host, address: str, *answers: str) -> None:
        self._answers = answers
        self._socket = socket_of(host, address, socket.SOCK_DGRAM)
        self._socket.settimeout(None)
        self._socket.bind((address, 53))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                question, source = self._socket.recvfrom(512)
                if not question:
                    return
                self._socket.sendto(self._answer(question), source)

    def _answer(self, question: bytes) -> bytes:
        end = question.index(b"\0", 12) + 5
        is_a = question[end - 4 : end - 2] == b"\0\1"
        records = [b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(each) for each in self._answers if is_a]
        flags = b"\x81\x80" if self._answers else b"\x81\x83"
        return question[:2] + flags + bytes([0, 1, 0, len(records), 0, 0, 0, 0]) + question[12:end] + b"".join(records)

    def close(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@contextmanager
def resolver_of(host: Host) -> Iterator[Callable[[str], None]]:
    """Gives a host a file of its own that names its name server."""
    directory = Path("/etc/netns", host.namespace)
    directory.mkdir(parents=True)
    file = directory / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\n")
    try:
        yield lambda server: file.write_text(f"nameserver {server}\noptions timeout:1 attempts:1\n") and None
    finally:
        file.unlink()
        directory.rmdir()


def test_another_resolver_is_asked_at_once_and_all_addresses_of_a_name_are_tried(lab: Lab) -> None:
    cable = lab.veth(lab.host("alice"), lab.host("bob"))
    with resolver_of(cable.left.host) as resolve_by:
        alone = NameServer(cable.left.host, "127.0.0.2")
        knowing = NameServer(cable.left.host, "127.0.0.3", "10.77.1.77", "203.0.113.1", cable.right.ip4)
        try:
            resolve_by("127.0.0.3")
            pair = pair_of(lab, cable.left, cable.right)
            target = f"/dns/bob.test/udp/1312/p2p/{pair.bob.id}"
            resolve_by("127.0.0.2")
            failed = pair.alice.outcome("peer", "connect", target)
            assert failed.code == 1
            assert "bob.test" in failed.err
            resolve_by("127.0.0.3")
            pair.alice.weft("peer", "connect", target)
            pair.alice.down()
            # He would call her where she was, if his network changed just when she went.
            pair.bob.weft("peer", "remove", pair.alice.id)
            resolve_by("127.0.0.2")
            pair.alice.up("/icmp")
            time.sleep(1.2)
            assert not pair.crosses()
            resolve_by("127.0.0.3")
            crosses_again(pair, 1 + 2 * 0.5 + 3 * BACK_S)
            assert pair.alice.peer().endpoint == "bob.test:1312"
        finally:
            for server in (alone, knowing):
                server.close()


# Last, for changes are told late for a while after it.


def test_storm_of_changes_floods_nobody_and_loses_nothing(pair: Pair) -> None:
    host, stop = pair.alice.host, threading.Event()

    def blow() -> None:
        batch = "\n".join(
            f"addr {word} 10.77.1.{number}/24 dev {pair.left.ifname}"
            for number in range(50, 75)
            for word in ("add", "del")
        )
        while not stop.is_set():
            host.run("sh", "-c", f"printf '%s\\n' '{batch}' | ip -batch -")
            # Routes to Bob himself come and go too.
            host.ip("route", "replace", pair.right.ip4, "dev", pair.left.ifname, "mtu", "1400")
            host.ip("route", "del", pair.right.ip4, "dev", pair.left.ifname)

    until(pair.crosses, "packets cross")
    storm = threading.Thread(target=blow)
    before = sent_packets(pair.left)
    storm.start()
    try:
        time.sleep(3)
        assert pair.crosses()
    finally:
        stop.set()
        storm.join()
    assert sent_packets(pair.left) - before < 300
    until(pair.crosses, "packets cross")
