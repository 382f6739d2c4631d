import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from weft.errors import ConfigError
from weft.identity import Identity, encode_wireguard_key
from weft.io import durable
from weft.io.store import ENDPOINTS, VERSION, State, Store, StoredPeer

# Made with `generate(os.urandom)` once; nothing but these tests uses them.
ME, PEER = (
    Identity(bytes.fromhex(seed))
    for seed in (
        "934f5c2b2c16abbb3a28092dc0c7f4d81c3ab8d51e2f9810510cf900da3cb991",
        "631aeeffc682717c2349d8c8d5b734489c32f21e42bf883d3df34cfaaa2c97e2",
    )
)
PSK = encode_wireguard_key(bytes(range(32)))
OTHER_KEY = encode_wireguard_key(bytes(range(200, 232)))
STOCK_KEY = encode_wireguard_key(bytes(range(100, 132)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "weft")


@pytest.fixture
def keyed(store: Store) -> Store:
    store.create_key(ME)
    return store


def full_state() -> State:
    return State(
        peers=[
            StoredPeer(
                key=str(PEER.peer_id),
                kind="weft",
                name="laptop",
                standing="known",
                allowed_ips=["10.7.0.0/24"],
                endpoints=["/ip4/192.0.2.1/udp/1312"],
                keepalive_s=25,
            ),
            StoredPeer(
                key=STOCK_KEY, kind="wireguard", allowed_ips=["10.0.0.0/24", "2001:db8::/64", "10.1.1.1"], psk=PSK
            ),
        ],
        allow=["/tcp/80", "/icmp"],
        timestamp_floor="400000006553f1000000000a",
    )


# --- the key file ---


def test_key_that_was_created_is_loaded_again(keyed: Store) -> None:
    assert keyed.load_key().seed == ME.seed
    assert stat.S_IMODE(keyed.key_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keyed.directory.stat().st_mode) == 0o700


def test_key_file_tells_a_person_id_and_address(keyed: Store) -> None:
    text = keyed.key_path.read_text()
    assert f'peer_id = "{ME.peer_id}"' in text
    assert 'address = "fc' in text
    assert text.startswith("# The secret key")


def test_creating_a_second_key_is_refused_and_the_first_stays(keyed: Store) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        keyed.create_key(PEER)
    assert keyed.load_key().seed == ME.seed


def test_missing_key_names_the_command_that_makes_one(store: Store) -> None:
    with pytest.raises(ConfigError, match="does not exist; run `weft init`") as caught:
        store.load_key()
    assert caught.value.file == str(store.key_path)


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_key_that_others_can_read_is_refused(keyed: Store, mode: int) -> None:
    keyed.key_path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        keyed.load_key()


def test_key_file_cut_anywhere_is_refused_without_telling_the_seed_or_loads_whole(keyed: Store) -> None:
    whole = keyed.key_path.read_bytes()
    for length in range(len(whole) - 1):
        keyed.key_path.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"torn or was edited.*weft init") as caught:
            keyed.load_key()
        assert not any(ME.seed.hex()[n : n + 8] in str(caught.value) for n in range(0, 64, 8))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["peer_id", "address"])
def test_key_file_whose_parts_contradict_each_other_names_the_part(keyed: Store, part: str) -> None:
    text = keyed.key_path.read_text()
    other = Store(keyed.directory / "other")
    other.create_key(PEER)
    theirs = next(line for line in other.key_path.read_text().splitlines() if line.startswith(part))
    mixed = "".join(f"{theirs if line.startswith(part) else line}\n" for line in text.splitlines())
    keyed.key_path.write_text(mixed)
    with pytest.raises(ConfigError, match="does not belong to the seed") as caught:
        keyed.load_key()
    assert caught.value.key == part


def test_key_file_of_brackets_is_refused(keyed: Store) -> None:
    keyed.key_path.write_text("seed = " + "[" * 5000)
    with pytest.raises(ConfigError, match="torn"):
        keyed.load_key()


def test_seed_of_another_identity_is_refused(keyed: Store) -> None:
    keyed.key_path.write_text(keyed.key_path.read_text().replace(ME.seed.hex(), PEER.seed.hex()))
    with pytest.raises(ConfigError, match="does not belong to the seed"):
        keyed.load_key()


