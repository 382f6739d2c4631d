"""`weft config`, `reload`, `listener`, `transport`: with a daemon, and what `config` does without one."""

from __future__ import annotations

import json

import pytest

from tests.unit.api.fake_engine import FakeEngine
from tests.unit.cli.terminal import Terminal
from weft.engine.config import load_config
from weft.engine.keys import KEYS
from weft.errors import ConfigError, TransportError
from weft.io.store import Store


@pytest.fixture
def initialised(weft: Terminal) -> Terminal:
    assert weft("init").code == 0
    return weft


# --- without a daemon ---


def test_show_lists_each_key_with_its_value_and_where_it_comes_from(initialised: Terminal) -> None:
    path = initialised.directory / "weft.toml"
    path.write_text('[peer]\naccept = "known"\nlisten = ["/ip4/0.0.0.0/udp/1", "/ip6/::/udp/2"]\n')
    lines = [line.split() for line in initialised("config", "show").out.splitlines()]
    assert [line[0] for line in lines] == [key.name for key in KEYS]
    assert ["peer.accept", "known", "weft.toml:2"] in lines
    assert ["peer.listen", "/ip4/0.0.0.0/udp/1,/ip6/::/udp/2", "weft.toml:3"] in lines
    assert ["transport.ip4", "true", "default"] in lines
    assert ["network.secret_file", "-", "default"] in lines


def test_get_prints_what_set_takes(initialised: Terminal) -> None:
    for key in KEYS:
        value = initialised("config", "get", key.name).out.rstrip("\n")
        if value:
            assert initialised("config", "set", key.name, value).code == 0
    assert load_config(initialised.directory / "weft.toml") == load_config(initialised.directory / "weft.toml")
    assert initialised("config", "get", "peer.accept").out == "any\n"
    reply = json.loads(initialised("config", "get", "peer.accept", "--json").out)
    assert (reply["key"]["value"], reply["key"]["is_default"]) == ("any", True)


