import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weft.engine.config import Config, decode_config, load_config
from weft.engine.edit import change_file, decode_value, edit_text
from weft.engine.keys import KEYS
from weft.engine.manual import render_default, toml_text
from weft.errors import ConfigError, UsageError

LISTEN = ["/ip4/0.0.0.0/udp/1312", "/ip6/::/udp/1312", "/ip4/192.0.2.1/udp/0"]

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "peer.listen": st.lists(st.sampled_from(LISTEN), min_size=1, unique=True),
    "peer.accept": st.sampled_from(["any", "known"]),
    "peer.keepalive_s": st.integers(0, 65535),
    "peer.fwmark": st.integers(0, 2**32 - 1),
    "transport.ip4": st.just(True),
    "transport.ip6": st.just(True),
    "network.secret_file": st.sampled_from(["network.secret", 'a "quoted" \\ name', "# no comment", "ö"]),
    "fc00.device": st.sampled_from(["auto", "tun", "stack"]),
    "fc00.ifname": st.sampled_from(["weft0", "mesh_1"]),
    "fc00.addresses": st.lists(st.sampled_from(["10.7.0.1/24", "2001:db8:7::1/64"]), unique=True),
    "fc00.routes": st.sampled_from(["all", "peers"]),
    "fc00.dns": st.lists(st.sampled_from(["fc12:3456::53", "10.7.0.53"]), unique=True),
    "fc00.refuse": st.sampled_from(["reject", "drop"]),
    "api.listen": st.sampled_from(["127.0.0.1:1", "[::1]:65535"]),
    "api.token_file": st.just("x = 1"),
    "log.level": st.sampled_from(["debug", "error"]),
    "log.format": st.sampled_from(["text", "json"]),
    "log.file": st.just("weft.log"),
}

FILES = [
    render_default(),
    "",
    "# alone\n",
    "\n[fc00]\nrefuse = 'drop' # why\n\n\n# of what follows\n[peer]\naccept='known'#x\nlisten = [\n"
    "  # the first\n  '/ip4/0.0.0.0/udp/1312', # one\n  '/ip6/::/udp/1312',\n]\n",
    'peer.accept = "known"\nfc00 = { ifname = "mesh0", refuse = "drop" } # inline\n# end',
    "[peer]\n# keepalive_s = 25\n[log]\n# file = 'x'\n[fc00]\n# file = 'y'\n",
    "[peer]\r\naccept = 'known'\r\n\r\n[log]\r\nlevel = 'debug'\r\n",
]

changes = st.lists(
    st.sampled_from([key.name for key in KEYS]).flatmap(
        lambda name: st.tuples(st.just(name), VALUES[name] | st.none())
    ),
    max_size=6,
)


def comments(text: str) -> list[str]:
    """All but those between the items of a list, which go with what they stand beside."""
    return sorted(
        line.partition("#")[2] for line in text.splitlines() if "#" in line and " = " not in line and line[:1] != " "
    )


@given(st.sampled_from(FILES), changes)
@example(render_default(), [("peer.listen", LISTEN), ("network.secret_file", "x"), ("network.secret_file", None)])
def test_what_is_set_is_what_is_read_and_comments_and_all_else_stay(text: str, asked: list[tuple[str, Any]]) -> None:
    expected = {key.name: decode_config(text, "").value(key.name) for key in KEYS}
    edited = text
    for name, value in asked:
        edited = edit_text(edited, {name: value})
        expected[name] = Config().value(name) if value is None else tuple(value) if isinstance(value, list) else value
    config = decode_config(edited, "")
    assert {key.name: config.value(key.name) for key in KEYS} == expected
    assert all(comment in edited for comment in comments(text))


def test_default_file_with_one_value_set_differs_in_one_line() -> None:
    for key in KEYS:
        value = {"peer.listen": LISTEN, "peer.accept": "known", "log.level": "debug", "fc00.ifname": "mesh0"}.get(
            key.name, {int: 7, bool: False}.get(type(Config().value(key.name)), "127.0.0.1:1")
        )
        value = ["10.7.0.1/24"] if key.name == "fc00.addresses" else value
        before, after = render_default().splitlines(), edit_text(render_default(), {key.name: value}).splitlines()
        assert len(before) == len(after)
        assert [new for old, new in zip(before, after, strict=True) if old != new] == [
            f"{key.field} = {toml_text(value)}"
        ]


