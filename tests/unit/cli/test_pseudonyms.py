"""What gives somebody away becomes a pseudonym; what does not, stays."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis.strategies import ip_addresses, sampled_from, text

from tests.unit.api.fake_engine import KEY
from weft.cli.pseudonyms import Pseudonyms

ID = "12D3KooWGjMCwgHXAVd1eW4WFjpG5mBGjJt6RjBqH3qTqwUpNbXo"
OTHER = "12D3KooWQvR5tYQ8s1aZkZ7kGgkJm1cHn3xw2kQTqvbS6dT7pQeB"

PUBLIC = [
    *("0.0.0.0/32", "127.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4"),
    *("255.255.255.255/32", "::/127", "2001:db8::/32", "3fff::/20", "ff00::/8", "fc00::/128"),
]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("from 10.1.2.3:1312, 10.1.2.3.", "from address-1:1312, address-1."),
        ("[fd07::1]:51820 and fd07:0:0:0:0:0:0:1", "[address-1]:51820 and address-1"),
        ("fe80::1%eth0 10.7.0.0/24 ::ffff:10.0.0.1", "address-1%eth0 address-2/24 address-3"),
        (f"/ip4/10.1.2.3/udp/1312/p2p/{ID} {OTHER} {ID}", "/ip4/address-1/udp/1312/p2p/peer-1 peer-2 peer-1"),
        (f"key {KEY}, {KEY}!", "key key-1, key-1!"),
        ("seed " + "ab" * 32, "seed key-1"),
        ("link/ether 52:54:00:12:34:56 brd ff:ff:ff:ff:ff:ff", "link/ether mac-1 brd ff:ff:ff:ff:ff:ff"),
        ("2: enx525400123456: ether 52:54:00:12:34:56", "2: enxmac-1: ether mac-1"),
        ("/dns/nas/udp/1312 /dns4/nas.home.lan/udp/1", "/dns/host-1/udp/1312 /dns4/host-2/udp/1"),
        ("hub.acme.org:51820, HUB.acme.org; anna@acme.org", "host-1:51820, host-1; user-1@host-2"),
        ("open /home/anna/.config/weft/key: no", "open path-1/key: no"),
        ("/home/anna/lab of love", "path-1 of love"),
        ("~/lab/x.toml, C:\\Users\\Anna\\weft", "path-1, path-2"),
        (
            'File "/opt/w/lib/python3.11/site-packages/aiohttp/web.py", line 3',
            'File "path-1/aiohttp/web.py", line 3',
        ),
        ('File "/home/anna/src/weft/io/udp.py"', 'File "path-1/weft/io/udp.py"'),
        ('weft_peer_rx_bytes{peer="' + ID + '",name="x"} 5', 'weft_peer_rx_bytes{peer="peer-1",name="x"} 5'),
    ],
)
def test_private_text_gets_pseudonyms(text: str, cleaned: str) -> None:
    assert Pseudonyms().clean(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1 ::1 192.0.2.7 [2001:db8::7]:1312 203.0.113.0/24 0.0.0.0/0 :: fc00::/8 ff02::1 255.255.255.255",
        "/tcp/80 /udp/0 /icmp /v0/peer/list /proc/self",
        "host.example.org nothing.invalid localhost",
        "2026-11-20 17:19:22,123 ERROR weft.engine: task udp/0.0.0.0/1312 died",
        "Linux 6.1.0-13-amd64, CPython 3.11.2, weft.toml: api.listen: state.json, asyncio.base_events",
        "await self._life.start(argument)",
        "valid_lft forever metric 256 mtu 1500 deadbeef",
        "kind weft, state up, 44 pieces, 1/2",
    ],
)
def test_public_text_stays(text: str) -> None:
    assert Pseudonyms().clean(text) == text


def test_what_was_told_is_found_and_nothing_within_words() -> None:
    names = Pseudonyms()
    names.tell("name", ["loom", "Anna's phone", "up", None, ""])
    names.tell("host", ["nas", "localhost"])
    names.tell("user", ["anna"])
    names.tell_directories([Path("/home/anna meyer"), Path("lab"), Path("/")])
    names.hide(["correct horse battery", "short"])
    assert names.clean("loom and Anna's phone are up, gloomy short nas:1312, annals of anna") == (
        "name-1 and name-2 are up, gloomy short host-1:1312, annals of user-1"
    )
    assert (
        names.clean("/home/anna meyer/weft/key, /home/anna meyer; lab/state.json")
        == "path-1/key, path-2; path-3/state.json"
    )
    assert names.clean("xcorrect horse batteryx 'correct horse battery'") == "x(secret)x '(secret)'"


def test_what_was_told_is_found_in_quotes_too() -> None:
    pseudonyms = Pseudonyms()
    pseudonyms.hide(['pass"word\\1'])
    pseudonyms.tell("name", ['o"hara'])
    assert pseudonyms.clean(r'up{peer="o\"hara"} 1; o"hara') == 'up{peer="name-1"} 1; name-1'
    assert pseudonyms.clean(r'"pass\"word\\1" pass"word\1') == '"(secret)" (secret)'


def test_same_thing_has_the_same_pseudonym_in_all_of_a_value() -> None:
    names = Pseudonyms()
    value = {"peers": [{"endpoint": "10.0.0.1:1", "id": ID}], ID: 3, "up": True, "text": f"{ID} at 10.0.0.1"}
    assert names.clean_value(value) == {
        "peers": [{"endpoint": "address-1:1", "id": "peer-1"}],
        "peer-1": 3,
        "up": True,
        "text": "peer-1 at address-1",
    }
    assert names.legend == {"address-1": "IPv4, private"}
    names.clean("fc22::1 fe80::1 8.8.8.8")
    assert list(names.legend.values())[1:] == ["IPv6, fc00::/8", "IPv6, link-local", "IPv4, public"]


@given(
    ip_addresses(), sampled_from(["{}", "[{}]:1312", "/ip4/{}/udp/1", "from {}, and", "'{}'", "x={}/24", "({})", "{}."])
)
def test_any_address_is_told_only_if_it_is_public(address: IPv4Address | IPv6Address, around: str) -> None:
    public = any(address in ip_network(network) for network in PUBLIC)
    for spelled in {str(address), address.exploded, str(address).upper()}:
        cleaned = Pseudonyms().clean(around.format(spelled))
        assert cleaned == around.format(spelled if public else "address-1")


@given(
    ip_addresses(),
    sampled_from(["{}: refused", "via:{}", "weft:{}", "weft:{}:", "_{}_", "x{}y", "via:{}:1312", "/{}/"]),
)
def test_private_address_is_found_wherever_it_stands(address: IPv4Address | IPv6Address, around: str) -> None:
    assume(not any(address in ip_network(network) for network in PUBLIC))
    for spelled in {str(address), address.exploded, str(address).upper()}:
        assert spelled not in Pseudonyms().clean(around.format(spelled))


@given(text())
def test_any_text_can_be_cleaned(given_text: str) -> None:
    names = Pseudonyms()
    names.tell("name", [given_text[:5]])
    names.clean(given_text)


@pytest.mark.parametrize("pattern", ["a", "1.", ":", "/a", "a.", "f:", "a-", "a@", "~/", "A+", "0" * 31 + " "])
def test_odd_text_takes_no_long_time(pattern: str) -> None:
    began = time.process_time()
    Pseudonyms().clean(pattern * (16384 // len(pattern)) + "!")
    assert time.process_time() - began < 2
