from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import UsageError
from weft.stack.addresses import LIMITED_BROADCAST, Addresses


def packed(text: str) -> bytes:
    return ip_address(text).packed


def addresses_of(*texts: str) -> Addresses:
    addresses = Addresses(lambda: None)
    for text in texts:
        addresses.add(ip_interface(text))
    return addresses


@pytest.mark.parametrize(
    ("rule", "ours", "destination", "expected"),
    [
        ("1: the destination itself", ["fc00::1/8", "fc00::2/8"], "fc00::2", "fc00::2"),
        ("2: the scope that reaches it", ["fe80::1/64", "fc00::1/8"], "2001:db8::1", "fc00::1"),
        ("2: the smallest that does", ["fc00::1/8", "fe80::1/64"], "fe80::2", "fe80::1"),
        ("2: of multicast", ["fc00::1/8", "fe80::1/64"], "ff02::5", "fe80::1"),
        ("2: of multicast", ["fe80::1/64", "fc00::1/8"], "ff0e::5", "fc00::1"),
        ("2: in IPv4", ["169.254.0.1/16", "10.7.0.1/24"], "192.0.2.1", "10.7.0.1"),
        ("8: the longest prefix", ["fc00:1::1/32", "fc00:2::1/32"], "fc00:2::9", "fc00:2::1"),
        ("8: in IPv4", ["10.7.0.1/16", "10.7.128.1/17"], "10.7.129.1", "10.7.128.1"),
        ("8: no further than the source's own", ["fc00::1/64", "fc00::2/64"], "fc00::2:1", "fc00::1"),
        ("the first", ["10.7.0.1/24", "10.8.0.1/24"], "192.0.2.1", "10.7.0.1"),
        ("none of that version", ["10.7.0.1/24"], "fc00::1", None),
    ],
)
def test_source_is_chosen_by_the_rules_of_rfc_6724(
    rule: str, ours: list[str], destination: str, expected: str | None
) -> None:
    assert addresses_of(*ours).choose(packed(destination)) == (expected and packed(expected)), rule


@given(
    st.lists(st.tuples(st.ip_addresses(v=6), st.integers(0, 128)), min_size=1, unique_by=lambda item: item[0]),
    st.ip_addresses(v=6),
)
def test_source_is_always_one_of_ours(ours: list[tuple[object, int]], destination: object) -> None:
    addresses = Addresses(lambda: None)
    for address, length in ours:
        try:
            addresses.add(ip_interface((address, length)))  # type: ignore[arg-type]
        except UsageError:
            continue
    chosen = addresses.choose(destination.packed)  # type: ignore[attr-defined]
    assert chosen in addresses.own or (chosen is None and not addresses.own)


@pytest.mark.parametrize("text", ["0.0.0.0/0", "127.0.0.1/8", "224.0.0.1/4", "255.255.255.255/32", "::/0", "::1/128"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        addresses_of(text)


def test_removed_address_is_no_longer_ours() -> None:
    changes: list[int] = []
    addresses = Addresses(lambda: changes.append(1))
    own = addresses.own
    addresses.add(ip_interface("10.7.0.1/24"))
    assert addresses.is_local(packed("10.7.0.1"))
    assert addresses.is_many(packed("10.7.0.255"))
    assert list(addresses) == [ip_interface("10.7.0.1/24")]
    addresses.remove(ip_interface("10.7.0.1/24"))
    addresses.remove(ip_interface("10.7.0.1/24"))
    assert not addresses.is_local(packed("10.7.0.1"))
    assert addresses.broadcasts == {LIMITED_BROADCAST}
    assert addresses.own is own
    assert own == set()
    assert len(changes) == 2


def test_networks_of_one_or_two_addresses_have_no_broadcast_address() -> None:
    assert addresses_of("10.7.0.1/31", "10.8.0.1/32").broadcasts == {LIMITED_BROADCAST}


def test_network_of_an_address_is_on_the_link() -> None:
    addresses = addresses_of("fc00::1/8", "10.7.0.1/24")
    assert addresses.is_on_link(packed("fcff::1"))
    assert addresses.is_on_link(packed("10.7.0.9"))
    assert not addresses.is_on_link(packed("10.7.1.9"))
    assert not addresses.is_on_link(packed("fd00::1"))
