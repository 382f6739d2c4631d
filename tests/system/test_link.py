"""The link in user space, between real interfaces of two hosts."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.system.lab import FaultyCable, Host, Lab, bits_per_second, iperf3
from tests.system.waiting import until
from weft.errors import TransportError
from weft.testing.device import Device
from weft.testing.faults import Faults
from weft.testing.link import Link

pytestmark = pytest.mark.system

Join = Callable[..., tuple[Host, Host, FaultyCable]]


@pytest.fixture
def join(lab: Lab) -> Join:
    def join(faults: str = "", **options: object) -> tuple[Host, Host, FaultyCable]:
        alice, bob = lab.host("alice"), lab.host("bob")
        return alice, bob, lab.link(alice, bob, faults, **options)  # type: ignore[arg-type]

    return join


def send(count: int, size: int, address: str, segment: int = 0) -> str:
    """A program that sends numbered datagrams to port 9, which the kernel cuts if a segment size is given."""
    return (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        f"s.setsockopt(17, 103, {segment});"
        f"[s.sendto(bytes([n % 256]) * {size}, ('{address}', 9)) for n in range({count})]"
    )


def count_datagrams(host: Host) -> Callable[[], int]:
    """Count what comes to port 9 of a host."""
    host.nft("add table inet t; add chain inet t c { type filter hook input priority 0; udp dport 9 counter drop; }")

    def count() -> int:
        found = re.search(r"counter packets (\d+)", host.nft("list chain inet t c"))
        assert found
        return int(found[1])

    return count


@pytest.mark.parametrize("mode", ["tap", "tun"])
@pytest.mark.parametrize("single", [False, True], ids=["super-packets", "single"])
def test_link_without_faults_carries_both_families(join: Join, mode: str, single: bool) -> None:
    alice, _, cable = join(mode=mode, single=single)
    assert alice.ping(cable.right.ip4).received == 3
    assert alice.ping(cable.right.ip6, size=1_400).received == 3


def test_latency_and_jitter_lengthen_the_round_trip(join: Join) -> None:
    alice, _, cable = join()
    alice.ping(cable.right.ip4)
    cable.set("latency=20ms")
    ping = alice.ping(cable.right.ip4, count=10)
    assert ping.rtt_ms is not None
    assert 40 <= ping.rtt_ms < 80
    cable.set("jitter=20ms")
    jittered = alice.ping(cable.right.ip4, count=20)
    assert jittered.rtt_ms is not None
    assert 50 < jittered.rtt_ms < 120


def test_loss_of_one_direction_loses_its_share_of_single_datagrams(join: Join) -> None:
    alice, bob, cable = join(single=True)
    alice.ping(cable.right.ip4)
    count = count_datagrams(bob)
    cable.set("to_right loss=20%")
    alice.run(sys.executable, "-c", send(2_000, 100, cable.right.ip4))
    # Those that still wait before the link would not be lost any more.
    until(lambda: cable.figures()["to_right"]["lost"] + count() >= 2_000, "all are through the link, or lost")
    cable.set("loss=0")
    figures = cable.figures()
    assert 1_480 < count() < 1_720
    # The link loses neighbour discovery as well.
    assert 0 <= figures["to_right"]["lost"] - (2_000 - count()) < 20
    assert "lost" not in figures["to_left"]


def test_duplication_delivers_twice(join: Join) -> None:
    alice, bob, cable = join()
    alice.ping(cable.right.ip4)
    count = count_datagrams(bob)
    cable.set("to_right duplication=100%")
    alice.run(sys.executable, "-c", send(50, 100, cable.right.ip4))
    cable.figures()
    assert count() == 100


RECEIVE = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 9))
s.settimeout(1)
print("bound")
print([s.recv(100)[0] for _ in range(200)])
"""


def test_reordering_changes_the_order_and_loses_nothing(join: Join) -> None:
    alice, bob, cable = join("reordering=10% held_back=1ms", single=True)
    alice.ping(cable.right.ip4)
    receiver = bob.start(sys.executable, "-c", RECEIVE)
    receiver.wait_for("bound")
    alice.run(sys.executable, "-c", send(200, 100, cable.right.ip4))
    order = json.loads(receiver.wait_for("]").partition("\n")[2])
    assert order != sorted(order)
    assert sorted(order) == list(range(200))


