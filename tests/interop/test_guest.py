"""Files of WireGuard devices, both ways: what weft prints runs in wireguard-go, and what it ran from is imported."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.meeting import STOCK_IP4, WEFT_IP4, Meeting, meet, prepare
from tests.interop.stock import StockDevice
from tests.system.lab import Host, Lab
from tests.system.node import EVERYTHING, Node
from tests.system.waiting import until
from weft.identity import decode_wireguard_key, encode_wireguard_key, noise_public_of

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg", "wg-quick")]

NUMBERS = itertools.count()
ADDRESSES = f'[fc00]\naddresses = ["{WEFT_IP4}/24"]\n'


def secret_file(lab: Lab, content: str, stem: str | None = None) -> Path:
    """A file that only its owner may read; wg-quick calls the interface as it."""
    path = lab.directory(f"d{next(NUMBERS)}") / f"{stem or f'wq{os.getpid()}x{next(NUMBERS)}'}.conf"
    path.touch(mode=0o600)
    path.write_text(content)
    return path


@contextmanager
def quick(host: Host, conf: Path) -> Iterator[str]:
    """`wg-quick up` and `down`; the name of the interface."""
    host.run("wg-quick", "up", str(conf))
    try:
        yield conf.stem
    finally:
        host.run("wg-quick", "down", str(conf))


def crosses(host: Host, address: str) -> bool:
    return host.ping(address, count=1, wait_s=1).received == 1


def test_guest_runs_with_its_printed_file_and_is_kept_over_a_restart(lab: Lab) -> None:
    cable = lab.veth(lab.host("node"), lab.host("phone"))
    node, phone = Node(cable.left.host, lab.directory("node"), ADDRESSES), cable.right.host
    node.up(*EVERYTHING)
    said = node.weft("guest", "add", "phone", "--allowed-ips", "10.7.0.2/32")
    assert "█" not in said
    private = re.search(r"^PrivateKey = (.*)$", said, re.MULTILINE)
    assert private
    key = encode_wireguard_key(noise_public_of(decode_wireguard_key(private[1])))
    peer = node.peer()
    assert (peer.name, peer.kind, peer.wireguard_public_key, peer.has_preshared_key) == (
        "phone",
        "wireguard",
        key,
        True,
    )
    own = peer.addresses[0]
    with quick(phone, secret_file(lab, said)) as ifname:
        assert own in phone.run("ip", "-6", "addr", "show", ifname)
        until(lambda: crosses(phone, node.address), "the guest reaches the node")
        assert crosses(node.host, own)
        assert crosses(node.host, "10.7.0.2")
        node.down()
        node.up()
        until(lambda: crosses(phone, node.address), "the guest reaches the node again")
        assert crosses(node.host, own)
    for path in node.directory.rglob("*"):
        if path.is_file():
            assert private[1].encode() not in path.read_bytes(), path
    node.weft("peer", "remove", "phone")
    assert node.peers() == []


def test_wg_config_of_a_device_is_all_that_it_needs_but_its_key(lab: Lab) -> None:
    cable = lab.veth(lab.host("node"), lab.host("device"))
    node, host = Node(cable.left.host, lab.directory("node"), ADDRESSES), cable.right.host
    node.up(*EVERYTHING)
    device = StockDevice(host, (f"{STOCK_IP4}/32",), lab.directory("keys"))
    psk = secret_file(lab, host.run("wg", "genpsk"))
    node.weft(
        *("peer", "add-wireguard", device.public_key, "--name", "device"),
        *("--allowed-ips", f"{STOCK_IP4}/32", "--psk-file", str(psk)),
    )
    said = node.weft("wg-config", "device")
    assert device.public_key in said
    private = (lab._directory / "keys" / f"{device.ifname}.private").read_text().strip()
    whole = said.replace("# PrivateKey =", f"PrivateKey = {private}")
    with quick(host, secret_file(lab, whole)):
        until(lambda: crosses(host, WEFT_IP4), "the device reaches the node")
        assert crosses(node.host, STOCK_IP4)


def test_what_wireguard_go_ran_from_is_imported_and_the_other_side_changes_one_line(lab: Lab) -> None:
    cable = lab.veth(lab.host("old"), lab.host("other"))
    old = StockDevice(cable.left.host, (f"{WEFT_IP4}/32",), lab.directory("keys"))
    other = StockDevice(cable.right.host, (f"{STOCK_IP4}/32",), lab.directory("keys2"))
    old.start()
    other.start()
    psk = cable.left.host.run("wg", "genpsk")
    at = f"{cable.right.ip4}:{other.port}"
    old.set_peer(other.public_key, "allowed-ips", f"{STOCK_IP4}/32")
    old.set_preshared_key(psk)
    other.set_peer(old.public_key, "allowed-ips", f"{WEFT_IP4}/32,fc00::/8")
    other.set_preshared_key(psk)
    old.wg_set("peer", other.public_key, "endpoint", at, "persistent-keepalive", "25")
    for device, address in ((old, STOCK_IP4), (other, WEFT_IP4)):
        device.route(f"{address}/32")
    until(lambda: crosses(old.host, STOCK_IP4), "the two devices are connected")
    shown = old.host.run("wg", "showconf", old.ifname).replace("[Peer]", "# other\n[Peer]")
    shown = shown.replace("[Interface]", f"[Interface]\nAddress = {WEFT_IP4}/32")
    conf = secret_file(lab, shown, "wg0")
    old.kill()
    node = Node(cable.left.host, lab.directory("node"))
    node.up(*EVERYTHING)
    assert node.weft("import", "--dry-run", str(conf)).startswith(f"would add other with {STOCK_IP4}/32 at {at}\n")
    assert node.peers() == []
    other.wg_set("peer", old.public_key, "remove")
    other.set_peer(node.info.wireguard_public_key, "allowed-ips", f"{WEFT_IP4}/32,fc00::/8")
    other.set_preshared_key(psk)
    said = node.weft("import", str(conf))
    assert f"instead of {old.public_key}:\nPublicKey = {node.info.wireguard_public_key}\n" in said
    assert "# ListenPort: not taken" in said
    peer = node.peer()
    assert (peer.name, peer.addresses, peer.keepalive_s, peer.has_preshared_key) == ("other", [STOCK_IP4], 25, True)
    until(lambda: crosses(node.host, STOCK_IP4), "packets cross")
    assert crosses(other.host, WEFT_IP4)


def test_device_with_a_new_key_is_the_same_peer_again(lab: Lab) -> None:
    meeting = meet(lab, caller="stock")
    device = meeting.stock
    private = meeting.stock_host.run("wg", "genkey")
    device.wg_set("private-key", str(meeting.secret(private)))
    public = encode_wireguard_key(noise_public_of(decode_wireguard_key(private.strip())))
    assert not meeting.crosses()
    meeting.node.weft("peer", "set", "stock", "--public-key", public)
    until(meeting.crosses, "packets cross with the new key")
    peer = meeting.node.peer()
    assert (peer.name, peer.wireguard_public_key, peer.addresses[0]) == ("stock", public, STOCK_IP4)


def test_keepalive_that_is_set_keeps_the_device_hearing_of_us(lab: Lab) -> None:
    meeting = meet(lab, caller="weft")
    until(meeting.counters_agree, "nothing is on its way")
    meeting.node.weft("peer", "set", "stock", "--keepalive", "1")
    assert heard(meeting) > 0
    meeting.node.weft("peer", "set", "stock", "--keepalive", "off")
    assert meeting.node.peer().keepalive_s == 0


def heard(meeting: Meeting) -> int:
    """How many bytes more the device gets within 3 s; the first that come end it."""
    before = meeting.stock.shown().rx_bytes
    until(lambda: meeting.stock.shown().rx_bytes > before, "a keepalive comes", 3)
    return meeting.stock.shown().rx_bytes - before


def test_weft_node_has_no_wg_config(lab: Lab) -> None:
    meeting = prepare(lab)
    code, out, err = meeting.node.outcome("wg-config", meeting.node.id)
    assert (code, out) == (2, "")
    assert err.startswith("weft: no peer")
