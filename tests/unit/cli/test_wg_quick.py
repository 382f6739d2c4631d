"""Files of wg-quick: what is read, what is refused and where, what is written."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.cli.wg_quick import decode_file, encode_file, names_of
from weft.errors import ConfigError

KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
OTHER = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="
PSK = "/UwcSPg38hW/D9Y3tcS1FOV0K1wuURMbS0sesJEP5ak="

FILE = f"""
# made by hand
[Interface]
PrivateKey = {PSK}
Address = 10.7.0.1/24, fd07::1/64
address=10.8.0.1
DNS = 10.7.0.53
PostUp = iptables -A FORWARD -i %i -j ACCEPT

# hub
[Peer]
PublicKey = {KEY}
PresharedKey = {PSK} # shared
AllowedIPs = 10.7.0.9/24, 10.9.0.1
AllowedIPs = fd07::/64,10.7.0.0/24
Endpoint = hub.example.org:51820
PersistentKeepalive = 25

[peer] # Name = phone
publickey = {OTHER}
ALLOWEDIPS = 10.7.0.7/32
PersistentKeepalive = off
"""


def peer(*lines: str) -> str:
    return "\n".join(["[Peer]", *lines])


def test_file_is_read_as_wg_reads_it() -> None:
    found = decode_file(FILE, "wg0.conf")
    assert found.values("Address") == ["10.7.0.1/24", "fd07::1/64", "10.8.0.1/32"]
    assert [key for key, _ in found.interface] == ["PrivateKey", "Address", "Address", "DNS", "PostUp"]
    hub, phone = found.peers
    assert (hub.name, hub.line, hub.public_key, hub.preshared_key) == ("hub", 11, KEY, PSK)
    assert hub.allowed_ips == ["10.7.0.0/24", "10.9.0.1/32", "fd07::/64"]
    assert (hub.endpoint, hub.keepalive_s) == ("hub.example.org:51820", 25)
    assert (phone.name, phone.public_key, phone.preshared_key) == ("phone", OTHER, None)
    assert (phone.allowed_ips, phone.endpoint, phone.keepalive_s) == (["10.7.0.7/32"], None, 0)


def test_secrets_of_a_file_show_in_no_repr() -> None:
    assert PSK not in repr(decode_file(FILE, "wg0.conf"))


@pytest.mark.parametrize(
    ("comments", "name"),
    [
        (("# hub", "[Peer]"), "hub"),
        (("[Peer] # hub",), "hub"),
        (("[Peer]", "# Name: hub"), "hub"),
        (("[Peer]", "# friendly_name = hub", "# in the cellar"), "hub"),
        (("[Peer]", f"PublicKey = {OTHER}", "# not a name"), None),
        (("# too far away", "", "[Peer]"), None),
        (("[Peer]", "# Endpoint = 192.0.2.1:1"), None),
        (("# " + 64 * "x", "[Peer]"), None),
    ],
)
def test_name_of_a_peer_is_the_comment_at_its_head(comments: tuple[str, ...], name: str | None) -> None:
    rest = [] if any("PublicKey" in line for line in comments) else [f"PublicKey = {KEY}"]
    assert decode_file("\n".join([*comments, *rest, "AllowedIPs = ::/0"]), "f").peers[0].name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[Interfaces]", "f:1: [Interfaces]: expected [Interface] or [Peer]"),
        ("[Peer", "f:1: [Peer: expected [Interface] or [Peer]"),
        ("\nAddress = 10.0.0.1", "f:2: Address: stands before [Interface] and [Peer]"),
        ("[Interface]\nAdress = 10.0.0.1", "f:2: Adress: unknown key; did you mean Address?"),
        (
            "[Interface]\nAddress = 10.0.0.1/33",
            "f:2: Address: expected addresses such as 10.7.0.2/24, fd07::2/64, not '10.0.0.1/33'",
        ),
        ("[Interface]\nhello", "f:2: expected `Key = value`"),
        (peer("Endpoints = x"), "f:2: Endpoints: unknown key; did you mean Endpoint?"),
        (
            peer("xyz = 1"),
            "f:2: xyz: unknown key; there are: PublicKey, PresharedKey, AllowedIPs, Endpoint, PersistentKeepalive",
        ),
        (
            peer("PublicKey = abc"),
            "f:2: PublicKey: expected a WireGuard key: 44 characters of base64, as `wg` prints it",
        ),
        (
            peer("AllowedIPs = 10.0.0.0/33"),
            "f:2: AllowedIPs: expected prefixes such as 10.7.0.2/32, fd07::/64, not '10.0.0.0/33'",
        ),
        (
            peer("Endpoint = 10.0.0.1"),
            "f:2: Endpoint: 10.0.0.1: expected a host and a port, such as 192.0.2.1:51820 or host.example.org:51820",
        ),
        (
            peer("PersistentKeepalive = 65536"),
            "f:2: PersistentKeepalive: expected 0 to 65535 seconds or off, not '65536'",
        ),
        (peer("AllowedIPs = ::/0"), "f:1: [Peer]: has no PublicKey"),
        (peer(f"PublicKey = {KEY}", "AllowedIPs ="), "f:1: [Peer]: has no AllowedIPs"),
        (peer(f"PublicKey = {KEY}", f"PublicKey = {KEY}"), "f:3: PublicKey: is set in line 2 already"),
        (
            2 * (peer(f"PublicKey = {KEY}", "AllowedIPs = ::/0") + "\n"),
            "f:4: [Peer]: has the same PublicKey as the one in line 1",
        ),
    ],
)
def test_fault_is_told_with_file_line_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode_file(text, "f")
    assert str(caught.value) == message


def test_wrong_secret_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        decode_file(peer(f"PresharedKey = {PSK}x"), "f")
    assert PSK[:10] not in str(caught.value)


@given(st.text())
def test_any_text_is_a_file_or_a_config_error(text: str) -> None:
    for candidate in (text, f"[Peer]\n{text}", f"[Interface]\n{text}\n[Peer]\nPublicKey = {KEY}\nAllowedIPs = {text}"):
        with contextlib.suppress(ConfigError):
            decode_file(candidate, "f")


@given(
    st.text("abc ä", min_size=1, max_size=70).map(str.strip).filter(bool),
    st.lists(st.ip_addresses().map(str), min_size=1, max_size=3, unique=True),
    st.integers(0, 0xFFFF),
)
def test_what_is_written_is_read_back(name: str, addresses: list[str], keepalive_s: int) -> None:
    entries = [
        ("PublicKey", KEY),
        ("AllowedIPs", ", ".join(addresses)),
        ("Endpoint", "[2001:db8::1]:51820"),
        ("PersistentKeepalive", str(keepalive_s)),
    ]
    found = decode_file(encode_file([name], [("Address", ", ".join(addresses))], entries), "f")
    assert [address.partition("/")[0] for address in found.values("Address")] == addresses
    (peer,) = found.peers
    assert [prefix.partition("/")[0] for prefix in peer.allowed_ips] == addresses
    assert (peer.public_key, peer.endpoint, peer.keepalive_s) == (KEY, "[2001:db8::1]:51820", keepalive_s)


def test_entry_without_a_value_is_written_as_a_comment() -> None:
    text = encode_file([], [("PrivateKey", ""), ("Address", "10.0.0.2/32")], [("PublicKey", KEY)])
    assert text == f"[Interface]\n# PrivateKey =\nAddress = 10.0.0.2/32\n\n[Peer]\nPublicKey = {KEY}\n"


def test_peers_without_names_have_the_files_and_no_two_the_same() -> None:
    sections = decode_file(
        "\n".join(
            f"{head}\nPublicKey = {base}\nAllowedIPs = ::/0\n"
            for head, base in (("# a\n[Peer]", KEY), ("[Peer]", OTHER), ("# a\n[Peer]", PSK))
        ),
        "f",
    ).peers
    assert list(names_of(sections, "wg0")) == ["a", "wg0", "a-2"]
    assert list(names_of(sections[1:2], "\x07")) == ["imported"]
