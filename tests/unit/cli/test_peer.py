"""`weft peer`: what reaches the node of what a person typed, and what the person sees of peers."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from tests.unit.api.fake_engine import ID, KEY, FakeEngine, a_peer
from tests.unit.cli.terminal import Terminal
from weft.engine.change import Change
from weft.errors import UsageError


def sent(node: FakeEngine) -> dict[str, object]:
    """The fields of the change that reached the node."""
    ((verb, peer, change, take),) = node.calls
    assert (verb, peer, take) == ("set", "loom", False)
    assert isinstance(change, Change)
    fields = {name: getattr(change, name) for name in Change.__struct_fields__}
    return {name: value for name, value in fields.items() if value is not UNSET}


def test_only_what_is_given_is_set(weft: Terminal, node: FakeEngine) -> None:
    seen = weft("peer", "set", "loom", "--name", "heddle")
    assert (seen.code, seen.out) == (0, "changed heddle with fc11::1\n")
    assert sent(node) == {"name": "heddle"}


def test_everything_can_be_set_at_once(weft: Terminal, node: FakeEngine) -> None:
    psk = weft.directory / "psk"
    psk.write_text(KEY + "\n")
    seen = weft(
        *("peer", "set", "loom", "--allowed-ips", "10.7.0.2/32, fd00:7::/64", "--allowed-ips", "10.8.0.0/16"),
        *("--endpoint", "192.0.2.1:1312", "--endpoint", "loom.example.org:1312"),
        *("--keepalive", "25", "--psk-file", str(psk), "--public-key", KEY),
    )
    assert seen.code == 0, seen.err
    assert sent(node) == {
        "allowed_ips": ["10.7.0.2/32", "fd00:7::/64", "10.8.0.0/16"],
        "endpoints": ["192.0.2.1:1312", "loom.example.org:1312"],
        "keepalive_s": 25,
        "preshared_key": KEY,
        "public_key": KEY,
    }
    assert KEY not in repr(node.calls)


def test_everything_can_be_taken_away(weft: Terminal, node: FakeEngine) -> None:
    away = ("--name", "", "--allowed-ips", "none", "--endpoint", "none", "--keepalive", "off", "--psk-file", "none")
    assert weft("peer", "set", "loom", *away).code == 0
    assert sent(node) == {
        "name": None,
        "allowed_ips": [],
        "endpoints": [],
        "keepalive_s": None,
        "preshared_key": None,
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "nothing was given to set"),
        (("--keepalive", "often"), "--keepalive: 'often' is not a valid integer range"),
        (("--keepalive", "65536"), "--keepalive: 65536 is not in the range 0<=x<=65535"),
        (("--name", "a" * 64), "no name for a peer"),
    ],
)
def test_what_can_not_be_set_is_one_line_and_exit_2(
    weft: Terminal, node: FakeEngine, options: tuple[str, ...], says: str
) -> None:
    node.fails["set"] = UsageError("no name for a peer")
    seen = weft("peer", "set", "loom", *options)
    assert (seen.code, seen.out, seen.err.count("\n")) == (2, "", 1)
    assert says in seen.err


def test_device_is_added_with_its_keepalive(weft: Terminal, node: FakeEngine) -> None:
    device = ("peer", "add-wireguard", KEY, "--name", "phone", "--allowed-ips", "10.7.0.2/32")
    assert weft(*device, "--keepalive", "25").code == 0
    assert weft(*device, "--keepalive", "off").code == 0
    assert [call[-1] for call in node.calls] == [25, None]


def test_peer_is_connected_under_a_name_and_for_as_long_as_a_person_waits(weft: Terminal, node: FakeEngine) -> None:
    assert weft("peer", "connect", "/ip4/192.0.2.1/udp/1312", "--name", "loom", "--timeout", "2.5").code == 0
    assert weft("peer", "connect", "loom").code == 0
    assert node.calls == [("connect", "/ip4/192.0.2.1/udp/1312", 2.5, "loom"), ("connect", "loom", 10.0)]


def test_list_tells_the_standing_of_each_peer(weft: Terminal, node: FakeEngine) -> None:
    node.peer_list = [a_peer(), a_peer("evil", standing="blocked", state="blocked", endpoint=None, path="none")]
    header, loom, evil = weft("peer", "list").out.splitlines()
    assert header.split()[:4] == ["NAME", "KIND", "STANDING", "STATE"]
    assert loom.split()[:4] == ["loom", "weft", "wanted", "up"]
    assert evil.split()[:6] == ["evil", "weft", "blocked", "blocked", "-", ID]


@pytest.mark.parametrize(
    ("verb", "says"),
    [
        ("persist", "loom is wanted\n"),
        ("block", "loom is blocked\n"),
        ("unblock", "loom may call again\n"),
        ("remove", "removed loom\n"),
        ("disconnect", "disconnected from loom\n"),
    ],
)
def test_verb_says_what_is_now(weft: Terminal, node: FakeEngine, verb: str, says: str) -> None:
    seen = weft("peer", verb, "loom")
    assert (seen.code, seen.out) == (0, says)
    assert node.calls == [(verb, "loom")]
