"""The real `wg` on our interface: each of its commands, with a weft node and a stock device as peers."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.stock import StockDevice
from tests.system.lab import Cable, Lab
from tests.system.node import EVERYTHING, PORT, Node
from tests.system.waiting import until
from weft.engine.status import PeerStatus

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg")]

NUMBERS = itertools.count()
STOCK_IP4 = "10.7.0.2"


@dataclass
class Table:
    """Alice, who is under test; Bob, a weft node; and a stock device."""

    lab: Lab
    alice: Node
    bob: Node
    stock: StockDevice
    to_bob: Cable
    to_stock: Cable
    ifname: str

    def wg(self, *words: str) -> str:
        """What `wg` says on Alice's host."""
        return self.alice.host.run("wg", *words)

    def refused(self, *words: str) -> str:
        """What `wg` says when it fails."""
        code, _, err = self.alice.host.outcome("wg", *words)
        assert code == 1
        return err

    def file(self, content: str) -> str:
        path = self.alice.directory / f"{next(NUMBERS)}.conf"
        path.touch(mode=0o600)
        path.write_text(content)
        return str(path)

    def peer(self, key: str) -> PeerStatus | None:
        return next((peer for peer in self.alice.peers() if peer.wireguard_public_key == key), None)

    def add_stock(self, *words: str) -> None:
        """`wg set` the device as a peer."""
        endpoint = f"{self.to_stock.right.ip4}:{self.stock.port}"
        self.wg(
            *("set", self.ifname, "peer", self.stock.public_key),
            *("allowed-ips", f"{STOCK_IP4}/32", "endpoint", endpoint, *words),
        )

    def reaches(self, address: str) -> bool:
        return self.alice.host.ping(address, count=1, wait_s=1).received == 1


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    with Lab() as lab:
        hosts = [lab.host(name) for name in ("alice", "bob", "stock")]
        to_bob, to_stock = lab.veth(hosts[0], hosts[1]), lab.veth(hosts[0], hosts[2])
        ifname, other = (f"wt{os.getpid()}x{next(NUMBERS)}" for _ in range(2))
        alice = Node(hosts[0], lab.directory("alice"), f'[fc00]\nifname = "{ifname}"\naddresses = ["10.7.0.1/24"]\n')
        bob = Node(hosts[1], lab.directory("bob"), f'[fc00]\nifname = "{other}"\n')
        alice.up(*EVERYTHING)
        bob.up(*EVERYTHING)
        alice.connect(bob, to_bob.right)
        stock = StockDevice(hosts[2], (f"{STOCK_IP4}/32",), lab.directory("keys"))
        stock.start()
        stock.set_peer(alice.info.wireguard_public_key, "allowed-ips", "10.7.0.1/32,fc00::/8")
        stock.route("10.7.0.1/32")
        yield Table(lab, alice, bob, stock, to_bob, to_stock, ifname)
        # What is killed leaves its socket in a directory that all namespaces share.
        alice.down()
        bob.down()


@pytest.fixture(autouse=True)
def clean(table: Table) -> None:
    """Each test begins with Bob alone, and the device without a preshared key."""
    table.wg("set", table.ifname, "peer", table.stock.public_key, "remove")
    table.stock.set_preshared_key("")


def test_wg_show_tells_what_weft_tells(table: Table) -> None:
    assert table.reaches(table.bob.address)
    info = table.alice.info
    assert table.ifname in table.wg("show", "interfaces").split()
    shown = table.wg("show", table.ifname)
    assert f"interface: {table.ifname}\n  public key: {info.wireguard_public_key}\n" in shown
    assert f"listening port: {PORT}\n" in shown
    own, line = table.wg("show", table.ifname, "dump").splitlines()
    assert own.split("\t")[1:] == [info.wireguard_public_key, str(PORT), "off"]
    key, psk, endpoint, allowed, handshake, rx_bytes, tx_bytes, keepalive = line.split("\t")
    peer = table.alice.peer(table.bob)
    assert (key, psk, endpoint) == (table.bob.info.wireguard_public_key, "(none)", f"{table.to_bob.right.ip4}:{PORT}")
    assert (allowed, keepalive) == (f"{table.bob.address}/128", "25")
    assert abs(time.time() - (peer.handshake_age_s or 0) - int(handshake)) < 3
    assert 0 < int(rx_bytes) <= peer.rx_bytes
    assert 0 < int(tx_bytes) <= peer.tx_bytes


