from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

import multiaddr
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiaddr.protocols import PROTOCOLS as STANDARD

from weft.errors import DecodeError, UsageError
from weft.identity import Identity, PeerId
from weft.multiaddr import (
    END,
    FOLLOWS,
    PROTOCOLS,
    TEXT_CHARACTERS,
    Component,
    Multiaddr,
    Value,
    decode_multiaddr,
    decode_multiaddr_bytes,
)

# Made with `generate(os.urandom)` once; nothing but these tests uses it.
PEER = Identity(bytes.fromhex("b656992326aaf48af627d08112ddbbc8981413ea63adcb25d99b41afd129a0ad")).peer_id
OWN = ("ethif", "mac")

ports = st.integers(0, 65535)
names = st.from_regex(r"[a-z0-9]{1,10}(-[a-z0-9]{1,10})?(\.[a-z]{2,8}){1,3}", fullmatch=True)
interfaces = st.from_regex(r"[a-z]{2,5}[0-9]{1,3}(\.[0-9]{1,4})?", fullmatch=True)
Raw = TypeVar("Raw", str, bytes)
VALUES: dict[str, st.SearchStrategy[Value]] = {
    "ip4": st.ip_addresses(v=4),
    "ip6": st.ip_addresses(v=6),
    "ip6zone": interfaces,
    "dns": names,
    "udp": ports,
    "tcp": ports,
    "tls": st.none(),
    "ws": st.none(),
    "ethif": interfaces,
    "mac": st.binary(min_size=6, max_size=6),
    "p2p": st.just(PEER),
}


@st.composite
def addresses(draw: Callable[..., object]) -> Multiaddr:
    """A walk through FOLLOWS."""
    components: list[Component] = []
    step = draw(st.sampled_from(FOLLOWS[""]))
    while step is not END:
        assert isinstance(step, str)
        components.append(Component(step, draw(VALUES[step])))
        step = draw(st.sampled_from(FOLLOWS[step]))
    return Multiaddr(tuple(components))


standard_addresses = addresses().filter(lambda m: not any(c.protocol in OWN for c in m.components))


# --- there and back ---


@given(addresses())
def test_address_of_any_shape_survives_its_text(address: Multiaddr) -> None:
    assert decode_multiaddr(str(address)) == address


@given(addresses())
def test_address_of_any_shape_survives_its_binary_form(address: Multiaddr) -> None:
    assert decode_multiaddr_bytes(address.to_bytes()) == address


@given(standard_addresses)
def test_standard_address_has_the_text_and_bytes_of_py_multiaddr(address: Multiaddr) -> None:
    theirs = multiaddr.Multiaddr(str(address))
    assert theirs.to_bytes() == address.to_bytes()
    assert decode_multiaddr(str(theirs)) == address
    assert decode_multiaddr_bytes(theirs.to_bytes()) == address
    assert str(multiaddr.Multiaddr(address.to_bytes())) == str(address)


def test_codes_are_the_standard_ones_and_our_own_are_for_private_use() -> None:
    theirs = {protocol.name: protocol.code for protocol in STANDARD}
    for name, protocol in PROTOCOLS.items():
        if name in OWN:
            assert 0x300000 <= protocol.code <= 0x3FFFFF
        else:
            assert protocol.code == theirs[name]


def test_ethernet_address_has_its_documented_bytes() -> None:
    address = decode_multiaddr("/ethif/eth0/mac/02:00:5e:00:53:0A")
    assert address.to_bytes().hex() == "92a6c001046574683093a6c00102005e00530a"
    assert str(address) == "/ethif/eth0/mac/02:00:5e:00:53:0a"


# --- canonical text ---


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        # RFC 5952 sections 4.1, 4.2.1, 4.2.2, 4.2.3, 4.3 and 5.
        ("2001:0db8::0001", "2001:db8::1"),
        ("2001:db8:0:0:0:0:2:1", "2001:db8::2:1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:DB8::ABCD", "2001:db8::abcd"),
        ("::ffff:c000:201", "::ffff:192.0.2.1"),
        ("0:0:0:0:0:0:0:0", "::"),
    ],
)
def test_ipv6_text_is_rfc_5952(written: str, canonical: str) -> None:
    address = decode_multiaddr(f"/ip6/{written}/udp/1312")
    assert str(address) == f"/ip6/{canonical}/udp/1312"
    assert address.host == canonical


