"""`weft guest`, `wg-config`, `import`: files of WireGuard devices, both ways."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from ipaddress import IPv6Address
from pathlib import Path

import pytest
import zxingcpp
from numpy import array, kron, ones, uint8

from tests.unit.api.fake_engine import KEY, FakeEngine
from tests.unit.cli.terminal import Terminal
from weft.cli.qr import qr_lines
from weft.cli.wg_quick import decode_file
from weft.errors import UsageError
from weft.identity import address_of, decode_wireguard_key, encode_wireguard_key, noise_public_of

OTHER = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="

FILE = f"""
[Interface]
PrivateKey = {OTHER}
Address = 10.7.0.1/24, fd07::1/64, fc12::1/128
DNS = 10.7.0.53
PostUp = secret-command %i
MTU = 1380

# hub
[Peer]
PublicKey = {KEY}
PresharedKey = {OTHER}
AllowedIPs = 10.7.0.0/24, fd07::/64
Endpoint = hub.example.org:51820
PersistentKeepalive = 25

[Peer]
PublicKey = {OTHER}
AllowedIPs = 10.7.1.7/32
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wg0.conf"
    path.write_text(FILE)
    return path


def asked(node: FakeEngine, verb: str) -> list[tuple[object, ...]]:
    return [values for name, *values in node.calls if name == verb]


def decoded(lines: list[str]) -> str:
    """What a reader of QR codes sees in a dark terminal."""
    light = {"█": (1, 1), "▀": (1, 0), "▄": (0, 1), " ": (0, 0)}
    rows = [[light[letter][half] for letter in line] for line in lines for half in (0, 1)]
    image = kron(array(rows, uint8) * 255, ones((8, 8), uint8))
    (found,) = zxingcpp.read_barcodes(image)
    return found.text


# Guests.


def test_guest_gets_a_file_whose_keys_and_address_belong_together(weft: Terminal, node: FakeEngine) -> None:
    seen = weft(
        "guest", "add", "phone", "--allowed-ips", "10.7.0.2,10.9.0.0/24", "--dns", "10.7.0.53", "--dns", "fd07::53"
    )
    assert seen.code == 0
    found = decode_file(seen.out, "stdout")
    (private,) = found.values("PrivateKey")
    public = noise_public_of(decode_wireguard_key(private))
    address = str(IPv6Address(address_of(public)))
    assert found.values("Address") == [f"{address}/128", "10.7.0.2/32"]
    assert found.values("DNS") == ["10.7.0.53", "fd07::53"]
    (peer,) = found.peers
    assert (peer.public_key, peer.endpoint, peer.keepalive_s) == (KEY, "192.0.2.9:1312", 25)
    assert peer.allowed_ips == ["fc00::/8", "10.7.0.0/24"]
    ((key, name, allowed_ips, _, psk, *_),) = asked(node, "add_wireguard")
    assert (key, name, psk) == (encode_wireguard_key(public), "phone", peer.preshared_key)
    assert allowed_ips == [f"{address}/128", "10.7.0.2/32", "10.9.0.0/24"]
    assert f"phone has the address {address} and looks for this node at 192.0.2.9:1312." in seen.err
    assert "kept nowhere" in seen.err


def test_daemon_never_sees_the_private_key_of_a_guest(weft: Terminal, node: FakeEngine) -> None:
    (private,) = decode_file(weft("guest", "add", "phone").out, "stdout").values("PrivateKey")
    assert private not in repr(node.calls)
    assert repr(b64decode(private)) not in repr(node.calls)


def test_endpoint_and_json_are_as_asked(weft: Terminal, node: FakeEngine) -> None:
    told = json.loads(weft("guest", "add", "phone", "--endpoint", "vpn.example.org:1312", "--json").out)
    assert told["endpoint"] == "vpn.example.org:1312"
    assert decode_file(told["config"], "").peers[0].endpoint == "vpn.example.org:1312"
    assert (told["schema"], told["name"], told["file"]) == (1, "phone", None)


