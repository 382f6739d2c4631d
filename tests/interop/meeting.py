"""A weft node and a stock WireGuard device on two hosts with a cable between them.

    weft    fc…           10.7.0.1    on weft0; the IPv4 address is one that the person gave the interface
    stock   fd07::2       10.7.0.2    on wg…

Who has the other's endpoint is the one that begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.interop.pinging import Pinging
from tests.interop.stock import StockDevice
from tests.system.lab import Cable, Host, Interface, Lab
from tests.system.node import EVERYTHING, PORT, Family, Node
from tests.system.waiting import until

Role = Literal["weft", "stock"]

KEEPALIVE_BYTES = 32

WEFT_IP4, STOCK_IP4, STOCK_IP6 = "10.7.0.1", "10.7.0.2", "fd07::2"
IFNAME = "weft0"


@dataclass
class Meeting:
    """The two, and what lies between them."""

    lab: Lab
    cable: Cable
    node: Node
    stock: StockDevice
    family: Family

    @property
    def weft_host(self) -> Host:
        return self.cable.left.host

    @property
    def stock_host(self) -> Host:
        return self.cable.right.host

    @property
    def weft_addresses(self) -> tuple[str, str]:
        """Where the stock device reaches the node, in the overlay."""
        return self.node.address, WEFT_IP4

    @property
    def stock_addresses(self) -> tuple[str, str]:
        """Where the node reaches the stock device, in the overlay."""
        return STOCK_IP6, STOCK_IP4

    def weft_endpoint(self) -> str:
        return endpoint(self.cable.left, PORT, self.family)

    def stock_endpoint(self) -> str:
        return endpoint(self.cable.right, self.stock.port, self.family)

    def dropped(self, reason: str) -> int:
        """How often the node dropped something for a reason."""
        return self.node.status().drops.get(reason, 0)

    def add_stock(self, *words: str, calls: bool) -> None:
        """Tell the node of the device; with its endpoint, the node calls it."""
        allowed = ",".join((f"{STOCK_IP4}/32", f"{STOCK_IP6}/128"))
        given = ("--endpoint", self.stock_endpoint()) if calls else ()
        self.node.weft(
            "peer", "add-wireguard", self.stock.public_key, "--name", "stock", "--allowed-ips", allowed, *given, *words
        )

    def add_weft(self, *words: str, calls: bool) -> None:
        """Tell the device of the node; with its endpoint, packets for the node make the device call it."""
        given = ("endpoint", self.weft_endpoint()) if calls else ()
        allowed = f"{self.node.address}/128,{WEFT_IP4}/32"
        self.stock.set_peer(self.node.info.wireguard_public_key, "allowed-ips", allowed, *given, *words)
        self.stock.route(f"{self.node.address}/128", f"{WEFT_IP4}/32")

    def introduce(self, caller: Role) -> None:
        """Tell each of the other; the caller knows where the other is."""
        self.add_weft(calls=caller == "stock")
        self.add_stock(calls=caller == "weft")

    def stop_keepalives(self) -> None:
        """Let no keepalive of the node reach the device from now on.

        One leaves whenever the node's network has changed, from where it was called last. A device that was told
        another endpoint just before follows it back there, and what is asked at that endpoint is answered from it.
        """
        self.stock_host.nft("add table inet quiet; add chain inet quiet input { type filter hook input priority 0; }")
        self.stock_host.nft(f"add rule inet quiet input udp sport {PORT} udp length {8 + KEEPALIVE_BYTES} drop")

    def secret(self, content: str) -> Path:
        """Put a preshared key into a file that only its owner may read."""
        path = self.node.directory / "stock.psk"
        path.touch(mode=0o600)
        path.write_text(content)
        return path

    def give_ip4(self) -> None:
        """Give the interface of the node the IPv4 address."""
        self.weft_host.ip("addr", "add", f"{WEFT_IP4}/32", "dev", IFNAME)

    def wait_until_up(self, timeout_s: float = 10) -> None:
        """Return when packets cross, sent by whoever can begin."""
        calls = self.stock.shown().endpoint != "(none)"
        until(lambda: self.crosses(from_stock=calls), "packets cross the tunnel", timeout_s)

    def crosses(self, *, from_stock: bool = True) -> bool:
        """Whether one packet crosses the tunnel and is answered."""
        host, (address, _) = self.way(from_stock=from_stock)
        return host.ping(address, count=1, wait_s=1).received == 1

    def loses_nothing(self, *, from_stock: bool, ip4: bool = False, count: int = 3) -> bool:
        """Whether as many packets cross the tunnel and are answered, at least, and none is lost."""
        host, addresses = self.way(from_stock=from_stock)
        pinging = Pinging(host, addresses[ip4])
        pinging.wait_for_more(count - 1)
        ping = pinging.stop()
        return ping.received == ping.sent

    def handshakes(self, caller: Role) -> int:
        """How many handshakes one side has begun, as the stock device tells."""
        wording = {"weft": "Received handshake initiation", "stock": "Sending handshake initiation"}[caller]
        return self.stock.process.output().count(wording)

    def keepalives(self, sender: Role) -> int:
        """How many keepalives one side has sent, as the stock device tells."""
        wording = {"weft": "Receiving keepalive packet", "stock": "Sending keepalive packet"}[sender]
        return self.stock.process.output().count(wording)

    def counters_agree(self) -> bool:
        """Whether each end has counted the bytes that the other one has, so that none are on their way."""
        shown, peer = self.stock.shown(), self.node.peer()
        return (shown.rx_bytes, shown.tx_bytes) == (peer.tx_bytes, peer.rx_bytes)

    def way(self, *, from_stock: bool) -> tuple[Host, tuple[str, str]]:
        """One end, and the addresses of the other, in the overlay."""
        return (self.stock_host, self.weft_addresses) if from_stock else (self.weft_host, self.stock_addresses)


def endpoint(end: Interface, port: int, family: Family) -> str:
    """An endpoint of the underlay, as `wg` and weft take it."""
    return f"{end.ip4}:{port}" if family == "IPv4" else f"[{end.ip6}]:{port}"


def prepare(lab: Lab, family: Family = "IPv4", cable: Cable | None = None, **environment: str) -> Meeting:
    """Run both programs, at the ends of a new cable if there is none yet; they don't know each other."""
    cable = cable or lab.veth(lab.host("weft"), lab.host("stock"))
    node = Node(cable.left.host, lab.directory("node"))
    stock = StockDevice(cable.right.host, (f"{STOCK_IP4}/32", f"{STOCK_IP6}/128"), lab.directory("keys"))
    stock.start()
    node.up(*EVERYTHING, **environment)
    meeting = Meeting(lab, cable, node, stock, family)
    meeting.give_ip4()
    return meeting


def meet(lab: Lab, family: Family = "IPv4", caller: Role = "weft", cable: Cable | None = None) -> Meeting:
    """Run both programs, and have one call the other; packets cross when this returns."""
    meeting = prepare(lab, family, cable)
    meeting.introduce(caller)
    meeting.wait_until_up()
    return meeting