def test_domain_name_is_compared_without_case() -> None:
    assert decode_multiaddr("/dns/Example.ORG/udp/1312") == decode_multiaddr("/dns/example.org/udp/1312")


def test_peer_id_in_base36_is_the_same_address() -> None:
    address = decode_multiaddr(f"/ip4/192.0.2.1/udp/1312/p2p/{PEER.to_dns_label()}")
    assert str(address) == f"/ip4/192.0.2.1/udp/1312/p2p/{PEER}"


# --- accessors ---


@pytest.mark.parametrize(
    ("text", "host", "port", "transport"),
    [
        ("/ip4/192.0.2.1/udp/1312", "192.0.2.1", 1312, "udp"),
        ("/ip4/0.0.0.0/udp/0", "0.0.0.0", 0, "udp"),
        ("/ip6/::/udp/65535", "::", 65535, "udp"),
        ("/ip6zone/eth0/ip6/fe80::1/udp/1312", "fe80::1%eth0", 1312, "udp"),
        ("/dns/example.org/udp/1312", "example.org", 1312, "udp"),
        ("/ip4/192.0.2.1/tcp/80/ws", "192.0.2.1", 80, "ws"),
        ("/dns/example.org/tcp/443/tls/ws", "example.org", 443, "wss"),
        ("/ethif/eth0", None, None, "ethernet"),
        ("/ethif/eth0/mac/02:00:5e:00:53:01", None, None, "ethernet"),
    ],
)
def test_accessors_tell_what_the_text_says(text: str, host: str | None, port: int | None, transport: str) -> None:
    address = decode_multiaddr(text)
    assert (address.host, address.port, address.transport, address.peer_id) == (host, port, transport, None)
    assert repr(address) == f"Multiaddr({text!r})"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("/ip4/192.0.2.1/udp/1312", "192.0.2.1:1312"),
        ("/ip6/2001:db8::1/udp/1312", "[2001:db8::1]:1312"),
        ("/ip6zone/eth0/ip6/fe80::1/udp/1312", "[fe80::1%eth0]:1312"),
        ("/dns/example.org/udp/1312", "example.org:1312"),
    ],
)
def test_host_and_port_are_those_that_wg_writes(text: str, written: str) -> None:
    assert decode_multiaddr(text).host_and_port == written


def test_peer_alone_has_neither_host_nor_transport() -> None:
    address = decode_multiaddr(f"/p2p/{PEER}")
    assert (address.peer_id, address.host, address.port, address.transport) == (PEER, None, None, None)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("/ip4/192.0.2.1/udp/1312", ("192.0.2.1", 1312)),
        ("/ip6/2001:db8::1/tcp/443/tls/ws", ("2001:db8::1", 443)),
        ("/ip6zone/eth0/ip6/fe80::1/udp/0", ("fe80::1%eth0", 0)),
    ],
)
def test_endpoint_is_ip_and_port(text: str, endpoint: tuple[str, int]) -> None:
    assert decode_multiaddr(text).endpoint() == endpoint


@pytest.mark.parametrize("text", ["/dns/example.org/udp/1312", "/ethif/eth0", f"/p2p/{PEER}"])
def test_endpoint_of_an_address_without_ip_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="no IP address"):
        decode_multiaddr(text).endpoint()


@given(st.ip_addresses(), ports, st.none() | st.just(PEER))
def test_address_made_of_an_endpoint_gives_it_back(
    ip: IPv4Address | IPv6Address, port: int, peer_id: PeerId | None
) -> None:
    address = Multiaddr.from_endpoint(str(ip), port, peer_id)
    host, again = address.endpoint()
    assert type(ip)(host) == ip
    assert (again, address.peer_id, address.transport) == (port, peer_id, "udp")


