"""Rules for one peer, traces and captures between three real nodes: what they say is what programs see."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.utils import rdpcap

from tests.system.lab import Lab
from tests.system.node import EVERYTHING, Node, at_once
from tests.system.process import Process
from tests.system.traffic import MB, listening, socket_of, transfer
from tests.system.waiting import until
from weft.engine.observed import Trace

pytestmark = pytest.mark.system

PORT = 8080
FILE_HEADER_BYTES = 24


@dataclass
class Three:
    """Bob, who lets nothing in, between Alice and Carol."""

    lab: Lab
    alice: Node
    bob: Node
    carol: Node


@pytest.fixture(scope="module")
def three() -> Iterator[Three]:
    with Lab() as lab:
        hosts = [lab.host(name) for name in ("alice", "bob", "carol")]
        to_alice, to_carol = lab.veth(hosts[1], hosts[0]), lab.veth(hosts[1], hosts[2])
        nodes = [Node(host, lab.directory(host.name)) for host in hosts]
        at_once(Node.up, *nodes)
        alice, bob, carol = nodes
        for node in (alice, carol):
            node.allow(*EVERYTHING)
        bob.connect(alice, to_alice.right)
        bob.connect(carol, to_carol.right)
        yield Three(lab, alice, bob, carol)


def connects(here: Node, there: Node) -> bool:
    with (
        listening(there.host, there.address, PORT),
        socket_of(here.host, there.address, socket.SOCK_STREAM) as client,
    ):
        try:
            client.connect((there.address, PORT))
        except ConnectionRefusedError:
            return False
        return True


def trace(node: Node, *words: str) -> Trace:
    return msgspec.json.decode(node.weft("trace", *words, "--json"), type=Trace)


def capturing(node: Node, file: Path, *words: str) -> Process:
    """A capture that listens already: what it writes first shows that."""
    process = node.start("capture", "-w", str(file), *words)
    until(lambda: file.exists() and file.stat().st_size >= FILE_HEADER_BYTES, "the capture listens")
    return process


def test_rule_for_one_peer_lets_that_one_in_and_trace_says_so(three: Three) -> None:
    alice, bob, carol = three.alice, three.bob, three.carol
    rule = f"/tcp/{PORT}"
    bob.weft("fc00", "allow", rule, "--from", alice.id)
    try:
        for node, comes_in in ((alice, True), (carol, False)):
            said = trace(bob, "in", node.id, rule)
            assert connects(node, bob) is comes_in
            assert said.verdict == ("accept" if comes_in else "reject")
            assert (said.rule == f"{rule}/from/{alice.info.wireguard_public_key}") is comes_in
            assert (said.answer is None) is comes_in
        assert f"allow {rule}  from {alice.id}\n" in bob.weft("fc00", "ports")
    finally:
        bob.weft("fc00", "deny", rule, "--from", alice.id)
    assert not connects(alice, bob)
    assert trace(bob, "in", alice.id, rule).verdict == "reject"


def test_trace_out_knows_the_path_and_who_is_nowhere(three: Three) -> None:
    alice, bob = three.alice, three.bob
    said = trace(bob, "out", alice.address, f"/tcp/{PORT}")
    assert (said.verdict, said.peer) == ("send", alice.id)
    assert any(step.stage == "path" and "direct to 10." in step.text for step in said.steps)
    assert connects(bob, alice)
    nobody = trace(bob, "out", "fc00::9", "/icmp")
    assert nobody.verdict == "unreachable"
    heard = bob.host.run("ping", "-n", "-c1", "-W2", "fc00::9", check=False)
    assert "Address unreachable" in heard


@pytest.mark.system("tcpdump")
def test_ping_is_in_the_file_that_tcpdump_and_scapy_read(three: Three) -> None:
    alice, bob = three.alice, three.bob
    file = three.lab.directory("captured") / "ping.pcap"
    capture = capturing(bob, file, "--peer", alice.id)
    assert bob.host.ping(alice.address, count=3).received == 3
    assert bob.host.ping(three.carol.address, count=1).received == 1
    assert capture.stop(signal.SIGINT) == 0
    assert "weft: 6 packets\n" in capture.output()

    said = bob.host.run("tcpdump", "-n", "-r", str(file)).splitlines()
    lines = [line.split(" ", 1)[1] for line in said if "ICMP6" in line]
    there, back = f"{bob.address} > {alice.address}", f"{alice.address} > {bob.address}"
    assert [line.split(": ICMP6, ")[0] for line in lines] == [f"IP6 {there}", f"IP6 {back}"] * 3
    assert all("echo request" in line for line in lines[::2])
    assert all("echo reply" in line for line in lines[1::2])

    packets = rdpcap(str(file))
    assert [type(packet[IPv6].payload) for packet in packets] == [ICMPv6EchoRequest, ICMPv6EchoReply] * 3
    times = [packet.time for packet in packets]
    assert times == sorted(times)
    for packet in packets:
        assert has_good_checksum(packet)


def has_good_checksum(packet: IPv6) -> bool:
    """Whether scapy computes the same."""
    raw = bytes(packet)
    again = IPv6(raw)
    del again[IPv6].payload.cksum
    return bytes(again) == raw


@pytest.mark.system("tcpdump")
def test_capture_can_be_piped_into_tcpdump(three: Three) -> None:
    bob = three.bob
    words = " ".join(bob.command("capture", "-w", "-", "--count", "4"))
    piped = bob.host.start("sh", "-c", f"{words} | tcpdump -n -l -r -", name="piped")

    def is_over() -> bool:
        bob.host.ping(three.alice.address, count=1)
        return not piped.running

    until(is_over, "four packets are captured")
    assert piped.output().count("ICMP6, echo") == 4


def test_capture_shows_a_person_what_is_dropped_and_what_its_sender_hears(three: Three) -> None:
    alice, bob = three.alice, three.bob
    capture = bob.start("capture", "--dropped", "--peer", alice.id)

    def is_shown() -> bool:
        assert not connects(alice, bob)
        return capture.output().count("tcp") >= 2

    until(is_shown, "a packet that is dropped is shown")
    assert capture.stop(signal.SIGINT) == 0
    refused, reset = [line for line in capture.output().splitlines() if "tcp" in line][:2]
    assert f" in  {alice.id}  {alice.address}." in refused
    assert refused.endswith(f" > {bob.address}.{PORT}: tcp [S], length 0 [dropped: not_allowed]")
    assert f" out {alice.id}  {bob.address}.{PORT} > {alice.address}." in reset
    assert reset.endswith(": tcp [R.], length 0")


def test_transfer_under_a_capture_arrives_whole_and_is_in_the_file(three: Three) -> None:
    alice, bob = three.alice, three.bob
    file = three.lab.directory("transfer") / "transfer.pcap"
    capture = capturing(bob, file, "--snap", "96")
    transfer(bob.host, alice.host, alice.address, 20 * MB)
    sizes = [0]

    def is_quiet() -> bool:
        sizes.append(file.stat().st_size)
        return sizes[-1] == sizes[-2]

    until(is_quiet, "all that was captured is written")
    assert capture.stop(signal.SIGINT) == 0
    packets = [packet for packet in rdpcap(str(file)) if TCP in packet]
    payload = sum(packet.wirelen - 40 - packet[TCP].dataofs * 4 for packet in packets)
    missed = int(capture.output().partition("packets, ")[2].partition(" ")[0] or 0)
    assert missed or payload >= 40 * MB
    assert len(packets) > 100
    assert max(packet.wirelen for packet in packets) > 10_000
    assert bob.host.ping(alice.address, count=3).received == 3


def test_node_whose_capture_was_killed_goes_on_and_takes_the_next(three: Three) -> None:
    bob, where = three.bob, three.lab.directory("killed")
    for number in range(10):
        capture = capturing(bob, where / f"{number}.pcap")
        capture.stop(signal.SIGKILL)
    assert bob.host.ping(three.alice.address, count=3).received == 3
    assert set(bob.restarts().values()) == {0}