def test_file_of_a_guest_is_for_its_owner_alone_and_never_written_over(
    weft: Terminal, node: FakeEngine, tmp_path: Path
) -> None:
    path = tmp_path / "phone.conf"
    seen = weft("guest", "add", "phone", "-o", str(path))
    assert (seen.code, seen.out) == (0, f"wrote {path}\n")
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_text()
    assert decode_file(before, "").peers[0].public_key == KEY
    again = weft("guest", "add", "tablet", "-o", str(path))
    assert (again.code, again.err) == (2, f"weft: {path} exists already; remove it, or give another\n")
    assert path.read_text() == before
    assert len(asked(node, "add_wireguard")) == 1


def test_guest_that_is_refused_leaves_no_file(weft: Terminal, node: FakeEngine, tmp_path: Path) -> None:
    node.fails["add_wireguard"] = UsageError("another peer is called 'phone'")
    seen = weft("guest", "add", "phone", "-o", str(tmp_path / "phone.conf"))
    assert (seen.code, seen.out, seen.err) == (2, "", "weft: another peer is called 'phone'\n")
    assert list(tmp_path.glob("*.conf*")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--endpoint", "vpn.example.org"), "expected a host and a port"),
        (("--endpoint", "/ip4/192.0.2.1/udp/1312"), "a WireGuard device takes HOST:PORT"),
        (("--allowed-ips", "10.0.0.0/33"), "--allowed-ips: '10.0.0.0/33'"),
        (("--dns", "dns.example.org"), "--dns: 'dns.example.org' is no address"),
    ],
)
def test_wrong_words_for_a_guest_add_nothing(
    weft: Terminal, node: FakeEngine, words: tuple[str, ...], message: str
) -> None:
    seen = weft("guest", "add", "phone", *words)
    assert (seen.code, seen.out) == (2, "")
    assert message in seen.err
    assert asked(node, "add_wireguard") == []


def test_node_that_knows_no_address_of_its_own_asks_for_one(weft: Terminal, node: FakeEngine) -> None:
    node.wireguard.endpoints = []
    seen = weft("guest", "add", "phone")
    assert (seen.code, seen.out) == (2, "")
    assert "give one with --endpoint HOST:PORT" in seen.err
    assert asked(node, "add_wireguard") == []


def test_qr_code_says_what_is_in_the_file_but_comments(weft: Terminal, node: FakeEngine) -> None:
    out = weft("guest", "add", "phone", "--qr").out
    first = next(line for line in out.splitlines() if line.startswith("█"))
    text, code = out[: out.index(first)], out[out.index(first) :]
    without = "".join(f"{line}\n" for line in text.splitlines() if line and not line.startswith("#"))
    assert decoded(code.splitlines()) == without
    assert "[Peer]" in without


def test_qr_code_is_not_printed_where_nobody_looks(weft: Terminal, node: FakeEngine) -> None:
    assert "█" not in weft("guest", "add", "phone").out


@pytest.mark.parametrize("text", ["x", "x" * 40, "x" * 500])
def test_qr_code_with_colours_is_dark_on_light_in_any_terminal(text: str) -> None:
    lines = qr_lines(text, colored=True)
    assert all(line.startswith("\x1b[97;40m") and line.endswith("\x1b[0m") for line in lines)
    assert decoded([line.removeprefix("\x1b[97;40m").removesuffix("\x1b[0m") for line in lines]) == text


# Files for devices that have a key.


def test_wg_config_is_whole_but_for_the_private_key(weft: Terminal, node: FakeEngine) -> None:
    seen = weft("wg-config", "phone")
    assert (seen.code, seen.err) == (0, "")
    assert seen.out == (
        "# WireGuard device phone\n"
        f"# the private key is the one whose public key is {KEY}\n"
        "\n"
        "[Interface]\n"
        "# PrivateKey =\n"
        "Address = 10.7.0.2/32\n"
        "\n"
        "[Peer]\n"
        f"PublicKey = {KEY}\n"
        f"PresharedKey = {KEY}\n"
        "AllowedIPs = fc00::/8, 10.7.0.0/24\n"
        "Endpoint = 192.0.2.9:1312\n"
        "PersistentKeepalive = 25\n"
    )
    assert "Endpoint = [2001:db8::1]:1\n" in weft("wg-config", "phone", "--endpoint", "[2001:db8::1]:1").out


