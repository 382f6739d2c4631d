"""The scenarios of the self test of WireGuard in Linux, netns.sh, with a weft node in the place of one side.

Each test has the name of its scenario there. The topology is the same but for its addresses: `weft` is ns1 and the
stock device ns2, with a cable instead of a loopback interface between them, or a router with NAT.

What is not here, and why:
- iperf3 50 times at once, and interfaces with an MTU of 34,816: tests/system has both, between weft nodes; here a cable
  carries 1,500 bytes. "Route MTUs work with the padding": a TUN is not told the MTU of a route.
- Netlink in many parts, `wg show` without a device, private keys that are cleared, keys of small order as peers:
  test_wg_tool.py, and the tests of the UAPI. The private key of a node is its identity, and stays.
- Onion routing: endpoints inside the overlay are refused, which is tested here. A tunnel inside another one is none of
  these, and works.
- Objects that are created and destroyed, and namespaces that refer to each other: of the kernel module.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from tests.interop.meeting import (
    IFNAME,
    KEEPALIVE_BYTES,
    STOCK_IP4,
    STOCK_IP6,
    WEFT_IP4,
    Meeting,
    Role,
    endpoint,
    meet,
    prepare,
)
from tests.interop.stock import PORT as STOCK_PORT
from tests.interop.stock import StockDevice
from tests.system.lab import Cable, Host, Lab, bits_per_second, iperf3
from tests.system.node import PORT, Family, Node, pair_of
from tests.system.traffic import socket_of
from tests.system.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg")]

HANDSHAKE = {"initiation": 148, "response": 92}


@pytest.fixture(scope="module")
def met() -> Iterator[Meeting]:
    """Over IPv4; the tests that use it leave it as it was."""
    with Lab() as lab:
        yield meet(lab)


def floods(host: Host, address: str, count: int = 10, *words: str) -> bool:
    """Whether a flood of pings is answered to the last one.

    Each is one of its own: for the last of several `ping` waits no longer than two round trips, and the machine may be
    busy.
    """
    ping = ("ping", "-q", "-n", "-c", "1", "-W", "1", *words, address)
    return all(host.outcome(*ping).code == 0 for _ in range(count))


def set_stock_endpoint(meeting: Meeting, where: str) -> None:
    meeting.stock.wg_set("peer", meeting.node.info.wireguard_public_key, "endpoint", where)


def listen_on(node: Node, port: int) -> None:
    """What `wg set listen-port` is to a kernel's device."""
    node.weft("config", "set", "peer.listen", f"/ip4/0.0.0.0/udp/{port},/ip6/::/udp/{port}")


# Traffic.


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_ping_and_iperf_over_both_ip_versions(lab: Lab, family: Family) -> None:
    meeting = meet(lab, family)
    for from_stock in (True, False):
        host, addresses = meeting.way(from_stock=from_stock)
        for address in addresses:
            assert floods(host, address)
    for from_stock, ip4, words in ((False, True, ()), (True, False, ()), (True, True, ("-u", "-b", "100M"))):
        client, addresses = meeting.way(from_stock=from_stock)
        server = meeting.weft_host if from_stock else meeting.stock_host
        assert bits_per_second(iperf3(client, server, addresses[ip4], *words, seconds=1)) > 1_000_000
    assert meeting.node.peer().endpoint == meeting.stock_endpoint()


@pytest.mark.parametrize("caller", ["weft", "stock"])
def test_stats_counters_and_timestamper_are_working(lab: Lab, caller: Role) -> None:
    meeting = prepare(lab)
    meeting.introduce(caller)
    host, addresses = meeting.way(from_stock=caller == "stock")
    until(lambda: meeting.node.peer().state == "up" or caller == "stock", "there is a session")
    assert floods(host, addresses[1])
    until(meeting.counters_agree, "nothing is on its way")
    peer = meeting.node.peer()
    counted: dict[Role, int] = {"weft": peer.tx_bytes, "stock": peer.rx_bytes}
    for sender, size in counted.items():
        message = HANDSHAKE["initiation" if sender == caller else "response"]
        # Of 84 bytes, padded to 96.
        assert size == message + 10 * (96 + KEEPALIVE_BYTES) + meeting.keepalives(sender) * KEEPALIVE_BYTES
    assert meeting.stock.shown().handshake_at
    assert peer.handshake_age_s is not None