def test_zone_of_a_link_local_endpoint_is_kept() -> None:
    assert str(Multiaddr.from_endpoint("fe80::1%eth0", 1312)) == "/ip6zone/eth0/ip6/fe80::1/udp/1312"


@pytest.mark.parametrize(
    ("ip", "port"),
    [("example.org", 1), ("192.0.2.1%eth0", 1), ("fe80::1%", 1), ("fe80::1%a/b", 1), ("192.0.2.1", 65536), ("::", -1)],
)
def test_endpoint_that_is_none_is_refused(ip: str, port: int) -> None:
    with pytest.raises(DecodeError):
        Multiaddr.from_endpoint(ip, port)


def test_peer_id_is_put_at_the_end_and_taken_away() -> None:
    bare = decode_multiaddr("/ip4/192.0.2.1/udp/1312")
    assert str(bare.with_peer_id(PEER)) == f"/ip4/192.0.2.1/udp/1312/p2p/{PEER}"
    assert bare.with_peer_id(PEER).with_peer_id(PEER).with_peer_id(None) == bare


# --- what is refused, and how a person is told ---


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("", 0, "a multiaddr, which starts with a slash, such as /ip4/192.0.2.1/udp/1312, not ''"),
        ("192.0.2.1:1312", 0, "which starts with a slash, such as /ip4/192.0.2.1/udp/1312, not '192.0.2.1:1312'"),
        ("/", 1, "at the beginning, not an empty component"),
        ("/ip4/192.0.2.1", 14, "/udp or /tcp after /ip4, not the end"),
        ("/ip4", 4, "an IPv4 address such as 192.0.2.1 after /ip4, not the end"),
        ("/ip4/192.0.2/udp/1", 5, "an IPv4 address such as 192.0.2.1 after /ip4, not '192.0.2'"),
        ("/ip4/192.0.2.01/udp/1", 5, "an IPv4 address such as 192.0.2.1 after /ip4, not '192.0.2.01'"),
        ("/ip4/::1/udp/1", 5, "an IPv4 address such as 192.0.2.1 after /ip4, not '::1'"),
        ("/ip6/192.0.2.1/udp/1", 5, "an IPv6 address such as 2001:db8::1"),
        ("/ip6/fe80::1%eth0/udp/1", 5, "is written /ip6zone/eth0/ip6/fe80::1) after /ip6, not 'fe80::1%eth0'"),
        ("/ip4/192.0.2.1/upd/1", 15, "/udp or /tcp after /ip4, not /upd"),
        ("/ip4/192.0.2.1/\n/1", 15, "/udp or /tcp after /ip4, not '\\n'"),
        ("/ip4/192.0.2.1/udp", 18, "a port from 0 to 65535 after /udp, not the end"),
        ("/ip4/192.0.2.1/udp/", 19, "a port from 0 to 65535 after /udp, not ''"),
        ("/ip4/192.0.2.1/udp/65536", 19, "a port from 0 to 65535 after /udp, not '65536'"),
        ("/ip4/192.0.2.1/udp/+1", 19, "a port from 0 to 65535 after /udp, not '+1'"),
        ("/ip4/192.0.2.1/udp/01", 19, "a port from 0 to 65535 after /udp, not '01'"),
        ("/ip4/192.0.2.1/udp/１", 19, "a port from 0 to 65535 after /udp, not '１'"),
        ("/ip4/192.0.2.1/udp/1/", 21, "the end or /p2p after /udp, not an empty component"),
        ("/ip4/192.0.2.1/udp/1/quic-v1", 21, "the end or /p2p after /udp, not /quic-v1"),
        ("/ip4/192.0.2.1/udp/1/None", 21, "the end or /p2p after /udp, not /None"),
        ("/ip4/192.0.2.1/tcp/80", 21, "/ws or /tls after /tcp, not the end"),
        (
            "/ip4/192.0.2.1/udp/1/p2p/Qm",
            25,
            "an Ed25519 peer id (12D3KooW… of 52 characters, or k51… of 62) after /p2p",
        ),
        (f"/p2p/{PEER}/p2p/{PEER}", 58, "the end after /p2p, not /p2p"),
        (f"/ip4/192.0.2.1/udp/1/p2p/{str(PEER)[:-1]}0", 76, "a character of base58 after /p2p"),
        ("/udp/1312", 1, "/ip4 or /ip6 or /ip6zone or /dns or /ethif or /p2p at the beginning, not /udp"),
        ("/dns/a..b/udp/1", 5, "a domain name such as example.org"),
        ("/dns/-a/udp/1", 5, "a domain name such as example.org"),
        ("/dns/exämple.org/udp/1", 5, "in its xn-- form) after /dns, not 'exämple.org'"),
        (f"/dns/{'a' * 64}.org/udp/1", 5, "a domain name such as example.org"),
        (f"/dns/{'a.' * 127}a/udp/1", 5, "a domain name such as example.org"),
        ("/ethif/much-too-long-a-name", 7, "the name of an interface such as eth0, at most 15 characters"),
        ("/ethif/eth0/mac/02-00-5e-00-53-01", 16, "an Ethernet address such as 02:00:5e:00:53:01"),
        ("/ethif/eth0/p2p/x", 12, "the end or /mac after /ethif, not /p2p"),
        ("/" * (TEXT_CHARACTERS + 1), TEXT_CHARACTERS, "a multiaddr of at most 512 characters"),
    ],
)
def test_wrong_text_is_refused_with_place_and_remedy(text: str, offset: int, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_multiaddr(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        ("", 0),
        ("04c0000201", 5),  # no port
        ("04c00002", 1),  # half an IPv4 address
        ("04c0000201910205", 7),  # half a port
        ("04c0000201910205202901", 9),  # an address after the end
        ("8400c0000201", 0),  # code 4 in two bytes
        ("8080808001", 0),  # a code above all
        ("80808002", 0),  # an unknown code of four bytes
        ("ff", 0),  # a code that breaks off
        ("3504612e6f", 2),  # a name shorter than its length
        ("3502e4f6910205", 2),  # a name that is not ASCII
        ("05", 0),  # an unknown code
    ],
)
def test_wrong_bytes_are_refused_with_their_place(data: str, offset: int) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_multiaddr_bytes(bytes.fromhex(data))
    assert caught.value.offset == offset


