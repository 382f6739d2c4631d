"""What a stock device may send, and where: routes, allowed addresses, firewall."""

import json
import sys

import pytest

from tests.interop.meeting import IFNAME, STOCK_IP4, STOCK_IP6, WEFT_IP4, Meeting, meet, prepare
from tests.system.lab import Host, Lab
from tests.system.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg")]

PORT = "8080"
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
    print("connected")
except OSError as error:
    print(type(error).__name__)
"""
LISTEN = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=family) as listener:
    print("listening")
    while True:
        listener.accept()[0].close()
"""
SEND_FORGED = """
import socket, sys
own = socket.inet_pton(socket.AF_INET6, sys.argv[1])
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
    sender.sendto(bytes((0x60, 0, 0, 0, 0, 8, 17, 64)) + own + own + bytes(8), (sys.argv[1], 0))
"""


def test_routes_of_allowed_prefixes_come_and_go_with_peer_and_interface(lab: Lab) -> None:
    meeting = prepare(lab)
    node, host = meeting.node, meeting.weft_host
    own = routes(host)
    prefixes = {STOCK_IP4, STOCK_IP6, "10.8.0.0/24", "fd08::/64"}
    add = (
        *("peer", "add-wireguard", meeting.stock.public_key, "--name", "stock"),
        *("--allowed-ips", f"{STOCK_IP4}/32,{STOCK_IP6}/128", "--allowed-ips", "10.8.0.0/24,fd08::/64"),
    )
    node.weft(*add)
    assert routes(host) == own | prefixes
    node.weft("fc00", "stop")
    assert routes(host) == set()
    node.weft("fc00", "start")
    assert prefixes <= routes(host)
    node.weft("peer", "remove", "stock")
    assert not prefixes & routes(host)
    node.weft("fc00", "stop")
    node.weft(*add)
    assert routes(host) == set()


def test_prefix_that_has_a_route_already_is_refused_and_nothing_remains(lab: Lab) -> None:
    meeting = prepare(lab)
    node, host = meeting.node, meeting.weft_host
    own = routes(host)
    taken = "10.77.1.0/24"
    with pytest.raises(AssertionError, match=f"{taken} has a route already, to eth0"):
        node.weft(
            *("peer", "add-wireguard", meeting.stock.public_key, "--name", "stock"),
            *("--allowed-ips", f"{STOCK_IP4}/32,{taken}"),
        )
    assert routes(host) == own
    assert "stock" not in node.weft("peer", "list")
    assert host.ping(meeting.cable.right.ip4, count=1).received == 1


def test_packets_from_addresses_that_are_not_the_devices_are_dropped_and_counted(lab: Lab) -> None:
    meeting = meet(lab)
    host, received = meeting.stock_host, icmp_received(meeting.weft_host)
    for forged, target in (
        ("10.7.0.99", WEFT_IP4),
        ("fd07::99", meeting.node.address),
        ("fcff::99", meeting.node.address),
    ):
        host.ip("addr", "add", forged, "dev", meeting.stock.ifname, *(["nodad"] if ":" in forged else []))
        before = dropped(meeting)
        host.run("ping", "-q", "-n", "-c5", "-i0.02", "-W0.2", "-I", forged, target, check=False)
        assert dropped(meeting) == before + 5, forged
    assert icmp_received(meeting.weft_host) == received
    assert meeting.crosses(from_stock=False)


def test_packet_that_pretends_to_come_from_the_node_itself_is_dropped_and_counted(lab: Lab) -> None:
    meeting = meet(lab)
    before = dropped(meeting)
    meeting.stock_host.run(sys.executable, "-c", SEND_FORGED, meeting.node.address)
    until(lambda: dropped(meeting) > before, "the drop is counted")


@pytest.mark.parametrize("ip4", [True, False], ids=["IPv4", "IPv6"])
def test_firewall_refuses_a_stock_device_what_is_not_allowed(lab: Lab, ip4: bool) -> None:
    meeting = meet(lab)
    node, stock_host, address = meeting.node, meeting.stock_host, meeting.weft_addresses[ip4]
    meeting.weft_host.start(sys.executable, "-c", LISTEN, address, PORT, name="listener").wait_for("listening")
    assert connect(stock_host, address) == "connected"
    node.weft("fc00", "deny", "/tcp/0", "/udp/0", "/icmp")
    refused = meeting.dropped("not_allowed")
    assert connect(stock_host, address) == "ConnectionRefusedError"
    assert not meeting.crosses()
    assert meeting.dropped("not_allowed") == refused + 2
    node.weft("fc00", "allow", f"/tcp/{PORT}")
    assert connect(stock_host, address) == "connected"
    assert connect(stock_host, address, "8081") == "ConnectionRefusedError"


def test_firewall_lets_replies_of_a_stock_device_in(lab: Lab) -> None:
    meeting = meet(lab)
    meeting.node.weft("fc00", "deny", "/tcp/0", "/udp/0", "/icmp")
    for address in meeting.stock_addresses:
        meeting.stock_host.start(sys.executable, "-c", LISTEN, address, PORT, name="listener").wait_for("listening")
        assert connect(meeting.weft_host, address) == "connected"
        assert meeting.weft_host.ping(address, count=1).received == 1


def routes(host: Host) -> set[str]:
    """Destinations that the interface has routes to, but for the node's own address."""
    found = set()
    for family in ("-4", "-6"):
        for route in json.loads(host.ip("-j", family, "route", "show")):
            if route.get("dev") == IFNAME and route.get("protocol") != "kernel":
                found.add(route["dst"])
    return found


def dropped(meeting: Meeting) -> int:
    return meeting.dropped("source is not the peer's")


def icmp_received(host: Host) -> list[str]:
    """The kernel's counters of ICMP messages that came in."""
    said = host.run("cat", "/proc/net/snmp", "/proc/net/snmp6")
    return [line for line in said.splitlines() if line.startswith(("Icmp:", "Icmp6InMsgs"))]


def connect(host: Host, address: str, port: str = PORT) -> str:
    """What becomes of a TCP connection: "connected", or the name of the error."""
    return host.run(sys.executable, "-c", CONNECT, address, port).strip()