def test_wg_config_of_a_weft_node_is_one_clear_line(weft: Terminal, node: FakeEngine) -> None:
    node.fails["config"] = UsageError("loom is a weft node")
    seen = weft("wg-config", "loom")
    assert (seen.code, seen.out, seen.err) == (2, "", "weft: loom is a weft node\n")


# Import.


def test_import_takes_all_peers_and_says_what_it_does_not_take(weft: Terminal, node: FakeEngine, file: Path) -> None:
    seen = weft("import", str(file))
    assert (seen.code, seen.err) == (0, "")
    ((devices, addresses),) = asked(node, "add")
    assert addresses == ["10.7.0.1/24", "fd07::1/64"]
    assert [(each.name, each.public_key, each.preshared_key) for each in devices] == [
        ("hub", KEY, OTHER),
        ("wg0", OTHER, None),
    ]
    assert (devices[0].endpoint, devices[0].keepalive_s) == ("hub.example.org:51820", 25)
    old = encode_wireguard_key(noise_public_of(decode_wireguard_key(OTHER)))
    assert seen.out.splitlines() == [
        "added hub with 10.7.0.0/24, fd07::/64 at hub.example.org:51820",
        "added wg0 with 10.7.1.7/32",
        "this node has the address 10.7.0.1/24, fd07::1/64 as well",
        f"# tell each of them the key of this node, instead of {old}:",
        f"PublicKey = {KEY}",
        "# Address: not taken; fc12::1/128 is of the file's key",
        "# DNS: not taken; weft does not change the resolver of this machine; set it there",
        "# PostUp: not taken; weft runs no commands; run it beside",
        "# MTU: not taken; the interface of weft has its own",
    ]
    assert OTHER not in seen.out


def test_import_of_a_default_route_says_that_none_is_set(weft: Terminal, node: FakeEngine, file: Path) -> None:
    file.write_text(FILE.replace("10.7.1.7/32", "0.0.0.0/0, ::/0"))
    assert "# wg0: no default route is set; " in weft("import", str(file)).out


def test_dry_run_of_an_import_does_nothing(weft: Terminal, node: FakeEngine, file: Path) -> None:
    seen = weft("import", "--dry-run", str(file))
    assert seen.out.startswith("would add hub with 10.7.0.0/24")
    assert asked(node, "add") == []
    told = json.loads(weft("import", "--dry-run", "--json", str(file)).out)
    assert (told["schema"], told["dry_run"], told["peers"]) == (1, True, ["hub", "wg0"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[Interface]\n", ": has no [Peer]"),
        (b"\xff", ": is not text in UTF-8"),
        (b"#" * (1 << 20) + b"\n", ": is larger than 1,048,576 bytes"),
        (FILE.replace("51820", "0").encode(), ":14: Endpoint: hub.example.org:0: expected a port from 1 to 65535"),
        (FILE.replace(f"PrivateKey = {OTHER}", "PrivateKey = x").encode(), ": PrivateKey: expected a WireGuard key"),
    ],
)
def test_file_that_can_not_be_imported_changes_nothing(
    weft: Terminal, node: FakeEngine, file: Path, content: bytes, message: str
) -> None:
    file.write_bytes(content)
    seen = weft("import", str(file))
    assert (seen.code, seen.out) == (1, "")
    assert f"{file}{message}" in seen.err
    assert seen.err.count("\n") == 1
    assert asked(node, "add") == []


def test_file_that_is_not_there_is_named(weft: Terminal, node: FakeEngine, tmp_path: Path) -> None:
    seen = weft("import", str(tmp_path / "none.conf"))
    assert (seen.code, seen.err) == (1, f"weft: {tmp_path / 'none.conf'}: {os.strerror(2)}\n")
