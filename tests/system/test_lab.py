"""The lab itself works: what the other system tests build on."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.system.lab import PREFIX, Lab, TwoHosts, bits_per_second, iperf3, namespaces, remove_stale
from tests.system.process import command

pytestmark = pytest.mark.system


def test_hosts_on_a_cable_reach_each_other_by_both_families(two_hosts: TwoHosts) -> None:
    right = two_hosts.cable.right
    assert two_hosts.alice.ping(right.ip4).received == 3
    assert two_hosts.alice.ping(right.ip6).received == 3
    assert two_hosts.alice.ping("127.0.0.1").received == 3


def test_hosts_without_a_cable_do_not_reach_each_other(lab: Lab) -> None:
    alice, bob = lab.host("alice"), lab.host("bob")
    cable = lab.veth(bob, lab.host("carol"))
    assert alice.ping(cable.left.ip4, count=1, wait_s=1).received == 0


def test_loss_rule_loses_its_share_and_is_gone_afterwards(two_hosts: TwoHosts) -> None:
    alice, bob, address = two_hosts.alice, two_hosts.bob, two_hosts.cable.right.ip4
    with bob.losing(0.3, "meta l4proto icmp"):
        lossy = alice.ping(address, count=500, interval_s=0.002, wait_s=1)
    clean = alice.ping(address, count=100, interval_s=0.002)
    assert 0.2 < lossy.loss < 0.4
    assert clean.loss == 0


def test_mtu_of_a_cable_bounds_what_passes(two_hosts: TwoHosts) -> None:
    two_hosts.cable.left.set_mtu(1280)
    two_hosts.cable.right.set_mtu(1280)
    address = two_hosts.cable.right.ip4
    fits = two_hosts.alice.run("ping", "-M", "do", "-c1", "-s", "1252", address)
    over = two_hosts.alice.run("ping", "-M", "do", "-c1", "-W1", "-s", "1253", address, check=False)
    assert " 0% packet loss" in fits
    assert " 0% packet loss" not in over


@pytest.mark.parametrize("single", [False, True], ids=["super-packets", "single datagrams"])
def test_udp_super_packets_cross_unless_switched_off(two_hosts: TwoHosts, single: bool) -> None:
    if single:
        two_hosts.cable.carry_single_datagrams()
    send = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(17, 103, 1000);"
        f"s.sendto(bytes(20_000), ('{two_hosts.cable.right.ip4}', 9))"
    )
    count = "add table inet t; add chain inet t c { type filter hook input priority 0; udp dport 9 counter; }"
    two_hosts.bob.nft(count)
    two_hosts.alice.run(sys.executable, "-c", send)
    assert f"counter packets {20 if single else 1} " in two_hosts.bob.nft("list chain inet t c")


@pytest.mark.system("iperf3")
def test_iperf3_between_hosts_gives_its_figures(two_hosts: TwoHosts) -> None:
    result = iperf3(two_hosts.alice, two_hosts.bob, two_hosts.cable.right.ip4, seconds=1)
    assert bits_per_second(result) > 1e8
    datagrams = iperf3(two_hosts.alice, two_hosts.bob, two_hosts.cable.right.ip6, "-u", "-b", "10M", seconds=1)
    assert 5e6 < bits_per_second(datagrams) < 2e7


def test_process_of_a_host_is_waited_for_heard_and_stopped(lab: Lab) -> None:
    alice = lab.host("alice")
    process = alice.start("sh", "-c", "echo ready; exec sleep 60", name="sleeper")
    assert process.wait_for("ready") == "ready\n"
    assert command("ip", "netns", "pids", alice.namespace).split() == [str(process.popen.pid)]
    assert process.stop() == -signal.SIGTERM
    assert lab.outputs() == [("alice: sleeper", "ready\n")]


def test_process_that_dies_before_it_is_ready_shows_what_it_said(lab: Lab) -> None:
    process = lab.host("alice").start("sh", "-c", "echo no such key; exit 3")
    with pytest.raises(AssertionError, match=r"exited with 3:\nno such key"):
        process.wait_for("ready")


def test_lab_that_ends_leaves_no_namespace_process_or_file() -> None:
    with Lab() as lab:
        host = lab.host("alice")
        lab.veth(host, lab.host("bob"))
        process = host.start("sleep", "60")
        directory = lab._directory
    assert not [name for name in namespaces() if name.startswith(lab.prefix)]
    assert not process.running
    assert not directory.exists()


KILLED = """
import time
from tests.system.lab import Lab
Lab().host("alice").start("sleep", "60")
print("up", flush=True)
time.sleep(60)
"""


def test_lab_of_a_killed_run_is_removed_by_the_next() -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        assert run.stdout.readline() == "up\n"
        run.kill()
    stale = [name for name in namespaces() if name.split("-")[1] == str(run.pid)]
    (sleeper,) = map(int, command("ip", "netns", "pids", stale[0]).split())
    remove_stale()
    assert not set(stale) & set(namespaces())
    assert not list(Path(tempfile.gettempdir()).glob(f"{PREFIX}-{run.pid}-*"))
    deadline = time.monotonic() + 5
    while is_alive(sleeper) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(sleeper)


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_lab_of_a_running_process_is_left_alone(lab: Lab) -> None:
    lab.host("alice")
    remove_stale()
    assert f"{lab.prefix}-alice" in namespaces()
    assert os.getpid() == int(lab.prefix.split("-")[1])