def decoded_or_refused(decode: Callable[[Raw], Multiaddr], raw: Raw) -> Multiaddr | None:
    try:
        return decode(raw)
    except DecodeError as error:
        offset = error.offset
    assert 0 <= offset <= len(raw)
    return None


@given(st.text(max_size=60) | st.text("/ip46udpcdnsws.:01", max_size=40).map(lambda text: f"/{text}"))
def test_random_text_raises_decode_errors_only(text: str) -> None:
    address = decoded_or_refused(decode_multiaddr, text)
    assert address is None or decode_multiaddr(str(address)) == address


@given(addresses(), st.integers(0, 200), st.text(max_size=3))
def test_text_with_a_change_raises_decode_errors_only(address: Multiaddr, place: int, change: str) -> None:
    text = str(address)
    changed = decoded_or_refused(decode_multiaddr, text[:place] + change + text[place + 1 :])
    assert changed is None or decode_multiaddr(str(changed)) == changed


@given(st.binary(max_size=60) | st.tuples(addresses(), st.integers(0, 99)).map(lambda t: t[0].to_bytes()[: t[1]]))
def test_random_or_cut_bytes_raise_decode_errors_only(data: bytes) -> None:
    address = decoded_or_refused(decode_multiaddr_bytes, data)
    assert address is None or decode_multiaddr_bytes(address.to_bytes()) == address


@pytest.mark.parametrize("components", [(), (Component("udp", 1),), (Component("ip4", IPv4Address("192.0.2.1")),)])
def test_value_without_a_valid_shape_can_not_be_made(components: tuple[Component, ...]) -> None:
    with pytest.raises(DecodeError):
        Multiaddr(components)
