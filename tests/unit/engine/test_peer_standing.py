"""What peers are to a node, what a person makes of them, and what is left of it after a restart."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.engine.nodes import Nodes, Run, again, is_up, multiaddr_of, of, peer_of, ping, stored, target
from tests.unit.engine.pair import identity
from tests.unit.engine.test_contacts import device
from weft.engine.change import Change
from weft.engine.verbs.peers import Peers
from weft.errors import PeerError, UsageError
from weft.identity import encode_wireguard_key

PHONE, TABLET = (encode_wireguard_key(device(number)) for number in (1, 2))
NOWHERE = "/ip4/127.0.0.9/udp/9"


def test_peer_that_was_connected_is_wanted_named_and_called_after_a_restart(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        told = await Peers(alice).connect(target(bob), name="loom")
        assert (told.name, told.standing, told.state) == ("loom", "wanted", "up")
        (kept,) = stored(alice)
        assert (kept.key, kept.name, kept.standing) == (str(bob.identity.peer_id), "loom", "wanted")
        assert kept.configured == [str(multiaddr_of(bob))]
        alice = await again(nodes, alice)
        assert await is_up(alice, bob)

    run(test)


def test_peer_that_was_disconnected_is_not_called_until_connect_and_stays_in_the_list(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await Peers(alice).connect(target(bob), name="loom")
        await Peers(bob).disconnect(str(alice.identity.peer_id))
        await Peers(alice).disconnect("loom")
        for _ in range(2):
            told = of(Peers(alice), "loom")
            assert (told.standing, told.state) == ("known", "idle")
            await asyncio.sleep(600)
            assert not peer_of(alice, bob).tunnel.is_up(0)
            assert not peer_of(alice, bob).tunnel.is_handshaking
            alice = await again(nodes, alice)
        assert [peer.standing for peer in stored(alice)] == ["known"]
        told = await Peers(alice).connect("loom")
        assert (told.standing, told.state) == ("wanted", "up")
        assert await ping(alice, bob)
        alice = await again(nodes, alice)
        assert await is_up(alice, bob)

    run(test)


def test_peer_that_was_disconnected_may_call(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await Peers(alice).connect(target(bob))
        await Peers(bob).disconnect(str(alice.identity.peer_id))
        await Peers(alice).connect(target(bob))
        assert await ping(bob, alice)
        assert [peer.standing for peer in stored(bob)] == ["known"]

    run(test)


def test_stranger_that_is_to_persist_is_called_after_a_restart(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await Peers(alice).connect(target(bob))
        await asyncio.sleep(1)
        assert of(Peers(bob), str(alice.identity.peer_id)).standing == "stranger"
        told = await Peers(bob).persist(str(alice.identity.peer_id))
        assert told.standing == "wanted"
        await Peers(alice).disconnect(str(bob.identity.peer_id))
        bob = await again(nodes, bob)
        assert await is_up(bob, alice)

    run(test)


def test_persist_calls_whom_was_disconnected(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await Peers(alice).connect(target(bob))
        await Peers(alice).disconnect(str(bob.identity.peer_id))
        await asyncio.sleep(0.1)
        await Peers(alice).persist(str(bob.identity.peer_id))
        assert await is_up(alice, bob)

    run(test)


def test_peer_that_is_removed_is_forgotten_for_good(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await Peers(alice).connect(target(bob), name="loom")
        await Peers(alice).remove("loom")
        assert stored(alice) == []
        assert Peers(alice).list().peers == []
        with pytest.raises(UsageError, match="no peer 'loom'"):
            await Peers(alice).remove("loom")

    run(test)


def test_blocked_peer_is_neither_answered_nor_called_and_keeps_what_it_had(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await Peers(alice).connect(target(bob))
        id_ = str(alice.identity.peer_id)
        await Peers(bob).set(id_, Change(name="warp", allowed_ips=["10.7.0.0/24"]))
        told = await Peers(bob).block("warp")
        assert (told.standing, told.state, told.id, told.name) == ("blocked", "blocked", id_, "warp")
        for _ in range(2):
            refused = bob.running.gate.drops["initiation: peer refused"]
            with pytest.raises(TimeoutError, match="no answer from"):
                await Peers(alice).connect(target(bob), 6)
            assert bob.running.gate.drops["initiation: peer refused"] > refused
            assert len(bob.running.contacts) == 0
            assert of(Peers(bob), "warp").addresses[1:] == ["10.7.0.0/24"]
            bob = await again(nodes, bob)
        for verb in (Peers(bob).connect, Peers(bob).persist, Peers(bob).disconnect):
            with pytest.raises(UsageError, match="warp is blocked; `weft peer unblock` first"):
                await verb("warp")  # type: ignore[operator]
        with pytest.raises(UsageError, match="is blocked"):
            await Peers(bob).connect(target(alice))
        with pytest.raises(UsageError, match="is blocked"):
            await Peers(bob).set("warp", Change(name="weft"))
        told = await Peers(bob).unblock("warp")
        assert (told.standing, told.state, told.addresses[1:]) == ("known", "idle", ["10.7.0.0/24"])
        await Peers(alice).connect(target(bob))
        assert await ping(alice, bob)

    run(test)


def test_somebody_not_met_yet_can_be_blocked_by_id_and_by_key(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        carol = identity("carol")
        assert (await Peers(bob).block(str(alice.identity.peer_id))).id == str(alice.identity.peer_id)
        assert (await Peers(bob).block(encode_wireguard_key(carol.noise_public))).kind == "weft"
        assert (await Peers(bob).block(PHONE)).kind == "wireguard"
        assert [peer.standing for peer in stored(bob)] == ["blocked"] * 3
        with pytest.raises(TimeoutError):
            await Peers(alice).connect(target(bob), 6)
        with pytest.raises(UsageError, match="that is this node itself"):
            await Peers(bob).block(str(bob.identity.peer_id))
        with pytest.raises(UsageError, match="no peer 'nobody'"):
            await Peers(bob).block("nobody")
        await Peers(bob).remove(str(alice.identity.peer_id))
        await Peers(alice).connect(target(bob))

    run(test)


def test_blocked_peers_are_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.engine.contacts.MAX_BLOCKED", 1)

    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        await Peers(alice).block(PHONE)
        await Peers(alice).block(PHONE)
        with pytest.raises(UsageError, match="1 peers are blocked already"):
            await Peers(alice).block(TABLET)
        assert len(stored(alice)) == 1

    run(test)


def test_attempt_in_vain_leaves_a_peer_as_it_was(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        peers, bob = Peers(alice), identity("bob")
        with pytest.raises(TimeoutError, match=r"no answer from 127\.0\.0\.9:9 within 1 s"):
            await peers.connect(f"{NOWHERE}/p2p/{bob.peer_id}", 1)
        assert peers.list().peers == []
        await peers.add_wireguard(PHONE, name="phone", allowed_ips=["10.0.0.1"], endpoint="127.0.0.9:9")
        await peers.disconnect("phone")
        with pytest.raises(TimeoutError, match="no answer from its known endpoints within 2 s"):
            await peers.connect("phone", 2, name="tablet")
        told = of(peers, "phone")
        assert (told.standing, told.state) == ("known", "idle")
        await asyncio.sleep(100)
        assert of(peers, "phone").state == "idle"

    run(test)


def test_peer_without_an_endpoint_can_not_be_connected_and_one_line_says_why(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        await Peers(alice).add_wireguard(PHONE, name="phone", allowed_ips=["10.0.0.1"])
        with pytest.raises(UsageError, match="no endpoint of phone is known; give one with"):
            await Peers(alice).connect("phone")
        with pytest.raises(UsageError, match="no peer 'nobody'"):
            await Peers(alice).connect("nobody")

    run(test)


def test_disconnect_ends_the_attempt_to_connect(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        bob = identity("bob")
        attempt = asyncio.create_task(Peers(alice).connect(f"{NOWHERE}/p2p/{bob.peer_id}", 60))
        await asyncio.sleep(1)
        await Peers(alice).disconnect(str(bob.peer_id))
        with pytest.raises(PeerError, match="disconnected meanwhile"):
            await attempt

    run(test)