def test_set_and_unset_change_one_line_of_the_file(initialised: Terminal) -> None:
    path = initialised.directory / "weft.toml"
    before = path.read_text().splitlines()
    seen = initialised("config", "set", "fc00.addresses", "10.7.0.1/24,2001:db8:7::1/64")
    assert (seen.code, seen.out, seen.err) == (0, "changed fc00.addresses, for when the daemon starts\n", "")
    after = path.read_text().splitlines()
    assert [new for old, new in zip(before, after, strict=True) if old != new] == [
        'addresses = ["10.7.0.1/24", "2001:db8:7::1/64"]'
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(initialised("config", "unset", "fc00.addresses", "--json").out) == {
        "schema": 1,
        "applied": [],
        "needs_restart": ["fc00.addresses"],
    }
    assert load_config(path).fc00.addresses == ()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("set", "peer.keepalive_s", "often"), 2, "weft: peer.keepalive_s: expected a number, not 'often'\n"),
        (("set", "peer.keepalive_s", "65536"), 2, "weft: peer.keepalive_s: expected 0 to 65535 seconds\n"),
        (("set", "peer.lisen", "x"), 2, "weft: peer.lisen: unknown key; did you mean peer.listen?\n"),
        (("unset", "peer.lisen"), 2, "weft: peer.lisen: unknown key; did you mean peer.listen?\n"),
        (("get", "listen"), 2, "weft: listen: unknown key; "),
        (("set", "peer.accept", "all"), 2, "weft: peer.accept: expected any or known, not 'all'\n"),
        (("set", "fc00.addresses", "fc00::1/8"), 2, "weft: fc00.addresses: fc00::1/8: addresses in fc00::/8 belong"),
        (("check", "missing.toml"), 1, "weft: missing.toml: does not exist"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_changes_nothing(
    initialised: Terminal, arguments: tuple[str, ...], code: int, message: str
) -> None:
    before = (initialised.directory / "weft.toml").read_text()
    seen = initialised("config", *arguments)
    assert (seen.code, seen.out) == (code, "")
    assert seen.err.startswith(message)
    assert seen.err.count("\n") == 1
    assert (initialised.directory / "weft.toml").read_text() == before


def test_check_names_file_key_and_line(initialised: Terminal) -> None:
    path = initialised.directory / "other.toml"
    path.write_text("[peer]\n\nkeepalive_s = -1\n")
    seen = initialised("config", "check", str(path))
    assert (seen.code, seen.err) == (1, f"weft: {path}: peer.keepalive_s: expected 0 to 65535 seconds (line 3)\n")
    path.write_text('[network]\nsecret_file = "gone"\n')
    assert "network.secret_file: does not exist" in initialised("config", "check", str(path)).err
    assert initialised("config", "check").out == f"{initialised.directory / 'weft.toml'} is right\n"


def test_file_is_not_changed_while_another_process_holds_the_directory(initialised: Terminal) -> None:
    with Store(initialised.directory).lock():
        seen = initialised("config", "set", "peer.accept", "known")
    assert seen.code == 1
    assert "another weft uses this directory" in seen.err


def test_directory_that_was_never_initialised_is_named_with_the_remedy(weft: Terminal) -> None:
    seen = weft.bare("--dir", str(weft.directory / "none"), "config", "set", "peer.accept", "known")
    assert (seen.code, seen.err) == (2, f"weft: {weft.directory / 'none'} does not exist; run `weft init` to make it\n")


# --- with a daemon ---


def test_set_asks_the_daemon_and_tells_what_counts_and_what_waits(initialised: Terminal, node: FakeEngine) -> None:
    before = (initialised.directory / "weft.toml").read_text()
    assert initialised("config", "set", "peer.accept", "known").out == "changed: peer.accept\n"
    assert initialised("config", "set", "fc00.ifname", "weft9").out.splitlines() == [
        "fc00.ifname counts when the interface is made anew: `weft fc00 stop`, then `weft fc00 start`",
    ]
    initialised("config", "set", "peer.listen", "/ip4/0.0.0.0/udp/1,/ip6/::/udp/2")
    initialised("config", "unset", "peer.fwmark")
    assert [call for call in node.calls if call[0] == "config_set"] == [
        ("config_set", "peer.accept", "known"),
        ("config_set", "fc00.ifname", "weft9"),
        ("config_set", "peer.listen", ["/ip4/0.0.0.0/udp/1", "/ip6/::/udp/2"]),
        ("config_set", "peer.fwmark", None),
    ]
    assert (initialised.directory / "weft.toml").read_text() == before


def test_show_says_what_waits_for_a_new_start(weft: Terminal, node: FakeEngine) -> None:
    (line,) = [line for line in weft("config", "show").out.splitlines() if line.startswith("log.file")]
    assert line.split("  ")[-1].strip() == "default, counts after a new start"


def test_reload_tells_what_changed_and_what_waits(weft: Terminal, node: FakeEngine) -> None:
    assert weft("reload").out.splitlines() == [
        "changed: peer.listen, fc00.refuse",
        "log.file counts when the daemon starts anew: `weft down`, then `weft up`",
    ]


def test_reload_of_a_bad_file_is_one_line_with_its_place(weft: Terminal, node: FakeEngine) -> None:
    node.fails["reload"] = ConfigError("unknown key (line 3)", file="weft.toml", key="peer.x")
    seen = weft("reload")
    assert (seen.code, seen.err) == (1, "weft: weft.toml: peer.x: unknown key (line 3)\n")


def test_listeners_are_told_as_configured_and_as_they_are(weft: Terminal, node: FakeEngine) -> None:
    lines = [line.split() for line in weft("listener", "list").out.splitlines()]
    assert lines[1] == ["/ip4/0.0.0.0/udp/1312", "/ip4/0.0.0.0/udp/1312", "gso", "udp:", "too", "big:", "1"]
    assert lines[2][:5] == ["/ip6/::/udp/1312", "its", "transport", "is", "off"]
    assert "/ip4/0.0.0.0/udp/53" in weft("listener", "start", "/ip4/0.0.0.0/udp/53").out
    assert "/ip4/0.0.0.0/udp/53" not in weft("listener", "stop", "/ip4/0.0.0.0/udp/53").out
    node.fails["listener_start"] = TransportError("can't listen on UDP 0.0.0.0:53: Address already in use")
    seen = weft("listener", "start", "/ip4/0.0.0.0/udp/53")
    assert (seen.code, seen.err) == (1, "weft: can't listen on UDP 0.0.0.0:53: Address already in use\n")


def test_transports_are_told_and_switched(weft: Terminal, node: FakeEngine) -> None:
    assert [line.split()[:2] for line in weft("transport", "list").out.splitlines()[1:]] == [
        ["ip4", "on"],
        ["ip6", "off"],
    ]
    assert [line.split()[:2] for line in weft("transport", "enable", "ip6").out.splitlines()[1:]] == [
        ["ip4", "on"],
        ["ip6", "on"],
    ]
    assert ["ip4", "off"] in [line.split()[:2] for line in weft("transport", "disable", "ip4").out.splitlines()]
