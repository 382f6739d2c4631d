"""weft and wireguard-go carry packets for each other, whoever begins, over both IP versions."""

import time

import pytest

from tests.interop.meeting import Role, meet
from tests.interop.tap import tapped
from tests.system.lab import Host, Lab, bits_per_second, iperf3
from tests.system.node import Family
from tests.system.traffic import MB, transfer
from tests.system.waiting import until

pytestmark = [pytest.mark.system("iperf3"), pytest.mark.interop("wireguard-go", "wg")]

FAMILIES = pytest.mark.parametrize("family", ["IPv4", "IPv6"])
CALLERS = pytest.mark.parametrize("caller", ["weft", "stock"])


@CALLERS
@FAMILIES
def test_packets_of_both_ip_versions_cross_both_ways(lab: Lab, family: Family, caller: Role) -> None:
    meeting = meet(lab, family, caller)
    for from_stock in (True, False):
        for ip4 in (True, False):
            assert meeting.loses_nothing(from_stock=from_stock, ip4=ip4), (from_stock, ip4)
    said = meeting.stock.process.output()
    assert ("Sending handshake initiation" in said) == (caller == "stock")
    assert ("Received handshake initiation" in said) == (caller == "weft")
    assert meeting.node.peer().endpoint == meeting.stock_endpoint()
    assert meeting.stock.shown().endpoint == meeting.weft_endpoint()


@CALLERS
def test_wg_show_has_a_fresh_handshake_and_the_bytes_that_weft_counted(lab: Lab, caller: Role) -> None:
    meeting = meet(lab, caller=caller)
    assert meeting.loses_nothing(from_stock=True, count=50)
    until(meeting.counters_agree, "both count the same bytes", 2)
    shown, peer = meeting.stock.shown(), meeting.node.peer()
    assert time.time() - shown.handshake_at < 10
    assert peer.handshake_age_s is not None
    assert peer.handshake_age_s < 10
    assert peer.state == "up"
    # An echo: 104 bytes, padded to 112, and 32 of WireGuard.
    assert min(shown.rx_bytes, shown.tx_bytes) >= 50 * (112 + 32)


@FAMILIES
def test_iperf3_runs_both_ways_over_tcp_and_udp(lab: Lab, family: Family) -> None:
    meeting = meet(lab, family)
    ip4 = family == "IPv4"
    weft, stock = meeting.weft_addresses[ip4], meeting.stock_addresses[ip4]
    assert megabits(meeting.weft_host, meeting.stock_host, stock) > 50
    assert megabits(meeting.stock_host, meeting.weft_host, weft) > 50
    both = iperf3(
        meeting.weft_host, meeting.stock_host, stock, "-u", "--bidir", "-b", "20M", "-l", "1200", "-w", "1M", seconds=1
    )
    for sum_ in (both["end"]["sum"], both["end"]["sum_bidir_reverse"]):
        assert sum_["lost_percent"] < 1
        assert sum_["packets"] > 1500


def test_stock_peer_gets_messages_of_types_1_to_4_only(lab: Lab) -> None:
    meeting = meet(lab)
    meeting.cable.carry_single_datagrams()
    with tapped(meeting.cable.right) as tap:
        transfer(meeting.weft_host, meeting.stock_host, meeting.stock_addresses[0], 2 * MB)
        assert meeting.loses_nothing(from_stock=False, count=20)
        assert {datagram[:4] for datagram in tap.received()} == {b"\x04\0\0\0"}


@pytest.mark.parametrize("ip4", [True, False], ids=["inner IPv4", "inner IPv6"])
def test_ten_streams_at_once_arrive_byte_exact_both_ways(lab: Lab, ip4: bool) -> None:
    meeting = meet(lab, "IPv6" if ip4 else "IPv4")
    transfer(meeting.weft_host, meeting.stock_host, meeting.stock_addresses[ip4], 1_000_003, streams=10)
    transfer(meeting.stock_host, meeting.weft_host, meeting.weft_addresses[ip4], 1_000_003, streams=10)


def megabits(client: Host, server: Host, address: str) -> float:
    """What one TCP stream through the tunnel reaches."""
    return bits_per_second(iperf3(client, server, address, seconds=1)) / 1e6