def test_weft_show_says_all_that_wg_show_says(table: Table) -> None:
    table.add_stock("preshared-key", table.file(table.alice.host.run("wg", "genpsk")), "persistent-keepalive", "61")
    moving = ("latest handshake", "transfer")

    def lasting(said: str) -> list[str]:
        return [line for line in said.splitlines() if not line.strip().startswith(moving)]

    ours = lasting(table.alice.weft("show"))
    assert [line for line in lasting(table.wg("show", table.ifname)) if line not in ours] == []
    assert "  persistent keepalive: every 1 minute, 1 second" in ours


def test_private_key_that_wg_shows_is_that_of_the_node(table: Table) -> None:
    private = table.wg("show", table.ifname, "private-key")
    public = table.alice.host.run("sh", "-c", f"wg pubkey < {table.file(private)}").strip()
    assert public == table.alice.info.wireguard_public_key


def test_device_that_wg_sets_is_reached_both_ways_and_kept_over_a_crash(table: Table) -> None:
    psk = table.alice.host.run("wg", "genpsk")
    table.stock.set_preshared_key(psk)
    table.add_stock("preshared-key", table.file(psk), "persistent-keepalive", "11")
    until(lambda: table.reaches(STOCK_IP4), "packets cross")
    assert table.stock.host.ping("10.7.0.1", count=1).received == 1
    peer = table.peer(table.stock.public_key)
    assert peer is not None
    assert (peer.kind, peer.addresses, peer.keepalive_s, peer.has_preshared_key) == ("wireguard", [STOCK_IP4], 11, True)
    before = table.wg("show", table.ifname, "preshared-keys")
    table.alice.kill()
    table.alice.up()
    assert sorted(table.wg("show", table.ifname, "preshared-keys").splitlines()) == sorted(before.splitlines())
    until(lambda: table.reaches(STOCK_IP4), "packets cross again")
    until(lambda: table.reaches(table.bob.address), "packets cross to Bob again")


def test_prefixes_and_preshared_key_change_and_go(table: Table) -> None:
    table.add_stock("preshared-key", table.file(table.alice.host.run("wg", "genpsk")))
    table.wg("set", table.ifname, "peer", table.stock.public_key, "allowed-ips", "10.8.0.0/24,fd08::/64")
    assert table.wg("show", table.ifname, "allowed-ips").split("\n")[1] == (
        f"{table.stock.public_key}\t10.8.0.0/24 fd08::/64"
    )
    assert "10.8.0.0/24 dev" in table.alice.host.run("ip", "route")
    table.wg("set", table.ifname, "peer", table.stock.public_key, "allowed-ips", "", "preshared-key", "/dev/null")
    assert table.wg("show", table.ifname, "allowed-ips").split("\n")[1] == f"{table.stock.public_key}\t(none)"
    assert table.wg("show", table.ifname, "preshared-keys").split("\n")[1] == f"{table.stock.public_key}\t(none)"
    assert "10.8.0.0/24" not in table.alice.host.run("ip", "route")


def test_weft_peer_gets_more_prefixes_and_keeps_its_address(table: Table) -> None:
    key = table.bob.info.wireguard_public_key
    table.wg("set", table.ifname, "peer", key, "allowed-ips", "10.9.0.0/24")
    assert table.wg("show", table.ifname, "allowed-ips").split() == [key, f"{table.bob.address}/128", "10.9.0.0/24"]
    assert table.reaches(table.bob.address)
    table.wg("set", table.ifname, "peer", key, "allowed-ips", "")
    assert table.wg("show", table.ifname, "allowed-ips").split() == [key, f"{table.bob.address}/128"]


def test_what_showconf_says_is_taken_back_without_a_new_session(table: Table) -> None:
    table.add_stock("persistent-keepalive", "25")
    until(lambda: table.reaches(STOCK_IP4), "packets cross")
    conf = table.wg("showconf", table.ifname)
    assert conf.startswith(f"[Interface]\nListenPort = {PORT}\nPrivateKey = ")
    handshakes = table.wg("show", table.ifname, "latest-handshakes")
    for command in ("setconf", "syncconf", "addconf"):
        table.wg(command, table.ifname, table.file(conf))
        assert table.wg("showconf", table.ifname) == conf
    assert table.wg("show", table.ifname, "latest-handshakes") == handshakes
    assert table.peer(table.bob.info.wireguard_public_key).kind == "weft"  # type: ignore[union-attr]


