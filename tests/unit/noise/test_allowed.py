"""Allowed sources against a plain list of networks."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from weft.noise.allowed import ADDRESSES_KEPT, AllowedSources

Network = IPv4Network | IPv6Network

# Few bits vary, so that networks lie in each other.
V4 = st.builds(
    lambda low, bits: IPv4Network((0x0A000000 | low << 20 | low, bits), strict=False),
    st.integers(0, 15),
    st.integers(0, 32),
)
V6 = st.builds(
    lambda low, bits: IPv6Network((0xFC << 120 | low << 64 | low, bits), strict=False),
    st.integers(0, 15),
    st.integers(0, 128),
)
NETWORKS = st.one_of(V4, V6)
PEERS = st.sampled_from("abc")
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), NETWORKS, PEERS),
        st.tuples(st.just("remove"), NETWORKS, PEERS),
    ),
    max_size=25,
)


def longest(model: dict[Network, str], address: bytes) -> str | None:
    plain = ip_address(address)
    around = [network for network in model if network.version == plain.version and plain in network]
    return model[max(around, key=lambda network: network.prefixlen)] if around else None


@given(CHANGES, st.lists(NETWORKS, min_size=1, max_size=10))
def test_look_ups_agree_with_a_plain_list(changes: list[tuple[str, Network, str]], asked: list[Network]) -> None:
    sources: AllowedSources[str] = AllowedSources()
    model: dict[Network, str] = {}
    for change, network, peer in changes:
        if change == "insert":
            sources.insert(network, peer)
            model[network] = peer
        else:
            sources.remove(network)
            model.pop(network, None)
        # What was said before the next change is not said after it.
        for other in asked:
            assert sources.lookup(other.network_address.packed) == longest(model, other.network_address.packed)
    for network in [*asked, *model]:
        for address in (network.network_address, network.broadcast_address):
            owner = longest(model, address.packed)
            assert sources.lookup(address.packed) == owner
            around = sources.network_around(address.packed)
            assert (around is None) == (owner is None)
            assert around is None or (address in around and model[around] == owner)
        assert sources.owner_of(network) == model.get(network)


def test_the_longest_prefix_wins() -> None:
    sources: AllowedSources[str] = AllowedSources()
    for text, peer in (("0.0.0.0/0", "exit"), ("10.0.0.0/8", "office"), ("10.1.2.3/32", "laptop")):
        sources.insert(ip_network(text), peer)
    assert sources.lookup(bytes((10, 1, 2, 3))) == "laptop"
    assert sources.lookup(bytes((10, 1, 2, 4))) == "office"
    assert sources.lookup(bytes((11, 1, 2, 4))) == "exit"
    assert sources.lookup(bytes(16)) is None


def test_what_is_remembered_of_look_ups_is_bounded() -> None:
    sources: AllowedSources[str] = AllowedSources()
    sources.insert(ip_network("10.0.0.0/8"), "office")
    for number in range(3 * ADDRESSES_KEPT):
        address = number.to_bytes(4, "big")
        assert sources.lookup(address) is None
        assert sources.lookup(b"\x0a" + address[1:]) == "office"
        assert len(sources._found) <= ADDRESSES_KEPT


def test_what_is_reserved_belongs_to_nobody_but_longer_networks_inside_it_do() -> None:
    sources: AllowedSources[str] = AllowedSources()
    sources.insert(ip_network("::/0"), "exit")
    sources.reserve(ip_network("fc00::/8"))
    sources.insert(ip_network("fc11::/16"), "guest")
    assert sources.lookup(b"\xfc\x10" + bytes(14)) is None
    assert sources.network_around(b"\xfc\x10" + bytes(14)) == ip_network("fc00::/8")
    assert sources.lookup(b"\xfc\x11" + bytes(14)) == "guest"
    assert sources.lookup(b"\xfd" + bytes(15)) == "exit"


def test_a_network_given_to_another_peer_leaves_the_first() -> None:
    sources: AllowedSources[str] = AllowedSources()
    sources.insert(ip_network("fc00::/8"), "first")
    sources.insert(ip_network("fc00::/8"), "second")
    assert sources.owner_of(ip_network("fc00::/8")) == "second"
    assert sources.lookup(b"\xfc" + bytes(15)) == "second"
