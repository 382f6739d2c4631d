"""This node as one WireGuard interface: what `wg` and files of wg-quick change, and that it is all or nothing."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv6Address, ip_network
from pathlib import Path

import pytest

from tests.unit.engine.nodes import LISTEN, directory
from tests.unit.engine.pair import identity
from weft.engine.config import load_config
from weft.engine.device import (
    AllowedIpChange,
    ChangeRefusedError,
    Device,
    DeviceChange,
    DevicePeer,
    PeerChange,
    PeerSettings,
)
from weft.engine.engine import Engine
from weft.errors import ConfigError, UsageError
from weft.identity import encode_wireguard_key, noise_public_of
from weft.io.store import Store

# Public keys of devices; none of them has an address in fc00::/8.
PHONE, HUB = (noise_public_of(bytes([number]) * 32) for number in (1, 2))
PSK = bytes(range(32))
BOB = identity("bob")
BOB_NETWORK = ip_network(BOB.address)


def prefixes(*texts: str) -> list[AllowedIpChange]:
    return [AllowedIpChange(network=ip_network(text.lstrip("-")), remove=text.startswith("-")) for text in texts]


def peer_of(node: Engine, key: bytes) -> DevicePeer | None:
    return next((peer for peer in node.wireguard.device().peers if peer.public_key == key), None)


def settled(node: Engine) -> set[DevicePeer]:
    """The peers, whatever was sent to them."""
    return {replace(peer, tx_bytes=0) for peer in node.wireguard.device().peers}


def allowed(node: Engine, key: bytes) -> list[str]:
    peer = peer_of(node, key)
    assert peer is not None
    return list(map(str, peer.allowed_ips))


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Engine]:
    config = directory(tmp_path, "alice") / "weft.toml"
    config.write_text(f'[peer]\nlisten = ["{LISTEN}"]\n[fc00]\naddresses = ["10.7.0.1/24", "fd07::1/64"]\n')
    engine = Engine(config.parent, load_config(config))
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def busy(node: Engine) -> Engine:
    """A node with a device and a weft peer."""
    node._life.running.contacts.add_weft(BOB.noise_public, BOB.peer_id, is_wanted=True)
    change = PeerChange(
        public_key=PHONE,
        preshared_key=PSK,
        endpoint="127.0.0.1:9",
        keepalive_s=25,
        allowed_ips=prefixes("10.7.0.2/32", "10.9.0.0/24"),
    )
    await node.wireguard.change(DeviceChange(peers=[change]))
    return node


def set_peer(key: bytes, **values: object) -> DeviceChange:
    return DeviceChange(peers=[PeerChange(public_key=key, **values)])  # type: ignore[arg-type]


async def test_device_is_the_node_and_its_peers(busy: Engine) -> None:
    device = busy.wireguard.device()
    me = identity("alice")
    port = int(busy.status().listeners[0].multiaddr.rpartition("/")[2])
    assert device == Device(
        private_key=me.noise_private,
        listen_port=port,
        fwmark=0,
        peers=(
            DevicePeer(public_key=BOB.noise_public, keepalive_s=25, allowed_ips=(BOB_NETWORK,)),
            DevicePeer(
                public_key=PHONE,
                preshared_key=PSK,
                endpoint="127.0.0.1:9",
                keepalive_s=25,
                allowed_ips=(ip_network("10.7.0.2/32"), ip_network("10.9.0.0/24")),
            ),
        ),
    )


async def test_new_device_is_stored_when_the_change_returns(busy: Engine, tmp_path: Path) -> None:
    stored = {peer.key: peer for peer in Store(tmp_path / "alice").load_state().peers}
    phone = stored[encode_wireguard_key(PHONE)]
    assert (phone.kind, phone.allowed_ips, phone.keepalive_s) == ("wireguard", ["10.7.0.2/32", "10.9.0.0/24"], 25)
    assert (phone.psk, phone.configured) == (encode_wireguard_key(PSK), ["/ip4/127.0.0.1/udp/9"])


async def test_what_is_not_named_stays(busy: Engine) -> None:
    before = settled(busy)
    await busy.wireguard.change(set_peer(PHONE))
    assert settled(busy) == before
    await busy.wireguard.change(set_peer(PHONE, keepalive_s=0, preshared_key=bytes(32)))
    after = peer_of(busy, PHONE)
    assert after is not None
    assert (after.keepalive_s, after.preshared_key, after.endpoint) == (0, bytes(32), "127.0.0.1:9")


async def test_prefixes_are_added_taken_away_and_replaced(busy: Engine) -> None:
    await busy.wireguard.change(set_peer(PHONE, allowed_ips=prefixes("10.8.0.0/24", "-10.9.0.0/24", "-10.99.0.0/24")))
    assert allowed(busy, PHONE) == ["10.7.0.2/32", "10.8.0.0/24"]
    await busy.wireguard.change(set_peer(PHONE, replace_allowed_ips=True, allowed_ips=prefixes("fd07::/64")))
    assert allowed(busy, PHONE) == ["fd07::/64"]
    await busy.wireguard.change(set_peer(PHONE, replace_allowed_ips=True))
    assert allowed(busy, PHONE) == []


async def test_prefix_goes_from_one_device_to_another_as_with_wg(busy: Engine) -> None:
    await busy.wireguard.change(set_peer(HUB, allowed_ips=prefixes("10.9.0.0/24")))
    assert (allowed(busy, PHONE), allowed(busy, HUB)) == (["10.7.0.2/32"], ["10.9.0.0/24"])


async def test_weft_peer_keeps_its_own_address_whatever_wg_says(busy: Engine) -> None:
    for change, then in (
        (set_peer(BOB.noise_public, allowed_ips=prefixes("10.8.0.0/24")), [str(BOB_NETWORK), "10.8.0.0/24"]),
        (set_peer(BOB.noise_public, allowed_ips=prefixes(f"-{BOB_NETWORK}")), [str(BOB_NETWORK), "10.8.0.0/24"]),
        (set_peer(BOB.noise_public, allowed_ips=prefixes(str(BOB_NETWORK))), [str(BOB_NETWORK), "10.8.0.0/24"]),
        (set_peer(BOB.noise_public, replace_allowed_ips=True), [str(BOB_NETWORK)]),
    ):
        await busy.wireguard.change(change)
        assert allowed(busy, BOB.noise_public) == then


async def test_address_of_a_weft_node_is_given_to_nobody_else(busy: Engine) -> None:
    own = IPv6Address(identity("alice").address)
    for network in (str(BOB_NETWORK), f"{own}/128", "fc00::/8"):
        with pytest.raises(UsageError):
            await busy.wireguard.change(set_peer(PHONE, allowed_ips=prefixes(network)))
    assert allowed(busy, BOB.noise_public) == [str(BOB_NETWORK)]
    assert allowed(busy, PHONE) == ["10.7.0.2/32", "10.9.0.0/24"]


async def test_weft_peer_takes_no_preshared_key_and_does_not_mind_none(busy: Engine) -> None:
    with pytest.raises(UsageError, match="secret of the network"):
        await busy.wireguard.change(set_peer(BOB.noise_public, preshared_key=PSK))
    await busy.wireguard.change(set_peer(BOB.noise_public, preshared_key=bytes(32), keepalive_s=7))
    peer = peer_of(busy, BOB.noise_public)
    assert peer is not None
    assert peer.keepalive_s == 7


async def test_secret_of_the_network_is_the_preshared_key_of_weft_peers(node: Engine) -> None:
    node._life.terms.network_psk = PSK
    node._life.running.contacts.add_weft(BOB.noise_public, BOB.peer_id, is_wanted=True)
    peer = peer_of(node, BOB.noise_public)
    assert peer is not None
    assert peer.preshared_key == PSK
    await node.wireguard.change(set_peer(BOB.noise_public, preshared_key=PSK))
    with pytest.raises(UsageError, match="secret of the network"):
        await node.wireguard.change(set_peer(BOB.noise_public, preshared_key=PHONE))


async def test_peers_of_both_kinds_are_removed(busy: Engine) -> None:
    await busy.wireguard.change(set_peer(PHONE, remove=True))
    await busy.wireguard.change(set_peer(BOB.noise_public, remove=True))
    await busy.wireguard.change(set_peer(HUB, remove=True))
    assert busy.wireguard.device().peers == ()


async def test_update_only_makes_no_peer(busy: Engine) -> None:
    await busy.wireguard.change(set_peer(HUB, update_only=True, allowed_ips=prefixes("10.8.0.0/24")))
    assert peer_of(busy, HUB) is None
    await busy.wireguard.change(set_peer(PHONE, update_only=True, keepalive_s=3))
    peer = peer_of(busy, PHONE)
    assert peer is not None
    assert peer.keepalive_s == 3


async def test_replacing_all_peers_forgets_the_others_and_what_was_set(busy: Engine) -> None:
    change = DeviceChange(
        replace_peers=True,
        peers=[
            PeerChange(public_key=HUB, allowed_ips=prefixes("10.9.0.0/24")),
            PeerChange(public_key=PHONE, allowed_ips=prefixes("10.7.0.3/32")),
        ],
    )
    await busy.wireguard.change(change)
    assert {peer.public_key for peer in busy.wireguard.device().peers} == {PHONE, HUB}
    peer = peer_of(busy, PHONE)
    assert peer is not None
    assert (peer.preshared_key, peer.keepalive_s, allowed(busy, PHONE)) == (bytes(32), 0, ["10.7.0.3/32"])


async def test_weft_peer_that_is_named_among_the_replaced_stays_one(busy: Engine) -> None:
    change = DeviceChange(
        replace_peers=True, peers=[PeerChange(public_key=BOB.noise_public, allowed_ips=prefixes(str(BOB_NETWORK)))]
    )
    await busy.wireguard.change(change)
    (peer,) = busy.peers.list().peers
    assert (peer.kind, peer.id) == ("weft", str(BOB.peer_id))


async def test_same_peer_twice_in_one_change_is_changed_twice(node: Engine) -> None:
    change = DeviceChange(
        peers=[
            PeerChange(public_key=PHONE, keepalive_s=3, allowed_ips=prefixes("10.7.0.2/32")),
            PeerChange(public_key=HUB),
            PeerChange(public_key=PHONE, allowed_ips=prefixes("10.7.0.3/32")),
            PeerChange(public_key=HUB, remove=True),
        ]
    )
    await node.wireguard.change(change)
    (peer,) = node.wireguard.device().peers
    assert (peer.keepalive_s, allowed(node, PHONE)) == (3, ["10.7.0.2/32", "10.7.0.3/32"])


async def test_node_itself_is_passed_over(node: Engine) -> None:
    await node.wireguard.change(set_peer(identity("alice").noise_public, allowed_ips=prefixes("10.8.0.0/24")))
    assert node.wireguard.device().peers == ()


async def test_blocked_peer_is_not_let_in_by_wg(busy: Engine) -> None:
    await busy.peers.block(encode_wireguard_key(PHONE))
    with pytest.raises(UsageError, match="blocked"):
        await busy.wireguard.change(set_peer(PHONE, keepalive_s=1))
    await busy.wireguard.change(DeviceChange(replace_peers=True))
    assert [(peer.state, peer.kind) for peer in busy.peers.list().peers] == [("blocked", "wireguard")]


async def test_change_with_a_fault_at_its_end_changes_nothing(busy: Engine, tmp_path: Path) -> None:
    before, stored = settled(busy), Store(tmp_path / "alice").load_state()
    change = DeviceChange(
        replace_peers=True,
        peers=[
            PeerChange(public_key=HUB, allowed_ips=prefixes("10.7.0.2/32")),
            PeerChange(public_key=PHONE, endpoint="[fc00::1]:51820"),
        ],
    )
    with pytest.raises(UsageError):
        await busy.wireguard.change(change)
    assert settled(busy) == before
    assert Store(tmp_path / "alice").load_state() == stored


async def test_change_that_can_not_be_saved_changes_nothing(busy: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ConfigError("No space left on device")

    before = settled(busy)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "save_state", full)
        with pytest.raises(ConfigError, match="nothing was changed"):
            await busy.wireguard.change(DeviceChange(replace_peers=True, peers=[PeerChange(public_key=HUB)]))
    assert settled(busy) == before


async def test_key_of_the_node_is_refused_unless_it_is_so_already(busy: Engine) -> None:
    device = busy.wireguard.device()
    await busy.wireguard.change(
        DeviceChange(private_key=device.private_key, listen_port=device.listen_port, fwmark=0, peers=[])
    )
    await busy.wireguard.change(DeviceChange(listen_port=0, private_key=bytes(32)))
    assert busy.wireguard.device().private_key == device.private_key
    assert busy.wireguard.device().listen_port == device.listen_port
    with pytest.raises(ChangeRefusedError) as caught:
        await busy.wireguard.change(DeviceChange(private_key=PSK, peers=[PeerChange(public_key=PHONE, remove=True)]))
    assert caught.value.errno == errno.EPERM
    assert peer_of(busy, PHONE) is not None


async def test_port_is_changed_in_the_configuration(busy: Engine, tmp_path: Path) -> None:
    port = free_port()
    await busy.wireguard.change(DeviceChange(listen_port=port))
    assert busy.wireguard.device().listen_port == port
    assert load_config(tmp_path / "alice" / "weft.toml").peer.listen == (f"/ip4/127.0.0.1/udp/{port}",)


async def test_port_that_is_in_use_is_refused_and_nothing_changes(busy: Engine) -> None:
    before = busy.wireguard.device().listen_port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(ChangeRefusedError) as caught:
            await busy.wireguard.change(
                DeviceChange(listen_port=other.getsockname()[1], peers=[PeerChange(public_key=PHONE, remove=True)])
            )
    assert caught.value.errno == errno.EADDRINUSE
    assert (busy.wireguard.device().listen_port, peer_of(busy, PHONE) is not None) == (before, True)


async def test_port_is_what_it_was_when_a_peer_can_not_be_so(busy: Engine) -> None:
    change = PeerChange(public_key=PHONE, allowed_ips=prefixes(str(BOB_NETWORK)))
    with pytest.raises(UsageError):
        await busy.wireguard.change(DeviceChange(listen_port=free_port(), peers=[change]))
    assert busy._life.config.peer.listen == (LISTEN,)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Files of wg-quick.


def settings(key: bytes, name: str, *allowed_ips: str, **values: object) -> PeerSettings:
    return PeerSettings(
        public_key=encode_wireguard_key(key),
        name=name,
        allowed_ips=list(allowed_ips),
        **values,  # type: ignore[arg-type]
    )


async def test_devices_of_a_file_become_peers(node: Engine) -> None:
    added = await node.wireguard.add(
        [
            settings(HUB, "hub", "10.8.0.0/24", endpoint="hub.example.org:51820", keepalive_s=25),
            settings(PHONE, "phone", "10.7.0.2/32", preshared_key=encode_wireguard_key(PSK)),
        ],
        ["10.7.0.1/24", "10.12.0.1/24"],
    )
    assert node._life.config.fc00.addresses == ("10.7.0.1/24", "fd07::1/64", "10.12.0.1/24")
    assert [(peer.name, peer.addresses, peer.endpoint) for peer in added] == [
        ("hub", ["10.8.0.0/24"], "hub.example.org:51820"),
        ("phone", ["10.7.0.2"], None),
    ]
    assert [(peer.keepalive_s, peer.has_preshared_key) for peer in added] == [(25, False), (0, True)]


@pytest.mark.parametrize(
    "wrong",
    [
        settings(BOB.noise_public, "bob", "10.8.0.0/24"),
        settings(HUB, "phone", "10.8.0.0/24"),
        settings(HUB, "hub", "10.7.0.2/32"),
        settings(HUB, "hub", "10.8.0.0/33"),
        settings(HUB, "hub", "10.8.0.0/24", endpoint="hub"),
        settings(HUB, "hub", "10.8.0.0/24", preshared_key="short"),
        settings(b"short", "hub", "10.8.0.0/24"),
    ],
    ids=["weft", "name", "taken", "prefix", "endpoint", "psk", "key"],
)
async def test_file_with_one_wrong_device_adds_none(busy: Engine, tmp_path: Path, wrong: PeerSettings) -> None:
    before = settled(busy)
    third = noise_public_of(bytes([3]) * 32)
    await busy.wireguard.add(
        [
            settings(
                PHONE, "phone", "10.7.0.2/32", "10.9.0.0/24", keepalive_s=25, preshared_key=encode_wireguard_key(PSK)
            )
        ],
        [],
    )
    with pytest.raises(UsageError):
        await busy.wireguard.add([settings(third, "third", "10.10.0.0/24"), wrong], ["10.10.0.1/24"])
    assert "10.10.0.1/24" not in (tmp_path / "alice" / "weft.toml").read_text()
    assert settled(busy) == before


async def test_device_is_told_what_it_needs(busy: Engine) -> None:
    await busy.wireguard.add([settings(HUB, "guest", "10.7.0.9/32", "10.11.0.0/24")], [])
    config = busy.wireguard.config("guest")
    assert config.name == "guest"
    assert config.device_public_key == encode_wireguard_key(HUB)
    assert (config.addresses, config.preshared_key) == (["10.7.0.9/32"], None)
    assert config.public_key == busy.info().wireguard_public_key
    assert config.allowed_ips == ["fc00::/8", "10.7.0.0/24", "fd07::/64"]
    assert busy.wireguard.config(encode_wireguard_key(PHONE)).preshared_key == encode_wireguard_key(PSK)
    assert busy.wireguard.config(None).addresses == []


async def test_weft_node_needs_no_file(busy: Engine) -> None:
    with pytest.raises(UsageError, match="is a weft node"):
        busy.wireguard.config(str(BOB.peer_id))


async def test_likeliest_endpoint_comes_first(busy: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = [
        "/ip6/fd00::1",
        "/ip4/192.168.1.2",
        "/ip6/2606:4700::1111",
        "/ip4/127.0.0.1",
        "/ip6/fe80::1",
        "/ip4/1.1.1.1",
    ]
    monkeypatch.setattr(busy._life.underlay, "multiaddrs", lambda _: [f"{host}/udp/1312" for host in hosts])
    assert busy.wireguard.config(None).endpoints == [
        "1.1.1.1:1312",
        "[2606:4700::1111]:1312",
        "192.168.1.2:1312",
        "[fd00::1]:1312",
    ]