@given(st.binary(max_size=200))
def test_random_key_file_raises_config_errors_only(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(durable, "read_private", lambda _: data)
        with pytest.raises(ConfigError):
            Store(Path("weft")).load_key()


def test_full_disk_while_creating_the_key_leaves_no_key(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(ConfigError, match="No space left"):
            store.create_key(ME)
    assert list(store.directory.iterdir()) == []
    store.create_key(ME)
    assert store.load_key().seed == ME.seed


# --- the state file ---


def test_node_without_a_state_file_begins_empty(store: Store) -> None:
    assert store.load_state() == State()
    assert not store.directory.exists()


def test_state_that_was_saved_is_loaded_again(store: Store) -> None:
    store.save_state(full_state())
    assert store.load_state() == full_state()
    assert stat.S_IMODE(store.state_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700


@given(
    st.lists(
        st.builds(
            StoredPeer,
            key=st.binary(min_size=32, max_size=32).map(encode_wireguard_key),
            kind=st.just("wireguard"),
            name=st.none() | st.from_regex(r"[a-zäé ]{1,63}", fullmatch=True),
            allowed_ips=st.lists(st.ip_addresses().map(str), max_size=3, unique=True),
            endpoints=st.lists(st.integers(0, 65535).map(lambda p: f"/ip6/2001:db8::1/udp/{p}"), max_size=ENDPOINTS),
            psk=st.none() | st.binary(min_size=32, max_size=32).map(encode_wireguard_key),
            keepalive_s=st.none() | st.integers(0, 65535),
            standing=st.sampled_from(("wanted", "known", "stranger", "blocked")),
        ),
        max_size=5,
        unique_by=(lambda peer: peer.key, lambda peer: peer.name or peer.key),
    ),
    st.lists(st.text(max_size=20), max_size=5),
    st.binary(min_size=12, max_size=12).map(bytes.hex),
)
def test_any_sound_state_survives_the_disk(peers: list[StoredPeer], allow: list[str], floor: str) -> None:
    prefixes = [prefix for peer in peers for prefix in peer.allowed_ips]
    assume(len(prefixes) == len(set(prefixes)))
    files: dict[Path, bytes] = {}
    state = State(peers=peers, allow=allow, timestamp_floor=floor)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(durable, "make_directory", lambda _: None)
        monkeypatch.setattr(durable, "replace_file", files.__setitem__)
        monkeypatch.setattr(durable, "read_private", files.__getitem__)
        Store(Path("weft")).save_state(state)
        assert Store(Path("weft")).load_state() == state


def test_peer_is_known_by_either_kind_of_key() -> None:
    weft, stock = full_state().peers
    assert weft.peer_id == PEER.peer_id
    assert weft.noise_public_key == PEER.noise_public
    assert stock.peer_id is None
    assert stock.noise_public_key == bytes(range(100, 132))


def test_state_shows_no_preshared_key() -> None:
    assert PSK not in repr(full_state())


def test_states_do_not_share_their_lists() -> None:
    State().allow.append("/tcp/80")
    assert State().allow == []


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("timestamp_floor", lambda state: setattr(state, "timestamp_floor", "00")),
        ("timestamp_floor", lambda state: setattr(state, "timestamp_floor", "zz" * 12)),
        ("timestamp_floor", lambda state: setattr(state, "timestamp_floor", "40 " * 12)),
        ("peers[0].key", lambda state: setattr(state.peers[0], "key", "laptop")),
        ("peers[0].key", lambda state: setattr(state.peers[0], "kind", "wireguard")),
        ("peers[0].name", lambda state: setattr(state.peers[0], "name", "")),
        ("peers[0].name", lambda state: setattr(state.peers[0], "name", "a\x1b[2J")),
        ("peers[0].name", lambda state: setattr(state.peers[0], "name", "a" * 64)),
        ("peers[0].allowed_ips", lambda state: state.peers[0].allowed_ips.append("10.0.0.1/8")),
        ("peers[0].endpoints", lambda state: state.peers[0].endpoints.append("192.0.2.1:1312")),
        ("peers[0].configured", lambda state: state.peers[0].configured.append("/ip4/192.0.2.9/udp/9")),
        ("peers[0].endpoints", lambda state: state.peers[0].endpoints.extend(state.peers[0].endpoints * ENDPOINTS)),
        ("peers[0].psk", lambda state: setattr(state.peers[0], "psk", PSK)),
        ("peers[0].keepalive_s", lambda state: setattr(state.peers[0], "keepalive_s", -1)),
        ("peers[1].allowed_ips", lambda state: state.peers[1].allowed_ips.append("10.0.0.1/24")),
        ("peers[1].psk", lambda state: setattr(state.peers[1], "psk", PSK[:-1])),
        ("peers[1].keepalive_s", lambda state: setattr(state.peers[1], "keepalive_s", 65536)),
        ("peers[2].key", lambda state: state.peers.append(state.peers[1])),
        (
            "peers[2].name",
            lambda state: state.peers.append(StoredPeer(key=OTHER_KEY, kind="wireguard", name="laptop")),
        ),
        (
            "peers[2].allowed_ips",
            lambda state: state.peers.append(
                StoredPeer(key=OTHER_KEY, kind="wireguard", allowed_ips=["10.9.0.0/16", "10.0.0.0/24"])
            ),
        ),
        (
            "peers[2].key",
            lambda state: state.peers.append(StoredPeer(key=encode_wireguard_key(PEER.noise_public), kind="weft")),
        ),
    ],
)
def test_state_with_a_wrong_value_is_neither_saved_nor_loaded_and_named(
    store: Store, key: str, change: Callable[[State], object]
) -> None:
    store.save_state(full_state())
    state = full_state()
    change(state)
    with pytest.raises(ConfigError, match="was not saved") as caught:
        store.save_state(state)
    assert caught.value.key == key
    assert PSK[:-1] not in str(caught.value)
    assert store.load_state() == full_state()
    store.state_path.write_bytes(msgspec.json.encode(state))
    with pytest.raises(ConfigError, match="repair it, or move it away") as caught:
        store.load_state()
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "torn"),
        (b"\xff\xfe", "torn"),
        (b"[]", "torn"),
        (b"null", "torn"),
        (b'{"x":' + b"[" * 5000, "torn"),
        (b"{}", "required field `version`"),
        (b'{"version": "1"}', "torn"),
        (b'{"version": %d, "pears": []}' % VERSION, "unknown field `pears`"),
        (b'{"version": %d, "peers": [{"key": 1, "kind": "weft"}]}' % VERSION, r"\$\.peers\[0\]\.key"),
        (b'{"version": %d, "allow": 1}' % VERSION, "torn"),
        (b'{"version": %d, "more": 1}' % (VERSION + 1), "use the weft that wrote it"),
        (b'{"version": 0}', "use the weft that wrote it"),
    ],
)
def test_state_file_that_can_not_be_read_is_named_and_left_as_it_is(store: Store, content: bytes, message: str) -> None:
    store.save_state(State())
    store.state_path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        store.load_state()
    assert caught.value.file == str(store.state_path)
    assert "\n" not in str(caught.value)
    assert store.state_path.read_bytes() == content


