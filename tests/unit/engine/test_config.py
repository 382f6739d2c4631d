import os
import tomllib
from hashlib import blake2s
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.engine.config import (
    Config,
    NetworkSection,
    load_config,
    load_network_psk,
    network_psk,
)
from weft.engine.keys import KEYS, SECTIONS
from weft.engine.manual import render_default
from weft.errors import ConfigError, UsageError

# The peer id of an identity that `generate` made once; nothing but these tests uses it.
PEER = "12D3KooWBAfyD2pmWz8aKGKfLQUfM7GXujWdghuN9j8yykzk3g89"
SECRET = b"correct horse battery staple"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weft.toml"


# --- what is read ---


@pytest.mark.parametrize("text", [render_default(), "", "[peer]\n[transport]\n[network]\n[fc00]\n[api]\n[log]\n"])
def test_default_file_and_empty_ones_give_the_defaults(path: Path, text: str) -> None:
    path.write_text(text)
    assert load_config(path) == Config()


def test_default_file_sets_every_key_and_shows_those_without_a_default_in_comments() -> None:
    document = tomllib.loads(render_default())
    for key in KEYS:
        if Config().value(key.name) is None:
            assert key.field not in document[key.section]
            assert f"\n# {key.field} = {key.example}\n" in render_default()
            document[key.section][key.field] = None
    assert document == msgspec.json.decode(msgspec.json.encode(Config()))


def test_table_has_the_keys_of_the_configuration_in_its_order() -> None:
    fields = msgspec.json.decode(msgspec.json.encode(Config()))
    assert [key.name for key in KEYS] == [f"{section}.{field}" for section in fields for field in fields[section]]
    assert list(SECTIONS) == list(fields)


def test_lines_of_the_default_file_fit_a_terminal() -> None:
    assert max(map(len, render_default().splitlines())) <= 120


def test_values_of_the_file_are_taken(path: Path) -> None:
    path.write_text(
        """
        fc00 = { ifname = "mesh0", refuse = "drop" }
        [peer]
        listen = ["/ip4/192.0.2.1/udp/0", "/ip6zone/eth0/ip6/fe80::1/udp/65535"]
        accept = "known"
        keepalive_s = 0
        [network]
        secret_file = "network.secret"
        """
    )
    config = load_config(path)
    assert [address.endpoint() for address in config.peer.listen_multiaddrs] == [
        ("192.0.2.1", 0),
        ("fe80::1%eth0", 65535),
    ]
    assert (config.peer.accept, config.peer.keepalive_s) == ("known", 0)
    assert config.network.secret_file == "network.secret"
    assert (config.fc00.ifname, config.fc00.refuse) == ("mesh0", "drop")


# --- what is refused, and how a person is told ---