# Roaming.


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_roaming_works(lab: Lab, family: Family) -> None:
    meeting = meet(lab, family)
    if family == "IPv4":
        meeting.cable = replace(meeting.cable, left=meeting.cable.left.moved(99))
    listen_on(meeting.node, 9999)
    until(lambda: meeting.crosses(from_stock=False), "packets cross", 3)
    assert meeting.stock.shown().endpoint == endpoint(meeting.cable.left, 9999, family)
    assert meeting.crosses(from_stock=True)
    meeting.stock.move_port(9998)
    assert meeting.crosses(from_stock=True)
    assert meeting.node.peer().endpoint == endpoint(meeting.cable.right, 9998, family)


# Crypto-routing.


def test_crypto_rp_filter_works(met: Meeting) -> None:
    met.add_stock("--allowed-ips", "10.7.0.0/24", calls=True)
    with (
        socket_of(met.weft_host, WEFT_IP4, socket.SOCK_DGRAM) as receiver,
        socket_of(met.stock_host, STOCK_IP4, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind((WEFT_IP4, 1111))
        sender.bind((STOCK_IP4, 0))

        def arrives(timeout_s: float) -> bool:
            receiver.settimeout(timeout_s)
            sender.sendto(b"X", (WEFT_IP4, 1111))
            try:
                return receiver.recv(100) == b"X"
            except TimeoutError:
                return False

        assert arrives(1)
        more_specific = met.stock_host.run("sh", "-c", "wg genkey | wg pubkey").strip()
        met.node.weft("peer", "set", "stock", "--allowed-ips", f"10.7.0.0/24,{STOCK_IP6}/128")
        met.node.weft("peer", "add-wireguard", more_specific, "--name", "thief", "--allowed-ips", f"{STOCK_IP4}/32")
        met.stock.move_port(9997)
        before = met.dropped("source is not the peer's")
        assert not arrives(0.3)
        assert met.dropped("source is not the peer's") == before + 1
        met.node.weft("peer", "remove", "thief")
        assert arrives(1)
        assert met.node.peer().endpoint == endpoint(met.cable.right, 9997, "IPv4")
    met.stock.move_port(STOCK_PORT)
    met.node.weft("peer", "set", "stock", "--allowed-ips", f"{STOCK_IP4}/32,{STOCK_IP6}/128")
    until(met.crosses, "packets cross")


def test_packet_from_an_address_that_is_not_the_peers_is_dropped_and_counted(met: Meeting) -> None:
    met.stock_host.ip("addr", "add", "10.7.0.66/32", "dev", met.stock.ifname)
    try:
        before = met.dropped("source is not the peer's")
        met.stock_host.run("ping", "-c", "2", "-i", "0.1", "-W", "0.3", "-I", "10.7.0.66", WEFT_IP4, check=False)
        assert met.dropped("source is not the peer's") == before + 2
    finally:
        met.stock_host.ip("addr", "del", "10.7.0.66/32", "dev", met.stock.ifname)


# Keys.


def test_private_keys_can_be_changed_and_handshake_begins_immediately(lab: Lab) -> None:
    meeting = meet(lab)
    meeting.stock.wg_set("private-key", str(meeting.secret(private := meeting.stock_host.run("wg", "genkey"))))
    file = meeting.secret(private)
    public = meeting.stock_host.run("sh", "-c", f"wg pubkey < {file}").strip()
    meeting.node.weft("peer", "set", "stock", "--public-key", public)
    until(lambda: meeting.crosses(from_stock=False), "packets cross", 3)
    assert meeting.node.peer().wireguard_public_key == public


def test_preshared_key_of_a_running_peer_is_changed(lab: Lab) -> None:
    meeting = meet(lab)
    psk = meeting.stock_host.run("wg", "genpsk")
    meeting.stock.set_preshared_key(psk)
    handshakes = meeting.handshakes("weft")
    meeting.node.weft("peer", "set", "stock", "--psk-file", str(meeting.secret(psk)))
    until(lambda: meeting.handshakes("weft") > handshakes, "a new session begins")
    until(lambda: meeting.crosses(from_stock=False), "packets cross", 3)
    assert meeting.crosses(from_stock=True)


# Tunnels in tunnels.


def test_weft_can_be_routed_through_wireguard(lab: Lab) -> None:
    hosts = lab.host("alice"), lab.host("bob")
    cable = lab.veth(*hosts)
    devices = [
        StockDevice(host, (f"10.8.0.{number}/24",), lab.directory(f"keys{number}"))
        for number, host in enumerate(hosts, 1)
    ]
    for device in devices:
        device.start()
    for number, (device, other, end) in enumerate(zip(devices, devices[::-1], (cable.right, cable.left), strict=True)):
        device.set_peer(
            other.public_key, "allowed-ips", f"10.8.0.{2 - number}/32", "endpoint", f"{end.ip4}:{other.port}"
        )
    inside = [
        replace(end, ifname=device.ifname, ip4=f"10.8.0.{number}")
        for number, (end, device) in enumerate(zip((cable.left, cable.right), devices, strict=True), 1)
    ]
    pair = pair_of(lab, *inside)
    pair.connect()
    pair.transfer(1_000_000)
    until(lambda: pair.alice.peer().path_mtu == 1420, "the path MTU is that of the outer tunnel")
    pair.transfer(1_000_000)


def test_onion_routing_is_refused(met: Meeting) -> None:
    key = met.stock_host.run("sh", "-c", "wg genkey | wg pubkey").strip()
    words = ("peer", "add-wireguard", key, "--name", "onion", "--allowed-ips", "10.9.0.2/32")
    for inside in (f"{STOCK_IP4}:5", "10.9.0.2:5"):
        refused = met.node.outcome(*words, "--endpoint", inside)
        assert refused.code
        assert "inside 10.7.0.2/32" in refused.err or "has the endpoint 10.9.0.2" in refused.err
    assert met.node.peer().name == "stock"


# NAT.


class Behind:
    """The node is behind a NAT that forgets after two seconds; the device is in front of it."""

    OUTSIDE = "10.77.2.1"

    def __init__(self, lab: Lab, nat: Callable[[Host], str]) -> None:
        weft, self.router, stock = lab.host("weft"), lab.host("router"), lab.host("stock")
        near, far = lab.veth(weft, self.router), lab.veth(self.router, stock)
        self.router.forward()
        weft.ip("route", "add", "default", "via", near.right.ip4)
        stock.ip("route", "add", "default", "via", far.left.ip4)
        self.router.nft("add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }")
        self.router.nft(f"add rule ip nat post oifname {far.left.ifname} {nat(self.router)}")
        # What is not of a mapping does not come in.
        self.router.nft("add table ip wall; add chain ip wall in { type filter hook forward priority 0; policy drop; }")
        self.router.nft(
            f"add rule ip wall in iifname {near.right.ifname} accept; add rule ip wall in ct state established accept"
        )
        for name in ("udp_timeout", "udp_timeout_stream"):
            self.router.run("sysctl", "-q", "-w", f"net.netfilter.nf_conntrack_{name}=2")
        self.meeting = prepare(lab, cable=Cable(near.left, far.right))
        assert far.left.ip4 == self.OUTSIDE


def test_nat_with_persistent_keepalive(lab: Lab) -> None:
    behind = Behind(lab, lambda router: "masquerade")
    meeting = behind.meeting
    meeting.add_weft(calls=False)
    meeting.add_stock("--keepalive", "1", calls=True)
    meeting.wait_until_up()
    assert meeting.stock.shown().endpoint == f"{behind.OUTSIDE}:{PORT}"
    behind.router.run("sleep", "3")
    assert meeting.crosses(from_stock=True)
    meeting.node.weft("peer", "set", "stock", "--keepalive", "off")
    behind.router.run("sleep", "3")
    # What the last ping began is over: the mapping has gone, and with it the way in.
    assert not meeting.crosses(from_stock=True)
    assert meeting.crosses(from_stock=False)
    assert meeting.crosses(from_stock=True)


def test_source_port_that_the_nat_changes_is_followed(lab: Lab) -> None:
    behind = Behind(lab, lambda router: f"ip protocol udp snat to {Behind.OUTSIDE}:40000-40000")
    meeting = behind.meeting
    meeting.add_weft(calls=False)
    meeting.add_stock("--keepalive", "1", calls=True)
    meeting.wait_until_up()
    assert meeting.stock.shown().endpoint == f"{behind.OUTSIDE}:40000"
    behind.router.nft("flush chain ip nat post")
    behind.router.nft(f"add rule ip nat post ip protocol udp snat to {Behind.OUTSIDE}:40001-40001")
    behind.router.run("sh", "-c", "ip link set eth0 down; sleep 2.2; ip link set eth0 up")
    until(lambda: meeting.stock.shown().endpoint == f"{behind.OUTSIDE}:40001", "the device has followed", 5)
    assert meeting.crosses(from_stock=True)


# Marks and routes of the sender.


def test_sk_bound_dev_if_works_and_packets_are_rerouted_when_the_mark_changes(met: Meeting) -> None:
    host = met.weft_host
    assert floods(host, STOCK_IP4, 1, "-I", IFNAME)
    host.nft(
        "add table inet marking; add chain inet marking out { type route hook output priority -150; meta mark set 1; }"
    )
    try:
        assert floods(host, STOCK_IP4, 1)
        assert floods(host, STOCK_IP4, 1, "-I", IFNAME)
    finally:
        host.nft("delete table inet marking")


def test_wg_quick_style_policy_routing_for_the_default_route(lab: Lab) -> None:
    meeting = meet(lab)
    host, far = meeting.weft_host, ("192.168.99.7", "2001:db8:99::7")
    for address in far:
        bits = ip_address(address).max_prefixlen
        meeting.stock_host.ip("addr", "add", f"{address}/{bits}", "dev", meeting.stock.ifname)
    meeting.node.weft("config", "set", "peer.fwmark", "51820")
    meeting.node.weft("peer", "set", "stock", "--allowed-ips", "0.0.0.0/0,::/0")
    host.run("sysctl", "-q", "-w", f"net.ipv4.conf.{meeting.cable.left.ifname}.rp_filter=0")
    for version in ("-4", "-6"):
        host.ip(version, "route", "add", "default", "dev", IFNAME, "table", "51820")
        host.ip(version, "rule", "add", "not", "fwmark", "51820", "table", "51820")
        host.ip(version, "rule", "add", "table", "main", "suppress_prefixlength", "0")
    assert floods(host, far[0], 100)
    assert floods(host, far[1], 100)
    assert not meeting.dropped("endpoint behind the tunnel itself")
    # Without the mark everything would go round and round.
    meeting.node.weft("config", "set", "peer.fwmark", "0")
    host.ip("rule", "add", "table", "51820", "priority", "1")
    until(lambda: meeting.dropped("endpoint behind the tunnel itself"), "the loop is seen", 2)
    assert not host.ping(far[0], count=1, wait_s=1).received


# Errors.


def test_icmp_error_comes_back_along_the_right_route(met: Meeting) -> None:
    nobody = "10.7.0.200"
    met.weft_host.ip("route", "add", nobody, "dev", IFNAME)
    said = met.weft_host.run("ping", "-c", "1", "-W", "1", nobody, check=False)
    assert "Unreachable" in said
    # And to a machine behind this one, whose packets it takes for its own.
    behind = met.lab.host("behind")
    cable = met.lab.veth(behind, met.weft_host)
    behind.ip("route", "add", "10.7.0.0/24", "via", cable.right.ip4)
    met.weft_host.forward()
    met.weft_host.nft("add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }")
    met.weft_host.nft(f"add rule ip nat post oifname {IFNAME} snat to {WEFT_IP4}")
    assert behind.ping(STOCK_IP4, count=1).received
    assert "Unreachable" in behind.run("ping", "-c", "1", "-W", "1", nobody, check=False)
    said = behind.run("ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1472", STOCK_IP4, check=False)
    assert "mtu" in said or "Frag needed" in said
    met.weft_host.nft("delete table ip nat")


# Our own address.


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_saddr_is_not_overly_sticky_and_falls_over_to_new_addresses(lab: Lab, family: Family) -> None:
    meeting = meet(lab, family)
    end = meeting.cable.left
    old, new = (f"{end.ip4}/24", "10.77.1.10/24") if family == "IPv4" else (f"{end.ip6}/64", "fd77:1::10/64")
    end.host.ip("addr", "add", new, "dev", end.ifname, *(["nodad"] if family == "IPv6" else []))
    end.host.run("sysctl", "-q", "-w", f"net.ipv4.conf.{end.ifname}.promote_secondaries=1")
    end.host.ip("addr", "del", old, "dev", end.ifname)
    assert meeting.crosses(from_stock=False)
    host = new.partition("/")[0]
    assert meeting.stock.shown().endpoint == (f"{host}:{PORT}" if family == "IPv4" else f"[{host}]:{PORT}")
    assert begun(meeting) == 1


def test_reply_to_sender_routing(lab: Lab) -> None:
    meeting = meet(lab, caller="stock")
    meeting.stop_keepalives()
    end = meeting.cable.left
    end.host.ip("addr", "add", "10.77.1.3/24", "dev", end.ifname)
    end.host.ip("addr", "add", "fd77:1::3/64", "dev", end.ifname, "nodad")
    # One that belongs to another interface than packets come by.
    end.host.ip("addr", "add", "10.50.0.1/32", "dev", "lo")
    meeting.stock_host.ip("route", "add", "10.50.0.1", "dev", meeting.cable.right.ifname)
    for there in (f"{end.ip4}", f"[{end.ip6}]", "10.77.1.3", "[fd77:1::3]", "10.50.0.1"):
        set_stock_endpoint(meeting, f"{there}:{PORT}")
        assert meeting.crosses(from_stock=True)
        assert meeting.crosses(from_stock=False)
        assert meeting.stock.shown().endpoint == f"{there}:{PORT}"


def test_route_of_another_interface_that_takes_precedence_over_an_ongoing_one(lab: Lab) -> None:
    meeting = meet(lab)
    end, host = meeting.cable.left, meeting.weft_host
    other = lab.veth(host, meeting.stock_host)
    for name in (end.ifname, other.left.ifname, "all"):
        host.run("sysctl", "-q", "-w", f"net.ipv4.conf.{name}.rp_filter=0")
    for name in (meeting.cable.right.ifname, other.right.ifname, "all"):
        meeting.stock_host.run("sysctl", "-q", "-w", f"net.ipv4.conf.{name}.rp_filter=0")
    assert meeting.stock.shown().endpoint == f"{end.ip4}:{PORT}"
    host.ip("route", "add", meeting.cable.right.ip4, "dev", other.left.ifname, "src", other.left.ip4)
    until(lambda: meeting.stock.shown().endpoint == f"{other.left.ip4}:{PORT}", "the device has followed", 2)
    assert meeting.crosses(from_stock=False)
    assert meeting.crosses(from_stock=True)
    assert meeting.stock.shown().endpoint == f"{other.left.ip4}:{PORT}"
    assert begun(meeting) == 1


def test_handshake_from_an_address_that_nothing_leads_back_to(lab: Lab) -> None:
    meeting = prepare(lab)
    far, ifname = "203.0.113.5", meeting.cable.right.ifname
    meeting.stock_host.ip("addr", "add", f"{far}/32", "dev", "lo")
    meeting.stock_host.ip("route", "add", meeting.cable.left.ip4, "dev", ifname, "src", far)
    for name in (meeting.cable.left.ifname, "all"):
        meeting.weft_host.run("sysctl", "-q", "-w", f"net.ipv4.conf.{name}.rp_filter=0")
    meeting.introduce("stock")
    assert not meeting.crosses(from_stock=True)
    assert meeting.dropped("udp: unreachable")
    meeting.stock_host.ip("route", "del", meeting.cable.left.ip4, "dev", ifname, "src", far)
    meeting.stock_host.ip("addr", "del", f"{far}/32", "dev", "lo")
    set_stock_endpoint(meeting, meeting.weft_endpoint())
    until(lambda: meeting.crosses(from_stock=True), "packets cross", 12)


def test_endpoint_that_breaks_and_comes_back(lab: Lab) -> None:
    meeting = meet(lab)
    meeting.stock_host.ip("route", "add", "unreachable", meeting.cable.left.ip4)
    meeting.weft_host.ip("route", "add", "unreachable", meeting.cable.right.ip4)
    assert not meeting.crosses(from_stock=False)
    assert meeting.dropped("udp: unreachable")
    meeting.stock_host.ip("route", "del", "unreachable", meeting.cable.left.ip4)
    meeting.weft_host.ip("route", "del", "unreachable", meeting.cable.right.ip4)
    until(lambda: meeting.crosses(from_stock=False), "packets cross", 2)


# Namespaces.


def test_interface_that_is_moved_to_another_namespace(lab: Lab) -> None:
    meeting = meet(lab)
    inner = lab.host("inner")
    meeting.weft_host.ip("link", "set", IFNAME, "netns", inner.namespace)
    inner.ip("addr", "add", f"{WEFT_IP4}/32", "dev", IFNAME)
    inner.ip("link", "set", IFNAME, "up")
    inner.ip("route", "add", f"{STOCK_IP4}/32", "dev", IFNAME)
    assert floods(inner, STOCK_IP4)
    assert floods(meeting.stock_host, WEFT_IP4)
    assert not meeting.weft_host.ping(STOCK_IP4, count=1, wait_s=1).received
    assert meeting.node.status().session_restarts == 0


def begun(meeting: Meeting) -> int:
    """How many handshakes were begun, by whomever."""
    return meeting.handshakes("weft") + meeting.handshakes("stock")