def test_state_file_cut_anywhere_is_refused(store: Store) -> None:
    store.save_state(full_state())
    whole = store.state_path.read_bytes().rstrip()
    for length in range(len(whole)):
        store.state_path.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match="torn"):
            store.load_state()


@given(st.binary(max_size=100) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(msgspec.json.encode))
def test_random_state_file_raises_config_errors_only(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(durable, "read_private", lambda _: data)
        with pytest.raises(ConfigError):
            Store(Path("weft")).load_state()


def test_state_that_others_can_read_is_refused(store: Store) -> None:
    store.save_state(full_state())
    store.state_path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        store.load_state()


def test_full_disk_while_saving_keeps_the_old_state(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save_state(full_state())
    real = os.write
    room = iter([10])

    def write(descriptor: int, data: bytes) -> int:
        for left in room:
            return real(descriptor, data[:left])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(ConfigError, match="No space left"):
        store.save_state(State())
    assert store.load_state() == full_state()
    assert [file.name for file in store.directory.iterdir()] == ["state.json"]


# --- the lock ---


def test_second_daemon_on_the_directory_is_refused(store: Store) -> None:
    with store.lock(), pytest.raises(ConfigError, match=f"process {os.getpid()}") as caught:
        store.lock()
    assert caught.value.file == str(store.directory)
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700
    store.lock().close()