@pytest.mark.parametrize(
    ("text", "key", "line", "message"),
    [
        ("[pear]\n", "pear", 1, "unknown section; did you mean peer?"),
        ("\n[interface]\n", "interface", 2, "unknown section; there are: peer, transport, network,"),
        ("listen = []\n", "listen", 1, "unknown section"),
        ("[peer]\n\nlisten_on = []\n", "peer.listen_on", 3, "unknown key; did you mean listen?"),
        ("[fc00]\n[peer]\nxyz = 1\n", "peer.xyz", 3, "unknown key; there are: listen, accept, keepalive_s"),
        ("[fc00]\nlisten = 1\n[peer]\nlisten = 1\n", "fc00.listen", 2, "unknown key"),
        ('[log]\nlevel = "loud"\n', "log.level", 2, "expected debug or info or warning or error, not 'loud'"),
        ('[log]\nfile = ""\n', "log.file", 2, "expected the name of a file"),
        ("peer = 1\n", "peer", 1, "Expected `object`, got `int`"),
        ('[peer]\nkeepalive_s = "25"\n', "peer.keepalive_s", 2, "Expected `int`, got `str`"),
        ("[peer]\nkeepalive_s = true\n", "peer.keepalive_s", 2, "Expected `int`"),
        ("[peer]\nkeepalive_s = 2.5\n", "peer.keepalive_s", 2, "Expected `int`"),
        ("[peer]\nkeepalive_s = 65536\n", "peer.keepalive_s", 2, "expected 0 to 65535 seconds"),
        ("[peer]\nkeepalive_s = -1\n", "peer.keepalive_s", 2, "expected 0 to 65535 seconds"),
        ('[peer]\naccept = "all"\n', "peer.accept", 2, "expected any or known, not 'all'"),
        ('peer.accept = "all"\n', "peer.accept", 1, "expected any or known, not 'all'"),
        ('[peer]\nlisten = "/ip4/0.0.0.0/udp/1312"\n', "peer.listen", 2, "Expected `array`"),
        ("[peer]\nlisten = [1312]\n", "peer.listen", 2, "Expected `str`, got `int`"),
        ("[peer]\nlisten = []\n", "peer.listen", 2, "expected 1 to 16 listeners"),
        ('[peer]\nlisten = ["0.0.0.0:1312"]\n', "peer.listen", 2, "which starts with a slash"),
        ('[peer]\nlisten = ["/ip4/0.0.0.0/udp/65536"]\n', "peer.listen", 2, "a port from 0 to 65535 after /udp"),
        ('[peer]\nlisten = ["/ip4/0.0.0.0/tcp/1312/ws"]\n', "peer.listen", 2, "expected UDP listeners such as"),
        ('[peer]\nlisten = ["/dns/example.org/udp/1312"]\n', "peer.listen", 2, "expected UDP listeners such as"),
        (f'[peer]\nlisten = ["/ip4/0.0.0.0/udp/1/p2p/{PEER}"]\n', "peer.listen", 2, "expected UDP listeners such as"),
        ('[peer]\nlisten = ["/ethif/eth0"]\n', "peer.listen", 2, "expected UDP listeners such as"),
        ('[peer]\nlisten = ["/ip6/::/udp/1", "/ip6/0::0/udp/1"]\n', "peer.listen", 2, "each listener once"),
        ('[network]\nsecret_file = ""\n', "network.secret_file", 2, "expected the name of a file"),
        ('[network]\nsecret_file = "a\\u0000"\n', "network.secret_file", 2, "expected the name of a file"),
        ('[fc00]\nifname = ""\n', "fc00.ifname", 2, "expected an interface name"),
        ('[fc00]\nifname = "sixteen-letters-"\n', "fc00.ifname", 2, "at most 15 letters"),
        ('[fc00]\nifname = "a/b"\n', "fc00.ifname", 2, "expected an interface name"),
        ('[fc00]\nifname = "weft%d"\n', "fc00.ifname", 2, "expected an interface name"),
        ('[fc00]\nifname = ".."\n', "fc00.ifname", 2, "expected an interface name"),
        ('[fc00]\nifname = "wéft0"\n', "fc00.ifname", 2, "expected an interface name"),
        ('[fc00]\nifname = "weft0\\n"\n', "fc00.ifname", 2, "expected an interface name"),
        ("[peer]\nfwmark = -1\n", "peer.fwmark", 2, "expected a number of 32 bits, such as 0x1234"),
        ("[peer]\nfwmark = 0x100000000\n", "peer.fwmark", 2, "expected a number of 32 bits"),
        ('[peer]\nfwmark = "0x1"\n', "peer.fwmark", 2, "Expected `int`, got `str`"),
        ("[transport]\nip4 = 1\n", "transport.ip4", 2, "Expected `bool`, got `int`"),
        ("[transport]\nip6 = 'no'\n", "transport.ip6", 2, "Expected `bool`, got `str`"),
        ("[transport]\ntcp = true\n", "transport.tcp", 2, "unknown key; there are: ip4, ip6"),
        ("[transport]\nip4 = false\nip6 = false\n", "transport.ip4", 2, "no listener would be left"),
        (
            '[peer]\nlisten = ["/ip6/::/udp/1"]\n[transport]\nip6 = false\n',
            "transport.ip6",
            4,
            "no listener would be left",
        ),
        ("[fc00]\naddresses = '10.7.0.1/24'\n", "fc00.addresses", 2, "Expected `array`, got `str`"),
        ("[fc00]\ndns = 'fc00::53'\n", "fc00.dns", 2, "Expected `array`, got `str`"),
        ("[fc00]\ndns = ['loom']\n", "fc00.dns", 2, "of servers in the network, such as fc12:3456::53, not 'loom'"),
        ("[fc00]\ndns = ['fc00::53/128']\n", "fc00.dns", 2, "such as fc12:3456::53, not 'fc00::53/128'"),
        ("[fc00]\ndns = ['127.0.0.53']\n", "fc00.dns", 2, "127.0.0.53: expected an address of a server"),
        ("[fc00]\ndns = ['fe80::1%eth0']\n", "fc00.dns", 2, "fe80::1%eth0: expected an address of a server"),
        ("[fc00]\ndns = ['::']\n", "fc00.dns", 2, "::: expected an address of a server"),
        ("[fc00]\ndns = ['ff02::fb']\n", "fc00.dns", 2, "ff02::fb: expected an address of a server"),
        ("[fc00]\ndns = ['fc00::53', 'fc00:0::53']\n", "fc00.dns", 2, "expected each server once"),
        ("[fc00]\ndns = ['10.7.0.1', '10.7.0.2', '10.7.0.3', '10.7.0.4', '10.7.0.5']\n", "fc00.dns", 2, "at most 4"),
        ("[fc00]\naddresses = ['10.7.0.1/33']\n", "fc00.addresses", 2, "such as 10.7.0.1/24, not '10.7.0.1/33'"),
        ("[fc00]\naddresses = ['host']\n", "fc00.addresses", 2, "expected addresses with their prefix length"),
        ("[fc00]\naddresses = ['fc01::1/64']\n", "fc00.addresses", 2, "addresses in fc00::/8 belong to the keys"),
        ("[fc00]\naddresses = ['f000::1/4']\n", "fc00.addresses", 2, "addresses in fc00::/8 belong to the keys"),
        ("[fc00]\naddresses = ['10.7.0.0/24']\n", "fc00.addresses", 2, "own address in it, such as 10.7.0.1/24"),
        ("[fc00]\naddresses = ['10.0.0.0/8']\n", "fc00.addresses", 2, "own address in it, such as 10.0.0.1/8"),
        ("[fc00]\naddresses = ['127.0.0.2/8']\n", "fc00.addresses", 2, "expected an address of one machine"),
        ("[fc00]\naddresses = ['224.0.0.1/32']\n", "fc00.addresses", 2, "expected an address of one machine"),
        ("[fc00]\naddresses = ['fe80::1/64']\n", "fc00.addresses", 2, "expected an address of one machine"),
        ("[fc00]\naddresses = ['10.7.0.1/24', '10.7.0.1/16']\n", "fc00.addresses", 2, "expected each address once"),
        ("[api]\nlisten = '0.0.0.0:80'\n", "api.listen", 2, "expected a loopback address and a port"),
        ("[api]\nlisten = '127.0.0.1'\n", "api.listen", 2, "such as 127.0.0.1:1312, not '127.0.0.1'"),
        ("[api]\nlisten = '[::1]:65536'\n", "api.listen", 2, "expected a loopback address and a port"),
        ("[api]\ntoken_file = ''\n", "api.token_file", 2, "expected the name of a file"),
        ("[log]\nformat = 'xml'\n", "log.format", 2, "expected text or json, not 'xml'"),
        ('[fc00]\n# refuse = "x"\nrefuse = "deny"\n', "fc00.refuse", 3, "expected reject or drop, not 'deny'"),
    ],
)
def test_wrong_file_is_refused_with_key_line_and_remedy(
    path: Path, text: str, key: str, line: int, message: str
) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: {key}: ")
    assert str(caught.value).endswith(f" (line {line})")
    assert message in str(caught.value)
    assert (caught.value.file, caught.value.key) == (str(path), key)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[peer\n", "line 1"),
        (b"[peer]\nlisten = [\n", "is not valid TOML"),
        (b"[peer]\n[peer]\n", "line 2"),
        (b"\xff", "UTF-8"),
        (b"[peer]\nkeepalive_s = " + b"1" * 5000, "is not valid TOML"),
        (b"[peer]\nlisten = " + b"[" * 5000, "is not valid TOML"),
    ],
)
def test_file_that_is_no_toml_is_refused_with_its_name(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert caught.value.file == str(path)


def test_missing_and_unreadable_files_are_config_errors(path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist; run `weft init`"):
        load_config(path)
    path.mkdir()
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load_config(path)


toml_values = st.sampled_from(
    ['"any"', "1", "-1", "1e400", "true", "[]", '["/ip4/0.0.0.0/udp/1"]', "{a=1}", "1979-05-27"]
)
toml_lines = st.sampled_from(["[peer]", "[network]", "[fc00]", "[[peer]]", "[peer.listen]"]) | st.tuples(
    st.sampled_from(["listen", "accept", "keepalive_s", "secret_file", "ifname", "peer", "x"]), toml_values
).map(" = ".join)


@given(st.text(max_size=60) | st.lists(toml_lines, max_size=6).map("\n".join))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_file_loads_or_raises_a_config_error(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "replace"))
    try:
        config = load_config(path)
    except ConfigError as error:
        config = None
        told = error.file
    assert config is not None or told == str(path)


# --- the shared secret ---


def test_network_psk_is_blake2s_of_context_and_secret() -> None:
    assert network_psk(SECRET) == blake2s(b"weft network secret\0" + SECRET).digest()


def test_white_space_around_the_secret_does_not_count() -> None:
    assert network_psk(b" " + SECRET + b"\r\n") == network_psk(SECRET)


@pytest.mark.parametrize("secret", [b"", b" " * 20, b"x" * 15, b"x" * 15 + b"\n\n"])
def test_secret_that_is_empty_or_short_is_refused_without_repeating_it(secret: bytes) -> None:
    with pytest.raises(UsageError, match="at least 16") as caught:
        network_psk(secret)
    assert "xxx" not in str(caught.value)


def test_configuration_without_a_secret_gives_no_psk(tmp_path: Path) -> None:
    assert load_network_psk(Config(), tmp_path) is None


@pytest.mark.parametrize("absolute", [False, True])
def test_secret_file_is_found_beside_the_configuration_or_by_its_full_name(tmp_path: Path, absolute: bool) -> None:
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    (tmp_path / "secret").chmod(0o600)
    name = str(tmp_path / "secret") if absolute else "secret"
    config = Config(network=NetworkSection(secret_file=name))
    assert load_network_psk(config, tmp_path if not absolute else Path("/nowhere")) == network_psk(SECRET)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (None, 0, "does not exist; write the network's shared secret"),
        (b"short", 0o600, "at least 16"),
        (b"", 0o600, "at least 16"),
        (SECRET, 0o644, "chmod 600"),
        (SECRET, 0o640, "chmod 600"),
    ],
)
def test_secret_file_that_can_not_be_used_is_named_and_its_content_not_told(
    tmp_path: Path, content: bytes | None, mode: int, message: str
) -> None:
    place = tmp_path / "secret"
    if content is not None:
        place.write_bytes(content)
        os.chmod(place, mode)
    with pytest.raises(ConfigError, match=message) as caught:
        load_network_psk(Config(network=NetworkSection(secret_file="secret")), tmp_path)
    assert caught.value.file == str(place)
    assert SECRET.decode() not in str(caught.value)
