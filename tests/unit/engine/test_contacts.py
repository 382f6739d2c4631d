"""Who may be a peer, how a person finds one, and what is kept of it."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_network
from itertools import count
from random import Random
from typing import Any

import pytest

from tests.unit.engine.pair import WALL_NS, S, add_device, identity
from weft.engine import contacts as contacts_module
from weft.engine.contacts import Contacts
from weft.engine.making import Terms
from weft.engine.peer import Peer
from weft.errors import UsageError
from weft.identity import encode_wireguard_key, is_usable_address
from weft.io.store import StoredPeer
from weft.multiaddr import decode_multiaddr
from weft.noise.keypair import KeypairTable
from weft.noise.primitives import StaticKey
from weft.noise.tai64n import TIMESTAMP_BYTES, next_timestamp

NO_PSK = bytes(32)


def make(*, floor: bytes = bytes(12), removed: list[Peer] | None = None, **terms: Any) -> Contacts:
    random = Random(1)
    own = identity("bob")
    keywords: dict[str, Any] = {
        "identity": own,
        "static": StaticKey(own.noise_private),
        "network_psk": b"\5" * 32,
        "keepalive_ns": 25 * S,
        "mtu": 1352,
        "accepts_unknown": True,
        "fixed_pieces": None,
        "random_bytes": random.randbytes,
        "clock": lambda: 1000 * S,
        "wall_clock": lambda: WALL_NS,
    }
    when_removed = (lambda peer: None) if removed is None else removed.append
    return Contacts(Terms(**(keywords | terms)), KeypairTable(random.randbytes), Counter(), floor, when_removed)


def device(number: int) -> bytes:
    """An X25519 key whose address is not in fc00::/8."""
    for attempt in count():
        key = bytes((number, attempt % 256, attempt // 256)) + b"\x42" * 29
        if not is_usable_address(contacts_module.address_of(key)):
            return key
    raise AssertionError


def networks(*texts: str) -> tuple[Any, ...]:
    return tuple(map(ip_network, texts))


# Weft peers.


def test_weft_peer_has_its_address_and_the_secret_of_the_network() -> None:
    contacts, alice = make(), identity("alice")
    peer = contacts.add_weft(alice.noise_public, alice.peer_id, is_wanted=True)
    assert peer.is_weft
    assert not peer.is_known
    assert peer.address == alice.address
    assert contacts.routes.lookup(alice.address) is peer
    assert peer.tunnel._preshared_key == b"\5" * 32
    assert len(contacts) == 1


def test_peer_that_is_added_twice_is_the_same_one_and_learns_what_is_new() -> None:
    contacts, alice = make(), identity("alice")
    stranger = contacts.add_weft(alice.noise_public, None, is_wanted=False)
    assert (stranger.peer_id, stranger.is_wanted) == (None, False)
    again = contacts.add_weft(alice.noise_public, alice.peer_id, is_wanted=True)
    assert again is stranger
    assert (again.peer_id, again.is_wanted) == (alice.peer_id, True)
    contacts.add_weft(alice.noise_public, None, is_wanted=False)
    assert (again.peer_id, again.is_wanted) == (alice.peer_id, True)
    assert len(contacts) == 1


def test_own_key_is_no_peer() -> None:
    contacts, own = make(), identity("bob")
    with pytest.raises(UsageError, match="this node itself"):
        contacts.add_weft(own.noise_public, own.peer_id, is_wanted=True)
    with pytest.raises(UsageError, match="this node itself"):
        add_device(contacts, own.noise_public, "me", networks("10.0.0.1/32"), NO_PSK, 0)
    assert contacts.tunnel_for(own.noise_public) is None
    assert len(contacts) == 0


def test_key_without_an_address_is_no_weft_peer() -> None:
    contacts = make()
    with pytest.raises(UsageError, match="add-wireguard"):
        contacts.add_weft(device(1), None, is_wanted=True)
    assert contacts.tunnel_for(device(1)) is None


# Strangers.


def test_unknown_peer_is_accepted_where_any_is() -> None:
    contacts, alice = make(), identity("alice")
    tunnel = contacts.tunnel_for(alice.noise_public)
    assert tunnel is not None
    assert contacts.by_tunnel[tunnel].is_wanted is False
    assert contacts.tunnel_for(alice.noise_public) is tunnel


def test_unknown_peer_is_refused_where_only_known_ones_are_accepted() -> None:
    contacts, alice, carol = make(accepts_unknown=False), identity("alice"), identity("carol")
    known = contacts.add_weft(carol.noise_public, carol.peer_id, is_wanted=True)
    assert contacts.tunnel_for(alice.noise_public) is None
    assert contacts.tunnel_for(carol.noise_public) is known.tunnel
    assert len(contacts) == 1


def test_unknown_peer_whose_address_was_given_to_a_device_is_refused() -> None:
    contacts, alice = make(), identity("alice")
    add_device(contacts, device(1), "phone", networks(f"{IPv6Address(alice.address)}/128"))
    assert contacts.tunnel_for(alice.noise_public) is None
    assert len(contacts) == 1


def test_stranger_that_showed_who_it_is_is_kept_though_it_has_not_come_again_after_a_restart() -> None:
    contacts, alice = make(), identity("alice")
    record = StoredPeer(key=str(alice.peer_id), kind="weft", standing="stranger")
    contacts.put(alice.noise_public, record)
    assert contacts.stored() == [record]


def test_strangers_are_bounded_and_the_oldest_that_is_not_up_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contacts_module, "MAX_STRANGERS", 3)
    contacts = make()
    wanted = contacts.add_weft(identity("wanted").noise_public, None, is_wanted=True)
    keys = [identity(f"stranger {number}").noise_public for number in range(5)]
    tunnels = [contacts.tunnel_for(key) for key in keys[:3]]
    assert tunnels[0] is not None
    monkeypatch.setattr(tunnels[0], "is_up", lambda now: True)
    assert contacts.tunnel_for(keys[3]) is not None
    assert len(contacts) == 4
    assert contacts.by_key(keys[1]) is None
    assert {peer.tunnel.peer_public for peer in contacts} == {wanted.tunnel.peer_public, keys[0], keys[2], keys[3]}
    for peer in contacts:
        monkeypatch.setattr(peer.tunnel, "is_up", lambda now: True)
    assert contacts.tunnel_for(keys[4]) is None
    assert len(contacts) == 4


# Stock devices.


def test_stock_device_has_the_networks_that_it_was_given() -> None:
    contacts = make()
    peer = add_device(contacts, device(1), "phone", networks("10.5.0.0/16", "fd00::7/128"), b"\7" * 32, 25 * S)
    assert not peer.is_weft
    assert peer.is_wanted
    assert contacts.routes.lookup(bytes((10, 5, 6, 7))) is peer
    assert peer.tunnel._preshared_key == b"\7" * 32
    assert peer.tunnel.persistent_keepalive_ns == 25 * S
    assert peer.notices is peer.prober is None


def test_stock_device_that_is_added_again_is_changed_and_keeps_its_session() -> None:
    removed: list[Peer] = []
    contacts = make(removed=removed)
    first = add_device(contacts, device(1), "phone", networks("10.5.0.0/16"), NO_PSK, 0)
    second = add_device(contacts, device(1), "tablet", networks("10.6.0.0/16"), b"\7" * 32, 9 * S)
    assert len(contacts) == 1
    assert second is first
    assert removed == []
    assert first.tunnel._preshared_key == b"\7" * 32
    assert first.tunnel.persistent_keepalive_ns == 9 * S
    assert contacts.routes.lookup(bytes((10, 5, 0, 1))) is None
    assert contacts.routes.lookup(bytes((10, 6, 0, 1))) is first
    assert contacts.find("tablet") is first
    with pytest.raises(UsageError):
        contacts.find("phone")


def test_name_of_another_peer_is_refused_and_changes_nothing() -> None:
    contacts = make()
    add_device(contacts, device(1), "phone", networks("10.5.0.0/16"), NO_PSK, 0)
    add_device(contacts, device(2), "tablet", networks("10.6.0.0/16"), NO_PSK, 0)
    with pytest.raises(UsageError, match="another peer is called 'phone'"):
        add_device(contacts, device(2), "phone", networks("10.7.0.0/16"), NO_PSK, 0)
    assert contacts.find("tablet").allowed == networks("10.6.0.0/16")


def test_networks_of_another_peer_are_refused_and_change_nothing() -> None:
    contacts, alice = make(), identity("alice")
    weft = contacts.add_weft(alice.noise_public, alice.peer_id, is_wanted=True)
    phone = add_device(contacts, device(1), "phone", networks("10.5.0.0/16"), NO_PSK, 0)
    for taken in (("10.5.0.0/16",), ("10.9.0.0/16", "10.5.0.0/16"), tuple(map(str, weft.allowed))):
        with pytest.raises(UsageError, match=r"belongs to .* already"):
            add_device(contacts, device(2), "tablet", networks(*taken), NO_PSK, 0)
    assert len(contacts) == 2
    assert contacts.routes.lookup(bytes((10, 5, 0, 1))) is phone
    assert contacts.routes.lookup(bytes((10, 9, 0, 1))) is None
    assert contacts.routes.lookup(alice.address) is weft


def test_smaller_network_inside_that_of_another_peer_is_fine() -> None:
    contacts = make()
    phone = add_device(contacts, device(1), "phone", networks("10.5.0.0/16"), NO_PSK, 0)
    tablet = add_device(contacts, device(2), "tablet", networks("10.5.7.0/24"), NO_PSK, 0)
    assert contacts.routes.lookup(bytes((10, 5, 6, 1))) is phone
    assert contacts.routes.lookup(bytes((10, 5, 7, 1))) is tablet
    contacts.remove(tablet)
    assert contacts.routes.lookup(bytes((10, 5, 7, 1))) is phone


def test_key_can_not_be_of_both_kinds() -> None:
    contacts, alice = make(), identity("alice")
    contacts.add_weft(alice.noise_public, alice.peer_id, is_wanted=True)
    with pytest.raises(UsageError, match="belongs to a weft peer"):
        add_device(contacts, alice.noise_public, "alice", networks("10.5.0.0/16"), NO_PSK, 0)
    carol = identity("carol")
    add_device(contacts, carol.noise_public, "carol", networks("10.6.0.0/16"), NO_PSK, 0)
    with pytest.raises(UsageError, match="belongs to a WireGuard device"):
        contacts.add_weft(carol.noise_public, carol.peer_id, is_wanted=True)


def test_key_of_small_order_is_refused_and_nothing_is_left_of_it() -> None:
    contacts = make()
    with pytest.raises(UsageError, match="small order"):
        add_device(contacts, bytes(32), "evil", networks("10.5.0.0/16"), NO_PSK, 0)
    assert len(contacts) == 0
    assert contacts.routes.lookup(bytes((10, 5, 0, 1))) is None


# Finding one.


def test_peer_is_found_by_name_id_address_and_key() -> None:
    contacts, alice = make(), identity("alice")
    weft = contacts.add_weft(alice.noise_public, alice.peer_id, is_wanted=True)
    phone = add_device(contacts, device(1), "phone", networks("10.5.0.1/32", "fd00::/64"), NO_PSK, 0)
    address = str(ip_network(alice.address).network_address)
    for text in (str(alice.peer_id), address, encode_wireguard_key(alice.noise_public)):
        assert contacts.find(text) is weft
    for text in ("phone", "10.5.0.1", encode_wireguard_key(device(1)), "fd00::1234"):
        assert contacts.find(text) is phone


@pytest.mark.parametrize("text", ["", "None", "nobody", "10.5.0.9", "fc00::1", "fe80::1%eth0", "\0", "12D3KooW"])
def test_whom_nobody_is_gives_one_clear_line(text: str) -> None:
    contacts = make()
    contacts.add_weft(identity("alice").noise_public, None, is_wanted=False)
    add_device(contacts, device(1), "phone", networks("10.5.0.1/32"), NO_PSK, 0)
    with pytest.raises(UsageError) as caught:
        contacts.find(text)
    assert "\n" not in str(caught.value)
    assert "weft peer list" in str(caught.value)


# What is kept.


def test_store_keeps_whom_somebody_asked_for_and_not_strangers() -> None:
    contacts, alice, carol = make(), identity("alice"), identity("carol")
    wanted = contacts.add_weft(alice.noise_public, alice.peer_id, is_wanted=True)
    wanted.endpoints.configure(decode_multiaddr("/ip4/192.0.2.1/udp/1"))
    wanted.endpoints.prove(decode_multiaddr("/ip4/192.0.2.2/udp/2"))
    contacts.add_weft(carol.noise_public, None, is_wanted=False)
    add_device(contacts, device(1), "phone", networks("10.5.0.0/16"), b"\7" * 32, 25 * S)
    weft, phone = contacts.stored()
    assert (weft.kind, weft.key, weft.standing) == ("weft", str(alice.peer_id), "wanted")
    assert weft.endpoints == ["/ip4/192.0.2.2/udp/2", "/ip4/192.0.2.1/udp/1"]
    assert weft.configured == ["/ip4/192.0.2.1/udp/1"]
    assert (phone.kind, phone.name, phone.allowed_ips, phone.keepalive_s) == ("wireguard", "phone", ["10.5.0.0/16"], 25)
    assert phone.psk == encode_wireguard_key(b"\7" * 32)
    assert phone.key == encode_wireguard_key(device(1))


def test_timestamps_never_go_back_when_peers_come_and_go() -> None:
    floor = next_timestamp(WALL_NS + 3600 * S, bytes(TIMESTAMP_BYTES))
    contacts, alice, carol = make(floor=floor), identity("alice"), identity("carol")
    first = contacts.add_weft(alice.noise_public, alice.peer_id, is_wanted=True)
    assert first.tunnel.last_timestamp_sent == floor
    first.tunnel.initiate(1000 * S, WALL_NS)
    sent = first.tunnel.last_timestamp_sent
    assert sent > floor
    contacts.remove(first)
    assert contacts.last_timestamp_sent == sent
    second = contacts.add_weft(carol.noise_public, carol.peer_id, is_wanted=True)
    assert second.tunnel.last_timestamp_sent == sent
    again = contacts.add_weft(alice.noise_public, alice.peer_id, is_wanted=True)
    again.tunnel.initiate(2000 * S, WALL_NS - 3600 * S)
    assert again.tunnel.last_timestamp_sent > sent


def test_peer_that_is_removed_leaves_nothing_behind() -> None:
    removed: list[Peer] = []
    contacts, alice = make(removed=removed), identity("alice")
    peer = contacts.add_weft(alice.noise_public, alice.peer_id, is_wanted=True)
    peer.tunnel.initiate(1000 * S, WALL_NS)
    contacts.remove(peer)
    assert removed == [peer]
    assert len(contacts) == len(contacts.by_tunnel) == 0
    assert contacts.routes.lookup(alice.address) is None
    assert not contacts._maker._table.handshakes
    assert contacts.by_key(alice.noise_public) is None


def test_secrets_are_in_no_repr() -> None:
    own = identity("bob")
    contacts = make(network_psk=b"SECRET" * 5 + b"!!")
    text = (
        repr(contacts._terms)
        + repr(contacts)
        + repr(contacts.add_weft(identity("alice").noise_public, None, is_wanted=True))
    )
    for secret in (b"SECRET", own.noise_private, own.seed):
        assert repr(secret)[2:-1] not in text
        assert secret.hex() not in text
