"""Running nodes take another configuration: what changes, what survives, and that it is all or nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.engine.nodes import LISTEN, Nodes, Test, multiaddr_of, ping
from weft.engine.config import load_config
from weft.engine.keys import KEYS
from weft.engine.lifetime import Lifetime
from weft.engine.manual import toml_text
from weft.engine.peer import Endpoint, Peer
from weft.engine.verbs.listeners import Listeners, Transports
from weft.engine.verbs.settings import Settings
from weft.errors import ConfigError, TransportError, UsageError, WeftError

Run = Callable[[Test], None]
LISTEN_6 = "/ip6/::1/udp/0"
SECRET = b"correct horse battery staple"


def toml(**keys: Any) -> str:
    """A weft.toml; `peer_accept="known"` sets `peer.accept`."""
    given = {"peer_listen": [LISTEN]} | keys
    return "".join(f"{name.replace('_', '.', 1)} = {toml_text(value)}\n" for name, value in given.items())


def write(node: Lifetime, **keys: Any) -> None:
    (node.directory / "weft.toml").write_text(toml(**keys))


async def begin(nodes: Nodes, name: str = "alice", *listen: str) -> tuple[Lifetime, Settings]:
    node = await nodes.start(name, *listen)
    write(node, peer_listen=list(listen or (LISTEN,)))
    return node, Settings(node)


def peer_of(node: Lifetime, other: Lifetime) -> Peer:
    peer = node.running.contacts.by_key(other.identity.noise_public)
    assert peer is not None
    return peer


def ports(node: Lifetime) -> list[int]:
    return [each.address[1] for each in node.underlay.sockets]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- what is applied, and what waits ---


OTHER_VALUES: dict[str, Any] = {
    "peer.listen": [LISTEN, LISTEN_6],
    "peer.accept": "known",
    "peer.keepalive_s": 7,
    "transport.ip6": False,
    "network.secret_file": "secret",
    "fc00.device": "stack",
    "fc00.ifname": "weft9",
    "fc00.routes": "peers",
    "fc00.addresses": ["10.7.0.1/24"],
    "fc00.dns": ["fc12:3456::53"],
    "fc00.refuse": "drop",
    "api.listen": "127.0.0.1:7777",
    "api.token_file": "other.token",
    "log.level": "debug",
    "log.format": "json",
    "log.file": "weft.log",
}
NOT_HERE = {"peer.fwmark", "transport.ip4"}
"""They need rights, or another listener: below, and in the system tests."""


@pytest.mark.parametrize("key", [key for key in KEYS if key.name not in NOT_HERE], ids=lambda key: key.name)
def test_each_key_that_changes_is_applied_or_named_as_one_that_waits(run: Run, key: Any, tmp_path: Path) -> None:
    async def test(nodes: Nodes) -> None:
        node, settings = await begin(nodes)
        (node.directory / "secret").write_bytes(SECRET)
        (node.directory / "secret").chmod(0o600)
        done = await settings.set(key.name, OTHER_VALUES[key.name])
        waits = key.applies == "when the daemon starts"
        assert (done.applied, done.needs_restart) == ([], [key.name]) if waits else ([key.name], [])
        shown = {each.key: each for each in settings.show().keys}
        assert shown[key.name].waits == waits
        assert load_config(node.directory / "weft.toml") == node.config
        assert node.config.value(key.name) == shown[key.name].value != shown[key.name].default
        again = await settings.reload()
        assert (again.applied, again.needs_restart) == ([], [key.name] if waits else [])
        back = await settings.set(key.name, [LISTEN] if key.name == "peer.listen" else None)
        assert (back.applied, back.needs_restart) == ([] if waits else [key.name], [])

    level = logging.getLogger().level, logging.getLogger("weft").level
    try:
        run(test)
    finally:
        logging.getLogger().setLevel(level[0])
        logging.getLogger("weft").setLevel(level[1])


def test_keepalive_accept_and_refuse_count_at_once(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes)
        bob, carol = await nodes.start("bob"), await nodes.start("carol")
        await nodes.connect(alice, bob)
        await nodes.connect(carol, alice)
        assert peer_of(alice, carol).standing == "stranger"
        write(alice, peer_keepalive_s=3, peer_accept="known", fc00_refuse="drop")
        done = await settings.reload()
        assert done.applied == ["peer.accept", "peer.keepalive_s", "fc00.refuse"]
        assert peer_of(alice, bob).tunnel.persistent_keepalive_ns == 3_000_000_000
        assert alice.running.contacts.by_key(carol.identity.noise_public) is None
        assert not await ping(carol, alice)
        assert await ping(alice, bob)
        write(alice)
        assert (await settings.reload()).applied == ["peer.accept", "peer.keepalive_s", "fc00.refuse"]
        assert peer_of(alice, bob).tunnel.persistent_keepalive_ns == 25_000_000_000
        await nodes.connect(carol, alice)

    run(test)


def test_new_network_secret_ends_the_sessions_of_those_who_do_not_have_it(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        (alice, settings), (bob, settings_of_bob) = await begin(nodes, "alice"), await begin(nodes, "bob")
        carol = await nodes.start("carol")
        await nodes.connect(alice, bob)
        await nodes.connect(alice, carol)
        for node in (alice, bob):
            (node.directory / "secret").write_bytes(SECRET)
            (node.directory / "secret").chmod(0o600)
            write(node, network_secret_file="secret")
        assert (await settings.reload()).applied == ["network.secret_file"]
        assert (await settings_of_bob.reload()).applied == ["network.secret_file"]
        await asyncio.sleep(15)
        assert await ping(alice, bob)
        assert await ping(bob, alice)
        now = alice.terms.clock()
        assert not peer_of(alice, carol).tunnel.is_up(now)
        (alice.directory / "secret").write_bytes(b"another " + SECRET)
        assert (await settings.reload()).applied == ["network.secret_file"]
        await asyncio.sleep(15)
        assert not peer_of(alice, bob).tunnel.is_up(alice.terms.clock())

    run(test)


# --- listeners ---


def test_session_goes_on_when_the_port_changes(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes)
        bob = await nodes.start("bob")
        await nodes.connect(alice, bob)
        before, created = ports(alice), peer_of(alice, bob).tunnel
        port = free_port()
        assert (await settings.set("peer.listen", [f"/ip4/127.0.0.1/udp/{port}"])).applied == ["peer.listen"]
        assert ports(alice) == [port] != before
        assert await ping(alice, bob)
        endpoint = peer_of(bob, alice).path.endpoint
        assert isinstance(endpoint, Endpoint)
        assert endpoint.address[1] == port
        assert await ping(bob, alice)
        assert peer_of(alice, bob).tunnel is created
        assert alice.stage is not None
        assert [task.name for task in alice.stage.tasks() if task.name.startswith("udp/")] == [f"udp/127.0.0.1/{port}"]

    run(test)


def test_peer_hears_of_the_new_port_where_it_has_just_moved_to_and_is_still_to_answer(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(nodes: Nodes) -> None:
        (alice, settings), (bob, settings_of_bob) = await begin(nodes, "alice"), await begin(nodes, "bob")
        await nodes.connect(alice, bob)
        peer = peer_of(bob, alice)
        with monkeypatch.context() as patch:
            # As if her answers were lost.
            patch.setattr(bob.running.proving, "prove", lambda peer, now: None)
            await settings.set("peer.listen", [f"/ip4/127.0.0.1/udp/{free_port()}"])
            await asyncio.sleep(0.1)
            assert isinstance(peer.path.endpoint, Endpoint)
            assert [peer.path.endpoint.address[1]] == ports(alice)
            assert not peer.path.is_proven
        await settings_of_bob.set("peer.listen", [f"/ip4/127.0.0.1/udp/{free_port()}"])
        assert not peer.path.is_proven
        await asyncio.sleep(0.5)
        assert peer.path.is_proven
        assert await ping(alice, bob)
        assert await ping(bob, alice)

    run(test)


def test_listener_takes_the_port_of_the_one_that_it_replaces(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes)
        bob = await nodes.start("bob")
        await nodes.connect(alice, bob)
        port = ports(alice)[0]
        await settings.set("peer.listen", [f"/ip4/0.0.0.0/udp/{port}"])
        assert [each.address for each in alice.underlay.sockets] == [("0.0.0.0", port)]
        assert await ping(bob, alice)
        assert await ping(alice, bob)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rival:
            rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                rival.bind(("127.0.0.1", port))

    run(test)


def test_peer_of_a_transport_that_is_switched_off_is_called_at_its_other_endpoint(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes, "alice", LISTEN, LISTEN_6)
        bob = await nodes.start("bob", LISTEN, LISTEN_6)
        await nodes.connect(alice, bob)
        at_6 = next(each for each in bob.underlay.sockets if each.is_ipv6).address
        peer_of(alice, bob).endpoints.configure(type(multiaddr_of(bob)).from_endpoint(*at_6))
        transports = Transports(alice, settings)
        off = await transports.disable("ip4")
        assert [(each.name, each.enabled, len(each.listeners)) for each in off.transports] == [
            ("ip4", False, 0),
            ("ip6", True, 1),
        ]
        await asyncio.sleep(10)
        assert await ping(alice, bob)
        endpoint = peer_of(alice, bob).path.endpoint
        assert isinstance(endpoint, Endpoint)
        assert endpoint.socket.is_ipv6
        with pytest.raises(UsageError, match="no listener would be left"):
            await transports.disable("ip6")
        assert (await transports.enable("ip4")).transports[0].listeners
        await settings.set("transport.ip6", False)
        await asyncio.sleep(10)
        assert await ping(alice, bob)

    run(test)


def test_peer_that_has_no_endpoint_of_the_family_left_is_found_again_when_the_family_is_back(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes, "alice", LISTEN, LISTEN_6)
        bob = await nodes.start("bob")
        await nodes.connect(alice, bob)
        transports = Transports(alice, settings)
        await transports.disable("ip4")
        assert not await ping(alice, bob)
        assert peer_of(alice, bob).path.endpoint is None
        await transports.enable("ip4")
        await asyncio.sleep(10)
        assert await ping(alice, bob)

    run(test)


def test_listeners_are_started_and_stopped_one_by_one_and_remembered(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes)
        listeners = Listeners(alice, settings)
        port = free_port()
        started = (await listeners.start(f"/ip4/127.0.0.1/udp/{port}")).listeners
        assert [each.state for each in started] == ["open", "open"]
        assert started == (await listeners.start(f"/ip4/127.0.0.1/udp/{port}")).listeners
        assert load_config(alice.directory / "weft.toml").peer.listen == (LISTEN, f"/ip4/127.0.0.1/udp/{port}")
        bound = started[0].bound
        assert bound is not None
        assert [each.bound for each in (await listeners.stop(bound)).listeners] == [f"/ip4/127.0.0.1/udp/{port}"]
        assert load_config(alice.directory / "weft.toml").peer.listen == (f"/ip4/127.0.0.1/udp/{port}",)
        with pytest.raises(UsageError, match="that is the last listener"):
            await listeners.stop(f"/ip4/127.0.0.1/udp/{port}")
        with pytest.raises(UsageError, match="is not listened on; there are: /ip4"):
            await listeners.stop(LISTEN)

    run(test)


def test_listener_that_is_configured_and_not_open_is_tried_again_when_it_is_started(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        absent = "/ip4/192.0.2.77/udp/1312"
        alice, settings = await begin(nodes, "alice", LISTEN, absent)
        listeners = Listeners(alice, settings)
        assert [each.state for each in listeners.list().listeners] == ["open", "closed"]
        with pytest.raises(TransportError, match=r"can't listen on UDP 192.0.2.77:1312"):
            await listeners.start(absent)
        assert (await listeners.stop(absent)).listeners[0].state == "open"

    run(test)


@pytest.mark.parametrize(
    ("multiaddr", "error", "message"),
    [
        ("/ethif/eth0", UsageError, "this version listens on ip4 .UDP over IPv4. and ip6"),
        ("/ip4/127.0.0.1/tcp/1312/ws", UsageError, "this version listens on ip4"),
        ("/ip4/127.0.0.1/tcp/1312", UsageError, "this version listens on ip4"),
        ("/dns/example.org/udp/1312", UsageError, "expected UDP listeners"),
        ("127.0.0.1:1312", UsageError, "which starts with a slash"),
        ("/ip4/192.0.2.77/udp/1312", TransportError, "can't listen on UDP 192.0.2.77:1312: "),
        ("/ip6/::1/udp/1312", UsageError, "its transport is off; `weft transport enable ip6` first"),
    ],
)
def test_listener_that_can_not_be_is_refused_and_nothing_changes(
    run: Run, multiaddr: str, error: type[WeftError], message: str
) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes)
        write(alice, transport_ip6=False)
        await settings.reload()
        before = (alice.directory / "weft.toml").read_text(), alice.underlay.sockets
        with pytest.raises(error, match=message):
            await Listeners(alice, settings).start(multiaddr)
        assert ((alice.directory / "weft.toml").read_text(), alice.underlay.sockets) == before

    run(test)


def test_unknown_transport_is_refused_with_those_that_there_are(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes)
        with pytest.raises(UsageError, match=r"no transport 'eth' in this version; there are: ip4 .* and ip6"):
            await Transports(alice, settings).disable("eth")

    run(test)


# --- all or nothing ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[peer\n", "not valid TOML"),
        (
            '[peer]\naccept = "known"\nkeepalive_s = 70000\n',
            r"weft.toml: peer.keepalive_s: expected 0 to 65535 .*line 3",
        ),
        ('peer.accept = "known"\nnetwork.secret_file = "missing"\n', "network.secret_file: does not exist"),
        ('peer.accept = "known"\npeer.listen = ["/ip4/127.0.0.1/udp/0", "BUSY"]\n', "Address already in use"),
    ],
)
def test_file_that_can_not_be_applied_as_a_whole_changes_nothing(run: Run, text: str, message: str) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes)
        bob = await nodes.start("bob")
        await nodes.connect(alice, bob)
        before = alice.config, alice.underlay.sockets, alice.terms.accepts_unknown
        descriptors = len(os.listdir("/proc/self/fd"))
        busy = f"/ip4/127.0.0.1/udp/{ports(bob)[0]}"
        (alice.directory / "weft.toml").write_text(text.replace("BUSY", busy))
        with pytest.raises(WeftError, match=message):
            await settings.reload()
        assert (alice.config, alice.underlay.sockets, alice.terms.accepts_unknown) == before
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert await ping(alice, bob)

    run(test)


def test_change_that_can_not_be_written_changes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes)

        def fail(path: Path, data: bytes) -> None:
            raise ConfigError("can't be written: No space left on device", file=str(path))

        monkeypatch.setattr("weft.engine.verbs.settings.replace_file", fail)
        before = alice.config, alice.underlay.sockets, (alice.directory / "weft.toml").read_text()
        with pytest.raises(ConfigError, match="No space left"):
            await settings.set("peer.listen", [LISTEN, LISTEN_6])
        assert (alice.config, alice.underlay.sockets, (alice.directory / "weft.toml").read_text()) == before

    run(test)


def test_changes_at_the_same_time_are_made_one_after_the_other(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes)
        await asyncio.gather(
            settings.set("peer.keepalive_s", 7),
            settings.set("fc00.refuse", "drop"),
            settings.set("peer.accept", "known"),
        )
        assert load_config(alice.directory / "weft.toml") == alice.config
        assert (alice.config.peer.keepalive_s, alice.config.fc00.refuse, alice.config.peer.accept) == (
            7,
            "drop",
            "known",
        )

    run(test)


def test_what_changed_is_told_to_who_listens(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, settings = await begin(nodes)
        told = alice.events.listen()
        first = asyncio.ensure_future(anext(told))
        await asyncio.sleep(0)
        await settings.set("peer.listen", [LISTEN, LISTEN_6])
        assert (await first).kind == "listeners-changed"
        second = await anext(told)
        assert (second.kind, second.text) == ("config-changed", "changed: peer.listen")
        await told.aclose()

    run(test)


def test_listeners_that_change_while_the_session_is_dropped_are_read_by_the_next_one_alone(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        (alice, settings), bob = await begin(nodes), await nodes.start("bob")
        await nodes.connect(alice, bob)
        slow = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await slow.wait()

        assert alice.stage is not None
        old = alice.stage
        old.start("slow", work)
        await asyncio.sleep(1)
        old.handle_hopeless("slow")
        await asyncio.sleep(0.1)
        port = free_port()
        setting = asyncio.create_task(settings.set("peer.listen", [f"/ip4/127.0.0.1/udp/{port}", LISTEN_6]))
        await asyncio.sleep(1)
        was_dropping = alice.stage is old and len(alice.underlay.sockets) == 2
        slow.set()
        await setting
        assert was_dropping
        await asyncio.sleep(10)
        assert alice.stage is not old
        sockets = [*alice.underlay.sockets, *bob.underlay.sockets]
        readers = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("udp/")]
        assert sorted(readers) == sorted("udp/{}/{}".format(*each.address) for each in sockets)
        assert await ping(alice, bob)
        assert await ping(bob, alice)

    run(test)
