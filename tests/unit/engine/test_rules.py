"""Firewall rules of a whole node: by whatever name of a peer, saved or not changed at all, gone with their peer."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.unit.engine.nodes import Nodes, Run, again, target
from tests.unit.engine.test_contacts import device
from weft.engine.change import Change
from weft.engine.lifetime import Lifetime
from weft.engine.verbs.fc00 import Fc00
from weft.engine.verbs.peers import Peers
from weft.errors import ConfigError, UsageError
from weft.firewall.rules import Rule
from weft.identity import encode_wireguard_key
from weft.io.store import State, Store

PHONE, TABLET = (encode_wireguard_key(device(number)) for number in (1, 2))


def on_disk(node: Lifetime) -> list[str]:
    return node.memory._store.load_state().allow


async def with_phone(nodes: Nodes) -> tuple[Lifetime, Fc00, Peers]:
    alice = await nodes.start("alice")
    peers = Peers(alice)
    await peers.add_wireguard(PHONE, name="phone", allowed_ips=["10.7.0.1"])
    return alice, Fc00(alice), peers


def fail_to_save(store: Store, state: State) -> None:
    raise ConfigError("can't be written: No space left on device", file="state.json")


@pytest.mark.parametrize("who", ["phone", PHONE, "10.7.0.1"])
def test_rule_for_a_peer_is_kept_by_its_key_whatever_it_was_called(run: Run, who: str) -> None:
    async def test(nodes: Nodes) -> None:
        alice, fc00, _ = await with_phone(nodes)
        ports = await fc00.allow(["/tcp/80", f"/tcp/22/from/{who}"])
        assert ports.allow == on_disk(alice) == ["/tcp/80", f"/tcp/22/from/{PHONE}"]
        assert ports.peers == {PHONE: "phone"}
        assert alice.firewall.rules() == (Rule("tcp", 80), Rule("tcp", 22, device(1)))
        alice = await again(nodes, alice)
        assert Fc00(alice).ports() == ports
        assert (await Fc00(alice).deny([f"/tcp/22/from/{who}"])).allow == ["/tcp/80"]

    run(test)


def test_rule_for_a_weft_peer_takes_its_id_before_it_is_there(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        fc00, key = Fc00(alice), encode_wireguard_key(bob.identity.noise_public)
        ports = await fc00.allow([f"/icmp/from/{bob.identity.peer_id}"])
        assert (ports.allow, ports.peers) == ([f"/icmp/from/{key}"], {})
        await Peers(alice).connect(target(bob))
        assert fc00.ports().peers == {key: str(bob.identity.peer_id)}
        await Peers(alice).set(str(bob.identity.peer_id), Change(name="loom"))
        assert fc00.ports().peers == {key: "loom"}

    run(test)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (["/tcp/80", "/tcp/22/from/nobody"], "no peer 'nobody'"),
        (["/tcp/80", "/tcp/22/from/"], "no peer ''"),
        (["/tcp/80", "/sctp/1"], "a rule like .*, not '/sctp/1'$"),
    ],
)
def test_rule_that_is_none_changes_nothing(run: Run, rules: list[str], says: str) -> None:
    async def test(nodes: Nodes) -> None:
        alice, fc00, _ = await with_phone(nodes)
        for verb in (fc00.allow, fc00.deny):
            with pytest.raises(UsageError, match=says):
                await verb(rules)
        assert alice.firewall.rules() == ()
        assert on_disk(alice) == []

    run(test)


def test_rule_that_is_not_there_can_not_be_taken_back_and_the_others_stay(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, fc00, _ = await with_phone(nodes)
        await fc00.allow(["/tcp/22/from/phone", "/tcp/80"])
        with pytest.raises(UsageError, match=r"^/tcp/22, /tcp/81, /tcp/82 and 1 more: not allowed anyway"):
            await fc00.deny(["/tcp/80", "/tcp/22", "/tcp/81", "/tcp/82", "/tcp/83"])
        assert on_disk(alice) == [f"/tcp/22/from/{PHONE}", "/tcp/80"]

    run(test)


@pytest.mark.parametrize("verb", ["allow", "deny", "remove", "key"])
def test_change_that_can_not_be_saved_is_undone(run: Run, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(nodes: Nodes) -> None:
        alice, fc00, peers = await with_phone(nodes)
        await fc00.allow(["/tcp/22/from/phone", "/tcp/80", "/icmp"])
        before = alice.firewall.rules()
        calls = {
            "allow": lambda: fc00.allow(["/udp/53", "/tcp/80"]),
            "deny": lambda: fc00.deny(["/tcp/80", "/tcp/22/from/phone"]),
            "remove": lambda: peers.remove("phone"),
            "key": lambda: peers.set("phone", Change(public_key=TABLET)),
        }
        with monkeypatch.context() as patch:
            patch.setattr(Store, "save_state", fail_to_save)
            with pytest.raises(ConfigError, match="No space left on device; nothing was changed"):
                await calls[verb]()
        assert alice.firewall.rules() == before
        await asyncio.sleep(1)
        assert on_disk(alice) == fc00.ports().allow == [f"/tcp/22/from/{PHONE}", "/tcp/80", "/icmp"]

    run(test)


def test_rules_of_a_peer_go_with_it_and_come_back_with_nothing(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, fc00, peers = await with_phone(nodes)
        await fc00.allow(["/tcp/22/from/phone", "/tcp/80", "/icmp/from/phone"])
        await peers.remove("phone")
        assert alice.firewall.rules() == (Rule("tcp", 80),)
        assert on_disk(alice) == ["/tcp/80"]
        await peers.add_wireguard(PHONE, name="phone", allowed_ips=["10.7.0.1"])
        assert fc00.ports().allow == ["/tcp/80"]

    run(test)


def test_rules_of_a_peer_that_is_blocked_or_disconnected_stay(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        _, fc00, peers = await with_phone(nodes)
        allowed = (await fc00.allow(["/tcp/22/from/phone"])).allow
        await peers.disconnect("phone")
        assert fc00.ports().allow == allowed
        await peers.block("phone")
        assert fc00.ports().allow == allowed
        assert fc00.ports().peers == {PHONE: "phone"}
        await peers.unblock("phone")
        assert fc00.ports().allow == allowed

    run(test)


def test_rules_follow_a_device_to_its_other_key(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, fc00, peers = await with_phone(nodes)
        await fc00.allow(["/tcp/22/from/phone", f"/icmp/from/{TABLET}", "/icmp/from/phone", "/tcp/80"])
        await peers.set("phone", Change(public_key=TABLET))
        assert on_disk(alice) == [f"/tcp/22/from/{TABLET}", f"/icmp/from/{TABLET}", "/tcp/80"]
        assert fc00.ports().peers == {TABLET: "phone"}

    run(test)


def test_thousand_rules_are_one_write_and_no_matter(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(nodes: Nodes) -> None:
        alice, fc00, _ = await with_phone(nodes)
        writes, save = [], Store.save_state

        def count(store: Store, state: State) -> None:
            writes.append(len(state.allow))
            save(store, state)

        monkeypatch.setattr(Store, "save_state", count)
        rules = [f"/tcp/{port}/from/{PHONE}" for port in range(1, 501)] + [f"/udp/{port}" for port in range(1, 501)]
        began = time.process_time()
        assert (await fc00.allow(rules)).allow == rules
        assert (await fc00.deny(rules[1:])).allow == rules[:1]
        assert time.process_time() - began < 1
        assert writes == [1000, 1]
        assert on_disk(alice) == rules[:1]

    run(test)


def test_rules_at_the_same_time_are_all_kept(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, fc00, _ = await with_phone(nodes)
        await asyncio.gather(*(fc00.allow([f"/tcp/{port}"]) for port in range(1, 20)))
        assert on_disk(alice) == [f"/tcp/{port}" for port in range(1, 20)]

    run(test)


def test_event_tells_what_changed(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, fc00, peers = await with_phone(nodes)
        stream = alice.events.listen(frozenset({"rules-changed"}))
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await fc00.allow(["/tcp/80", "/tcp/81", "/tcp/82", "/tcp/83", "/icmp/from/phone"])
        await fc00.deny(["/tcp/80"])
        await peers.remove("phone")
        heard = [await first, await anext(stream), await anext(stream)]
        await stream.aclose()
        assert [event.text for event in heard] == [
            "/tcp/80, /tcp/81, /tcp/82 and 2 more allowed",
            "/tcp/80 taken back",
            "rules for a peer went with it",
        ]

    run(test)