def test_packet_over_the_mtu_of_the_link_vanishes_and_is_counted(join: Join) -> None:
    alice, _, cable = join("mtu=1280")
    assert alice.ping(cable.right.ip4, size=1_252).received == 3
    assert alice.ping(cable.right.ip4, size=1_253, wait_s=1).received == 0
    assert cable.figures()["to_right"]["too big"] == 3


@pytest.mark.parametrize("segment", [1_252, 1_253])
def test_super_packet_is_held_against_the_mtu_by_its_segments(join: Join, segment: int) -> None:
    alice, bob, cable = join("mtu=1280")
    alice.ping(cable.right.ip4)
    count = count_datagrams(bob)
    alice.run(sys.executable, "-c", send(1, 20 * 1_253, cable.right.ip4, segment))
    cable.figures()
    assert count() == (1 if segment == 1_252 else 0)


@pytest.mark.system("iperf3")
def test_tcp_super_packets_pass_a_link_with_the_mtu_of_their_segments(join: Join) -> None:
    alice, bob, cable = join("mtu=1500")
    assert bits_per_second(iperf3(alice, bob, cable.right.ip6, seconds=1)) > 2e8
    assert "too big" not in cable.figures()["to_right"]


@pytest.mark.system("iperf3")
def test_rate_bounds_throughput_and_can_be_lifted_while_running(join: Join) -> None:
    alice, bob, cable = join("rate=20M queue=100k")
    slow = bits_per_second(iperf3(alice, bob, cable.right.ip4, seconds=2))
    cable.set("rate=none")
    fast = bits_per_second(iperf3(alice, bob, cable.right.ip4, seconds=1))
    assert 10e6 < slow < 20e6
    assert fast > 2e8


@pytest.mark.parametrize(("single", "datagrams"), [(False, 1), (True, 20)], ids=["super-packets", "single"])
def test_udp_super_packets_cross_whole_unless_single(join: Join, single: bool, datagrams: int) -> None:
    alice, bob, cable = join(single=single)
    alice.ping(cable.right.ip4)
    count = count_datagrams(bob)
    alice.run(sys.executable, "-c", send(1, 20_000, cable.right.ip4, 1_000))
    cable.figures()
    assert count() == datagrams


def test_word_that_is_none_is_answered_with_an_error_and_changes_nothing(join: Join) -> None:
    alice, _, cable = join()
    with pytest.raises(AssertionError, match="delay=1s: not one of"):
        cable.set("loss=100% delay=1s")
    assert alice.ping(cable.right.ip4).received == 3


def test_link_ends_with_its_standard_input(join: Join) -> None:
    _, _, cable = join()
    assert cable.process.popen.stdin
    cable.process.popen.stdin.close()
    assert cable.process.popen.wait(5) == 0


def test_devices_passed_open_are_joined(lab: Lab) -> None:
    alice, bob = lab.host("alice"), lab.host("bob")
    left, right = Device.make("left0", alice.namespace), Device.make("right0", bob.namespace)
    fds = left.fileno(), right.fileno()
    for host, address in ((alice, "10.1.1.1"), (bob, "10.1.1.2")):
        ifname = "left0" if host is alice else "right0"
        host.ip("addr", "add", f"{address}/24", "dev", ifname)
        host.ip("link", "set", ifname, "up")
    command = [sys.executable, "-m", "weft.testing.link", *(f"fd:{fd}" for fd in fds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline()) == {"interfaces": ["left0", "right0"]}
        assert alice.ping("10.1.1.2").received == 3
        process.communicate()
    left.close()
    right.close()


async def test_link_on_an_own_loop_carries_and_counts(lab: Lab) -> None:
    alice, bob = lab.host("alice"), lab.host("bob")
    left, right = Device.make("t0", alice.namespace, mode="tun"), Device.make("t0", bob.namespace, mode="tun")
    for host, address in ((alice, "fd01::1"), (bob, "fd01::2")):
        host.ip("link", "set", "t0", "up")
        host.ip("addr", "add", f"{address}/64", "dev", "t0", "nodad")
    with Link(left, right, Faults(latency_ns=1_000_000)) as link:
        ping = alice.start("ping", "-c", "3", "-i", "0.05", "fd01::2")
        for _ in range(200):
            await asyncio.sleep(0.01)
            if not ping.running:
                break
        assert " 3 received" in ping.output()
        assert link.to_right.carried.packets >= 3
    left.close()
    right.close()


def test_namespace_that_is_not_there_is_one_clear_error() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TransportError, match="can't make eth0 in nowhere: No such file or directory"):
        Device.make("eth0", "nowhere")
    assert len(os.listdir("/proc/self/fd")) == before