def test_addconf_adds_and_syncconf_takes_away(table: Table) -> None:
    before = table.wg("showconf", table.ifname)
    # Whoever runs weft does not have the key at hand: a file need not name it.
    before = before[before.index("[Peer]") :]
    more = f"[Peer]\nPublicKey = {table.stock.public_key}\nAllowedIPs = {STOCK_IP4}/32\n"
    table.wg("addconf", table.ifname, table.file(more))
    assert table.peer(table.stock.public_key) is not None
    table.wg("syncconf", table.ifname, table.file(before))
    assert table.peer(table.stock.public_key) is None
    assert table.peer(table.bob.info.wireguard_public_key) is not None


def test_setconf_forgets_weft_peers_that_are_not_in_the_file(table: Table) -> None:
    conf = table.wg("showconf", table.ifname).split("[Peer]")[0]
    table.wg("setconf", table.ifname, table.file(conf))
    assert table.alice.peers() == []
    table.alice.connect(table.bob, table.to_bob.right)


def test_weft_peer_is_removed_by_wg(table: Table) -> None:
    table.wg("set", table.ifname, "peer", table.bob.info.wireguard_public_key, "remove")
    assert table.alice.peers() == []
    table.alice.connect(table.bob, table.to_bob.right)


def test_key_of_the_node_is_not_set_by_wg(table: Table) -> None:
    other = table.file(table.alice.host.run("wg", "genkey"))
    words = ("set", table.ifname, "private-key", other, "peer", table.stock.public_key, "allowed-ips", "10.8.0.0/24")
    assert table.refused(*words) == "Unable to modify interface: Operation not permitted\n"
    assert table.peer(table.stock.public_key) is None
    assert "the key of a weft node" in table.alice.weft("logs")


def test_port_and_mark_are_set_by_wg_and_the_tunnel_goes_on(table: Table) -> None:
    table.wg("set", table.ifname, "listen-port", "1414", "fwmark", "0x77")
    assert table.wg("show", table.ifname, "listen-port") == "1414\n"
    assert table.wg("show", table.ifname, "fwmark") == "0x77\n"
    assert {listener.multiaddr for listener in table.alice.status().listeners} == {
        "/ip4/0.0.0.0/udp/1414",
        "/ip6/::/udp/1414",
    }
    until(lambda: table.reaches(table.bob.address), "packets cross from the new port")
    assert table.bob.peer(table.alice).endpoint == f"{table.to_bob.left.ip4}:1414"
    table.wg("set", table.ifname, "listen-port", str(PORT), "fwmark", "off")
    assert table.wg("show", table.ifname, "fwmark") == "off\n"
    until(lambda: table.reaches(table.bob.address), "packets cross from the old port")


def test_port_that_is_in_use_is_refused_by_its_name(table: Table) -> None:
    taken = table.alice.host.start(
        sys.executable, "-c", "import socket; s=socket.socket(2, 2); s.bind(('', 1515)); print('bound'); input()"
    )
    taken.wait_for("bound")
    assert table.refused("set", table.ifname, "listen-port", "1515") == (
        "Unable to modify interface: Address already in use\n"
    )
    assert table.wg("show", table.ifname, "listen-port") == f"{PORT}\n"
    taken.stop()


def test_fault_in_a_file_changes_nothing(table: Table) -> None:
    before = table.wg("showconf", table.ifname)
    faulty = before + (
        f"\n[Peer]\nPublicKey = {table.stock.public_key}\nAllowedIPs = 10.8.0.0/24\nEndpoint = [fc00::1]:51820\n"
    )
    assert "Unable to modify interface" in table.refused("addconf", table.ifname, table.file(faulty))
    assert table.wg("showconf", table.ifname) == before


def test_socket_goes_with_the_interface(table: Table) -> None:
    path = Path(f"/var/run/wireguard/{table.ifname}.sock")
    assert path.stat().st_mode & 0o777 == 0o600
    table.alice.weft("fc00", "stop")
    until(lambda: not path.exists(), "the socket is gone")
    table.alice.weft("fc00", "start")
    until(path.exists, "the socket is there")
    assert table.ifname in table.wg("show", "interfaces").split()
