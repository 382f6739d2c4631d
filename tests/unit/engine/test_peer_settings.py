"""What a person sets of peers: all of it or nothing, whatever is wrong with it or with the disk."""

from __future__ import annotations

import asyncio
import threading
from ipaddress import ip_network
from typing import Any

import pytest

from tests.unit.engine.nodes import Nodes, Run, again, is_up, multiaddr_of, of, peer_of, ping, stored, target
from tests.unit.engine.pair import identity
from tests.unit.engine.test_contacts import device
from weft.engine.change import Change
from weft.engine.events import Event
from weft.engine.verbs.peers import Peers
from weft.errors import ConfigError, UsageError
from weft.identity import encode_wireguard_key
from weft.io.store import State, Store, StoredPeer

PHONE, TABLET = (encode_wireguard_key(device(number)) for number in (1, 2))
PSK = encode_wireguard_key(b"\7" * 32)


# Setting things.


def test_all_that_is_set_of_a_device_is_kept_and_its_session_object_stays(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        peers = Peers(alice)
        await peers.add_wireguard(PHONE, allowed_ips=["10.0.0.1"], preshared_key=PSK, keepalive_s=25)
        tunnel = alice.running.contacts.find(PHONE).tunnel
        told = await peers.set(
            PHONE,
            Change(
                name="phone",
                allowed_ips=["10.7.0.9/24", "fd07::/64", "10.7.0.0/24"],
                endpoints=["127.0.0.9:9", "phone.invalid:51820"],
                keepalive_s=None,
                preshared_key=None,
            ),
        )
        assert (told.name, told.addresses, told.keepalive_s) == ("phone", ["10.7.0.0/24", "fd07::/64"], 0)
        assert alice.running.contacts.find("phone").tunnel is tunnel
        (kept,) = stored(alice)
        assert kept == StoredPeer(
            key=PHONE,
            kind="wireguard",
            name="phone",
            allowed_ips=["10.7.0.0/24", "fd07::/64"],
            endpoints=["/ip4/127.0.0.9/udp/9", "/dns/phone.invalid/udp/51820"],
            configured=["/ip4/127.0.0.9/udp/9", "/dns/phone.invalid/udp/51820"],
            keepalive_s=0,
        )
        await peers.set("phone", Change(endpoints=[], name=None))
        (kept,) = stored(alice)
        assert (kept.name, kept.endpoints, kept.allowed_ips) == (None, [], ["10.7.0.0/24", "fd07::/64"])
        alice = await again(nodes, alice)
        assert of(Peers(alice), PHONE).addresses == ["10.7.0.0/24", "fd07::/64"]

    run(test)


def test_weft_peer_keeps_its_own_address_and_session_whatever_is_set(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        peers = Peers(alice)
        own = (await peers.connect(target(bob))).addresses
        handshake = peer_of(alice, bob).tunnel.last_handshake_at
        id_ = str(bob.identity.peer_id)
        told = await peers.set(id_, Change(name="loom", allowed_ips=["10.7.0.2", "fd00:7::/64"], keepalive_s=5))
        assert told.addresses == [*own, "10.7.0.2", "fd00:7::/64"]
        assert (told.state, told.keepalive_s) == ("up", 5)
        contacts = alice.running.contacts
        assert contacts.routes.lookup(bytes((10, 7, 0, 2))) is peer_of(alice, bob)
        assert {str(network) for network in contacts.networks()} == {f"{own[0]}/128", "10.7.0.2/32", "fd00:7::/64"}
        told = await peers.set("loom", Change(allowed_ips=[]))
        assert told.addresses == own
        assert contacts.routes.lookup(bytes((10, 7, 0, 2))) is None
        assert contacts.routes.lookup(bob.identity.address) is peer_of(alice, bob)
        assert peer_of(alice, bob).tunnel.last_handshake_at == handshake
        assert await ping(alice, bob)
        for change in (Change(preshared_key=PSK), Change(public_key=PHONE)):
            with pytest.raises(UsageError, match="a weft peer"):
                await peers.set("loom", change)

    run(test)


def test_session_goes_to_an_endpoint_that_is_set(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await Peers(alice).connect(target(bob), name="loom")
        moved = await nodes.start("moved", "/ip4/127.0.0.1/udp/0")
        await Peers(alice).set("loom", Change(endpoints=[str(multiaddr_of(moved))]))
        endpoint: Any = peer_of(alice, bob).path.endpoint
        assert endpoint.multiaddr == multiaddr_of(moved)
        # There, nobody answers; the old one is still known, and stays so.
        await Peers(alice).set("loom", Change(endpoints=[str(multiaddr_of(bob))]))
        assert await is_up(alice, bob)

    run(test)


def test_other_preshared_key_begins_the_next_session_with_it(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        for one, other, endpoint in ((bob, alice, None), (alice, bob, multiaddr_of(bob).host_and_port)):
            key = encode_wireguard_key(other.identity.noise_public)
            await Peers(one).add_wireguard(key, name="other", allowed_ips=["10.7.0.0/24"], endpoint=endpoint)
        await Peers(alice).connect("other")
        first = peer_of(alice, bob).tunnel.last_handshake_at
        await asyncio.sleep(10)
        await Peers(bob).set("other", Change(preshared_key=PSK))
        assert peer_of(bob, alice).tunnel.is_up(0)
        await Peers(alice).set("other", Change(preshared_key=PSK))
        await asyncio.sleep(10)
        last = peer_of(alice, bob).tunnel.last_handshake_at
        assert last is not None
        assert first is not None
        assert last > first
        assert [peer.psk for peer in stored(alice)] == [PSK]

    run(test)


def test_other_key_of_a_device_keeps_everything_else_and_ends_the_session(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        peers = Peers(alice)
        await peers.add_wireguard(PHONE, name="phone", allowed_ips=["10.0.0.1"], preshared_key=PSK, keepalive_s=9)
        old = alice.running.contacts.find("phone")
        told = await peers.set("phone", Change(public_key=TABLET))
        assert (told.name, told.wireguard_public_key, told.keepalive_s) == ("phone", TABLET, 9)
        new = alice.running.contacts.find("phone")
        assert old.tunnel not in alice.running.contacts.by_tunnel
        assert alice.running.contacts.routes.lookup(bytes((10, 0, 0, 1))) is new
        assert [(peer.key, peer.psk) for peer in stored(alice)] == [(TABLET, PSK)]
        await peers.add_wireguard(PHONE, name="old", allowed_ips=["10.0.0.2"])
        with pytest.raises(UsageError, match="another peer has that public key"):
            await peers.set("old", Change(public_key=TABLET))
        with pytest.raises(UsageError, match="small order"):
            await peers.set("old", Change(public_key=encode_wireguard_key(bytes(32))))
        assert of(peers, "old").addresses == ["10.0.0.2"]

    run(test)


WRONG = [
    (Change(name=""), "no name for a peer"),
    (Change(name="a" * 64), "no name for a peer"),
    (Change(name="a\nb"), "no name for a peer"),
    (Change(name=" a"), "no name for a peer"),
    (Change(name="tablet"), "another peer is called 'tablet'"),
    (Change(name="10.7.0.1"), "reads as"),
    (Change(name="/ip4"), "reads as"),
    (Change(name=TABLET), "no name for a peer|reads as"),
    (Change(allowed_ips=["10.7.0.0/33"]), "10.7.0.0/33: expected a prefix"),
    (Change(allowed_ips=["10.9.0.0/24"]), "10.9.0.0/24 belongs to tablet already"),
    (Change(allowed_ips=["fc00::/8"]), "of weft itself"),
    (Change(allowed_ips=["127.0.0.0/8"]), "127.0.0.0/8 has the endpoint 127.0.0.9 of hub in it"),
    (Change(endpoints=["127.0.0.9"]), "expected a host and a port"),
    (Change(endpoints=["10.9.0.7:1312"]), "10.9.0.7 is inside 10.9.0.0/24"),
    (Change(endpoints=["192.0.2.7:1312"], allowed_ips=["192.0.2.0/24"]), "has the endpoint 192.0.2.7 of phone in it"),
    (Change(endpoints=["[fc11::7]:1312"]), "fc11::7 is"),
    (Change(preshared_key="abc"), "preshared key is none"),
    (Change(public_key="abc"), "public key is none"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_change_that_can_not_be_is_refused_as_a_whole(run: Run, change: Change, message: str) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        peers = Peers(alice)
        await peers.add_wireguard(PHONE, name="phone", allowed_ips=["10.7.0.1"], preshared_key=PSK)
        await peers.add_wireguard(TABLET, name="tablet", allowed_ips=["10.9.0.0/24"])
        hub = encode_wireguard_key(device(3))
        await peers.add_wireguard(hub, name="hub", allowed_ips=["10.10.0.0/24"], endpoint="127.0.0.9:9")
        before, listed = stored(alice), alice.running.contacts.stored()
        fields = {name: getattr(change, name) for name in change.__struct_fields__}
        with pytest.raises(UsageError, match=message) as caught:
            await peers.set("phone", Change(**({"keepalive_s": 7} | fields)))
        assert "\n" not in str(caught.value)
        assert stored(alice) == before
        assert alice.running.contacts.stored() == listed
        assert alice.running.contacts.routes.lookup(bytes((10, 7, 0, 1))) is alice.running.contacts.find("phone")

    run(test)


def test_prefix_of_another_peer_is_taken_as_wg_does_where_that_is_asked_for(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        peers = Peers(alice)
        await peers.connect(target(bob), name="loom")
        await peers.set("loom", Change(allowed_ips=["10.7.0.0/24"]))
        await peers.add_wireguard(PHONE, name="phone", allowed_ips=["10.7.0.0/24"], take=True)
        assert of(peers, "loom").addresses[1:] == []
        assert of(peers, "phone").addresses == ["10.7.0.0/24"]
        own = of(peers, "loom").addresses[0]
        with pytest.raises(UsageError, match="belongs to loom already"):
            await peers.set("phone", Change(allowed_ips=["10.8.0.0/24", own]), take=True)
        assert of(peers, "phone").addresses == ["10.7.0.0/24"]
        assert [peer.allowed_ips for peer in stored(alice)] == [[], ["10.7.0.0/24"]]

    run(test)


def test_peer_that_everything_leads_to_is_no_reason_to_refuse_endpoints_and_gets_no_route(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        peers = Peers(alice)
        await peers.add_wireguard(PHONE, name="exit", allowed_ips=["0.0.0.0/0", "::/0"], endpoint="127.0.0.9:9")
        await peers.connect(target(bob))
        contacts = alice.running.contacts
        assert contacts.networks() == {ip_network(bob.identity.address)}
        assert contacts.routes.lookup(bytes((192, 0, 2, 1))) is contacts.find("exit")
        assert contacts.routes.lookup(b"\x20\x01" + bytes(14)) is contacts.find("exit")
        # Addresses of weft nodes are theirs alone, and this node's own is nobody else's.
        assert contacts.routes.lookup(identity("carol").address) is None
        assert contacts.routes.lookup(alice.identity.address) is None
        with pytest.raises(UsageError, match=r"no peer '192\.0\.2\.1'"):
            contacts.find("192.0.2.1")

    run(test)


# Faults, and what is told.


@pytest.mark.parametrize("verb", ["connect", "disconnect", "persist", "add", "set", "key", "remove", "block", "take"])
def test_change_that_can_not_be_saved_is_undone_and_says_so(
    run: Run, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        peers = Peers(alice)
        await peers.add_wireguard(PHONE, name="phone", allowed_ips=["10.7.0.1"], endpoint="127.0.0.9:9")
        before = alice.running.contacts.stored()

        def fail(store: Store, state: object) -> None:
            raise ConfigError("can't be written: No space left on device", file="state.json")

        calls = {
            "connect": lambda: peers.connect(target(bob), name="loom"),
            "disconnect": lambda: peers.disconnect("phone"),
            "persist": lambda: peers.persist("phone"),
            "add": lambda: peers.add_wireguard(TABLET, name="tablet", allowed_ips=["10.7.0.2"]),
            "set": lambda: peers.set("phone", Change(name="tablet", allowed_ips=["10.8.0.0/16"], keepalive_s=1)),
            "key": lambda: peers.set("phone", Change(public_key=TABLET)),
            "remove": lambda: peers.remove("phone"),
            "block": lambda: peers.block("phone"),
            "take": lambda: peers.add_wireguard(TABLET, name="tablet", allowed_ips=["10.7.0.1"], take=True),
        }
        with monkeypatch.context() as patch:
            patch.setattr(Store, "save_state", fail)
            with pytest.raises(ConfigError, match=r"state.json: can't be written: No space left.*nothing was changed"):
                await calls[verb]()
        assert alice.running.contacts.stored() == before
        assert alice.running.contacts.routes.lookup(bytes((10, 7, 0, 1))) is alice.running.contacts.find("phone")
        await asyncio.sleep(1)
        assert stored(alice) == before

    run(test)


def test_changes_at_the_same_time_are_made_one_after_the_other(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        peers = Peers(alice)
        keys = [encode_wireguard_key(device(number)) for number in range(1, 9)]
        done = await asyncio.gather(
            *(peers.add_wireguard(key, name="phone", allowed_ips=[f"10.7.{n}.0/24"]) for n, key in enumerate(keys)),
            return_exceptions=True,
        )
        assert sum(isinstance(each, UsageError) for each in done) == 7
        assert [peer.name for peer in stored(alice)] == ["phone"]

    run(test)


def test_stranger_that_was_taken_for_a_weft_node_becomes_the_device_that_it_is(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await Peers(alice).connect(target(bob))
        key = encode_wireguard_key(alice.identity.noise_public)
        told = await Peers(bob).add_wireguard(key, name="phone", allowed_ips=["10.7.0.1"])
        assert (told.kind, told.standing) == ("wireguard", "wanted")
        assert [(peer.kind, peer.name) for peer in stored(bob)] == [("wireguard", "phone")]

    run(test)


def test_events_tell_who_came_changed_and_went(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        listening = alice.events.listen(frozenset({"peer-added", "peer-changed", "peer-removed"}))
        first: asyncio.Task[Event] = asyncio.create_task(anext(listening))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        peers = Peers(alice)
        await peers.add_wireguard(PHONE, name="phone", allowed_ips=["10.7.0.1"])
        await peers.set("phone", Change(keepalive_s=5))
        await peers.block("phone")
        await peers.remove("phone")
        told = [await first, *[await anext(listening) for _ in range(3)]]
        await listening.aclose()  # type: ignore[attr-defined]
        assert [event.kind for event in told] == ["peer-added", "peer-changed", "peer-changed", "peer-removed"]
        assert {event.peer for event in told} == {PHONE}
        assert all(event.text.startswith("phone ") for event in told)

    run(test)


def test_events_tell_of_strangers_too(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        listening = bob.events.listen(frozenset({"peer-added", "peer-removed"}))
        first: asyncio.Task[Event] = asyncio.create_task(anext(listening))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await Peers(alice).connect(target(bob))
        await asyncio.sleep(1)
        await Peers(bob).remove(str(alice.identity.peer_id))
        told = [await first, await anext(listening)]
        await listening.aclose()  # type: ignore[attr-defined]
        assert [event.kind for event in told] == ["peer-added", "peer-removed"]
        assert told[0].peer == encode_wireguard_key(alice.identity.noise_public)
        assert told[1].peer == str(alice.identity.peer_id)

    run(test)


def test_thousand_peers_are_there_again_after_a_restart(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        for number in range(1000):
            record = StoredPeer(
                key=encode_wireguard_key(bytes((number % 256, number // 256)) + b"\x42" * 30),
                kind="wireguard",
                name=f"device {number}",
                allowed_ips=[f"10.{number // 250}.{number % 250}.0/24"],
            )
            alice.running.contacts.put(record.noise_public_key, record)
        await alice.save()
        alice = await again(nodes, alice)
        assert len(Peers(alice).list().peers) == 1000
        assert alice.running.contacts.find("10.3.249.7") is alice.running.contacts.find("device 999")
        await Peers(alice).remove("device 999")
        assert len(stored(alice)) == 999

    run(test)


def test_change_whose_caller_went_while_it_was_saved_is_undone_on_disk_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        save, started, allowed = Store.save_state, threading.Event(), threading.Event()

        def slowly(store: Store, state: State) -> None:
            if not started.is_set():
                started.set()
                allowed.wait(10)
            save(store, state)

        monkeypatch.setattr(Store, "save_state", slowly)
        adding = asyncio.create_task(Peers(alice).add_wireguard(PHONE, name="phone", allowed_ips=["10.7.0.1"]))
        await asyncio.to_thread(started.wait)
        adding.cancel()
        await asyncio.sleep(0)
        allowed.set()
        with pytest.raises(asyncio.CancelledError):
            await adding
        await asyncio.sleep(1)
        assert len(alice.running.contacts) == 0
        assert stored(alice) == []

    run(test)