def test_key_that_is_set_and_unset_again_leaves_the_default_file_as_it_was_or_shows_the_default_in_a_comment() -> None:
    text = edit_text(edit_text(render_default(), {"network.secret_file": "x"}), {"network.secret_file": None})
    assert text == render_default()
    text = edit_text(render_default(), {"peer.keepalive_s": None})
    assert "\n# keepalive_s = 25\n" in text
    assert edit_text(text, {"peer.keepalive_s": 25}) == render_default()


def test_prose_that_looks_like_a_key_stays() -> None:
    text = "[peer]\n# accept = any, as long as we are few\n"
    assert edit_text(text, {"peer.accept": "known"}) == text + 'accept = "known"\n'


def test_list_keeps_the_comments_between_its_items() -> None:
    text = '[peer]\nlisten = [\n  "/ip4/0.0.0.0/udp/1312",  # at home\n  "/ip6/::/udp/1312",\n]\n'
    edited = edit_text(text, {"peer.listen": ["/ip4/0.0.0.0/udp/1312", "/ip4/0.0.0.0/udp/53"]})
    assert "# at home" in edited
    assert tomllib.loads(edited)["peer"]["listen"] == ["/ip4/0.0.0.0/udp/1312", "/ip4/0.0.0.0/udp/53"]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("peer.listen", "/ip4/0.0.0.0/udp/1312,/ip6/::/udp/1312", LISTEN[:2]),
        ("peer.listen", '["/ip4/0.0.0.0/udp/1312", "/ip6/::/udp/1312"]', LISTEN[:2]),
        ("fc00.addresses", "10.7.0.1/24, fd00:7::1/64,", ["10.7.0.1/24", "fd00:7::1/64"]),
        ("fc00.addresses", "", []),
        ("peer.accept", "known", "known"),
        ("peer.accept", '"known"', "known"),
        ("network.secret_file", "net.secret", "net.secret"),
        ("network.secret_file", "'net # secret'", "net # secret"),
        ("peer.fwmark", "0x1234", 0x1234),
        ("peer.keepalive_s", "25", 25),
        ("transport.ip4", "false", False),
    ],
)
def test_value_is_read_as_people_write_it(name: str, text: str, value: object) -> None:
    assert decode_value(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("peer.lisen", "x", "peer.lisen: unknown key; did you mean peer.listen?"),
        ("x", "x", "x: unknown key; there are: peer.listen, "),
        ("peer.keepalive_s", "often", "peer.keepalive_s: expected a number, not 'often'"),
        ("peer.keepalive_s", "1\nx = 2", "peer.keepalive_s: expected a number"),
        ("transport.ip4", "no", "transport.ip4: expected true or false, not 'no'"),
        ("peer.listen", "[1]", "peer.listen: expected a list of text"),
        ("log.file", "'x", "log.file: expected text"),
    ],
)
def test_value_that_is_none_of_its_type_is_refused(name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        decode_value(name, text)
    assert str(caught.value).startswith(message)


def test_file_is_changed_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "weft.toml"
    path.write_text(render_default())
    assert change_file(path, {"peer.keepalive_s": 7, "fc00.refuse": "drop"}) == load_config(path)
    assert load_config(path).peer.keepalive_s == 7


@pytest.mark.parametrize(
    ("text", "changed", "message"),
    [
        ("", {"peer.keepalive_s": 65536}, "peer.keepalive_s: expected 0 to 65535 seconds"),
        ("", {"peer.keepalive_s": "x"}, "peer.keepalive_s: Expected `int`, got `str`"),
        ("", {"peer.listen": []}, "peer.listen: expected 1 to 16 listeners"),
        ("", {"peer.accept": "all"}, "peer.accept: expected any or known, not 'all'"),
        ("", {"transport.ip4": False, "transport.ip6": False}, "transport.ip4: no listener would be left"),
        ("", {"peer.nothing": 1}, "peer.nothing: unknown key"),
    ],
)
def test_change_that_makes_no_sense_changes_nothing(
    tmp_path: Path, text: str, changed: dict[str, Any], message: str
) -> None:
    path = tmp_path / "weft.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        change_file(path, changed)
    assert str(caught.value).startswith(message)
    assert path.read_text() == text


def test_file_that_is_wrong_already_is_named_with_its_line_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "weft.toml"
    path.write_text("[peer]\nkeepalive = 1\n")
    with pytest.raises(ConfigError, match=r"weft.toml: peer.keepalive: unknown key; did you mean .* \(line 2\)"):
        change_file(path, {"peer.accept": "known"})
    assert path.read_text() == "[peer]\nkeepalive = 1\n"
